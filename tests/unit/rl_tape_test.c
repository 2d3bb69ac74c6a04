/* rl_tape_test.c - every operation's gradient against finite differences, broadcasting, errors
 * that stay, and memory that is used again. links: base rl. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rl/nn/tape.h"
#include "rl/nn/tape_int.h"
#include "rl/rl_rng.h"
#include "rl_tape_help.h"

static const int32_t index3[] = { 2, 0, 1 };
static const int32_t index5[] = { 1, 3, 1, 0, 3 };

BUILD(matmul, t_matmul(t, in[0], in[1]))
BUILD(matmul_self, t_matmul(t, in[0], in[0]))
BUILD(dense_tanh, t_dense(t, in[0], in[1], in[2], ACT_TANH))
BUILD(dense_linear, t_dense(t, in[0], in[1], in[2], ACT_LINEAR))
BUILD(dense_sigmoid, t_dense(t, in[0], in[1], in[2], ACT_SIGMOID))
BUILD(dense_elu, t_dense(t, in[0], in[1], in[2], ACT_ELU))
BUILD(dense_swish, t_dense(t, in[0], in[1], in[2], ACT_SWISH))
BUILD(twice, t_add(t, t_dense(t, in[0], in[1], in[2], ACT_TANH),
                   t_dense(t, t_square(t, in[0]), in[1], in[2], ACT_LINEAR)))
BUILD(rowmat, t_rowmat(t, in[0], in[1], 3))

static void products(void **state) {
    static const struct trial list[] = {
        { "matmul", matmul, 2, { { 3, 4 }, { 4, 5 } }, 0, 0 },
        { "matmul 17", matmul, 2, { { 5, 17 }, { 17, 18 } }, 0, 0 },
        { "matmul self", matmul_self, 1, { { 4, 4 } }, 0, 0 },
        { "dense tanh", dense_tanh, 3, { { 3, 4 }, { 4, 5 }, { 1, 5 } }, 0, 0 },
        { "dense linear", dense_linear, 3, { { 3, 4 }, { 4, 1 }, { 1, 1 } }, 0, 0 },
        { "dense sigmoid", dense_sigmoid, 3, { { 3, 4 }, { 4, 5 }, { 1, 5 } }, 0, 0 },
        { "dense elu", dense_elu, 3, { { 3, 4 }, { 4, 5 }, { 1, 5 } }, 0.1f, 0.6f },
        { "dense swish", dense_swish, 3, { { 3, 4 }, { 4, 5 }, { 1, 5 } }, 0, 0 },
        { "used twice", twice, 3, { { 3, 4 }, { 4, 5 }, { 1, 5 } }, 0, 0 },
        { "rowmat", rowmat, 2, { { 3, 4 }, { 3, 12 } }, 0, 0 },
    };

    (void)state;
    CHECK_ALL(list);
}

BUILD(add, t_add(t, in[0], in[1]))
BUILD(sub, t_sub(t, in[0], in[1]))
BUILD(mul, t_mul(t, in[0], in[1]))
BUILD(divide, t_div(t, in[0], in[1]))
BUILD(square_by_self, t_mul(t, in[0], in[0]))

static void two_operands_of_any_shape(void **state) {
    static const struct shape shapes[] = { { 3, 4 }, { 3, 1 }, { 1, 4 }, { 1, 1 } };
    static const builder builds[] = { add, sub, mul, divide };

    (void)state;
    for (size_t b = 0; b < sizeof builds / sizeof *builds; b++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            struct trial c = { "two operands", builds[b], 2, { { 3, 4 }, shapes[s] }, 0.5f, 2 };

            check(&c);
        }
    check(&(struct trial){ "x * x", square_by_self, 1, { { 3, 4 } }, 0, 0 });
}

/* min and max have corners, so their operands are apart by more than a step. */
static void smaller_and_larger(void **state) {
    static const float x[] = { 1, 5, 2, 2 }, y[] = { 3, 4, 2, 1 };
    struct tape *t = tape_new();
    tvar a = t_leaf(t, x, 2, 2), b = t_leaf(t, y, 2, 2);
    tvar low = t_min(t, a, b), high = t_max(t, a, b);

    (void)state;
    assert_int_equal(tape_backward(t, t_sum(t, t_add(t, low, t_affine(t, high, 10.0f, 0.0f)))),
                     0);
    assert_memory_equal(tape_value(t, low), ((float[]){ 1, 4, 2, 1 }), 16);
    assert_memory_equal(tape_value(t, high), ((float[]){ 3, 5, 2, 2 }), 16);
    assert_memory_equal(tape_grad(t, a), ((float[]){ 1, 10, 11, 10 }), 16);
    assert_memory_equal(tape_grad(t, b), ((float[]){ 10, 1, 0, 1 }), 16);
    tape_free(t);
}

BUILD(affine, t_affine(t, in[0], 2.5f, -1.0f))
BUILD(relu, t_act(t, in[0], ACT_RELU))
BUILD(tanh_, t_act(t, in[0], ACT_TANH))
BUILD(sigmoid, t_act(t, in[0], ACT_SIGMOID))
BUILD(elu, t_act(t, in[0], ACT_ELU))
BUILD(swish, t_act(t, in[0], ACT_SWISH))
BUILD(softplus, t_act(t, in[0], ACT_SOFTPLUS))
BUILD(leaky, t_act(t, in[0], ACT_LEAKY_RELU))
BUILD(gelu, t_act(t, in[0], ACT_GELU))
BUILD(exp_, t_exp(t, in[0]))
BUILD(log_, t_log(t, in[0]))
BUILD(square, t_square(t, in[0]))
BUILD(sqrt_, t_sqrt(t, in[0]))
BUILD(abs_, t_abs(t, in[0]))
BUILD(clip_in, t_clip(t, in[0], -9.0f, 9.0f))
BUILD(clip_out, t_clip(t, in[0], -9.0f, 0.01f))
BUILD(huber_in, t_huber(t, in[0], 1.5f))
BUILD(huber_out, t_huber(t, in[0], 0.1f))

static void one_operand(void **state) {
    static const struct trial list[] = {
        { "affine", affine, 1, { { 3, 4 } }, 0, 0 },
        { "relu", relu, 1, { { 3, 4 } }, 0.1f, 2 },
        { "relu below", relu, 1, { { 3, 4 } }, -2, -0.1f },
        { "tanh", tanh_, 1, { { 19, 17 } }, -2, 2 },
        { "sigmoid", sigmoid, 1, { { 3, 4 } }, -3, 3 },
        { "elu", elu, 1, { { 3, 4 } }, -2, 2 },
        { "swish", swish, 1, { { 3, 4 } }, -3, 3 },
        { "softplus", softplus, 1, { { 3, 4 } }, -3, 3 },
        { "leaky", leaky, 1, { { 3, 4 } }, 0.1f, 1 },
        { "leaky below", leaky, 1, { { 3, 4 } }, -1, -0.1f },
        { "gelu", gelu, 1, { { 3, 4 } }, -3, 3 },
        { "exp", exp_, 1, { { 3, 4 } }, -2, 1 },
        { "log", log_, 1, { { 3, 4 } }, 0.5f, 2 },
        { "square", square, 1, { { 3, 4 } }, 0, 0 },
        { "sqrt", sqrt_, 1, { { 3, 4 } }, 0.5f, 2 },
        { "abs", abs_, 1, { { 3, 4 } }, -2, -0.1f },
        { "clip inside", clip_in, 1, { { 3, 4 } }, 0, 0 },
        { "clip outside", clip_out, 1, { { 3, 4 } }, 0.1f, 1 },
        { "huber inside", huber_in, 1, { { 3, 4 } }, 0, 0 },
        { "huber outside", huber_out, 1, { { 3, 4 } }, 0.2f, 2 },
    };

    (void)state;
    CHECK_ALL(list);
}

BUILD(softmax, t_softmax(t, in[0], 0))
BUILD(softmax3, t_softmax(t, in[0], 3))
BUILD(log_softmax, t_log_softmax(t, in[0], 0))
BUILD(log_softmax3, t_log_softmax(t, in[0], 3))
BUILD(logsumexp, t_logsumexp(t, in[0]))
BUILD(pick, t_pick(t, in[0], index3))
BUILD(pick_block, t_pick_block(t, in[0], index3, 2))
BUILD(sum_cols, t_sum_cols(t, in[0]))
BUILD(max_cols, t_max_cols(t, in[0]))
BUILD(sum_groups, t_sum_groups(t, in[0], 3))
BUILD(sum, t_square(t, t_sum(t, in[0])))
BUILD(mean, t_square(t, t_mean(t, in[0])))
BUILD(concat, t_concat(t, in[0], in[1]))
BUILD(concat_self, t_concat(t, in[0], in[0]))
BUILD(stack, t_stack(t, in[0], in[1]))
BUILD(cols, t_square(t, t_cols(t, in[0], 1, 2)))
BUILD(rows, t_square(t, t_rows(t, in[0], 1, 2)))
BUILD(rows_twice, t_add(t, t_rows(t, in[0], 0, 2), t_square(t, t_rows(t, in[0], 1, 2))))
BUILD(reshape, t_square(t, t_reshape(t, in[0], 2, 6)))
BUILD(repeat, t_square(t, t_repeat(t, in[0], 3)))
BUILD(lookup, t_square(t, t_lookup(t, in[0], index5, 5)))

static void rows_and_columns(void **state) {
    static const struct trial list[] = {
        { "softmax", softmax, 1, { { 3, 5 } }, -2, 2 },
        { "softmax of groups", softmax3, 1, { { 2, 6 } }, -2, 2 },
        { "log_softmax", log_softmax, 1, { { 3, 5 } }, -2, 2 },
        { "log_softmax of groups", log_softmax3, 1, { { 2, 6 } }, -2, 2 },
        { "logsumexp", logsumexp, 1, { { 3, 5 } }, -2, 2 },
        { "pick", pick, 1, { { 3, 5 } }, 0, 0 },
        { "pick_block", pick_block, 1, { { 3, 6 } }, 0, 0 },
        { "sum_cols", sum_cols, 1, { { 3, 5 } }, 0, 0 },
        { "max_cols", max_cols, 1, { { 3, 5 } }, -20, 20 },
        { "sum_groups", sum_groups, 1, { { 2, 6 } }, 0, 0 },
        { "sum", sum, 1, { { 3, 4 } }, 0, 0 },
        { "mean", mean, 1, { { 3, 4 } }, 0, 0 },
        { "concat", concat, 2, { { 3, 4 }, { 3, 2 } }, 0, 0 },
        { "concat with itself", concat_self, 1, { { 3, 4 } }, 0, 0 },
        { "stack", stack, 2, { { 3, 4 }, { 2, 4 } }, 0, 0 },
        { "cols", cols, 1, { { 3, 4 } }, 0, 0 },
        { "rows", rows, 1, { { 3, 4 } }, 0, 0 },
        { "rows that overlap", rows_twice, 1, { { 3, 4 } }, 0, 0 },
        { "reshape", reshape, 1, { { 3, 4 } }, 0, 0 },
        { "repeat", repeat, 1, { { 3, 4 } }, 0, 0 },
        { "lookup", lookup, 1, { { 4, 3 } }, 0, 0 },
    };

    (void)state;
    CHECK_ALL(list);
}

/* e^x of the tape against libm, over all that a float can have. */
static void exponential_is_exact(void **state) {
    struct tape *t = tape_new();
    float x[1024], bad = NAN;
    const float *y;

    (void)state;
    for (int part = -88; part < 88; part++) {
        tape_reset(t);
        for (int i = 0; i < 1024; i++)
            x[i] = (float)part + (float)i / 1024.0f;
        y = tape_value(t, t_exp(t, t_data(t, x, 32, 32)));
        for (int i = 0; i < 1024; i++) {
            double want = exp((double)x[i]);

            if (want > 1.2e-38)
                assert_true(fabs((double)y[i] - want) <= 3e-7 * want);
        }
    }
    for (int i = 0; i < 4; i++)
        x[i] = (float[]){ 89.0f, INFINITY, -INFINITY, -104.0f }[i];
    y = tape_value(t, t_exp(t, t_data(t, x, 1, 4)));
    assert_true(isinf(y[0]) && isinf(y[1]) && y[2] == 0.0f && y[3] == 0.0f);
    assert_true(isnan(tape_scalar(t, t_exp(t, t_data(t, &bad, 1, 1)))));
    tape_free(t);
}

static void large_numbers_stay_finite(void **state) {
    static const float x[] = { 1000.0f, 0.0f, -1000.0f };
    struct tape *t = tape_new();
    tvar in = t_leaf(t, x, 1, 3), log_p = t_log_softmax(t, in, 0), p = t_softmax(t, in, 0);

    (void)state;
    assert_true(tape_value(t, log_p)[0] == 0.0f && tape_value(t, log_p)[2] == -2000.0f);
    assert_true(tape_value(t, p)[0] == 1.0f && tape_value(t, p)[1] == 0.0f);
    assert_true(tape_scalar(t, t_logsumexp(t, in)) == 1000.0f);
    assert_true(tape_value(t, t_act(t, in, ACT_SOFTPLUS))[2] == 0.0f);
    assert_int_equal(tape_backward(t, t_mean(t, t_act(t, in, ACT_SOFTPLUS))), 0);
    for (int i = 0; i < 3; i++)
        assert_true(isfinite(tape_grad(t, in)[i]));
    tape_free(t);
}

static void is_nan(struct tape *t, tvar v, const char *what) {
    if (!isnan(tape_scalar(t, t_sum(t, v))))
        fail_msg("%s hides a NaN", what);
}

static void nan_comes_through_everything(void **state) {
    struct tape *t = tape_new();
    float x[40], one[40];
    tvar bad, good;

    (void)state;
    for (int i = 0; i < 40; i++)
        x[i] = one[i] = 1.0f;
    x[33] = NAN;
    bad = t_data(t, x, 2, 20);
    good = t_data(t, one, 2, 20);
    for (int act = ACT_LINEAR; act <= ACT_GELU; act++) {
        is_nan(t, t_act(t, bad, (enum tape_act)act), "act");
        is_nan(t, t_dense(t, t_reshape(t, bad, 20, 2), t_data(t, one, 2, 18),
                          t_data(t, one, 1, 18), (enum tape_act)act), "dense");
    }
    is_nan(t, t_min(t, bad, good), "min");
    is_nan(t, t_min(t, good, bad), "min");
    is_nan(t, t_max(t, bad, good), "max");
    is_nan(t, t_max(t, good, bad), "max");
    is_nan(t, t_clip(t, bad, 0.0f, 1.0f), "clip");
    is_nan(t, t_huber(t, bad, 1.0f), "huber");
    is_nan(t, t_max_cols(t, bad), "max_cols");
    is_nan(t, t_softmax(t, bad, 0), "softmax");
    is_nan(t, t_log_softmax(t, bad, 5), "log_softmax");
    is_nan(t, t_logsumexp(t, bad), "logsumexp");
    assert_int_equal(tape_error(t), 0);
    tape_free(t);
}

static void the_first_error_stays(void **state) {
    struct tape *t = tape_new();
    float x[12] = { 0 };
    tvar a = t_data(t, x, 3, 4), bad;

    (void)state;
    bad = t_matmul(t, a, a);
    assert_int_equal(bad, TAPE_BAD);
    assert_int_equal(tape_error(t), -SKATE_EINVAL);
    assert_string_equal(tape_error_text(t), "matmul: 3 x 4 times 3 x 4");
    assert_int_equal(t_reshape(t, t_add(t, bad, a), 7, 7), TAPE_BAD);
    assert_int_equal(t_square(t, a), TAPE_BAD);
    assert_int_equal(tape_backward(t, t_sum(t, bad)), -SKATE_EINVAL);
    assert_string_equal(tape_error_text(t), "matmul: 3 x 4 times 3 x 4");
    assert_true(isnan(tape_scalar(t, bad)));
    assert_null(tape_value(t, bad));
    tape_reset(t);
    assert_int_equal(tape_error(t), 0);
    assert_string_equal(tape_error_text(t), "");
    tape_free(t);
}

static void expect_error(struct tape *t, tvar v, const char *text) {
    assert_int_equal(v, TAPE_BAD);
    assert_int_equal(tape_error(t), -SKATE_EINVAL);
    assert_string_equal(tape_error_text(t), text);
    tape_reset(t);
}

static void errors_name_operation_and_shapes(void **state) {
    static const int32_t wild[] = { 0, 4, 0 };
    struct tape *t = tape_new();
    static float x[12];
#define X t_data(t, x, 3, 4)

    (void)state;
    expect_error(t, t_add(t, t_data(t, x, 1, 4), X), "add: 1 x 4 and 3 x 4");
    expect_error(t, t_mul(t, X, t_data(t, x, 2, 4)), "mul: 3 x 4 and 2 x 4");
    expect_error(t, t_dense(t, X, X, X, ACT_TANH), "dense: 3 x 4 times 3 x 4 plus 3 x 4");
    expect_error(t, t_pick(t, X, wild), "pick: index 4 of row 1 is not in 0..3");
    expect_error(t, t_lookup(t, X, (const int32_t[]){ -1 }, 1),
                 "lookup: index -1 of row 0 is not in 0..2");
    expect_error(t, t_pick_block(t, X, wild, 3), "pick_block: blocks of 3 in 3 x 4");
    expect_error(t, t_softmax(t, X, 3), "softmax: groups of 3 in 3 x 4");
    expect_error(t, t_concat(t, X, t_data(t, x, 2, 4)), "concat: 3 x 4 and 2 x 4");
    expect_error(t, t_stack(t, X, t_data(t, x, 3, 3)), "stack: 3 x 4 on 3 x 3");
    expect_error(t, t_cols(t, X, 2, 3), "cols: 3 from 2 of 3 x 4");
    expect_error(t, t_rows(t, X, -1, 1), "rows: 1 from -1 of 3 x 4");
    expect_error(t, t_reshape(t, X, 5, 2), "reshape: 3 x 4 to 5 x 2");
    expect_error(t, t_data(t, x, 0, 4), "data: 0 x 4 is no size of a matrix");
    expect_error(t, t_rowmat(t, X, X, 3), "rowmat: rows of 3 x 4 times matrices of 3 in 3 x 4");
    expect_error(t, t_clip(t, X, 1.0f, 0.0f), "clip: from 1 to 0");
    expect_error(t, t_square(t, 99), "square: an operand is not on this tape");
    expect_error(t, t_act(t, X, (enum tape_act)77), "act: there is no activation 77");
    assert_int_equal(tape_backward(t, X), -SKATE_EINVAL);
    assert_string_equal(tape_error_text(t), "backward: the loss is 3 x 4, not 1 x 1");
    tape_reset(t);
    x[0] = INFINITY;
    assert_int_equal(tape_backward(t, t_sum(t, t_leaf(t, x, 3, 4))), -SKATE_EINVAL);
    assert_string_equal(tape_error_text(t), "backward: the loss is not finite");
    x[0] = 0.0f;
    tape_free(t);
}

static void no_gradient_where_none_is_wanted(void **state) {
    static const float x[] = { 1, 2, 3 };
    struct tape *t = tape_new();
    tvar data = t_data(t, x, 1, 3), leaf = t_leaf(t, x, 1, 3), stopped = t_stop(t, leaf);
    tvar aside = t_square(t, leaf), used = t_mul(t, leaf, stopped);

    (void)state;
    assert_int_equal(tape_backward(t, t_sum(t, t_mul(t, used, data))), 0);
    assert_null(tape_grad(t, data));
    assert_null(tape_grad(t, stopped));
    assert_null(tape_grad(t, aside));
    assert_memory_equal(tape_grad(t, leaf), ((float[]){ 1, 4, 9 }), 12);
    /* A second loss on the same tape has its own gradients. */
    assert_int_equal(tape_backward(t, t_sum(t, aside)), 0);
    assert_memory_equal(tape_grad(t, leaf), ((float[]){ 2, 4, 6 }), 12);
    assert_null(tape_grad(t, used));
    tape_free(t);
}

static tvar some_update(struct tape *t, struct params *p, const float *x, int rows) {
    tvar h = t_dense(t, t_data(t, x, rows, 8), t_param(t, p, 0), t_param(t, p, 1), ACT_TANH);
    tvar y = t_matmul(t, h, t_param(t, p, 0));

    return t_mean(t, t_logsumexp(t, t_concat(t, y, t_act(t, h, ACT_GELU))));
}

static struct params *some_params(void) {
    struct params *p = params_new();
    struct rl_rng r;

    rl_rng_init(&r, 3, 3);
    assert_int_equal(params_add(p, "w", 8, 8, PARAM_NORMC, 1.0f), 0);
    assert_int_equal(params_add(p, "b", 1, 8, PARAM_ZERO, 0.0f), 1);
    assert_int_equal(params_seal(p, &r), 0);
    return p;
}

static void a_warm_tape_allocates_nothing(void **state) {
    struct tape *t = tape_new();
    struct params *p = some_params();
    float *x = calloc(4096 * 8, sizeof *x), first[64];
    unsigned long warm = 0;

    (void)state;
    for (int i = 0; i < 4096 * 8; i++)
        x[i] = (float)(i % 13) * 0.1f;
    for (int round = 0; round < 6; round++) {
        tape_reset(t);
        params_zero_grad(p);
        assert_int_equal(tape_backward(t, some_update(t, p, x, 4096)), 0);
        tape_reset(t);          /* a smaller batch between */
        assert_int_equal(tape_error(t), 0);
        assert_true(isfinite(tape_scalar(t, some_update(t, p, x, 100))));
        if (round == 0)
            memcpy(first, p->grad, sizeof first);
        assert_memory_equal(first, p->grad, sizeof first);      /* the same bytes each time */
        if (round == 1)
            warm = t->allocations;
    }
    assert_true(warm > 0);
    assert_int_equal(t->allocations, warm);
    free(x);
    params_free(p);
    tape_free(t);
}

/* A value too large for the first block leaves that one empty; the others are reset as well. */
static void large_values_again_and_again(void **state) {
    enum { ROWS = 30000, COLS = 8 };
    float *x = malloc(sizeof(float) * ROWS * COLS);
    struct tape *t = tape_new();

    (void)state;
    for (int i = 0; i < ROWS * COLS; i++)
        x[i] = (float)(i % 7);
    for (int round = 0; round < 4; round++) {
        tvar v = t_data(t, x, ROWS, COLS);

        for (int k = 0; k < 3; k++)
            v = t_affine(t, v, 1.0f, 1.0f);
        assert_int_equal(tape_error(t), 0);
        for (int i = 0; i < ROWS * COLS; i++)
            assert_true(tape_value(t, v)[i] == x[i] + 3.0f);
        tape_reset(t);
    }
    tape_free(t);
    free(x);
}

static void gradients_of_parameters_add_up(void **state) {
    struct tape *t = tape_new();
    struct params *p = some_params();
    float x[16], once[64];

    (void)state;
    for (int i = 0; i < 16; i++)
        x[i] = (float)i * 0.05f;
    assert_int_equal(tape_backward(t, some_update(t, p, x, 2)), 0);
    memcpy(once, p->grad, sizeof once);
    tape_reset(t);
    assert_int_equal(tape_backward(t, some_update(t, p, x, 2)), 0);
    for (int i = 0; i < 64; i++)
        assert_true(fabsf(p->grad[i] - 2.0f * once[i]) <= 1e-6f);
    assert_int_equal(t_param(t, p, 0), t_param(t, p, 0));       /* one node for one tensor */
    assert_int_not_equal(t_param(t, p, 0), t_frozen(t, p, 0));
    assert_int_equal(t_param(t, p, 2), TAPE_BAD);
    assert_string_equal(tape_error_text(t), "param: there is no tensor 2");
    params_free(p);
    tape_free(t);
}

/* A column of ones times anything: sums that a float has exactly. */
static void products_of_many_rows(void **state) {
    static const int many[] = { 1, 63, 64, 255, 257, 300, 1023, 1025, 2100 };
    static float x[2100 * 5], w[5 * 3];
    struct tape *t = tape_new();

    (void)state;
    for (int i = 0; i < 2100 * 5; i++)
        x[i] = (float)(i % 7);
    for (int i = 0; i < 15; i++)
        w[i] = (float)(i % 4);
    for (size_t k = 0; k < sizeof many / sizeof *many; k++) {
        int n = many[k];
        float dw[5] = { 0 };
        tvar vx, vw, y;

        tape_reset(t);
        vx = t_leaf(t, x, n, 5);
        vw = t_leaf(t, w, 5, 3);
        y = t_matmul(t, vx, vw);
        assert_int_equal(tape_backward(t, t_sum(t, y)), 0);
        for (int r = 0; r < n; r++) {
            float want = 0.0f;

            for (int i = 0; i < 5; i++) {
                want += x[r * 5 + i] * w[i * 3 + 1];
                dw[i] += x[r * 5 + i];
                assert_true(tape_grad(t, vx)[r * 5 + i] == w[i * 3] + w[i * 3 + 1] + w[i * 3 + 2]);
            }
            assert_true(tape_value(t, y)[r * 3 + 1] == want);
        }
        for (int i = 0; i < 15; i++)
            assert_true(tape_grad(t, vw)[i] == dw[i / 3]);
    }
    tape_free(t);
}

/* Batches of every size: the kernels that they need have a bound. */
static void batches_of_any_size_need_few_plans(void **state) {
    static float x[5000], w[1] = { 2.0f };
    struct tape *t = tape_new();

    (void)state;
    for (int i = 0; i < 5000; i++)
        x[i] = 1.0f;
    for (int n = 1; n <= 5000; n++) {
        tape_reset(t);
        assert_true(tape_value(t, t_matmul(t, t_data(t, x, n, 1), t_data(t, w, 1, 1)))[n - 1] ==
                    2.0f);
    }
    assert_true(t->n_plans < 300);
    tape_free(t);
}

/* More shapes of products than the table of plans holds at once. */
static void many_shapes_of_products(void **state) {
    static float x[64 * 64], y[64];
    struct tape *t = tape_new();

    (void)state;
    for (int i = 0; i < 64 * 64; i++)
        x[i] = 1.0f;
    for (int i = 0; i < 64; i++)
        y[i] = 1.0f;
    for (int n = 1; n <= 64; n++)
        for (int k = 1; k <= 40; k++) {
            tape_reset(t);
            assert_true(tape_value(t, t_matmul(t, t_data(t, x, n, k), t_data(t, y, k, 1)))[n - 1] ==
                        (float)k);
        }
    assert_true(t->n_plans > 250 && t->n_plans <= 2048);    /* 2,560 shapes: it began anew */
    tape_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products),
        cmocka_unit_test(two_operands_of_any_shape),
        cmocka_unit_test(smaller_and_larger),
        cmocka_unit_test(one_operand),
        cmocka_unit_test(rows_and_columns),
        cmocka_unit_test(exponential_is_exact),
        cmocka_unit_test(large_numbers_stay_finite),
        cmocka_unit_test(nan_comes_through_everything),
        cmocka_unit_test(the_first_error_stays),
        cmocka_unit_test(errors_name_operation_and_shapes),
        cmocka_unit_test(no_gradient_where_none_is_wanted),
        cmocka_unit_test(a_warm_tape_allocates_nothing),
        cmocka_unit_test(large_values_again_and_again),
        cmocka_unit_test(gradients_of_parameters_add_up),
        cmocka_unit_test(products_of_many_rows),
        cmocka_unit_test(batches_of_any_size_need_few_plans),
        cmocka_unit_test(many_shapes_of_products),
    };

    return cmocka_run_group_tests_name("rl tape", tests, NULL, NULL);
}
