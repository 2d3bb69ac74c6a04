/* rollout.h - a worker's recorder: acts for N environments and fills a fragment in place.
 *
 * The environments are stepped by the caller (Python). One step: rollout_act(), then for each
 * environment rollout_step() and, if its episode ended, rollout_obs() with the first observation of
 * the next; the fragment is full after `steps` of these. rollout_finish() then fills in the values,
 * all at once. Segments are cut every `cut` steps (0: only at the end) as RLlib's
 * rollout_fragment_length does. Episodes go on over fragments. One owner; never blocks.
 * Tests: tests/unit/rl_frag_test.c, tests/rl/test_engine.py. */
#ifndef SKATE_RL_ROLLOUT_H
#define SKATE_RL_ROLLOUT_H

#include "rl/frag.h"
#include "rl/rl_policy.h"

struct rollout;

/* What an environment answered that no net can use. */
struct rollout_bad {
    const char *field;          /* "observation" or "reward" */
    uint32_t env, column;       /* column of the observation */
    int32_t step;               /* of the episode: 0 is the first observation */
    double value;
};

/* `policy` is borrowed and must outlive the rollout. -SKATE_EINVAL, -SKATE_ENOMEM. */
SKATE_NODISCARD int rollout_new(struct policy *policy, const struct frag_shape *shape,
                                uint32_t cut, struct rollout **ret);
struct rollout *rollout_free(struct rollout *r);
const struct frag_shape *rollout_shape(const struct rollout *r);

/* Start filling `buffer` (borrowed until rollout_finish). -SKATE_EINVAL. */
SKATE_NODISCARD int rollout_begin(struct rollout *r, void *buffer, size_t bytes, uint32_t worker);

/* Where the caller writes the current observation of environment `env` (obs_dim floats). */
float *rollout_obs(struct rollout *r, uint32_t env);

/* Choose actions for all environments; *ret stays valid until the next call.
 * -SKATE_EINVAL: not begun, full, or the net has diverged. */
SKATE_NODISCARD int rollout_act(struct rollout *r, const int32_t **ret);

/* What environment `env` answered. The next observation must be in rollout_obs() already; on an
 * end of episode write the reset one there after this call. `flags`: GAE_TERMINATED or
 * GAE_TRUNCATED. The last environment's call completes the step. -SKATE_EINVAL: out of order, or
 * not finite (rollout_bad() is not NULL then). */
SKATE_NODISCARD int rollout_step(struct rollout *r, uint32_t env, double reward, uint8_t flags);
/* Check a first observation in rollout_obs(). -SKATE_EINVAL: not finite, see rollout_bad(). */
SKATE_NODISCARD int rollout_check(struct rollout *r, uint32_t env);
/* What was not finite since the last begin or reset, or NULL. */
const struct rollout_bad *rollout_bad(const struct rollout *r);

int rollout_is_full(const struct rollout *r);

/* Forget unfinished episodes and the step in progress (after an environment's failure). */
void rollout_reset(struct rollout *r);

/* Fill in values and header. -SKATE_EINVAL: not full. */
SKATE_NODISCARD int rollout_finish(struct rollout *r);

/* Between fragments, for checkpoints: current observations, episodes under way and the policy's
 * random stream. -SKATE_EINVAL: of another shape, not finite, or a fragment is under way. */
size_t rollout_state_bytes(const struct rollout *r);
void rollout_get_state(const struct rollout *r, void *block);
SKATE_NODISCARD int rollout_set_state(struct rollout *r, const void *block, size_t bytes);

#endif
