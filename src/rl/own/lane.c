/* lane.c - see lane.h. */
#include "rl/own/lane.h"

#include <math.h>
#include <string.h>

static int box_size(const struct skate_env_space *s) {
    size_t n = 1;

    for (uint32_t i = 0; i < s->ndim; i++)
        n *= s->shape[i];
    return (int)n;
}

/* Of DISCRETE, MULTI and TUPLE: the sum of their sizes; they are one-hot. */
static int hot_size(const struct skate_env_space *s) {
    int64_t n = s->kind == SKATE_SPACE_DISCRETE ? s->n : 0;

    for (uint32_t i = 0; s->kind != SKATE_SPACE_DISCRETE && i < s->shape[0]; i++)
        n += s->sizes[i];
    return (int)n;
}

int lane_obs_size(const struct rl_env *env) {
    const struct skate_env_space *s = &rl_env_info(env)->obs;

    return s->kind == SKATE_SPACE_BOX ? box_size(s) : hot_size(s);
}

static bool actions_fit(const struct skate_env_space *s, const struct algo_space *a) {
    if (s->kind == SKATE_SPACE_DISCRETE)
        return a->kind == ALGO_DISCRETE && a->size == s->n && s->start == 0;
    if (s->kind == SKATE_SPACE_BOX)
        return a->kind == ALGO_BOX && a->size == box_size(s) && s->dtype == SKATE_F32;
    if (s->kind != SKATE_SPACE_MULTI || a->kind != ALGO_MULTI || a->size != (int)s->shape[0])
        return false;
    for (int i = 0; i < a->size; i++)
        if (a->sizes[i] != s->sizes[i])
            return false;
    return true;
}

int lane_check(const struct rl_env *env, const struct algo_space *obs,
               const struct algo_space *action, struct skate_error *err) {
    if (rl_env_lanes(env) != 1)
        return err_fail(err, -SKATE_EINVAL, "the environment has %u lanes, it needs 1",
                        rl_env_lanes(env));
    if (obs->size != lane_obs_size(env))
        return err_fail(err, -SKATE_EINVAL, "the observation space of %s has %d numbers, the "
                        "policy's has %d", rl_env_id(env), lane_obs_size(env), obs->size);
    if (!actions_fit(&rl_env_info(env)->action, action))
        return err_fail(err, -SKATE_EINVAL, "the action space of %s is not the policy's, or is "
                        "none that works here (float32 boxes, numbers from 0)", rl_env_id(env));
    return 0;
}

static float number(const void *row, uint32_t dtype, int i) {
    switch (dtype) {
    case SKATE_F32:
        return ((const float *)row)[i];
    case SKATE_F64:
        return (float)((const double *)row)[i];
    case SKATE_I32:
        return (float)((const int32_t *)row)[i];
    case SKATE_I64:
        return (float)((const int64_t *)row)[i];
    default:
        return (float)((const uint8_t *)row)[i];
    }
}

void lane_obs(const struct rl_env *env, uint32_t lane, float *to) {
    const struct skate_env_space *s = &rl_env_info(env)->obs;
    const char *row = (const char *)rl_env_rows(env)->obs + lane * rl_env_obs_bytes(env);
    const int64_t *whole = (const int64_t *)(const void *)row;

    if (s->kind == SKATE_SPACE_BOX) {
        int n = box_size(s);

        for (int i = 0; i < n; i++)
            to[i] = number(row, s->dtype, i);
        return;
    }
    memset(to, 0, (size_t)hot_size(s) * sizeof(float));
    if (s->kind == SKATE_SPACE_DISCRETE) {
        if (whole[0] >= s->start && whole[0] - s->start < s->n)
            to[whole[0] - s->start] = 1.0f;
        return;
    }
    for (uint32_t i = 0; i < s->shape[0]; i++) {
        if (whole[i] >= 0 && whole[i] < s->sizes[i])
            to[whole[i]] = 1.0f;
        to += s->sizes[i];
    }
}

static float low_of(const struct skate_env_space *s, int i) {
    return (float)(s->lows ? s->lows[i] : s->low);
}

static float high_of(const struct skate_env_space *s, int i) {
    return (float)(s->highs ? s->highs[i] : s->high);
}

static void fit_box(const struct skate_env_space *s, bool normalised, float *x) {
    int n = box_size(s);

    for (int i = 0; i < n; i++)
        normalised = normalised && isfinite(low_of(s, i)) && isfinite(high_of(s, i));
    for (int i = 0; i < n; i++) {
        float low = low_of(s, i), high = high_of(s, i);

        if (normalised)
            x[i] = low + (x[i] + 1.0f) * ((high - low) / 2.0f);
        x[i] = x[i] < low ? low : x[i] > high ? high : x[i];
    }
}

int lane_step(struct rl_env *env, bool normalised, struct skate_error *err) {
    const struct skate_env_space *s = &rl_env_info(env)->action;

    if (s->kind == SKATE_SPACE_BOX)
        fit_box(s, normalised, rl_env_actions(env));
    return rl_env_step(env, err);
}
