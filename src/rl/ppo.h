/* ppo.h - the PPO loss with RLlib's semantics, and its gradient at the nets' outputs.
 *
 * loss = mean( -min(A r, A clip(r, 1-c, 1+c)) + kl_coeff KL(old || new) - entropy_coeff H
 *              + vf_coeff L ),
 * L = max((v - t)^2, (clip(v, v_old - vc, v_old + vc) - t)^2), or min((v - t)^2, vc) with
 * vf_clip_loss.
 * The nets share nothing, so the policy part and the value part are separate functions on one tile
 * of rows. Sums are double and in row order. Pure, any thread, never blocks.
 * Tests: tests/unit/rl_ppo_test.c, tests/rl/test_engine.py (finite differences). */
#ifndef SKATE_RL_PPO_H
#define SKATE_RL_PPO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ppo_params {
    float clip, vf_clip, vf_coeff, kl_coeff, entropy_coeff;
    bool vf_clip_loss;          /* the squared error is cut, not the value's move */
};

/* The train batch as separate arrays of n rows. */
struct ppo_batch {
    size_t n;
    int obs_dim, n_actions;
    float *obs;                 /* [n][obs_dim] */
    float *old_log_probs;       /* [n][n_actions]: normalised */
    float *logp, *value, *advantage, *target;
    int32_t *action;
};

/* Sums over rows, for the statistics. */
struct ppo_sums {
    double policy_loss, kl, entropy;            /* policy_tile */
    double vf_loss, error, error2, target, target2; /* value_tile */
};

/* rows rows, number i being row index[i] of the batch; `logits` and `d` are [rows][n_actions].
 * d = scale * d(sum of losses)/d(logits). */
void ppo_policy_tile(const struct ppo_params *p, const struct ppo_batch *b,
                     const uint32_t *index, int rows, float scale, float *logits, float *d,
                     struct ppo_sums *sums);
/* The same for the value net: value[rows], d[rows]. */
void ppo_value_tile(const struct ppo_params *p, const struct ppo_batch *b,
                    const uint32_t *index, int rows, float scale, const float *value, float *d,
                    struct ppo_sums *sums);

void ppo_sums_add(struct ppo_sums *to, const struct ppo_sums *from);

#endif
