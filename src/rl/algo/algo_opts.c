/* algo_opts.c - see algo.h: options, columns and statistics by name, nets by RLlib's model keys.
 * Pure look-ups; never blocks. Tests: tests/unit/rl_algo_test.c. */
#include <math.h>
#include <string.h>

#include "rl/algo/algo.h"

static struct algo_option *find(const struct algo_setup *s, const char *key) {
    for (int i = 0; i < s->n_options; i++)
        if (strcmp(s->options[i].key, key) == 0)
            return &s->options[i];
    return NULL;
}

double algo_num(const struct algo_setup *s, const char *key, double missing) {
    struct algo_option *o = find(s, key);

    if (!o || o->text || o->is_list || o->n != 1)
        return missing;
    o->used = true;
    return o->list[0];
}

bool algo_flag(const struct algo_setup *s, const char *key, bool missing) {
    return algo_num(s, key, missing ? 1.0 : 0.0) != 0.0;
}

const char *algo_text(const struct algo_setup *s, const char *key, const char *missing) {
    struct algo_option *o = find(s, key);

    if (!o || !o->text)
        return missing;
    o->used = true;
    return o->text;
}

int algo_ints(const struct algo_setup *s, const char *key, int *ret, int max) {
    struct algo_option *o = find(s, key);

    if (!o || o->text || !o->is_list || o->n > max)
        return -1;
    for (int i = 0; i < o->n; i++) {
        double x = o->list[i];

        if (!(x >= -2147483648.0 && x <= 2147483647.0) || x != floor(x))
            return -1;
        ret[i] = (int)x;
    }
    o->used = true;
    return o->n;
}

static int activation(const struct algo_setup *s, const char *key, enum tape_act *ret,
                      struct skate_error *err) {
    static const struct {
        const char *name;
        enum tape_act act;
    } table[] = { { "tanh", ACT_TANH },       { "relu", ACT_RELU },
                  { "linear", ACT_LINEAR },   { "sigmoid", ACT_SIGMOID },
                  { "elu", ACT_ELU },         { "swish", ACT_SWISH },
                  { "silu", ACT_SWISH },      { "softplus", ACT_SOFTPLUS },
                  { "leaky_relu", ACT_LEAKY_RELU }, { "gelu", ACT_GELU } };
    const char *name = algo_text(s, key, NULL);

    if (!name)
        return 0;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(name, table[i].name) == 0) {
            *ret = table[i].act;
            return 0;
        }
    return err_fail(err, -SKATE_EINVAL, "%s '%s' is not known; there are tanh, relu, linear, "
                    "sigmoid, elu, swish, softplus, leaky_relu and gelu", key, name);
}

/* The convolutions that RLlib takes for an image of this size. */
static bool default_convs(struct net_opts *o) {
    static const struct {
        int side, n, convs[4][3];
    } table[] = {
        { 84, 3, { { 16, 8, 4 }, { 32, 4, 2 }, { 256, 11, 1 } } },
        { 64, 4, { { 32, 4, 2 }, { 64, 4, 2 }, { 128, 4, 2 }, { 256, 4, 2 } } },
        { 42, 3, { { 16, 4, 2 }, { 32, 4, 2 }, { 256, 11, 1 } } },
        { 10, 2, { { 16, 5, 2 }, { 32, 5, 2 } } },
    };

    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (o->image[0] == table[i].side && o->image[1] == table[i].side) {
            o->n_convs = table[i].n;
            memcpy(o->convs, table[i].convs, sizeof table[i].convs);
            return true;
        }
    return false;
}

static int image_opts(const struct algo_setup *s, struct net_opts *o, struct skate_error *err) {
    int flat[NET_LAYERS_MAX * 3], n = algo_ints(s, "conv_filters", flat, NET_LAYERS_MAX * 3);

    memcpy(o->image, s->obs.image, sizeof o->image);
    o->in = 0;
    o->conv_act = ACT_RELU;
    o->conv_same = true;        /* as RLlib's VisionNetwork */
    if (n > 0 && n % 3 != 0)
        return err_fail(err, -SKATE_EINVAL, "conv_filters are filters, kernel and stride of each "
                        "layer in one list; these are %d numbers", n);
    for (int i = 0; i < n / 3; i++)
        memcpy(o->convs[i], flat + i * 3, sizeof o->convs[i]);
    o->n_convs = n > 0 ? n / 3 : 0;
    if (n <= 0 && !default_convs(o))
        return err_fail(err, -SKATE_EINVAL, "conv_filters must be given for images of %d x %d",
                        o->image[0], o->image[1]);
    return activation(s, "conv_activation", &o->conv_act, err);
}

int algo_net_opts(const struct algo_setup *s, int out, struct net_opts *o,
                  struct skate_error *err) {
    bool image = s->obs.kind == ALGO_BOX && s->obs.image[0] > 0;
    int n, hiddens[NET_LAYERS_MAX], r = 0;
    enum tape_act post;

    net_opts_default(o);
    o->in = s->obs.size;
    o->out = out;
    if (image) {
        r = image_opts(s, o, err);
        o->n_hiddens = 0;       /* RLlib: post_fcnet_hiddens, [] by default */
    }
    n = algo_ints(s, "fcnet_hiddens", hiddens, NET_LAYERS_MAX);
    if (!image && n >= 0) {
        o->n_hiddens = n;
        memcpy(o->hiddens, hiddens, sizeof hiddens);
    }
    if (r == 0)
        r = activation(s, "fcnet_activation", &o->act, err);
    post = o->act;
    if (r == 0)
        r = activation(s, "post_fcnet_activation", &post, err);
    if (image)
        o->act = post;          /* the only dense layers there are */
    n = algo_ints(s, "post_fcnet_hiddens", hiddens, NET_LAYERS_MAX);
    if (r == 0 && n > 0 && o->n_hiddens > 0 && post != o->act)
        return err_fail(err, -SKATE_EINVAL, "post_fcnet_activation must be fcnet_activation");
    for (int i = 0; i < n && r == 0; i++) {
        if (o->n_hiddens == NET_LAYERS_MAX)
            return err_fail(err, -SKATE_EINVAL, "at most %d hidden layers", NET_LAYERS_MAX);
        o->hiddens[o->n_hiddens++] = hiddens[i];
    }
    for (int i = 0; i < o->n_hiddens && r == 0; i++)
        if (o->hiddens[i] < 1 || o->hiddens[i] > 65536)
            r = err_fail(err, -SKATE_EINVAL, "fcnet_hiddens: a width of %d is out of 1..65536",
                         o->hiddens[i]);
    return r;
}

int algo_n_inputs(const struct algo_space *action) {
    int n = 0;

    if (action->kind == ALGO_DISCRETE)
        return action->size;
    if (action->kind == ALGO_BOX)
        return 2 * action->size;
    for (int i = 0; i < action->size; i++)
        n += action->sizes[i];
    return n;
}

const struct algo_col *algo_col(const struct algo_batch *b, const char *name) {
    for (int i = 0; i < b->n_cols; i++)
        if (strcmp(b->cols[i].name, name) == 0)
            return &b->cols[i];
    return NULL;
}

static const void *column(const struct algo_batch *b, const char *name, int width,
                          enum algo_dtype dtype, struct skate_error *err) {
    static const char *const types[] = { "float32", "int32", "uint8" };
    const struct algo_col *c = algo_col(b, name);

    if (!c)
        err_fail(err, -SKATE_EINVAL, "the batch has no '%s'", name);
    else if (c->dtype != dtype)
        err_fail(err, -SKATE_EINVAL, "'%s' must be %s, it is %s", name, types[dtype],
                 types[c->dtype]);
    else if (c->rows != b->rows || c->width != width)
        err_fail(err, -SKATE_EINVAL, "'%s' must be %d x %d, it is %d x %d", name, b->rows, width,
                 c->rows, c->width);
    else
        return c->p;
    return NULL;
}

const float *algo_f32(const struct algo_batch *b, const char *name, int width,
                      struct skate_error *err) {
    return column(b, name, width, ALGO_F32, err);
}

const int32_t *algo_i32(const struct algo_batch *b, const char *name, int width,
                        struct skate_error *err) {
    return column(b, name, width, ALGO_I32, err);
}

void algo_stat(struct algo_stats *st, const char *name, double value) {
    if (st->n == ALGO_STATS_MAX)
        return;
    st->names[st->n] = name;
    st->values[st->n++] = value;
}
