/* algo_cql.c - conservative Q-learning (Kumar et al. 2020) on top of SAC, for BOX actions.
 *
 * Each critic's loss has beside SAC's (without the entropy in the target unless
 * deterministic_backup is off) min_q_weight * (temperature * mean(logsumexp(q / temperature)) -
 * mean(Q(s, a of the data))), where q are num_actions uniform actions, as many of the policy in s
 * and as many in s', all valued in s, each less its log density. With `lagrangian` a multiplier
 * keeps that term at lagrangian_thresh. For bc_iters updates the actor learns log pi of the data's
 * actions instead of Q. All gradients are taken at the same weights.
 * vars: SAC's, then the counter of updates and constants of the config (CQL_...).
 * One owner, no locks, never blocks.
 * Tests: tests/rl/test_offline_math.py. */
#include <math.h>
#include <string.h>

#include "rl/algo/sac.h"

enum { CQL_UPDATES = 8, CQL_BC_ITERS, CQL_TEMPERATURE, CQL_ACTIONS, CQL_THRESH, CQL_WEIGHT,
       CQL_DETERMINISTIC };
enum { CQL_PRIME_OPTIM = 3, CQL_ACTIONS_MAX = 1024 };

/* The multiplier's params; NULL without `lagrangian`. */
static struct params *prime(struct algo *a) {
    return a->n_optims > CQL_PRIME_OPTIM ? a->optims[CQL_PRIME_OPTIM].p : NULL;
}

static int options(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    double *v = a->vars;

    v[CQL_UPDATES] = 0.0;
    v[CQL_BC_ITERS] = algo_num(s, "bc_iters", 20000.0);
    v[CQL_TEMPERATURE] = algo_num(s, "temperature", 1.0);
    v[CQL_ACTIONS] = floor(algo_num(s, "num_actions", 10.0));
    v[CQL_THRESH] = algo_num(s, "lagrangian_thresh", 5.0);
    v[CQL_WEIGHT] = algo_num(s, "min_q_weight", 5.0);
    v[CQL_DETERMINISTIC] = algo_flag(s, "deterministic_backup", true);
    if (!(v[CQL_TEMPERATURE] > 0.0))
        return err_fail(err, -SKATE_EINVAL, "temperature must be above 0, it is %g",
                        v[CQL_TEMPERATURE]);
    if (!(v[CQL_ACTIONS] >= 1.0 && v[CQL_ACTIONS] <= CQL_ACTIONS_MAX))
        return err_fail(err, -SKATE_EINVAL, "num_actions must be in 1..%d, it is %g",
                        CQL_ACTIONS_MAX, v[CQL_ACTIONS]);
    if (!(v[CQL_WEIGHT] >= 0.0) || !(v[CQL_BC_ITERS] >= 0.0))
        return err_fail(err, -SKATE_EINVAL, "min_q_weight and bc_iters must be >= 0, they are %g "
                        "and %g", v[CQL_WEIGHT], v[CQL_BC_ITERS]);
    return 0;
}

static int make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    struct params *p;
    int code;

    if (a->action.kind != ALGO_BOX)
        return err_fail(err, -SKATE_EINVAL, "action_space: CQL has Box actions only");
    code = sac_make(a, s, 0, err);
    if (!code)
        code = options(a, s, err);
    if (code || !algo_flag(s, "lagrangian", false))
        return code;
    p = algo_params(a, false);
    if (!p)
        return -SKATE_ENOMEM;
    code = params_add(p, "log_alpha_prime", 1, 1, PARAM_ZERO, 0.0f);
    code = code < 0 ? code : params_seal(p, &a->rng);
    if (!code)
        code = offpol_optim(a, s, p, algo_num(s, "critic_lr", algo_num(s, "lr", 3e-4)));
    return code;
}

/* Actions that the conservative term values in a batch's states: [rows * num_actions] rows. */
struct others {
    int m;
    tvar obs;
    tvar action[3], logp[3];    /* uniform; of the policy in s'; in s */
};

static tvar uniform(struct algo *a, const struct algo_batch *b, int cols) {
    struct sac *c = a->own;
    const struct algo_col *own = algo_col(b, "uniform_actions");
    size_t n = (size_t)b->rows * (size_t)cols;
    float *x;

    if (own && own->dtype == ALGO_F32 && own->width == cols && own->rows == b->rows)
        return t_copy(a->tape, own->p, b->rows, cols);
    x = offpol_scratch(&c->scratch, n);
    if (!x)
        return TAPE_BAD;
    for (size_t i = 0; i < n; i++)
        x[i] = 2.0f * rl_rng_float(&a->rng) - 1.0f;
    return t_copy(a->tape, x, b->rows, cols);
}

/* m draws of the policy in each row of `obs`. */
static tvar draws(struct algo *a, const struct algo_batch *b, tvar obs, const char *noise,
                  tvar *logp) {
    struct sac *c = a->own;
    struct tape *t = a->tape;
    int k = c->dist.k, m = (int)a->vars[CQL_ACTIONS];
    tvar inputs = t_repeat(t, net_apply(t, &c->pi, obs, NULL, true, NULL), m);
    tvar eps = t_reshape(t, offpol_noise(a, b, noise, k * m, &c->scratch), b->rows * m, k);

    return squash_draw(t, &c->dist, inputs, eps, logp);
}

static void draw_others(struct algo *a, const struct algo_batch *b, const struct sac_step *s,
                        struct others *o) {
    struct sac *c = a->own;
    struct tape *t = a->tape;
    int k = c->dist.k, m = (int)a->vars[CQL_ACTIONS];

    o->m = m;
    o->obs = t_repeat(t, s->obs, m);
    o->action[0] = t_reshape(t, uniform(a, b, k * m), b->rows * m, k);
    o->logp[0] = t_fill(t, (float)(-(double)k * log(2.0)), b->rows * m, 1);
    o->action[1] = draws(a, b, s->new_obs, "repeat_new_noise", &o->logp[1]);
    o->action[2] = draws(a, b, s->obs, "repeat_noise", &o->logp[2]);
}

/* How much higher critic `net` values other actions than the data's, less than times the weight. */
static tvar conservative(struct algo *a, const struct sac_step *s, const struct others *o,
                         const struct net *net, tvar q_data) {
    struct tape *t = a->tape;
    float temperature = (float)a->vars[CQL_TEMPERATURE], weight = (float)a->vars[CQL_WEIGHT];
    tvar all = TAPE_BAD, high;

    for (int i = 0; i < 3; i++) {
        tvar q = net_apply(t, net, sac_pair(a, o->obs, o->action[i]), NULL, false, NULL);

        q = t_reshape(t, t_sub(t, q, o->logp[i]), s->r.n, o->m);
        all = i ? t_concat(t, all, q) : q;
    }
    high = t_logsumexp(t, t_affine(t, all, 1.0f / temperature, 0.0f));
    high = t_affine(t, t_mean(t, high), weight * temperature, 0.0f);
    return t_sub(t, high, t_affine(t, t_mean(t, q_data), weight, 0.0f));
}

/* What the critics learn, [n][1]. */
static tvar target(struct algo *a, const struct sac_step *s) {
    struct sac *c = a->own;
    struct tape *t = a->tape;
    tvar x = sac_pair(a, s->new_obs, s->new_action), next = TAPE_BAD;

    for (int i = 0; i < c->q.n; i++) {
        tvar q = net_apply_with(t, &c->q.nets[i], c->q.target, x, NULL, NULL);

        next = i ? t_min(t, next, q) : q;
    }
    if (a->vars[CQL_DETERMINISTIC] == 0.0)
        next = t_sub(t, next, t_mul(t, s->new_logp, s->alpha));
    return offpol_target(t, &s->r, next);
}

/* `gap` gets the sum of the conservative terms (less the threshold with a multiplier). */
static tvar critic_loss(struct algo *a, const struct algo_batch *b, const struct sac_step *s,
                        tvar *gap) {
    struct sac *c = a->own;
    struct tape *t = a->tape;
    struct params *multiplier = prime(a);
    tvar y = target(a, s), loss = TAPE_BAD, factor = TAPE_BAD;
    tvar x = sac_pair(a, s->obs, offpol_unit_actions(t, &c->units, s->r.actions, s->r.n));
    struct others o;

    draw_others(a, b, s, &o);
    if (multiplier)
        factor = t_clip(t, t_exp(t, t_frozen(t, multiplier, 0)), 0.0f, 1e6f);
    for (int i = 0; i < c->q.n; i++) {
        tvar q = net_apply(t, &c->q.nets[i], x, NULL, false, NULL), e = t_sub(t, q, y);
        tvar extra = conservative(a, s, &o, &c->q.nets[i], q), part;
        const float *td = tape_value(t, e);

        if (i == 0)
            offpol_q_stats(t, q, s->st);
        if (multiplier)
            extra = t_affine(t, extra, 1.0f, (float)-a->vars[CQL_THRESH]);
        *gap = i ? t_add(t, *gap, t_stop(t, extra)) : t_stop(t, extra);
        part = t_affine(t, offpol_td_loss(t, &s->r, e, 0.0f), 2.0f, 0.0f);      /* mean(e^2) */
        part = t_add(t, part, multiplier ? t_mul(t, extra, factor) : extra);
        loss = i ? t_add(t, loss, part) : part;
        for (int k = 0; td && s->r.td_errors && k < s->r.n; k++)
            s->r.td_errors[k] = (i ? s->r.td_errors[k] : 0.0f) + fabsf(td[k]) / (float)c->q.n;
    }
    return loss;
}

static tvar actor_loss(struct algo *a, const struct sac_step *s) {
    struct sac *c = a->own;
    struct tape *t = a->tape;
    tvar value = TAPE_BAD, x;

    if (a->vars[CQL_UPDATES] + 1.0 < a->vars[CQL_BC_ITERS]) {
        x = net_apply(t, &c->pi, s->obs, NULL, false, NULL);
        value = squash_logp(t, &c->dist, x,
                            offpol_unit_actions(t, &c->units, s->r.actions, s->r.n));
    } else {
        x = sac_pair(a, s->obs, s->action);
        for (int i = 0; i < c->q.n; i++) {
            tvar q = net_apply(t, &c->q.nets[i], x, NULL, true, NULL);

            value = i ? t_min(t, value, q) : q;
        }
    }
    return t_mean(t, t_sub(t, t_mul(t, s->logp, s->alpha), value));
}

/* The multiplier goes up where the gap is above the threshold. */
static tvar prime_loss(struct algo *a, tvar gap, struct algo_stats *st) {
    struct sac *c = a->own;
    struct tape *t = a->tape;
    tvar log_prime = t_param(t, prime(a), 0);
    tvar factor = t_clip(t, t_exp(t, log_prime), 0.0f, 1e6f);
    tvar loss = t_affine(t, t_mul(t, factor, gap), -1.0f / (float)c->q.n, 0.0f);

    algo_stat(st, "log_alpha_prime_value", (double)tape_scalar(t, log_prime));
    algo_stat(st, "alpha_prime_value", (double)tape_scalar(t, factor));
    algo_stat(st, "alpha_prime_loss", (double)tape_scalar(t, loss));
    return loss;
}

static int losses(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                  struct skate_error *err) {
    struct tape *t = a->tape;
    struct sac_step s = {0};
    tvar q, pi, alpha, gap = TAPE_BAD, total;
    int code = sac_begin(a, b, st, &s, err);

    if (code)
        return code;
    q = critic_loss(a, b, &s, &gap);
    pi = actor_loss(a, &s);
    alpha = sac_alpha_loss(a, &s);
    total = t_add(t, t_add(t, q, pi), alpha);
    if (prime(a))
        total = t_add(t, total, prime_loss(a, gap, st));
    algo_stat(st, "critic_loss", (double)tape_scalar(t, q));
    algo_stat(st, "actor_loss", (double)tape_scalar(t, pi));
    algo_stat(st, "alpha_loss", (double)tape_scalar(t, alpha));
    algo_stat(st, "cql_loss", (double)tape_scalar(t, gap));
    code = tape_backward(t, total);
    if (code)
        return err_fail(err, code, "the loss cannot be computed: %s",
                        tape_error(t) ? tape_error_text(t)
                                      : "it is not finite, the net has diverged");
    return 0;
}

static int update(struct algo *a, int rows, struct skate_error *err) {
    struct sac *c = a->own;
    unsigned which = (c->fixed_alpha ? SAC_ACTOR | SAC_CRITIC : SAC_ALL) | 1u << CQL_PRIME_OPTIM;
    int code = offpol_step(a, which, err);

    if (code)
        return code;
    a->vars[CQL_UPDATES] += 1.0;
    if (offpol_target_due(&a->vars[SAC_VAR_SINCE], rows, c->target_freq))
        params_blend(c->q.target, c->q.p, c->tau);
    return 0;
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

const struct algo_api algo_cql_api = {
    .name = "CQL", .make = make, .close = sac_close, .act = sac_act, .learn = learn,
    .gradient = gradient, .apply = apply,
};
