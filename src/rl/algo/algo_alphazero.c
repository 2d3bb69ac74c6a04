/* algo_alphazero.c - "AlphaZero" (Silver et al. 2017): a net of priors and value for the tree
 * search of own/mcts.h, which makes the targets that it learns.
 *
 * act() gives the logits in `inputs` and the value in `vf`. learn() takes obs, mcts_policies f32
 * [actions] (what the search found), value_label f32, and optionally action_mask f32 [actions];
 * loss: (cross entropy + squared error of the value) / 2, as in RLlib.
 * Tests: tests/rl/test_own.py, tests/rl/test_own_math.py. */
#include <math.h>
#include <stdlib.h>

#include "rl/algo/algo.h"

struct az {
    struct net policy, value;   /* with shared layers, `policy` has one more column: the value */
    bool shared;
    int actions, obs;
};

static int add_nets(struct algo *a, const struct algo_setup *s, struct az *az,
                    struct skate_error *err) {
    struct params *p = algo_params(a, true);
    struct net_opts o;
    int r;

    if (!p)
        return -SKATE_ENOMEM;
    r = algo_net_opts(s, az->actions + (az->shared ? 1 : 0), &o, err);
    if (r < 0)
        return r;
    if (o.cell != CELL_NONE)
        return err_fail(err, -SKATE_EINVAL, "use_lstm: AlphaZero has no recurrent nets");
    az->obs = o.in + o.image[0] * o.image[1] * o.image[2];
    r = net_add(&az->policy, p, "policy", &o);
    o.out = 1;
    if (r == 0 && !az->shared)
        r = net_add(&az->value, p, "value", &o);
    return r < 0 ? r : params_seal(p, &a->rng);
}

static int az_make(struct algo *a, const struct algo_setup *s, struct skate_error *err) {
    struct az *az = calloc(1, sizeof(*az));
    struct optim_opts o;
    double clip = algo_num(s, "grad_clip", 0.0);
    int r;

    a->own = az;
    if (!az)
        return -SKATE_ENOMEM;
    if (s->action.kind != ALGO_DISCRETE)
        return err_fail(err, -SKATE_EINVAL, "AlphaZero needs a discrete action space");
    az->actions = a->n_inputs = s->action.size;
    az->shared = algo_flag(s, "vf_share_layers", false);
    r = add_nets(a, s, az, err);
    if (r < 0)
        return r;
    optim_opts_default(&o);
    o.lr = (float)algo_num(s, "lr", 5e-5);
    o.clip = clip > 0.0 ? CLIP_GLOBAL_NORM : CLIP_NONE;
    o.clip_by = (float)clip;
    return algo_optim(a, a->params[0], &o);
}

/* Logits [n, actions] and values [n, 1] of observations. */
static void forward(struct algo *a, const float *obs, int n, bool frozen, tvar *logits,
                    tvar *value) {
    struct az *az = a->own;
    struct tape *t = a->tape;
    tvar x = t_data(t, obs, n, az->obs), y = net_apply(t, &az->policy, x, NULL, frozen, NULL);

    *logits = az->shared ? t_cols(t, y, 0, az->actions) : y;
    *value = az->shared ? t_cols(t, y, az->actions, 1)
                        : net_apply(t, &az->value, x, NULL, frozen, NULL);
}

static int az_act(struct algo *a, const struct algo_act *io, struct skate_error *err) {
    const float *y, *v;
    tvar logits, value;

    tape_reset(a->tape);
    forward(a, io->obs, io->n, true, &logits, &value);
    y = tape_value(a->tape, logits);
    v = tape_value(a->tape, value);
    if (!y || !v)
        return err_fail(err, tape_error(a->tape), "%s", tape_error_text(a->tape));
    for (int i = 0; io->vf && i < io->n; i++)
        io->vf[i] = v[i];
    return algo_draw(a, y, io, err);
}

static int az_backward(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                       struct skate_error *err) {
    struct az *az = a->own;
    struct tape *t = a->tape;
    const float *obs = algo_f32(b, "obs", az->obs, err), *mask = NULL;
    const float *target = obs ? algo_f32(b, "mcts_policies", az->actions, err) : NULL;
    const float *label = target ? algo_f32(b, "value_label", 1, err) : NULL;
    tvar logits, value, policy_loss, value_loss, loss;
    int r;

    if (label && algo_col(b, "action_mask"))
        mask = algo_f32(b, "action_mask", az->actions, err);
    if (!label || (algo_col(b, "action_mask") && !mask))
        return -SKATE_EINVAL;
    forward(a, obs, b->rows, false, &logits, &value);
    if (mask)
        logits = algo_mask(a, logits, mask);
    policy_loss = t_mul(t, t_data(t, target, b->rows, az->actions), t_log_softmax(t, logits, 0));
    policy_loss = t_affine(t, t_mean(t, t_sum_cols(t, policy_loss)), -1.0f, 0.0f);
    value_loss = t_mean(t, t_square(t, t_sub(t, value, t_data(t, label, b->rows, 1))));
    loss = t_affine(t, t_add(t, policy_loss, value_loss), 0.5f, 0.0f);
    r = tape_backward(t, loss);
    if (r < 0)
        return err_fail(err, r, "the loss is not finite: look at obs, mcts_policies and "
                        "value_label (%s)", tape_error_text(t));
    algo_stat(st, "total_loss", (double)tape_scalar(t, loss));
    algo_stat(st, "policy_loss", (double)tape_scalar(t, policy_loss));
    algo_stat(st, "vf_loss", (double)tape_scalar(t, value_loss));
    return 0;
}

static int az_learn(struct algo *a, const struct algo_batch *b, struct algo_stats *st,
                    struct skate_error *err) {
    int r = az_backward(a, b, st, err);

    if (r == 0)
        r = optim_step(&a->optims[0]);
    if (r < 0)
        return err && err->text[0] ? r : err_fail(err, r, "a gradient is not finite");
    algo_stat(st, "grad_gnorm", (double)a->optims[0].grad_norm);
    return 0;
}

static int az_gradient(struct algo *a, const struct algo_batch *b, float *flat,
                       struct algo_stats *st, struct skate_error *err) {
    struct params *p = a->params[0];
    int r = az_backward(a, b, st, err);

    if (r == 0)
        algo_pull_grads(a, flat);
    params_zero_grad(p);
    return r;
}

const struct algo_api algo_alphazero_api = {
    .name = "AlphaZero", .make = az_make, .act = az_act, .learn = az_learn,
    .gradient = az_gradient,
};
