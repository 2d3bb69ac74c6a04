/* kern_body.h - the bodies of the kernels, included by kern_base.c, kern_avx2.c and kern_avx512.c,
 * each under its own instruction set; the compiler vectorises the loops.
 *
 * tanh is x P(x^2) / Q(x^2) on [-9, 9], fitted here to 2e-8 relative (float rounding then gives
 * 3e-7); its value is cut to [-1, 1] so that the derivative 1 - h^2 never turns negative.
 * An includer that brings its own tanh or Adam defines KERN_OWN_TANH or KERN_OWN_ADAM; one with
 * AVX defines KERN_TRANSPOSE_8. */
#include <math.h>

#include "rl/kern.h"
#include "rl/kern_exp.h"
#include "rl/kern_thin.h"

#define TANH_P0 9.999999795e-01f
#define TANH_P1 1.338100929e-01f
#define TANH_P2 3.495568638e-03f
#define TANH_P3 2.060876303e-05f
#define TANH_P4 1.335422967e-08f
#define TANH_Q1 4.671432489e-01f
#define TANH_Q2 2.587690819e-02f
#define TANH_Q3 3.285602952e-04f
#define TANH_Q4 7.776378930e-07f
#define TANH_MAX 9.0f

static inline float cut(float x, float limit) {
    x = x > limit ? limit : x;
    return x < -limit ? -limit : x;
}

#ifndef KERN_OWN_TANH
static void bias_tanh(float *restrict y, const float *restrict bias, int rows, int cols) {
    for (int r = 0; r < rows; r++) {
        float *restrict row = y + (size_t)r * (size_t)cols;

        for (int c = 0; c < cols; c++) {
            float x = cut(row[c] + bias[c], TANH_MAX), s = x * x;
            float p = (((TANH_P4 * s + TANH_P3) * s + TANH_P2) * s + TANH_P1) * s + TANH_P0;
            float q = (((TANH_Q4 * s + TANH_Q3) * s + TANH_Q2) * s + TANH_Q1) * s + 1.0f;

            row[c] = cut(x * p / q, 1.0f);
        }
    }
}
#endif

static void bias_act(float *y, const float *bias, int rows, int cols, enum kern_act act) {
    if (act == KERN_TANH) {
        bias_tanh(y, bias, rows, cols);
        return;
    }
    for (int r = 0; r < rows; r++) {
        float *restrict row = y + (size_t)r * (size_t)cols;

        if (act == KERN_RELU)
            for (int c = 0; c < cols; c++) {
                float x = row[c] + bias[c];

                row[c] = x <= 0.0f ? 0.0f : x;  /* NaN stays NaN */
            }
        else
            for (int c = 0; c < cols; c++)
                row[c] += bias[c];
    }
}

static void act_back(float *restrict d, const float *restrict h, size_t n, enum kern_act act) {
    if (act == KERN_TANH)
        for (size_t i = 0; i < n; i++)
            d[i] *= 1.0f - h[i] * h[i];
    else if (act == KERN_RELU)
        for (size_t i = 0; i < n; i++)
            d[i] = h[i] > 0.0f ? d[i] : 0.0f;
}

static void col_sum(float *restrict out, const float *restrict d, int rows, int cols) {
    for (int c = 0; c < cols; c++)
        out[c] = 0.0f;
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < cols; c++)
            out[c] += d[(size_t)r * (size_t)cols + (size_t)c];
}

/* The plain form; also the tail of the hand-vectorised one. */
static inline void adam_plain(const struct kern_adam *a, float *restrict p,
                              const float *restrict g, float *restrict m, float *restrict v,
                              size_t n) {
    const float lr = a->lr * a->scale1, b1 = a->beta1, b2 = a->beta2, eps = a->eps;
    const float c1 = 1.0f - b1, c2 = 1.0f - b2, scale2 = a->scale2, gs = a->grad_scale;

    for (size_t i = 0; i < n; i++) {
        float gi = g[i] * gs;
        float mi = b1 * m[i] + c1 * gi, vi = b2 * v[i] + c2 * gi * gi;

        m[i] = mi;
        v[i] = vi;
        p[i] -= lr * mi / (sqrtf(vi) * scale2 + eps);
    }
}

#ifndef KERN_OWN_ADAM
static void adam(const struct kern_adam *a, float *p, const float *g, float *m, float *v,
                 size_t n) {
    adam_plain(a, p, g, m, v, n);
}
#endif

static inline void transpose_plain(float *restrict dst, int dst_stride,
                                   const float *restrict src, int src_stride, int rows,
                                   int cols) {
    for (int c = 0; c < cols; c++)
        for (int r = 0; r < rows; r++)
            dst[(size_t)c * (size_t)dst_stride + (size_t)r] =
                src[(size_t)r * (size_t)src_stride + (size_t)c];
}

#ifdef KERN_TRANSPOSE_8
/* Eight rows of eight: halves are joined by the load, the rest is two rounds of shuffles. */
static inline void transpose_8(float *dst, size_t ds, const float *src, size_t ss) {
    __m256 a[8], b[8];

    for (int i = 0; i < 4; i++) {
        a[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(src + (size_t)i * ss)),
                                    _mm_loadu_ps(src + (size_t)(i + 4) * ss), 1);
        a[i + 4] = _mm256_insertf128_ps(
            _mm256_castps128_ps256(_mm_loadu_ps(src + (size_t)i * ss + 4)),
            _mm_loadu_ps(src + (size_t)(i + 4) * ss + 4), 1);
    }
    for (int i = 0; i < 8; i += 4) {
        b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
        b[i + 2] = _mm256_unpacklo_ps(a[i + 2], a[i + 3]);
        b[i + 3] = _mm256_unpackhi_ps(a[i + 2], a[i + 3]);
    }
    for (int i = 0; i < 8; i += 4) {
        float *row = dst + (size_t)i * ds;

        _mm256_storeu_ps(row, _mm256_shuffle_ps(b[i], b[i + 2], 0x44));
        _mm256_storeu_ps(row + ds, _mm256_shuffle_ps(b[i], b[i + 2], 0xee));
        _mm256_storeu_ps(row + 2 * ds, _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44));
        _mm256_storeu_ps(row + 3 * ds, _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xee));
    }
}
#endif

static void transpose(float *dst, int dst_stride, const float *src, int src_stride, int rows,
                      int cols) {
#ifdef KERN_TRANSPOSE_8
    int full_rows = rows & ~7, full_cols = cols & ~7;
    size_t ds = (size_t)dst_stride, ss = (size_t)src_stride;

    for (int r = 0; r < full_rows; r += 8)
        for (int c = 0; c < full_cols; c += 8)
            transpose_8(dst + (size_t)c * ds + r, ds, src + (size_t)r * ss + c, ss);
    transpose_plain(dst + (size_t)full_cols * ds, dst_stride, src + full_cols, src_stride,
                    full_rows, cols - full_cols);
    transpose_plain(dst + full_rows, dst_stride, src + (size_t)full_rows * ss, src_stride,
                    rows - full_rows, cols);
#else
    transpose_plain(dst, dst_stride, src, src_stride, rows, cols);
#endif
}

static void sigmoid(float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        x[i] = 1.0f / (1.0f + kern_exp(-x[i]));
}

static void exp_all(float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        x[i] = kern_exp(x[i]);
}

/* In eight sums, so that the compiler may use vectors while the order stays. */
static double norm2(const float *x, size_t n) {
    double sum[8] = { 0 }, all = 0.0;
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        for (size_t k = 0; k < 8; k++)
            sum[k] += (double)x[i + k] * (double)x[i + k];
    for (; i < n; i++)
        all += (double)x[i] * (double)x[i];
    for (size_t k = 0; k < 8; k++)
        all += sum[k];
    return all;
}

#define KERN_TABLE(label)                                                                      \
    {                                                                                          \
        .name = (label), .bias_act = bias_act, .act_back = act_back, .col_sum = col_sum,       \
        .adam = adam, .transpose = transpose, .sigmoid = sigmoid, .exp = exp_all,              \
        .norm2 = norm2, .thin_nn = thin_nn, .thin_nt = thin_nt                                 \
    }
