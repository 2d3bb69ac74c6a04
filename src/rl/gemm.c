/* gemm.c - float32 products by libxsmm's generated kernels, or by a plain loop.
 *
 * libxsmm is used for its code generator only (no threads, no BLAS fall-back): it picks AVX2 or
 * AVX-512 by itself and its kernel for one shape is a plain function pointer. Its 1.17 interface
 * is named nowhere else in the tree. SKATE_RL_NO_XSMM builds without it.
 * Called from the learner's threads and the workers; never blocks. Tests: rl_gemm_test.c. */
#include "rl/gemm.h"

#include <stddef.h>

#include "base/assert.h"
#include "rl/kern.h"

#ifndef SKATE_RL_NO_XSMM
#include <libxsmm.h>
#endif

enum {
    THIN_FROM = 16,     /* one vector */
    THIN_DEEP = 8,      /* sums of fewer rows cost less than writing their columns */
};

/* A kernel for few rows of C, where its vectors can be filled from the other side. */
static void (*thin_kernel(const struct gemm_plan *plan))(const struct gemm_plan *, const float *,
                                                         const float *, float *) {
    if (plan->m > KERN_THIN_MAX || (plan->trans_b ? plan->n : plan->k) < THIN_FROM)
        return NULL;
    if (plan->trans_b && plan->k < THIN_DEEP)
        return NULL;
    return plan->trans_b ? kern_get()->thin_nt : kern_get()->thin_nn;
}

int gemm_plan_init(struct gemm_plan *plan) {
    SKATE_ASSERT(plan);
    if (plan->m <= 0 || plan->n <= 0 || plan->k <= 0)
        return -SKATE_EINVAL;
    if (plan->lda < plan->m || plan->ldc < plan->m)
        return -SKATE_EINVAL;
    if (plan->ldb < (plan->trans_b ? plan->n : plan->k))
        return -SKATE_EINVAL;
    plan->kernel = NULL;
    plan->thin = thin_kernel(plan);
    if (plan->thin)
        return 0;
#ifndef SKATE_RL_NO_XSMM
    {
        const float alpha = 1.0f, beta = plan->add ? 1.0f : 0.0f;
        const int flags = plan->trans_b ? LIBXSMM_GEMM_FLAG_TRANS_B : LIBXSMM_GEMM_FLAG_NONE;
        const int prefetch = LIBXSMM_GEMM_PREFETCH_NONE;

        plan->kernel = libxsmm_smmdispatch(plan->m, plan->n, plan->k, &plan->lda, &plan->ldb,
                                           &plan->ldc, &alpha, &beta, &flags, &prefetch);
    }
#endif
    return 0;
}

void gemm_f32_plain(const struct gemm_plan *plan, const float *a, const float *b, float *c) {
    for (int j = 0; j < plan->n; j++) {
        float *out = c + (size_t)j * (size_t)plan->ldc;

        for (int i = 0; i < plan->m && !plan->add; i++)
            out[i] = 0.0f;
        for (int p = 0; p < plan->k; p++) {
            const float *col = a + (size_t)p * (size_t)plan->lda;
            float x = plan->trans_b ? b[(size_t)p * (size_t)plan->ldb + (size_t)j]
                                    : b[(size_t)j * (size_t)plan->ldb + (size_t)p];

            for (int i = 0; i < plan->m; i++)
                out[i] += col[i] * x;
        }
    }
}

void gemm_f32(const struct gemm_plan *plan, const float *a, const float *b, float *c) {
    if (plan->thin)
        plan->thin(plan, a, b, c);
    else if (plan->kernel)
        plan->kernel(a, b, c);
    else
        gemm_f32_plain(plan, a, b, c);
}
