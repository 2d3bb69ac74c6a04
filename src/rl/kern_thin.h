/* kern_thin.h - products of which one side is only 1 to 4 wide, included by kern_body.h.
 *
 * The last layers of policies and value functions have such shapes: kernels that take vectors along
 * m leave 12 or more of their 16 lanes empty there. Here the vectors run along k (C = A B, as dot
 * products) or along n (C = A B', as sums of rows). An element of C does not depend on n, so that a
 * row has the same bits in every batch. Column-major, as in gemm.h. */
#include <string.h>

#include "rl/gemm.h"

enum { THIN_DEPTH = 512, THIN_ROWS = 4, THIN_VECTORS = 4 };

typedef float lanes16 __attribute__((vector_size(64)));
typedef float lanes8 __attribute__((vector_size(32)));
typedef float lanes4 __attribute__((vector_size(16)));

/* By pointer: vectors that wide are passed differently under each instruction set. */
static inline void thin_load(lanes16 *v, const float *x) {
    memcpy(v, x, sizeof *v);
}

static inline float thin_sum(const lanes16 *v) {
    lanes8 half[2];
    lanes4 quarter[2];

    memcpy(half, v, sizeof half);
    half[0] += half[1];
    memcpy(quarter, &half[0], sizeof quarter);
    quarter[0] += quarter[1];
    return (quarter[0][0] + quarter[0][2]) + (quarter[0][1] + quarter[0][3]);
}

/* `rows` columns of C from `depth` floats of each column of B; at[i] is row i of A. */
static inline __attribute__((always_inline)) void thin_dots(int m, int rows,
                                                            float (*at)[THIN_DEPTH],
                                                            const float *b, int ldb, float *c,
                                                            int ldc, int depth, bool add) {
    lanes16 sum[KERN_THIN_MAX][THIN_ROWS] = { 0 }, x, y;
    int full = depth & ~15;

    for (int p = 0; p < full; p += 16)
        for (int j = 0; j < rows; j++) {
            thin_load(&x, b + (size_t)j * (size_t)ldb + p);
            for (int i = 0; i < m; i++) {
                thin_load(&y, at[i] + p);
                sum[i][j] += x * y;
            }
        }
    for (int j = 0; j < rows; j++)
        for (int i = 0; i < m; i++) {
            float *out = c + (size_t)j * (size_t)ldc + i, all = thin_sum(&sum[i][j]);

            for (int p = full; p < depth; p++)
                all += at[i][p] * b[(size_t)j * (size_t)ldb + (size_t)p];
            *out = add ? *out + all : all;
        }
}

static inline __attribute__((always_inline)) void thin_nn_m(int m, const struct gemm_plan *t,
                                                            const float *a, const float *b,
                                                            float *c) {
    _Alignas(64) float at[KERN_THIN_MAX][THIN_DEPTH];
    int lda = t->lda, ldb = t->ldb, ldc = t->ldc;

    for (int k = 0; k < t->k; k += THIN_DEPTH) {
        int depth = t->k - k < THIN_DEPTH ? t->k - k : THIN_DEPTH, j = 0;
        bool add = t->add || k > 0;

        for (int p = 0; p < depth; p++)
            for (int i = 0; i < m; i++)
                at[i][p] = a[(size_t)(k + p) * (size_t)lda + (size_t)i];
        for (; j + THIN_ROWS <= t->n; j += THIN_ROWS)
            thin_dots(m, THIN_ROWS, at, b + (size_t)j * (size_t)ldb + k, ldb,
                      c + (size_t)j * (size_t)ldc, ldc, depth, add);
        for (; j < t->n; j++)
            thin_dots(m, 1, at, b + (size_t)j * (size_t)ldb + k, ldb,
                      c + (size_t)j * (size_t)ldc, ldc, depth, add);
    }
}

/* 16 * vectors columns of C from j on, over all of k. */
static inline __attribute__((always_inline)) void thin_sums(int m, int vectors,
                                                            const struct gemm_plan *t,
                                                            const float *a, const float *b,
                                                            float *c, int j) {
    lanes16 sum[KERN_THIN_MAX][THIN_VECTORS] = { 0 }, x;

    for (int p = 0; p < t->k; p++) {
        const float *row = b + (size_t)p * (size_t)t->ldb + j;
        const float *col = a + (size_t)p * (size_t)t->lda;

        for (int v = 0; v < vectors; v++) {
            thin_load(&x, row + 16 * v);
            for (int i = 0; i < m; i++)
                sum[i][v] += x * col[i];
        }
    }
    for (int v = 0; v < vectors; v++)
        for (int e = 0; e < 16; e++)
            for (int i = 0; i < m; i++) {
                float *out = c + (size_t)(j + 16 * v + e) * (size_t)t->ldc + i;

                *out = t->add ? *out + sum[i][v][e] : sum[i][v][e];
            }
}

static inline __attribute__((always_inline)) void thin_nt_m(int m, const struct gemm_plan *t,
                                                            const float *a, const float *b,
                                                            float *c) {
    int j = 0;

    for (; j + 16 * THIN_VECTORS <= t->n; j += 16 * THIN_VECTORS)
        thin_sums(m, THIN_VECTORS, t, a, b, c, j);
    for (; j + 16 <= t->n; j += 16)
        thin_sums(m, 1, t, a, b, c, j);
    for (; j < t->n; j++)
        for (int i = 0; i < m; i++) {
            float *out = c + (size_t)j * (size_t)t->ldc + i, sum = 0.0f;

            for (int p = 0; p < t->k; p++)
                sum += a[(size_t)p * (size_t)t->lda + (size_t)i] *
                       b[(size_t)p * (size_t)t->ldb + (size_t)j];
            *out = t->add ? *out + sum : sum;
        }
}

static void thin_nn(const struct gemm_plan *t, const float *a, const float *b, float *c) {
    switch (t->m) {
    case 1: thin_nn_m(1, t, a, b, c); break;
    case 2: thin_nn_m(2, t, a, b, c); break;
    case 3: thin_nn_m(3, t, a, b, c); break;
    default: thin_nn_m(KERN_THIN_MAX, t, a, b, c);
    }
}

static void thin_nt(const struct gemm_plan *t, const float *a, const float *b, float *c) {
    switch (t->m) {
    case 1: thin_nt_m(1, t, a, b, c); break;
    case 2: thin_nt_m(2, t, a, b, c); break;
    case 3: thin_nt_m(3, t, a, b, c); break;
    default: thin_nt_m(KERN_THIN_MAX, t, a, b, c);
    }
}
