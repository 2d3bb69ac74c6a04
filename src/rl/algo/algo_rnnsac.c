/* algo_rnnsac.c - SAC on sequences: actor and critics have an LSTM behind their hidden layers.
 *
 * A batch is sequences of `steps`. The actor's state before the first step is state_in (zeros with
 * zero_init_states, or without the column); the critics' is zeros, and goes on by the actions that
 * were taken: the critics value the actor's own action from there. The first burn_in steps only
 * warm the states up. The actor learns from every other step with mask 1, the critics from those
 * of them that end the episode (terminateds) or whose next step is in the sequence, which gives the
 * bootstrap. Where the mask is 0 a state passes unchanged. td_errors has one row a sequence.
 * One owner, no locks, never blocks. Tests: tests/unit/rl_offpol_test.c, tests/rl/. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rl/algo/sac.h"

enum { VAR_ZERO = OFFPOL_ASKED + 1, VAR_BURN_IN };

/* A batch in the order of time: row k * n + i is step k of sequence i. */
struct unrolled {
    int n, steps, rows;
    const float *state;                 /* [n][state size] or NULL */
    float *obs, *actions, *rewards, *terminateds, *mask, *weights;
    float *learned, *acted;             /* 1: the critics, the actor learn from this step */
    int32_t *choices;
    float n_learned, n_acted;
    tvar x, pair, alpha;                /* obs; (obs, action taken) */
    float *td;                          /* [n] or NULL */
    struct algo_stats *st;
};

static int make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    double cell = algo_num(s, "lstm_cell_size", 256.0), burn_in = algo_num(s, "burn_in", 0.0);
    struct sac *c;
    int code;

    if (!(cell >= 1.0 && cell <= 65536.0))
        return err_fail(err, -SKATE_EINVAL, "lstm_cell_size must be in 1..65536, it is %g", cell);
    if (!(burn_in >= 0.0 && burn_in <= 1e6))
        return err_fail(err, -SKATE_EINVAL, "burn_in must be 0 or more, it is %g", burn_in);
    code = sac_make_with(a, s, 0, (int)cell, err);
    if (code)
        return code;
    c = a->own;
    a->state_size = net_state_size(&c->pi);
    if (algo_var(a, NULL, algo_flag(s, "zero_init_states", true)) != VAR_ZERO ||
        algo_var(a, NULL, floor(burn_in)) != VAR_BURN_IN)
        return -SKATE_EINVAL;
    return 0;
}

/* ---- the batch ---- */

/* A column of 4-byte numbers, [n][steps][width] to [steps][n][width]; NULL: ones. */
static void by_time(const struct unrolled *u, const void *from, int width, void *to) {
    size_t bytes = (size_t)width * sizeof(float);
    const char *p = from;

    for (int i = 0; i < u->n; i++)
        for (int k = 0; k < u->steps; k++) {
            char *row = (char *)to + (size_t)(k * u->n + i) * bytes;

            if (p)
                memcpy(row, p + (size_t)(i * u->steps + k) * bytes, bytes);
            else
                ((float *)(void *)row)[0] = 1.0f;
        }
}

static void choose_steps(struct unrolled *u, int burn_in) {
    u->n_learned = u->n_acted = 0.0f;
    for (int row = 0; row < u->rows; row++) {
        bool in = row / u->n >= burn_in && u->mask[row] != 0.0f;
        bool next = row + u->n < u->rows && u->mask[row + u->n] != 0.0f;

        u->acted[row] = in;
        u->learned[row] = in && (next || u->terminateds[row] != 0.0f);
        u->n_acted += u->acted[row];
        u->n_learned += u->learned[row];
    }
}

static int read_columns(struct algo *a, const struct algo_batch *b, struct unrolled *u,
                        struct skate_error *err) {
    struct sac *c = a->own;
    const float *obs = algo_f32(b, "obs", a->obs.size, err), *rewards, *terminateds;
    const float *mask = NULL, *weights = NULL;
    const void *actions;

    if (!obs || !(rewards = algo_f32(b, "rewards", 1, err)) ||
        !(terminateds = algo_f32(b, "terminateds", 1, err)) ||
        (algo_col(b, "mask") && !(mask = algo_f32(b, "mask", 1, err))) ||
        (algo_col(b, "weights") && !(weights = algo_f32(b, "weights", 1, err))))
        return -SKATE_EINVAL;
    actions = c->discrete ? (const void *)algo_i32(b, "actions", 1, err)
                          : (const void *)algo_f32(b, "actions", a->action.size, err);
    if (!actions)
        return -SKATE_EINVAL;
    by_time(u, obs, a->obs.size, u->obs);
    by_time(u, rewards, 1, u->rewards);
    by_time(u, terminateds, 1, u->terminateds);
    by_time(u, mask, 1, u->mask);
    by_time(u, weights, 1, u->weights);
    by_time(u, actions, c->discrete ? 1 : a->action.size,
            c->discrete ? (void *)u->choices : (void *)u->actions);
    return 0;
}

static int read_state(struct algo *a, const struct algo_batch *b, struct unrolled *u,
                      struct skate_error *err) {
    const struct algo_col *c = algo_col(b, "state_in");

    u->state = NULL;
    if (!c || a->vars[VAR_ZERO] != 0.0)
        return 0;
    if (c->dtype != ALGO_F32 || c->rows != u->n || c->width != a->state_size)
        return err_fail(err, -SKATE_EINVAL, "'state_in' must be float32 %d x %d, it is %d x %d",
                        u->n, a->state_size, c->rows, c->width);
    u->state = c->p;
    return 0;
}

static int unroll_batch(struct algo *a, const struct algo_batch *b, struct unrolled *u,
                        struct skate_error *err) {
    struct sac *c = a->own;
    size_t rows = (size_t)b->rows, width = (size_t)(a->obs.size + a->action.size + 7);
    float *at = offpol_scratch(&c->quantiles, rows * width);
    int code;

    if (!at)
        return -SKATE_ENOMEM;
    u->steps = b->steps;
    u->rows = b->rows;
    u->n = b->rows / b->steps;
    u->obs = at;
    u->actions = u->obs + rows * (size_t)a->obs.size;
    u->rewards = u->actions + rows * (size_t)a->action.size;
    u->terminateds = u->rewards + rows;
    u->mask = u->terminateds + rows;
    u->weights = u->mask + rows;
    u->learned = u->weights + rows;
    u->acted = u->learned + rows;
    u->choices = (int32_t *)(void *)(u->acted + rows);
    code = read_columns(a, b, u, err);
    if (!code)
        code = read_state(a, b, u, err);
    if (code)
        return code;
    choose_steps(u, (int)a->vars[VAR_BURN_IN]);
    if (u->n_learned == 0.0f)
        return err_fail(err, -SKATE_EINVAL, "the batch has no step to learn from: burn_in is %d of "
                        "%d steps, the rest is padding", (int)a->vars[VAR_BURN_IN], b->steps);
    return 0;
}

/* ---- nets over time ---- */

/* The state after a step: the new one where there was a step, else the old one. */
static tvar keep_state(struct tape *t, const float *mask, int n, tvar old, tvar next) {
    tvar m = t_data(t, mask, n, 1);

    return t_add(t, t_mul(t, next, m), t_mul(t, old, t_affine(t, m, -1.0f, 1.0f)));
}

struct over_time {
    const struct net *net;
    const struct params *target;        /* other tensors, or NULL */
    const float *start;                 /* [n][state size]; NULL: zeros */
    bool frozen;
    /* Rows to value from the same states, without a gradient to the net, and their outputs. */
    bool ask;
    tvar asked, answers;
};

static tvar one_step(struct tape *t, const struct over_time *o, tvar x, tvar *state, bool frozen) {
    return o->target ? net_apply_with(t, o->net, o->target, x, state, NULL)
                     : net_apply(t, o->net, x, state, frozen, NULL);
}

/* The outputs of all steps, [steps * n][out]; the states go on by x. */
static tvar unroll(struct algo *a, const struct unrolled *u, struct over_time *o, tvar x) {
    struct tape *t = a->tape;
    int size = net_state_size(o->net), burn_in = (int)a->vars[VAR_BURN_IN];
    tvar state = o->start ? t_data(t, o->start, u->n, size) : t_fill(t, 0.0f, u->n, size);
    tvar all = TAPE_BAD;

    for (int k = 0; k < u->steps; k++) {
        tvar next = state, side = t_stop(t, state), out;

        out = one_step(t, o, t_rows(t, x, k * u->n, u->n), &next, o->frozen || k < burn_in);
        if (o->ask) {
            tvar answer = one_step(t, o, t_rows(t, o->asked, k * u->n, u->n), &side, true);

            o->answers = k ? t_stack(t, o->answers, answer) : answer;
        }
        all = k ? t_stack(t, all, out) : out;
        state = keep_state(t, u->mask + k * u->n, u->n, state, next);
    }
    return all;
}

/* Row k * n + i of step k + 1; the last step gets itself, which nothing learns from. */
static tvar shifted(struct tape *t, const struct unrolled *u, tvar x) {
    if (u->steps == 1)
        return x;
    return t_stack(t, t_rows(t, x, u->n, u->rows - u->n), t_rows(t, x, u->rows - u->n, u->n));
}

/* sum(x * which) / count */
static tvar mean_over(struct tape *t, const struct unrolled *u, tvar x, const float *which,
                      float count) {
    return t_affine(t, t_sum(t, t_mul(t, x, t_data(t, which, u->rows, 1))), 1.0f / count, 0.0f);
}

/* ---- the losses ---- */

struct policy_out {
    tvar action, logp;                  /* BOX */
    tvar log_pi;                        /* DISCRETE */
};

static struct policy_out run_actor(struct algo *a, const struct algo_batch *b,
                                   const struct unrolled *u, const char *noise, bool frozen) {
    struct sac *c = a->own;
    struct over_time o = {.net = &c->pi, .start = u->state, .frozen = frozen};
    struct policy_out ret = {TAPE_BAD, TAPE_BAD, TAPE_BAD};
    tvar inputs = unroll(a, u, &o, u->x);

    if (c->discrete)
        ret.log_pi = t_log_softmax(a->tape, inputs, 0);
    else
        ret.action = squash_draw(a->tape, &c->dist, inputs,
                                 offpol_noise(a, b, noise, a->action.size, &c->scratch),
                                 &ret.logp);
    return ret;
}

/* What the critics learn, [rows][1]. */
static tvar target(struct algo *a, const struct algo_batch *b, const struct unrolled *u) {
    struct sac *c = a->own;
    struct tape *t = a->tape;
    struct policy_out pi = run_actor(a, b, u, "new_noise", true);
    tvar asked = c->discrete ? TAPE_BAD : t_concat(t, u->x, pi.action), value = TAPE_BAD;
    struct offpol_rows r = {.n = u->rows, .rewards = u->rewards, .terminateds = u->terminateds,
                            .discount = c->discount};

    for (int i = 0; i < c->q.n; i++) {
        struct over_time o = {.net = &c->q.nets[i], .target = c->q.target, .frozen = true,
                              .ask = !c->discrete, .asked = asked};
        tvar all = unroll(a, u, &o, u->pair), q = c->discrete ? all : o.answers;

        value = i ? t_min(t, value, q) : q;
    }
    value = t_sub(t, value, t_mul(t, c->discrete ? pi.log_pi : pi.logp, u->alpha));
    if (c->discrete)
        value = t_sum_cols(t, t_mul(t, t_exp(t, pi.log_pi), value));
    return offpol_target(t, &r, shifted(t, u, value));
}

/* One row a sequence: the mean of the critics' |error| over the learned steps. */
static void add_errors(const struct unrolled *u, const float *errors, int critics) {
    for (int i = 0; errors && i < u->n; i++) {
        float sum = 0.0f, count = 0.0f;

        for (int row = i; row < u->rows; row += u->n) {
            sum += u->learned[row] * fabsf(errors[row]);
            count += u->learned[row];
        }
        u->td[i] += count > 0.0f ? sum / (count * (float)critics) : 0.0f;
    }
}

/* `own` gets what the actor's loss needs of the critics: the least value of its action, or the
 * first critic's of all actions. */
static tvar critic_loss(struct algo *a, const struct unrolled *u, tvar y,
                        const struct policy_out *pi, tvar *own) {
    struct sac *c = a->own;
    struct tape *t = a->tape;
    tvar asked = c->discrete ? TAPE_BAD : t_concat(t, u->x, pi->action), loss = TAPE_BAD;

    for (int i = 0; i < c->q.n; i++) {
        struct over_time o = {.net = &c->q.nets[i], .ask = !c->discrete, .asked = asked};
        tvar q = unroll(a, u, &o, u->pair), e, part;

        if (c->discrete)
            *own = i ? *own : t_stop(t, q);
        else
            *own = i ? t_min(t, *own, o.answers) : o.answers;
        if (i == 0)
            offpol_q_stats(t, q, u->st);
        e = t_sub(t, c->discrete ? t_pick(t, q, u->choices) : q, y);
        if (u->td)
            add_errors(u, tape_value(t, e), c->q.n);
        part = c->huber > 0.0f ? t_huber(t, e, c->huber)
                               : t_affine(t, t_square(t, e), 0.5f, 0.0f);
        part = t_mul(t, part, t_data(t, u->weights, u->rows, 1));
        part = mean_over(t, u, part, u->learned, u->n_learned);
        loss = i ? t_add(t, loss, part) : part;
    }
    return loss;
}

static tvar actor_loss(struct algo *a, const struct unrolled *u, const struct policy_out *pi,
                       tvar own) {
    struct sac *c = a->own;
    struct tape *t = a->tape;
    tvar x = t_sub(t, t_mul(t, c->discrete ? pi->log_pi : pi->logp, u->alpha), own);

    if (c->discrete)
        x = t_sum_cols(t, t_mul(t, t_exp(t, pi->log_pi), x));
    return mean_over(t, u, x, u->acted, u->n_acted);
}

static tvar alpha_loss(struct algo *a, const struct unrolled *u, const struct policy_out *pi) {
    struct sac *c = a->own;
    struct tape *t = a->tape;
    tvar gap = t_affine(t, c->discrete ? pi->log_pi : pi->logp, 1.0f, c->target_entropy);

    if (c->discrete)
        gap = t_sum_cols(t, t_mul(t, t_exp(t, pi->log_pi), gap));
    gap = mean_over(t, u, t_stop(t, gap), u->acted, u->n_acted);
    return t_affine(t, t_mul(t, t_param(t, c->temperature, 0), gap), -1.0f, 0.0f);
}

static int errors_column(const struct algo_batch *b, int n, float **ret, struct skate_error *err) {
    const struct algo_col *td = algo_col(b, "td_errors");

    *ret = NULL;
    if (!td)
        return 0;
    if (td->dtype != ALGO_F32 || td->rows != n || td->width != 1 || !td->writable)
        return err_fail(err, -SKATE_EINVAL,
                        "'td_errors' must be writable float32, one a sequence");
    *ret = td->p;
    memset(td->p, 0, (size_t)n * sizeof(float));
    return 0;
}

static int losses(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                  struct skate_error *err) {
    struct sac *c = a->own;
    struct tape *t = a->tape;
    struct unrolled u;
    struct policy_out pi;
    tvar q, actor, alpha, own = TAPE_BAD;
    int code = unroll_batch(a, b, &u, err);

    if (!code)
        code = errors_column(b, u.n, &u.td, err);
    if (code)
        return code;
    u.st = st;
    u.x = t_data(t, u.obs, u.rows, a->obs.size);
    u.pair = c->discrete ? u.x : t_concat(t, u.x, offpol_unit_actions(t, &c->units, u.actions,
                                                                      u.rows));
    u.alpha = t_exp(t, t_frozen(t, c->temperature, 0));
    pi = run_actor(a, b, &u, "noise", false);
    q = critic_loss(a, &u, target(a, b, &u), &pi, &own);
    actor = actor_loss(a, &u, &pi, own);
    alpha = alpha_loss(a, &u, &pi);
    algo_stat(st, "critic_loss", (double)tape_scalar(t, q));
    algo_stat(st, "actor_loss", (double)tape_scalar(t, actor));
    algo_stat(st, "alpha_loss", (double)tape_scalar(t, alpha));
    algo_stat(st, "alpha_value", (double)tape_scalar(t, u.alpha));
    algo_stat(st, "log_alpha_value", log((double)tape_scalar(t, u.alpha)));
    algo_stat(st, "target_entropy", (double)c->target_entropy);
    code = tape_backward(t, t_add(t, t_add(t, q, actor), alpha));
    if (code)
        return err_fail(err, code, "the loss cannot be computed: %s",
                        tape_error(t) ? tape_error_text(t)
                                      : "it is not finite, the net has diverged");
    return 0;
}

static int learn(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                 struct skate_error *err) {
    int code = losses(a, b, st, err);

    return code ? code : sac_update(a, b->rows, err);
}

static int gradient(struct algo *a, const struct algo_batch *b, float *flat,
                    struct algo_stats *st, struct skate_error *err) {
    int code = losses(a, b, st, err);

    if (!code)
        algo_pull_grads(a, flat);
    return code;
}

extern const struct algo_api algo_rnnsac_api;
const struct algo_api algo_rnnsac_api = {
    .name = "RNNSAC", .make = make, .close = sac_close, .act = sac_act, .learn = learn,
    .gradient = gradient, .apply = sac_apply,
};
