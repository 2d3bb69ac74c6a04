/* learner.h - PPO's learner: fragments in, better weights out.
 *
 * One learner changes the parameters of one policy (borrowed). learner_update() runs all epochs of
 * one train batch on its own threads and blocks until done; call it from one thread at a time,
 * without the interpreter lock. The result is the same, bit for bit, for any number of threads:
 * work is split into fixed tiles of rows and fixed slabs of parameters, and each sum has one owner.
 * The two nets share nothing (unless grad_clip couples their norms), so two threads need not meet
 * during an update. Design: src/rl/README.md. Tests: rl_ppo_test.c, tests/rl/test_engine.py. */
#ifndef SKATE_RL_LEARNER_H
#define SKATE_RL_LEARNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "rl/frag.h"
#include "rl/rl_policy.h"

struct learner;

struct learner_opts {
    float gamma, lambda;
    float lr, beta1, beta2, adam_eps;
    float clip, vf_clip, vf_coeff, entropy_coeff;
    float kl_coeff, kl_target;  /* kl_coeff adapts by 1.5 and 0.5 around the target */
    float grad_clip;            /* global norm; 0: none */
    bool vf_clip_loss;          /* see ppo.h */
    bool kl_last;               /* kl_coeff adapts to the last minibatch's KL, not to the mean */
    bool shuffle;               /* rows in a new order each epoch; false: as they came */
    bool wrap;                  /* minibatches go over from one epoch into the next, and none is
                                   short; false: what is left over waits for the next epoch */
    int minibatch, epochs, threads;
    uint64_t seed;              /* of the minibatch order */
};

struct learner_stats {
    double total_loss, policy_loss, vf_loss, vf_explained_var, kl, entropy;
    double cur_kl_coeff, cur_lr;    /* as used in this update */
    double advantage_mean, advantage_std;
    uint64_t samples;           /* rows in the batch */
    uint64_t minibatches;       /* steps of the optimiser */
    double seconds;
};

/* RLlib's defaults. */
void learner_opts_default(struct learner_opts *opts);

/* -SKATE_EINVAL: an option makes no sense; -SKATE_ENOMEM, -SKATE_ESYS. */
SKATE_NODISCARD int learner_new(struct policy *policy, const struct learner_opts *opts,
                                struct learner **ret);
struct learner *learner_free(struct learner *l);
/* What may change between updates: lr, entropy_coeff and the loss's numbers. */
struct learner_opts *learner_opts(struct learner *l);

/* One update. Fragments are read in order and only during the call.
 *   -SKATE_EINVAL   a fragment does not fit the policy, or holds a number that is not finite, or
 *                   the loss is not finite (the parameters are then useless): see `err`
 *   -SKATE_EFORKED  the learner was made by another process */
SKATE_NODISCARD int learner_update(struct learner *l, const struct frag *frags, size_t n_frags,
                                   struct learner_stats *ret, struct skate_error *err);

/* The gradient of the loss over the whole batch as one minibatch, nothing changed: `flat` has
 * policy_n_weights() floats. For tests. Errors as learner_update. */
SKATE_NODISCARD int learner_gradient(struct learner *l, const struct frag *frags, size_t n_frags,
                                     float *flat, struct learner_stats *ret,
                                     struct skate_error *err);

/* The optimiser's state (moments, counters, kl_coeff) as one block, for checkpoints. */
size_t learner_state_bytes(const struct learner *l);
void learner_get_state(const struct learner *l, void *block);
/* -SKATE_EINVAL: not a state of a learner of this shape. */
SKATE_NODISCARD int learner_set_state(struct learner *l, const void *block, size_t bytes);

#endif
