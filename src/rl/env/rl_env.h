/* rl_env.h - the host of environments: N lanes of a built-in one or of one in a shared object.
 *
 * It owns the rows, checks what an environment says of itself and the actions it is given, counts
 * steps, truncates, and resets lanes that have ended (include/skate/env.h says who does what).
 * One owner at a time; never blocks, but for the loading of a shared object.
 * Tests: tests/unit/rl_env_host_test.c, tests/unit/rl_env_hostile_test.c. */
#ifndef SKATE_RL_ENV_H
#define SKATE_RL_ENV_H

#include <skate/env.h>

#include "base/err.h"

enum rl_env_reset_mode {
    RL_ENV_NEXT_STEP,           /* Gymnasium's default: the step after the end starts anew */
    RL_ENV_SAME_STEP,           /* at once; the last observation is in rl_env_last() */
    RL_ENV_NEVER,               /* by rl_env_reset() only */
};

struct rl_env_opts {
    const char *name;           /* "CartPole-v1", "c:game.so", "c:game.so:symbol" */
    const char *config;         /* JSON object, or NULL; goes before what the name itself sets */
    uint32_t lanes;
    int max_steps;              /* -1: the environment's own; 0: never */
    enum rl_env_reset_mode mode;
    uint64_t seed;              /* lane i starts with seed + i unless it is reset with another */
};

struct rl_env;

/* -SKATE_ENOENT: no such name, file or symbol; -SKATE_EVERSION: another ABI; -SKATE_EINVAL: what
 * the environment says of itself, or the config, is wrong; -SKATE_ETOOBIG; -SKATE_ENOMEM. */
SKATE_NODISCARD int rl_env_open(const struct rl_env_opts *opts, struct rl_env **ret,
                                struct skate_error *err);
struct rl_env *rl_env_free(struct rl_env *e);

const struct skate_env_info *rl_env_info(const struct rl_env *e);
const char *rl_env_id(const struct rl_env *e);
uint32_t rl_env_lanes(const struct rl_env *e);
enum rl_env_reset_mode rl_env_mode(const struct rl_env *e);
/* The arrays; the action rows are the caller's to write. */
const struct skate_env_rows *rl_env_rows(const struct rl_env *e);
void *rl_env_actions(struct rl_env *e);
/* [lanes] rows: the observation that ended a lane's last episode (mode SAME_STEP). */
void *rl_env_last(struct rl_env *e);
size_t rl_env_obs_bytes(const struct rl_env *e);
size_t rl_env_action_bytes(const struct rl_env *e);

/* Start new episodes on the lanes whose mask byte is not 0 (NULL: on all), seeds (one a lane) or
 * NULL. */
SKATE_NODISCARD int rl_env_reset(struct rl_env *e, const uint8_t *mask, const uint64_t *seeds,
                                 struct skate_error *err);
/* One step of every lane with the actions in rl_env_actions(). -SKATE_EINVAL: not reset yet, or an
 * action outside its space (nothing was stepped then). */
SKATE_NODISCARD int rl_env_step(struct rl_env *e, struct skate_error *err);

struct rl_env_totals {
    uint64_t steps, episodes;
    double reward;              /* of all steps */
};

/* `steps` steps of every lane with random actions; for measuring and for baselines. */
SKATE_NODISCARD int rl_env_random(struct rl_env *e, uint64_t steps, uint64_t seed,
                                  struct rl_env_totals *ret, struct skate_error *err);

/* Which actions are allowed on a lane: a byte each of a DISCRETE's n. -SKATE_ENOENT: it does not
 * say. */
SKATE_NODISCARD int rl_env_mask(const struct rl_env *e, uint32_t lane, uint8_t *to, size_t n);
/* Columns and rows of a lane's picture. -SKATE_ENOENT: it draws none; -SKATE_EINVAL. */
SKATE_NODISCARD int rl_env_picture(struct rl_env *e, uint32_t lane, uint32_t size[2],
                                   struct skate_error *err);
/* The picture: columns x rows x 3 bytes. */
SKATE_NODISCARD int rl_env_render(struct rl_env *e, uint32_t lane, uint8_t *to,
                                  struct skate_error *err);
/* Another task from each lane's next reset on: a JSON object. -SKATE_ENOENT: it has one only. */
SKATE_NODISCARD int rl_env_set_task(struct rl_env *e, const char *task, struct skate_error *err);
/* Bytes of a lane's state, or 0: it cannot be saved. */
size_t rl_env_state_bytes(const struct rl_env *e);
/* A lane's state, observation and step count. -SKATE_EINVAL: it cannot (before the first reset, or
 * long truncated), or the bytes are not those that a lane of this environment saved. */
SKATE_NODISCARD int rl_env_save(const struct rl_env *e, uint32_t lane, void *to, size_t bytes);
SKATE_NODISCARD int rl_env_load(struct rl_env *e, uint32_t lane, const void *from, size_t bytes);

#endif
