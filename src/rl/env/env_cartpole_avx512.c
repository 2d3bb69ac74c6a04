/* env_cartpole_avx512.c - CartPole in vectors for x86-64 CPUs with AVX512; see env_cartpole_body.h.
 * Any thread, one object at a time; never blocks. Tests: tests/unit/rl_env_cartpole_test.c. */
#ifdef __x86_64__
#include <immintrin.h>
#include <string.h>
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx2,fma"))),    \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512vl,avx2,fma")
#endif

#include "rl/env/env_cartpole.h"

enum { W = 8 };
typedef double vd __attribute__((vector_size(64), may_alias));
typedef int64_t vi __attribute__((vector_size(64), may_alias));

#define FMA(a, b, c) ((vd)_mm512_fmadd_pd((__m512d)(a), (__m512d)(b), (__m512d)(c)))
#define ABS(a) ((vd)((vi)(a) & INT64_MAX))
#define GREATER(a, b) ((unsigned)_mm512_cmp_pd_mask((__m512d)(a), (__m512d)(b), _CMP_GT_OQ))
#define FORCE(p) \
    ((vd)_mm512_cvtepi32_pd(_mm256_loadu_si256((const __m256i *)(p))) * 20.0 - 10.0)

static inline void put_rows(float *to, vd x, vd xd, vd th, vd thd) {
    __m256 a = _mm512_cvtpd_ps((__m512d)x), b = _mm512_cvtpd_ps((__m512d)xd);
    __m256 c = _mm512_cvtpd_ps((__m512d)th), d = _mm512_cvtpd_ps((__m512d)thd);
    __m256d ab_low = (__m256d)_mm256_unpacklo_ps(a, b), cd_low = (__m256d)_mm256_unpacklo_ps(c, d);
    __m256d ab_top = (__m256d)_mm256_unpackhi_ps(a, b), cd_top = (__m256d)_mm256_unpackhi_ps(c, d);
    __m256 r04 = (__m256)_mm256_unpacklo_pd(ab_low, cd_low);
    __m256 r15 = (__m256)_mm256_unpackhi_pd(ab_low, cd_low);
    __m256 r26 = (__m256)_mm256_unpacklo_pd(ab_top, cd_top);
    __m256 r37 = (__m256)_mm256_unpackhi_pd(ab_top, cd_top);

    _mm256_storeu_ps(to, _mm256_permute2f128_ps(r04, r15, 0x20));
    _mm256_storeu_ps(to + 8, _mm256_permute2f128_ps(r26, r37, 0x20));
    _mm256_storeu_ps(to + 16, _mm256_permute2f128_ps(r04, r15, 0x31));
    _mm256_storeu_ps(to + 24, _mm256_permute2f128_ps(r26, r37, 0x31));
}

#include "rl/env/env_cartpole_body.h"

uint32_t cartpole_avx512(struct cartpole *c, const struct skate_env_rows *rows, uint32_t lo,
              uint32_t hi) {
    return step_range(c, rows, lo, hi);
}

#ifdef __clang__
#pragma clang attribute pop
#endif
#else
typedef int env_cartpole_avx512_is_empty; /* ISO C wants something in every file */
#endif
