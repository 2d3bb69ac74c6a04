/* optim.h - optimisers over a struct params: SGD, RMSprop, Adam, AdamW, and clipping.
 *
 * optim_step() reads p->grad, steps p->value and zeroes the gradient. Formulas as in torch.optim.
 * One owner, no locks, never blocks. Deterministic. Tests: tests/unit/rl_optim_test.c. */
#ifndef SKATE_RL_NN_OPTIM_H
#define SKATE_RL_NN_OPTIM_H

#include <stddef.h>

#include "base/err.h"
#include "rl/nn/params.h"

enum optim_kind { OPTIM_SGD, OPTIM_RMSPROP, OPTIM_ADAM, OPTIM_ADAMW };
enum optim_clip { CLIP_NONE, CLIP_GLOBAL_NORM, CLIP_VALUE, CLIP_NORM };     /* NORM: each tensor */

struct optim_opts {
    enum optim_kind kind;
    float lr, beta1, beta2, eps;        /* RMSprop: beta2 is alpha, beta1 the momentum */
    float weight_decay;
    enum optim_clip clip;
    float clip_by;                      /* <= 0: no clip */
};

struct optim {
    struct optim_opts opts;             /* lr may be changed between steps */
    struct params *p;                   /* borrowed */
    float *m, *v;                       /* n_padded each, or NULL */
    long long steps;
    float grad_norm;                    /* global, before clipping, of the last step */
};

/* Adam's defaults of torch: lr 1e-3, 0.9, 0.999, 1e-8. */
void optim_opts_default(struct optim_opts *opts);
SKATE_NODISCARD int optim_init(struct optim *o, struct params *p, const struct optim_opts *opts);
void optim_release(struct optim *o);
/* -SKATE_EINVAL: a gradient is not finite; values and moments are unchanged. */
SKATE_NODISCARD int optim_step(struct optim *o);

/* Moments and counter, for checkpoints: `block` has optim_state_bytes(). */
size_t optim_state_bytes(const struct optim *o);
void optim_get_state(const struct optim *o, void *block);
SKATE_NODISCARD int optim_set_state(struct optim *o, const void *block, size_t bytes);

#endif
