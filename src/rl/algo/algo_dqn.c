/* algo_dqn.c - see algo.h: DQN and its family (SimpleQ, Rainbow's parts, Ape-X's learner).
 *
 * Options besides the net's (qnet.h, algo_net_opts): gamma, double_q, huber (else half squares),
 * tau, target_update_every (updates between copies to the target net; 0: only when asked by the
 * variable "update_target"), lr, adam_epsilon, grad_clip, num_atoms, v_min, v_max, noisy.
 * Columns: obs, actions, rewards, new_obs, terminateds; weights, discounts if there; td_errors is
 * written. One owner, never blocks. Tests: tests/rl/test_value_math.py,
 * tests/unit/rl_value_test.c. */
#include <math.h>
#include <stdlib.h>

#include "rl/algo/qnet.h"

struct dqn {
    struct qnet q;
    float gamma, tau;
    bool double_q, huber;
    int every;                          /* updates between target updates */
    int ask, since;                     /* variables: asked for one; updates since the last */
    float *rows;                        /* scratch: targets [rows][atoms], values [rows][actions] */
    size_t room;
};

/* The columns of a batch and what is wanted of it. */
struct dqn_batch {
    int n;
    const float *obs, *new_obs, *rewards, *terminateds, *weights, *discounts;
    const int32_t *actions;
};

static void dqn_close(struct algo *a) {
    struct dqn *d = a->own;

    if (d) {
        qnet_release(&d->q);
        free(d->rows);
    }
    free(d);
}

static int dqn_make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    struct dqn *d = calloc(1, sizeof(*d));
    double every;

    if (!d)
        return -SKATE_ENOMEM;
    a->own = d;
    d->gamma = (float)algo_num(s, "gamma", 0.99);
    d->tau = (float)algo_num(s, "tau", 1.0);
    d->double_q = algo_flag(s, "double_q", true);
    d->huber = algo_flag(s, "huber", true);
    every = algo_num(s, "target_update_every", 0.0);
    if (!(d->gamma >= 0.0f && d->gamma <= 1.0f))
        return err_fail(err, -SKATE_EINVAL, "gamma must be 0 to 1, it is %g", (double)d->gamma);
    if (!(d->tau > 0.0f && d->tau <= 1.0f))
        return err_fail(err, -SKATE_EINVAL, "tau must be above 0 and at most 1, it is %g",
                        (double)d->tau);
    if (!(every >= 0.0 && every <= 1e9))
        return err_fail(err, -SKATE_EINVAL, "target_update_every must be 0 or more, it is %g",
                        every);
    d->every = (int)every;
    d->ask = algo_var(a, "update_target", 0.0);
    d->since = algo_var(a, NULL, 0.0);
    if (d->ask < 0 || d->since < 0)
        return -SKATE_EINVAL;
    return qnet_make(a, s, CELL_NONE, &d->q, err);
}

/* At least n floats that stay until the next call. */
static float *scratch(struct dqn *d, size_t n) {
    if (n > d->room) {
        float *rows = realloc(d->rows, n * sizeof(*rows));

        if (!rows)
            return NULL;
        d->rows = rows;
        d->room = n;
    }
    return d->rows;
}

static int dqn_act(struct algo *a, const struct algo_act *io, struct skate_error *err) {
    struct dqn *d = a->own;
    tvar out = qnet_apply(a, &d->q, NULL, t_data(a->tape, io->obs, io->n, a->obs.size), NULL,
                          true, io->explore);
    float *values = scratch(d, (size_t)io->n * (size_t)d->q.actions);
    const float *x = tape_value(a->tape, out);

    if (!values)
        return -SKATE_ENOMEM;
    if (!x)
        return err_fail(err, tape_error(a->tape), "act: %s", tape_error_text(a->tape));
    qnet_values(&d->q, x, io->n, values);
    for (int i = 0; i < io->n * d->q.actions; i++)
        if (!isfinite(values[i]))
            return err_fail(err, -SKATE_EINVAL, "the net has diverged: a value of an action is "
                            "not finite");
    qnet_choose(a, io, values);
    return 0;
}

static int read_batch(struct algo *a, const struct algo_batch *b, struct dqn_batch *ret,
                      struct skate_error *err) {
    ret->n = b->rows;
    if (!(ret->obs = algo_f32(b, "obs", a->obs.size, err)) ||
        !(ret->actions = algo_i32(b, "actions", 1, err)) ||
        !(ret->rewards = algo_f32(b, "rewards", 1, err)) ||
        !(ret->new_obs = algo_f32(b, "new_obs", a->obs.size, err)) ||
        !(ret->terminateds = algo_f32(b, "terminateds", 1, err)))
        return -SKATE_EINVAL;
    ret->weights = NULL;
    ret->discounts = NULL;
    if (algo_col(b, "weights") && !(ret->weights = algo_f32(b, "weights", 1, err)))
        return -SKATE_EINVAL;
    if (algo_col(b, "discounts") && !(ret->discounts = algo_f32(b, "discounts", 1, err)))
        return -SKATE_EINVAL;
    return 0;
}

/* What each row's action is taught: a value, or a distribution over the atoms. NULL: the tape's
 * error, or no memory. */
static float *targets(struct algo *a, const struct dqn_batch *b) {
    struct dqn *d = a->own;
    const struct qnet *q = &d->q;
    size_t actions = (size_t)q->actions, atoms = (size_t)q->atoms, n = (size_t)b->n;
    tvar x = t_data(a->tape, b->new_obs, b->n, a->obs.size);
    tvar later = qnet_apply(a, q, a->params[1], x, NULL, true, true);
    tvar chooser = d->double_q ? qnet_apply(a, q, NULL, x, NULL, true, true) : later;
    const float *out = tape_value(a->tape, later), *by = tape_value(a->tape, chooser);
    float *ret = scratch(d, n * (atoms + actions)), *values = ret ? ret + n * atoms : NULL;

    if (!ret || !out || !by)
        return NULL;
    qnet_values(q, by, b->n, values);
    for (size_t i = 0; i < n; i++) {
        int best = qnet_best(values + i * actions, NULL, q->actions);
        const float *chosen = out + (i * actions + (size_t)best) * atoms;
        float discount = b->discounts ? b->discounts[i] : d->gamma;

        discount *= 1.0f - b->terminateds[i];
        if (q->atoms == 1)
            ret[i] = b->rewards[i] + discount * *chosen;
        else
            qnet_project(q, chosen, b->rewards[i], discount, ret + i * atoms);
    }
    return ret;
}

/* The TD error of each row [n,1] (with atoms the cross entropy) and the loss. */
static tvar loss(struct algo *a, const struct dqn_batch *b, const float *taught, tvar *td,
                 tvar *outputs) {
    struct dqn *d = a->own;
    struct tape *t = a->tape;
    tvar x = t_data(t, b->obs, b->n, a->obs.size), y = t_copy(t, taught, b->n, d->q.atoms);
    tvar row;

    *outputs = qnet_apply(a, &d->q, NULL, x, NULL, false, true);
    if (d->q.atoms == 1) {
        *td = t_sub(t, t_pick(t, *outputs, b->actions), y);
        row = d->huber ? t_huber(t, *td, 1.0f) : t_affine(t, t_square(t, *td), 0.5f, 0.0f);
    } else {
        row = t_log_softmax(t, t_pick_block(t, *outputs, b->actions, d->q.atoms), 0);
        row = t_affine(t, t_sum_cols(t, t_mul(t, row, y)), -1.0f, 0.0f);
        *td = row;
    }
    if (b->weights)
        row = t_mul(t, row, t_data(t, b->weights, b->n, 1));
    return t_mean(t, row);
}

static void write_stats(struct algo *a, const struct dqn_batch *b, tvar outputs, tvar td,
                        struct algo_stats *st) {
    struct dqn *d = a->own;
    const float *errors = tape_value(a->tape, td);
    double sum = 0.0, low = INFINITY, high = -INFINITY, error = 0.0;
    float *values = scratch(d, (size_t)b->n * (size_t)d->q.actions);

    qnet_values(&d->q, tape_value(a->tape, outputs), b->n, values);
    for (int i = 0; i < b->n; i++) {
        double v = (double)values[i * d->q.actions + b->actions[i]];

        sum += v;
        low = v < low ? v : low;
        high = v > high ? v : high;
        error += (double)errors[i];
    }
    algo_stat(st, "mean_q", sum / b->n);
    algo_stat(st, "min_q", low);
    algo_stat(st, "max_q", high);
    algo_stat(st, "mean_td_error", error / b->n);
    algo_stat(st, "cur_lr", (double)a->optims[0].opts.lr);
}

/* The loss and its gradient in the params; nothing is stepped. */
static int backward(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                    struct skate_error *err) {
    const struct algo_col *wanted = algo_col(b, "td_errors");
    tvar total, td, outputs;
    struct dqn_batch batch;
    float *taught;
    int r = read_batch(a, b, &batch, err);

    if (r < 0)
        return r;
    if (wanted && (wanted->dtype != ALGO_F32 || wanted->rows != b->rows || wanted->width != 1 ||
                   !wanted->writable))
        return err_fail(err, -SKATE_EINVAL, "'td_errors' must be writable float32, one a row");
    taught = targets(a, &batch);
    if (!taught)
        return tape_error(a->tape) < 0 ? err_fail(err, tape_error(a->tape), "learn: %s",
                                                  tape_error_text(a->tape))
                                       : -SKATE_ENOMEM;
    total = loss(a, &batch, taught, &td, &outputs);
    r = tape_backward(a->tape, total);
    if (r < 0)
        return err_fail(err, r, "the loss is not finite: the net has diverged (lr %g)",
                        (double)a->optims[0].opts.lr);
    if (!scratch(a->own, (size_t)b->rows * (size_t)a->action.size))
        return -SKATE_ENOMEM;
    algo_stat(st, "loss", (double)tape_scalar(a->tape, total));
    write_stats(a, &batch, outputs, td, st);
    for (int i = 0; wanted && i < b->rows; i++)
        ((float *)wanted->p)[i] = tape_value(a->tape, td)[i];
    return 0;
}

static int step(struct algo *a, struct skate_error *err) {
    struct dqn *d = a->own;
    int r = optim_step(&a->optims[0]);

    if (r < 0)
        return err_fail(err, r, "a gradient is not finite: the net has diverged (lr %g)",
                        (double)a->optims[0].opts.lr);
    qnet_target(a, d->ask, d->since, d->every, d->tau);
    return 0;
}

static int dqn_learn(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                     struct skate_error *err) {
    int r = backward(a, b, st, err);

    if (r == 0)
        r = step(a, err);
    if (r == 0)
        algo_stat(st, "grad_gnorm", (double)a->optims[0].grad_norm);
    return r;
}

static int dqn_gradient(struct algo *a, const struct algo_batch *b, float *flat,
                        struct algo_stats *st, struct skate_error *err) {
    int r = backward(a, b, st, err);

    if (r == 0)
        algo_pull_grads(a, flat);
    return r;
}

static int dqn_apply(struct algo *a, const float *flat, struct skate_error *err) {
    algo_push_grads(a, flat);
    return step(a, err);
}

extern const struct algo_api algo_dqn_api;
const struct algo_api algo_dqn_api = {
    .name = "DQN",
    .make = dqn_make,
    .close = dqn_close,
    .act = dqn_act,
    .learn = dqn_learn,
    .gradient = dqn_gradient,
    .apply = dqn_apply,
};
