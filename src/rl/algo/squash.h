/* squash.h - the diagonal Gaussian squashed by tanh: draws and log probabilities.
 *
 * Inputs are [n][2 k]: means, then log standard deviations, which are clipped to [low, high]. A
 * draw is u = mean + exp(log std) * noise, a = tanh(u). log(1 - tanh(u)^2) is taken as
 * 2 (log 2 - u - softplus(-2 u)), which is exact for any u: no small number is added anywhere. The
 * log probability is that of a in [-1, 1], whatever the environment's units. Without `tanh` it is
 * the plain Gaussian (unbounded spaces). No state, never blocks.
 * Tests: tests/unit/rl_offpol_test.c, tests/rl/test_continuous_math.py. */
#ifndef SKATE_RL_ALGO_SQUASH_H
#define SKATE_RL_ALGO_SQUASH_H

#include <stdbool.h>

#include "rl/nn/tape.h"

struct squash {
    int k;                      /* actions */
    bool tanh;
    float low, high;            /* of the log standard deviation */
};

/* Draws on the tape, differentiable by `inputs`; `noise` [n][k]. `logp` [n][1] or NULL. */
tvar squash_draw(struct tape *t, const struct squash *s, tvar inputs, tvar noise, tvar *logp);
/* One row by hand: the draw into unit[k], its log probability; noise NULL: the mean. */
float squash_row(const struct squash *s, const float *inputs, const float *noise, float *unit);
/* Log probability [n][1] of given actions in (-1, 1), differentiable by `inputs`: for losses that
 * weigh the batch's own actions. Actions are taken to be at least 1e-6 from the ends. */
tvar squash_logp(struct tape *t, const struct squash *s, tvar inputs, tvar unit);

#endif
