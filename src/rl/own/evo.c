/* evo.c - see evo.h. */
#include "rl/own/evo.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rl/own/lane.h"
#include "rl/own/noise.h"

enum { STREAM_EVO = 61 };

int evo_new(struct algo *policy, uint64_t noise_seed, struct evo **ret) {
    struct evo *e = calloc(1, sizeof(*e));
    size_t d = (size_t)policy->obs.size;

    *ret = NULL;
    if (!e)
        return -SKATE_ENOMEM;
    e->policy = policy;
    e->noise_seed = noise_seed;
    e->obs = policy->obs.size;
    e->n = algo_n_weights(policy);
    e->n_net = policy->params[0]->n;
    e->theta = calloc(2 * e->n, sizeof(float));
    e->moved = e->theta ? e->theta + e->n : NULL;
    e->mean = calloc(2 * d, sizeof(double));
    e->m2 = e->mean ? e->mean + d : NULL;
    e->x = calloc(d, sizeof(float));
    if (!e->theta || !e->mean || !e->x) {
        evo_free(e);
        return -SKATE_ENOMEM;
    }
    algo_get_weights(policy, e->theta);
    *ret = e;
    return 0;
}

struct evo *evo_free(struct evo *e) {
    if (e) {
        free(e->theta);
        free(e->mean);
        free(e->x);
        free(e);
    }
    return NULL;
}

void evo_weights(struct evo *e, const float *flat) {
    memcpy(e->theta, flat, e->n * sizeof(float));
    algo_set_weights(e->policy, e->theta, e->policy->version);
}

void evo_start(struct evo *e, uint64_t position, float scale, uint64_t seed) {
    memcpy(e->moved, e->theta, e->n * sizeof(float));
    if (scale != 0.0f)
        noise_add(e->noise_seed, position, scale, e->moved, e->n_net);
    algo_set_weights(e->policy, e->moved, e->policy->version);
    rl_rng_init(&e->policy->rng, seed, STREAM_EVO);
}

int evo_act(struct evo *e, const float *obs, void *action, const struct evo_rules *rules,
            struct skate_error *err) {
    struct algo_act io = { .n = 1, .obs = obs, .explore = rules->explore, .noise = rules->noise,
                           .actions = action };
    int r = algo_act(e->policy, &io, err);

    if (r < 0)
        return r;
    e->count += 1.0;
    for (int i = 0; i < e->obs; i++) {
        double delta = (double)obs[i] - e->mean[i];

        e->mean[i] += delta / e->count;
        e->m2[i] += delta * ((double)obs[i] - e->mean[i]);
    }
    return 0;
}

void evo_counts(struct evo *e, float *ret) {
    ret[0] = (float)e->count;
    for (int i = 0; i < e->obs; i++) {
        ret[1 + i] = (float)e->mean[i];
        ret[1 + e->obs + i] = (float)e->m2[i];
    }
    e->count = 0.0;
    memset(e->mean, 0, 2 * (size_t)e->obs * sizeof(double));
}

int evo_play(struct evo *e, struct rl_env *env, const struct evo_rules *rules,
             struct evo_played *ret, struct skate_error *err) {
    const struct skate_env_rows *rows = rl_env_rows(env);
    struct evo_played sum = { 0 };
    int r = lane_check(env, &e->policy->obs, &e->policy->action, err);

    if (r == 0)
        r = rl_env_reset(env, NULL, &rules->seed, err);
    while (r == 0) {
        double reward;

        lane_obs(env, 0, e->x);
        r = evo_act(e, e->x, rl_env_actions(env), rules, err);
        if (r == 0)
            r = lane_step(env, rules->normalised, err);
        if (r < 0)
            break;
        reward = rows->reward[0] - fabs(rules->offset);
        sum.reward += reward;
        sum.signs += reward > 0.0 ? 1.0 : reward < 0.0 ? -1.0 : 0.0;
        sum.length++;
        if (rows->terminated[0] || rows->truncated[0] || sum.length == rules->limit)
            break;
    }
    *ret = sum;
    return r;
}
