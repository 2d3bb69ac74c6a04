/* rl_nn_test.c - tensors and their start values, nets by description and their gradients.
 * links: base rl. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rl/nn/nets.h"
#include "rl/nn/optim.h"

static struct rl_rng rng;

static const float *tensor(const struct params *p, int i) {
    return p->value + p->tensors[i].at;
}

/* ---- params ---- */

static void tensors_are_named_and_checked(void **state) {
    struct params *p = params_new();
    char long_name[PARAM_NAME_BYTES + 1];

    (void)state;
    memset(long_name, 'x', sizeof long_name);
    long_name[PARAM_NAME_BYTES] = '\0';
    assert_int_equal(params_add(p, "a", 3, 5, PARAM_ZERO, 0.0f), 0);
    assert_int_equal(params_add(p, "a", 3, 5, PARAM_ZERO, 0.0f), -SKATE_EINVAL);
    assert_int_equal(params_add(p, "", 3, 5, PARAM_ZERO, 0.0f), -SKATE_EINVAL);
    assert_int_equal(params_add(p, long_name, 3, 5, PARAM_ZERO, 0.0f), -SKATE_EINVAL);
    assert_int_equal(params_add(p, "b", 0, 5, PARAM_ZERO, 0.0f), -SKATE_EINVAL);
    assert_int_equal(params_add(p, "b", 1 << 20, 1 << 20, PARAM_ZERO, 0.0f), -SKATE_EINVAL);
    assert_int_equal(params_add(p, "b", 1, 20, PARAM_CONST, 2.0f), 1);
    assert_int_equal(params_seal(p, &rng), 0);
    assert_int_equal(params_seal(p, &rng), -SKATE_EINVAL);
    assert_int_equal(params_add(p, "c", 1, 2, PARAM_ZERO, 0.0f), -SKATE_EINVAL);
    assert_int_equal(p->n, 35);
    assert_int_equal(p->n_padded, 48);
    assert_int_equal((uintptr_t)p->value % 64, 0);
    assert_true(tensor(p, 1)[19] == 2.0f);
    params_free(p);
}

static void flat_form_and_blending(void **state) {
    struct params *p = params_new(), *q = params_new();
    float flat[35], back[35];

    (void)state;
    for (int k = 0; k < 2; k++) {
        struct params *x = k ? q : p;

        assert_int_equal(params_add(x, "a", 3, 5, PARAM_NORMAL, 1.0f), 0);
        assert_int_equal(params_add(x, "b", 1, 20, PARAM_ZERO, 0.0f), 1);
        assert_int_equal(params_seal(x, &rng), 0);
    }
    for (int i = 0; i < 35; i++)
        flat[i] = (float)i;
    params_set(p, flat);
    assert_true(tensor(p, 1)[0] == 15.0f && p->value[15] == 0.0f);
    params_get(p, back);
    assert_memory_equal(flat, back, sizeof flat);
    for (int i = 0; i < 35; i++)
        back[i] = 100.0f;
    params_set(q, back);
    params_blend(q, p, 0.25f);
    assert_true(tensor(q, 1)[4] == 0.25f * 19.0f + 75.0f);
    params_blend(q, p, 1.0f);
    assert_memory_equal(q->value, p->value, p->n_padded * sizeof(float));
    assert_int_equal(params_bad(p), 0);
    p->value[20] = NAN;
    assert_int_equal(params_bad(p), 1);
    p->value[20] = -INFINITY;
    assert_int_equal(params_bad(p), 1);
    params_free(p);
    params_free(q);
}

static double column_dot(const float *w, const int shape[2], int a, int b) {
    double sum = 0.0;

    for (int r = 0; r < shape[0]; r++)
        sum += (double)w[r * shape[1] + a] * (double)w[r * shape[1] + b];
    return sum;
}

static void start_values(void **state) {
    struct params *p = params_new();
    float largest = 0.0f;
    double square = 0.0;

    (void)state;
    assert_int_equal(params_add(p, "normc", 40, 30, PARAM_NORMC, 2.0f), 0);
    assert_int_equal(params_add(p, "ortho", 40, 30, PARAM_ORTHO, 0.5f), 1);
    assert_int_equal(params_add(p, "wide", 3, 8, PARAM_ORTHO, 1.0f), 2);
    assert_int_equal(params_add(p, "fan", 100, 50, PARAM_FAN_IN, 1.0f), 3);
    assert_int_equal(params_add(p, "xavier", 100, 50, PARAM_XAVIER, 1.0f), 4);
    assert_int_equal(params_add(p, "normal", 100, 50, PARAM_NORMAL, 0.1f), 5);
    assert_int_equal(params_seal(p, &rng), 0);
    for (int c = 0; c < 30; c++)
        for (int k = 0; k <= c; k++) {
            int shape[2] = { 40, 30 };

            if (k == c)
                assert_true(fabs(column_dot(tensor(p, 0), shape, c, c) - 4.0) < 1e-4);
            assert_true(fabs(column_dot(tensor(p, 1), shape, c, k) - (k == c) * 0.25) < 1e-5);
        }
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++) {
            double sum = 0.0;

            for (int c = 0; c < 8; c++)
                sum += (double)tensor(p, 2)[a * 8 + c] * (double)tensor(p, 2)[b * 8 + c];
            assert_true(fabs(sum - (a == b)) < 1e-5);
        }
    for (int i = 0; i < 5000; i++) {
        largest = fmaxf(largest, fabsf(tensor(p, 3)[i]));
        assert_true(fabsf(tensor(p, 4)[i]) <= 0.2f);
        square += (double)tensor(p, 5)[i] * (double)tensor(p, 5)[i];
    }
    assert_true(largest <= 0.1f && largest > 0.099f);
    assert_true(fabs(sqrt(square / 5000.0) - 0.1) < 0.005);
    params_free(p);
}

/* ---- nets ---- */

struct built {
    struct params *p;
    struct net net;
};

static struct built build(const struct net_opts *opts) {
    struct built b = { .p = params_new() };

    assert_int_equal(net_add(&b.net, b.p, "pi", opts), 0);
    rl_rng_init(&rng, 5, 5);
    assert_int_equal(params_seal(b.p, &rng), 0);
    return b;
}

static void names_and_shapes(void **state) {
    struct net_opts o;
    struct built b;
    static const char *const names[] = { "pi/conv0/kernel", "pi/conv0/bias", "pi/0/kernel",
                                         "pi/0/bias", "pi/0/gain", "pi/0/shift",
                                         "pi/lstm/kernel", "pi/lstm/bias", "pi/out/kernel",
                                         "pi/out/bias" };
    static const int shapes[][2] = { { 18, 3 }, { 1, 3 }, { 15, 7 }, { 1, 7 }, { 1, 7 }, { 1, 7 },
                                     { 11, 16 }, { 1, 16 }, { 4, 5 }, { 1, 5 } };

    (void)state;
    net_opts_default(&o);
    o.image[0] = o.image[1] = 6;
    o.image[2] = 2;
    o.in = 3;
    o.n_convs = 1;
    memcpy(o.convs[0], ((int[]){ 3, 3, 2 }), sizeof o.convs[0]);
    o.n_hiddens = 1;
    o.hiddens[0] = 7;
    o.layer_norm = true;
    o.cell = CELL_LSTM;
    o.cell_size = 4;
    o.out = 5;
    b = build(&o);
    assert_int_equal(b.net.count, 10);
    for (int i = 0; i < 10; i++) {
        assert_string_equal(b.p->tensors[i].name, names[i]);
        assert_int_equal(b.p->tensors[i].rows, shapes[i][0]);
        assert_int_equal(b.p->tensors[i].cols, shapes[i][1]);
    }
    assert_int_equal(net_state_size(&b.net), 8);
    params_free(b.p);
}

static void a_dense_net_is_what_it_says(void **state) {
    struct net_opts o;
    struct built b;
    struct tape *t = tape_new();
    float x[3] = { 0.3f, -0.8f, 1.1f };
    const float *y;

    (void)state;
    net_opts_default(&o);
    o.in = 3;
    o.n_hiddens = 1;
    o.hiddens[0] = 4;
    o.out = 2;
    o.out_scale = 1.0f;
    o.torch_bias = true;
    b = build(&o);
    y = tape_value(t, net_apply(t, &b.net, t_data(t, x, 1, 3), NULL, false, NULL));
    assert_non_null(y);
    for (int k = 0; k < 2; k++) {
        double sum = (double)tensor(b.p, 3)[k];

        assert_true(fabsf(tensor(b.p, 3)[k]) <= 0.5f && tensor(b.p, 3)[k] != 0.0f);
        for (int j = 0; j < 4; j++) {
            double h = (double)tensor(b.p, 1)[j];

            for (int i = 0; i < 3; i++)
                h += (double)x[i] * (double)tensor(b.p, 0)[i * 4 + j];
            sum += tanh(h) * (double)tensor(b.p, 2)[j * 2 + k];
        }
        assert_true(fabs(sum - (double)y[k]) < 1e-5);
    }
    assert_int_equal(net_apply(t, &b.net, t_data(t, x, 1, 2), NULL, false, NULL), TAPE_BAD);
    assert_string_equal(tape_error_text(t), "dense: 1 x 2 times 3 x 4 plus 1 x 4");
    params_free(b.p);
    tape_free(t);
}

static float net_loss(struct tape *t, const struct built *b, const float *x, int steps) {
    int in = b->net.opts.in + b->net.opts.image[0] * b->net.opts.image[1] * b->net.opts.image[2];
    struct rl_rng noise;
    tvar sum = TAPE_BAD, state = TAPE_BAD, *carried = NULL;

    rl_rng_init(&noise, 9, 9);
    tape_reset(t);
    if (net_state_size(&b->net) > 0) {
        state = t_fill(t, 0.1f, 2, net_state_size(&b->net));
        carried = &state;
    }
    for (int s = 0; s < steps; s++) {
        tvar y = net_apply(t, &b->net, t_data(t, x + s * 2 * in, 2, in), carried, false,
                           b->net.opts.noisy ? &noise : NULL);
        tvar part = t_sum(t, t_mul(t, y, t_exp(t, t_affine(t, y, 0.5f, 0.1f))));

        sum = s ? t_add(t, sum, part) : part;
    }
    assert_string_equal(tape_error_text(t), "");
    assert_int_equal(tape_backward(t, sum), 0);
    return tape_scalar(t, sum);
}

static void check_gradient(const struct net_opts *o, int steps) {
    struct built b = build(o);
    struct tape *t = tape_new();
    float *grad = calloc(b.p->n_padded, sizeof *grad), x[600];

    for (int i = 0; i < 600; i++)
        x[i] = rl_rng_float(&rng) - 0.5f;
    params_zero_grad(b.p);
    net_loss(t, &b, x, steps);
    memcpy(grad, b.p->grad, b.p->n_padded * sizeof *grad);
    for (int k = 0; k < b.p->n_tensors; k++) {
        size_t size = (size_t)b.p->tensors[k].rows * (size_t)b.p->tensors[k].cols;

        for (size_t i = 0; i < size; i++) {
            float *w = b.p->value + b.p->tensors[k].at + i, was = *w;
            double want, got = (double)grad[b.p->tensors[k].at + i];

            *w = was + 1e-2f;
            want = (double)net_loss(t, &b, x, steps);
            *w = was - 1e-2f;
            want = (want - (double)net_loss(t, &b, x, steps)) / 2e-2;
            *w = was;
            if (fabs(want - got) > 6e-3 * (1.0 + fabs(want)))
                fail_msg("%s, number %zu: %g is not %g", b.p->tensors[k].name, i, got, want);
        }
    }
    free(grad);
    tape_free(t);
    params_free(b.p);
}

static struct net_opts small(void) {
    struct net_opts o;

    net_opts_default(&o);
    o.in = 3;
    o.n_hiddens = 2;
    o.hiddens[0] = 5;
    o.hiddens[1] = 4;
    o.out = 2;
    o.out_scale = 1.0f;
    return o;
}

static void gradients_of_nets(void **state) {
    struct net_opts o = small();

    (void)state;
    check_gradient(&o, 1);
    o.act = ACT_SWISH;
    o.layer_norm = true;
    check_gradient(&o, 1);
    o = small();
    o.noisy = true;
    check_gradient(&o, 1);
    o = small();
    o.cell = CELL_LSTM;
    o.cell_size = 3;
    check_gradient(&o, 3);
    o.cell = CELL_GRU;
    o.out = 0;
    check_gradient(&o, 3);
    o = small();
    o.image[0] = 5;
    o.image[1] = 6;
    o.image[2] = 2;
    o.conv_act = ACT_TANH;
    o.n_convs = 2;
    memcpy(o.convs[0], ((int[]){ 3, 3, 1 }), sizeof o.convs[0]);
    memcpy(o.convs[1], ((int[]){ 2, 2, 2 }), sizeof o.convs[1]);
    check_gradient(&o, 1);
}

static void noise_is_only_where_it_is_asked_for(void **state) {
    struct net_opts o = small();
    struct built b;
    struct tape *t = tape_new();
    float x[3] = { 0.1f, 0.2f, 0.3f };
    struct rl_rng noise;
    tvar in, mean, again, noisy, other;

    (void)state;
    o.noisy = true;
    b = build(&o);
    assert_true(fabsf(tensor(b.p, 2)[0] - 0.5f / sqrtf(3.0f)) < 1e-6f);
    in = t_data(t, x, 1, 3);
    mean = net_apply(t, &b.net, in, NULL, false, NULL);
    again = net_apply(t, &b.net, in, NULL, true, NULL);
    rl_rng_init(&noise, 4, 4);
    noisy = net_apply(t, &b.net, in, NULL, false, &noise);
    other = net_apply(t, &b.net, in, NULL, false, &noise);
    assert_memory_equal(tape_value(t, mean), tape_value(t, again), 8);
    assert_memory_not_equal(tape_value(t, mean), tape_value(t, noisy), 8);
    assert_memory_not_equal(tape_value(t, other), tape_value(t, noisy), 8);
    params_free(b.p);
    tape_free(t);
}

static void targets_get_no_gradient(void **state) {
    struct net_opts o = small();
    struct built b = build(&o), target = build(&o);
    struct tape *t = tape_new();
    float x[3] = { 0.1f, 0.2f, 0.3f };
    tvar in = t_leaf(t, x, 1, 3), y, z;

    (void)state;
    y = net_apply_with(t, &b.net, target.p, in, NULL, NULL);
    z = net_apply(t, &b.net, in, NULL, true, NULL);
    assert_memory_equal(tape_value(t, y), tape_value(t, z), 8);
    assert_int_equal(tape_backward(t, t_sum(t, t_add(t, y, z))), 0);
    assert_non_null(tape_grad(t, in));          /* through the frozen net, to its input */
    for (size_t i = 0; i < b.p->n_padded; i++)
        assert_true(b.p->grad[i] == 0.0f && target.p->grad[i] == 0.0f);
    params_free(b.p);
    params_free(target.p);
    tape_free(t);
}

static void bad_descriptions(void **state) {
    struct params *p = params_new();
    struct net net;
    struct net_opts o = small();

    (void)state;
    o.in = 0;
    assert_int_equal(net_add(&net, p, "a", &o), -SKATE_EINVAL);
    o = small();
    o.n_hiddens = NET_LAYERS_MAX + 1;
    assert_int_equal(net_add(&net, p, "b", &o), -SKATE_EINVAL);
    o = small();
    o.hiddens[1] = 0;
    assert_int_equal(net_add(&net, p, "c", &o), -SKATE_EINVAL);
    o = small();
    o.cell = CELL_GRU;
    assert_int_equal(net_add(&net, p, "d", &o), -SKATE_EINVAL);
    o = small();
    o.image[0] = o.image[1] = o.image[2] = 3;
    o.n_convs = 1;
    memcpy(o.convs[0], ((int[]){ 4, 5, 1 }), sizeof o.convs[0]);
    assert_int_equal(net_add(&net, p, "e", &o), -SKATE_EINVAL);
    o = small();
    assert_int_equal(net_add(&net, p, "a name that is longer than the name of a tensor may be", &o),
                     -SKATE_EINVAL);
    params_free(p);
}

/* net_width() says what the net itself gives: padded convolutions, cells, hidden layers. */
static void widths(void **state) {
    struct net_opts image = small(), kinds[5];
    struct tape *t = tape_new();

    (void)state;
    image.in = 2;
    image.image[0] = image.image[1] = 9;
    image.image[2] = 1;
    image.n_convs = 2;
    memcpy(image.convs, ((int[][3]){ { 3, 4, 2 }, { 2, 2, 1 } }), sizeof(int[2][3]));
    image.conv_same = true;
    image.n_hiddens = image.out = 0;
    kinds[0] = kinds[1] = kinds[2] = kinds[3] = image;
    kinds[1].conv_same = false;
    kinds[2].out = 7;
    kinds[3].cell = CELL_LSTM;
    kinds[3].cell_size = 6;
    kinds[4] = small();
    kinds[4].out = 0;
    assert_int_equal(net_width(&image), 4 * 4 * 2 + 2);      /* 9 -> 5 -> 4 */
    for (int i = 0; i < 5; i++) {
        int in = kinds[i].in + kinds[i].image[0] * kinds[i].image[1] * kinds[i].image[2];
        struct built b = build(&kinds[i]);
        tvar out = net_apply(t, &b.net, t_fill(t, 0.5f, 1, in), NULL, true, NULL);

        assert_int_equal(tape_cols(t, out), net_width(&kinds[i]));
        tape_reset(t);
        params_free(b.p);
    }
    image.convs[1][1] = 20;
    assert_int_equal(net_width(&image), -SKATE_EINVAL);
    tape_free(t);
}

/* A net learns a function: the whole of the engine's loop. */
static void a_net_learns(void **state) {
    struct net_opts o = small();
    struct built b;
    struct tape *t = tape_new();
    struct optim_opts opts;
    struct optim optim;
    float x[32 * 3], y[32 * 2], loss = 0.0f, first = 0.0f;

    (void)state;
    o.hiddens[0] = o.hiddens[1] = 16;
    b = build(&o);
    optim_opts_default(&opts);
    opts.lr = 0.01f;
    assert_int_equal(optim_init(&optim, b.p, &opts), 0);
    for (int i = 0; i < 32; i++) {
        for (int k = 0; k < 3; k++)
            x[i * 3 + k] = rl_rng_float(&rng) * 2.0f - 1.0f;
        y[i * 2] = x[i * 3] * x[i * 3 + 1];
        y[i * 2 + 1] = sinf(3.0f * x[i * 3 + 2]);
    }
    for (int i = 0; i < 400; i++) {
        tvar out, error;

        tape_reset(t);
        out = net_apply(t, &b.net, t_data(t, x, 32, 3), NULL, false, NULL);
        error = t_mean(t, t_square(t, t_sub(t, out, t_data(t, y, 32, 2))));
        assert_int_equal(tape_backward(t, error), 0);
        assert_int_equal(optim_step(&optim), 0);
        loss = tape_scalar(t, error);
        first = i == 0 ? loss : first;
    }
    assert_true(first > 0.2f && loss < 0.01f);
    optim_release(&optim);
    params_free(b.p);
    tape_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_named_and_checked),
        cmocka_unit_test(flat_form_and_blending),
        cmocka_unit_test(start_values),
        cmocka_unit_test(names_and_shapes),
        cmocka_unit_test(a_dense_net_is_what_it_says),
        cmocka_unit_test(gradients_of_nets),
        cmocka_unit_test(noise_is_only_where_it_is_asked_for),
        cmocka_unit_test(targets_get_no_gradient),
        cmocka_unit_test(bad_descriptions),
        cmocka_unit_test(widths),
        cmocka_unit_test(a_net_learns),
    };

    rl_rng_init(&rng, 1, 0);
    return cmocka_run_group_tests_name("rl nn", tests, NULL, NULL);
}
