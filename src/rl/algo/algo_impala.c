/* algo_impala.c - IMPALA and APPO: batches of an older policy, put right by V-trace.
 *
 * IMPALA: -sum(logp * adv) + vf_loss_coeff * 0.5 * sum((v - vs)^2) - entropy_coeff * sum(H), vs and
 *   adv by V-trace of the net that learns (sums as in RLlib; option loss_mean: means).
 * APPO: PPO's clipped surrogate on V-trace's advantages (or GAE's: vtrace off), where the weights
 *   are those of a target net, and the ratio to the behaviour is bounded by it (in 0..2); means;
 *   with use_kl_loss an adapted KL(target || new). The target follows every
 *   target_update_frequency updates.
 * What comes after a batch's last step is judged by the critic (RLlib 1.8 drops that step).
 * One owner, never blocks. Tests: tests/unit/rl_algo_test.c, tests/rl/test_on_policy_math.py. */
#include <stdlib.h>
#include <string.h>

#include "rl/algo/onpol.h"
#include "rl/vtrace.h"

struct impala {
    struct onpol base;          /* first */
    struct onpol_gae gae;
    struct vtrace_opts vtrace;
    bool appo, use_vtrace, use_kl, mean;
    float vf_coeff, clip, kl_target, tau, old_clip;
    int passes, target_every;
    int entropy_coeff, kl_coeff, updates;       /* numbers of variables */
    struct params *target;
};

static int read_opts(struct algo *a, struct impala *g, const struct algo_setup *s,
                     struct skate_error *err) {
    double passes = algo_num(s, "num_sgd_iter", 1.0);
    double every = algo_num(s, "target_update_frequency", 1.0);

    g->gae.gamma = g->vtrace.gamma = (float)algo_num(s, "gamma", 0.99);
    g->gae.lambda = (float)algo_num(s, "lambda", 1.0);
    g->gae.use_gae = g->gae.use_critic = true;
    g->vtrace.rho_max = (float)algo_num(s, "vtrace_clip_rho_threshold", 1.0);
    g->vtrace.pg_rho_max = (float)algo_num(s, "vtrace_clip_pg_rho_threshold", 1.0);
    g->vf_coeff = (float)algo_num(s, "vf_loss_coeff", 0.5);
    g->mean = g->appo || algo_flag(s, "loss_mean", false);
    g->use_vtrace = algo_flag(s, "vtrace", true);
    g->entropy_coeff = algo_var(a, "entropy_coeff", algo_num(s, "entropy_coeff", 0.01));
    g->updates = algo_var(a, NULL, 0.0);
    if (g->appo) {
        g->clip = (float)algo_num(s, "clip_param", 0.4);
        g->use_kl = algo_flag(s, "use_kl_loss", false);
        g->kl_coeff = algo_var(a, "kl_coeff", algo_num(s, "kl_coeff", 1.0));
        g->kl_target = (float)algo_num(s, "kl_target", 0.01);
        g->tau = (float)algo_num(s, "tau", 1.0);
        g->old_clip = (float)algo_num(s, "target_worker_clipping", 2.0);
    }
    if (!(passes >= 1.0 && passes <= 1e4) || !(every >= 1.0 && every <= 1e9))
        return err_fail(err, -SKATE_EINVAL, "num_sgd_iter and target_update_frequency must be "
                        ">= 1");
    g->passes = (int)passes;
    g->target_every = (int)every;
    return 0;
}

static int make(struct algo *a, const struct algo_setup *s, bool appo, struct skate_error *err) {
    struct impala *g = calloc(1, sizeof *g);
    int r;

    if (!g)
        return -SKATE_ENOMEM;
    a->own = g;
    g->appo = appo;
    r = read_opts(a, g, s, err);
    if (r == 0)
        r = onpol_init(a, &g->base, s, true, err);
    if (r == 0)
        r = onpol_optim(a, &g->base, s, 5e-4, err);
    if (r == 0 && appo) {
        g->target = onpol_twin(a, &g->base);
        r = g->target ? 0 : -SKATE_ENOMEM;
    }
    return r;
}

static int impala_make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    return make(a, s, false, err);
}

static int appo_make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    return make(a, s, true, err);
}

/* One pass over a batch; all arrays but logp_mu's kind are in the view's order. */
struct pass {
    const struct algo_batch *b;
    struct onpol_rows v;
    struct onpol_out out;
    const void *actions;
    const float *mask, *mu, *adv, *vs;
    double valid;
    tvar m, logp, old_logp, old_inputs;
    tvar policy, value, entropy, kl;    /* sums over the rows that count */
};

/* A view's column of numbers as a new array in batch order. */
static float *scattered(struct onpol *o, const struct onpol_rows *v, const float *x) {
    float *y = onpol_room(o, (size_t)v->rows * sizeof *y);

    for (int i = 0; y && i < v->rows; i++)
        y[v->index ? v->index[i] : (uint32_t)i] = x[i];
    return y;
}

/* V-trace in the batch's order, its results in the view's. `logp`: of the policy that is judged. */
static int trace(struct algo *a, struct impala *g, struct pass *x, tvar logp,
                 const uint8_t *flags, const float *boot, struct skate_error *err) {
    struct onpol *o = &g->base;
    size_t n = (size_t)x->b->rows;
    float *adv = onpol_room(o, n * sizeof *adv), *vs = onpol_room(o, n * sizeof *vs);
    struct vtrace_column c = { .flags = flags, .boot = boot, .n = n };

    c.reward = algo_f32(x->b, "rewards", 1, err);
    c.old_logp = algo_f32(x->b, "logp", 1, err);
    if (!c.reward || !c.old_logp)
        return -SKATE_EINVAL;
    c.logp = scattered(o, &x->v, tape_value(a->tape, logp));
    c.value = scattered(o, &x->v, tape_value(a->tape, x->out.value));
    if (!adv || !vs || !c.logp || !c.value)
        return -SKATE_ENOMEM;
    vtrace(&c, &g->vtrace, vs, adv);
    x->adv = onpol_order(o, &x->v, adv, 1);
    x->vs = onpol_order(o, &x->v, vs, 1);
    return x->adv && x->vs ? 0 : -SKATE_ENOMEM;
}

/* View, columns, nets. */
static int forward(struct algo *a, struct impala *g, struct pass *x, struct skate_error *err) {
    struct onpol *o = &g->base;
    struct onpol_out old;
    int r = onpol_all(o, x->b, &x->v, err);

    if (r < 0)
        return r;
    x->actions = onpol_actions(a, o, &x->v, err);
    x->mask = x->actions ? onpol_mask(o, &x->v, &x->valid, err) : NULL;
    x->mu = x->mask ? onpol_f32(o, &x->v, "logp", 1, err) : NULL;
    if (!x->mu)
        return -SKATE_EINVAL;
    r = onpol_forward(a, o, &x->v, NULL, false, &x->out, err);
    if (r < 0)
        return r;
    x->m = t_data(a->tape, x->mask, x->v.rows, 1);
    x->logp = algo_logp(a, x->out.inputs, x->actions);
    if (g->appo && (g->use_vtrace || g->use_kl)) {
        r = onpol_forward(a, o, &x->v, g->target, true, &old, err);
        if (r < 0)
            return r;
        x->old_inputs = old.inputs;
        x->old_logp = algo_logp(a, old.inputs, x->actions);
    }
    if (x->logp == TAPE_BAD || (g->appo && g->use_vtrace && x->old_logp == TAPE_BAD))
        return err_fail(err, tape_error(a->tape), "%s", tape_error_text(a->tape));
    return 0;
}

static tvar masked_sum(struct algo *a, tvar x, tvar mask) {
    return t_sum(a->tape, t_mul(a->tape, x, mask));
}

/* min(A r, A clip(r)), r the ratio to what acted, bounded by the target net's. */
static tvar surrogate(struct algo *a, struct impala *g, struct pass *x, tvar adv) {
    struct tape *t = a->tape;
    int n = x->v.rows;
    tvar mu = t_data(t, x->mu, n, 1), ratio = t_exp(t, t_sub(t, x->logp, mu));

    if (g->use_vtrace) {
        tvar is = t_clip(t, t_exp(t, t_sub(t, mu, x->old_logp)), 0.0f, g->old_clip);

        ratio = t_mul(t, ratio, is);
    }
    return t_min(t, t_mul(t, adv, ratio),
                 t_mul(t, adv, t_clip(t, ratio, 1.0f - g->clip, 1.0f + g->clip)));
}

/* The loss; its terms stay in *x. */
static tvar loss_of(struct algo *a, struct impala *g, struct pass *x) {
    struct tape *t = a->tape;
    int n = x->v.rows;
    tvar adv = t_data(t, x->adv, n, 1), vs = t_data(t, x->vs, n, 1), sum;

    x->policy = masked_sum(a, g->appo ? surrogate(a, g, x, adv) : t_mul(t, x->logp, adv), x->m);
    x->value = t_affine(t, masked_sum(a, t_square(t, t_sub(t, x->out.value, vs)), x->m), 0.5f, 0);
    x->entropy = masked_sum(a, algo_entropy(a, x->out.inputs), x->m);
    sum = t_add(t, t_affine(t, x->policy, -1, 0), t_affine(t, x->value, g->vf_coeff, 0));
    sum = t_add(t, sum, t_affine(t, x->entropy, (float)-a->vars[g->entropy_coeff], 0));
    if (g->use_kl) {
        x->kl = masked_sum(a, algo_kl(a, x->old_inputs, x->out.inputs), x->m);
        sum = t_add(t, sum, t_affine(t, x->kl, (float)a->vars[g->kl_coeff], 0));
    }
    return g->mean ? t_affine(t, sum, (float)(1.0 / x->valid), 0) : sum;
}

static void tell(struct algo *a, struct impala *g, struct pass *x, tvar sum,
                 struct algo_stats *st) {
    struct tape *t = a->tape;
    double n = g->mean ? x->valid : 1.0;

    st->n = 0;
    algo_stat(st, "total_loss", (double)tape_scalar(t, sum));
    algo_stat(st, "policy_loss", -(double)tape_scalar(t, x->policy) / n);
    algo_stat(st, "vf_loss", (double)tape_scalar(t, x->value) / n);
    algo_stat(st, "entropy", (double)tape_scalar(t, x->entropy) / x->valid);
    algo_stat(st, "entropy_coeff", a->vars[g->entropy_coeff]);
    algo_stat(st, "vf_explained_var",
              onpol_explained(tape_value(t, x->out.value), x->vs, x->mask, x->v.rows));
    algo_stat(st, "cur_lr", (double)a->optims[0].opts.lr);
    if (g->use_kl) {
        algo_stat(st, "kl", (double)tape_scalar(t, x->kl) / x->valid);
        algo_stat(st, "cur_kl_coeff", a->vars[g->kl_coeff]);
    }
}

/* Gradients of one pass into the params. */
static int pass(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                struct skate_error *err) {
    struct impala *g = a->own;
    struct onpol *o = &g->base;
    struct pass x = { .b = b, .kl = TAPE_BAD };
    const float *adv = NULL, *target = NULL, *boot = NULL;
    const uint8_t *flags = NULL;
    tvar sum;
    int r = 0;

    onpol_reset(o);
    tape_reset(a->tape);
    if (g->use_vtrace) {
        flags = onpol_flags(o, b, err);
        boot = flags ? onpol_boot(a, o, b, flags, err) : NULL;
        r = boot ? 0 : -SKATE_EINVAL;
    } else {
        r = onpol_advantages(a, o, b, &g->gae, &adv, &target, err);
    }
    if (r == 0)
        r = forward(a, g, &x, err);
    if (r < 0)
        return r;
    if (g->use_vtrace) {
        r = trace(a, g, &x, g->appo ? x.old_logp : x.logp, flags, boot, err);
    } else {
        x.adv = onpol_order(o, &x.v, adv, 1);
        x.vs = onpol_order(o, &x.v, target, 1);
        r = x.adv && x.vs ? 0 : -SKATE_ENOMEM;
    }
    if (r < 0)
        return r;
    sum = loss_of(a, g, &x);
    r = onpol_backward(a, sum, err);
    if (r == 0)
        tell(a, g, &x, sum, st);
    return r;
}

/* After a step: the target net and the coefficient of the divergence. */
static void follow(struct algo *a, double kl) {
    struct impala *g = a->own;

    a->vars[g->updates] += 1.0;
    if (!g->appo)
        return;
    if (g->use_kl)
        a->vars[g->kl_coeff] = onpol_adapt_kl(a->vars[g->kl_coeff], kl, (double)g->kl_target);
    if ((long long)a->vars[g->updates] % g->target_every == 0)
        params_blend(g->target, g->base.p, g->tau);
}

static int learn(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                 struct skate_error *err) {
    struct impala *g = a->own;
    double kl = 0.0;

    for (int i = 0; i < g->passes; i++) {
        int r = pass(a, b, st, err);

        if (r == 0)
            r = onpol_step(a, err);
        if (r < 0)
            return r;
    }
    for (int i = 0; i < st->n; i++)
        if (strcmp(st->names[i], "kl") == 0)
            kl = st->values[i];
    algo_stat(st, "grad_gnorm", (double)a->optims[0].grad_norm);
    follow(a, kl);
    return 0;
}

static int gradient(struct algo *a, const struct algo_batch *b, float *flat,
                    struct algo_stats *st, struct skate_error *err) {
    int r = pass(a, b, st, err);

    if (r == 0)
        algo_pull_grads(a, flat);
    return r;
}

static int apply(struct algo *a, const float *flat, struct skate_error *err) {
    int r = onpol_apply(a, flat, err);

    if (r == 0)
        follow(a, (double)((struct impala *)a->own)->kl_target);
    return r;
}

const struct algo_api algo_appo_api = {
    .name = "APPO", .make = appo_make, .close = onpol_close, .act = onpol_act, .learn = learn,
    .gradient = gradient, .apply = apply,
};
const struct algo_api algo_impala_api = {
    .name = "IMPALA", .make = impala_make, .close = onpol_close, .act = onpol_act,
    .learn = learn, .gradient = gradient, .apply = apply,
};
