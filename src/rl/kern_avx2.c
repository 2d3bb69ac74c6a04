/* kern_avx2.c - the kernels for x86-64 CPUs with AVX2 and FMA.
 * See kern.h. Any thread; never blocks. Tests: rl_kern_test.c. */
#ifdef __x86_64__
#include <immintrin.h>
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define KERN_TRANSPOSE_8
#include "rl/kern_body.h"

const struct kern_table kern_table_avx2 = KERN_TABLE("avx2");

#ifdef __clang__
#pragma clang attribute pop
#endif
#else
typedef int kern_avx2_is_empty; /* ISO C wants something in every file */
#endif
