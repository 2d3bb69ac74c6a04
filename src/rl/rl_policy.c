/* rl_policy.c - see rl_policy.h: a policy net and a value net, used by the workers' rollouts, by
 * compute_actions and (its parameters) by the learner. One owner at a time; never blocks.
 * Tests: tests/unit/rl_ppo_test.c, tests/rl/. */
#include "rl/rl_policy.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "rl/dist.h"

static const int tile_rows[POLICY_TILES] = { 32, 8, 1 };
enum { STREAM_INIT = 1, STREAM_ACT = 2 };

static int init_nets(struct policy *p) {
    const struct policy_opts *o = &p->opts;
    int dims[MLP_LAYERS_MAX + 1], n = o->n_hiddens, r;
    struct rl_rng rng;

    dims[0] = o->obs_dim;
    for (int i = 0; i < n; i++)
        dims[i + 1] = o->hiddens[i];
    dims[n + 1] = o->n_actions;
    r = mlp_init(&p->pi, dims, n + 1, o->act);
    if (r < 0)
        return r;
    dims[n + 1] = 1;
    r = mlp_init(&p->vf, dims, n + 1, o->act);
    if (r < 0)
        return r;
    rl_rng_init(&rng, o->seed, STREAM_INIT);
    mlp_randomise(&p->pi, 0.01f, &rng);
    mlp_randomise(&p->vf, 0.01f, &rng);
    for (int l = 0; l <= n; l++) {
        p->h[l] = mlp_alloc((size_t)p->pi.dims[l + 1] * (size_t)tile_rows[0]);
        if (!p->h[l])
            return -SKATE_ENOMEM;
    }
    for (int i = 0; i < POLICY_TILES; i++) {
        r = mlp_tile_init(&p->pi_tile[i], &p->pi, tile_rows[i]);
        if (r == 0)
            r = mlp_tile_init(&p->vf_tile[i], &p->vf, tile_rows[i]);
        if (r < 0)
            return r;
    }
    return 0;
}

int policy_new(const struct policy_opts *opts, struct policy **ret) {
    struct policy *p;
    int r;

    SKATE_ASSERT(opts);
    SKATE_ASSERT(ret);
    if (opts->n_hiddens < 0 || opts->n_hiddens > MLP_LAYERS_MAX - 1)
        return -SKATE_EINVAL;
    p = calloc(1, sizeof *p);
    if (!p)
        return -SKATE_ENOMEM;
    p->opts = *opts;
    rl_rng_init(&p->rng, opts->seed, STREAM_ACT);
    r = init_nets(p);
    if (r < 0) {
        policy_free(p);
        return r;
    }
    *ret = p;
    return 0;
}

struct policy *policy_free(struct policy *p) {
    if (!p)
        return NULL;
    mlp_release(&p->pi);
    mlp_release(&p->vf);
    for (int l = 0; l < MLP_LAYERS_MAX; l++)
        free(p->h[l]);
    free(p);
    return NULL;
}

size_t policy_n_weights(const struct policy *p) {
    return p->pi.n_params + p->vf.n_params;
}

void policy_get_weights(const struct policy *p, float *flat) {
    mlp_pack(&p->pi, flat);
    mlp_pack(&p->vf, flat + p->pi.n_params);
}

void policy_set_weights(struct policy *p, const float *flat) {
    mlp_unpack(&p->pi, flat);
    mlp_unpack(&p->vf, flat + p->pi.n_params);
}

static void infer(struct policy *p, const struct mlp *net, const struct mlp_tile *tiles,
                  const float *obs, size_t n, float *out) {
    size_t in = (size_t)net->dims[0], width = (size_t)net->dims[net->n_layers];
    float *h[MLP_LAYERS_MAX];

    memcpy(h, p->h, sizeof h);
    for (int i = 0; i < POLICY_TILES; i++) {
        size_t rows = (size_t)tile_rows[i];

        for (; n >= rows; n -= rows) {
            h[net->n_layers - 1] = out;
            mlp_forward(net, &tiles[i], obs, h);
            obs += rows * in;
            out += rows * width;
        }
    }
}

void policy_logits(struct policy *p, const float *obs, size_t n, float *logits) {
    infer(p, &p->pi, p->pi_tile, obs, n, logits);
}

void policy_values(struct policy *p, const float *obs, size_t n, float *values) {
    infer(p, &p->vf, p->vf_tile, obs, n, values);
}

int policy_choose(struct policy *p, const float *logits, size_t n, int explore,
                  int32_t *actions, float *logp) {
    int width = p->opts.n_actions;
    float small[64], *lp = small;
    int r = 0;

    if (width > 64) {
        lp = malloc(sizeof(float) * (size_t)width);
        if (!lp)
            return -SKATE_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        const float *row = logits + i * (size_t)width;

        dist_log_softmax(row, lp, width);
        if (!isfinite(lp[0])) {     /* one bad logit makes the sum, so each entry, NaN or -inf */
            r = -SKATE_EINVAL;
            break;
        }
        actions[i] = explore ? dist_sample(lp, width, &p->rng) : dist_argmax(row, width);
        if (logp)
            logp[i] = lp[actions[i]];
    }
    if (lp != small)
        free(lp);
    return r;
}
