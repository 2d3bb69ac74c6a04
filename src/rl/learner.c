/* learner.c - see learner.h: options, the train batch, one update, the state for checkpoints.
 * The epochs themselves are in learner_step.c. Called by one thread at a time; learner_update
 * blocks for the whole update. Tests: tests/unit/rl_ppo_test.c, tests/rl/test_engine.py. */
#include "rl/learner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/futex.h"
#include "rl/dist.h"
#include "rl/gae.h"
#include "rl/learner_int.h"

static const float KL_COEFF_MAX = 1e20f, KL_COEFF_MIN = 1e-20f;

void learner_opts_default(struct learner_opts *opts) {
    *opts = (struct learner_opts){
        .gamma = 0.99f, .lambda = 1.0f, .lr = 5e-5f, .beta1 = 0.9f, .beta2 = 0.999f,
        .adam_eps = 1e-8f, .clip = 0.3f, .vf_clip = 10.0f, .vf_coeff = 1.0f,
        .entropy_coeff = 0.0f, .kl_coeff = 0.2f, .kl_target = 0.01f, .grad_clip = 0.0f,
        .shuffle = true, .minibatch = 128, .epochs = 30, .threads = 1, .seed = 0,
    };
}

static int is_in(float x, float low, float high) {
    return isfinite(x) && x >= low && x <= high;
}

static int opts_are_valid(const struct learner_opts *o) {
    return is_in(o->gamma, 0.0f, 1.0f) && is_in(o->lambda, 0.0f, 1.0f) &&
           is_in(o->lr, 0.0f, 1e6f) && is_in(o->beta1, 0.0f, 0.999999f) &&
           is_in(o->beta2, 0.0f, 0.9999999f) && is_in(o->adam_eps, 1e-20f, 1.0f) &&
           is_in(o->clip, 0.0f, 1e6f) && is_in(o->vf_clip, 0.0f, 1e30f) &&
           is_in(o->vf_coeff, 0.0f, 1e6f) && is_in(o->entropy_coeff, -1e6f, 1e6f) &&
           is_in(o->kl_coeff, 0.0f, 1e30f) && is_in(o->kl_target, 0.0f, 1e30f) &&
           is_in(o->grad_clip, 0.0f, 1e30f) && o->minibatch > 0 && o->minibatch <= 1 << 20 &&
           o->epochs > 0 && o->threads > 0 && o->threads <= TEAM_MAX;
}

/* Even teams train the two nets apart; odd ones, and a clip over both, train them together. */
static void make_gangs(struct learner *l) {
    int size = l->opts.threads;

    if (l->opts.grad_clip > 0.0f || (size > 1 && size % 2 == 1)) {
        l->n_gangs = 1;
        l->gangs[0] = (struct gang){ { &l->trunks[0], &l->trunks[1] }, 2, { 0 } };
        team_barrier_init(&l->gangs[0].barrier, size);
        return;
    }
    l->n_gangs = 2;
    for (int i = 0; i < 2; i++) {
        l->gangs[i] = (struct gang){ { &l->trunks[i], NULL }, 1, { 0 } };
        team_barrier_init(&l->gangs[i].barrier, size > 1 ? size / 2 : 1);
    }
}

int learner_new(struct policy *policy, const struct learner_opts *opts, struct learner **ret) {
    struct learner *l;
    int r;

    SKATE_ASSERT(policy);
    SKATE_ASSERT(opts);
    if (!opts_are_valid(opts))
        return -SKATE_EINVAL;
    l = calloc(1, sizeof *l);
    if (!l)
        return -SKATE_ENOMEM;
    l->policy = policy;
    l->opts = *opts;
    l->trunks[0].net = &policy->pi;
    l->trunks[1].net = &policy->vf;
    l->trunks[1].is_value = 1;
    make_gangs(l);
    r = team_new(opts->threads, &l->team);
    for (int i = 0; i < 2 && r == 0; i++)
        r = learner_trunk_prepare(&l->trunks[i], opts->minibatch);
    if (r < 0) {
        learner_free(l);
        return r;
    }
    *ret = l;
    return 0;
}

static void free_batch(struct learner *l) {
    struct ppo_batch *b = &l->batch;

    free(b->obs);
    free(b->old_log_probs);
    free(b->logp);
    free(b->value);
    free(b->advantage);
    free(b->target);
    free(b->action);
    for (int i = 0; i < TEAM_MAX; i++) {
        free(l->order[i]);
        l->order[i] = NULL;
    }
    *b = (struct ppo_batch){ 0 };
    l->batch_max = 0;
}

struct learner *learner_free(struct learner *l) {
    if (!l)
        return NULL;
    team_free(l->team);
    learner_trunk_release(&l->trunks[0]);
    learner_trunk_release(&l->trunks[1]);
    free_batch(l);
    free(l);
    return NULL;
}

struct learner_opts *learner_opts(struct learner *l) {
    return &l->opts;
}

static int alloc_batch(struct learner *l, size_t n) {
    struct ppo_batch *b = &l->batch;
    size_t width = (size_t)l->policy->opts.obs_dim, actions = (size_t)l->policy->opts.n_actions;

    if (n > l->batch_max) {
        free_batch(l);
        b->obs = mlp_alloc(n * width);
        b->old_log_probs = mlp_alloc(n * actions);
        b->logp = mlp_alloc(n);
        b->value = mlp_alloc(n);
        b->advantage = mlp_alloc(n);
        b->target = mlp_alloc(n);
        b->action = calloc(n, sizeof *b->action);
        if (!b->obs || !b->old_log_probs || !b->logp || !b->value || !b->advantage ||
            !b->target || !b->action)
            return -SKATE_ENOMEM;
        for (int i = 0; i < l->opts.threads; i++) {
            l->order[i] = calloc(2 * n, sizeof *l->order[i]);   /* with what is left over */
            if (!l->order[i])
                return -SKATE_ENOMEM;
        }
        l->batch_max = n;
    }
    b->obs_dim = (int)width;
    b->n_actions = (int)actions;
    b->n = n;
    return 0;
}

static void append(struct learner *l, const struct frag *f, size_t at) {
    const struct frag_shape *s = &f->header->shape;
    struct ppo_batch *b = &l->batch;
    size_t rows = (size_t)s->steps * s->envs, actions = s->n_inputs;

    memcpy(b->obs + at * s->obs_dim, f->obs, rows * s->obs_dim * sizeof(float));
    memcpy(b->logp + at, f->logp, rows * sizeof(float));
    memcpy(b->value + at, f->value, rows * sizeof(float));
    memcpy(b->action + at, f->action, rows * sizeof(int32_t));
    for (size_t i = 0; i < rows; i++)
        dist_log_softmax(f->inputs + i * actions, b->old_log_probs + (at + i) * actions,
                         (int)actions);
    for (uint32_t e = 0; e < s->envs; e++) {
        struct gae_column column = { f->reward + e, f->value + e, f->boot + e, f->flags + e,
                                     s->steps, s->envs };

        gae_column(&column, l->opts.gamma, l->opts.lambda, b->advantage + at + e,
                   b->target + at + e);
    }
}

/* Advantages get mean 0 and deviation 1 over the whole train batch, as RLlib does. */
static void standardise(struct ppo_batch *b, struct learner_stats *stats) {
    double sum = 0.0, square = 0.0, mean, std;

    for (size_t i = 0; i < b->n; i++)
        sum += (double)b->advantage[i];
    mean = sum / (double)b->n;
    for (size_t i = 0; i < b->n; i++) {
        double x = (double)b->advantage[i] - mean;

        square += x * x;
    }
    std = sqrt(square / (double)b->n);
    stats->advantage_mean = mean;
    stats->advantage_std = std;
    std = std > 1e-4 ? std : 1e-4;
    for (size_t i = 0; i < b->n; i++)
        b->advantage[i] = (float)(((double)b->advantage[i] - mean) / std);
}

static int build_batch(struct learner *l, const struct frag *frags, size_t n_frags,
                       struct learner_stats *stats, struct skate_error *err) {
    size_t n = 0, at = 0;
    int r;

    for (size_t i = 0; i < n_frags; i++) {
        const struct frag_shape *s = &frags[i].header->shape;
        const char *bad;

        if ((int)s->obs_dim != l->policy->opts.obs_dim ||
            (int)s->n_inputs != l->policy->opts.n_actions)
            return err_fail(err, -SKATE_EINVAL,
                              "fragment %zu has obs_dim=%u n_inputs=%u, the policy has %d and %d",
                              i, s->obs_dim, s->n_inputs, l->policy->opts.obs_dim,
                              l->policy->opts.n_actions);
        bad = frag_bad_field(&frags[i]);
        if (bad)
            return err_fail(err, -SKATE_EINVAL, "fragment %zu: field '%s' holds a value that "
                              "is not finite or out of range", i, bad);
        n += (size_t)s->steps * s->envs;
    }
    if (n == 0 || n > FRAG_ROWS_MAX)
        return err_fail(err, -SKATE_EINVAL, "a train batch needs 1 to %d rows, got %zu",
                          FRAG_ROWS_MAX, n);
    r = alloc_batch(l, n);
    if (r < 0)
        return err_fail(err, r, "no memory for a train batch of %zu rows", n);
    for (size_t i = 0; i < n_frags; i++) {
        append(l, &frags[i], at);
        at += (size_t)frags[i].header->shape.steps * frags[i].header->shape.envs;
    }
    standardise(&l->batch, stats);
    return 0;
}

static void fill_stats(const struct learner *l, uint64_t minibatches,
                       struct learner_stats *stats) {
    const struct ppo_sums *pi = &l->trunks[0].sums, *vf = &l->trunks[1].sums;
    double n = (double)minibatches * (double)l->trunks[0].rows;

    stats->policy_loss = pi->policy_loss / n;
    stats->kl = pi->kl / n;
    stats->entropy = pi->entropy / n;
    stats->vf_loss = vf->vf_loss / n;
    stats->vf_explained_var = l->trunks[1].explained_var / (double)minibatches;
    stats->cur_kl_coeff = (double)l->params.kl_coeff;
    stats->cur_lr = (double)l->opts.lr;
    stats->total_loss = stats->policy_loss + stats->cur_kl_coeff * stats->kl +
                        (double)l->params.vf_coeff * stats->vf_loss -
                        (double)l->params.entropy_coeff * stats->entropy;
    stats->samples = l->batch.n;
    stats->minibatches = minibatches;
}

static int run(struct learner *l, const struct frag *frags, size_t n_frags,
               struct learner_stats *stats, struct skate_error *err) {
    const struct learner_opts *o = &l->opts;
    int64_t start = time_now_ns();
    int r = build_batch(l, frags, n_frags, stats, err), rows;

    if (r < 0)
        return r;
    rows = l->batch.n < (size_t)o->minibatch || l->gradient_only ? (int)l->batch.n
                                                                 : o->minibatch;
    l->params = (struct ppo_params){ o->clip, o->vf_clip, o->vf_coeff, o->kl_coeff,
                                     o->entropy_coeff, o->vf_clip_loss };
    for (int i = 0; i < 2; i++) {
        r = learner_trunk_prepare(&l->trunks[i], rows);
        if (r < 0)
            return err_fail(err, r, "cannot prepare minibatches of %d rows", rows);
        l->trunks[i].sums = (struct ppo_sums){ 0 };
        l->trunks[i].explained_var = 0.0;
    }
    r = team_run(l->team, learner_thread, l);
    if (r < 0)
        return err_fail(err, r, "the learner belongs to another process");
    fill_stats(l, learner_minibatches(l, l->gradient_only ? 1 : (size_t)o->epochs), stats);
    stats->seconds = (double)(time_now_ns() - start) * 1e-9;
    return 0;
}

/* RLlib's rule, kept where a float neither overflows nor gets stuck at zero. */
static void adapt_kl(struct learner_opts *o, double kl) {
    if (kl > 2.0 * (double)o->kl_target && o->kl_coeff < KL_COEFF_MAX)
        o->kl_coeff *= 1.5f;
    else if (kl < 0.5 * (double)o->kl_target && o->kl_coeff > KL_COEFF_MIN)
        o->kl_coeff *= 0.5f;
}

int learner_update(struct learner *l, const struct frag *frags, size_t n_frags,
                   struct learner_stats *ret, struct skate_error *err) {
    struct learner_stats stats = { 0 };
    int r;

    SKATE_ASSERT(l);
    SKATE_ASSERT(ret);
    l->gradient_only = 0;
    r = run(l, frags, n_frags, &stats, err);
    if (r < 0)
        return r;
    l->adam_steps += stats.minibatches;
    l->updates++;
    l->policy->version++;
    adapt_kl(&l->opts, l->opts.kl_last
                           ? l->trunks[0].last.kl / (double)l->trunks[0].rows : stats.kl);
    *ret = stats;
    if (!isfinite(stats.total_loss))
        return err_fail(err, -SKATE_EINVAL, "the loss is not finite after %llu updates "
                          "(policy_loss=%g vf_loss=%g kl=%g): the nets have diverged",
                          (unsigned long long)l->updates, stats.policy_loss, stats.vf_loss,
                          stats.kl);
    return 0;
}

int learner_gradient(struct learner *l, const struct frag *frags, size_t n_frags, float *flat,
                     struct learner_stats *ret, struct skate_error *err) {
    struct learner_stats stats = { 0 };
    int r;

    l->gradient_only = 1;
    r = run(l, frags, n_frags, &stats, err);
    l->gradient_only = 0;
    if (r < 0)
        return r;
    mlp_pack_block(&l->policy->pi, l->trunks[0].gradient, flat);
    mlp_pack_block(&l->policy->vf, l->trunks[1].gradient, flat + l->policy->pi.n_params);
    *ret = stats;
    return 0;
}

struct state_header {
    char magic[8];
    uint64_t n_weights, adam_steps, updates, version;
    double kl_coeff;
};

size_t learner_state_bytes(const struct learner *l) {
    return sizeof(struct state_header) + 2 * policy_n_weights(l->policy) * sizeof(float);
}

void learner_get_state(const struct learner *l, void *block) {
    struct state_header h = { .magic = "SKTADAM", .n_weights = policy_n_weights(l->policy),
                              .adam_steps = l->adam_steps, .updates = l->updates,
                              .version = l->policy->version,
                              .kl_coeff = (double)l->opts.kl_coeff };
    float *at = (float *)((char *)block + sizeof h);

    memcpy(block, &h, sizeof h);
    for (int i = 0; i < 2; i++) {
        const struct trunk *t = &l->trunks[i];

        mlp_pack_block(t->net, t->m, at);
        mlp_pack_block(t->net, t->v, at + t->net->n_params);
        at += 2 * t->net->n_params;
    }
}

int learner_set_state(struct learner *l, const void *block, size_t bytes) {
    const float *at = (const float *)((const char *)block + sizeof(struct state_header));
    struct state_header h;

    if (bytes != learner_state_bytes(l))
        return -SKATE_EINVAL;
    memcpy(&h, block, sizeof h);
    if (memcmp(h.magic, "SKTADAM", 8) != 0 || h.n_weights != policy_n_weights(l->policy) ||
        !is_in((float)h.kl_coeff, 0.0f, 1e30f))
        return -SKATE_EINVAL;
    l->adam_steps = h.adam_steps;
    l->updates = h.updates;
    l->policy->version = h.version;
    l->opts.kl_coeff = (float)h.kl_coeff;
    for (int i = 0; i < 2; i++) {
        struct trunk *t = &l->trunks[i];

        mlp_unpack_block(t->net, at, t->m);
        mlp_unpack_block(t->net, at + t->net->n_params, t->v);
        at += 2 * t->net->n_params;
    }
    return 0;
}
