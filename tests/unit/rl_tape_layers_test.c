/* rl_tape_layers_test.c - whole layers of the tape: values against plain loops in double,
 * gradients against finite differences, errors. links: base rl. */
#include <stdlib.h>

#include "rl/nn/tape_int.h"
#include "rl_tape_help.h"

/* ---- convolution ---- */

static const struct tape_conv plain = { 5, 6, 2, 3, 3, 1, 0, ACT_LINEAR };
static const struct tape_conv strided = { 7, 6, 1, 2, 3, 2, 1, ACT_TANH };
static const struct tape_conv one_by_one = { 3, 2, 3, 4, 1, 1, 0, ACT_SIGMOID };
static const struct tape_conv smooth = { 4, 4, 2, 2, 2, 2, 0, ACT_GELU };
static const struct tape_conv padded = { 4, 5, 2, 3, 4, 3, 2, ACT_LINEAR };

BUILD(conv_plain, t_conv(t, in[0], in[1], in[2], &plain))
BUILD(conv_strided, t_conv(t, in[0], in[1], in[2], &strided))
BUILD(conv_one, t_conv(t, in[0], in[1], in[2], &one_by_one))
BUILD(conv_smooth, t_conv(t, in[0], in[1], in[2], &smooth))
BUILD(conv_padded, t_conv(t, in[0], in[1], in[2], &padded))

static void gradients_of_convolutions(void **state) {
    static const struct trial list[] = {
        { "conv", conv_plain, 3, { { 2, 60 }, { 18, 3 }, { 1, 3 } }, 0, 0 },
        { "conv, stride, pad", conv_strided, 3, { { 2, 42 }, { 9, 2 }, { 1, 2 } }, 0, 0 },
        { "conv 1 x 1", conv_one, 3, { { 2, 18 }, { 3, 4 }, { 1, 4 } }, 0, 0 },
        { "conv gelu", conv_smooth, 3, { { 2, 32 }, { 8, 2 }, { 1, 2 } }, 0, 0 },
        { "conv, much pad", conv_padded, 3, { { 2, 40 }, { 32, 3 }, { 1, 3 } }, 0, 0 },
    };

    (void)state;
    CHECK_ALL(list);
}

static double conv_at(const struct tape_conv *c, const float *image, const float *w,
                      const int where[3]) {
    double sum = 0.0;

    for (int ky = 0; ky < c->kernel; ky++)
        for (int kx = 0; kx < c->kernel; kx++)
            for (int k = 0; k < c->channels; k++) {
                int y = where[0] * c->stride - c->pad + ky, x = where[1] * c->stride - c->pad + kx;

                if (y >= 0 && y < c->height && x >= 0 && x < c->width)
                    sum += (double)image[(y * c->width + x) * c->channels + k] *
                           (double)w[((ky * c->kernel + kx) * c->channels + k) * c->filters +
                                     where[2]];
            }
    return sum;
}

/* More images than are unfolded at once, so that a last, smaller lot comes after the others. */
static void many_images(void **state) {
    static const struct tape_conv c = { 21, 20, 3, 5, 4, 2, 1, ACT_LINEAR };
    enum { IMAGES = 23, IN = 21 * 20 * 3 };
    struct tape *t = tape_new();
    float *x = malloc(sizeof *x * IMAGES * IN), w[48 * 5], b[5] = { 1, 2, 3, 4, 5 };
    int h, wide, out = tape_conv_out(&c, &h, &wide);
    struct rl_rng r;
    tvar vx, vw, y;
    double sum = 0.0;

    (void)state;
    assert_int_equal(h, 10);
    assert_int_equal(wide, 10);
    assert_int_equal(out, 500);
    rl_rng_init(&r, 1, 1);
    for (int i = 0; i < IMAGES * IN; i++)
        x[i] = rl_rng_float(&r);
    for (int i = 0; i < 48 * 5; i++)
        w[i] = rl_rng_float(&r) - 0.5f;
    vx = t_leaf(t, x, IMAGES, IN);
    vw = t_leaf(t, w, 48, 5);
    y = t_conv(t, vx, vw, t_leaf(t, b, 1, 5), &c);
    for (int i = 0; i < IMAGES; i++)
        for (int k = 0; k < out; k++) {
            double want = (double)b[k % 5] +
                          conv_at(&c, x + i * IN, w, (int[]){ k / 50, k / 5 % 10, k % 5 });

            assert_true(fabs(want - (double)tape_value(t, y)[i * out + k]) < 1e-4);
        }
    assert_int_equal(tape_backward(t, t_sum(t, y)), 0);
    /* The sum of all results is linear: each weight's gradient is what it met. */
    for (int i = 0; i < IMAGES; i++)
        for (int oy = 0; oy < 10; oy++)
            for (int ox = 0; ox < 10; ox++)
                sum += (double)x[i * IN + ((oy * 2 + 1) * 20 + ox * 2 + 1) * 3 + 2];
    assert_true(fabs(sum - (double)tape_grad(t, vw)[((2 * 4 + 2) * 3 + 2) * 5 + 3]) < 1e-2);
    free(x);
    tape_free(t);
}

static void convolutions_that_do_not_fit(void **state) {
    struct tape_conv c = plain;
    struct tape *t = tape_new();
    float x[60] = { 0 };
    tvar image = t_data(t, x, 1, 60), w = t_data(t, x, 18, 3), b = t_data(t, x, 1, 3);

    (void)state;
    assert_int_equal(t_conv(t, image, w, image, &c), TAPE_BAD);
    assert_string_equal(tape_error_text(t), "conv: images of 5 x 6 x 2 in 1 x 60, 3 filters of 3 "
                        "(stride 1, pad 0) in 18 x 3 plus 1 x 60");
    (void)b;
    c.kernel = 7;
    assert_int_equal(tape_conv_out(&c, NULL, NULL), -SKATE_EINVAL);
    c = plain;
    c.stride = 0;
    assert_int_equal(tape_conv_out(&c, NULL, NULL), -SKATE_EINVAL);
    c = plain;
    c.pad = 3;
    assert_int_equal(tape_conv_out(&c, NULL, NULL), -SKATE_EINVAL);
    c = plain;
    c.filters = 1 << 30;
    assert_int_equal(tape_conv_out(&c, NULL, NULL), -SKATE_EINVAL);
    tape_free(t);
}

/* ---- layer norm ---- */

BUILD(layer_norm, t_layer_norm(t, in[0], in[1], in[2]))

static void layer_norms(void **state) {
    static const struct trial list[] = {
        { "layer_norm", layer_norm, 3, { { 4, 7 }, { 1, 7 }, { 1, 7 } }, 0, 0 },
    };
    struct tape *t = tape_new();
    float x[8] = { 1, 2, 3, 4, 10, 10, 10, 10 }, one[4] = { 1, 1, 1, 1 }, zero[4] = { 0 };
    const float *y;

    (void)state;
    CHECK_ALL(list);
    y = tape_value(t, t_layer_norm(t, t_data(t, x, 2, 4), t_data(t, one, 1, 4),
                                   t_data(t, zero, 1, 4)));
    assert_true(fabsf(y[0] + 1.3416355f) < 1e-5f && fabsf(y[3] - 1.3416355f) < 1e-5f);
    assert_true(y[4] == 0.0f && y[7] == 0.0f);
    tape_free(t);
}

/* ---- recurrent cells ---- */

BUILD(lstm, t_lstm(t, in[0], in[1], in[2], in[3]))
BUILD(lstm_twice, t_lstm(t, in[0], t_lstm(t, in[0], in[1], in[2], in[3]), in[2], in[3]))
BUILD(gru, t_gru(t, in[0], in[1], in[2], in[3], in[4], in[5]))
BUILD(gru_twice, t_gru(t, in[0], t_gru(t, in[0], in[1], in[2], in[3], in[4], in[5]), in[2],
                       in[3], in[4], in[5]))

static void gradients_of_cells(void **state) {
    static const struct trial list[] = {
        { "lstm", lstm, 4, { { 3, 4 }, { 3, 10 }, { 9, 20 }, { 1, 20 } }, 0, 0 },
        { "lstm twice", lstm_twice, 4, { { 2, 17 }, { 2, 6 }, { 20, 12 }, { 1, 12 } }, 0, 0 },
        { "gru", gru, 6, { { 3, 4 }, { 3, 5 }, { 4, 15 }, { 5, 15 }, { 1, 15 }, { 1, 15 } },
          0, 0 },
        { "gru twice", gru_twice, 6,
          { { 2, 3 }, { 2, 4 }, { 3, 12 }, { 4, 12 }, { 1, 12 }, { 1, 12 } }, 0, 0 },
    };

    (void)state;
    CHECK_ALL(list);
}

static double sigmoid_of(double x) {
    return 1.0 / (1.0 + exp(-x));
}

/* One number in, one hidden: the formulas by hand. */
static void cells_are_what_they_say(void **state) {
    const float x = 0.5f, lstm_state[2] = { -0.3f, 0.8f };
    const float w[8] = { 0.1f, 0.2f, 0.3f, 0.4f, -0.5f, 0.6f, -0.7f, 0.8f };
    const float b[4] = { 0.05f, -0.1f, 0.15f, 0.2f }, h = 0.7f;
    struct tape *t = tape_new();
    double g[4], c, r, z, n;
    const float *y;

    (void)state;
    y = tape_value(t, t_lstm(t, t_data(t, &x, 1, 1), t_data(t, lstm_state, 1, 2),
                             t_data(t, w, 2, 4), t_data(t, b, 1, 4)));
    for (int k = 0; k < 4; k++)
        g[k] = 0.5 * (double)w[k] - 0.3 * (double)w[4 + k] + (double)b[k];
    c = sigmoid_of(g[1]) * 0.8 + sigmoid_of(g[0]) * tanh(g[2]);
    assert_true(fabs((double)y[1] - c) < 1e-6);
    assert_true(fabs((double)y[0] - sigmoid_of(g[3]) * tanh(c)) < 1e-6);

    y = tape_value(t, t_gru(t, t_data(t, &x, 1, 1), t_data(t, &h, 1, 1), t_data(t, w, 1, 3),
                            t_data(t, w + 3, 1, 3), t_data(t, b, 1, 3), t_data(t, b + 1, 1, 3)));
    r = sigmoid_of(0.5 * 0.1 + 0.05 + 0.7 * 0.4 - 0.1);
    z = sigmoid_of(0.5 * 0.2 - 0.1 - 0.7 * 0.5 + 0.15);
    n = tanh(0.5 * 0.3 + 0.15 + r * (0.7 * 0.6 + 0.2));
    assert_true(fabs((double)y[0] - ((1.0 - z) * n + z * 0.7)) < 1e-6);
    tape_free(t);
}

static void cells_that_do_not_fit(void **state) {
    struct tape *t = tape_new();
    float x[64] = { 0 };
    tvar a = t_data(t, x, 2, 3), s = t_data(t, x, 2, 4), w = t_data(t, x, 5, 8);

    (void)state;
    assert_int_equal(t_lstm(t, a, s, w, w), TAPE_BAD);
    assert_string_equal(tape_error_text(t),
                        "lstm: 2 x 3, state 2 x 4, weights 5 x 8, biases 5 x 8");
    tape_reset(t);
    a = t_data(t, x, 2, 3);
    assert_int_equal(t_gru(t, a, a, a, a, a, a), TAPE_BAD);
    assert_string_equal(tape_error_text(t), "gru: 2 x 3, state 2 x 3, weights 2 x 3 and 2 x 3, "
                        "biases 2 x 3 and 2 x 3");
    tape_reset(t);
    a = t_data(t, x, 2, 3);
    assert_int_equal(t_layer_norm(t, a, a, a), TAPE_BAD);
    assert_string_equal(tape_error_text(t), "layer_norm: 2 x 3 with 2 x 3 and 2 x 3");
    tape_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_of_convolutions),
        cmocka_unit_test(many_images),
        cmocka_unit_test(convolutions_that_do_not_fit),
        cmocka_unit_test(layer_norms),
        cmocka_unit_test(gradients_of_cells),
        cmocka_unit_test(cells_are_what_they_say),
        cmocka_unit_test(cells_that_do_not_fit),
    };

    return cmocka_run_group_tests_name("rl tape layers", tests, NULL, NULL);
}
