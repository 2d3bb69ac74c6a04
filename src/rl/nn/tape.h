/* tape.h - a tape of float32 matrices: each operation computes its value at once and is written
 * down, and tape_backward() walks the tape back to the gradients (reverse-mode differentiation).
 *
 * Everything is a matrix [rows][cols], row-major; a batch is its rows, a scalar is 1 x 1. Values
 * live in memory that the tape keeps from one tape_reset() to the next, so an update allocates
 * nothing once the tape is warm. An operation that cannot work (shapes that do not fit, no memory)
 * sets the tape's error and gives TAPE_BAD; operations on TAPE_BAD give TAPE_BAD, so a loss is
 * written without checks and the error is looked at once, in tape_backward() or tape_error().
 *
 * Broadcasting: in add, sub, mul, div, min and max the second operand may be rows x 1, 1 x cols or
 * 1 x 1. Same CPU, same calls: same bytes. One owner, no locks, never blocks.
 * Tests: tests/unit/rl_tape_test.c (finite differences), tests/rl/test_tape.py (torch). */
#ifndef SKATE_RL_NN_TAPE_H
#define SKATE_RL_NN_TAPE_H

#include <stdint.h>

#include "base/err.h"
#include "rl/nn/params.h"

struct tape;
typedef int32_t tvar;               /* a node; valid until tape_reset() */
#define TAPE_BAD ((tvar)-1)

enum tape_act { ACT_LINEAR, ACT_RELU, ACT_TANH, ACT_SIGMOID, ACT_ELU, ACT_SWISH, ACT_SOFTPLUS,
                ACT_LEAKY_RELU, ACT_GELU };

struct tape *tape_new(void);        /* NULL: no memory */
struct tape *tape_free(struct tape *t);
void tape_reset(struct tape *t);    /* forget nodes and error, keep the memory */
int tape_error(const struct tape *t);               /* 0 or the first error */
const char *tape_error_text(const struct tape *t);  /* which operation, which shapes */

/* ---- leaves. Borrowed memory must stay as it is until tape_reset(). ---- */
tvar t_data(struct tape *t, const float *x, int rows, int cols);    /* borrowed, no gradient */
tvar t_copy(struct tape *t, const float *x, int rows, int cols);    /* copied, no gradient */
tvar t_fill(struct tape *t, float x, int rows, int cols);           /* no gradient */
tvar t_leaf(struct tape *t, const float *x, int rows, int cols);    /* copied; tape_grad() has it */
tvar t_param(struct tape *t, struct params *p, int tensor);         /* gradient adds to p->grad */
tvar t_frozen(struct tape *t, const struct params *p, int tensor);  /* no gradient */

/* ---- products ---- */
tvar t_matmul(struct tape *t, tvar a, tvar b);                      /* [n,k] [k,m] -> [n,m] */
tvar t_dense(struct tape *t, tvar x, tvar w, tvar b, enum tape_act act);    /* act(x w + b) */
/* Each row its own matrix: x [n,k], w [n,k*m] (k rows of m) -> [n,m]. */
tvar t_rowmat(struct tape *t, tvar x, tvar w, int m);

/* ---- elementwise ---- */
tvar t_add(struct tape *t, tvar a, tvar b);
tvar t_sub(struct tape *t, tvar a, tvar b);
tvar t_mul(struct tape *t, tvar a, tvar b);
tvar t_div(struct tape *t, tvar a, tvar b);
tvar t_min(struct tape *t, tvar a, tvar b);     /* gradient to the smaller; ties to a */
tvar t_max(struct tape *t, tvar a, tvar b);
tvar t_affine(struct tape *t, tvar x, float scale, float shift);    /* scale * x + shift */
tvar t_act(struct tape *t, tvar x, enum tape_act act);
tvar t_exp(struct tape *t, tvar x);
tvar t_log(struct tape *t, tvar x);
tvar t_square(struct tape *t, tvar x);
tvar t_sqrt(struct tape *t, tvar x);
tvar t_abs(struct tape *t, tvar x);
tvar t_clip(struct tape *t, tvar x, float low, float high);         /* gradient 0 outside */
tvar t_huber(struct tape *t, tvar x, float delta);  /* 0.5 x^2, then delta (|x| - 0.5 delta) */
tvar t_stop(struct tape *t, tvar x);                /* the value, no gradient */

/* ---- rows and columns ---- */
tvar t_softmax(struct tape *t, tvar x, int group);      /* over each `group` columns; 0: all */
tvar t_log_softmax(struct tape *t, tvar x, int group);
tvar t_pick(struct tape *t, tvar x, const int32_t *index);      /* [n,m] -> [n,1]; index copied */
/* Block index[i] of `width` columns of row i: [n, m * width] -> [n, width]. */
tvar t_pick_block(struct tape *t, tvar x, const int32_t *index, int width);
tvar t_sum_cols(struct tape *t, tvar x);                /* [n,m] -> [n,1] */
tvar t_max_cols(struct tape *t, tvar x);                /* [n,m] -> [n,1], gradient to the first */
tvar t_logsumexp(struct tape *t, tvar x);               /* [n,m] -> [n,1] */
tvar t_sum_groups(struct tape *t, tvar x, int group);   /* [n, k*group] -> [n, k] */
tvar t_sum(struct tape *t, tvar x);                     /* -> 1 x 1 */
tvar t_mean(struct tape *t, tvar x);                    /* -> 1 x 1 */
tvar t_concat(struct tape *t, tvar a, tvar b);          /* columns of a, then of b */
tvar t_stack(struct tape *t, tvar a, tvar b);           /* rows of a, then of b */
tvar t_cols(struct tape *t, tvar x, int first, int count);
tvar t_rows(struct tape *t, tvar x, int first, int count);
tvar t_reshape(struct tape *t, tvar x, int rows, int cols);
tvar t_repeat(struct tape *t, tvar x, int times);       /* each row `times` in a row */
tvar t_lookup(struct tape *t, tvar table, const int32_t *index, int n);     /* embedding */

/* ---- layers ---- */
struct tape_conv {                  /* images as [height][width][channels] in a row */
    int height, width, channels;    /* of the input */
    int filters, kernel, stride, pad;
    enum tape_act act;
};
/* w [kernel*kernel*channels, filters], b [1, filters] -> [n, out_h * out_w * filters] */
tvar t_conv(struct tape *t, tvar x, tvar w, tvar b, const struct tape_conv *c);
int tape_conv_out(const struct tape_conv *c, int *out_h, int *out_w);   /* columns out, or < 0 */
tvar t_layer_norm(struct tape *t, tvar x, tvar gain, tvar shift);   /* eps 1e-5 */
/* One step. w [in + hidden, 4 * hidden] (gates i f g o), b [1, 4 * hidden], state [n, 2 * hidden]
 * = h then c -> the next state, of the same shape. */
tvar t_lstm(struct tape *t, tvar x, tvar state, tvar w, tvar b);
/* One step. w [in, 3 * hidden], u [hidden, 3 * hidden] (gates r z n), biases as in torch's GRU. */
tvar t_gru(struct tape *t, tvar x, tvar h, tvar w, tvar u, tvar b_in, tvar b_hidden);

/* ---- results ---- */
int tape_rows(const struct tape *t, tvar v);
int tape_cols(const struct tape *t, tvar v);
const float *tape_value(const struct tape *t, tvar v);  /* NULL for TAPE_BAD */
float tape_scalar(const struct tape *t, tvar v);        /* of a 1 x 1; NaN for TAPE_BAD */
/* Gradients of `loss` (1 x 1) are ADDED to the grad of every t_param() below it.
 * The tape's error, or -SKATE_EINVAL: not a 1 x 1, or the loss is not finite. */
SKATE_NODISCARD int tape_backward(struct tape *t, tvar loss);
const float *tape_grad(const struct tape *t, tvar v);   /* after backward; NULL: none */

#endif
