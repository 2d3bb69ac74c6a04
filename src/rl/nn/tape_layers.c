/* tape_layers.c - whole layers as one operation each: convolution, layer norm, LSTM, GRU.
 *
 * A convolution unfolds a few images at a time into rows of patches (so that they stay in the
 * cache) and multiplies; its way back unfolds again instead of keeping them. The recurrent cells
 * keep their gates. One owner; never blocks. Tests: tests/unit/rl_tape_layers_test.c. */
#include <math.h>

#include "rl/nn/tape_int.h"

/* ---- convolution ---- */

enum { PATCH_FLOATS = 1 << 15, CONV_SIDE_MAX = 1 << 14 };

struct conv_size {              /* of one image */
    int out_h, out_w, patch;    /* patch: numbers in one row of patches */
    size_t in, out, patches;    /* numbers: image, result, all its patches */
};

static bool conv_size(const struct tape_conv *c, struct conv_size *s) {
    const int sides[] = { c->height, c->width, c->channels, c->filters, c->kernel, c->stride };

    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++)
        if (sides[i] < 1 || sides[i] > CONV_SIDE_MAX)
            return false;
    if (c->pad < 0 || c->pad >= c->kernel)
        return false;
    if (c->height + 2 * c->pad < c->kernel || c->width + 2 * c->pad < c->kernel)
        return false;
    s->out_h = (c->height + 2 * c->pad - c->kernel) / c->stride + 1;
    s->out_w = (c->width + 2 * c->pad - c->kernel) / c->stride + 1;
    s->in = (size_t)c->height * (size_t)c->width * (size_t)c->channels;
    s->out = (size_t)s->out_h * (size_t)s->out_w * (size_t)c->filters;
    if (s->in > INT32_MAX || s->out > INT32_MAX ||
        (size_t)c->kernel * (size_t)c->kernel * (size_t)c->channels > INT32_MAX / 4)
        return false;
    s->patch = c->kernel * c->kernel * c->channels;
    s->patches = (size_t)s->out_h * (size_t)s->out_w * (size_t)s->patch;
    return s->patches <= (size_t)1 << 30;
}

int tape_conv_out(const struct tape_conv *c, int *out_h, int *out_w) {
    struct conv_size s;

    if (!conv_size(c, &s))
        return -SKATE_EINVAL;
    if (out_h)
        *out_h = s.out_h;
    if (out_w)
        *out_w = s.out_w;
    return (int)s.out;
}

static int images_at_once(const struct conv_size *s, int n) {
    size_t most = PATCH_FLOATS / s->patches;

    most = most < 1 ? 1 : most;
    return most < (size_t)n ? (int)most : n;
}

/* The columns of the image that kernel column 0..kernel-1 of a patch meets: from *first on, how
 * many. Outside is padding. */
static int inside(const struct tape_conv *c, int x0, int *first) {
    int from = x0 < 0 ? -x0 : 0, to = c->kernel;

    to = x0 + to > c->width ? c->width - x0 : to;
    *first = from;
    return to > from ? to - from : 0;
}

static void unfold(const struct tape_conv *c, const struct conv_size *s, const float *image,
                   float *out) {
    size_t channels = (size_t)c->channels, line = (size_t)c->kernel * channels;

    for (int oy = 0; oy < s->out_h; oy++)
        for (int ox = 0; ox < s->out_w; ox++) {
            int x0 = ox * c->stride - c->pad, first, n = inside(c, x0, &first);

            for (int ky = 0; ky < c->kernel; ky++, out += line) {
                int y = oy * c->stride - c->pad + ky;

                if (y < 0 || y >= c->height || n < c->kernel)
                    memset(out, 0, line * sizeof(float));
                if (y >= 0 && y < c->height && n > 0)
                    memcpy(out + (size_t)first * channels,
                           image + ((size_t)y * (size_t)c->width + (size_t)(x0 + first)) *
                                       channels,
                           (size_t)n * channels * sizeof(float));
            }
        }
}

/* The other way round: adds patches to the image they came from. */
static void fold(const struct tape_conv *c, const struct conv_size *s, const float *in,
                 float *image) {
    size_t channels = (size_t)c->channels, line = (size_t)c->kernel * channels;

    for (int oy = 0; oy < s->out_h; oy++)
        for (int ox = 0; ox < s->out_w; ox++) {
            int x0 = ox * c->stride - c->pad, first, n = inside(c, x0, &first);

            for (int ky = 0; ky < c->kernel; ky++, in += line) {
                int y = oy * c->stride - c->pad + ky;
                const float *restrict from = in + (size_t)first * channels;
                float *restrict to;

                if (y < 0 || y >= c->height || n < 1)
                    continue;
                to = image + ((size_t)y * (size_t)c->width + (size_t)(x0 + first)) * channels;
                for (size_t i = 0; i < (size_t)n * channels; i++)
                    to[i] += from[i];
            }
        }
}

/* The product of `count` images' patches (rows of out_h * out_w each) with the filters. */
static struct tape_mm conv_mm(const struct tape_conv *c, const struct conv_size *s, int count) {
    return (struct tape_mm){ .n = s->out_h * s->out_w * count, .k = s->patch, .m = c->filters,
                             .ldx = s->patch, .ldy = c->filters };
}

struct conv_grads {             /* NULL: not wanted */
    float *x, *w;
    const float *turned;
    bool w_fresh;
};

/* Images `from`..`from + count - 1` of a convolution's way back; dy is of all images. */
static void conv_back_some(struct tape *t, struct tape_node *n, struct conv_grads *g,
                           const float *dy, const int range[2]) {
    const struct tape_conv *c = n->aux;
    const float *x = t->nodes[n->in[0]].value;
    struct conv_size s;
    struct tape_mm mm;
    int from = range[0], count = range[1];
    float *patches;

    if (!conv_size(c, &s))
        return;
    mm = conv_mm(c, &s, count);
    patches = tape_scratch(t, 1, s.patches * (size_t)count);
    if (!patches)
        return;
    dy += (size_t)from * s.out;
    if (g->w) {
        for (int i = 0; i < count; i++)
            unfold(c, &s, x + (size_t)(from + i) * s.in, patches + (size_t)i * s.patches);
        mm.add = !g->w_fresh;
        g->w_fresh = false;
        if (tape_mm_dw(t, &mm, patches, dy, g->w) < 0)
            return;
    }
    mm.add = false;
    if (g->x && tape_mm_dx(t, &mm, g->turned, dy, patches) == 0)
        for (int i = 0; i < count; i++)
            fold(c, &s, patches + (size_t)i * s.patches, g->x + (size_t)(from + i) * s.in);
}

static void conv_back(struct tape *t, struct tape_node *n) {
    const struct tape_conv *c = n->aux;
    struct conv_grads g = { .w_fresh = false };
    struct conv_size s;
    const float *dy = n->grad;
    size_t pixels;
    float *gb;
    int step;

    if (!conv_size(c, &s))
        return;
    if (c->act != ACT_LINEAR) {
        float *d = tape_scratch(t, 0, tape_size(n));

        if (!d)
            return;
        memcpy(d, n->grad, tape_size(n) * sizeof(float));
        tape_act_back(t, d, n->value, tape_size(n), c->act);
        dy = d;
    }
    pixels = tape_size(n) / (size_t)c->filters;
    gb = tape_grad_in(t, n, 2);
    if (gb) {
        float *sum = tape_scratch(t, 1, (size_t)c->filters);

        if (!sum)
            return;
        t->kern->col_sum(sum, dy, (int)pixels, c->filters);
        for (int f = 0; f < c->filters; f++)
            gb[f] += sum[f];
    }
    g.w = tape_grad_raw(t, n, 1, &g.w_fresh);
    g.x = tape_grad_in(t, n, 0);
    if (g.x)
        g.turned = tape_turned(t, n, 1);
    step = images_at_once(&s, n->rows);
    for (int i = 0; i < n->rows && !t->error; i += step)
        conv_back_some(t, n, &g, dy, (const int[]){ i, n->rows - i < step ? n->rows - i : step });
}

static const struct tape_op op_conv = { .name = "conv", .back = conv_back };

static int conv_forward(struct tape *t, struct tape_node *n, const struct conv_size *s) {
    const struct tape_conv *c = n->aux;
    const float *x = t->nodes[n->in[0]].value, *w = t->nodes[n->in[1]].value;
    int step = images_at_once(s, n->rows);
    float *patches = tape_scratch(t, 1, s->patches * (size_t)step);

    if (!patches)
        return -1;
    for (int at = 0; at < n->rows; at += step) {
        int count = n->rows - at < step ? n->rows - at : step;
        struct tape_mm mm = conv_mm(c, s, count);

        for (int i = 0; i < count; i++)
            unfold(c, s, x + (size_t)(at + i) * s->in, patches + (size_t)i * s->patches);
        if (tape_mm(t, &mm, patches, w, n->value + (size_t)at * s->out) < 0)
            return -1;
    }
    tape_act_rows(t, n->value, t->nodes[n->in[2]].value,
                  (int)(tape_size(n) / (size_t)c->filters), c->filters, c->act);
    return 0;
}

tvar t_conv(struct tape *t, tvar x, tvar w, tvar b, const struct tape_conv *c) {
    const struct tape_node *nx = tape_arg(t, &op_conv, x), *nw = tape_arg(t, &op_conv, w);
    const struct tape_node *nb = tape_arg(t, &op_conv, b);
    struct tape_conv linear = *c, *copy;
    struct conv_size s;
    struct tape_node *n;

    if (!nx || !nw || !nb)
        return TAPE_BAD;
    if (!conv_size(c, &s) || (size_t)nx->cols != s.in || nw->rows != s.patch ||
        nw->cols != c->filters || nb->rows != 1 || nb->cols != c->filters)
        return tape_fail(t, -SKATE_EINVAL, "conv: images of %d x %d x %d in %d x %d, %d filters "
                         "of %d (stride %d, pad %d) in %d x %d plus %d x %d", c->height,
                         c->width, c->channels, nx->rows, nx->cols, c->filters, c->kernel,
                         c->stride, c->pad, nw->rows, nw->cols, nb->rows, nb->cols);
    if (!tape_act_by_value(c->act)) {
        linear.act = ACT_LINEAR;
        return t_act(t, t_conv(t, x, w, b, &linear), c->act);
    }
    n = tape_push(t, &op_conv, nx->rows, (int)s.out);
    if (!n)
        return TAPE_BAD;
    tape_link(t, n, x);
    tape_link(t, n, w);
    tape_link(t, n, b);
    n->aux = copy = tape_alloc(t, sizeof *copy);
    if (!copy)
        return TAPE_BAD;
    *copy = *c;
    return conv_forward(t, n, &s) < 0 ? TAPE_BAD : tape_index(t, n);
}

/* ---- layer norm ---- */

/* aux: each row's 1 / deviation; the normalised row follows from it and is not kept. */
static void layer_norm_back(struct tape *t, struct tape_node *n) {
    const struct tape_node *x = &t->nodes[n->in[0]];
    const float *gain = t->nodes[n->in[1]].value, *stats = n->aux;
    float *gx = tape_grad_in(t, n, 0), *gg = tape_grad_in(t, n, 1), *gs = tape_grad_in(t, n, 2);
    size_t cols = (size_t)n->cols;

    for (size_t r = 0; r < (size_t)n->rows; r++) {
        const float *g = n->grad + r * cols, *in = x->value + r * cols;
        float mean = stats[2 * r], by = stats[2 * r + 1];
        double sum = 0.0, along = 0.0;
        float a, b;

        for (size_t c = 0; c < cols; c++) {
            float y = (in[c] - mean) * by, d = g[c] * gain[c];

            sum += (double)d;
            along += (double)(d * y);
            if (gg)
                gg[c] += g[c] * y;
            if (gs)
                gs[c] += g[c];
        }
        a = (float)(sum / (double)cols);
        b = (float)(along / (double)cols);
        for (size_t c = 0; c < cols && gx; c++)
            gx[r * cols + c] += by * (g[c] * gain[c] - a - (in[c] - mean) * by * b);
    }
}

static const struct tape_op op_layer_norm = { .name = "layer_norm", .back = layer_norm_back };

tvar t_layer_norm(struct tape *t, tvar x, tvar gain, tvar shift) {
    const struct tape_node *nx = tape_arg(t, &op_layer_norm, x);
    const struct tape_node *ng = tape_arg(t, &op_layer_norm, gain);
    const struct tape_node *ns = tape_arg(t, &op_layer_norm, shift);
    struct tape_node *n;
    float *stats;
    size_t cols;

    if (!nx || !ng || !ns)
        return TAPE_BAD;
    if (ng->rows != 1 || ns->rows != 1 || ng->cols != nx->cols || ns->cols != nx->cols)
        return tape_fail(t, -SKATE_EINVAL, "layer_norm: %d x %d with %d x %d and %d x %d",
                         nx->rows, nx->cols, ng->rows, ng->cols, ns->rows, ns->cols);
    n = tape_push(t, &op_layer_norm, nx->rows, nx->cols);
    if (!n)
        return TAPE_BAD;
    tape_link(t, n, x);
    tape_link(t, n, gain);
    tape_link(t, n, shift);
    n->aux = stats = tape_alloc(t, 2 * (size_t)n->rows * sizeof *stats);
    if (!stats)
        return TAPE_BAD;
    cols = (size_t)n->cols;
    for (size_t r = 0; r < (size_t)n->rows; r++) {
        const float *in = t->nodes[x].value + r * cols, *g = t->nodes[gain].value;
        const float *s = t->nodes[shift].value;
        double sum = 0.0, square = 0.0;
        float mean, by;

        for (size_t c = 0; c < cols; c++)
            sum += (double)in[c];
        mean = (float)(sum / (double)cols);
        for (size_t c = 0; c < cols; c++)
            square += (double)(in[c] - mean) * (double)(in[c] - mean);
        by = (float)(1.0 / sqrt(square / (double)cols + 1e-5));
        stats[2 * r] = mean;
        stats[2 * r + 1] = by;
        for (size_t c = 0; c < cols; c++)
            n->value[r * cols + c] = (in[c] - mean) * by * g[c] + s[c];
    }
    return tape_index(t, n);
}

/* ---- recurrent cells ---- */

static void tanhs(const struct tape *t, float *x, int n) {
    static const float zeros[64];

    for (int at = 0; at < n; at += 64)
        t->kern->bias_act(x + at, zeros, 1, n - at < 64 ? n - at : 64, KERN_TANH);
}

/* The sums over rows of d [n,cols], added to operand k's gradient (a bias). */
static void bias_back(struct tape *t, struct tape_node *n, int k, const float *d, int cols) {
    float *g = tape_grad_in(t, n, k), *sum;

    if (!g)
        return;
    sum = tape_scratch(t, 1, (size_t)cols);
    if (!sum)
        return;
    t->kern->col_sum(sum, d, n->rows, cols);
    for (int c = 0; c < cols; c++)
        g[c] += sum[c];
}

/* aux: the gates i f g o after their activations, and tanh of the new c: 5 * hidden a row. */
static void lstm_gates_back(const struct tape *t, const struct tape_node *n, float *d,
                            float *dc_in) {
    size_t h = (size_t)n->cols / 2;
    const float *state = t->nodes[n->in[1]].value, *kept = n->aux;

    for (size_t r = 0; r < (size_t)n->rows; r++) {
        const float *gi = kept + r * 5 * h, *gf = gi + h, *gg = gf + h, *go = gg + h;
        const float *tc = go + h, *c = state + r * 2 * h + h;
        const float *dh = n->grad + r * 2 * h, *dc_out = dh + h;
        float *restrict di = d + r * 4 * h, *restrict back = dc_in + r * h;

        for (size_t k = 0; k < h; k++) {
            float dc = dc_out[k] + dh[k] * go[k] * (1.0f - tc[k] * tc[k]);

            di[k] = dc * gg[k] * gi[k] * (1.0f - gi[k]);
            di[h + k] = dc * c[k] * gf[k] * (1.0f - gf[k]);
            di[2 * h + k] = dc * gi[k] * (1.0f - gg[k] * gg[k]);
            di[3 * h + k] = dh[k] * tc[k] * go[k] * (1.0f - go[k]);
            back[k] = dc * gf[k];
        }
    }
}

static void lstm_back(struct tape *t, struct tape_node *n) {
    const struct tape_node *x = &t->nodes[n->in[0]], *state = &t->nodes[n->in[1]];
    int h = n->cols / 2, in = x->cols;
    size_t size = (size_t)n->rows * (size_t)h;
    struct tape_mm mm = { .n = n->rows, .k = in, .m = 4 * h, .ldx = in, .ldy = 4 * h };
    float *d = tape_scratch(t, 0, 5 * size), *dc = d + 4 * size, *g;
    const float *turned;
    bool fresh;

    if (!d)
        return;
    lstm_gates_back(t, n, d, dc);
    bias_back(t, n, 3, d, 4 * h);
    g = tape_grad_raw(t, n, 2, &fresh);
    if (g) {
        mm.add = !fresh;
        if (tape_mm_dw(t, &mm, x->value, d, g) < 0)
            return;
        mm.k = h;
        mm.ldx = 2 * h;
        if (tape_mm_dw(t, &mm, state->value, d, g + (size_t)in * 4 * (size_t)h) < 0)
            return;
    }
    if (!x->needs && !state->needs)
        return;
    /* w' has one stride for both parts, that of all its rows: in + hidden. */
    turned = tape_turned(t, n, 2);
    if (!turned)
        return;
    mm = (struct tape_mm){ .n = n->rows, .k = in, .m = 4 * h, .ldx = in, .ldy = 4 * h,
                           .ldw = tape_turned_stride(in + h) };
    g = tape_grad_raw(t, n, 0, &fresh);
    mm.add = !fresh;
    if (g && tape_mm_dx(t, &mm, turned, d, g) < 0)
        return;
    g = tape_grad_in(t, n, 1);
    if (!g)
        return;
    mm.k = h;
    mm.ldx = 2 * h;
    mm.add = true;
    if (tape_mm_dx(t, &mm, turned + in, d, g) < 0)
        return;
    for (size_t r = 0; r < (size_t)n->rows; r++)
        for (size_t k = 0; k < (size_t)h; k++)
            g[r * 2 * (size_t)h + (size_t)h + k] += dc[r * (size_t)h + k];
}

static const struct tape_op op_lstm = { .name = "lstm", .back = lstm_back };

static void lstm_cell(struct tape *t, struct tape_node *n, const float *gates, float *kept) {
    size_t h = (size_t)n->cols / 2;
    const float *state = t->nodes[n->in[1]].value;

    for (size_t r = 0; r < (size_t)n->rows; r++) {
        float *gi = kept + r * 5 * h, *tc = gi + 4 * h, *out = n->value + r * 2 * h;
        const float *c = state + r * 2 * h + h;

        memcpy(gi, gates + r * 4 * h, 4 * h * sizeof(float));
        t->kern->sigmoid(gi, 2 * h);
        tanhs(t, gi + 2 * h, (int)h);
        t->kern->sigmoid(gi + 3 * h, h);
        for (size_t k = 0; k < h; k++)
            out[h + k] = tc[k] = gi[h + k] * c[k] + gi[k] * gi[2 * h + k];
        tanhs(t, tc, (int)h);
        for (size_t k = 0; k < h; k++)
            out[k] = gi[3 * h + k] * tc[k];
    }
}

tvar t_lstm(struct tape *t, tvar x, tvar state, tvar w, tvar b) {
    const struct tape_node *nx = tape_arg(t, &op_lstm, x), *ns = tape_arg(t, &op_lstm, state);
    const struct tape_node *nw = tape_arg(t, &op_lstm, w), *nb = tape_arg(t, &op_lstm, b);
    const tvar in[] = { x, state, w, b };
    struct tape_node *n;
    struct tape_mm mm;
    float *gates;
    int h;

    if (!nx || !ns || !nw || !nb)
        return TAPE_BAD;
    h = ns->cols / 2;
    if (ns->rows != nx->rows || ns->cols % 2 != 0 || nw->rows != nx->cols + h ||
        nw->cols != 4 * h || nb->rows != 1 || nb->cols != 4 * h)
        return tape_fail(t, -SKATE_EINVAL, "lstm: %d x %d, state %d x %d, weights %d x %d, "
                         "biases %d x %d", nx->rows, nx->cols, ns->rows, ns->cols, nw->rows,
                         nw->cols, nb->rows, nb->cols);
    n = tape_push(t, &op_lstm, nx->rows, 2 * h);
    if (!n)
        return TAPE_BAD;
    for (int k = 0; k < 4; k++)
        tape_link(t, n, in[k]);
    n->aux = tape_alloc(t, 5 * (size_t)n->rows * (size_t)h * sizeof(float));
    gates = tape_scratch(t, 0, 4 * (size_t)n->rows * (size_t)h);
    if (!n->aux || !gates)
        return TAPE_BAD;
    nx = &t->nodes[x];
    mm = (struct tape_mm){ .n = n->rows, .k = nx->cols, .m = 4 * h, .ldx = nx->cols,
                           .ldy = 4 * h };
    if (tape_mm(t, &mm, nx->value, t->nodes[w].value, gates) < 0)
        return TAPE_BAD;
    mm = (struct tape_mm){ .n = n->rows, .k = h, .m = 4 * h, .ldx = 2 * h, .ldy = 4 * h,
                           .add = true };
    if (tape_mm(t, &mm, t->nodes[state].value,
                t->nodes[w].value + (size_t)nx->cols * 4 * (size_t)h, gates) < 0)
        return TAPE_BAD;
    tape_act_rows(t, gates, t->nodes[b].value, n->rows, 4 * h, ACT_LINEAR);
    lstm_cell(t, n, gates, n->aux);
    return tape_index(t, n);
}

/* aux: r, z, n after their activations and the hidden part of n before: 4 * hidden a row. */
static void gru_gates_back(const struct tape *t, const struct tape_node *n, float *di,
                           float *dh) {
    size_t h = (size_t)n->cols;
    const float *old = t->nodes[n->in[1]].value, *kept = n->aux;

    for (size_t row = 0; row < (size_t)n->rows; row++) {
        const float *r = kept + row * 4 * h, *z = r + h, *c = z + h, *u = c + h;
        const float *g = n->grad + row * h, *was = old + row * h;
        float *restrict a = di + row * 3 * h, *restrict b = dh + row * 3 * h;

        for (size_t k = 0; k < h; k++) {
            float dn = g[k] * (1.0f - z[k]) * (1.0f - c[k] * c[k]);

            a[k] = b[k] = dn * u[k] * r[k] * (1.0f - r[k]);
            a[h + k] = b[h + k] = g[k] * (was[k] - c[k]) * z[k] * (1.0f - z[k]);
            a[2 * h + k] = dn;
            b[2 * h + k] = dn * r[k];
        }
    }
}

/* One of the cell's two products: x w + b_in, or h u + b_hidden; `d` is its gradient. */
static void gru_part_back(struct tape *t, struct tape_node *n, int part, const float *d) {
    const struct tape_node *x = &t->nodes[n->in[part]];
    struct tape_mm mm = { .n = n->rows, .k = x->cols, .m = 3 * n->cols, .ldx = x->cols,
                          .ldy = 3 * n->cols };
    bool fresh;
    float *g = tape_grad_raw(t, n, 2 + part, &fresh);

    mm.add = !fresh;
    if (g && tape_mm_dw(t, &mm, x->value, d, g) < 0)
        return;
    bias_back(t, n, 4 + part, d, 3 * n->cols);
    g = tape_grad_raw(t, n, part, &fresh);
    mm.add = !fresh;
    if (g) {
        const float *turned = tape_turned(t, n, 2 + part);

        if (turned)
            tape_mm_dx(t, &mm, turned, d, g);
    }
}

static void gru_back(struct tape *t, struct tape_node *n) {
    size_t size = tape_size(n), h = (size_t)n->cols;
    float *d = tape_scratch(t, 0, 6 * size), *g;
    const float *kept = n->aux;

    if (!d)
        return;
    gru_gates_back(t, n, d, d + 3 * size);
    gru_part_back(t, n, 0, d);
    gru_part_back(t, n, 1, d + 3 * size);
    g = tape_grad_in(t, n, 1);
    for (size_t r = 0; g && r < (size_t)n->rows; r++)
        for (size_t k = 0; k < h; k++)
            g[r * h + k] += n->grad[r * h + k] * kept[r * 4 * h + h + k];
}

static const struct tape_op op_gru = { .name = "gru", .back = gru_back };

static void gru_cell(struct tape *t, struct tape_node *n, const float *a, const float *b) {
    size_t h = (size_t)n->cols;
    const float *old = t->nodes[n->in[1]].value;

    for (size_t row = 0; row < (size_t)n->rows; row++) {
        float *r = (float *)n->aux + row * 4 * h, *z = r + h, *c = z + h, *u = c + h;
        float *out = n->value + row * h;
        const float *in = a + row * 3 * h, *hidden = b + row * 3 * h;

        for (size_t k = 0; k < 2 * h; k++)
            r[k] = in[k] + hidden[k];
        t->kern->sigmoid(r, 2 * h);
        for (size_t k = 0; k < h; k++) {
            u[k] = hidden[2 * h + k];
            c[k] = in[2 * h + k] + r[k] * u[k];
        }
        tanhs(t, c, (int)h);
        for (size_t k = 0; k < h; k++)
            out[k] = (1.0f - z[k]) * c[k] + z[k] * old[row * h + k];
    }
}

static bool gru_fits(struct tape *t, const struct tape_node *const *o) {
    int h = o[1]->cols;

    if (o[0]->rows == o[1]->rows && o[2]->rows == o[0]->cols && o[2]->cols == 3 * h &&
        o[3]->rows == h && o[3]->cols == 3 * h && o[4]->rows == 1 && o[4]->cols == 3 * h &&
        o[5]->rows == 1 && o[5]->cols == 3 * h)
        return true;
    tape_fail(t, -SKATE_EINVAL, "gru: %d x %d, state %d x %d, weights %d x %d and %d x %d, "
              "biases %d x %d and %d x %d", o[0]->rows, o[0]->cols, o[1]->rows, o[1]->cols,
              o[2]->rows, o[2]->cols, o[3]->rows, o[3]->cols, o[4]->rows, o[4]->cols,
              o[5]->rows, o[5]->cols);
    return false;
}

tvar t_gru(struct tape *t, tvar x, tvar h, tvar w, tvar u, tvar b_in, tvar b_hidden) {
    const tvar in[] = { x, h, w, u, b_in, b_hidden };
    const struct tape_node *o[6];
    struct tape_node *n;
    size_t size;
    float *gates;

    for (int k = 0; k < 6; k++) {
        o[k] = tape_arg(t, &op_gru, in[k]);
        if (!o[k])
            return TAPE_BAD;
    }
    if (!gru_fits(t, o))
        return TAPE_BAD;
    n = tape_push(t, &op_gru, o[0]->rows, o[1]->cols);
    if (!n)
        return TAPE_BAD;
    for (int k = 0; k < 6; k++)
        tape_link(t, n, in[k]);
    size = 3 * tape_size(n);
    n->aux = tape_alloc(t, 4 * tape_size(n) * sizeof(float));
    gates = tape_scratch(t, 0, 2 * size);
    if (!n->aux || !gates)
        return TAPE_BAD;
    for (int k = 0; k < 2; k++) {
        const struct tape_node *from = &t->nodes[in[k]];
        struct tape_mm mm = { .n = n->rows, .k = from->cols, .m = 3 * n->cols,
                              .ldx = from->cols, .ldy = 3 * n->cols };

        if (tape_mm(t, &mm, from->value, t->nodes[in[2 + k]].value, gates + k * size) < 0)
            return TAPE_BAD;
        tape_act_rows(t, gates + k * size, t->nodes[in[4 + k]].value, n->rows, 3 * n->cols,
                      ACT_LINEAR);
    }
    gru_cell(t, n, gates, gates + size);
    return tape_index(t, n);
}
