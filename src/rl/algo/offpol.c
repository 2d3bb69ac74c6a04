/* offpol.c - see offpol.h. One owner, no locks, never blocks.
 * Tests: tests/unit/rl_offpol_test.c. */
#include "rl/algo/offpol.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

int offpol_rows(const struct algo *a, const struct algo_batch *b, float discount,
                struct offpol_rows *ret, struct skate_error *err) {
    const struct algo_col *td = algo_col(b, "td_errors");

    memset(ret, 0, sizeof(*ret));
    ret->n = b->rows;
    ret->discount = discount;
    ret->obs = algo_f32(b, "obs", a->obs.size, err);
    if (!ret->obs)
        return -SKATE_EINVAL;
    ret->new_obs = algo_f32(b, "new_obs", a->obs.size, err);
    if (!ret->new_obs)
        return -SKATE_EINVAL;
    ret->rewards = algo_f32(b, "rewards", 1, err);
    if (!ret->rewards)
        return -SKATE_EINVAL;
    ret->terminateds = algo_f32(b, "terminateds", 1, err);
    if (!ret->terminateds)
        return -SKATE_EINVAL;
    if (a->action.kind == ALGO_BOX)
        ret->actions = algo_f32(b, "actions", a->action.size, err);
    else
        ret->choices = algo_i32(b, "actions", 1, err);
    if (!ret->actions && !ret->choices)
        return -SKATE_EINVAL;
    if (algo_col(b, "discounts") && !(ret->discounts = algo_f32(b, "discounts", 1, err)))
        return -SKATE_EINVAL;
    if (algo_col(b, "weights") && !(ret->weights = algo_f32(b, "weights", 1, err)))
        return -SKATE_EINVAL;
    if (td && td->writable && td->dtype == ALGO_F32 && td->width == 1 && td->rows == b->rows)
        ret->td_errors = td->p;
    return 0;
}

int offpol_units(const struct algo_setup *s, float *memory, struct offpol_units *ret,
                 struct skate_error *err) {
    const struct algo_space *space = &s->action;
    bool normal = algo_flag(s, "normalize_actions", false);

    ret->n = space->size;
    ret->mid = memory;
    ret->half = memory + space->size;
    ret->bounded = space->low && space->high ? true : normal;
    for (int i = 0; space->low && space->high && i < space->size; i++)
        if (!isfinite(space->low[i]) || !isfinite(space->high[i]))
            ret->bounded = false;
    for (int i = 0; i < space->size; i++) {
        bool own = ret->bounded && !normal;

        ret->mid[i] = own ? 0.5f * space->low[i] + 0.5f * space->high[i] : 0.0f;
        ret->half[i] = own ? 0.5f * space->high[i] - 0.5f * space->low[i] : 1.0f;
        if (!(ret->half[i] > 0.0f))
            return err_fail(err, -SKATE_EINVAL,
                            "action_space: number %d has nothing between low %g and high %g", i,
                            (double)space->low[i], (double)space->high[i]);
    }
    return 0;
}

tvar offpol_unit_actions(struct tape *t, const struct offpol_units *u, const float *actions,
                         int rows) {
    tvar x = t_data(t, actions, rows, u->n);

    x = t_sub(t, x, t_data(t, u->mid, 1, u->n));
    return t_div(t, x, t_data(t, u->half, 1, u->n));
}

static int activation(const char *name, enum tape_act *ret) {
    static const struct {
        const char *name;
        enum tape_act act;
    } all[] = {{"relu", ACT_RELU},     {"tanh", ACT_TANH},   {"linear", ACT_LINEAR},
               {"sigmoid", ACT_SIGMOID}, {"elu", ACT_ELU},   {"swish", ACT_SWISH},
               {"silu", ACT_SWISH},    {"gelu", ACT_GELU},   {"leaky_relu", ACT_LEAKY_RELU}};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (!strcmp(name, all[i].name)) {
            *ret = all[i].act;
            return 0;
        }
    return -SKATE_EINVAL;
}

int offpol_net(const struct algo_setup *s, const char *prefix, int extra, int out,
               struct net_opts *ret, struct skate_error *err) {
    char key[64];
    const char *text;
    bool torch = algo_flag(s, "torch_init", false);
    int n, code = algo_net_opts(s, out, ret, err);

    if (code)
        return code;
    ret->in += extra;
    ret->init = ret->out_init = torch ? PARAM_FAN_IN : PARAM_XAVIER;
    ret->scale = ret->out_scale = 1.0f;
    ret->torch_bias = torch;
    snprintf(key, sizeof(key), "%s_hiddens", prefix);
    n = algo_ints(s, key, ret->hiddens, NET_LAYERS_MAX);
    if (n >= 0)
        ret->n_hiddens = n;
    snprintf(key, sizeof(key), "%s_hidden_activation", prefix);
    text = algo_text(s, key, "relu");
    if (activation(text, &ret->act))
        return err_fail(err, -SKATE_EINVAL,
                        "%s: no activation '%s'; there are relu, tanh, linear, sigmoid, elu, "
                        "swish, gelu and leaky_relu", key, text);
    return 0;
}

int offpol_critics(struct algo *a, int n, const struct net_opts *opts,
                   struct offpol_critics *ret) {
    char prefix[16];
    struct net unused;
    int code;

    SKATE_ASSERT(n >= 1);
    SKATE_ASSERT(n <= OFFPOL_CRITICS_MAX);
    ret->n = n;
    ret->p = algo_params(a, false);
    ret->target = algo_params(a, false);
    if (!ret->p || !ret->target)
        return -SKATE_ENOMEM;
    for (int i = 0; i < n; i++) {
        snprintf(prefix, sizeof(prefix), "q%d", i);
        code = net_add(&ret->nets[i], ret->p, prefix, opts);
        if (!code)
            code = net_add(&unused, ret->target, prefix, opts);
        if (code)
            return code;
    }
    code = params_seal(ret->p, &a->rng);
    if (!code)
        code = params_seal(ret->target, &a->rng);
    if (!code)
        params_blend(ret->target, ret->p, 1.0f);
    return code;
}

bool offpol_target_due(double *rows_since, int rows, double freq) {
    *rows_since += rows;
    if (*rows_since < freq)
        return false;
    *rows_since = 0.0;
    return true;
}

int offpol_target_vars(struct algo *a) {
    if (algo_var(a, NULL, 0.0) != OFFPOL_SINCE || algo_var(a, "update_target", -1.0) < 0)
        return -SKATE_EINVAL;
    return 0;
}

bool offpol_target_now(struct algo *a, int rows, double freq) {
    double asked = a->vars[OFFPOL_ASKED];

    if (asked < 0.0)
        return offpol_target_due(&a->vars[OFFPOL_SINCE], rows, freq);
    a->vars[OFFPOL_ASKED] = 0.0;
    return asked > 0.0;
}

int offpol_optim(struct algo *a, const struct algo_setup *s, struct params *p, double lr) {
    struct optim_opts o;
    const char *by = algo_text(s, "grad_clip_by", "global_norm");

    optim_opts_default(&o);
    o.kind = OPTIM_ADAM;
    o.lr = (float)lr;
    o.eps = (float)algo_num(s, "adam_epsilon", 1e-7);
    o.clip_by = (float)algo_num(s, "grad_clip", 0.0);
    o.clip = !strcmp(by, "value") ? CLIP_VALUE : !strcmp(by, "norm") ? CLIP_NORM
                                                                     : CLIP_GLOBAL_NORM;
    if (o.clip_by <= 0.0f)
        o.clip = CLIP_NONE;
    return algo_optim(a, p, &o);
}

tvar offpol_target(struct tape *t, const struct offpol_rows *r, tvar value) {
    tvar on = t_affine(t, t_data(t, r->terminateds, r->n, 1), -1.0f, 1.0f);

    if (r->discounts)
        on = t_mul(t, on, t_data(t, r->discounts, r->n, 1));
    else
        on = t_affine(t, on, r->discount, 0.0f);
    value = t_mul(t, value, on);
    return t_stop(t, t_add(t, value, t_data(t, r->rewards, r->n, 1)));
}

tvar offpol_td_loss(struct tape *t, const struct offpol_rows *r, tvar error, float huber) {
    tvar x = huber > 0.0f ? t_huber(t, error, huber) : t_affine(t, t_square(t, error), 0.5f, 0.0f);

    if (r->weights)
        x = t_mul(t, x, t_data(t, r->weights, r->n, 1));
    return t_mean(t, x);
}

tvar offpol_l2(struct tape *t, struct params *p, tvar loss, float coeff) {
    if (coeff <= 0.0f)
        return loss;
    for (int i = 0; i < p->n_tensors; i++) {
        if (p->tensors[i].rows == 1)
            continue;
        loss = t_add(t, loss,
                     t_affine(t, t_sum(t, t_square(t, t_param(t, p, i))), 0.5f * coeff, 0.0f));
    }
    return loss;
}

void offpol_q_stats(const struct tape *t, tvar q, struct algo_stats *st) {
    const float *v = tape_value(t, q);
    int n = v ? tape_rows(t, q) * tape_cols(t, q) : 0;
    double sum = 0, low = 0, high = 0;

    for (int i = 0; i < n; i++) {
        sum += (double)v[i];
        low = i && low < (double)v[i] ? low : (double)v[i];
        high = i && high > (double)v[i] ? high : (double)v[i];
    }
    algo_stat(st, "mean_q", n ? sum / n : 0);
    algo_stat(st, "min_q", low);
    algo_stat(st, "max_q", high);
}

int offpol_step(struct algo *a, unsigned which, struct skate_error *err) {
    for (int i = 0; i < a->n_optims; i++) {
        const struct params *p = a->optims[i].p;

        for (size_t k = 0; which & 1u << i && k < p->n_padded; k++)
            if (!isfinite(p->grad[k]))
                return err_fail(err, -SKATE_EINVAL,
                                "a gradient is not finite: the net has diverged; a lower learning "
                                "rate or grad_clip helps");
    }
    for (int i = 0; i < a->n_optims; i++) {
        int code = which & 1u << i ? optim_step(&a->optims[i]) : 0;

        if (code)
            return err_fail(err, code, "the optimiser's step failed");
    }
    return 0;
}

float *offpol_scratch(struct offpol_scratch *s, size_t n) {
    if (s->n < n) {
        free(s->p);
        s->p = malloc(n * sizeof(float));
        s->n = s->p ? n : 0;
    }
    return s->p;
}

void offpol_scratch_free(struct offpol_scratch *s) {
    free(s->p);
    memset(s, 0, sizeof(*s));
}

tvar offpol_noise(struct algo *a, const struct algo_batch *b, const char *name, int cols,
                  struct offpol_scratch *s) {
    const struct algo_col *own = algo_col(b, name);
    size_t n = (size_t)b->rows * (size_t)cols;
    float *x;

    if (own && own->dtype == ALGO_F32 && own->width == cols && own->rows == b->rows)
        return t_copy(a->tape, own->p, b->rows, cols);
    x = offpol_scratch(s, n);
    if (!x)
        return TAPE_BAD;
    for (size_t i = 0; i < n; i++)
        x[i] = (float)rl_rng_normal(&a->rng);
    return t_copy(a->tape, x, b->rows, cols);
}
