/* lane.h - an environment in C as an algorithm sees it: float observations, actions that fit.
 * One owner, never blocks. Tests: tests/unit/rl_es_test.c, tests/unit/rl_alphazero_test.c. */
#ifndef SKATE_RL_OWN_LANE_H
#define SKATE_RL_OWN_LANE_H

#include "rl/algo/algo.h"
#include "rl/env/rl_env.h"

/* Numbers of an observation as floats: a discrete one is one-hot. */
int lane_obs_size(const struct rl_env *env);
/* -SKATE_EINVAL: the environment has not one lane that waits for resets, or other spaces. */
SKATE_NODISCARD int lane_check(const struct rl_env *env, const struct algo_space *obs,
                               const struct algo_space *action, struct skate_error *err);
/* The lane's present observation. */
void lane_obs(const struct rl_env *env, uint32_t lane, float *to);
/* A step with the actions in rl_env_actions(): int32 numbers, or floats, which are cut to the box's
 * bounds; `normalised`: if all are finite, -1 .. 1 is stretched to them first. */
SKATE_NODISCARD int lane_step(struct rl_env *env, bool normalised, struct skate_error *err);

#endif
