/* spill_sum_avx2.c - XXH3-64 compiled for AVX2, called where the CPU has it. See spill_file.h. */
#include "store/spill_sum.h"

#if defined(__x86_64__)
#pragma GCC optimize("O3")
#pragma GCC target("avx2")
#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t spill_sum_avx2(const void *p, size_t len) { return XXH3_64bits(p, len); }
#endif
