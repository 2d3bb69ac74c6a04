/* algo_r2d2.c - see algo.h: R2D2 (Kapturowski et al. 2019): recurrent Q-learning on sequences.
 *
 * A batch is sequences of `steps`; state_in is the state before their first step (zeros with
 * zero_init_states, or when the column is missing). The first burn_in steps only warm the state up,
 * without a gradient. A step is learned from if its mask is 1 and either it ends the episode
 * (terminateds) or the next one of its sequence is there, which gives the bootstrap. Where the mask
 * is 0 the state passes unchanged. Values are squeezed by h(x) = sign(x)(sqrt(|x|+1)-1) + eps x
 * when use_h_function is on. td_errors, if there, has one row a sequence: the mean of |TD| over
 * what was learned from, and eta * greatest + (1 - eta) * mean with priority_eta.
 * Options besides those of DQN: lstm_cell_size, burn_in, use_h_function, h_function_epsilon,
 * zero_init_states, priority_eta. One owner, never blocks.
 * Tests: tests/rl/test_value_math.py,
 * tests/unit/rl_value_test.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rl/algo/qnet.h"

struct r2d2 {
    struct qnet q;
    float gamma, tau, h_epsilon, eta;
    bool double_q, h_function, zero_init;
    int burn_in, every;
    int ask, since;                     /* variables, as in algo_dqn.c */
    float *room;
    size_t n_room;
};

/* A batch in the order of time, from `room`. */
struct r2d2_batch {
    int n, steps;                       /* sequences, steps */
    const float *state;                 /* [n][state size] or NULL */
    float *obs;                         /* [steps][n][size] */
    float *rewards, *terminateds, *mask, *learned, *weights;    /* [steps][n] */
    float *values, *later, *targets;    /* [steps][n][actions], the same, [steps][n] */
    int32_t *actions;
};

static void r2d2_close(struct algo *a) {
    struct r2d2 *d = a->own;

    if (d) {
        qnet_release(&d->q);
        free(d->room);
    }
    free(d);
}

static int r2d2_make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    struct r2d2 *d = calloc(1, sizeof(*d));
    double burn_in, every;
    int r;

    if (!d)
        return -SKATE_ENOMEM;
    a->own = d;
    d->gamma = (float)algo_num(s, "gamma", 0.99);
    d->tau = (float)algo_num(s, "tau", 1.0);
    d->double_q = algo_flag(s, "double_q", true);
    d->h_function = algo_flag(s, "use_h_function", true);
    d->h_epsilon = (float)algo_num(s, "h_function_epsilon", 1e-3);
    d->zero_init = algo_flag(s, "zero_init_states", true);
    d->eta = (float)algo_num(s, "priority_eta", 0.0);
    burn_in = algo_num(s, "burn_in", 0.0);
    every = algo_num(s, "target_update_every", 0.0);
    if (!(d->gamma >= 0.0f && d->gamma <= 1.0f) || !(d->tau > 0.0f && d->tau <= 1.0f))
        return err_fail(err, -SKATE_EINVAL, "gamma must be 0 to 1 and tau above 0: %g, %g",
                        (double)d->gamma, (double)d->tau);
    if (!(d->h_epsilon > 0.0f) || !(d->eta >= 0.0f && d->eta <= 1.0f))
        return err_fail(err, -SKATE_EINVAL, "h_function_epsilon must be above 0 and "
                        "priority_eta 0 to 1: %g, %g", (double)d->h_epsilon, (double)d->eta);
    if (!(burn_in >= 0.0 && burn_in <= 1e6) || !(every >= 0.0 && every <= 1e9))
        return err_fail(err, -SKATE_EINVAL, "burn_in and target_update_every must be 0 or more");
    d->burn_in = (int)burn_in;
    d->every = (int)every;
    d->ask = algo_var(a, "update_target", 0.0);
    d->since = algo_var(a, NULL, 0.0);
    if (d->ask < 0 || d->since < 0)
        return -SKATE_EINVAL;
    r = qnet_make(a, s, CELL_LSTM, &d->q, err);
    if (r == 0 && d->q.atoms > 1)
        return err_fail(err, -SKATE_EINVAL, "num_atoms must be 1 with R2D2");
    a->state_size = net_state_size(&d->q.body);
    return r;
}

static float *room(struct r2d2 *d, size_t n) {
    if (n > d->n_room) {
        float *block = realloc(d->room, n * sizeof(*block));

        if (!block)
            return NULL;
        d->room = block;
        d->n_room = n;
    }
    return d->room;
}

static int r2d2_act(struct algo *a, const struct algo_act *io, struct skate_error *err) {
    struct r2d2 *d = a->own;
    struct tape *t = a->tape;
    tvar state = t_copy(t, io->state, io->n, a->state_size), out;
    const float *values;

    out = qnet_apply(a, &d->q, NULL, t_data(t, io->obs, io->n, a->obs.size), &state, true,
                     io->explore);
    values = tape_value(t, out);
    if (!values)
        return err_fail(err, tape_error(t), "act: %s", tape_error_text(t));
    for (int i = 0; i < io->n * d->q.actions; i++)
        if (!isfinite(values[i]))
            return err_fail(err, -SKATE_EINVAL, "the net has diverged: a value of an action is "
                            "not finite");
    qnet_choose(a, io, values);
    memcpy(io->state, tape_value(t, state),
           (size_t)io->n * (size_t)a->state_size * sizeof(float));
    return 0;
}

/* ---- the batch ---- */

static void ones(float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        x[i] = 1.0f;
}

static int take(struct algo *a, const struct algo_batch *b, struct r2d2_batch *ret,
                struct skate_error *err) {
    const float *obs = algo_f32(b, "obs", a->obs.size, err), *rewards, *terminateds;
    const float *mask = NULL, *weights = NULL;
    const int32_t *actions;
    int n = ret->n, steps = ret->steps;
    size_t rows = (size_t)b->rows;

    if (!obs || !(actions = algo_i32(b, "actions", 1, err)) ||
        !(rewards = algo_f32(b, "rewards", 1, err)) ||
        !(terminateds = algo_f32(b, "terminateds", 1, err)) ||
        (algo_col(b, "mask") && !(mask = algo_f32(b, "mask", 1, err))) ||
        (algo_col(b, "weights") && !(weights = algo_f32(b, "weights", 1, err))))
        return -SKATE_EINVAL;
    qnet_by_time(obs, n, steps, a->obs.size, ret->obs);
    qnet_by_time(rewards, n, steps, 1, ret->rewards);
    qnet_by_time(terminateds, n, steps, 1, ret->terminateds);
    qnet_by_time((const float *)(const void *)actions, n, steps, 1, (float *)(void *)ret->actions);
    if (mask)
        qnet_by_time(mask, n, steps, 1, ret->mask);
    else
        ones(ret->mask, rows);
    if (weights)
        qnet_by_time(weights, n, steps, 1, ret->weights);
    else
        ones(ret->weights, rows);
    return 0;
}

static int read_state(struct algo *a, const struct algo_batch *b, struct r2d2_batch *ret,
                      struct skate_error *err) {
    const struct algo_col *c = algo_col(b, "state_in");
    struct r2d2 *d = a->own;

    ret->state = NULL;
    if (!c || d->zero_init)
        return 0;
    if (c->dtype != ALGO_F32 || c->rows != ret->n || c->width != a->state_size)
        return err_fail(err, -SKATE_EINVAL, "'state_in' must be float32 %d x %d, it is %d x %d",
                        ret->n, a->state_size, c->rows, c->width);
    ret->state = c->p;
    return 0;
}

/* Which steps are learned from: see the head of this file. How many. */
static int choose_steps(const struct r2d2 *d, struct r2d2_batch *b) {
    size_t n = (size_t)b->n;
    int count = 0;

    for (int k = 0; k < b->steps; k++)
        for (size_t i = 0; i < n; i++) {
            size_t at = (size_t)k * n + i;
            bool next = k + 1 < b->steps && b->mask[at + n] != 0.0f;

            b->learned[at] = k >= d->burn_in && b->mask[at] != 0.0f &&
                             (next || b->terminateds[at] != 0.0f);
            count += b->learned[at] != 0.0f;
        }
    return count;
}

static int read_batch(struct algo *a, const struct algo_batch *b, struct r2d2_batch *ret,
                      struct skate_error *err) {
    struct r2d2 *d = a->own;
    size_t rows = (size_t)b->rows, actions = (size_t)d->q.actions;
    float *at = room(d, rows * ((size_t)a->obs.size + 7 + 2 * actions));
    int r;

    if (!at)
        return -SKATE_ENOMEM;
    ret->steps = b->steps;
    ret->n = b->rows / b->steps;
    ret->obs = at;
    ret->rewards = at + rows * (size_t)a->obs.size;
    ret->terminateds = ret->rewards + rows;
    ret->mask = ret->terminateds + rows;
    ret->learned = ret->mask + rows;
    ret->weights = ret->learned + rows;
    ret->targets = ret->weights + rows;
    ret->actions = (int32_t *)(void *)(ret->targets + rows);
    ret->values = ret->targets + 2 * rows;
    ret->later = ret->values + rows * actions;
    r = take(a, b, ret, err);
    if (r == 0)
        r = read_state(a, b, ret, err);
    if (r == 0 && choose_steps(d, ret) == 0)
        return err_fail(err, -SKATE_EINVAL, "the batch has no step to learn from: burn_in is %d "
                        "of %d steps, the rest is padding", d->burn_in, b->steps);
    return r;
}

/* ---- the loss ---- */

/* The values of all steps into `ret` [steps][n][actions]; `outs`, if wanted, are their nodes, with
 * gradients from the end of the burn-in on. */
static void unroll(struct algo *a, const struct r2d2_batch *b, const struct params *target,
                   float *ret, tvar *outs) {
    struct r2d2 *d = a->own;
    struct tape *t = a->tape;
    size_t each = (size_t)b->n * (size_t)d->q.actions, width = (size_t)a->obs.size;
    tvar state = b->state ? t_data(t, b->state, b->n, a->state_size)
                          : t_fill(t, 0.0f, b->n, a->state_size);

    for (int k = 0; k < b->steps; k++) {
        tvar x = t_data(t, b->obs + (size_t)k * (size_t)b->n * width, b->n, a->obs.size);
        tvar next = state, out;

        out = qnet_apply(a, &d->q, target, x, &next, !outs || k < d->burn_in, true);
        state = qnet_keep_state(t, b->mask + (size_t)k * (size_t)b->n, b->n, state, next);
        if (outs)
            outs[k] = out;
        if (tape_value(t, out))
            memcpy(ret + (size_t)k * each, tape_value(t, out), each * sizeof(float));
    }
}

static double squeeze(double x, double epsilon) {
    double y = sqrt(fabs(x) + 1.0) - 1.0;

    return (x < 0.0 ? -y : y) + epsilon * x;
}

static double unsqueeze(double x, double epsilon) {
    double y = (sqrt(1.0 + 4.0 * epsilon * (fabs(x) + 1.0 + epsilon)) - 1.0) / (2.0 * epsilon);

    y = y * y - 1.0;
    return x < 0.0 ? -y : y;
}

static void make_targets(const struct r2d2 *d, struct r2d2_batch *b) {
    size_t n = (size_t)b->n, actions = (size_t)d->q.actions, rows = n * (size_t)b->steps;

    for (size_t at = 0; at < rows; at++) {
        double y = (double)b->rewards[at], later = 0.0;

        if (b->learned[at] != 0.0f && b->terminateds[at] == 0.0f) {
            const float *next = b->later + (at + n) * actions;
            const float *by = d->double_q ? b->values + (at + n) * actions : next;

            later = (double)next[qnet_best(by, NULL, d->q.actions)];
            if (d->h_function)
                later = unsqueeze(later, (double)d->h_epsilon);
        }
        y += (double)d->gamma * later;
        b->targets[at] = (float)(d->h_function ? squeeze(y, (double)d->h_epsilon) : y);
    }
}

static void write_errors(const struct r2d2 *d, const struct r2d2_batch *b, float *ret) {
    size_t n = (size_t)b->n, actions = (size_t)d->q.actions;

    for (size_t i = 0; i < n; i++) {
        double sum = 0.0, most = 0.0, count = 0.0;

        for (size_t at = i; at < n * (size_t)b->steps; at += n) {
            size_t action = (size_t)b->actions[at];
            double e = fabs((double)b->values[at * actions + action] - (double)b->targets[at]);

            if (b->learned[at] != 0.0f) {
                sum += e;
                count += 1.0;
                most = e > most ? e : most;
            }
        }
        sum = count > 0.0 ? sum / count : 0.0;
        ret[i] = (float)((double)d->eta * most + (1.0 - (double)d->eta) * sum);
    }
}

static void write_stats(struct algo *a, const struct r2d2_batch *b, struct algo_stats *st) {
    struct r2d2 *d = a->own;
    size_t rows = (size_t)b->n * (size_t)b->steps;
    double sum = 0.0, low = INFINITY, high = -INFINITY, error = 0.0, count = 0.0;

    for (size_t at = 0; at < rows; at++) {
        double v = (double)b->values[at * (size_t)d->q.actions + (size_t)b->actions[at]];

        if (b->learned[at] == 0.0f)
            continue;
        count += 1.0;
        sum += v;
        error += v - (double)b->targets[at];
        low = v < low ? v : low;
        high = v > high ? v : high;
    }
    algo_stat(st, "mean_q", sum / count);
    algo_stat(st, "min_q", low);
    algo_stat(st, "max_q", high);
    algo_stat(st, "mean_td_error", error / count);
    algo_stat(st, "cur_lr", (double)a->optims[0].opts.lr);
}

/* The mean over the learned steps of weight * huber(value - target). */
static tvar loss(struct algo *a, struct r2d2_batch *b, const tvar *outs) {
    struct r2d2 *d = a->own;
    struct tape *t = a->tape;
    tvar total = t_fill(t, 0.0f, 1, 1);
    float count = 0.0f;

    for (int k = d->burn_in; k < b->steps; k++) {
        size_t at = (size_t)k * (size_t)b->n;
        float any = 0.0f;
        tvar td;

        for (int i = 0; i < b->n; i++) {
            any += b->learned[at + (size_t)i];
            b->weights[at + (size_t)i] *= b->learned[at + (size_t)i];
        }
        if (any == 0.0f)
            continue;
        count += any;
        td = t_sub(t, t_pick(t, outs[k], b->actions + at), t_data(t, b->targets + at, b->n, 1));
        td = t_mul(t, t_huber(t, td, 1.0f), t_data(t, b->weights + at, b->n, 1));
        total = t_add(t, total, t_sum(t, td));
    }
    return t_affine(t, total, 1.0f / count, 0.0f);
}

static int backward(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                    struct skate_error *err) {
    const struct algo_col *wanted = algo_col(b, "td_errors");
    struct r2d2 *d = a->own;
    struct r2d2_batch batch;
    tvar *outs, total;
    int r = read_batch(a, b, &batch, err);

    if (r < 0)
        return r;
    if (wanted && (wanted->dtype != ALGO_F32 || wanted->rows != batch.n || wanted->width != 1 ||
                   !wanted->writable))
        return err_fail(err, -SKATE_EINVAL, "'td_errors' must be writable float32, one a "
                        "sequence");
    outs = malloc((size_t)batch.steps * sizeof(*outs));
    if (!outs)
        return -SKATE_ENOMEM;
    unroll(a, &batch, NULL, batch.values, outs);
    unroll(a, &batch, a->params[1], batch.later, NULL);
    make_targets(d, &batch);
    total = loss(a, &batch, outs);
    free(outs);
    r = tape_backward(a->tape, total);
    if (r < 0)
        return err_fail(err, r, "the loss is not finite: the net has diverged (lr %g)",
                        (double)a->optims[0].opts.lr);
    algo_stat(st, "loss", (double)tape_scalar(a->tape, total));
    write_stats(a, &batch, st);
    if (wanted)
        write_errors(d, &batch, wanted->p);
    return 0;
}

static int step(struct algo *a, struct skate_error *err) {
    struct r2d2 *d = a->own;
    int r = optim_step(&a->optims[0]);

    if (r < 0)
        return err_fail(err, r, "a gradient is not finite: the net has diverged (lr %g)",
                        (double)a->optims[0].opts.lr);
    qnet_target(a, d->ask, d->since, d->every, d->tau);
    return 0;
}

static int r2d2_learn(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                      struct skate_error *err) {
    int r = backward(a, b, st, err);

    if (r == 0)
        r = step(a, err);
    if (r == 0)
        algo_stat(st, "grad_gnorm", (double)a->optims[0].grad_norm);
    return r;
}

static int r2d2_gradient(struct algo *a, const struct algo_batch *b, float *flat,
                         struct algo_stats *st, struct skate_error *err) {
    int r = backward(a, b, st, err);

    if (r == 0)
        algo_pull_grads(a, flat);
    return r;
}

static int r2d2_apply(struct algo *a, const float *flat, struct skate_error *err) {
    algo_push_grads(a, flat);
    return step(a, err);
}

extern const struct algo_api algo_r2d2_api;
const struct algo_api algo_r2d2_api = {
    .name = "R2D2",
    .make = r2d2_make,
    .close = r2d2_close,
    .act = r2d2_act,
    .learn = r2d2_learn,
    .gradient = r2d2_gradient,
    .apply = r2d2_apply,
};
