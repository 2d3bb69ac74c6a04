/* algo_pg.c - PG (REINFORCE), A2C and A3C: one step per batch by its policy gradient.
 *
 * PG:  -mean(logp * R), R the sum of discounted rewards (0 beyond the batch), no critic.
 * A2C: -sum(logp * A) + vf_loss_coeff * 0.5 * sum((v - target)^2) - entropy_coeff * sum(H):
 *      sums as in RLlib, so that grad_clip (40) is what bounds a step. A3C is the same loss by
 *      gradient() on workers and apply().
 * The newer era's mean losses: option loss_mean. One owner, never blocks.
 * Tests: tests/unit/rl_algo_test.c, tests/rl/test_on_policy_math.py. */
#include <stdlib.h>

#include "rl/algo/onpol.h"

struct pg {
    struct onpol base;          /* first */
    struct onpol_gae gae;
    float vf_coeff;
    bool mean;                  /* over the rows, not their sum */
    int entropy_coeff;          /* number of the variable */
};

static int make(struct algo *a, const struct algo_setup *s, bool critic,
                struct skate_error *err) {
    struct pg *g = calloc(1, sizeof *g);
    int r;

    if (!g)
        return -SKATE_ENOMEM;
    a->own = g;
    g->gae.gamma = (float)algo_num(s, "gamma", 0.99);
    g->gae.lambda = (float)algo_num(s, "lambda", 1.0);
    g->gae.use_gae = algo_flag(s, "use_gae", critic);
    g->gae.use_critic = algo_flag(s, "use_critic", critic);
    g->vf_coeff = (float)algo_num(s, "vf_loss_coeff", 0.5);
    g->mean = algo_flag(s, "loss_mean", !critic);
    r = algo_var(a, "entropy_coeff", algo_num(s, "entropy_coeff", critic ? 0.01 : 0.0));
    if (r < 0)
        return r;
    g->entropy_coeff = r;
    if (g->gae.use_gae && !g->gae.use_critic)
        return err_fail(err, -SKATE_EINVAL, "use_gae needs use_critic");
    r = onpol_init(a, &g->base, s, g->gae.use_critic, err);
    return r < 0 ? r : onpol_optim(a, &g->base, s, critic ? 1e-4 : 4e-4, err);
}

static int pg_make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    return make(a, s, false, err);
}

static int a2c_make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    return make(a, s, true, err);
}

struct terms {
    tvar policy, value, entropy;        /* sums over the rows that count */
};

static tvar masked_sum(struct tape *t, tvar x, tvar mask) {
    return t_sum(t, t_mul(t, x, mask));
}

/* The loss over a batch and its gradient. */
static int loss(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                struct skate_error *err) {
    struct pg *g = a->own;
    struct onpol *o = &g->base;
    struct tape *t = a->tape;
    const float *adv, *target, *mask;
    const void *actions;
    struct onpol_rows v;
    struct onpol_out out;
    struct terms x = { TAPE_BAD, TAPE_BAD, TAPE_BAD };
    double valid, entropy_coeff = a->vars[g->entropy_coeff];
    tvar m, sum;
    int r;

    onpol_reset(o);
    r = onpol_advantages(a, o, b, &g->gae, &adv, &target, err);
    if (r == 0)
        r = onpol_all(o, b, &v, err);
    if (r < 0)
        return r;
    actions = onpol_actions(a, o, &v, err);
    mask = actions ? onpol_mask(o, &v, &valid, err) : NULL;
    if (!mask)
        return -SKATE_EINVAL;
    adv = onpol_order(o, &v, adv, 1);
    target = onpol_order(o, &v, target, 1);
    if (!adv || !target)
        return -SKATE_ENOMEM;
    r = onpol_forward(a, o, &v, NULL, false, &out, err);
    if (r < 0)
        return r;
    m = t_data(t, mask, v.rows, 1);
    x.policy = masked_sum(t, t_mul(t, algo_logp(a, out.inputs, actions),
                                   t_data(t, adv, v.rows, 1)), m);
    x.entropy = masked_sum(t, algo_entropy(a, out.inputs), m);
    sum = t_add(t, t_affine(t, x.policy, -1.0f, 0.0f),
                t_affine(t, x.entropy, (float)-entropy_coeff, 0.0f));
    if (o->critic) {
        tvar e = t_square(t, t_sub(t, out.value, t_data(t, target, v.rows, 1)));

        x.value = t_affine(t, masked_sum(t, e, m), 0.5f, 0.0f);
        sum = t_add(t, sum, t_affine(t, x.value, g->vf_coeff, 0.0f));
    }
    if (g->mean)
        sum = t_affine(t, sum, (float)(1.0 / valid), 0.0f);
    r = onpol_backward(a, sum, err);
    if (r < 0)
        return r;
    valid = g->mean ? valid : 1.0;
    algo_stat(st, "total_loss", (double)tape_scalar(t, sum));
    algo_stat(st, "policy_loss", -(double)tape_scalar(t, x.policy) / valid);
    algo_stat(st, "policy_entropy", (double)tape_scalar(t, x.entropy) / valid);
    if (o->critic) {
        algo_stat(st, "vf_loss", (double)tape_scalar(t, x.value) / valid);
        algo_stat(st, "vf_explained_var",
                  onpol_explained(tape_value(t, out.value), target, mask, v.rows));
    }
    algo_stat(st, "entropy_coeff", entropy_coeff);
    algo_stat(st, "cur_lr", (double)a->optims[0].opts.lr);
    return 0;
}

static int learn(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                 struct skate_error *err) {
    int r = loss(a, b, st, err);

    if (r == 0)
        r = onpol_step(a, err);
    if (r == 0)
        algo_stat(st, "grad_gnorm", (double)a->optims[0].grad_norm);
    return r;
}

static int gradient(struct algo *a, const struct algo_batch *b, float *flat,
                    struct algo_stats *st, struct skate_error *err) {
    int r = loss(a, b, st, err);

    if (r == 0)
        algo_pull_grads(a, flat);
    return r;
}

const struct algo_api algo_pg_api = {
    .name = "PG", .make = pg_make, .close = onpol_close, .act = onpol_act, .learn = learn,
    .gradient = gradient, .apply = onpol_apply,
};
const struct algo_api algo_a2c_api = {
    .name = "A2C", .make = a2c_make, .close = onpol_close, .act = onpol_act, .learn = learn,
    .gradient = gradient, .apply = onpol_apply,
};
const struct algo_api algo_a3c_api = {
    .name = "A3C", .make = a2c_make, .close = onpol_close, .act = onpol_act, .learn = learn,
    .gradient = gradient, .apply = onpol_apply,
};
