/* algo_maddpg.c - MADDPG (Lowe et al. 2017): one actor an agent, critics that see everybody.
 *
 * All agents are one: an observation is theirs one after the other, then the reward of each for the
 * step before (so that new_obs has the rewards of the row's step); an action is theirs one after
 * the other, in [-1, 1] for a Box agent (tanh) and one-hot for a Discrete one, whose draw is
 * softmax(logits + Gumbel noise). Critic i learns r_i + gamma^n Q_i(all new observations, all
 * target actors' actions); actor i goes up critic i with the others' actions as taken. With
 * use_local_critic a critic sees its own agent only. Options: obs_sizes, action_sizes, discrete
 * (lists, one number an agent), actor_*, critic_*, tau, gamma, n_step, actor_feature_reg.
 * One owner, no locks, never blocks.
 * Tests: tests/unit/rl_offpol_test.c, tests/rl/test_maddpg.py. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rl/algo/offpol.h"

enum { AGENTS_MAX = 16, OPT_ALL = 3u };

struct agent {
    int obs_at, obs_n, act_at, act_n;
    bool discrete;
    struct net pi, q;
};

struct maddpg {
    int n, obs, acts;                   /* agents, numbers of all observations, of all actions */
    struct agent agents[AGENTS_MAX];
    struct params *actor, *actor_target, *critic, *critic_target;
    struct offpol_scratch scratch;
    float discount, tau, feature_reg;
    double target_freq;
    bool local;
};

/* What the losses of one update share. */
struct round {
    struct offpol_rows r;
    tvar all_obs, new_all_obs, acts, new_acts;
    const struct algo_batch *b;
};

static int read_agents(struct algo *a, struct maddpg *d, const struct algo_setup *s,
                       struct skate_error *err) {
    int obs[AGENTS_MAX], acts[AGENTS_MAX], discrete[AGENTS_MAX];

    d->n = algo_ints(s, "obs_sizes", obs, AGENTS_MAX);
    if (d->n < 1 || algo_ints(s, "action_sizes", acts, AGENTS_MAX) != d->n ||
        algo_ints(s, "discrete", discrete, AGENTS_MAX) != d->n)
        return err_fail(err, -SKATE_EINVAL, "obs_sizes, action_sizes and discrete are lists of one "
                        "number an agent, 1 to %d agents", AGENTS_MAX);
    for (int i = 0; i < d->n; i++) {
        if (obs[i] < 1 || acts[i] < 1 || obs[i] > a->obs.size || acts[i] > a->action.size)
            return err_fail(err, -SKATE_EINVAL, "agent %d has %d observations and %d actions", i,
                            obs[i], acts[i]);
        d->agents[i].obs_at = d->obs;
        d->agents[i].obs_n = obs[i];
        d->agents[i].act_at = d->acts;
        d->agents[i].act_n = acts[i];
        d->agents[i].discrete = discrete[i] != 0;
        d->obs += obs[i];
        d->acts += acts[i];
    }
    if (d->obs + d->n != a->obs.size || d->acts != a->action.size)
        return err_fail(err, -SKATE_EINVAL, "the agents' sizes make %d observations and %d "
                        "actions, the spaces have %d and %d", d->obs + d->n, d->acts, a->obs.size,
                        a->action.size);
    return 0;
}

static int add_nets(struct maddpg *d, const struct algo_setup *s, struct skate_error *err) {
    struct net unused;
    char prefix[24];

    for (int i = 0; i < d->n; i++) {
        struct agent *g = &d->agents[i];
        struct net_opts pi, q;
        int code = offpol_net(s, "actor", 0, g->act_n, &pi, err);

        if (!code)
            code = offpol_net(s, "critic", 0, 1, &q, err);
        if (code)
            return code;
        pi.in = g->obs_n;
        q.in = d->local ? g->obs_n + g->act_n : d->obs + d->acts;
        snprintf(prefix, sizeof(prefix), "agent%d", i);
        if ((code = net_add(&g->pi, d->actor, prefix, &pi)) ||
            (code = net_add(&unused, d->actor_target, prefix, &pi)) ||
            (code = net_add(&g->q, d->critic, prefix, &q)) ||
            (code = net_add(&unused, d->critic_target, prefix, &q)))
            return code;
    }
    return 0;
}

static int seal(struct algo *a, struct params *p, struct params *target) {
    int code = params_seal(p, &a->rng);

    if (!code)
        code = params_seal(target, &a->rng);
    if (!code)
        params_blend(target, p, 1.0f);
    return code;
}

static int make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    struct maddpg *d = calloc(1, sizeof(*d));
    int code;

    if (!d)
        return -SKATE_ENOMEM;
    a->own = d;
    a->n_inputs = a->action.size;
    if (a->action.kind != ALGO_BOX || a->obs.image[0])
        return err_fail(err, -SKATE_EINVAL, "MADDPG takes rows of numbers and one Box of actions");
    d->discount = (float)pow(algo_num(s, "gamma", 0.99), algo_num(s, "n_step", 1.0));
    d->tau = (float)algo_num(s, "tau", 0.01);
    d->feature_reg = (float)algo_num(s, "actor_feature_reg", 0.001);
    d->target_freq = algo_num(s, "target_network_update_freq", 0.0);
    d->local = algo_flag(s, "use_local_critic", false);
    if (!(d->tau >= 0.0f && d->tau <= 1.0f))
        return err_fail(err, -SKATE_EINVAL, "tau must be in 0..1, it is %g", (double)d->tau);
    code = offpol_target_vars(a);
    if (!code)
        code = read_agents(a, d, s, err);
    if (code)
        return code;
    d->actor = algo_params(a, true);
    d->actor_target = algo_params(a, false);
    d->critic = algo_params(a, false);
    d->critic_target = algo_params(a, false);
    if (!d->actor || !d->actor_target || !d->critic || !d->critic_target)
        return -SKATE_ENOMEM;
    code = add_nets(d, s, err);
    if (!code)
        code = seal(a, d->actor, d->actor_target);
    if (!code)
        code = seal(a, d->critic, d->critic_target);
    if (!code)
        code = offpol_optim(a, s, d->actor, algo_num(s, "actor_lr", 1e-2));
    if (!code)
        code = offpol_optim(a, s, d->critic, algo_num(s, "critic_lr", 1e-2));
    return code;
}

static void finish(struct algo *a) {
    struct maddpg *d = a->own;

    if (d)
        offpol_scratch_free(&d->scratch);
    free(d);
    a->own = NULL;
}

static float gumbel(struct rl_rng *rng) {
    return -logf(-logf(rl_rng_float(rng) * (1.0f - 2e-7f) + 1e-7f));
}

/* ---- acting ---- */

/* One agent's action from its net's outputs. */
static void act_row(struct algo *a, const struct agent *g, const float *out,
                    const struct algo_act *io, float *ret) {
    float best = -INFINITY;
    int choice = 0;

    for (int j = 0; j < g->act_n; j++) {
        float x = out[j];

        if (g->discrete) {
            x += io->explore ? gumbel(&a->rng) : 0.0f;
            choice = x > best ? j : choice;
            best = x > best ? x : best;
            ret[j] = 0.0f;
            continue;
        }
        x = tanhf(x);
        if (io->explore && io->noise > 0.0f)
            x += io->noise * (float)rl_rng_normal(&a->rng);
        ret[j] = fminf(fmaxf(x, -1.0f), 1.0f);
    }
    if (g->discrete)
        ret[choice] = 1.0f;
}

static int act(struct algo *a, const struct algo_act *io, struct skate_error *err) {
    struct maddpg *d = a->own;
    struct tape *t = a->tape;
    tvar x = t_data(t, io->obs, io->n, a->obs.size);

    for (int i = 0; i < d->n; i++) {
        const struct agent *g = &d->agents[i];
        const float *out = tape_value(t, net_apply(t, &g->pi, t_cols(t, x, g->obs_at, g->obs_n),
                                                   NULL, true, NULL));

        if (!out)
            return err_fail(err, tape_error(t), "act: %s", tape_error_text(t));
        for (int k = 0; k < io->n; k++, out += g->act_n) {
            size_t at = (size_t)k * (size_t)d->acts + (size_t)g->act_at;

            for (int j = 0; j < g->act_n; j++)
                if (!isfinite(out[j]))
                    return err_fail(err, -SKATE_EINVAL, "act: the actor of agent %d has diverged",
                                    i);
            act_row(a, g, out, io, (float *)io->actions + at);
            if (io->inputs)
                memcpy(io->inputs + at, out, (size_t)g->act_n * sizeof(float));
        }
    }
    for (int k = 0; k < io->n; k++) {
        if (io->logp)
            io->logp[k] = 0.0f;
        if (io->vf)
            io->vf[k] = 0.0f;
    }
    return 0;
}

/* ---- the losses ---- */

/* The noise of all agents' draws, [rows][acts]: the batch's own column, or drawn. */
static tvar draws(struct algo *a, const struct algo_batch *b, const char *name) {
    struct maddpg *d = a->own;
    const struct algo_col *own = algo_col(b, name);
    size_t n = (size_t)b->rows * (size_t)d->acts;
    float *x;

    if (own && own->dtype == ALGO_F32 && own->width == d->acts && own->rows == b->rows)
        return t_copy(a->tape, own->p, b->rows, d->acts);
    x = offpol_scratch(&d->scratch, n);
    if (!x)
        return TAPE_BAD;
    for (size_t i = 0; i < n; i++)
        x[i] = gumbel(&a->rng);
    return t_copy(a->tape, x, b->rows, d->acts);
}

/* The action of an agent's net, differentiable. */
static tvar soften(struct tape *t, const struct agent *g, tvar out, tvar noise) {
    if (!g->discrete)
        return t_act(t, out, ACT_TANH);
    return t_softmax(t, t_add(t, out, t_cols(t, noise, g->act_at, g->act_n)), 0);
}

static tvar join(struct tape *t, tvar all, tvar part) {
    return all == TAPE_BAD ? part : t_concat(t, all, part);
}

/* What critic i sees of all observations and actions. */
static tvar view(struct algo *a, const struct agent *g, tvar obs, tvar acts) {
    struct maddpg *d = a->own;
    struct tape *t = a->tape;

    if (d->local) {
        obs = t_cols(t, obs, g->obs_at, g->obs_n);
        acts = t_cols(t, acts, g->act_at, g->act_n);
    }
    return t_concat(t, obs, acts);
}

static int begin(struct algo *a, const struct algo_batch *b, struct round *ret,
                 struct skate_error *err) {
    struct maddpg *d = a->own;
    struct tape *t = a->tape;
    int code = offpol_rows(a, b, d->discount, &ret->r, err);
    tvar noise;

    if (code)
        return code;
    ret->b = b;
    ret->all_obs = t_cols(t, t_data(t, ret->r.obs, b->rows, a->obs.size), 0, d->obs);
    ret->new_all_obs = t_cols(t, t_data(t, ret->r.new_obs, b->rows, a->obs.size), 0, d->obs);
    ret->acts = t_data(t, ret->r.actions, b->rows, d->acts);
    ret->new_acts = TAPE_BAD;
    noise = draws(a, b, "new_noise");
    for (int i = 0; i < d->n; i++) {
        const struct agent *g = &d->agents[i];
        tvar out = net_apply_with(t, &g->pi, d->actor_target,
                                  t_cols(t, ret->new_all_obs, g->obs_at, g->obs_n), NULL, NULL);

        ret->new_acts = join(t, ret->new_acts, soften(t, g, out, noise));
    }
    return 0;
}

static tvar critic_loss(struct algo *a, const struct round *u, int i, struct algo_stats *st) {
    struct maddpg *d = a->own;
    struct tape *t = a->tape;
    const struct agent *g = &d->agents[i];
    tvar q = net_apply_with(t, &g->q, d->critic_target,
                            view(a, g, u->new_all_obs, u->new_acts), NULL, NULL);
    tvar on = t_affine(t, t_data(t, u->r.terminateds, u->r.n, 1), -1.0f, 1.0f), y, e;
    const float *errors;

    on = u->r.discounts ? t_mul(t, on, t_data(t, u->r.discounts, u->r.n, 1))
                        : t_affine(t, on, u->r.discount, 0.0f);
    y = t_cols(t, t_data(t, u->r.new_obs, u->r.n, a->obs.size), d->obs + i, 1);
    y = t_stop(t, t_add(t, t_mul(t, q, on), y));
    q = net_apply(t, &g->q, view(a, g, u->all_obs, u->acts), NULL, false, NULL);
    e = t_sub(t, q, y);
    errors = tape_value(t, e);
    for (int k = 0; errors && u->r.td_errors && k < u->r.n; k++)
        u->r.td_errors[k] = (i ? u->r.td_errors[k] : 0.0f) + fabsf(errors[k]) / (float)d->n;
    if (i == 0)
        offpol_q_stats(t, q, st);
    e = t_square(t, e);
    return t_mean(t, u->r.weights ? t_mul(t, e, t_data(t, u->r.weights, u->r.n, 1)) : e);
}

static tvar actor_loss(struct algo *a, const struct round *u, int i, tvar noise) {
    struct maddpg *d = a->own;
    struct tape *t = a->tape;
    const struct agent *g = &d->agents[i];
    tvar out = net_apply(t, &g->pi, t_cols(t, u->all_obs, g->obs_at, g->obs_n), NULL, false, NULL);
    int after = g->act_at + g->act_n;
    tvar acts = g->act_at ? t_cols(t, u->acts, 0, g->act_at) : TAPE_BAD, loss;

    acts = join(t, acts, soften(t, g, out, noise));
    if (after < d->acts)
        acts = t_concat(t, acts, t_cols(t, u->acts, after, d->acts - after));
    loss = t_mean(t, net_apply(t, &g->q, view(a, g, u->all_obs, acts), NULL, true, NULL));
    return t_add(t, t_affine(t, loss, -1.0f, 0.0f),
                 t_affine(t, t_mean(t, t_square(t, out)), d->feature_reg, 0.0f));
}

static int losses(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                  struct skate_error *err) {
    struct maddpg *d = a->own;
    struct tape *t = a->tape;
    struct round u = {0};
    tvar critic = TAPE_BAD, actor = TAPE_BAD, noise;
    int code = begin(a, b, &u, err);

    if (code)
        return code;
    noise = draws(a, b, "noise");
    for (int i = 0; i < d->n; i++) {
        tvar q = critic_loss(a, &u, i, st), pi = actor_loss(a, &u, i, noise);

        critic = i ? t_add(t, critic, q) : q;
        actor = i ? t_add(t, actor, pi) : pi;
    }
    algo_stat(st, "critic_loss", (double)tape_scalar(t, critic));
    algo_stat(st, "actor_loss", (double)tape_scalar(t, actor));
    code = tape_backward(t, t_add(t, critic, actor));
    if (code)
        return err_fail(err, code, "the loss cannot be computed: %s",
                        tape_error(t) ? tape_error_text(t)
                                      : "it is not finite, the net has diverged");
    return 0;
}

static int update(struct algo *a, int rows, struct skate_error *err) {
    struct maddpg *d = a->own;
    int code = offpol_step(a, OPT_ALL, err);

    if (!code && offpol_target_now(a, rows, d->target_freq)) {
        params_blend(d->actor_target, d->actor, d->tau);
        params_blend(d->critic_target, d->critic, d->tau);
    }
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

extern const struct algo_api algo_maddpg_api;
const struct algo_api algo_maddpg_api = {
    .name = "MADDPG", .make = make, .close = finish, .act = act, .learn = learn,
    .gradient = gradient, .apply = apply,
};
