/* rollout_env.h - rollouts whose environments are in C: policy, environments and fragment in one
 * loop, with nobody in between.
 *
 * The same seeds give the fragments that a caller gets who steps the lanes one by one and resets
 * each as it ends. One owner for rollout and environments; never blocks.
 * Tests: tests/unit/rl_rollout_env_test.c, tests/rl/test_native_env.py. */
#ifndef SKATE_RL_ROLLOUT_ENV_H
#define SKATE_RL_ROLLOUT_ENV_H

#include "rl/env/rl_env.h"
#include "rl/rollout.h"

struct rollout_env;

/* Numbers of an observation as a net takes it: a box's own, one-hot for discrete numbers. */
uint32_t rollout_env_width(const struct skate_env_space *obs);

/* Both are borrowed and must outlive the result. -SKATE_EINVAL: they do not fit each other (the
 * lanes, the observation's width, a DISCRETE action for each of the net's outputs, mode
 * SAME_STEP); -SKATE_ENOMEM. */
SKATE_NODISCARD int rollout_env_new(struct rollout *r, struct rl_env *e, struct rollout_env **ret,
                                    struct skate_error *err);
struct rollout_env *rollout_env_free(struct rollout_env *x);

/* New episodes on all lanes; seeds: one a lane, or NULL. */
SKATE_NODISCARD int rollout_env_reset(struct rollout_env *x, const uint64_t *seeds,
                                      struct skate_error *err);

/* Up to `steps` steps of all lanes into the fragment that was begun; fewer if it is full before.
 * -SKATE_EINVAL and others: a failed step, the net diverged (err is empty), or an answer that is
 * not finite (see rollout_bad()). Call rollout_reset() and rollout_env_reset() then. */
SKATE_NODISCARD int rollout_env_run(struct rollout_env *x, uint32_t steps,
                                    struct skate_error *err);

#endif
