/* rl_policy.h - a policy net and a value net with their scratch space: acting and judging.
 *
 * The two nets share no layer. Weights cross the border as one flat float vector: policy net, then
 * value net, each in mlp.h's canonical order. Inference runs in tiles of 32, 8 and 1 rows.
 * One owner at a time: no locks inside, never blocks. Tests: rl_ppo_test.c, tests/rl/. */
#ifndef SKATE_RL_RL_POLICY_H
#define SKATE_RL_RL_POLICY_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "rl/mlp.h"

enum { POLICY_TILES = 3 };

struct policy_opts {
    int obs_dim, n_actions;
    int n_hiddens;
    int hiddens[MLP_LAYERS_MAX - 1];
    enum kern_act act;
    uint64_t seed;
};

struct policy {
    struct policy_opts opts;
    struct mlp pi, vf;
    struct mlp_tile pi_tile[POLICY_TILES], vf_tile[POLICY_TILES];
    float *h[MLP_LAYERS_MAX];   /* activations of one tile; the output layer's has its own row */
    struct rl_rng rng;          /* draws actions */
    uint64_t version;           /* of the weights; counts the learner's updates */
};

/* -SKATE_EINVAL: sizes; -SKATE_ENOMEM. */
SKATE_NODISCARD int policy_new(const struct policy_opts *opts, struct policy **ret);
struct policy *policy_free(struct policy *p);

size_t policy_n_weights(const struct policy *p);
void policy_get_weights(const struct policy *p, float *flat);
void policy_set_weights(struct policy *p, const float *flat);

/* obs[n][obs_dim] -> logits[n][n_actions] */
void policy_logits(struct policy *p, const float *obs, size_t n, float *logits);
/* obs[n][obs_dim] -> values[n] */
void policy_values(struct policy *p, const float *obs, size_t n, float *values);

/* Draw (or, with explore false, choose) one action for each row of logits. `logp` may be NULL.
 * -SKATE_EINVAL when a logit is not finite: the net has diverged. */
SKATE_NODISCARD int policy_choose(struct policy *p, const float *logits, size_t n, int explore,
                                  int32_t *actions, float *logp);

#endif
