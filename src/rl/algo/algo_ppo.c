/* algo_ppo.c - PPO and DDPPO on the tape: what the fused learner (learner.h) does not do:
 * continuous and many-part actions, images, LSTMs, shared layers, gradients for an all-reduce.
 *
 * The loss and all around it are ppo.h's: the clipped surrogate on advantages standardised over the
 * batch, an adapted KL(old || new), the value loss clipped against the old value (vf_clip_mode
 * "value") or cut itself ("loss"), num_sgd_iter passes over minibatches, shuffled unless
 * shuffle_sequences is false (of whole sequences with an LSTM; what is left over is not used in
 * that pass, or with wrap_minibatches goes over into the next). kl_update "mean" or "last": which
 * minibatches' KL adapts the coefficient. DDPPO is the same with gradient() and apply(), one
 * minibatch at a time; its KL coefficient is 0.
 * One owner, never blocks. Tests: tests/unit/rl_algo_test.c, tests/rl/test_on_policy_math.py. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rl/algo/onpol.h"

struct ppo {
    struct onpol base;          /* first */
    struct onpol_gae gae;
    float clip, vf_clip, vf_coeff, kl_target;
    int minibatch, passes;
    bool use_kl, standardise, vf_clip_loss, kl_last, shuffled, wrap;
    int entropy_coeff, kl_coeff;        /* numbers of variables */
    uint32_t *order;            /* of rows or sequences */
    size_t room;
    float *adv, *target;        /* of the batch: they outlive the minibatches */
};

enum { TERM_POLICY, TERM_VALUE, TERM_ENTROPY, TERM_KL, TERM_TOTAL, TERMS };

static void close_ppo(struct algo *a) {
    struct ppo *g = a->own;

    if (g) {
        free(g->order);
        free(g->adv);
        free(g->target);
    }
    onpol_close(a);
}

static int make(struct algo *a, const struct algo_setup *s, bool shared, struct skate_error *err) {
    struct ppo *g = calloc(1, sizeof *g);
    double minibatch, passes;
    int r;

    if (!g)
        return -SKATE_ENOMEM;
    a->own = g;
    minibatch = algo_num(s, "sgd_minibatch_size", shared ? 50.0 : 128.0);
    passes = algo_num(s, "num_sgd_iter", shared ? 10.0 : 30.0);
    g->gae.gamma = (float)algo_num(s, "gamma", 0.99);
    g->gae.lambda = (float)algo_num(s, "lambda", 1.0);
    g->gae.use_gae = g->gae.use_critic = true;
    g->clip = (float)algo_num(s, "clip_param", 0.3);
    g->vf_clip = (float)algo_num(s, "vf_clip_param", 10.0);
    g->vf_coeff = (float)algo_num(s, "vf_loss_coeff", 1.0);
    g->vf_clip_loss = strcmp(algo_text(s, "vf_clip_mode", "value"), "loss") == 0;
    g->kl_last = strcmp(algo_text(s, "kl_update", "mean"), "last") == 0;
    g->wrap = algo_flag(s, "wrap_minibatches", false);
    g->shuffled = algo_flag(s, "shuffle_sequences", true);
    g->standardise = algo_flag(s, "standardize_advantages", true);
    g->kl_target = (float)algo_num(s, "kl_target", 0.01);
    g->entropy_coeff = algo_var(a, "entropy_coeff", algo_num(s, "entropy_coeff", 0.0));
    g->kl_coeff = algo_var(a, "kl_coeff", algo_num(s, "kl_coeff", shared ? 0.0 : 0.2));
    g->use_kl = a->vars[g->kl_coeff] > 0.0;
    if (!(minibatch >= 1.0 && minibatch <= 1e8) || !(passes >= 1.0 && passes <= 1e6))
        return err_fail(err, -SKATE_EINVAL, "sgd_minibatch_size and num_sgd_iter must be >= 1");
    g->minibatch = (int)minibatch;
    g->passes = (int)passes;
    r = onpol_init(a, &g->base, s, true, err);
    return r < 0 ? r : onpol_optim(a, &g->base, s, 5e-5, err);
}

static int ppo_make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    return make(a, s, false, err);
}

static int ddppo_make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    return make(a, s, true, err);
}

/* ---- the batch ---- */

static int grow(struct ppo *g, int rows) {
    size_t n = (size_t)rows;

    if (n <= g->room)
        return 0;
    free(g->order);
    free(g->adv);
    free(g->target);
    g->order = malloc(2 * n * sizeof *g->order);   /* with what is left over */
    g->adv = malloc(n * sizeof *g->adv);
    g->target = malloc(n * sizeof *g->target);
    g->room = g->order && g->adv && g->target ? n : 0;
    return g->room ? 0 : -SKATE_ENOMEM;
}

/* To mean 0 and deviation 1 over the rows that count. */
static void standardise(float *x, const float *mask, int n) {
    double sum = 0.0, square = 0.0, count = 0.0, mean, std;

    for (int i = 0; i < n; i++) {
        if (mask && mask[i] == 0.0f)
            continue;
        sum += (double)x[i];
        count += 1.0;
    }
    mean = count > 0.0 ? sum / count : 0.0;
    for (int i = 0; i < n; i++)
        if (!mask || mask[i] != 0.0f)
            square += ((double)x[i] - mean) * ((double)x[i] - mean);
    std = count > 0.0 ? sqrt(square / count) : 0.0;
    std = std > 1e-4 ? std : 1e-4;
    for (int i = 0; i < n; i++)
        x[i] = (float)(((double)x[i] - mean) / std);
}

/* Advantages and targets of the whole batch into g->adv and g->target. A batch that brings
 * "standardized" advantages (one minibatch of many) keeps them as they are. */
static int prepare(struct algo *a, const struct algo_batch *b, bool whole,
                   struct skate_error *err) {
    struct ppo *g = a->own;
    const float *adv, *target, *mask = NULL;
    int r;

    onpol_reset(&g->base);
    r = onpol_advantages(a, &g->base, b, &g->gae, &adv, &target, err);
    if (r == 0)
        r = grow(g, b->rows);
    if (r < 0)
        return r;
    memcpy(g->adv, adv, (size_t)b->rows * sizeof *adv);
    memcpy(g->target, target, (size_t)b->rows * sizeof *target);
    if (algo_col(b, "mask") && !(mask = algo_f32(b, "mask", 1, err)))
        return -SKATE_EINVAL;
    if (whole && g->standardise)
        standardise(g->adv, mask, b->rows);
    return 0;
}

/* ---- the loss ---- */

struct mini {
    struct onpol_rows v;
    struct onpol_out out;
    const void *actions;
    const float *mask, *logp, *inputs, *vf, *adv, *target;
    double valid;
};

static int columns(struct algo *a, struct ppo *g, struct mini *x, struct skate_error *err) {
    struct onpol *o = &g->base;

    x->actions = onpol_actions(a, o, &x->v, err);
    x->mask = x->actions ? onpol_mask(o, &x->v, &x->valid, err) : NULL;
    x->logp = x->mask ? onpol_f32(o, &x->v, "logp", 1, err) : NULL;
    x->vf = x->logp ? onpol_f32(o, &x->v, "vf", 1, err) : NULL;
    x->inputs = x->vf ? onpol_f32(o, &x->v, "inputs", a->n_inputs, err) : NULL;
    if (!x->inputs)
        return -SKATE_EINVAL;
    x->adv = onpol_order(o, &x->v, g->adv, 1);
    x->target = onpol_order(o, &x->v, g->target, 1);
    return x->adv && x->target ? 0 : -SKATE_ENOMEM;
}

static tvar surrogate(struct algo *a, const struct ppo *g, const struct mini *x) {
    struct tape *t = a->tape;
    int n = x->v.rows;
    tvar adv = t_data(t, x->adv, n, 1), logp = algo_logp(a, x->out.inputs, x->actions);
    tvar ratio = t_exp(t, t_sub(t, logp, t_data(t, x->logp, n, 1)));

    return t_min(t, t_mul(t, adv, ratio),
                 t_mul(t, adv, t_clip(t, ratio, 1.0f - g->clip, 1.0f + g->clip)));
}

static tvar value_loss(struct algo *a, const struct ppo *g, const struct mini *x) {
    struct tape *t = a->tape;
    int n = x->v.rows;
    tvar old = t_data(t, x->vf, n, 1), target = t_data(t, x->target, n, 1);
    tvar error = t_square(t, t_sub(t, x->out.value, target)), move;

    if (g->vf_clip_loss)
        return t_clip(t, error, 0.0f, g->vf_clip);
    move = t_clip(t, t_sub(t, x->out.value, old), -g->vf_clip, g->vf_clip);
    return t_max(t, error,
                 t_square(t, t_sub(t, t_add(t, old, move), target)));
}

/* Gradients of the loss over picked rows (NULL: all); the terms' means are added to sums[]. */
static int minibatch(struct algo *a, const struct algo_batch *b, const uint32_t *pick, int n,
                     double *sums, struct skate_error *err) {
    struct ppo *g = a->own;
    struct onpol *o = &g->base;
    struct tape *t = a->tape;
    struct mini x = { 0 };
    tvar m, terms[TERMS], sum;
    int r;

    onpol_reset(o);
    tape_reset(t);
    r = pick ? onpol_pick(o, b, pick, n, &x.v) : onpol_all(o, b, &x.v, err);
    if (r == 0)
        r = columns(a, g, &x, err);
    if (r == 0)
        r = onpol_forward(a, o, &x.v, NULL, false, &x.out, err);
    if (r < 0)
        return r;
    m = t_affine(t, t_data(t, x.mask, x.v.rows, 1), (float)(1.0 / x.valid), 0);
    terms[TERM_POLICY] = t_affine(t, surrogate(a, g, &x), -1, 0);
    terms[TERM_VALUE] = value_loss(a, g, &x);
    terms[TERM_ENTROPY] = algo_entropy(a, x.out.inputs);
    terms[TERM_KL] = algo_kl(a, t_data(t, x.inputs, x.v.rows, a->n_inputs), x.out.inputs);
    for (int i = 0; i < TERM_TOTAL; i++)
        terms[i] = t_sum(t, t_mul(t, terms[i], m));
    sum = t_add(t, terms[TERM_POLICY], t_affine(t, terms[TERM_VALUE], g->vf_coeff, 0));
    sum = t_add(t, sum, t_affine(t, terms[TERM_ENTROPY], (float)-a->vars[g->entropy_coeff], 0));
    if (g->use_kl)
        sum = t_add(t, sum, t_affine(t, terms[TERM_KL], (float)a->vars[g->kl_coeff], 0));
    terms[TERM_TOTAL] = sum;
    r = onpol_backward(a, sum, err);
    for (int i = 0; r == 0 && i < TERMS; i++)
        sums[i] += (double)tape_scalar(t, terms[i]);
    return r;
}

static void tell(struct algo *a, const struct ppo *g, const double *sums, int n,
                 struct algo_stats *st) {
    algo_stat(st, "total_loss", sums[TERM_TOTAL] / n);
    algo_stat(st, "policy_loss", sums[TERM_POLICY] / n);
    algo_stat(st, "vf_loss", sums[TERM_VALUE] / n);
    algo_stat(st, "kl", sums[TERM_KL] / n);
    algo_stat(st, "entropy", sums[TERM_ENTROPY] / n);
    algo_stat(st, "entropy_coeff", a->vars[g->entropy_coeff]);
    algo_stat(st, "cur_kl_coeff", a->vars[g->kl_coeff]);
    algo_stat(st, "cur_lr", (double)a->optims[0].opts.lr);
}

/* ---- updates ---- */

static void shuffle(struct algo *a, uint32_t *order, int n) {
    const struct ppo *g = a->own;

    for (int i = n - 1; g->shuffled && i > 0; i--) {
        uint32_t j = rl_rng_below(&a->rng, (uint32_t)i + 1), keep = order[i];

        order[i] = order[j];
        order[j] = keep;
    }
}

static int learn(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                 struct skate_error *err) {
    struct ppo *g = a->own;
    int unit = g->base.cell > 0 ? b->steps : 1, n = b->rows / unit;
    int each = g->minibatch / unit > 0 ? g->minibatch / unit : 1, done = 0, left = 0;
    const float *vf = algo_f32(b, "vf", 1, err);
    double sums[TERMS] = { 0 }, before = 0.0;   /* before: the KLs but for the last */
    int r = vf ? prepare(a, b, true, err) : -SKATE_EINVAL;

    if (r < 0)
        return r;
    each = each < n ? each : n;
    for (int k = 0; k < g->passes || left > 0; k++) {
        int at = 0;

        for (int i = 0; i < n; i++)
            g->order[left + i] = (uint32_t)i;
        shuffle(a, g->order + left, n);
        for (; at + each <= left + n && (k < g->passes || at == 0); at += each, done++) {
            before = sums[TERM_KL];
            r = minibatch(a, b, g->order + at, each, sums, err);
            if (r == 0)
                r = onpol_step(a, err);
            if (r < 0)
                return r;
        }
        left = g->wrap && k < g->passes ? left + n - at : 0;
        memmove(g->order, g->order + at, (size_t)left * sizeof *g->order);
    }
    tell(a, g, sums, done, st);
    algo_stat(st, "vf_explained_var", onpol_explained(vf, g->target, NULL, b->rows));
    if (g->use_kl)
        a->vars[g->kl_coeff] = onpol_adapt_kl(a->vars[g->kl_coeff],
                                              g->kl_last ? sums[TERM_KL] - before
                                                         : sums[TERM_KL] / done,
                                              (double)g->kl_target);
    return 0;
}

static int gradient(struct algo *a, const struct algo_batch *b, float *flat,
                    struct algo_stats *st, struct skate_error *err) {
    struct ppo *g = a->own;
    double sums[TERMS] = { 0 };
    int r = prepare(a, b, !algo_col(b, "advantages"), err);

    if (r == 0)
        r = minibatch(a, b, NULL, 0, sums, err);
    if (r < 0)
        return r;
    algo_pull_grads(a, flat);
    tell(a, g, sums, 1, st);
    return 0;
}

const struct algo_api algo_ddppo_api = {
    .name = "DDPPO", .make = ddppo_make, .close = close_ppo, .act = onpol_act, .learn = learn,
    .gradient = gradient, .apply = onpol_apply,
};
const struct algo_api algo_ppo_api = {
    .name = "PPO", .make = ppo_make, .close = close_ppo, .act = onpol_act, .learn = learn,
    .gradient = gradient, .apply = onpol_apply,
};
