/* algo_sac.c - soft actor-critic (Haarnoja et al. 2018), for BOX and DISCRETE actions.
 *
 * The critics learn r + gamma^n * (min over target critics of Q(s', a') - alpha log pi(a'|s')), a'
 * drawn by the actor; the actor goes down alpha log pi - min Q; the temperature alpha keeps the
 * entropy at its target. All three gradients are taken at the same weights, as RLlib does. With
 * DISCRETE actions expectations are sums, and the actor uses the first critic (RLlib's choice).
 * One owner, no locks, never blocks.
 * Tests: tests/unit/rl_offpol_test.c, tests/rl/test_continuous_math.py. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rl/algo/sac.h"

static int options(struct algo *a, struct sac *c, const struct algo_setup *s,
                   struct skate_error *err) {
    double steps = algo_num(s, "n_step", 1.0);
    double automatic = c->discrete ? 0.98 * log(a->action.size) : -(double)a->action.size;
    const char *text = algo_text(s, "target_entropy", "auto");

    c->discount = (float)pow(algo_num(s, "gamma", 0.99), steps);
    c->tau = (float)algo_num(s, "tau", 0.005);
    c->target_freq = algo_num(s, "target_network_update_freq", 0.0);
    c->huber = algo_flag(s, "use_huber", true) ? (float)algo_num(s, "huber_threshold", 1.0) : 0.0f;
    c->dist.low = (float)algo_num(s, "log_std_min", -5.0);
    c->dist.high = (float)algo_num(s, "log_std_max", 2.0);
    c->target_entropy = (float)algo_num(s, "target_entropy", automatic);
    c->fixed_alpha = algo_flag(s, "fixed_alpha", false);
    if (strcmp(text, "auto"))
        return err_fail(err, -SKATE_EINVAL, "target_entropy is a number or 'auto', not '%s'", text);
    if (!(c->tau >= 0.0f && c->tau <= 1.0f))
        return err_fail(err, -SKATE_EINVAL, "tau must be in 0..1, it is %g", (double)c->tau);
    if (!(c->dist.low <= c->dist.high))
        return err_fail(err, -SKATE_EINVAL, "log_std_min %g is above log_std_max %g",
                        (double)c->dist.low, (double)c->dist.high);
    return 0;
}

static void add_cell(const struct sac *c, struct net_opts *o) {
    o->cell = c->cell_size ? CELL_LSTM : CELL_NONE;
    o->cell_size = c->cell_size;
}

static int nets(struct algo *a, struct sac *c, const struct algo_setup *s,
                struct skate_error *err) {
    int critics = algo_flag(s, "twin_q", true) ? 2 : 1, out = c->n_quantiles ? c->n_quantiles : 1;
    double alpha = algo_num(s, "initial_alpha", 1.0);
    struct net_opts actor, critic;
    int code = offpol_net(s, "actor", 0, a->n_inputs, &actor, err);

    critics = (int)algo_num(s, "n_critics", critics);
    if (critics < 1 || critics > OFFPOL_CRITICS_MAX)
        return err_fail(err, -SKATE_EINVAL, "n_critics must be in 1..%d, it is %d",
                        OFFPOL_CRITICS_MAX, critics);
    if (!(alpha > 0.0))
        return err_fail(err, -SKATE_EINVAL, "initial_alpha must be above 0, it is %g", alpha);
    if (!code)
        code = offpol_net(s, "critic", c->discrete ? 0 : a->action.size,
                          c->discrete ? a->action.size : out, &critic, err);
    if (code)
        return code;
    add_cell(c, &actor);
    add_cell(c, &critic);
    c->actor = algo_params(a, true);
    if (!c->actor)
        return -SKATE_ENOMEM;
    code = net_add(&c->pi, c->actor, "pi", &actor);
    if (!code)
        code = params_seal(c->actor, &a->rng);
    if (!code)
        code = offpol_critics(a, critics, &critic, &c->q);
    c->temperature = code ? NULL : algo_params(a, false);
    if (!c->temperature)
        return code ? code : -SKATE_ENOMEM;
    code = params_add(c->temperature, "log_alpha", 1, 1, PARAM_CONST, (float)log(alpha));
    return code < 0 ? code : params_seal(c->temperature, &a->rng);
}

int sac_make_with(struct algo *a, const struct algo_setup *s, int quantiles, int cell_size,
                  struct skate_error *err) {
    double lr = algo_num(s, "lr", 3e-4);
    struct sac *c;
    int code;

    if (a->action.kind == ALGO_MULTI || (quantiles && a->action.kind != ALGO_BOX))
        return err_fail(err, -SKATE_EINVAL, "action_space: %s has Box%s actions only",
                        a->api->name, quantiles ? "" : " or Discrete");
    c = calloc(1, sizeof(*c) + 2 * (size_t)a->action.size * sizeof(float));
    if (!c)
        return -SKATE_ENOMEM;
    a->own = c;
    c->discrete = a->action.kind == ALGO_DISCRETE;
    c->n_quantiles = quantiles;
    c->cell_size = cell_size;
    code = offpol_target_vars(a);
    if (!code)
        code = options(a, c, s, err);
    if (c->discrete)
        (void)algo_flag(s, "normalize_actions", false);     /* nothing to normalize */
    if (!code && !c->discrete)
        code = offpol_units(s, c->memory, &c->units, err);
    c->dist.k = a->action.size;
    c->dist.tanh = c->units.bounded;
    if (!code)
        code = nets(a, c, s, err);
    if (!code)
        code = offpol_optim(a, s, c->actor, algo_num(s, "actor_lr", lr));
    if (!code)
        code = offpol_optim(a, s, c->q.p, algo_num(s, "critic_lr", lr));
    if (!code)
        code = offpol_optim(a, s, c->temperature, algo_num(s, "alpha_lr", lr));
    return code;
}

int sac_make(struct algo *a, const struct algo_setup *s, int quantiles, struct skate_error *err) {
    return sac_make_with(a, s, quantiles, 0, err);
}

static int make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    return sac_make(a, s, 0, err);
}

void sac_close(struct algo *a) {
    struct sac *c = a->own;

    if (c) {
        offpol_scratch_free(&c->scratch);
        offpol_scratch_free(&c->quantiles);
    }
    free(c);
    a->own = NULL;
}

/* Actions from the distribution's inputs, row by row. */
static int draw_box(struct algo *a, const float *inputs, const struct algo_act *io,
                    struct skate_error *err) {
    struct sac *c = a->own;
    int k = c->dist.k;
    float *noise = offpol_scratch(&c->scratch, (size_t)k), *out = io->actions;

    if (!noise)
        return -SKATE_ENOMEM;
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

int sac_act(struct algo *a, const struct algo_act *io, struct skate_error *err) {
    struct sac *c = a->own;
    struct tape *t = a->tape;
    tvar state = c->cell_size ? t_copy(t, io->state, io->n, a->state_size) : TAPE_BAD;
    tvar x = net_apply(t, &c->pi, t_data(t, io->obs, io->n, a->obs.size),
                       c->cell_size ? &state : NULL, true, NULL);
    const float *inputs = tape_value(t, x);

    if (!inputs)
        return err_fail(err, tape_error(t), "act: %s", tape_error_text(t));
    if (io->vf)
        memset(io->vf, 0, (size_t)io->n * sizeof(float));
    if (io->inputs)
        memcpy(io->inputs, inputs, (size_t)io->n * (size_t)a->n_inputs * sizeof(float));
    if (c->cell_size)
        memcpy(io->state, tape_value(t, state),
               (size_t)io->n * (size_t)a->state_size * sizeof(float));
    return c->discrete ? algo_draw(a, inputs, io, err) : draw_box(a, inputs, io, err);
}

int sac_begin(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
              struct sac_step *ret, struct skate_error *err) {
    struct sac *c = a->own;
    struct tape *t = a->tape;
    int k = a->action.size, code = offpol_rows(a, b, c->discount, &ret->r, err);
    tvar now, next;

    if (code)
        return code;
    ret->b = b;
    ret->st = st;
    ret->obs = t_data(t, ret->r.obs, b->rows, a->obs.size);
    ret->new_obs = t_data(t, ret->r.new_obs, b->rows, a->obs.size);
    ret->alpha = t_exp(t, t_frozen(t, c->temperature, 0));
    now = net_apply(t, &c->pi, ret->obs, NULL, false, NULL);
    next = net_apply(t, &c->pi, ret->new_obs, NULL, true, NULL);
    if (c->discrete) {
        ret->log_pi = t_log_softmax(t, now, 0);
        ret->new_log_pi = t_log_softmax(t, next, 0);
        return 0;
    }
    ret->action = squash_draw(t, &c->dist, now, offpol_noise(a, b, "noise", k, &c->scratch),
                              &ret->logp);
    ret->new_action = squash_draw(t, &c->dist, next,
                                  offpol_noise(a, b, "new_noise", k, &c->scratch), &ret->new_logp);
    return 0;
}

tvar sac_pair(struct algo *a, tvar obs, tvar action) {
    return t_concat(a->tape, obs, action);
}

/* What the critics learn, [n][1]. */
static tvar target(struct algo *a, const struct sac_step *s) {
    struct sac *c = a->own;
    struct tape *t = a->tape;
    tvar x = c->discrete ? s->new_obs : sac_pair(a, s->new_obs, s->new_action), next = TAPE_BAD;

    for (int i = 0; i < c->q.n; i++) {
        tvar q = net_apply_with(t, &c->q.nets[i], c->q.target, x, NULL, NULL);

        next = i ? t_min(t, next, q) : q;
    }
    next = t_sub(t, next, t_mul(t, c->discrete ? s->new_log_pi : s->new_logp, s->alpha));
    if (c->discrete)
        next = t_sum_cols(t, t_mul(t, t_exp(t, s->new_log_pi), next));
    return offpol_target(t, &s->r, next);
}

/* `first` gets the first critic's values of all actions (DISCRETE). */
static tvar critic_loss(struct algo *a, const struct sac_step *s, tvar *first) {
    struct sac *c = a->own;
    struct tape *t = a->tape;
    tvar y = target(a, s), x = s->obs, loss = TAPE_BAD;

    if (!c->discrete)
        x = sac_pair(a, s->obs, offpol_unit_actions(t, &c->units, s->r.actions, s->r.n));
    for (int i = 0; i < c->q.n; i++) {
        tvar q = net_apply(t, &c->q.nets[i], x, NULL, false, NULL), e, part;
        const float *td;

        if (i == 0) {
            *first = q;
            offpol_q_stats(t, q, s->st);
        }
        if (c->discrete)
            q = t_pick(t, q, s->r.choices);
        e = t_sub(t, q, y);
        part = offpol_td_loss(t, &s->r, e, c->huber);
        loss = i ? t_add(t, loss, part) : part;
        td = tape_value(t, e);
        for (int k = 0; td && s->r.td_errors && k < s->r.n; k++)
            s->r.td_errors[k] = (i ? s->r.td_errors[k] : 0.0f) + fabsf(td[k]) / (float)c->q.n;
    }
    return loss;
}

/* The critics' value of the actor's own action, [n][1], with gradient to the actor only. */
static tvar own_value(struct algo *a, const struct sac_step *s) {
    struct sac *c = a->own;
    tvar x = sac_pair(a, s->obs, s->action), value = TAPE_BAD;

    for (int i = 0; i < c->q.n; i++) {
        tvar q = net_apply(a->tape, &c->q.nets[i], x, NULL, true, NULL);

        value = i ? t_min(a->tape, value, q) : q;
    }
    return value;
}

static tvar actor_loss(struct algo *a, const struct sac_step *s, tvar first) {
    struct sac *c = a->own;
    struct tape *t = a->tape;
    tvar x;

    if (c->discrete) {
        x = t_sub(t, t_mul(t, s->log_pi, s->alpha), t_stop(t, first));
        return t_mean(t, t_sum_cols(t, t_mul(t, t_exp(t, s->log_pi), x)));
    }
    x = c->n_quantiles ? tqc_actor_value(a, s) : own_value(a, s);
    return t_mean(t, t_sub(t, t_mul(t, s->logp, s->alpha), x));
}

tvar sac_alpha_loss(struct algo *a, const struct sac_step *s) {
    struct sac *c = a->own;
    struct tape *t = a->tape;
    tvar log_alpha = t_param(t, c->temperature, 0), gap;

    if (c->discrete)
        gap = t_sum_cols(t, t_mul(t, t_exp(t, s->log_pi),
                                  t_affine(t, s->log_pi, 1.0f, c->target_entropy)));
    else
        gap = t_affine(t, s->logp, 1.0f, c->target_entropy);
    gap = t_mean(t, t_stop(t, gap));
    algo_stat(s->st, "alpha_value", (double)tape_scalar(t, s->alpha));
    algo_stat(s->st, "log_alpha_value", log((double)tape_scalar(t, s->alpha)));
    algo_stat(s->st, "target_entropy", (double)c->target_entropy);
    return t_affine(t, t_mul(t, log_alpha, gap), -1.0f, 0.0f);
}

int sac_losses(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
               struct skate_error *err) {
    struct sac *c = a->own;
    struct tape *t = a->tape;
    struct sac_step s = {0};
    tvar q, pi, alpha, first = TAPE_BAD;
    int code = sac_begin(a, b, st, &s, err);

    if (code)
        return code;
    q = c->n_quantiles ? tqc_critic_loss(a, &s) : critic_loss(a, &s, &first);
    pi = actor_loss(a, &s, first);
    alpha = sac_alpha_loss(a, &s);
    if (!c->n_quantiles)
        algo_stat(st, "critic_loss", (double)tape_scalar(t, q));
    algo_stat(st, "actor_loss", (double)tape_scalar(t, pi));
    algo_stat(st, "alpha_loss", (double)tape_scalar(t, alpha));
    code = tape_backward(t, t_add(t, t_add(t, q, pi), alpha));
    if (code)
        return err_fail(err, code, "the loss cannot be computed: %s",
                        tape_error(t) ? tape_error_text(t)
                                      : "it is not finite, the net has diverged");
    return 0;
}

int sac_update(struct algo *a, int rows, struct skate_error *err) {
    struct sac *c = a->own;
    unsigned which = c->fixed_alpha ? SAC_ACTOR | SAC_CRITIC : SAC_ALL;
    int code = offpol_step(a, which, err);

    if (!code && offpol_target_now(a, rows, c->target_freq))
        params_blend(c->q.target, c->q.p, c->tau);
    return code;
}

int sac_learn(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
              struct skate_error *err) {
    int code = sac_losses(a, b, st, err);

    return code ? code : sac_update(a, b->rows, err);
}

int sac_gradient(struct algo *a, const struct algo_batch *b, float *flat, struct algo_stats *st,
                 struct skate_error *err) {
    int code = sac_losses(a, b, st, err);

    if (!code)
        algo_pull_grads(a, flat);
    return code;
}

int sac_apply(struct algo *a, const float *flat, struct skate_error *err) {
    algo_push_grads(a, flat);
    return sac_update(a, 0, err);
}

const struct algo_api algo_sac_api = {
    .name = "SAC", .make = make, .close = sac_close, .act = sac_act, .learn = sac_learn,
    .gradient = sac_gradient, .apply = sac_apply,
};
