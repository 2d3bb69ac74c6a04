/* params.h - named float32 tensors in one flat vector, with a gradient of the same shape.
 *
 * One `struct params` is what one optimiser steps: a policy, a critic, a target net. Tensors are
 * added one by one, then params_seal() allocates values and gradients (zero) and fills in the start
 * values. Every tensor is a matrix [rows][cols]; a dense layer's weights are [in][out], a bias is
 * [1][out]. The flat form (params_get, params_set) is the tensors in order without padding.
 * One owner at a time, no locks, never blocks. Tests: tests/unit/rl_nn_test.c. */
#ifndef SKATE_RL_NN_PARAMS_H
#define SKATE_RL_NN_PARAMS_H

#include <stddef.h>

#include "base/err.h"
#include "rl/rl_rng.h"

enum { PARAM_NAME_BYTES = 48, PARAM_TENSORS_MAX = 512 };

enum param_init {
    PARAM_ZERO,
    PARAM_CONST,                /* every number is `scale` */
    PARAM_NORMC,                /* each column a random direction of length `scale` (RLlib) */
    PARAM_FAN_IN,               /* uniform in +-scale / sqrt(rows): torch's nn.Linear */
    PARAM_XAVIER,               /* uniform in +-scale * sqrt(6 / (rows + cols)) */
    PARAM_ORTHO,                /* orthogonal, times `scale` */
    PARAM_NORMAL,               /* normal with standard deviation `scale` */
};

struct param_tensor {
    char name[PARAM_NAME_BYTES];
    int rows, cols;
    enum param_init init;
    float scale;
    size_t at;                  /* floats into value and grad; a multiple of 16 */
};

struct params {
    int n_tensors;
    struct param_tensor tensors[PARAM_TENSORS_MAX];
    size_t n_padded;            /* floats in value; the padding stays 0 */
    size_t n;                   /* floats in the flat form */
    float *value, *grad;        /* owned, on 64 bytes; NULL before params_seal() */
};

struct params *params_new(void);        /* NULL: no memory */
struct params *params_free(struct params *p);
/* Number of the new tensor, or -SKATE_EINVAL (sealed, full, bad size or name). */
int params_add(struct params *p, const char *name, int rows, int cols, enum param_init init,
               float scale);
/* -SKATE_ENOMEM. `rng` draws the start values. */
SKATE_NODISCARD int params_seal(struct params *p, struct rl_rng *rng);

void params_get(const struct params *p, float *flat);
void params_set(struct params *p, const float *flat);
void params_zero_grad(struct params *p);
/* dst = tau * src + (1 - tau) * dst: tau 1 copies. Both of the same tensors. */
void params_blend(struct params *dst, const struct params *src, float tau);
/* 1 if a value is not finite. */
int params_bad(const struct params *p);

#endif
