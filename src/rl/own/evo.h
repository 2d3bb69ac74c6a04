/* evo.h - a rollout of a perturbed policy: what a worker of ES and ARS does.
 *
 * It borrows an algorithm ("ES" or "ARS") as its policy: evo_start() makes its weights those of the
 * iteration plus scale times a direction of the noise table and seeds its draws, so that a rollout
 * depends on (weights, position, scale, seed) only, not on who plays it. evo_act() counts the
 * observations it is shown (Welford 1962) for the filter.
 * One owner, no locks, never blocks. Tests: tests/unit/rl_es_test.c, tests/rl/test_own.py. */
#ifndef SKATE_RL_OWN_EVO_H
#define SKATE_RL_OWN_EVO_H

#include "rl/algo/algo.h"
#include "rl/env/rl_env.h"

struct evo {
    struct algo *policy;        /* borrowed */
    uint64_t noise_seed;
    int obs;
    size_t n, n_net;            /* weights; of the net, which come first */
    float *theta, *moved;       /* [n]: the iteration's; those that act */
    double count, *mean, *m2;   /* of the observations since evo_counts() */
    float *x;                   /* [obs] */
};

struct evo_played {
    double reward, signs;       /* sums of the rewards and of their signs */
    uint32_t length;
};

struct evo_rules {
    uint64_t seed;
    uint32_t limit;             /* steps; 0: the environment's */
    double offset;              /* taken from each reward */
    bool explore, normalised;   /* normalised: boxes are acted on in -1 .. 1 */
    float noise;                /* of actions in a box */
};

SKATE_NODISCARD int evo_new(struct algo *policy, uint64_t noise_seed, struct evo **ret);
struct evo *evo_free(struct evo *e);

void evo_weights(struct evo *e, const float *flat);     /* of the iteration */
/* scale 0: as they are. */
void evo_start(struct evo *e, uint64_t position, float scale, uint64_t seed);
SKATE_NODISCARD int evo_act(struct evo *e, const float *obs, void *action,
                            const struct evo_rules *rules, struct skate_error *err);
/* count, mean [obs], sum of squared deviations [obs] since the last call. */
void evo_counts(struct evo *e, float *ret);

/* One episode in lane 0 of an environment in C, with the weights of evo_start(). -SKATE_EINVAL:
 * its spaces are not the policy's. */
SKATE_NODISCARD int evo_play(struct evo *e, struct rl_env *env, const struct evo_rules *rules,
                             struct evo_played *ret, struct skate_error *err);

#endif
