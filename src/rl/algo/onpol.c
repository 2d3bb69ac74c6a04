/* onpol.c - see onpol.h: the nets of on-policy algorithms, acting, the forward pass.
 * Tests: tests/unit/rl_algo_test.c, tests/rl/test_on_policy_math.py. */
#include "rl/algo/onpol.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory ---- */

void *onpol_room(struct onpol *o, size_t bytes) {
    struct onpol_slot *s;

    if (o->n_slots == ONPOL_SLOTS)
        return NULL;
    s = &o->slots[o->n_slots++];
    if (s->bytes < bytes) {
        free(s->p);
        s->p = malloc(bytes);
        s->bytes = s->p ? bytes : 0;
    }
    return s->p;
}

void onpol_reset(struct onpol *o) {
    o->n_slots = 0;
}

void onpol_close(struct algo *a) {
    struct onpol *o = a->own;

    for (int i = 0; o && i < ONPOL_SLOTS; i++)
        free(o->slots[i].p);
    free(o);
    a->own = NULL;
}

/* ---- set-up ---- */

/* A head on `o->features` columns. */
static int head(struct onpol *o, struct net *net, const char *name, const struct net_opts *like,
                int out) {
    struct net_opts opts = *like;

    memset(opts.image, 0, sizeof opts.image);
    opts.n_convs = opts.n_hiddens = 0;
    opts.in = o->features;
    opts.out = out;
    return net_add(net, o->p, name, &opts);
}

static int shared_nets(struct onpol *o, const struct net_opts *opts, int out) {
    struct net_opts body = *opts;
    int r, width;

    body.out = 0;
    width = net_width(&body);
    if (width < 0)
        return width;
    r = net_add(&o->body, o->p, "body", &body);
    o->features = width;
    if (r == 0 && o->cell > 0) {
        o->lstm_w = params_add(o->p, "lstm/kernel", width + o->cell, 4 * o->cell, PARAM_FAN_IN,
                               1.0f);
        o->lstm_b = params_add(o->p, "lstm/bias", 1, 4 * o->cell, PARAM_ZERO, 0.0f);
        r = o->lstm_w < 0 || o->lstm_b < 0 ? -SKATE_EINVAL : 0;
        o->features = o->cell;
    }
    if (r == 0)
        r = head(o, &o->pi, "pi", opts, out);
    if (r == 0 && o->critic)
        r = head(o, &o->vf, "vf", opts, 1);
    return r;
}

static int separate_nets(struct onpol *o, const struct net_opts *opts, int out) {
    struct net_opts net = *opts;
    int r;

    net.out = out;
    r = net_add(&o->pi, o->p, "pi", &net);
    net.out = 1;
    if (net.out_init == PARAM_ORTHO)
        net.out_scale = 1.0f;
    if (r == 0 && o->critic)
        r = net_add(&o->vf, o->p, "vf", &net);
    return r;
}

int onpol_init(struct algo *a, struct onpol *o, const struct algo_setup *s, bool critic,
               struct skate_error *err) {
    bool lstm = algo_flag(s, "use_lstm", false), share = algo_flag(s, "vf_share_layers", false);
    bool free_std = algo_flag(s, "free_log_std", false);
    double cell = algo_num(s, "lstm_cell_size", 256.0);
    int out = algo_n_inputs(&s->action), r;
    struct net_opts opts;

    free_std = free_std && s->action.kind == ALGO_BOX;
    if (free_std)
        out /= 2;
    if (lstm && !(cell >= 1.0 && cell <= 65536.0))
        return err_fail(err, -SKATE_EINVAL, "lstm_cell_size must be in 1..65536, it is %g", cell);
    r = algo_net_opts(s, out, &opts, err);
    if (r < 0)
        return r;
    if (algo_flag(s, "ortho_init", false)) {    /* Engstrom et al. 2020: gains sqrt(2), 0.01, 1 */
        opts.init = opts.out_init = PARAM_ORTHO;
        opts.scale = sqrtf(2.0f);
    }
    o->critic = critic;
    o->shared = lstm || share;
    o->cell = lstm ? (int)cell : 0;
    o->log_std = -1;
    o->p = algo_params(a, true);
    if (!o->p)
        return -SKATE_ENOMEM;
    r = o->shared ? shared_nets(o, &opts, out) : separate_nets(o, &opts, out);
    if (r == 0 && free_std) {
        o->log_std = params_add(o->p, "log_std", 1, out, PARAM_ZERO, 0.0f);
        r = o->log_std < 0 ? o->log_std : 0;
    }
    a->state_size = 2 * o->cell;
    return r < 0 ? err_fail(err, r, "the net cannot be made: %s", skate_strerror(r)) : 0;
}

int onpol_optim(struct algo *a, struct onpol *o, const struct algo_setup *s, double lr,
                struct skate_error *err) {
    const char *kind = algo_text(s, "opt_type", "adam");
    double clip = algo_num(s, "grad_clip", 0.0), decay = algo_num(s, "decay", 0.99);
    double momentum = algo_num(s, "momentum", 0.0), eps = algo_num(s, "epsilon", 0.1);
    struct optim_opts opts;

    optim_opts_default(&opts);
    opts.lr = (float)algo_num(s, "lr", lr);
    opts.eps = (float)algo_num(s, "adam_epsilon", 1e-8);
    if (strcmp(kind, "rmsprop") == 0) {
        opts.kind = OPTIM_RMSPROP;
        opts.beta1 = (float)momentum;
        opts.beta2 = (float)decay;
        opts.eps = (float)eps;
    } else if (strcmp(kind, "adam") == 0) {
        opts.kind = OPTIM_ADAM;
    } else {
        return err_fail(err, -SKATE_EINVAL, "opt_type must be 'adam' or 'rmsprop', not '%s'",
                        kind);
    }
    if (!(opts.lr >= 0.0f))
        return err_fail(err, -SKATE_EINVAL, "lr must be >= 0, it is %g", (double)opts.lr);
    opts.clip = clip > 0.0 ? CLIP_GLOBAL_NORM : CLIP_NONE;
    opts.clip_by = (float)clip;
    return algo_optim(a, o->p, &opts);
}

struct params *onpol_twin(struct algo *a, const struct onpol *o) {
    struct params *p = algo_params(a, false);
    int r = p ? 0 : -SKATE_ENOMEM;

    for (int i = 0; i < o->p->n_tensors && r >= 0; i++) {
        const struct param_tensor *t = &o->p->tensors[i];

        r = params_add(p, t->name, t->rows, t->cols, PARAM_ZERO, 0.0f);
    }
    if (r >= 0)
        r = params_seal(p, &a->rng);
    if (r < 0)
        return NULL;
    params_blend(p, o->p, 1.0f);
    return p;
}

double onpol_adapt_kl(double coeff, double kl, double target) {
    if (kl > 2.0 * target && coeff < 1e6)
        return coeff * 1.5;
    return kl < 0.5 * target && coeff > 1e-6 ? coeff * 0.5 : coeff;
}

/* ---- one update ---- */

int onpol_backward(struct algo *a, tvar loss, struct skate_error *err) {
    int r = tape_backward(a->tape, loss);

    if (r < 0)
        params_zero_grad(a->params[0]);
    if (r < 0 && loss != TAPE_BAD && !isfinite(tape_scalar(a->tape, loss)))
        return err_fail(err, r, "the loss is not finite: the net has diverged; use a lower "
                        "learning rate or grad_clip");
    return r < 0 ? err_fail(err, r, "the loss cannot be computed: %s", tape_error_text(a->tape))
                 : 0;
}

int onpol_step(struct algo *a, struct skate_error *err) {
    int r = optim_step(&a->optims[0]);

    if (r == -SKATE_EINVAL)
        return err_fail(err, r, "the gradient is not finite: the net has diverged; use a lower "
                        "learning rate or grad_clip");
    return r;
}

int onpol_apply(struct algo *a, const float *flat, struct skate_error *err) {
    algo_push_grads(a, flat);
    return onpol_step(a, err);
}

double onpol_explained(const float *value, const float *target, const float *mask, int n) {
    double s[4] = { 0 }, count = 0.0, var, rest;

    for (int i = 0; i < n; i++) {
        double t = (double)target[i], e = t - (double)value[i];

        if (mask && mask[i] == 0.0f)
            continue;
        s[0] += t;
        s[1] += t * t;
        s[2] += e;
        s[3] += e * e;
        count += 1.0;
    }
    var = s[1] / count - s[0] / count * (s[0] / count);
    rest = s[3] / count - s[2] / count * (s[2] / count);
    return var > 0.0 ? 1.0 - rest / var : 0.0;
}

/* ---- forward ---- */

static tvar param(struct algo *a, struct onpol *o, const struct params *p, int i, bool frozen) {
    return p ? t_frozen(a->tape, p, i) : frozen ? t_frozen(a->tape, o->p, i)
                                                : t_param(a->tape, o->p, i);
}

static tvar apply(struct algo *a, const struct net *net, const struct params *p, tvar x,
                  bool frozen) {
    return p ? net_apply_with(a->tape, net, p, x, NULL, NULL)
             : net_apply(a->tape, net, x, NULL, frozen, NULL);
}

static void heads(struct algo *a, struct onpol *o, const struct params *p, tvar x, bool frozen,
                  struct onpol_out *out) {
    struct tape *t = a->tape;

    out->inputs = apply(a, &o->pi, p, x, frozen);
    out->value = o->critic ? apply(a, &o->vf, p, x, frozen) : TAPE_BAD;
    if (o->log_std >= 0) {
        int rows = tape_rows(t, out->inputs), n = a->action.size;
        tvar std = t_add(t, t_fill(t, 0.0f, rows, n), param(a, o, p, o->log_std, frozen));

        out->inputs = t_concat(t, out->inputs, std);
    }
}

/* h of all steps below each other, by halves: each number moves log(steps) times. */
static tvar pile(struct tape *t, const tvar *x, int n) {
    return n == 1 ? x[0] : t_stack(t, pile(t, x, n / 2), pile(t, x + n / 2, n - n / 2));
}

/* The state before step `k`: 0 where the step before it ended an episode. */
static tvar carry(struct tape *t, tvar state, const float *ended, int seqs, float *keep) {
    bool any = false;

    for (int i = 0; i < seqs; i++) {
        keep[i] = ended[i] != 0.0f ? 0.0f : 1.0f;
        any |= ended[i] != 0.0f;
    }
    return any ? t_mul(t, state, t_copy(t, keep, seqs, 1)) : state;
}

static tvar unroll(struct algo *a, struct onpol *o, const struct onpol_rows *v,
                   const struct params *p, bool frozen, const float *const *io,
                   tvar x, struct onpol_out *out) {
    struct tape *t = a->tape;
    const float *ended = io[0], *state_in = io[1];
    tvar w = param(a, o, p, o->lstm_w, frozen), b = param(a, o, p, o->lstm_b, frozen);
    tvar state = t_data(t, state_in, v->seqs, a->state_size);
    tvar *h = onpol_room(o, (size_t)v->steps * sizeof *h);
    float *keep = onpol_room(o, (size_t)v->seqs * sizeof *keep);

    out->states = onpol_room(o, (size_t)v->steps * sizeof *out->states);
    if (!h || !keep || !out->states)
        return TAPE_BAD;
    for (int k = 0; k < v->steps; k++) {
        if (k > 0)
            state = carry(t, state, ended + (size_t)(k - 1) * (size_t)v->seqs, v->seqs, keep);
        state = t_lstm(t, t_rows(t, x, k * v->seqs, v->seqs), state, w, b);
        out->states[k] = state;
        h[k] = t_cols(t, state, 0, o->cell);
    }
    return pile(t, h, v->steps);
}

/* 1 where an episode ended, in the view's order. */
static const float *ends(struct onpol *o, const struct onpol_rows *v, struct skate_error *err) {
    float *x = onpol_room(o, (size_t)v->rows * sizeof *x);
    static const char *const names[] = { "terminateds", "truncateds" };

    if (!x)
        return NULL;
    memset(x, 0, (size_t)v->rows * sizeof *x);
    for (int k = 0; k < 2; k++) {
        const float *c;

        if (!algo_col(v->b, names[k]))
            continue;
        c = onpol_f32(o, v, names[k], 1, err);
        if (!c)
            return NULL;
        for (int i = 0; i < v->rows; i++)
            x[i] += c[i];
    }
    return x;
}

int onpol_forward(struct algo *a, struct onpol *o, const struct onpol_rows *v,
                  const struct params *p, bool frozen, struct onpol_out *out,
                  struct skate_error *err) {
    const float *obs = onpol_f32(o, v, "obs", a->obs.size, err);
    struct tape *t = a->tape;
    tvar x;

    if (!obs)
        return -SKATE_EINVAL;
    x = t_data(t, obs, v->rows, a->obs.size);
    if (o->shared)
        x = apply(a, &o->body, p, x, frozen);
    if (o->cell > 0) {
        const float *io[2] = { ends(o, v, err), NULL };
        const struct algo_col *c = algo_col(v->b, "state_in");
        int seqs = v->b->rows / v->b->steps;

        if (!c || c->dtype != ALGO_F32 || c->rows != seqs || c->width != a->state_size)
            return err_fail(err, -SKATE_EINVAL, "'state_in' must be float32, %d x %d", seqs,
                            a->state_size);
        io[1] = c->p;
        if (v->seq_index) {
            float *s = onpol_room(o, (size_t)v->seqs * (size_t)a->state_size * sizeof *s);

            for (int i = 0; s && i < v->seqs; i++)
                memcpy(s + (size_t)i * (size_t)a->state_size,
                       (const float *)c->p + (size_t)v->seq_index[i] * (size_t)a->state_size,
                       (size_t)a->state_size * sizeof *s);
            io[1] = s;
        }
        if (!io[0] || !io[1])
            return -SKATE_ENOMEM;
        x = unroll(a, o, v, p, frozen, io, x, out);
    }
    heads(a, o, p, x, frozen, out);
    if (algo_col(v->b, "action_mask") && a->action.kind == ALGO_DISCRETE) {
        const float *mask = onpol_f32(o, v, "action_mask", a->action.size, err);

        if (!mask)
            return -SKATE_EINVAL;
        out->inputs = algo_mask(a, out->inputs, mask);
    }
    if (out->inputs == TAPE_BAD)
        return err_fail(err, tape_error(t) < 0 ? tape_error(t) : -SKATE_ENOMEM, "%s",
                        tape_error_text(t));
    return 0;
}

/* ---- acting ---- */

int onpol_act(struct algo *a, const struct algo_act *io, struct skate_error *err) {
    struct onpol *o = a->own;
    struct tape *t = a->tape;
    struct onpol_out out;
    tvar x = t_data(t, io->obs, io->n, a->obs.size), state = TAPE_BAD;
    size_t n = (size_t)io->n;
    int r;

    if (o->shared)
        x = apply(a, &o->body, NULL, x, true);
    if (o->cell > 0) {
        state = t_lstm(t, x, t_copy(t, io->state, io->n, a->state_size),
                       param(a, o, NULL, o->lstm_w, true), param(a, o, NULL, o->lstm_b, true));
        x = t_cols(t, state, 0, o->cell);
    }
    heads(a, o, NULL, x, true, &out);
    if (out.inputs == TAPE_BAD || (o->critic && out.value == TAPE_BAD))
        return err_fail(err, tape_error(t), "%s", tape_error_text(t));
    r = algo_draw(a, tape_value(t, out.inputs), io, err);
    if (r < 0)
        return r;
    if (io->vf && o->critic)
        memcpy(io->vf, tape_value(t, out.value), n * sizeof(float));
    else if (io->vf)
        memset(io->vf, 0, n * sizeof(float));
    if (o->cell > 0)
        memcpy(io->state, tape_value(t, state), n * (size_t)a->state_size * sizeof(float));
    return 0;
}
