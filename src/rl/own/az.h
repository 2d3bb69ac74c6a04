/* az.h - tree search over an environment in C that can save its state: AlphaZero without Python.
 *
 * The environment's lane is the game that is played; a search steps it from saved states and puts
 * it back. What the net is shown is the lane's observation, the mask is the environment's own.
 * One owner, no locks, never blocks. Tests: tests/unit/rl_alphazero_test.c. */
#ifndef SKATE_RL_OWN_AZ_H
#define SKATE_RL_OWN_AZ_H

#include "rl/algo/algo.h"
#include "rl/env/rl_env.h"
#include "rl/own/mcts.h"

struct az_search;

struct az_opts {
    struct mcts_opts tree;      /* actions are set from the environment */
    double threshold;           /* ranked rewards: an end pays 1 at this return or more, else -1 */
    bool ranked;
    uint64_t seed;
};

/* Both are borrowed: an "AlphaZero" and an environment of one lane that waits for resets.
 * -SKATE_EINVAL with a sentence: it cannot save its state, other spaces; -SKATE_ENOMEM. */
SKATE_NODISCARD int az_new(struct algo *net, struct rl_env *env, const struct az_opts *opts,
                           struct az_search **ret, struct skate_error *err);
struct az_search *az_free(struct az_search *s);
struct mcts *az_tree(struct az_search *s);

/* Forget the tree: a new episode has begun in the lane. */
void az_restart(struct az_search *s);
/* The ranked rewards' threshold from now on. */
void az_threshold(struct az_search *s, double threshold);
/* A search from the lane's state; then the observation (obs size), the mask and the found policy
 * (actions each) are written, and the action is returned. Or an error. */
int az_think(struct az_search *s, bool argmax, float *obs, float *mask, float *policy,
             struct skate_error *err);
/* The action is made in the lane; the tree follows. *ret_reward is as the environment gave it. */
SKATE_NODISCARD int az_move(struct az_search *s, int action, double *ret_reward, bool *ret_ended,
                            struct skate_error *err);

#endif
