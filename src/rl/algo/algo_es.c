/* algo_es.c - "ES" (Salimans et al. 2017) and "ARS" (Mania et al. 2018): steps in parameter space
 * from the returns of perturbed policies, without gradients.
 *
 * A direction is a position in the noise table (own/noise.h). learn() takes one row a direction:
 *   positions i32, returns f32 [2] (with + and - the direction), sign_returns f32 [2] (only for
 *   the return_proc_modes with "sign"), and, with a filter, filter_count f32, filter_mean and
 *   filter_m2 f32 [obs size]: the observations of both rollouts (own/evo.h counts them).
 * The observations' mean and deviation are acting parameters: what a worker or a checkpoint gets
 * with the weights. Tests: tests/unit/rl_es_test.c, tests/rl/test_own.py. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rl/algo/algo.h"
#include "rl/own/noise.h"

enum es_returns { ES_RANK, ES_SIGN, ES_SIGN_RANK, ES_PLAIN };
enum { FILTER_COUNT, FILTER_MEAN, FILTER_M2 };      /* tensors of the filter's params */
enum { ROWS_MAX = 1 << 24 };

struct es {
    struct net net;
    struct params *filter;      /* NULL: no filter. Each number in two floats: high, then low */
    enum es_returns returns;
    uint64_t noise_seed;
    double noise_size;
    float l2;
    int num_rollouts, rollouts_used;
    int obs, out;
    float *x;                   /* an observation, filtered */
    float *before;              /* n_padded: the parameters before a step */
};

/* ---- the filter ---- */

static double two(const struct params *p, int tensor, int i) {
    const struct param_tensor *t = &p->tensors[tensor];

    return (double)p->value[t->at + (size_t)i] + (double)p->value[t->at + (size_t)(t->cols + i)];
}

static void set_two(struct params *p, int tensor, int i, double x) {
    const struct param_tensor *t = &p->tensors[tensor];
    float high = (float)x;

    p->value[t->at + (size_t)i] = high;
    p->value[t->at + (size_t)(t->cols + i)] = (float)(x - (double)high);
}

/* RLlib's MeanStdFilter: within 10 deviations. */
static void filtered(const struct es *es, const float *obs, float *x) {
    double n = es->filter ? two(es->filter, FILTER_COUNT, 0) : 0.0;

    for (int i = 0; i < es->obs; i++) {
        double y = (double)obs[i];

        if (n >= 2.0)
            y = (y - two(es->filter, FILTER_MEAN, i)) /
                (sqrt(two(es->filter, FILTER_M2, i) / (n - 1.0)) + 1e-8);
        if (es->filter)
            y = y < -10.0 ? -10.0 : y > 10.0 ? 10.0 : y;
        x[i] = (float)y;
    }
}

/* Takes in `count` observations of that mean and sum of squared deviations (Chan et al. 1979). */
static void filter_merge(struct params *f, int obs, double count, const float *mean,
                         const float *m2) {
    double n = two(f, FILTER_COUNT, 0), all = n + count;

    if (count <= 0.0)
        return;
    for (int i = 0; i < obs; i++) {
        double old = two(f, FILTER_MEAN, i), delta = (double)mean[i] - old;

        set_two(f, FILTER_MEAN, i, old + delta * count / all);
        set_two(f, FILTER_M2, i,
                two(f, FILTER_M2, i) + (double)m2[i] + delta * delta * n * count / all);
    }
    set_two(f, FILTER_COUNT, 0, all);
}

static int add_filter(struct algo *a, struct es *es) {
    static const char *const names[] = { "filter/count", "filter/mean", "filter/m2" };

    es->filter = algo_params(a, true);
    if (!es->filter)
        return -SKATE_ENOMEM;
    for (int i = 0; i < 3; i++) {
        int r = params_add(es->filter, names[i], 2, i ? es->obs : 1, PARAM_ZERO, 0.0f);

        if (r < 0)
            return r;
    }
    return params_seal(es->filter, &a->rng);
}

/* ---- set-up ---- */

static int read_options(struct es *es, const struct algo_setup *s, bool ars,
                        struct skate_error *err) {
    const char *mode = ars ? "plain" : algo_text(s, "return_proc_mode", "centered_rank");

    if (strcmp(mode, "centered_rank") == 0)
        es->returns = ES_RANK;
    else if (strcmp(mode, "sign") == 0)
        es->returns = ES_SIGN;
    else if (strcmp(mode, "centered_sign_rank") == 0)
        es->returns = ES_SIGN_RANK;
    else if (ars)
        es->returns = ES_PLAIN;
    else
        return err_fail(err, -SKATE_EINVAL, "return_proc_mode must be centered_rank, sign or "
                        "centered_sign_rank, not '%s'", mode);
    es->l2 = ars ? 0.0f : (float)algo_num(s, "l2_coeff", 0.005);
    es->num_rollouts = ars ? (int)algo_num(s, "num_rollouts", 32) : 0;
    es->rollouts_used = ars ? (int)algo_num(s, "rollouts_used", 32) : 0;
    es->noise_seed = (uint64_t)algo_num(s, "noise_seed", 123);
    es->noise_size = algo_num(s, "noise_size", 250e6);
    if (ars && (es->num_rollouts < 1 || es->rollouts_used < 1))
        return err_fail(err, -SKATE_EINVAL, "num_rollouts and rollouts_used must be at least 1");
    if (es->noise_size < 1.0 || es->noise_size > 2147483647.0)
        return err_fail(err, -SKATE_EINVAL, "noise_size must be 1 to 2147483647");
    return 0;
}

static int add_net(struct algo *a, const struct algo_setup *s, struct es *es,
                   struct skate_error *err) {
    struct params *p = algo_params(a, true);
    struct net_opts o;
    int r;

    if (!p)
        return -SKATE_ENOMEM;
    es->out = s->action.kind == ALGO_BOX ? s->action.size : algo_n_inputs(&s->action);
    r = algo_net_opts(s, es->out, &o, err);
    if (r < 0)
        return r;
    if (o.cell != CELL_NONE)
        return err_fail(err, -SKATE_EINVAL, "use_lstm: %s has no recurrent nets", a->api->name);
    es->obs = o.in + o.image[0] * o.image[1] * o.image[2];
    r = net_add(&es->net, p, "policy", &o);
    if (r == 0)
        r = params_seal(p, &a->rng);
    if (r == 0 && (double)p->n > es->noise_size)
        return err_fail(err, -SKATE_EINVAL, "noise_size %.0f is less than the net's %zu weights",
                        es->noise_size, p->n);
    return r;
}

static int make(struct algo *a, const struct algo_setup *s, bool ars, struct skate_error *err) {
    struct optim_opts o;
    struct es *es = calloc(1, sizeof(*es));
    const char *filter = algo_text(s, "observation_filter", "MeanStdFilter");
    int r;

    a->own = es;
    if (!es)
        return -SKATE_ENOMEM;
    if (strcmp(filter, "MeanStdFilter") != 0 && strcmp(filter, "NoFilter") != 0 &&
        strcmp(filter, "ConcurrentMeanStdFilter") != 0)
        return err_fail(err, -SKATE_EINVAL, "observation_filter must be MeanStdFilter or "
                        "NoFilter, not '%s'", filter);
    r = read_options(es, s, ars, err);
    if (r == 0)
        r = add_net(a, s, es, err);
    if (r == 0 && strcmp(filter, "NoFilter") != 0)
        r = add_filter(a, es);
    if (r < 0)
        return r;
    a->n_inputs = es->out;
    es->x = calloc((size_t)es->obs, sizeof(float));
    es->before = calloc(a->params[0]->n_padded, sizeof(float));
    if (!es->x || !es->before)
        return -SKATE_ENOMEM;
    optim_opts_default(&o);
    o.kind = ars ? OPTIM_SGD : OPTIM_ADAM;
    o.lr = (float)algo_num(s, ars ? "sgd_stepsize" : "stepsize", 0.01);
    if (ars)
        o.beta1 = o.beta2 = 0.0f;
    return algo_optim(a, a->params[0], &o);
}

static int es_make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    return make(a, s, false, err);
}

static int ars_make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    return make(a, s, true, err);
}

static void es_close(struct algo *a) {
    struct es *es = a->own;

    if (es) {
        free(es->x);
        free(es->before);
        free(es);
    }
}

/* ---- acting ---- */

static int box_action(struct algo *a, const float *y, float noise, float *action,
                      struct skate_error *err) {
    for (int i = 0; i < a->action.size; i++) {
        float x = y[i];

        if (!isfinite(x))
            return err_fail(err, -SKATE_EINVAL, "the net has diverged: an action is not finite");
        if (noise > 0.0f)
            x += noise * (float)rl_rng_normal(&a->rng);
        action[i] = x;
    }
    return 0;
}

static int es_act(struct algo *a, const struct algo_act *io, struct skate_error *err) {
    struct es *es = a->own;

    for (int row = 0; row < io->n; row++) {
        struct algo_act one = *io;
        const float *y;
        tvar out;
        int r;

        filtered(es, io->obs + (size_t)row * (size_t)es->obs, es->x);
        tape_reset(a->tape);
        out = net_apply(a->tape, &es->net, t_data(a->tape, es->x, 1, es->obs), NULL, true, NULL);
        y = tape_value(a->tape, out);
        if (!y)
            return err_fail(err, tape_error(a->tape), "%s", tape_error_text(a->tape));
        one.inputs = io->inputs ? io->inputs + (size_t)row * (size_t)es->out : NULL;
        if (io->vf)
            io->vf[row] = 0.0f;
        if (a->action.kind == ALGO_BOX) {
            if (io->logp)
                io->logp[row] = 0.0f;
            if (one.inputs)
                memcpy(one.inputs, y, (size_t)es->out * sizeof(float));
            r = box_action(a, y, io->explore ? io->noise : 0.0f,
                           (float *)io->actions + (size_t)row * (size_t)a->action.size, err);
        } else {
            size_t parts = a->action.kind == ALGO_MULTI ? (size_t)a->action.size : 1;

            one.n = 1;
            one.actions = (int32_t *)io->actions + (size_t)row * parts;
            one.logp = io->logp ? io->logp + row : NULL;
            one.mask = io->mask ? io->mask + (size_t)row * (size_t)es->out : NULL;
            r = algo_draw(a, y, &one, err);
        }
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- learning ---- */

struct ranked {
    float x;
    int i;
};

static int by_value(const void *a, const void *b) {
    const struct ranked *p = a, *q = b;

    return p->x < q->x ? -1 : p->x > q->x ? 1 : p->i - q->i;
}

/* Ranks from -0.5 to 0.5 of n numbers, those of equals their mean. -SKATE_ENOMEM. */
static int centered_ranks(const float *x, int n, float *ranks) {
    struct ranked *sorted = malloc((size_t)n * sizeof(*sorted));
    int end;

    if (!sorted)
        return -SKATE_ENOMEM;
    for (int i = 0; i < n; i++)
        sorted[i] = (struct ranked){ x[i], i };
    qsort(sorted, (size_t)n, sizeof(*sorted), by_value);
    for (int first = 0; first < n; first = end) {
        double rank;

        end = first + 1;
        while (end < n && sorted[end].x <= sorted[first].x)
            end++;
        rank = 0.5 * (double)(first + end - 1);
        for (int i = first; i < end; i++)
            ranks[sorted[i].i] = n > 1 ? (float)(rank / (n - 1) - 0.5) : 0.0f;
    }
    free(sorted);
    return 0;
}

/* ES: a weight for each direction, from both returns. */
static int es_weights(const struct es *es, const float *returns, const float *signs, int n,
                      float *weights) {
    const float *x = es->returns == ES_RANK ? returns : signs;
    float *ranks = malloc(2 * (size_t)n * sizeof(*ranks));
    int r = 0;

    if (!ranks)
        return -SKATE_ENOMEM;
    if (es->returns == ES_SIGN)
        memcpy(ranks, x, 2 * (size_t)n * sizeof(*ranks));
    else
        r = centered_ranks(x, 2 * n, ranks);
    for (int i = 0; i < n && r == 0; i++)
        weights[i] = (ranks[2 * i] - ranks[2 * i + 1]) / (float)(2 * n);
    free(ranks);
    return r;
}

/* ARS: the difference of returns for the best directions, by the deviation of their returns. */
static int ars_weights(const struct es *es, const float *returns, int n, float *weights) {
    struct ranked *best = malloc((size_t)n * sizeof(*best));
    double part = (double)es->rollouts_used / es->num_rollouts, at, limit, sum = 0.0, square = 0.0;
    double mean, deviation;
    int used = 0, low;

    if (!best)
        return -SKATE_ENOMEM;
    for (int i = 0; i < n; i++)
        best[i] = (struct ranked){ fmaxf(returns[2 * i], returns[2 * i + 1]), i };
    qsort(best, (size_t)n, sizeof(*best), by_value);
    at = (part > 1.0 ? 0.0 : 1.0 - part) * (n - 1);
    low = (int)at;
    limit = (double)best[low].x;
    if (low + 1 < n)
        limit += (at - low) * ((double)best[low + 1].x - (double)best[low].x);
    for (int i = 0; i < n; i++)
        if ((double)best[i].x >= limit) {
            sum += (double)returns[2 * best[i].i] + (double)returns[2 * best[i].i + 1];
            used++;
        }
    mean = sum / (2.0 * used);
    for (int i = 0; i < n; i++) {
        int k = best[i].i;

        weights[k] = (double)best[i].x >= limit ? returns[2 * k] - returns[2 * k + 1] : 0.0f;
        if ((double)best[i].x >= limit)
            square += ((double)returns[2 * k] - mean) * ((double)returns[2 * k] - mean) +
                      ((double)returns[2 * k + 1] - mean) * ((double)returns[2 * k + 1] - mean);
    }
    deviation = sqrt(square / (2.0 * used));
    for (int i = 0; i < n; i++)
        weights[i] /= (float)(used * (deviation > 1e-8 ? deviation : 1.0));
    free(best);
    return 0;
}

static double squares(const struct params *p, const float *x) {
    double sum = 0.0;

    for (int t = 0; t < p->n_tensors; t++) {
        const float *from = x + p->tensors[t].at;
        size_t n = (size_t)p->tensors[t].rows * (size_t)p->tensors[t].cols;

        for (size_t i = 0; i < n; i++)
            sum += (double)from[i] * (double)from[i];
    }
    return sum;
}

/* The gradient of -(returns along the directions) + l2 / 2 |weights|^2; its first part's square. */
static double gradient(const struct es *es, struct params *p, const int32_t *positions,
                       const float *weights, int n) {
    double square;

    params_zero_grad(p);
    for (int i = 0; i < n; i++) {
        uint64_t at = (uint64_t)positions[i];

        for (int t = 0; t < p->n_tensors && weights[i] != 0.0f; t++) {
            size_t count = (size_t)p->tensors[t].rows * (size_t)p->tensors[t].cols;

            noise_add(es->noise_seed, at, -weights[i], p->grad + p->tensors[t].at, count);
            at += count;
        }
    }
    square = squares(p, p->grad);
    for (size_t i = 0; i < p->n_padded; i++)
        p->grad[i] += es->l2 * p->value[i];
    return square;
}

static int step(struct algo *a, const int32_t *positions, const float *weights, int n,
                struct algo_stats *st) {
    struct es *es = a->own;
    struct params *p = a->params[0];
    double grad = gradient(es, p, positions, weights, n), norm, moved = 0.0;
    int r;

    memcpy(es->before, p->value, p->n_padded * sizeof(float));
    norm = squares(p, p->value);
    r = optim_step(&a->optims[0]);
    if (r < 0)
        return r;
    for (size_t i = 0; i < p->n_padded; i++)
        es->before[i] -= p->value[i];
    moved = squares(p, es->before);
    algo_stat(st, "weights_norm", squares(p, p->value));
    algo_stat(st, "grad_norm", grad);
    algo_stat(st, "update_ratio", norm > 0.0 ? sqrt(moved / norm) : 0.0);
    return 0;
}

struct es_batch {
    const int32_t *positions;
    const float *returns, *signs, *count, *mean, *m2;
};

static int read_batch(struct algo *a, const struct algo_batch *b, struct es_batch *ret,
                      struct skate_error *err) {
    struct es *es = a->own;
    double most = es->noise_size - (double)a->params[0]->n;
    bool signs = es->returns == ES_SIGN || es->returns == ES_SIGN_RANK;

    if (b->rows < 1 || b->rows > ROWS_MAX)
        return err_fail(err, -SKATE_EINVAL, "learn: %d rows, 1 to %d work", b->rows, ROWS_MAX);
    *ret = (struct es_batch){ .positions = algo_i32(b, "positions", 1, err) };
    if (!ret->positions || !(ret->returns = algo_f32(b, "returns", 2, err)) ||
        (signs && !(ret->signs = algo_f32(b, "sign_returns", 2, err))))
        return -SKATE_EINVAL;
    if (es->filter && (!(ret->count = algo_f32(b, "filter_count", 1, err)) ||
                       !(ret->mean = algo_f32(b, "filter_mean", es->obs, err)) ||
                       !(ret->m2 = algo_f32(b, "filter_m2", es->obs, err))))
        return -SKATE_EINVAL;
    for (int i = 0; i < b->rows; i++)
        if (ret->positions[i] < 0 || (double)ret->positions[i] > most)
            return err_fail(err, -SKATE_EINVAL, "positions[%d] is %d, 0 to %.0f work", i,
                            ret->positions[i], most);
    return 0;
}

static int es_learn(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                    struct skate_error *err) {
    struct es *es = a->own;
    struct es_batch in = { 0 };
    float *weights;
    int r = read_batch(a, b, &in, err);

    if (r < 0)
        return r;
    weights = malloc((size_t)b->rows * sizeof(*weights));
    if (!weights)
        return -SKATE_ENOMEM;
    r = es->returns == ES_PLAIN ? ars_weights(es, in.returns, b->rows, weights)
                                : es_weights(es, in.returns, in.signs, b->rows, weights);
    if (r == 0)
        r = step(a, in.positions, weights, b->rows, st);
    for (int i = 0; i < b->rows && r == 0 && es->filter; i++)
        filter_merge(es->filter, es->obs, (double)in.count[i],
                     in.mean + (size_t)i * (size_t)es->obs, in.m2 + (size_t)i * (size_t)es->obs);
    free(weights);
    return r;
}

const struct algo_api algo_es_api = {
    .name = "ES", .make = es_make, .close = es_close, .act = es_act, .learn = es_learn,
};
const struct algo_api algo_ars_api = {
    .name = "ARS", .make = ars_make, .close = es_close, .act = es_act, .learn = es_learn,
};
