/* algo_iql.c - implicit Q-learning (Kostrikov et al. 2021), for BOX actions.
 *
 * V learns an upper expectile of the target critics' min Q(s, a) over the data's actions; the
 * critics learn r + gamma * V(s'); the actor learns the data's actions, each weighted by
 * min(exp(beta * (Q - V)), 100). No action outside the data is ever valued. All gradients are
 * taken at the same weights, as RLlib does. The loss of two critics has 0.5 each.
 * One owner, no locks, never blocks.
 * Tests: tests/rl/test_offline_math.py. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rl/algo/offpol.h"
#include "rl/algo/squash.h"

#define WEIGHT_MAX 100.0

enum { IQL_SINCE };

struct iql {
    struct squash dist;
    struct offpol_units units;
    struct net pi, vf;
    struct params *actor, *value;
    struct offpol_critics q;
    struct offpol_scratch scratch;
    double beta, expectile, target_freq;
    float tau, discount;
    float memory[];             /* of units */
};

static int options(struct iql *c, const struct algo_setup *s, struct skate_error *err) {
    c->beta = algo_num(s, "beta", 0.1);
    c->expectile = algo_num(s, "expectile", 0.8);
    c->tau = (float)algo_num(s, "tau", 1.0);
    c->target_freq = algo_num(s, "target_network_update_freq", 0.0);
    c->discount = (float)algo_num(s, "gamma", 0.99);
    c->dist.low = (float)algo_num(s, "log_std_min", -20.0);
    c->dist.high = (float)algo_num(s, "log_std_max", 2.0);
    if (!(c->beta >= 0.0))
        return err_fail(err, -SKATE_EINVAL, "beta must be >= 0, it is %g", c->beta);
    if (!(c->expectile > 0.0 && c->expectile < 1.0))
        return err_fail(err, -SKATE_EINVAL, "expectile must be between 0 and 1, it is %g",
                        c->expectile);
    if (!(c->tau >= 0.0f && c->tau <= 1.0f))
        return err_fail(err, -SKATE_EINVAL, "tau must be in 0..1, it is %g", (double)c->tau);
    if (!(c->dist.low <= c->dist.high))
        return err_fail(err, -SKATE_EINVAL, "log_std_min %g is above log_std_max %g",
                        (double)c->dist.low, (double)c->dist.high);
    return 0;
}

static int one_net(struct algo *a, struct params *p, struct net *net, const char *prefix,
                   const struct net_opts *o) {
    int code = p ? net_add(net, p, prefix, o) : -SKATE_ENOMEM;

    return code ? code : params_seal(p, &a->rng);
}

static int nets(struct algo *a, struct iql *c, const struct algo_setup *s,
                struct skate_error *err) {
    struct net_opts o;
    int code = offpol_net(s, "actor", 0, a->n_inputs, &o, err);

    if (!code) {
        c->actor = algo_params(a, true);
        code = one_net(a, c->actor, &c->pi, "pi", &o);
    }
    if (!code)
        code = offpol_net(s, "critic", 0, 1, &o, err);
    if (!code) {
        c->value = algo_params(a, false);
        code = one_net(a, c->value, &c->vf, "vf", &o);
    }
    if (!code)
        code = offpol_net(s, "critic", a->action.size, 1, &o, err);
    if (!code)
        code = offpol_critics(a, algo_flag(s, "twin_q", true) ? 2 : 1, &o, &c->q);
    return code;
}

static int make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    double lr = algo_num(s, "lr", 3e-4);
    struct iql *c;
    int code;

    if (a->action.kind != ALGO_BOX)
        return err_fail(err, -SKATE_EINVAL, "action_space: IQL has Box actions only");
    c = calloc(1, sizeof *c + 2 * (size_t)a->action.size * sizeof(float));
    if (!c)
        return -SKATE_ENOMEM;
    a->own = c;
    code = options(c, s, err);
    if (!code)
        code = offpol_units(s, c->memory, &c->units, err);
    c->dist.k = a->action.size;
    c->dist.tanh = c->units.bounded;
    if (!code)
        code = nets(a, c, s, err);
    if (!code)
        code = offpol_optim(a, s, c->actor, algo_num(s, "actor_lr", lr));
    if (!code)
        code = offpol_optim(a, s, c->value, algo_num(s, "value_lr", lr));
    if (!code)
        code = offpol_optim(a, s, c->q.p, algo_num(s, "critic_lr", lr));
    return code;
}

static void own_close(struct algo *a) {
    struct iql *c = a->own;

    if (c)
        offpol_scratch_free(&c->scratch);
    free(c);
    a->own = NULL;
}

static int act(struct algo *a, const struct algo_act *io, struct skate_error *err) {
    struct iql *c = a->own;
    struct tape *t = a->tape;
    int k = c->dist.k;
    tvar x = net_apply(t, &c->pi, t_data(t, io->obs, io->n, a->obs.size), NULL, true, NULL);
    const float *inputs = tape_value(t, x);
    float *noise = offpol_scratch(&c->scratch, (size_t)k), *out = io->actions;

    if (!inputs)
        return err_fail(err, tape_error(t), "act: %s", tape_error_text(t));
    if (!noise)
        return -SKATE_ENOMEM;
    if (io->vf)
        memset(io->vf, 0, (size_t)io->n * sizeof(float));
    if (io->inputs)
        memcpy(io->inputs, inputs, (size_t)io->n * (size_t)a->n_inputs * sizeof(float));
    for (int i = 0; i < io->n; i++, out += k, inputs += 2 * k) {
        float logp;

        for (int j = 0; io->explore && j < k; j++)
            noise[j] = (float)rl_rng_normal(&a->rng);
        logp = squash_row(&c->dist, inputs, io->explore ? noise : NULL, out);
        if (!isfinite(logp))
            return err_fail(err, -SKATE_EINVAL, "act: the actor has diverged");
        for (int j = 0; j < k; j++)
            out[j] = c->units.mid[j] + c->units.half[j] * out[j];
        if (io->logp)
            io->logp[i] = logp;
    }
    return 0;
}

struct parts {
    struct offpol_rows r;
    tvar obs, pair, value, gap; /* gap: min target Q - V, with gradient to V */
    tvar v_loss, pi_loss, q_loss;
};

/* min over the target critics of Q(s, a of the data), less V(s). */
static void advantage(struct algo *a, struct parts *p) {
    struct iql *c = a->own;
    struct tape *t = a->tape;
    tvar q = TAPE_BAD;

    for (int i = 0; i < c->q.n; i++) {
        tvar one = net_apply_with(t, &c->q.nets[i], c->q.target, p->pair, NULL, NULL);

        q = i ? t_min(t, q, one) : one;
    }
    p->value = net_apply(t, &c->vf, p->obs, NULL, false, NULL);
    p->gap = t_sub(t, t_stop(t, q), p->value);
}

/* The losses of V and of the actor, whose weights are taken from the gap's numbers. */
static int weighted(struct algo *a, struct parts *p, struct algo_stats *st) {
    struct iql *c = a->own;
    struct tape *t = a->tape;
    const float *gap = tape_value(t, p->gap);
    int n = p->r.n;
    float *w = offpol_scratch(&c->scratch, 2 * (size_t)n);
    double sum = 0;
    tvar logp, inputs;

    if (!w || !gap)
        return w ? 0 : -SKATE_ENOMEM;       /* the tape's own error is seen by backward */
    for (int i = 0; i < n; i++) {
        w[i] = (float)(gap[i] > 0.0f ? c->expectile : 1.0 - c->expectile);
        w[n + i] = (float)fmin(exp(c->beta * (double)gap[i]), WEIGHT_MAX);
        sum += (double)w[n + i];
    }
    algo_stat(st, "mean_weight", sum / n);
    p->v_loss = t_mean(t, t_mul(t, t_square(t, p->gap), t_copy(t, w, n, 1)));
    inputs = net_apply(t, &c->pi, p->obs, NULL, false, NULL);
    logp = squash_logp(t, &c->dist, inputs,
                       offpol_unit_actions(t, &c->units, p->r.actions, n));
    p->pi_loss = t_affine(t, t_mean(t, t_mul(t, logp, t_copy(t, w + n, n, 1))), -1.0f, 0.0f);
    return 0;
}

static void critics(struct algo *a, struct parts *p, struct algo_stats *st) {
    struct iql *c = a->own;
    struct tape *t = a->tape;
    tvar new_obs = t_data(t, p->r.new_obs, p->r.n, a->obs.size);
    tvar y = offpol_target(t, &p->r, net_apply(t, &c->vf, new_obs, NULL, true, NULL));

    p->q_loss = TAPE_BAD;
    for (int i = 0; i < c->q.n; i++) {
        tvar q = net_apply(t, &c->q.nets[i], p->pair, NULL, false, NULL), e = t_sub(t, q, y), part;
        const float *td = tape_value(t, e);

        if (i == 0)
            offpol_q_stats(t, q, st);
        part = offpol_td_loss(t, &p->r, e, 0.0f);       /* 0.5 e^2: one critic has e^2 */
        part = t_affine(t, part, c->q.n == 1 ? 2.0f : 1.0f, 0.0f);
        p->q_loss = i ? t_add(t, p->q_loss, part) : part;
        for (int k = 0; td && p->r.td_errors && k < p->r.n; k++)
            p->r.td_errors[k] = (i ? p->r.td_errors[k] : 0.0f) + fabsf(td[k]) / (float)c->q.n;
    }
}

static int losses(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                  struct skate_error *err) {
    struct iql *c = a->own;
    struct tape *t = a->tape;
    struct parts p = { .v_loss = TAPE_BAD, .pi_loss = TAPE_BAD };
    int code = offpol_rows(a, b, c->discount, &p.r, err);

    if (code)
        return code;
    p.obs = t_data(t, p.r.obs, b->rows, a->obs.size);
    p.pair = t_concat(t, p.obs, offpol_unit_actions(t, &c->units, p.r.actions, b->rows));
    advantage(a, &p);
    code = weighted(a, &p, st);
    if (code)
        return code;
    critics(a, &p, st);
    algo_stat(st, "value_loss", (double)tape_scalar(t, p.v_loss));
    algo_stat(st, "actor_loss", (double)tape_scalar(t, p.pi_loss));
    algo_stat(st, "critic_loss", (double)tape_scalar(t, p.q_loss));
    code = tape_backward(t, t_add(t, t_add(t, p.v_loss, p.pi_loss), p.q_loss));
    if (code)
        return err_fail(err, code, "the loss cannot be computed: %s",
                        tape_error(t) ? tape_error_text(t)
                                      : "it is not finite, the net has diverged");
    return 0;
}

static int update(struct algo *a, int rows, struct skate_error *err) {
    struct iql *c = a->own;
    int code = offpol_step(a, ~0u, err);

    if (!code && offpol_target_due(&a->vars[IQL_SINCE], rows, c->target_freq))
        params_blend(c->q.target, c->q.p, c->tau);
    return code;
}

static int learn(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                 struct skate_error *err) {
    int code = losses(a, b, st, err);

    return code ? code : update(a, b->rows, err);
}

static int gradient(struct algo *a, const struct algo_batch *b, float *flat,
                    struct algo_stats *st, struct skate_error *err) {
    int code = losses(a, b, st, err);

    if (!code)
        algo_pull_grads(a, flat);
    return code;
}

static int apply(struct algo *a, const float *flat, struct skate_error *err) {
    algo_push_grads(a, flat);
    return update(a, 0, err);
}

const struct algo_api algo_iql_api = {
    .name = "IQL", .make = make, .close = own_close, .act = act, .learn = learn,
    .gradient = gradient, .apply = apply,
};
