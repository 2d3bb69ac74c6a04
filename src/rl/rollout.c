/* rollout.c - see rollout.h. The policy net alone runs while stepping (one environment: a product
 * with a vector, bound by the cache); the value net runs once over the full fragment, in tiles.
 * Values beyond a segment's end are gathered in batches of BOOT_MAX observations.
 * One owner; never blocks. Tests: tests/unit/rl_frag_test.c, tests/rl/test_engine.py. */
#include "rl/rollout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "rl/gae.h"

enum { BOOT_MAX = 64 };

struct rollout {
    struct policy *policy;
    struct frag_shape shape;
    uint32_t cut;
    struct frag frag;           /* header is NULL: no fragment begun */
    uint32_t step, env;         /* the next row to be answered */
    int acted;                  /* rollout_act() was called for this step */
    float *now;                 /* [envs][obs_dim]: current observations */
    double *reward_sum;         /* [envs]: of the episodes under way */
    int32_t *length;
    uint32_t n_boot;            /* waiting for a value */
    float *boot_obs;
    size_t boot_row[BOOT_MAX];
    uint32_t worker;
    struct rollout_bad bad;     /* field is NULL: nothing */
};

int rollout_new(struct policy *policy, const struct frag_shape *shape, uint32_t cut,
                struct rollout **ret) {
    struct rollout *r;

    SKATE_ASSERT(policy);
    SKATE_ASSERT(shape);
    if (frag_bytes(shape) == 0 || (int)shape->obs_dim != policy->opts.obs_dim ||
        (int)shape->n_inputs != policy->opts.n_actions)
        return -SKATE_EINVAL;
    r = calloc(1, sizeof *r);
    if (!r)
        return -SKATE_ENOMEM;
    r->policy = policy;
    r->shape = *shape;
    r->cut = cut > 0 ? cut : shape->steps;
    r->now = mlp_alloc((size_t)shape->envs * shape->obs_dim);
    r->boot_obs = mlp_alloc((size_t)BOOT_MAX * shape->obs_dim);
    r->reward_sum = calloc(shape->envs, sizeof *r->reward_sum);
    r->length = calloc(shape->envs, sizeof *r->length);
    if (!r->now || !r->boot_obs || !r->reward_sum || !r->length) {
        rollout_free(r);
        return -SKATE_ENOMEM;
    }
    *ret = r;
    return 0;
}

struct rollout *rollout_free(struct rollout *r) {
    if (!r)
        return NULL;
    free(r->now);
    free(r->boot_obs);
    free(r->reward_sum);
    free(r->length);
    free(r);
    return NULL;
}

const struct frag_shape *rollout_shape(const struct rollout *r) {
    return &r->shape;
}

int rollout_begin(struct rollout *r, void *buffer, size_t bytes, uint32_t worker) {
    int e = frag_format(buffer, bytes, &r->shape, &r->frag);

    if (e < 0) {
        r->frag.header = NULL;
        return e;
    }
    r->step = r->env = r->n_boot = 0;
    r->acted = 0;
    r->bad.field = NULL;
    r->worker = worker;
    return 0;
}

float *rollout_obs(struct rollout *r, uint32_t env) {
    SKATE_ASSERT(env < r->shape.envs);
    return r->now + (size_t)env * r->shape.obs_dim;
}

int rollout_is_full(const struct rollout *r) {
    return r->frag.header && r->step == r->shape.steps;
}

void rollout_reset(struct rollout *r) {
    memset(r->reward_sum, 0, sizeof *r->reward_sum * r->shape.envs);
    memset(r->length, 0, sizeof *r->length * r->shape.envs);
    r->frag.header = NULL;
    r->acted = 0;
    r->bad.field = NULL;
}

const struct rollout_bad *rollout_bad(const struct rollout *r) {
    return r->bad.field ? &r->bad : NULL;
}

int rollout_check(struct rollout *r, uint32_t env) {
    const uint32_t n = r->shape.obs_dim;
    const float *x = rollout_obs(r, env);
    float sum = 0.0f;

    for (uint32_t i = 0; i < n; i++)
        sum += x[i] * 0.0f;     /* 0 for a finite number, NaN for any other */
    if (isfinite(sum))
        return 0;
    for (uint32_t i = 0; i < n; i++)
        if (!isfinite(x[i])) {
            r->bad = (struct rollout_bad){ "observation", env, i, r->length[env], (double)x[i] };
            break;
        }
    return -SKATE_EINVAL;
}

int rollout_act(struct rollout *r, const int32_t **ret) {
    const struct frag_shape *s = &r->shape;
    size_t row = (size_t)r->step * s->envs;
    float *logits;
    int e;

    if (!r->frag.header || r->step >= s->steps || r->acted)
        return -SKATE_EINVAL;
    logits = r->frag.inputs + row * s->n_inputs;
    memcpy(r->frag.obs + row * s->obs_dim, r->now,
           (size_t)s->envs * s->obs_dim * sizeof(float));
    policy_logits(r->policy, r->now, s->envs, logits);
    e = policy_choose(r->policy, logits, s->envs, 1, r->frag.action + row, r->frag.logp + row);
    if (e < 0)
        return e;
    r->acted = 1;
    r->env = 0;
    *ret = r->frag.action + row;
    return 0;
}

static void flush_boots(struct rollout *r) {
    float values[BOOT_MAX];

    policy_values(r->policy, r->boot_obs, r->n_boot, values);
    for (uint32_t i = 0; i < r->n_boot; i++)
        r->frag.boot[r->boot_row[i]] = values[i];
    r->n_boot = 0;
}

static void end_episode(struct rollout *r, uint32_t env) {
    struct frag_header *h = r->frag.header;

    SKATE_ASSERT(h->episodes < (uint64_t)r->shape.steps * r->shape.envs);
    r->frag.episode_reward[h->episodes] = r->reward_sum[env];
    r->frag.episode_len[h->episodes] = r->length[env];
    h->episodes++;
    r->reward_sum[env] = 0.0;
    r->length[env] = 0;
}

int rollout_step(struct rollout *r, uint32_t env, double reward, uint8_t flags) {
    const struct frag_shape *s = &r->shape;
    size_t row = (size_t)r->step * s->envs + env;
    uint32_t done = r->step + 1;

    if (!r->acted || env != r->env)
        return -SKATE_EINVAL;
    flags &= GAE_TERMINATED | GAE_TRUNCATED;
    r->reward_sum[env] += reward;
    r->length[env]++;
    if (!isfinite((float)reward)) {
        r->bad = (struct rollout_bad){ "reward", env, 0, r->length[env], reward };
        return -SKATE_EINVAL;
    }
    if (rollout_check(r, env) < 0)
        return -SKATE_EINVAL;
    if (flags)
        end_episode(r, env);
    else if (done == s->steps || done % r->cut == 0)
        flags = GAE_CUT;
    r->frag.reward[row] = (float)reward;
    r->frag.flags[row] = flags;
    r->frag.boot[row] = 0.0f;
    if (flags && !(flags & GAE_TERMINATED)) {
        memcpy(r->boot_obs + (size_t)r->n_boot * s->obs_dim, rollout_obs(r, env),
               s->obs_dim * sizeof(float));
        r->boot_row[r->n_boot++] = row;
        if (r->n_boot == BOOT_MAX)
            flush_boots(r);
    }
    if (++r->env == s->envs) {
        r->acted = 0;
        r->step++;
    }
    return 0;
}

int rollout_finish(struct rollout *r) {
    if (!rollout_is_full(r))
        return -SKATE_EINVAL;
    flush_boots(r);
    policy_values(r->policy, r->frag.obs, (size_t)r->shape.steps * r->shape.envs,
                  r->frag.value);
    r->frag.header->worker = r->worker;
    r->frag.header->policy_version = r->policy->version;
    r->frag.header = NULL;
    return 0;
}

static size_t now_bytes(const struct rollout *r) {
    return (size_t)r->shape.envs * r->shape.obs_dim * sizeof *r->now;
}

size_t rollout_state_bytes(const struct rollout *r) {
    return sizeof r->policy->rng.s +
           r->shape.envs * (sizeof *r->reward_sum + sizeof *r->length) + now_bytes(r);
}

void rollout_get_state(const struct rollout *r, void *block) {
    char *at = block;

    memcpy(at, r->policy->rng.s, sizeof r->policy->rng.s);
    at += sizeof r->policy->rng.s;
    memcpy(at, r->reward_sum, r->shape.envs * sizeof *r->reward_sum);
    at += r->shape.envs * sizeof *r->reward_sum;
    memcpy(at, r->length, r->shape.envs * sizeof *r->length);
    at += r->shape.envs * sizeof *r->length;
    memcpy(at, r->now, now_bytes(r));
}

int rollout_set_state(struct rollout *r, const void *block, size_t bytes) {
    const char *at = block;

    if (bytes != rollout_state_bytes(r) || r->frag.header)
        return -SKATE_EINVAL;
    memcpy(r->policy->rng.s, at, sizeof r->policy->rng.s);
    at += sizeof r->policy->rng.s;
    memcpy(r->reward_sum, at, r->shape.envs * sizeof *r->reward_sum);
    at += r->shape.envs * sizeof *r->reward_sum;
    memcpy(r->length, at, r->shape.envs * sizeof *r->length);
    at += r->shape.envs * sizeof *r->length;
    memcpy(r->now, at, now_bytes(r));
    for (uint32_t i = 0; i < r->shape.envs; i++)
        if (!isfinite(r->reward_sum[i]) || r->length[i] < 0 || rollout_check(r, i) < 0) {
            memset(r->now, 0, now_bytes(r));
            rollout_reset(r);
            return -SKATE_EINVAL;
        }
    return 0;
}
