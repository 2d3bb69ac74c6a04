/* qnet.c - see qnet.h. */
#include "rl/algo/qnet.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Layers as torch.nn.Linear starts them, for comparison with libraries built on it. */
static void torch_start(struct net_opts *o) {
    o->init = o->out_init = PARAM_FAN_IN;
    o->scale = o->out_scale = 1.0f;
    o->torch_bias = true;
}

static int head_opts(const struct algo_setup *s, int in, int out, bool torch, struct net_opts *o,
                     struct skate_error *err) {
    int n;

    net_opts_default(o);
    o->in = in;
    o->out = out;
    o->n_hiddens = 1;
    o->hiddens[0] = 256;
    o->act = ACT_RELU;
    o->init = o->out_init = PARAM_XAVIER;
    o->scale = o->out_scale = 1.0f;
    o->noisy = algo_flag(s, "noisy", false);
    o->sigma0 = (float)algo_num(s, "sigma0", 0.5);
    if (torch)
        torch_start(o);
    n = algo_ints(s, "hiddens", o->hiddens, NET_LAYERS_MAX);
    o->n_hiddens = n >= 0 ? n : 1;
    for (int i = 0; i < o->n_hiddens; i++)
        if (o->hiddens[i] < 1 || o->hiddens[i] > 65536)
            return err_fail(err, -SKATE_EINVAL, "hiddens: a width of %d is out of 1..65536",
                            o->hiddens[i]);
    return 0;
}

static int read_atoms(const struct algo_setup *s, struct qnet *q, struct skate_error *err) {
    double atoms = algo_num(s, "num_atoms", 1.0);

    q->v_min = (float)algo_num(s, "v_min", -10.0);
    q->v_max = (float)algo_num(s, "v_max", 10.0);
    if (!(atoms >= 1.0 && atoms <= QNET_ATOMS_MAX) || atoms != floor(atoms))
        return err_fail(err, -SKATE_EINVAL, "num_atoms must be 1 to %d, it is %g",
                        QNET_ATOMS_MAX, atoms);
    if (!(q->v_min < q->v_max) || !isfinite(q->v_min) || !isfinite(q->v_max))
        return err_fail(err, -SKATE_EINVAL, "v_min must be below v_max: %g, %g",
                        (double)q->v_min, (double)q->v_max);
    q->atoms = (int)atoms;
    return 0;
}

/* I - 1/A over the actions of each atom. */
static int make_center(struct qnet *q) {
    int n = q->actions * q->atoms;

    q->center = calloc((size_t)n * (size_t)n, sizeof(float));
    if (!q->center)
        return -SKATE_ENOMEM;
    for (int i = 0; i < n; i++)
        for (int j = i % q->atoms; j < n; j += q->atoms)
            q->center[(size_t)i * (size_t)n + (size_t)j] =
                (i == j ? 1.0f : 0.0f) - 1.0f / (float)q->actions;
    return 0;
}

static int read_optim(struct algo *a, const struct algo_setup *s, struct params *p,
                      struct skate_error *err) {
    const char *by = algo_text(s, "grad_clip_by", "global_norm");
    struct optim_opts o;

    optim_opts_default(&o);
    o.kind = OPTIM_ADAM;
    o.lr = (float)algo_num(s, "lr", 5e-4);
    o.eps = (float)algo_num(s, "adam_epsilon", 1e-8);
    o.clip_by = (float)algo_num(s, "grad_clip", 0.0);
    o.clip = !(o.clip_by > 0.0f)              ? CLIP_NONE
             : strcmp(by, "global_norm") == 0 ? CLIP_GLOBAL_NORM
             : strcmp(by, "norm") == 0        ? CLIP_NORM
                                              : CLIP_VALUE;
    if (!(o.lr >= 0.0f) || !isfinite(o.lr) || !(o.eps > 0.0f))
        return err_fail(err, -SKATE_EINVAL, "lr must be >= 0 and adam_epsilon above 0");
    if (strcmp(by, "global_norm") != 0 && strcmp(by, "norm") != 0 && strcmp(by, "value") != 0)
        return err_fail(err, -SKATE_EINVAL, "grad_clip_by '%s': there are global_norm, norm and "
                        "value", by);
    return algo_optim(a, p, &o);
}

/* The tensors of one net, online or target, in the same order. */
static int add_nets(struct qnet *q, struct params *p, const struct net_opts *body,
                    struct net_opts *head) {
    int r = net_add(&q->body, p, "body", body);

    if (r < 0 || !q->heads)
        return r;
    head->in = net_width(body);
    head->out = q->actions * q->atoms;
    r = net_add(&q->adv, p, "advantage", head);
    if (r == 0 && q->dueling) {
        head->out = q->atoms;
        r = net_add(&q->value, p, "value", head);
    }
    return r;
}

static int make_params(struct algo *a, const struct algo_setup *s, struct qnet *q,
                       const struct net_opts *body, struct net_opts *head,
                       struct skate_error *err) {
    struct params *online = algo_params(a, true), *target = algo_params(a, false);
    struct qnet copy = *q;
    int r;

    if (!online || !target)
        return -SKATE_ENOMEM;
    r = add_nets(&copy, target, body, head);
    if (r == 0)
        r = add_nets(q, online, body, head);
    if (r < 0)
        return err_fail(err, r, "the net cannot be built: sizes out of range");
    r = read_optim(a, s, online, err);
    if (r == 0)
        r = params_seal(target, &a->rng);
    if (r == 0)
        params_blend(target, online, 1.0f);
    return r;
}

int qnet_make(struct algo *a, const struct algo_setup *s, enum net_cell cell, struct qnet *q,
              struct skate_error *err) {
    bool torch = algo_flag(s, "torch_init", false);
    struct net_opts body, head;
    int r;

    if (s->action.kind != ALGO_DISCRETE)
        return err_fail(err, -SKATE_EINVAL, "%s needs a Discrete action space", a->api->name);
    q->actions = s->action.size;
    q->dueling = algo_flag(s, "dueling", true);
    r = read_atoms(s, q, err);
    if (r == 0)
        r = head_opts(s, 1, 1, torch, &head, err);
    if (r < 0)
        return r;
    if ((int64_t)q->actions * q->atoms > 1 << 16)
        return err_fail(err, -SKATE_EINVAL, "%d actions of %d atoms are too many", q->actions,
                        q->atoms);
    q->noisy = head.noisy;
    q->heads = head.n_hiddens > 0;
    q->dueling = q->dueling && q->heads;
    r = algo_net_opts(s, q->heads ? 0 : q->actions * q->atoms, &body, err);
    if (r < 0)
        return r;
    body.noisy = q->noisy && !q->heads;
    body.sigma0 = head.sigma0;
    body.cell = cell;
    if (cell != CELL_NONE)
        body.cell_size = (int)algo_num(s, "lstm_cell_size", 256.0);
    if (torch)
        torch_start(&body);
    if (q->dueling && q->atoms > 1)
        r = make_center(q);
    return r < 0 ? r : make_params(a, s, q, &body, &head, err);
}

void qnet_release(struct qnet *q) {
    free(q->center);
    q->center = NULL;
}

/* ---- forward ---- */

static tvar apply(struct algo *a, const struct net *net, const struct params *p, tvar x,
                  tvar *state, bool frozen, struct rl_rng *noise) {
    if (p)
        return net_apply_with(a->tape, net, p, x, state, noise);
    return net_apply(a->tape, net, x, state, frozen, noise);
}

/* value + (advantage - its mean over the actions), atom by atom. */
static tvar duel(struct tape *t, const struct qnet *q, tvar adv, tvar value) {
    int n = tape_rows(t, adv), outputs = q->actions * q->atoms;
    tvar mean, centered;

    if (q->atoms == 1) {
        mean = t_affine(t, t_sum_cols(t, adv), 1.0f / (float)q->actions, 0.0f);
        return t_add(t, t_sub(t, adv, mean), value);
    }
    centered = t_matmul(t, adv, t_data(t, q->center, outputs, outputs));
    centered = t_reshape(t, centered, n * q->actions, q->atoms);
    return t_reshape(t, t_add(t, centered, t_repeat(t, value, q->actions)), n, outputs);
}

tvar qnet_apply(struct algo *a, const struct qnet *q, const struct params *p, tvar x, tvar *state,
                bool frozen, bool noise) {
    struct rl_rng *rng = noise && q->noisy ? &a->rng : NULL;
    tvar body = apply(a, &q->body, p, x, state, frozen, q->heads ? NULL : rng), adv, value;

    if (!q->heads)
        return body;
    adv = apply(a, &q->adv, p, body, NULL, frozen, rng);
    if (!q->dueling)
        return adv;
    value = apply(a, &q->value, p, body, NULL, frozen, rng);
    return duel(a->tape, q, adv, value);
}

void qnet_target(struct algo *a, int ask, int since, int every, float tau) {
    a->vars[since] += 1.0;
    if (a->vars[ask] != 0.0 || (every > 0 && a->vars[since] >= every)) {
        params_blend(a->params[1], a->params[0], tau);
        a->vars[ask] = 0.0;
        a->vars[since] = 0.0;
    }
}

/* ---- sequences ---- */

void qnet_by_time(const float *from, int n, int steps, int width, float *to) {
    size_t w = (size_t)width;

    for (int i = 0; i < n; i++)
        for (int k = 0; k < steps; k++)
            memcpy(to + ((size_t)k * (size_t)n + (size_t)i) * w,
                   from + ((size_t)i * (size_t)steps + (size_t)k) * w, w * sizeof(float));
}

tvar qnet_keep_state(struct tape *t, const float *mask, int n, tvar old, tvar next) {
    bool all = true;
    tvar m;

    for (int i = 0; i < n; i++)
        all &= mask[i] != 0.0f;
    if (all)
        return next;
    m = t_copy(t, mask, n, 1);
    return t_add(t, t_mul(t, next, m), t_mul(t, old, t_affine(t, m, -1.0f, 1.0f)));
}

/* ---- values ---- */

static float atom(const struct qnet *q, int i) {
    return q->v_min + (q->v_max - q->v_min) * (float)i / (float)(q->atoms - 1);
}

static void softmax(const float *logits, int n, float *ret) {
    float top = logits[0], sum = 0.0f;

    for (int i = 1; i < n; i++)
        top = logits[i] > top ? logits[i] : top;
    for (int i = 0; i < n; i++) {
        ret[i] = expf(logits[i] - top);
        sum += ret[i];
    }
    for (int i = 0; i < n; i++)
        ret[i] /= sum;
}

void qnet_values(const struct qnet *q, const float *outputs, int n, float *values) {
    float p[QNET_ATOMS_MAX];

    if (q->atoms == 1) {
        memcpy(values, outputs, (size_t)n * (size_t)q->actions * sizeof(float));
        return;
    }
    for (int i = 0; i < n * q->actions; i++) {
        float mean = 0.0f;

        softmax(outputs + (size_t)i * (size_t)q->atoms, q->atoms, p);
        for (int k = 0; k < q->atoms; k++)
            mean += p[k] * atom(q, k);
        values[i] = mean;
    }
}

void qnet_project(const struct qnet *q, const float *logits, float reward, float discount,
                  float *ret) {
    float p[QNET_ATOMS_MAX], width = (q->v_max - q->v_min) / (float)(q->atoms - 1);

    softmax(logits, q->atoms, p);
    memset(ret, 0, (size_t)q->atoms * sizeof(float));
    for (int k = 0; k < q->atoms; k++) {
        float z = reward + discount * atom(q, k), at;
        int low;

        z = z < q->v_min ? q->v_min : z > q->v_max ? q->v_max : z;
        at = (z - q->v_min) / width;
        low = (int)at;
        low = low > q->atoms - 2 ? q->atoms - 2 : low;
        ret[low] += p[k] * ((float)(low + 1) - at);
        ret[low + 1] += p[k] * (at - (float)low);
    }
}

int qnet_best(const float *values, const float *mask, int actions) {
    int best = -1;

    for (int i = 0; i < actions; i++)
        if ((!mask || mask[i] != 0.0f) && (best < 0 || values[i] > values[best]))
            best = i;
    return best < 0 ? 0 : best;
}

/* A uniform one of the allowed actions; how many there are in *count. */
static int any(struct algo *a, const float *mask, int actions, int *count) {
    int k;

    *count = 0;
    for (int i = 0; i < actions; i++)
        *count += !mask || mask[i] != 0.0f;
    if (*count == 0)
        return 0;
    k = (int)rl_rng_below(&a->rng, (uint32_t)*count);
    for (int i = 0; i < actions; i++)
        if ((!mask || mask[i] != 0.0f) && k-- == 0)
            return i;
    return 0;
}

void qnet_choose(struct algo *a, const struct algo_act *io, const float *values) {
    int actions = a->action.size;
    int32_t *ret = io->actions;

    for (int i = 0; i < io->n; i++) {
        const float *row = values + (size_t)i * (size_t)actions;
        const float *mask = io->mask ? io->mask + (size_t)i * (size_t)actions : NULL;
        int best = qnet_best(row, mask, actions), count = 1;
        float share = io->explore ? io->epsilon : 0.0f, chance;

        ret[i] = best;
        if (share > 0.0f) {
            float u = rl_rng_float(&a->rng);
            int other = any(a, mask, actions, &count);

            if (u < share)
                ret[i] = other;
        }
        chance = (ret[i] == best ? 1.0f - share : 0.0f) + share / (float)(count ? count : 1);
        if (io->logp)
            io->logp[i] = logf(chance);
        if (io->vf)
            io->vf[i] = row[best];
    }
    if (io->inputs)
        memcpy(io->inputs, values, (size_t)io->n * (size_t)actions * sizeof(float));
}
