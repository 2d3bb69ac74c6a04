/* algo_bandit.c - "LinUCB" (Li et al. 2010) and "LinTS" (Agrawal and Goyal 2013): linear contextual
 * bandits in closed form.
 *
 * Each arm (DISCRETE action) keeps the Cholesky factor L of lambda I + sum x x' and f = sum y x of
 * the contexts x (the observations) and rewards y that it has seen; both are acting parameters,
 * each number in two floats (48 bits), so weights and checkpoints carry them. A reward is a
 * rank-one update of L: d^2 operations, no inverse is ever formed.
 *   LinUCB: theta'x + sqrt(alpha x' A^-1 x)      LinTS: theta ~ N(A^-1 f, alpha A^-1), theta'x
 * Without exploration both take the best mean. learn() takes obs, actions, rewards, row by row.
 * Tests: tests/unit/rl_bandit_test.c, tests/rl/test_own.py. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rl/algo/algo.h"

enum { DIM_MAX = 1024, ARMS_MAX = 65536 };
#define NUMBERS_MAX (1 << 26)       /* of all arms' factors */

struct bandit {
    int dim, arms;
    bool sample;
    double alpha;
    double *factor, *f, *x, *z;     /* scratch: [dim][dim], then [dim] each */
};

static double two(const struct params *p, int tensor, size_t half, size_t i) {
    const float *v = p->value + p->tensors[tensor].at;

    return (double)v[i] + (double)v[half + i];
}

static void set_two(struct params *p, int tensor, size_t half, size_t i, double x) {
    float *v = p->value + p->tensors[tensor].at;

    v[i] = (float)x;
    v[half + i] = (float)(x - (double)v[i]);
}

/* Between an arm's rows of the parameters and the scratch. */
static void fetch(struct algo *a, int arm) {
    struct bandit *b = a->own;
    size_t d = (size_t)b->dim, k = (size_t)arm, n = (size_t)b->arms * d;

    for (size_t i = 0; i < d * d; i++)
        b->factor[i] = two(a->params[0], 0, n * d, k * d * d + i);
    for (size_t i = 0; i < d; i++)
        b->f[i] = two(a->params[0], 1, n, k * d + i);
}

static void keep(struct algo *a, int arm) {
    struct bandit *b = a->own;
    size_t d = (size_t)b->dim, k = (size_t)arm, n = (size_t)b->arms * d;

    for (size_t i = 0; i < d * d; i++)
        set_two(a->params[0], 0, n * d, k * d * d + i, b->factor[i]);
    for (size_t i = 0; i < d; i++)
        set_two(a->params[0], 1, n, k * d + i, b->f[i]);
}

/* L z = x, in place. */
static void solve_lower(const double *l, int d, double *x) {
    for (int i = 0; i < d; i++) {
        double sum = x[i];

        for (int j = 0; j < i; j++)
            sum -= l[i * d + j] * x[j];
        x[i] = sum / l[i * d + i];
    }
}

/* The factor of L L' + x x', in place; x is used up. */
static void rank_one(double *l, int d, double *x) {
    for (int k = 0; k < d; k++) {
        double r = hypot(l[k * d + k], x[k]), c = r / l[k * d + k], s = x[k] / l[k * d + k];

        l[k * d + k] = r;
        for (int i = k + 1; i < d; i++) {
            l[i * d + k] = (l[i * d + k] + s * x[i]) / c;
            x[i] = c * x[i] - s * l[i * d + k];
        }
    }
}

/* With x' A^-1 y = (L^-1 x)'(L^-1 y), both scores need lower solves only; a sample of theta adds
 * sqrt(alpha) L'^-1 z, whose product with x is sqrt(alpha) (L^-1 x)'z. */
static double score(struct algo *a, int arm, const float *obs, bool explore) {
    struct bandit *b = a->own;
    double mean = 0.0, width = 0.0;

    fetch(a, arm);
    for (int i = 0; i < b->dim; i++)
        b->x[i] = (double)obs[i];
    solve_lower(b->factor, b->dim, b->x);
    memcpy(b->z, b->f, (size_t)b->dim * sizeof(double));
    solve_lower(b->factor, b->dim, b->z);
    for (int i = 0; i < b->dim; i++)
        mean += b->x[i] * b->z[i];
    if (!explore)
        return mean;
    for (int i = 0; i < b->dim; i++)
        width += b->x[i] * (b->sample ? rl_rng_normal(&a->rng) : b->x[i]);
    return mean + (b->sample ? sqrt(b->alpha) * width : sqrt(b->alpha * width));
}

static int add_arms(struct algo *a, double lambda) {
    struct bandit *b = a->own;
    struct params *p = algo_params(a, true);
    size_t half = (size_t)b->arms * (size_t)b->dim * (size_t)b->dim;
    int r;

    if (!p)
        return -SKATE_ENOMEM;
    r = params_add(p, "arms/factor", 2 * b->arms, b->dim * b->dim, PARAM_ZERO, 0.0f);
    if (r >= 0)
        r = params_add(p, "arms/f", 2 * b->arms, b->dim, PARAM_ZERO, 0.0f);
    if (r >= 0)
        r = params_seal(p, &a->rng);
    if (r < 0)
        return r;
    for (int k = 0; k < b->arms; k++)
        for (int i = 0; i < b->dim; i++)
            set_two(p, 0, half, (size_t)k * (size_t)(b->dim * b->dim) +
                    (size_t)i * (size_t)(b->dim + 1), sqrt(lambda));
    return 0;
}

static int make(struct algo *a, const struct algo_setup *s, bool sample,
                struct skate_error *err) {
    double lambda = algo_num(s, "lambda", 1.0);
    struct bandit *b = calloc(1, sizeof(*b));

    a->own = b;
    if (!b)
        return -SKATE_ENOMEM;
    b->sample = sample;
    b->alpha = algo_num(s, "alpha", 1.0);
    b->dim = s->obs.size;
    b->arms = s->action.size;
    if (s->action.kind != ALGO_DISCRETE)
        return err_fail(err, -SKATE_EINVAL, "%s needs a discrete action space: its arms",
                        a->api->name);
    if (s->obs.kind == ALGO_MULTI)
        return err_fail(err, -SKATE_EINVAL, "%s needs a box of numbers as observation: the "
                        "context", a->api->name);
    if (b->dim > DIM_MAX || b->arms > ARMS_MAX ||
        (double)b->arms * b->dim * b->dim > NUMBERS_MAX)
        return err_fail(err, -SKATE_EINVAL, "a context of %d numbers and %d arms: at most %d "
                        "numbers and 2^26 / numbers^2 arms work", b->dim, b->arms, DIM_MAX);
    if (!(lambda > 0.0) || !(b->alpha >= 0.0) || isinf(lambda) || isinf(b->alpha))
        return err_fail(err, -SKATE_EINVAL, "lambda must be above 0 and alpha at least 0");
    a->n_inputs = b->arms;
    b->factor = calloc((size_t)b->dim * (size_t)(b->dim + 3), sizeof(double));
    if (!b->factor)
        return -SKATE_ENOMEM;
    b->f = b->factor + (size_t)b->dim * (size_t)b->dim;
    b->x = b->f + b->dim;
    b->z = b->x + b->dim;
    return add_arms(a, lambda);
}

static int ucb_make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    return make(a, s, false, err);
}

static int ts_make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    return make(a, s, true, err);
}

static void bandit_close(struct algo *a) {
    struct bandit *b = a->own;

    if (b) {
        free(b->factor);
        free(b);
    }
}

static int bandit_act(struct algo *a, const struct algo_act *io, struct skate_error *err) {
    struct bandit *b = a->own;
    int32_t *actions = io->actions;

    for (int row = 0; row < io->n; row++) {
        const float *obs = io->obs + (size_t)row * (size_t)b->dim;
        const float *mask = io->mask ? io->mask + (size_t)row * (size_t)b->arms : NULL;
        double best = 0.0;
        int choice = -1;

        for (int k = 0; k < b->arms; k++) {
            double x = score(a, k, obs, io->explore);

            if (io->inputs)
                io->inputs[(size_t)row * (size_t)b->arms + (size_t)k] = (float)x;
            if ((mask && mask[k] == 0.0f) || (choice >= 0 && !(x > best)))
                continue;
            best = x;
            choice = k;
        }
        if (choice < 0)
            return err_fail(err, -SKATE_EINVAL, "the mask forbids every action");
        actions[row] = choice;
        if (io->logp)
            io->logp[row] = 0.0f;
        if (io->vf)
            io->vf[row] = (float)best;
    }
    return 0;
}

static int bandit_learn(struct algo *a, const struct algo_batch *batch, struct algo_stats *st,
                        struct skate_error *err) {
    struct bandit *b = a->own;
    const float *obs = algo_f32(batch, "obs", b->dim, err);
    const int32_t *actions = obs ? algo_i32(batch, "actions", 1, err) : NULL;
    const float *rewards = actions ? algo_f32(batch, "rewards", 1, err) : NULL;
    double sum = 0.0;

    if (!rewards)
        return -SKATE_EINVAL;
    for (int row = 0; row < batch->rows; row++) {
        const float *x = obs + (size_t)row * (size_t)b->dim;

        fetch(a, actions[row]);
        for (int i = 0; i < b->dim; i++) {
            b->x[i] = (double)x[i];
            b->f[i] += (double)rewards[row] * (double)x[i];
        }
        rank_one(b->factor, b->dim, b->x);
        keep(a, actions[row]);
        sum += (double)rewards[row];
    }
    algo_stat(st, "mean_reward", batch->rows ? sum / batch->rows : 0.0);
    return 0;
}

const struct algo_api algo_lin_ucb_api = {
    .name = "LinUCB", .make = ucb_make, .close = bandit_close, .act = bandit_act,
    .learn = bandit_learn,
};
const struct algo_api algo_lin_ts_api = {
    .name = "LinTS", .make = ts_make, .close = bandit_close, .act = bandit_act,
    .learn = bandit_learn,
};
