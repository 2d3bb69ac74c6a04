/* rollout_env.c - see rollout_env.h. The environments reset their lanes themselves (SAME_STEP):
 * what ended an episode is in rl_env_last(), the next first observation in the rows.
 * One owner; never blocks. Tests: tests/unit/rl_rollout_env_test.c. */
#include "rl/rollout_env.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "rl/gae.h"

struct rollout_env {
    struct rollout *rollout;
    struct rl_env *env;
    const struct skate_env_space *obs;
    uint32_t lanes, width, numbers;     /* numbers: of a row as the environment writes it */
    int32_t start;                      /* of the actions */
    int started;
};

static uint32_t numbers_of(const struct skate_env_space *s) {
    if (s->kind == SKATE_SPACE_BOX)
        return (uint32_t)(skate_env_row_bytes(s, 0) / skate_env_dtype_bytes(s->dtype));
    return s->kind == SKATE_SPACE_DISCRETE ? 1 : s->shape[0];
}

uint32_t rollout_env_width(const struct skate_env_space *obs) {
    uint64_t width = 0;

    if (obs->kind == SKATE_SPACE_BOX)
        return numbers_of(obs);
    if (obs->kind == SKATE_SPACE_DISCRETE)
        return (uint32_t)obs->n;
    for (uint32_t i = 0; i < obs->shape[0]; i++)
        width += (uint64_t)obs->sizes[i];
    return width <= UINT32_MAX ? (uint32_t)width : 0;
}

int rollout_env_new(struct rollout *r, struct rl_env *e, struct rollout_env **ret,
                    struct skate_error *err) {
    const struct skate_env_info *info = rl_env_info(e);
    const struct frag_shape *shape = rollout_shape(r);
    uint32_t width = rollout_env_width(&info->obs);
    struct rollout_env *x;

    if (info->action.kind != SKATE_SPACE_DISCRETE || (uint64_t)info->action.n != shape->n_inputs)
        return err_fail(err, -SKATE_EINVAL, "%s: the net has %u discrete actions, the environment "
                        "not", rl_env_id(e), shape->n_inputs);
    if (width != shape->obs_dim)
        return err_fail(err, -SKATE_EINVAL, "%s: its observations have %u numbers, the net takes "
                        "%u", rl_env_id(e), width, shape->obs_dim);
    if (rl_env_lanes(e) != shape->envs || rl_env_mode(e) != RL_ENV_SAME_STEP)
        return err_fail(err, -SKATE_EINVAL, "%s: %u lanes that reset themselves are needed, these "
                        "are %u in mode %d", rl_env_id(e), shape->envs, rl_env_lanes(e),
                        (int)rl_env_mode(e));
    x = calloc(1, sizeof *x);
    if (!x)
        return -SKATE_ENOMEM;
    x->rollout = r;
    x->env = e;
    x->obs = &info->obs;
    x->lanes = shape->envs;
    x->width = width;
    x->numbers = numbers_of(&info->obs);
    x->start = (int32_t)info->action.start;
    *ret = x;
    return 0;
}

struct rollout_env *rollout_env_free(struct rollout_env *x) {
    free(x);
    return NULL;
}

/* A row of a box as floats. */
static void put_box(const struct rollout_env *x, const void *row, float *to) {
    const uint32_t n = x->width;

    switch (x->obs->dtype) {
    case SKATE_F32:
        memcpy(to, row, n * sizeof(float));
        break;
    case SKATE_F64:
        for (uint32_t i = 0; i < n; i++)
            to[i] = (float)((const double *)row)[i];
        break;
    case SKATE_I32:
        for (uint32_t i = 0; i < n; i++)
            to[i] = (float)((const int32_t *)row)[i];
        break;
    case SKATE_I64:
        for (uint32_t i = 0; i < n; i++)
            to[i] = (float)((const int64_t *)row)[i];
        break;
    default:
        for (uint32_t i = 0; i < n; i++)
            to[i] = (float)((const uint8_t *)row)[i];
    }
}

/* Discrete numbers, each as as many floats as it has values. -SKATE_EINVAL: one outside. */
static int put_hot(const struct rollout_env *x, const int64_t *row, float *to,
                   struct skate_error *err) {
    const struct skate_env_space *s = x->obs;

    memset(to, 0, x->width * sizeof(float));
    for (uint32_t i = 0; i < x->numbers; i++) {
        const int one = s->kind == SKATE_SPACE_DISCRETE;
        const uint64_t n = (uint64_t)(one ? s->n : s->sizes[i]);
        const uint64_t at = (uint64_t)row[i] - (uint64_t)(one ? s->start : 0);

        if (at >= n)
            return err_fail(err, -SKATE_EINVAL, "%s: number %u of an observation is %lld, outside "
                            "its space", rl_env_id(x->env), i, (long long)row[i]);
        to[at] = 1.0f;
        to += n;
    }
    return 0;
}

static int put_row(struct rollout_env *x, uint32_t lane, const void *rows,
                   struct skate_error *err) {
    const void *row = (const char *)rows + lane * rl_env_obs_bytes(x->env);
    float *to = rollout_obs(x->rollout, lane);

    if (x->obs->kind != SKATE_SPACE_BOX)
        return put_hot(x, row, to, err);
    put_box(x, row, to);
    return 0;
}

/* What was not finite, for people. */
static int fail_bad(const struct rollout_env *x, int code, struct skate_error *err) {
    const struct rollout_bad *bad = rollout_bad(x->rollout);

    if (!bad)
        return code;
    return err_fail(err, code, "%s: lane %u: %s is %g at step %d of its episode",
                    rl_env_id(x->env), bad->env, bad->field, bad->value, bad->step);
}

/* The first observation of an episode. */
static int put_first(struct rollout_env *x, uint32_t lane, struct skate_error *err) {
    int r = put_row(x, lane, rl_env_rows(x->env)->obs, err);

    if (r == 0)
        r = rollout_check(x->rollout, lane);
    return r < 0 ? fail_bad(x, r, err) : 0;
}

int rollout_env_reset(struct rollout_env *x, const uint64_t *seeds, struct skate_error *err) {
    int r = rl_env_reset(x->env, NULL, seeds, err);

    x->started = 0;
    for (uint32_t i = 0; r == 0 && i < x->lanes; i++)
        r = put_first(x, i, err);
    x->started = r == 0;
    return r;
}

/* What all lanes answered, into the fragment. */
static int record(struct rollout_env *x, struct skate_error *err) {
    const struct skate_env_rows *rows = rl_env_rows(x->env);

    for (uint32_t i = 0; i < x->lanes; i++) {
        uint8_t flags = (uint8_t)((rows->terminated[i] & 1 ? GAE_TERMINATED : 0) |
                                  (rows->truncated[i] & 1 ? GAE_TRUNCATED : 0));
        int r = put_row(x, i, flags ? rl_env_last(x->env) : rows->obs, err);

        if (r == 0) {
            r = rollout_step(x->rollout, i, rows->reward[i], flags);
            if (r < 0)
                return fail_bad(x, r, err);
        }
        if (r == 0 && flags)
            r = put_first(x, i, err);
        if (r < 0)
            return r;
    }
    return 0;
}

int rollout_env_run(struct rollout_env *x, uint32_t steps, struct skate_error *err) {
    int32_t *to = rl_env_actions(x->env);

    if (!x->started)
        return err_fail(err, -SKATE_EINVAL, "%s: reset first", rl_env_id(x->env));
    while (steps-- > 0 && !rollout_is_full(x->rollout)) {
        const int32_t *actions;
        int r = rollout_act(x->rollout, &actions);

        if (r < 0)
            return r;
        for (uint32_t i = 0; i < x->lanes; i++)
            to[i] = actions[i] + x->start;
        r = rl_env_step(x->env, err);
        if (r == 0)
            r = record(x, err);
        if (r < 0) {
            x->started = 0;
            return r;
        }
    }
    return 0;
}
