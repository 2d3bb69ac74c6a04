/* rl_tape_help.h - finite differences for the tests of the tape's operations: a trial builds one
 * operation on leaves, and check() compares each number of its gradients. */
#ifndef SKATE_TESTS_RL_TAPE_HELP_H
#define SKATE_TESTS_RL_TAPE_HELP_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "rl/nn/tape.h"
#include "rl/rl_rng.h"

enum { ROOM = 512, OPERANDS = 6 };

typedef tvar (*builder)(struct tape *t, const tvar *in);

struct shape {
    int rows, cols;
};

struct trial {
    const char *name;
    builder build;
    int n;
    struct shape in[OPERANDS];
    float low, high;            /* the operands' numbers; 0, 0: -1..1 */
};

static float operands[OPERANDS][ROOM];

static void fill(const struct trial *c) {
    struct rl_rng r;
    float low = c->low, high = c->high;

    if (low == 0.0f && high == 0.0f)
        low = -1.0f, high = 1.0f;
    rl_rng_init(&r, 7, 1);
    for (int k = 0; k < OPERANDS; k++)
        for (int i = 0; i < ROOM; i++)
            operands[k][i] = low + (high - low) * rl_rng_float(&r);
}

/* The loss is the sum of the result, each number with a weight of its own. */
static tvar loss_of(struct tape *t, const struct trial *c, tvar *in) {
    static float weights[ROOM * 4];
    struct rl_rng r;
    tvar out;

    for (int k = 0; k < c->n; k++)
        in[k] = t_leaf(t, operands[k], c->in[k].rows, c->in[k].cols);
    out = c->build(t, in);
    rl_rng_init(&r, 8, 2);
    for (int i = 0; i < ROOM * 4; i++)
        weights[i] = rl_rng_float(&r) + 0.3f;
    assert_string_equal(tape_error_text(t), "");
    assert_true(tape_rows(t, out) * tape_cols(t, out) <= ROOM * 4);
    return t_sum(t, t_mul(t, out, t_data(t, weights, tape_rows(t, out), tape_cols(t, out))));
}

static double loss_at(struct tape *t, const struct trial *c) {
    tvar in[OPERANDS];

    tape_reset(t);
    return (double)tape_scalar(t, loss_of(t, c, in));
}

static void check(const struct trial *c) {
    static float grads[OPERANDS][ROOM];
    const float step = 1e-2f;
    struct tape *t = tape_new();
    tvar in[OPERANDS];

    fill(c);
    assert_int_equal(tape_backward(t, loss_of(t, c, in)), 0);
    for (int k = 0; k < c->n; k++) {
        const float *g = tape_grad(t, in[k]);

        assert_non_null(g);
        memcpy(grads[k], g, sizeof(float) * (size_t)(c->in[k].rows * c->in[k].cols));
    }
    for (int k = 0; k < c->n; k++)
        for (int i = 0; i < c->in[k].rows * c->in[k].cols; i++) {
            float was = operands[k][i];
            double up, down, want, got = (double)grads[k][i];

            operands[k][i] = was + step;
            up = loss_at(t, c);
            operands[k][i] = was - step;
            down = loss_at(t, c);
            operands[k][i] = was;
            want = (up - down) / (2.0 * (double)step);
            if (fabs(want - got) > 4e-3 * (1.0 + fabs(want)))
                fail_msg("%s: operand %d, number %d: %g is not %g", c->name, k, i, got, want);
        }
    tape_free(t);
}

static void check_all(const struct trial *c, size_t n) {
    for (size_t i = 0; i < n; i++)
        check(&c[i]);
}

#define CHECK_ALL(list) check_all(list, sizeof list / sizeof *list)
#define BUILD(name, expression)                                                                \
    static tvar name(struct tape *t, const tvar *in) {                                         \
        return expression;                                                                     \
    }

#endif
