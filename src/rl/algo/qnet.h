/* qnet.h - nets that value actions: a body and RLlib's heads on it (dueling, atoms, noise).
 *
 * The body is RLlib's default model of the observation (fcnet, convolutions, maybe a recurrent
 * cell); over it stand an advantage stream and, when dueling, a value stream, each with the layers
 * of `hiddens`. Without `hiddens` the body's own last layer gives the values. With atoms > 1 an
 * action has that many logits over returns from v_min to v_max (Bellemare et al. 2017).
 * Used by algo_dqn.c and algo_r2d2.c; one owner, no locks, never blocks.
 * Tests: tests/rl/test_value_math.py,
 * tests/unit/rl_value_test.c. */
#ifndef SKATE_RL_ALGO_QNET_H
#define SKATE_RL_ALGO_QNET_H

#include "rl/algo/algo.h"

enum { QNET_ATOMS_MAX = 512 };

struct qnet {
    struct net body, adv, value;
    bool heads, dueling, noisy;
    int actions, atoms;
    float v_min, v_max;
    float *center;              /* owned: [outputs][outputs], takes the mean over actions off */
};

/* Reads the options and adds the tensors to `online` and `target`, which it makes: online is
 * acting and has an optimiser (lr, adam_epsilon, grad_clip), target a copy of it. */
SKATE_NODISCARD int qnet_make(struct algo *a, const struct algo_setup *s, enum net_cell cell,
                              struct qnet *q, struct skate_error *err);
void qnet_release(struct qnet *q);

/* [n, actions * atoms]: values, or logits of atoms. `p`: NULL for the online tensors. */
tvar qnet_apply(struct algo *a, const struct qnet *q, const struct params *p, tvar x, tvar *state,
                bool frozen, bool noise);
/* After an update: the target net takes tau of the online one if the variable `ask` says so or
 * `every` updates have passed since the last time (0: never by itself). */
void qnet_target(struct algo *a, int ask, int since, int every, float tau);
/* Values of the outputs of n rows: themselves, or the means of the atoms' distributions. */
void qnet_values(const struct qnet *q, const float *outputs, int n, float *values);
/* The categorical distribution of reward + discount * z, laid onto the atoms; adds nothing up. */
void qnet_project(const struct qnet *q, const float *logits, float reward, float discount,
                  float *ret);
/* Epsilon-greedy over values [n][actions]: fills what io wants. */
void qnet_choose(struct algo *a, const struct algo_act *io, const float *values);
/* The best allowed action of a row; mask may be NULL. */
int qnet_best(const float *values, const float *mask, int actions);


/* ---- for those that learn from sequences ---- */
/* Columns [n][steps][width] to [steps][n][width]. */
void qnet_by_time(const float *from, int n, int steps, int width, float *to);
/* The state [n, size] after a step: `next` where mask is not 0, else `old`. */
tvar qnet_keep_state(struct tape *t, const float *mask, int n, tvar old, tvar next);

#endif
