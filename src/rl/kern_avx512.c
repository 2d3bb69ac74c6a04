/* kern_avx512.c - the kernels for x86-64 CPUs with AVX-512.
 *
 * tanh and Adam are bound by the divider if left to the compiler, so both use the 14-bit
 * reciprocal (and reciprocal root) with Newton steps: one ulp or so, several times faster.
 * See kern.h. Any thread; never blocks. Tests: rl_kern_test.c. */
#ifdef __x86_64__
#include <immintrin.h>
#include <stddef.h>
#ifdef __clang__
#pragma clang attribute push(                                                                  \
    __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,fma,prefer-vector-width=512")
#endif

#define KERN_OWN_TANH
#define KERN_OWN_ADAM
#define KERN_TRANSPOSE_8

static void bias_tanh(float *y, const float *bias, int rows, int cols);
struct kern_adam;
static void adam(const struct kern_adam *a, float *p, const float *g, float *m, float *v,
                 size_t n);

#include "rl/kern_body.h"

/* 1/x to about one ulp: the estimate is good to 2^-14, one Newton step squares the error. */
static inline __m512 reciprocal(__m512 x) {
    __m512 r = _mm512_rcp14_ps(x);

    return _mm512_fmadd_ps(r, _mm512_fnmadd_ps(x, r, _mm512_set1_ps(1.0f)), r);
}

static inline __m512 tanh16(__m512 x) {
    const __m512 one = _mm512_set1_ps(1.0f), top = _mm512_set1_ps(TANH_MAX);
    __m512 s, p, q;

    /* min and max give their second operand where one is NaN: it is not swallowed. */
    x = _mm512_max_ps(_mm512_sub_ps(_mm512_setzero_ps(), top), _mm512_min_ps(top, x));
    s = _mm512_mul_ps(x, x);
    p = _mm512_fmadd_ps(_mm512_set1_ps(TANH_P4), s, _mm512_set1_ps(TANH_P3));
    q = _mm512_fmadd_ps(_mm512_set1_ps(TANH_Q4), s, _mm512_set1_ps(TANH_Q3));
    p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(TANH_P2));
    q = _mm512_fmadd_ps(q, s, _mm512_set1_ps(TANH_Q2));
    p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(TANH_P1));
    q = _mm512_fmadd_ps(q, s, _mm512_set1_ps(TANH_Q1));
    p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(TANH_P0));
    q = _mm512_fmadd_ps(q, s, one);
    p = _mm512_mul_ps(_mm512_mul_ps(x, p), reciprocal(q));
    return _mm512_max_ps(_mm512_sub_ps(_mm512_setzero_ps(), one), _mm512_min_ps(one, p));
}

static void bias_tanh(float *y, const float *bias, int rows, int cols) {
    for (int r = 0; r < rows; r++) {
        float *row = y + (size_t)r * (size_t)cols;
        int c = 0;

        for (; c + 16 <= cols; c += 16)
            _mm512_storeu_ps(row + c, tanh16(_mm512_add_ps(_mm512_loadu_ps(row + c),
                                                           _mm512_loadu_ps(bias + c))));
        if (c < cols) {
            __mmask16 k = (__mmask16)((1u << (cols - c)) - 1);
            __m512 x = _mm512_add_ps(_mm512_maskz_loadu_ps(k, row + c),
                                     _mm512_maskz_loadu_ps(k, bias + c));

            _mm512_mask_storeu_ps(row + c, k, tanh16(x));
        }
    }
}

static void adam(const struct kern_adam *a, float *p, const float *g, float *m, float *v,
                 size_t n) {
    const __m512 lr = _mm512_set1_ps(a->lr * a->scale1), eps = _mm512_set1_ps(a->eps);
    const __m512 b1 = _mm512_set1_ps(a->beta1), c1 = _mm512_set1_ps(1.0f - a->beta1);
    const __m512 b2 = _mm512_set1_ps(a->beta2), c2 = _mm512_set1_ps(1.0f - a->beta2);
    const __m512 scale2 = _mm512_set1_ps(a->scale2), gs = _mm512_set1_ps(a->grad_scale);
    const __m512 tiny = _mm512_set1_ps(1e-30f), half = _mm512_set1_ps(0.5f);
    const __m512 three_halves = _mm512_set1_ps(1.5f);
    size_t i = 0;

    for (; i + 16 <= n; i += 16) {
        __m512 gi = _mm512_mul_ps(_mm512_loadu_ps(g + i), gs);
        __m512 mi = _mm512_fmadd_ps(b1, _mm512_loadu_ps(m + i), _mm512_mul_ps(c1, gi));
        __m512 vi = _mm512_fmadd_ps(b2, _mm512_loadu_ps(v + i),
                                    _mm512_mul_ps(_mm512_mul_ps(c2, gi), gi));
        /* 1e-30 keeps the root of 0 finite; its root, 1e-15, vanishes beside eps. */
        __m512 x = _mm512_add_ps(vi, tiny), r = _mm512_rsqrt14_ps(x), root;

        r = _mm512_mul_ps(r, _mm512_fnmadd_ps(_mm512_mul_ps(half, x), _mm512_mul_ps(r, r),
                                              three_halves));
        root = _mm512_mul_ps(x, r);
        _mm512_storeu_ps(m + i, mi);
        _mm512_storeu_ps(v + i, vi);
        _mm512_storeu_ps(p + i, _mm512_fnmadd_ps(_mm512_mul_ps(lr, mi),
                                                 reciprocal(_mm512_fmadd_ps(root, scale2, eps)),
                                                 _mm512_loadu_ps(p + i)));
    }
    adam_plain(a, p + i, g + i, m + i, v + i, n - i);
}

const struct kern_table kern_table_avx512 = KERN_TABLE("avx512");

#ifdef __clang__
#pragma clang attribute pop
#endif
#else
typedef int kern_avx512_is_empty; /* ISO C wants something in every file */
#endif
