/* spill_sum.h - private to spill_sum.c: the same checksum for CPUs that have AVX2. */
#ifndef SKATE_STORE_SPILL_SUM_H
#define SKATE_STORE_SPILL_SUM_H

#include <stddef.h>
#include <stdint.h>

uint64_t spill_sum_avx2(const void *p, size_t len); /* x86-64 only */

#endif
