/* gemm.h - the one door to matrix products: float32, small shapes fixed at set-up.
 *
 * Column-major, as BLAS has it: C[m x n] = A[m x k] * op(B), op(B) = B[k x n] or, with trans_b,
 * the transpose of B[n x k]. C is overwritten, or with `add` added to. A plan is made once per
 * shape (20 to 200 us: the kernel is generated for this CPU by libxsmm) and then called any number
 * of times from any thread; where no kernel can be generated (other CPU, no executable memory) a
 * plain loop runs. The same plan and input give the same bits, whatever the thread.
 * Tests: rl_gemm_test.c. */
#ifndef SKATE_RL_GEMM_H
#define SKATE_RL_GEMM_H

#include <stdbool.h>

#include "base/err.h"

struct gemm_plan {
    int m, n, k, lda, ldb, ldc;
    bool trans_b, add;
    void (*kernel)(const float *a, const float *b, float *c, ...);
    /* Where m is small: instead of `kernel`. Neither: the plain loop. */
    void (*thin)(const struct gemm_plan *plan, const float *a, const float *b, float *c);
};

/* Fill in `plan` from its own sizes (all but `kernel` and `thin`). -SKATE_EINVAL: a size is not
 * positive or a leading dimension is too short. */
SKATE_NODISCARD int gemm_plan_init(struct gemm_plan *plan);

/* C = A * op(B), or C += A * op(B). */
void gemm_f32(const struct gemm_plan *plan, const float *a, const float *b, float *c);

/* The reference: the same product as a plain loop. */
void gemm_f32_plain(const struct gemm_plan *plan, const float *a, const float *b, float *c);

#endif
