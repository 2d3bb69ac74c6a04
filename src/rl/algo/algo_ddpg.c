/* algo_ddpg.c - DDPG (Lillicrap et al. 2016) and TD3 (Fujimoto et al. 2018) for BOX actions.
 *
 * The actor says one number an action, squashed by tanh in a bounded space. The critics learn
 * r + gamma^n * min over target critics of Q(s', target actor(s') + clipped noise); the actor goes
 * up the first critic. Both gradients are taken at the same weights. TD3 = twin_q, policy_delay 2,
 * smooth_target_policy. One owner, no locks, never blocks.
 * Tests: tests/unit/rl_offpol_test.c, tests/rl/test_continuous_math.py. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rl/algo/offpol.h"

enum { VAR_UPDATES = OFFPOL_ASKED + 1, OPT_ACTOR = 1u, OPT_CRITIC = 2u };

struct ddpg {
    struct offpol_units units;
    struct net pi;
    struct params *actor, *target_actor;
    struct offpol_critics q;
    struct offpol_scratch scratch;
    float discount, huber, tau, l2, target_noise, target_clip;
    double target_freq;
    int delay;
    bool smooth, delay_targets;
    float memory[];                     /* of units */
};

static int options(struct ddpg *d, const struct algo_setup *s, struct skate_error *err) {
    double steps = algo_num(s, "n_step", 1.0);

    d->discount = (float)pow(algo_num(s, "gamma", 0.99), steps);
    d->tau = (float)algo_num(s, "tau", 0.002);
    d->l2 = (float)algo_num(s, "l2_reg", 1e-6);
    d->huber = (float)algo_num(s, "huber_threshold", 1.0);
    if (!algo_flag(s, "use_huber", false))
        d->huber = 0.0f;
    d->delay = (int)algo_num(s, "policy_delay", 1.0);
    d->delay_targets = algo_flag(s, "delay_targets", false);
    d->target_freq = algo_num(s, "target_network_update_freq", 0.0);
    d->smooth = algo_flag(s, "smooth_target_policy", false);
    d->target_noise = (float)algo_num(s, "target_noise", 0.2);
    d->target_clip = (float)algo_num(s, "target_noise_clip", 0.5);
    if (d->delay < 1)
        return err_fail(err, -SKATE_EINVAL, "policy_delay must be at least 1, it is %d", d->delay);
    if (!(d->tau >= 0.0f && d->tau <= 1.0f))
        return err_fail(err, -SKATE_EINVAL, "tau must be in 0..1, it is %g", (double)d->tau);
    return 0;
}

static int nets(struct algo *a, struct ddpg *d, const struct algo_setup *s,
                struct skate_error *err) {
    struct net_opts actor, critic;
    struct net unused;
    int code = offpol_net(s, "actor", 0, a->action.size, &actor, err);

    if (!code)
        code = offpol_net(s, "critic", a->action.size, 1, &critic, err);
    if (code)
        return code;
    d->actor = algo_params(a, true);
    d->target_actor = algo_params(a, false);
    if (!d->actor || !d->target_actor)
        return -SKATE_ENOMEM;
    code = net_add(&d->pi, d->actor, "pi", &actor);
    if (!code)
        code = net_add(&unused, d->target_actor, "pi", &actor);
    if (!code)
        code = params_seal(d->actor, &a->rng);
    if (!code)
        code = params_seal(d->target_actor, &a->rng);
    if (code)
        return code;
    params_blend(d->target_actor, d->actor, 1.0f);
    return offpol_critics(a, algo_flag(s, "twin_q", false) ? 2 : 1, &critic, &d->q);
}

static int make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    struct ddpg *d;
    int code;

    if (a->action.kind != ALGO_BOX)
        return err_fail(err, -SKATE_EINVAL,
                        "action_space: %s has continuous actions (Box) only", a->api->name);
    d = calloc(1, sizeof(*d) + 2 * (size_t)a->action.size * sizeof(float));
    if (!d)
        return -SKATE_ENOMEM;
    a->own = d;
    a->n_inputs = a->action.size;
    code = offpol_target_vars(a);
    if (!code && algo_var(a, NULL, 0.0) != VAR_UPDATES)
        code = -SKATE_EINVAL;
    if (!code)
        code = options(d, s, err);
    if (!code)
        code = offpol_units(s, d->memory, &d->units, err);
    if (!code)
        code = nets(a, d, s, err);
    if (!code)
        code = offpol_optim(a, s, d->actor, algo_num(s, "actor_lr", 1e-3));
    if (!code)
        code = offpol_optim(a, s, d->q.p, algo_num(s, "critic_lr", 1e-3));
    return code;
}

static void finish(struct algo *a) {
    struct ddpg *d = a->own;

    if (d)
        offpol_scratch_free(&d->scratch);
    free(d);
    a->own = NULL;
}

static tvar squash(struct tape *t, const struct ddpg *d, tvar x) {
    return d->units.bounded ? t_act(t, x, ACT_TANH) : x;
}

static int act(struct algo *a, const struct algo_act *io, struct skate_error *err) {
    struct ddpg *d = a->own;
    struct tape *t = a->tape;
    int k = a->action.size;
    tvar x = net_apply(t, &d->pi, t_data(t, io->obs, io->n, a->obs.size), NULL, true, NULL);
    const float *raw = tape_value(t, x), *unit = tape_value(t, squash(t, d, x));
    float *out = io->actions;

    if (!raw || !unit)
        return err_fail(err, tape_error(t), "act: %s", tape_error_text(t));
    for (int i = 0; i < io->n * k; i++) {
        float half = d->units.half[i % k], mid = d->units.mid[i % k], y = mid + half * unit[i];

        if (!isfinite(y))
            return err_fail(err, -SKATE_EINVAL, "act: the actor has diverged");
        if (io->explore && io->noise > 0.0f)
            y += io->noise * (float)rl_rng_normal(&a->rng);
        if (d->units.bounded)
            y = fminf(fmaxf(y, mid - half), mid + half);
        out[i] = y;
    }
    for (int i = 0; i < io->n; i++) {
        if (io->logp)
            io->logp[i] = 0.0f;
        if (io->vf)
            io->vf[i] = 0.0f;
    }
    if (io->inputs)
        memcpy(io->inputs, raw, (size_t)io->n * (size_t)k * sizeof(float));
    return 0;
}

/* The target policy's action in the new states, [n][k] units. */
static tvar next_action(struct algo *a, const struct algo_batch *b, tvar new_obs) {
    struct ddpg *d = a->own;
    struct tape *t = a->tape;
    int k = a->action.size;
    tvar unit = squash(t, d, net_apply_with(t, &d->pi, d->target_actor, new_obs, NULL, NULL));
    tvar half = t_data(t, d->units.half, 1, k), noise;

    if (!d->smooth)
        return unit;
    noise = t_affine(t, offpol_noise(a, b, "new_noise", k, &d->scratch), d->target_noise, 0.0f);
    noise = t_div(t, t_clip(t, noise, -d->target_clip, d->target_clip), half);
    unit = t_add(t, unit, noise);
    return d->units.bounded ? t_clip(t, unit, -1.0f, 1.0f) : unit;
}

static tvar critic_loss(struct algo *a, const struct algo_batch *b, const struct offpol_rows *r,
                        struct algo_stats *st) {
    struct ddpg *d = a->own;
    struct tape *t = a->tape;
    tvar new_obs = t_data(t, r->new_obs, r->n, a->obs.size), loss = TAPE_BAD, next = TAPE_BAD;
    tvar x = t_concat(t, new_obs, next_action(a, b, new_obs)), y;
    const float *td;

    for (int i = 0; i < d->q.n; i++) {
        tvar q = net_apply_with(t, &d->q.nets[i], d->q.target, x, NULL, NULL);

        next = i ? t_min(t, next, q) : q;
    }
    y = offpol_target(t, r, next);
    x = t_concat(t, t_data(t, r->obs, r->n, a->obs.size),
                 offpol_unit_actions(t, &d->units, r->actions, r->n));
    for (int i = 0; i < d->q.n; i++) {
        tvar q = net_apply(t, &d->q.nets[i], x, NULL, false, NULL), e = t_sub(t, q, y);
        tvar part = offpol_td_loss(t, r, e, d->huber);

        loss = i ? t_add(t, loss, part) : part;
        td = tape_value(t, e);
        if (i == 0 && td) {
            double sum = 0.0;

            for (int k = 0; k < r->n; k++)
                sum += (double)td[k];
            if (r->td_errors)
                memcpy(r->td_errors, td, (size_t)r->n * sizeof(float));
            algo_stat(st, "mean_td_error", sum / r->n);
            offpol_q_stats(t, q, st);
        }
    }
    loss = offpol_l2(t, d->q.p, loss, d->l2);
    algo_stat(st, "critic_loss", (double)tape_scalar(t, loss));
    return loss;
}

static tvar actor_loss(struct algo *a, const struct offpol_rows *r, struct algo_stats *st) {
    struct ddpg *d = a->own;
    struct tape *t = a->tape;
    tvar obs = t_data(t, r->obs, r->n, a->obs.size);
    tvar unit = squash(t, d, net_apply(t, &d->pi, obs, NULL, false, NULL));
    tvar q = net_apply(t, &d->q.nets[0], t_concat(t, obs, unit), NULL, true, NULL);
    tvar loss = t_affine(t, t_mean(t, q), -1.0f, 0.0f);

    loss = offpol_l2(t, d->actor, loss, d->l2);
    algo_stat(st, "actor_loss", (double)tape_scalar(t, loss));
    return loss;
}

/* Gradients into the params of `which`. */
static int losses(struct algo *a, const struct algo_batch *b, unsigned which,
                  struct algo_stats *st, struct skate_error *err) {
    struct ddpg *d = a->own;
    struct offpol_rows r;
    tvar loss;
    int code = offpol_rows(a, b, d->discount, &r, err);

    if (code)
        return code;
    loss = critic_loss(a, b, &r, st);
    if (which & OPT_ACTOR)
        loss = t_add(a->tape, loss, actor_loss(a, &r, st));
    code = tape_backward(a->tape, loss);
    if (code)
        return err_fail(err, code, "the loss cannot be computed: %s",
                        tape_error(a->tape) ? tape_error_text(a->tape)
                                            : "it is not finite, the net has diverged");
    return 0;
}

static int update(struct algo *a, unsigned which, int rows, struct skate_error *err) {
    struct ddpg *d = a->own;
    bool due;
    int code = offpol_step(a, which, err);

    if (code)
        return code;
    a->vars[VAR_UPDATES] += 1.0;
    due = offpol_target_now(a, rows, d->target_freq);
    if (due && (!d->delay_targets || which & OPT_ACTOR)) {
        params_blend(d->q.target, d->q.p, d->tau);
        params_blend(d->target_actor, d->actor, d->tau);
    }
    return 0;
}

static int learn(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                 struct skate_error *err) {
    struct ddpg *d = a->own;
    bool actor = fmod(a->vars[VAR_UPDATES], d->delay) == 0.0;
    unsigned which = actor ? OPT_ACTOR | OPT_CRITIC : OPT_CRITIC;
    int code = losses(a, b, which, st, err);

    return code ? code : update(a, which, b->rows, err);
}

static int gradient(struct algo *a, const struct algo_batch *b, float *flat,
                    struct algo_stats *st, struct skate_error *err) {
    int code = losses(a, b, OPT_ACTOR | OPT_CRITIC, st, err);

    if (!code)
        algo_pull_grads(a, flat);
    return code;
}

static int apply(struct algo *a, const float *flat, struct skate_error *err) {
    algo_push_grads(a, flat);
    return update(a, OPT_ACTOR | OPT_CRITIC, 0, err);
}

const struct algo_api algo_ddpg_api = {
    .name = "DDPG", .make = make, .close = finish, .act = act, .learn = learn,
    .gradient = gradient, .apply = apply,
};
