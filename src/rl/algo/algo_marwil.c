/* algo_marwil.c - MARWIL (Wang et al. 2018), imitation of the better parts of the data, and BC.
 *
 * BC:     -mean(logp of the data's actions)
 * MARWIL: -mean(exp(beta * A / c) * logp) + vf_coeff * 0.5 * mean(A^2), A = return - v(s), no
 *         gradient through the weights. c^2 is a moving average of mean(A^2), moved before it is
 *         used (a variable, so that checkpoints keep it). beta 0 is BC.
 * The batch's column "value_targets" has the returns. bc_logstd_coeff adds the Gaussian's log
 * standard deviations to logp, against a policy that is too sure. One owner, never blocks.
 * Tests: tests/rl/test_offline_math.py. */
#include <math.h>
#include <stdlib.h>

#include "rl/algo/onpol.h"

struct marwil {
    struct onpol base;          /* first */
    double beta, vf_coeff, logstd_coeff, norm_rate;
    int norm;                   /* number of the variable c^2 */
};

static int make(struct algo *a, const struct algo_setup *s, double beta, struct skate_error *err) {
    struct marwil *m = calloc(1, sizeof *m);
    double start;
    int r;

    if (!m)
        return -SKATE_ENOMEM;
    a->own = m;
    m->beta = algo_num(s, "beta", beta);
    m->vf_coeff = algo_num(s, "vf_coeff", 1.0);
    m->logstd_coeff = algo_num(s, "bc_logstd_coeff", 0.0);
    m->norm_rate = algo_num(s, "moving_average_sqd_adv_norm_update_rate", 1e-8);
    start = algo_num(s, "moving_average_sqd_adv_norm_start", 100.0);
    if (!(m->beta >= 0.0) || (beta == 0.0 && m->beta != 0.0))
        return err_fail(err, -SKATE_EINVAL, "beta must be %s, it is %g",
                        beta == 0.0 ? "0 for BC (MARWIL has others)" : ">= 0", m->beta);
    if (!(start >= 0.0) || !(m->norm_rate >= 0.0 && m->norm_rate <= 1.0))
        return err_fail(err, -SKATE_EINVAL, "moving_average_sqd_adv_norm_start must be >= 0 and "
                        "its update_rate in 0..1; they are %g and %g", start, m->norm_rate);
    if (m->logstd_coeff != 0.0 && a->action.kind != ALGO_BOX)
        return err_fail(err, -SKATE_EINVAL, "bc_logstd_coeff is for Box actions");
    r = algo_var(a, "moving_avg_sqd_adv_norm", start);
    if (r < 0)
        return r;
    m->norm = r;
    r = onpol_init(a, &m->base, s, m->beta > 0.0, err);
    return r < 0 ? r : onpol_optim(a, &m->base, s, 1e-4, err);
}

static int marwil_make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    return make(a, s, 1.0, err);
}

static int bc_make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    return make(a, s, 0.0, err);
}

/* One batch's parts of the loss. */
struct terms {
    const float *targets, *mask;
    double valid, norm;         /* rows that count; the new c^2 */
    tvar value, policy;         /* 1 x 1, or TAPE_BAD */
};

/* exp(beta * A / c) of each row, without gradient, and the value loss. */
static tvar weigh(struct algo *a, struct onpol *o, const struct onpol_out *out, int rows,
                  struct terms *x) {
    struct marwil *m = a->own;
    struct tape *t = a->tape;
    tvar adv = t_sub(t, t_data(t, x->targets, rows, 1), out->value);
    const float *v = tape_value(t, adv);
    float *w = onpol_room(o, (size_t)rows * sizeof(float));
    double sum = 0, c;

    if (!v || !w)
        return TAPE_BAD;
    for (int i = 0; i < rows; i++)
        sum += x->mask[i] != 0.0f ? (double)v[i] * (double)v[i] : 0.0;
    x->norm += m->norm_rate * (sum / x->valid - x->norm);
    c = 1e-8 + sqrt(x->norm);
    for (int i = 0; i < rows; i++)
        w[i] = x->mask[i] != 0.0f ? (float)exp(m->beta * (double)v[i] / c) : 0.0f;
    x->value = t_sum(t, t_mul(t, t_square(t, adv), t_data(t, x->mask, rows, 1)));
    x->value = t_affine(t, x->value, (float)(0.5 / x->valid), 0.0f);
    return t_data(t, w, rows, 1);
}

static void report(struct algo *a, const struct onpol_out *out, int rows, const struct terms *x,
                   struct algo_stats *st) {
    struct marwil *m = a->own;
    double policy = (double)tape_scalar(a->tape, x->policy), value = 0;

    if (m->beta > 0.0) {
        value = (double)tape_scalar(a->tape, x->value);
        algo_stat(st, "vf_loss", value);
        algo_stat(st, "vf_explained_var",
                  onpol_explained(tape_value(a->tape, out->value), x->targets, x->mask, rows));
        algo_stat(st, "moving_avg_sqd_adv_norm", x->norm);
    }
    algo_stat(st, "policy_loss", policy);
    algo_stat(st, "total_loss", policy + m->vf_coeff * value);
    algo_stat(st, "cur_lr", (double)a->optims[0].opts.lr);
}

/* The loss over a batch and its gradient; `norm` gets the new c^2. */
static int loss(struct algo *a, const struct algo_batch *b, struct algo_stats *st, double *norm,
                struct skate_error *err) {
    struct marwil *m = a->own;
    struct onpol *o = &m->base;
    struct tape *t = a->tape;
    struct terms x = { .norm = a->vars[m->norm], .value = TAPE_BAD };
    const void *actions;
    struct onpol_rows v;
    struct onpol_out out;
    tvar logp, total;
    int r;

    onpol_reset(o);
    r = onpol_all(o, b, &v, err);
    if (r < 0)
        return r;
    actions = onpol_actions(a, o, &v, err);
    x.mask = actions ? onpol_mask(o, &v, &x.valid, err) : NULL;
    if (x.mask && m->beta > 0.0)
        x.targets = onpol_f32(o, &v, "value_targets", 1, err);
    if (!x.mask || (m->beta > 0.0 && !x.targets))
        return -SKATE_EINVAL;
    r = onpol_forward(a, o, &v, NULL, false, &out, err);
    if (r < 0)
        return r;
    logp = algo_logp(a, out.inputs, actions);
    if (m->logstd_coeff != 0.0) {
        tvar sum = t_sum_cols(t, t_cols(t, out.inputs, a->action.size, a->action.size));

        logp = t_add(t, logp, t_affine(t, sum, (float)m->logstd_coeff, 0.0f));
    }
    if (m->beta > 0.0)
        logp = t_mul(t, logp, weigh(a, o, &out, v.rows, &x));
    x.policy = t_affine(t, t_sum(t, t_mul(t, logp, t_data(t, x.mask, v.rows, 1))),
                        (float)(-1.0 / x.valid), 0.0f);
    total = x.policy;
    if (m->beta > 0.0)
        total = t_add(t, total, t_affine(t, x.value, (float)m->vf_coeff, 0.0f));
    r = onpol_backward(a, total, err);
    if (r < 0)
        return r;
    report(a, &out, v.rows, &x, st);
    *norm = x.norm;
    return 0;
}

static int learn(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                 struct skate_error *err) {
    struct marwil *m = a->own;
    double norm;
    int r = loss(a, b, st, &norm, err);

    if (r == 0)
        r = onpol_step(a, err);
    if (r < 0)
        return r;
    a->vars[m->norm] = norm;
    algo_stat(st, "grad_gnorm", (double)a->optims[0].grad_norm);
    return 0;
}

static int gradient(struct algo *a, const struct algo_batch *b, float *flat,
                    struct algo_stats *st, struct skate_error *err) {
    double norm;
    int r = loss(a, b, st, &norm, err);

    if (r == 0)
        algo_pull_grads(a, flat);
    return r;
}

const struct algo_api algo_bc_api = {
    .name = "BC", .make = bc_make, .close = onpol_close, .act = onpol_act, .learn = learn,
    .gradient = gradient, .apply = onpol_apply,
};
const struct algo_api algo_marwil_api = {
    .name = "MARWIL", .make = marwil_make, .close = onpol_close, .act = onpol_act,
    .learn = learn, .gradient = gradient, .apply = onpol_apply,
};
