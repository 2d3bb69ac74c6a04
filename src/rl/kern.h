/* kern.h - the elementwise kernels of the engine, one table per instruction set.
 *
 * kern_get() picks the best table this CPU can run, once; the tables hold the same functions
 * compiled for plain x86-64 (or any CPU), AVX2 and AVX-512. Pure functions on caller memory, any
 * thread, never block. Each table is deterministic; two tables may differ in the last bits.
 * Tests: rl_kern_test.c (each table against libm). */
#ifndef SKATE_RL_KERN_H
#define SKATE_RL_KERN_H

#include <stddef.h>

enum kern_act { KERN_LINEAR, KERN_TANH, KERN_RELU, KERN_ACT_MAX };

struct kern_adam {
    float lr, beta1, beta2, eps;
    float scale1;              /* 1 / (1 - beta1^t) */
    float scale2;              /* 1 / sqrt(1 - beta2^t) */
    float grad_scale;          /* the clip's factor, 1 without a clip */
};

struct gemm_plan;
enum { KERN_THIN_MAX = 4 };

struct kern_table {
    const char *name;
    /* y[rows][cols] = act(y + bias[cols]) */
    void (*bias_act)(float *y, const float *bias, int rows, int cols, enum kern_act act);
    /* d *= act'(.), where h is the activation's value */
    void (*act_back)(float *d, const float *h, size_t n, enum kern_act act);
    /* out[cols] = the sum over rows of d[rows][cols] */
    void (*col_sum)(float *out, const float *d, int rows, int cols);
    /* One step of Adam on n parameters: p, m and v change. */
    void (*adam)(const struct kern_adam *a, float *p, const float *g, float *m, float *v,
                 size_t n);
    /* dst[c * dst_stride + r] = src[r * src_stride + c] */
    void (*transpose)(float *dst, int dst_stride, const float *src, int src_stride, int rows,
                      int cols);
    /* x = 1 / (1 + e^-x) */
    void (*sigmoid)(float *x, size_t n);
    /* x = e^x */
    void (*exp)(float *x, size_t n);
    /* The sum of squares, in a fixed order. */
    double (*norm2)(const float *x, size_t n);
    /* Products with m of 1 to KERN_THIN_MAX (gemm.h has the shapes): B as it is, B transposed. */
    void (*thin_nn)(const struct gemm_plan *plan, const float *a, const float *b, float *c);
    void (*thin_nt)(const struct gemm_plan *plan, const float *a, const float *b, float *c);
};

/* The best table for this CPU; never NULL. */
const struct kern_table *kern_get(void);
/* Table number i, 0 being the plain one, or NULL if this CPU cannot run it (for tests). */
const struct kern_table *kern_nth(int i);
enum { KERN_TABLES = 3 };

extern const struct kern_table kern_table_base;
#ifdef __x86_64__
extern const struct kern_table kern_table_avx2;
extern const struct kern_table kern_table_avx512;
#endif

#endif
