/* rl_random_test.c - RandomAgent: every space's actions, within their bounds, evenly.
 * links: base rl. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "rl/algo/algo.h"

enum { N = 4000 };

static struct algo *make(const struct algo_space *action, bool normalised) {
    double on = 1.0;
    struct algo_option option = { .key = "normalize_actions", .list = &on, .n = 1 };
    struct algo_setup s = { .obs = { .kind = ALGO_BOX, .size = 1 }, .action = *action,
                            .options = &option, .n_options = normalised, .seed = 4 };
    struct skate_error err = { "" };
    struct algo *a = NULL;

    if (algo_new("RandomAgent", &s, &a, &err) < 0)
        fail_msg("%s", err.text);
    return a;
}

static void whole_numbers_are_even(void **state) {
    static const int sizes[] = { 2, 5 };
    struct algo_space one = { .kind = ALGO_DISCRETE, .size = 5 };
    struct algo_space more = { .kind = ALGO_MULTI, .size = 2, .sizes = sizes };
    struct algo *a = make(&one, false), *b = make(&more, false);
    static float obs[N], mask[N * 5];
    static int32_t x[N], y[2 * N];
    struct algo_act io = { .n = N, .obs = obs, .actions = x };
    int counts[5] = { 0 }, parts[5] = { 0 };

    (void)state;
    assert_int_equal(algo_act(a, &io, NULL), 0);
    io.actions = y;
    assert_int_equal(algo_act(b, &io, NULL), 0);
    for (int i = 0; i < N; i++) {
        assert_in_range(x[i], 0, 4);
        assert_in_range(y[2 * i], 0, 1);
        assert_in_range(y[2 * i + 1], 0, 4);
        counts[x[i]]++;
        parts[y[2 * i + 1]]++;
    }
    for (int k = 0; k < 5; k++) {
        assert_in_range(counts[k], N / 5 - 130, N / 5 + 130);   /* five deviations */
        assert_in_range(parts[k], N / 5 - 130, N / 5 + 130);
    }
    for (int i = 0; i < N; i++)
        mask[5 * i + 1] = mask[5 * i + 4] = 1.0f;
    io.actions = x;
    io.mask = mask;
    assert_int_equal(algo_act(a, &io, NULL), 0);
    for (int i = 0; i < N; i++)
        assert_true(x[i] == 1 || x[i] == 4);
    mask[1] = mask[4] = 0.0f;
    assert_int_equal(algo_act(a, &io, NULL), -SKATE_EINVAL);
    algo_free(a);
    algo_free(b);
}

static void boxes_keep_their_bounds(void **state) {
    static const float low[] = { -3.0f, 2.0f, -INFINITY }, high[] = { -2.0f, INFINITY, INFINITY };
    struct algo_space box = { .kind = ALGO_BOX, .size = 3, .low = low, .high = high };
    struct algo *a = make(&box, false), *b = make(&box, true);
    static float obs[N], x[3 * N], y[3 * N];
    struct algo_act io = { .n = N, .obs = obs, .actions = x };
    double sum = 0.0;

    (void)state;
    assert_int_equal(algo_act(a, &io, NULL), 0);
    io.actions = y;
    assert_int_equal(algo_act(b, &io, NULL), 0);
    for (int i = 0; i < N; i++) {
        assert_true(x[3 * i] >= -3.0f && x[3 * i] <= -2.0f);
        assert_true(x[3 * i + 1] >= 2.0f && isfinite(x[3 * i + 1]));
        assert_true(isfinite(x[3 * i + 2]));
        assert_true(y[3 * i] >= -1.0f && y[3 * i] <= 1.0f);
        sum += (double)x[3 * i];
    }
    assert_true(fabs(sum / N + 2.5) < 5 * sqrt(1.0 / 12 / N));
    algo_free(a);
    algo_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_numbers_are_even),
        cmocka_unit_test(boxes_keep_their_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
