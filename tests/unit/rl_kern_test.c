/* rl_kern_test.c - each table of kernels that this CPU can run, against libm and plain loops.
 * links: base rl. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rl/kern.h"
#include "rl/rl_rng.h"

enum { ROWS = 7, COLS = 53, N = ROWS * COLS };

static float x[N], y[N], bias[COLS];

static void fill(float *to, int n, float scale, uint64_t seed) {
    struct rl_rng r;

    rl_rng_init(&r, seed, 0);
    for (int i = 0; i < n; i++)
        to[i] = scale * (float)rl_rng_normal(&r);
}

#define EACH_TABLE(k)                                                                          \
    for (int table = 0; table < KERN_TABLES; table++)                                          \
        for (const struct kern_table *k = kern_nth(table); k; k = NULL)

static void tanh_is_close_and_bounded(void **state) {
    (void)state;
    EACH_TABLE(k) {
        fill(x, N, 4.0f, 1);
        fill(bias, COLS, 1.0f, 2);
        x[0] = 1e30f;
        x[1] = -1e30f;
        x[2] = 0.0f;
        bias[2] = 0.0f;
        memcpy(y, x, sizeof y);
        k->bias_act(y, bias, ROWS, COLS, KERN_TANH);
        for (int i = 0; i < N; i++) {
            double want = tanh((double)(x[i] + bias[i % COLS]));

            assert_true(fabs((double)y[i] - want) < 6e-7);
            assert_true(fabsf(y[i]) <= 1.0f);
        }
        assert_true(y[2] == 0.0f);
    }
}

static void nan_is_not_swallowed(void **state) {
    (void)state;
    EACH_TABLE(k) {
        float v[20], zero[20] = { 0 };

        for (int i = 0; i < 20; i++)
            v[i] = NAN;
        k->bias_act(v, zero, 1, 20, KERN_LINEAR);
        for (int i = 0; i < 20; i++)
            assert_true(isnan(v[i]));
        k->bias_act(v, zero, 1, 20, KERN_TANH);
        k->bias_act(v, zero, 1, 20, KERN_RELU);
        for (int i = 0; i < 20; i++)
            assert_true(isnan(v[i]));
        k->exp(v, 20);
        for (int i = 0; i < 20; i++)
            assert_true(isnan(v[i]));
        k->sigmoid(v, 20);
        for (int i = 0; i < 20; i++)
            assert_true(isnan(v[i]));
    }
}

static void exponentials_and_squares(void **state) {
    (void)state;
    EACH_TABLE(k) {
        double square = 0.0;

        fill(x, N, 20.0f, 8);
        x[0] = 100.0f;
        x[1] = -120.0f;
        memcpy(y, x, sizeof y);
        k->exp(y, N);
        assert_true(isinf(y[0]) && y[1] == 0.0f);
        for (int i = 2; i < N; i++)
            assert_true(fabs((double)y[i] - exp((double)x[i])) <= 3e-7 * exp((double)x[i]));
        memcpy(y, x, sizeof y);
        k->sigmoid(y, N);
        for (int i = 0; i < N; i++) {
            double want = 1.0 / (1.0 + exp(-(double)x[i]));

            assert_true(fabs((double)y[i] - want) <= 4e-7 * want + 1e-38);
            square += (double)x[i] * (double)x[i];
        }
        assert_true(fabs(k->norm2(x, N) - square) <= 1e-12 * square);
    }
}

static void other_activations_and_gradients(void **state) {
    (void)state;
    EACH_TABLE(k) {
        float d[N], h[N];

        fill(x, N, 1.0f, 3);
        fill(bias, COLS, 1.0f, 4);
        memcpy(h, x, sizeof h);
        k->bias_act(h, bias, ROWS, COLS, KERN_RELU);
        fill(d, N, 1.0f, 5);
        memcpy(y, d, sizeof y);
        k->act_back(y, h, N, KERN_RELU);
        for (int i = 0; i < N; i++) {
            float in = x[i] + bias[i % COLS];

            assert_true(h[i] == (in > 0.0f ? in : 0.0f));
            assert_true(y[i] == (in > 0.0f ? d[i] : 0.0f));
        }
        for (int i = 0; i < N; i++)
            h[i] = tanhf(x[i]);
        memcpy(y, d, sizeof y);
        k->act_back(y, h, N, KERN_TANH);
        for (int i = 0; i < N; i++)
            assert_true(fabsf(y[i] - d[i] * (1.0f - h[i] * h[i])) < 1e-6f);
    }
}

static void sums_and_transposes(void **state) {
    (void)state;
    EACH_TABLE(k) {
        float sum[COLS], t[COLS * 64];

        fill(x, N, 1.0f, 6);
        k->col_sum(sum, x, ROWS, COLS);
        for (int c = 0; c < COLS; c++) {
            double want = 0.0;

            for (int r = 0; r < ROWS; r++)
                want += (double)x[r * COLS + c];
            assert_true(fabs(want - (double)sum[c]) < 1e-5);
        }
        for (int rows = 1; rows <= 53; rows += 4) {     /* a block of rows x 7 out of x */
            k->transpose(t, 64, x, 7, rows, 7);
            for (int r = 0; r < rows; r++)
                for (int c = 0; c < 7; c++)
                    assert_true(t[c * 64 + r] == x[r * 7 + c]);
        }
        k->transpose(t, 64, x, COLS, ROWS, COLS);
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < COLS; c++)
                assert_true(t[c * 64 + r] == x[r * COLS + c]);
    }
}

static void adam_follows_the_paper(void **state) {
    (void)state;
    EACH_TABLE(k) {
        float p[COLS], g[COLS], m[COLS] = { 0 }, v[COLS] = { 0 };
        double dp[COLS], dm[COLS] = { 0 }, dv[COLS] = { 0 };

        fill(p, COLS, 1.0f, 7);
        for (int i = 0; i < COLS; i++)
            dp[i] = (double)p[i];
        for (int t = 1; t <= 20; t++) {
            struct kern_adam a = { 1e-2f, 0.9f, 0.999f, 1e-8f,
                                   (float)(1.0 / (1.0 - pow(0.9, t))),
                                   (float)(1.0 / sqrt(1.0 - pow(0.999, t))), 0.5f };

            fill(g, COLS, 0.1f, 100 + (uint64_t)t);
            g[3] = 0.0f;            /* never a gradient: must not move, nor become NaN */
            k->adam(&a, p, g, m, v, COLS);
            for (int i = 0; i < COLS; i++) {
                double gi = 0.5 * (double)g[i];

                dm[i] = 0.9 * dm[i] + 0.1 * gi;
                dv[i] = 0.999 * dv[i] + 0.001 * gi * gi;
                dp[i] -= 1e-2 * (dm[i] / (1.0 - pow(0.9, t))) /
                         (sqrt(dv[i] / (1.0 - pow(0.999, t))) + 1e-8);
                assert_true(fabs(dp[i] - (double)p[i]) < 3e-6);
            }
        }
    }
}

static void the_best_table_is_one_of_them(void **state) {
    int found = 0;

    (void)state;
    for (int i = 0; i < KERN_TABLES; i++)
        found |= kern_nth(i) == kern_get();
    assert_true(found);
    assert_non_null(kern_nth(0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tanh_is_close_and_bounded),
        cmocka_unit_test(nan_is_not_swallowed),
        cmocka_unit_test(exponentials_and_squares),
        cmocka_unit_test(other_activations_and_gradients),
        cmocka_unit_test(sums_and_transposes),
        cmocka_unit_test(adam_follows_the_paper),
        cmocka_unit_test(the_best_table_is_one_of_them),
    };

    return cmocka_run_group_tests_name("rl_kern", tests, NULL, NULL);
}
