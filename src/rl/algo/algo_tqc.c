/* algo_tqc.c - truncated quantile critics (Kuznetsov et al. 2020): SAC with n_critics critics of
 * n_quantiles quantiles each; the greatest top_quantiles_to_drop_per_net * n_critics of the pooled
 * target quantiles are left out. The pairwise quantile Huber loss and its gradient at the critics'
 * outputs are computed here, not on the tape, which would need rows x quantiles x targets numbers.
 * One owner, no locks, never blocks.
 * Tests: tests/unit/rl_offpol_test.c, tests/rl/test_continuous_math.py. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rl/algo/sac.h"

static int make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    int quantiles = (int)algo_num(s, "n_quantiles", 25.0);
    int drop = (int)algo_num(s, "top_quantiles_to_drop_per_net", 2.0), code;
    struct sac *c;

    if (quantiles < 1 || quantiles > 4096)
        return err_fail(err, -SKATE_EINVAL, "n_quantiles must be in 1..4096, it is %d", quantiles);
    if (drop < 0 || drop >= quantiles)
        return err_fail(err, -SKATE_EINVAL,
                        "top_quantiles_to_drop_per_net must be in 0..%d, it is %d", quantiles - 1,
                        drop);
    code = sac_make(a, s, quantiles, err);
    if (code)
        return code;
    c = a->own;
    c->n_drop = drop;
    c->sum_quantiles = algo_flag(s, "sum_over_quantiles", true);
    return 0;
}

static int ascending(const void *x, const void *y) {
    float a, b;

    memcpy(&a, x, sizeof(a));
    memcpy(&b, y, sizeof(b));
    return (a > b) - (a < b);
}

/* The kept target quantiles of each row, sorted, [n][kept] at `ret`; room for all of them. */
static bool targets(struct algo *a, const struct sac_step *s, float *ret) {
    struct sac *c = a->own;
    struct tape *t = a->tape;
    tvar x = sac_pair(a, s->new_obs, s->new_action);
    int m = c->n_quantiles, all = c->q.n * m, kept = all - c->q.n * c->n_drop;
    const float *logp = tape_value(t, s->new_logp);
    float alpha = tape_scalar(t, s->alpha);

    for (int k = 0; k < c->q.n; k++) {
        const float *q = tape_value(t, net_apply_with(t, &c->q.nets[k], c->q.target, x, NULL,
                                                      NULL));

        if (!q)
            return false;
        for (int i = 0; i < s->r.n; i++)
            memcpy(ret + (size_t)i * (size_t)all + k * m, q + (size_t)i * (size_t)m,
                   (size_t)m * sizeof(float));
    }
    for (int i = 0; logp && i < s->r.n; i++) {
        float *row = ret + (size_t)i * (size_t)all, *to = ret + (size_t)i * (size_t)kept;
        float on = s->r.discounts ? s->r.discounts[i] : s->r.discount;

        on *= 1.0f - s->r.terminateds[i];
        qsort(row, (size_t)all, sizeof(float), ascending);
        for (int j = 0; j < kept; j++)
            to[j] = s->r.rewards[i] + on * (row[j] - alpha * logp[i]);
    }
    return logp != NULL;
}

/* One row and critic: the loss, and scale * its gradient by each quantile into g. */
static double row_loss(const float *q, int m, const float *y, int n_y, float scale, float *g) {
    double loss = 0.0;

    for (int j = 0; j < m; j++) {
        float level = ((float)j + 0.5f) / (float)m, sum = 0.0f, slope = 0.0f;

        for (int k = 0; k < n_y; k++) {
            float e = y[k] - q[j], size = fabsf(e), w = e < 0.0f ? 1.0f - level : level;

            sum += w * (size <= 1.0f ? 0.5f * e * e : size - 0.5f);
            slope -= w * fminf(fmaxf(e, -1.0f), 1.0f);
        }
        loss += (double)sum;
        g[j] = scale * slope;
    }
    return loss;
}

static double mean_of(const float *x, int n) {
    double sum = 0.0;

    for (int i = 0; i < n; i++)
        sum += (double)x[i];
    return sum / n;
}

/* A surrogate whose gradient by the quantiles is that of the loss: sum(quantiles * gradient). */
tvar tqc_critic_loss(struct algo *a, struct sac_step *s) {
    struct sac *c = a->own;
    struct tape *t = a->tape;
    int n = s->r.n, m = c->n_quantiles, all = c->q.n * m, kept = all - c->q.n * c->n_drop;
    size_t cells = (size_t)n * (size_t)m;
    float *y = offpol_scratch(&c->quantiles, (size_t)n * (size_t)all + cells);
    float *g = y ? y + (size_t)n * (size_t)all : NULL;
    float share = c->sum_quantiles ? 1.0f : 1.0f / ((float)m * (float)kept * (float)c->q.n);
    tvar x, loss = TAPE_BAD;
    double value = 0.0;

    if (!y || !targets(a, s, y))
        return TAPE_BAD;
    x = sac_pair(a, s->obs, offpol_unit_actions(t, &c->units, s->r.actions, n));
    for (int i = 0; i < n && s->r.td_errors; i++)
        s->r.td_errors[i] = (float)-mean_of(y + (size_t)i * (size_t)kept, kept);
    for (int k = 0; k < c->q.n; k++) {
        tvar q = net_apply(t, &c->q.nets[k], x, NULL, false, NULL), part;
        const float *v = tape_value(t, q);

        for (int i = 0; v && i < n; i++) {
            const float *row = v + (size_t)i * (size_t)m;
            float w = (s->r.weights ? s->r.weights[i] : 1.0f) * share / (float)n;

            value += (double)w * row_loss(row, m, y + (size_t)i * (size_t)kept, kept, w,
                                          g + (size_t)i * (size_t)m);
            if (s->r.td_errors)
                s->r.td_errors[i] += (float)mean_of(row, m) / (float)c->q.n;
        }
        part = t_sum(t, t_mul(t, q, t_copy(t, g, n, m)));
        loss = k ? t_add(t, loss, part) : part;
        if (k == 0)
            offpol_q_stats(t, q, s->st);
    }
    for (int i = 0; i < n && s->r.td_errors; i++)
        s->r.td_errors[i] = fabsf(s->r.td_errors[i]);
    algo_stat(s->st, "critic_loss", value);
    return loss;
}

tvar tqc_actor_value(struct algo *a, const struct sac_step *s) {
    struct sac *c = a->own;
    struct tape *t = a->tape;
    tvar x = sac_pair(a, s->obs, s->action), sum = TAPE_BAD;

    for (int k = 0; k < c->q.n; k++) {
        tvar q = t_sum_cols(t, net_apply(t, &c->q.nets[k], x, NULL, true, NULL));

        sum = k ? t_add(t, sum, q) : q;
    }
    return t_affine(t, sum, 1.0f / (float)(c->q.n * c->n_quantiles), 0.0f);
}

const struct algo_api algo_tqc_api = {
    .name = "TQC", .make = make, .close = sac_close, .act = sac_act, .learn = sac_learn,
    .gradient = sac_gradient, .apply = sac_apply,
};
