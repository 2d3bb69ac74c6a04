/* nets.c - see nets.h. net_add() and net_apply() walk the same list of layers: each takes the next
 * tensors in order, so the two need only agree on that order. One owner; never blocks.
 * Tests: tests/unit/rl_nn_test.c. */
#include "rl/nn/nets.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"

enum { DIM_MAX = 1 << 22 };

void net_opts_default(struct net_opts *o) {
    *o = (struct net_opts){ .n_hiddens = 2, .hiddens = { 256, 256 }, .act = ACT_TANH,
                            .conv_act = ACT_RELU, .init = PARAM_NORMC, .out_init = PARAM_NORMC,
                            .scale = 1.0f, .out_scale = 0.01f, .sigma0 = 0.5f };
}

/* ---- the tensors ---- */

struct adder {
    struct net *net;
    const char *prefix;
    int error;
};

static void add(struct adder *a, const char *layer, const char *what, const int shape[2],
                const struct param_tensor *start) {
    char name[PARAM_NAME_BYTES];
    int r;

    if (a->error)
        return;
    r = snprintf(name, sizeof name, "%s/%s/%s", a->prefix, layer, what);
    if (r < 0 || r >= (int)sizeof name)
        r = -SKATE_EINVAL;
    else
        r = params_add(a->net->p, name, shape[0], shape[1], start->init, start->scale);
    if (r < 0)
        a->error = r;
    else
        a->net->count++;
}

static void add_bias(struct adder *a, const char *layer, int in, int out) {
    struct param_tensor start = { .init = PARAM_ZERO };

    if (a->net->opts.torch_bias || a->net->opts.noisy) {    /* a bias has one row: scale it */
        start.init = PARAM_FAN_IN;
        start.scale = (float)(1.0 / sqrt((double)in));
    }
    add(a, layer, "bias", (const int[]){ 1, out }, &start);
}

/* A dense layer: kernel, bias, and the two of the noise. */
static void add_dense(struct adder *a, const char *layer, int in, int out, bool last) {
    const struct net_opts *o = &a->net->opts;
    struct param_tensor kernel = { .init = last ? o->out_init : o->init,
                                   .scale = last ? o->out_scale : o->scale };
    struct param_tensor sigma = { .init = PARAM_CONST,
                                  .scale = (float)((double)o->sigma0 / sqrt((double)in)) };

    if (o->noisy)
        kernel = (struct param_tensor){ .init = PARAM_FAN_IN, .scale = 1.0f };
    add(a, layer, "kernel", (const int[]){ in, out }, &kernel);
    add_bias(a, layer, in, out);
    if (o->noisy) {
        add(a, layer, "sigma_kernel", (const int[]){ in, out }, &sigma);
        add(a, layer, "sigma_bias", (const int[]){ 1, out }, &sigma);
    }
}

/* Zeros on each side so that ceil(size / stride) columns come out. */
static int same_pad(int size, int kernel, int stride) {
    int missing = stride > 0 ? ((size + stride - 1) / stride - 1) * stride + kernel - size : 0;

    return missing > 0 ? (missing + 1) / 2 : 0;
}

/* Convolution l of the net on an image of the given shape; `image` becomes that of the result. */
static int conv_of(const struct net_opts *o, int l, int image[3], struct tape_conv *ret) {
    int r;

    *ret = (struct tape_conv){ .height = image[0], .width = image[1], .channels = image[2],
                               .filters = o->convs[l][0], .kernel = o->convs[l][1],
                               .stride = o->convs[l][2], .act = o->conv_act };
    if (o->conv_same && l < o->n_convs - 1)
        ret->pad = same_pad(image[0], ret->kernel, ret->stride);
    image[2] = ret->filters;
    r = tape_conv_out(ret, &image[0], &image[1]);
    return r < 0 ? r : 0;
}

/* Adds the convolutions; how many columns they give, or < 0. */
static int add_convs(struct adder *a) {
    const struct net_opts *o = &a->net->opts;
    int image[3] = { o->image[0], o->image[1], o->image[2] };

    for (int l = 0; l < o->n_convs; l++) {
        struct param_tensor start = { .init = o->init, .scale = o->scale };
        struct tape_conv c;
        char layer[16];
        int r = conv_of(o, l, image, &c), in;

        if (r < 0)
            return r;
        in = c.kernel * c.kernel * c.channels;
        snprintf(layer, sizeof layer, "conv%d", l);
        add(a, layer, "kernel", (const int[]){ in, c.filters }, &start);
        start = (struct param_tensor){ .init = o->torch_bias ? PARAM_FAN_IN : PARAM_ZERO,
                                       .scale = (float)(1.0 / sqrt((double)in)) };
        add(a, layer, "bias", (const int[]){ 1, c.filters }, &start);
    }
    return image[0] * image[1] * image[2];
}

static void add_cell(struct adder *a, int in) {
    const struct net_opts *o = &a->net->opts;
    int h = o->cell_size;
    /* torch's start: everything uniform in +-1/sqrt(hidden). */
    struct param_tensor kernel = { .init = PARAM_FAN_IN }, bias = { .init = PARAM_ZERO };
    double by = 1.0 / sqrt((double)h);

    if (o->torch_bias)
        bias = (struct param_tensor){ .init = PARAM_FAN_IN, .scale = (float)by };
    if (o->cell == CELL_LSTM) {
        kernel.scale = (float)(by * sqrt((double)(in + h)));
        add(a, "lstm", "kernel", (const int[]){ in + h, 4 * h }, &kernel);
        add(a, "lstm", "bias", (const int[]){ 1, 4 * h }, &bias);
        return;
    }
    kernel.scale = (float)(by * sqrt((double)in));
    add(a, "gru", "kernel", (const int[]){ in, 3 * h }, &kernel);
    kernel.scale = 1.0f;
    add(a, "gru", "recurrent_kernel", (const int[]){ h, 3 * h }, &kernel);
    add(a, "gru", "bias", (const int[]){ 1, 3 * h }, &bias);
    add(a, "gru", "recurrent_bias", (const int[]){ 1, 3 * h }, &bias);
}

static bool opts_ok(const struct net_opts *o) {
    bool image = o->image[0] > 0;

    if (o->in < 0 || o->in > DIM_MAX || (o->in == 0 && !image) || o->out < 0 || o->out > DIM_MAX)
        return false;
    if (o->n_convs < 0 || o->n_convs > NET_LAYERS_MAX || (o->n_convs > 0 && !image))
        return false;
    for (int i = 0; image && i < 3; i++)
        if (o->image[i] < 1 || o->image[i] > 4096)
            return false;
    if (image && (double)o->image[0] * o->image[1] * o->image[2] > DIM_MAX)
        return false;
    if (o->n_hiddens < 0 || o->n_hiddens > NET_LAYERS_MAX)
        return false;
    for (int l = 0; l < o->n_hiddens; l++)
        if (o->hiddens[l] < 1 || o->hiddens[l] > DIM_MAX)
            return false;
    if ((int)o->cell < CELL_NONE || o->cell > CELL_GRU)
        return false;
    return o->cell == CELL_NONE || (o->cell_size >= 1 && o->cell_size <= 1 << 16);
}

int net_add(struct net *net, struct params *p, const char *prefix, const struct net_opts *opts) {
    struct adder a = { .net = net, .prefix = prefix };
    struct param_tensor one = { .init = PARAM_CONST, .scale = 1.0f }, zero = { .scale = 0.0f };
    int width;

    SKATE_ASSERT(net);
    SKATE_ASSERT(p);
    *net = (struct net){ .opts = *opts, .p = p, .first = p->n_tensors };
    if (!opts_ok(opts))
        return -SKATE_EINVAL;
    width = opts->image[0] > 0 ? add_convs(&a) : 0;
    if (width < 0)
        return width;
    width += opts->in;
    for (int l = 0; l < opts->n_hiddens; l++) {
        char layer[16];

        snprintf(layer, sizeof layer, "%d", l);
        add_dense(&a, layer, width, opts->hiddens[l], false);
        width = opts->hiddens[l];
        if (opts->layer_norm) {
            add(&a, layer, "gain", (const int[]){ 1, width }, &one);
            add(&a, layer, "shift", (const int[]){ 1, width }, &zero);
        }
    }
    if (opts->cell != CELL_NONE) {
        add_cell(&a, width);
        width = opts->cell_size;
    }
    if (opts->out > 0)
        add_dense(&a, "out", width, opts->out, true);
    return a.error;
}

int net_width(const struct net_opts *o) {
    int image[3] = { o->image[0], o->image[1], o->image[2] };

    if (o->out > 0 || o->cell != CELL_NONE)
        return o->out > 0 ? o->out : o->cell_size;
    if (o->n_hiddens > 0)
        return o->hiddens[o->n_hiddens - 1];
    for (int l = 0; l < o->n_convs; l++) {
        struct tape_conv c;
        int r = conv_of(o, l, image, &c);

        if (r < 0)
            return r;
    }
    return image[0] * image[1] * image[2] + o->in;
}

int net_state_size(const struct net *net) {
    if (net->opts.cell == CELL_NONE)
        return 0;
    return net->opts.cell == CELL_LSTM ? 2 * net->opts.cell_size : net->opts.cell_size;
}

/* ---- the forward pass ---- */

struct walker {
    struct tape *t;
    const struct net_opts *opts;
    struct params *p;           /* gradients flow here; NULL: use `frozen` */
    const struct params *frozen;
    int next;                   /* tensor */
    struct rl_rng *noise;
};

static tvar take(struct walker *w) {
    int tensor = w->next++;

    return w->p ? t_param(w->t, w->p, tensor) : t_frozen(w->t, w->frozen, tensor);
}

/* f(x) = sign(x) sqrt(|x|) of standard normals, as a row. */
static tvar noise_row(struct walker *w, int n) {
    tvar v = t_fill(w->t, 0.0f, 1, n);
    float *x = (float *)(uintptr_t)tape_value(w->t, v);     /* a node of our own, just made */

    for (int i = 0; x && i < n; i++) {
        double z = rl_rng_normal(w->noise);

        x[i] = (float)(z < 0.0 ? -sqrt(-z) : sqrt(z));
    }
    return v;
}

/* With noise: x (m + s o fi' fo) + bm + bs o fo = (x m + bm) + fo o ((x o fi) s + bs), so that the
 * noise never becomes a matrix. */
static tvar dense(struct walker *w, tvar x, enum tape_act act) {
    tvar kernel = take(w), bias = take(w), sigma, sigma_bias, fi, fo, y;
    struct tape *t = w->t;

    if (!w->opts->noisy)
        return t_dense(t, x, kernel, bias, act);
    sigma = take(w);
    sigma_bias = take(w);
    if (!w->noise)
        return t_dense(t, x, kernel, bias, act);
    fi = noise_row(w, tape_rows(t, kernel));
    fo = noise_row(w, tape_cols(t, kernel));
    y = t_dense(t, t_mul(t, x, fi), sigma, sigma_bias, ACT_LINEAR);
    y = t_add(t, t_dense(t, x, kernel, bias, ACT_LINEAR), t_mul(t, y, fo));
    return t_act(t, y, act);
}

static tvar apply_convs(struct walker *w, tvar x) {
    const struct net_opts *o = w->opts;
    int image[3] = { o->image[0], o->image[1], o->image[2] };
    int pixels = image[0] * image[1] * image[2];
    tvar y = o->in > 0 ? t_cols(w->t, x, 0, pixels) : x;

    for (int l = 0; l < o->n_convs; l++) {
        struct tape_conv c;
        tvar kernel = take(w), bias = take(w);

        if (conv_of(o, l, image, &c) < 0)
            return TAPE_BAD;
        y = t_conv(w->t, y, kernel, bias, &c);
    }
    return o->in > 0 ? t_concat(w->t, y, t_cols(w->t, x, pixels, o->in)) : y;
}

static tvar apply_cell(struct walker *w, tvar x, tvar *state) {
    int size = w->opts->cell_size * (w->opts->cell == CELL_LSTM ? 2 : 1);
    tvar old = state ? *state : t_fill(w->t, 0.0f, tape_rows(w->t, x), size), next;
    tvar kernel = take(w), other = take(w);

    if (w->opts->cell == CELL_LSTM) {
        next = t_lstm(w->t, x, old, kernel, other);
    } else {
        tvar bias = take(w), hidden_bias = take(w);

        next = t_gru(w->t, x, old, kernel, other, bias, hidden_bias);
    }
    if (state)
        *state = next;
    return w->opts->cell == CELL_LSTM ? t_cols(w->t, next, 0, w->opts->cell_size) : next;
}

static tvar walk(struct walker *w, tvar x, tvar *state) {
    const struct net_opts *o = w->opts;

    if (o->image[0] > 0)
        x = apply_convs(w, x);
    for (int l = 0; l < o->n_hiddens; l++) {
        x = dense(w, x, o->layer_norm ? ACT_LINEAR : o->act);
        if (o->layer_norm) {
            tvar gain = take(w), shift = take(w);

            x = t_act(w->t, t_layer_norm(w->t, x, gain, shift), o->act);
        }
    }
    if (o->cell != CELL_NONE)
        x = apply_cell(w, x, state);
    return o->out > 0 ? dense(w, x, ACT_LINEAR) : x;
}

tvar net_apply(struct tape *t, const struct net *net, tvar x, tvar *state, bool frozen,
               struct rl_rng *noise) {
    struct walker w = { .t = t, .opts = &net->opts, .p = frozen ? NULL : net->p,
                        .frozen = net->p, .next = net->first, .noise = noise };

    return walk(&w, x, state);
}

tvar net_apply_with(struct tape *t, const struct net *net, const struct params *p, tvar x,
                    tvar *state, struct rl_rng *noise) {
    struct walker w = { .t = t, .opts = &net->opts, .frozen = p, .next = net->first,
                        .noise = noise };

    return walk(&w, x, state);
}
