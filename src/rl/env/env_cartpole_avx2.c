/* env_cartpole_avx2.c - CartPole in vectors for x86-64 CPUs with AVX2; see env_cartpole_body.h.
 * Any thread, one object at a time; never blocks. Tests: tests/unit/rl_env_cartpole_test.c. */
#ifdef __x86_64__
#include <immintrin.h>
#include <string.h>
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#include "rl/env/env_cartpole.h"

enum { W = 4 };
typedef double vd __attribute__((vector_size(32), may_alias));
typedef int64_t vi __attribute__((vector_size(32), may_alias));

#define FMA(a, b, c) ((vd)_mm256_fmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c)))
#define ABS(a) ((vd)((vi)(a) & INT64_MAX))
#define GREATER(a, b) \
    ((unsigned)_mm256_movemask_pd(_mm256_cmp_pd((__m256d)(a), (__m256d)(b), _CMP_GT_OQ)))
#define FORCE(p) \
    ((vd)_mm256_cvtepi32_pd(_mm_loadu_si128((const __m128i *)(p))) * 20.0 - 10.0)

static inline void put_rows(float *to, vd x, vd xd, vd th, vd thd) {
    __m128 a = _mm256_cvtpd_ps((__m256d)x), b = _mm256_cvtpd_ps((__m256d)xd);
    __m128 c = _mm256_cvtpd_ps((__m256d)th), d = _mm256_cvtpd_ps((__m256d)thd);

    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(to, a);
    _mm_storeu_ps(to + 4, b);
    _mm_storeu_ps(to + 8, c);
    _mm_storeu_ps(to + 12, d);
}

#include "rl/env/env_cartpole_body.h"

uint32_t cartpole_avx2(struct cartpole *c, const struct skate_env_rows *rows, uint32_t lo,
              uint32_t hi) {
    return step_range(c, rows, lo, hi);
}

#ifdef __clang__
#pragma clang attribute pop
#endif
#else
typedef int env_cartpole_avx2_is_empty; /* ISO C wants something in every file */
#endif
