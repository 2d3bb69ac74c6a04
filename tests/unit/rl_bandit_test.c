/* rl_bandit_test.c - LinUCB and LinTS against direct solutions, and their regret on known arms.
 * links: base rl. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rl/algo/algo.h"

enum { D = 5, K = 4 };

static struct algo *bandit(const char *name, double alpha, uint64_t seed) {
    double numbers[] = { alpha, 2.0 };
    struct algo_option options[] = { { .key = "alpha", .list = numbers, .n = 1 },
                                     { .key = "lambda", .list = numbers + 1, .n = 1 } };
    struct algo_setup s = { .obs = { .kind = ALGO_BOX, .size = D },
                            .action = { .kind = ALGO_DISCRETE, .size = K },
                            .options = options, .n_options = 2, .seed = seed };
    struct skate_error err = { "" };
    struct algo *a = NULL;

    if (algo_new(name, &s, &a, &err) < 0)
        fail_msg("%s", err.text);
    return a;
}

static void learn(struct algo *a, float *obs, int32_t *actions, float *rewards, int n) {
    struct algo_batch b = { .rows = n, .steps = 1, .n_cols = 3, .cols = {
        { "obs", ALGO_F32, D, n, obs, false }, { "actions", ALGO_I32, 1, n, actions, false },
        { "rewards", ALGO_F32, 1, n, rewards, false } } };
    struct algo_stats st;
    struct skate_error err = { "" };

    if (algo_learn(a, &b, &st, &err) < 0)
        fail_msg("%s", err.text);
}

static int32_t act(struct algo *a, const float *obs, bool explore, float *inputs) {
    int32_t action = -1;
    struct algo_act io = { .n = 1, .obs = obs, .explore = explore, .actions = &action,
                           .inputs = inputs };

    assert_int_equal(algo_act(a, &io, NULL), 0);
    return action;
}

/* A x = b by elimination; A is used up. */
static void solve(double a[D][D], double *b) {
    for (int k = 0; k < D; k++)
        for (int i = k + 1; i < D; i++) {
            double f = a[i][k] / a[k][k];

            for (int j = k; j < D; j++)
                a[i][j] -= f * a[k][j];
            b[i] -= f * b[k];
        }
    for (int i = D - 1; i >= 0; i--) {
        for (int j = i + 1; j < D; j++)
            b[i] -= a[i][j] * b[j];
        b[i] /= a[i][i];
    }
}

static double dot(const double *x, const float *y) {
    double sum = 0.0;

    for (int i = 0; i < D; i++)
        sum += x[i] * (double)y[i];
    return sum;
}

static void context(struct rl_rng *rng, float *x) {
    for (int i = 0; i < D; i++)
        x[i] = rl_rng_float(rng) * 2.0f - 1.0f;
}

/* 300 rows into arm 1; the direct solution of its mean and width at x. */
static void teach(struct algo *a, const float *x, double *mean, double *width) {
    double gram[2][D][D] = { { { 0 } } }, f[D] = { 0 }, y[D];
    struct rl_rng rng;

    rl_rng_init(&rng, 3, 3);
    for (int i = 0; i < D; i++)
        gram[0][i][i] = gram[1][i][i] = 2.0;
    for (int n = 0; n < 300; n++) {
        float c[D], reward = rl_rng_float(&rng);
        int32_t arm = 1;

        context(&rng, c);
        for (int i = 0; i < D; i++) {
            f[i] += (double)reward * (double)c[i];
            for (int j = 0; j < D; j++) {
                gram[0][i][j] += (double)c[i] * (double)c[j];
                gram[1][i][j] = gram[0][i][j];
            }
        }
        learn(a, c, &arm, &reward, 1);
    }
    for (int i = 0; i < D; i++)
        y[i] = (double)x[i];
    solve(gram[0], f);
    solve(gram[1], y);
    *mean = dot(f, x);
    *width = dot(y, x);
}

static void scores_are_those_of_the_closed_form(void **state) {
    static const float x[D] = { 0.3f, -0.2f, 0.9f, 0.1f, -0.7f };
    struct algo *a = bandit("LinUCB", 1.7, 1), *t = bandit("LinTS", 1.7, 1);
    float inputs[K];
    double mean, width, sum = 0.0, square = 0.0;
    const int n = 20000;

    (void)state;
    teach(a, x, &mean, &width);
    act(a, x, false, inputs);
    assert_true(fabs((double)inputs[1] - mean) < 1e-6);
    assert_true(inputs[0] == 0.0f);
    act(a, x, true, inputs);
    assert_true(fabs((double)inputs[1] - mean - sqrt(1.7 * width)) < 1e-6);
    teach(t, x, &mean, &width);
    for (int i = 0; i < n; i++) {
        act(t, x, true, inputs);
        sum += (double)inputs[1];
        square += (double)inputs[1] * (double)inputs[1];
    }
    sum /= n;
    square = square / n - sum * sum;
    assert_true(fabs(sum - mean) < 5 * sqrt(1.7 * width / n));
    assert_true(fabs(square / (1.7 * width) - 1.0) < 5 * sqrt(2.0 / n));
    algo_free(a);
    algo_free(t);
}

/* The sum of what was lost against the best arm over n pulls. */
static double regret(struct algo *a, int n, bool explore) {
    float weights[K][D];
    struct rl_rng rng;
    double lost = 0.0;

    rl_rng_init(&rng, 11, 1);
    for (int k = 0; k < K; k++)
        context(&rng, weights[k]);
    for (int i = 0; i < n; i++) {
        float x[D], reward;
        double best = -1e9, mean[K];
        int32_t arm;

        context(&rng, x);
        for (int k = 0; k < K; k++) {
            mean[k] = 0.0;
            for (int j = 0; j < D; j++)
                mean[k] += (double)weights[k][j] * (double)x[j];
            best = mean[k] > best ? mean[k] : best;
        }
        arm = act(a, x, explore, NULL);
        lost += best - mean[arm];
        reward = (float)(mean[arm] + 0.3 * rl_rng_normal(&rng));
        learn(a, x, &arm, &reward, 1);
    }
    return lost;
}

static void regret_stays_small(void **state) {
    static const char *const names[] = { "LinUCB", "LinTS" };

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct algo *a = bandit(names[i], 0.5, 1);
        double first = regret(a, 400, true);
        double later = regret(a, 400, true);        /* the same problem, once more */

        assert_true(first < 60.0);                  /* blind choices: about 400 */
        assert_true(later < 25.0);
        algo_free(a);
    }
}

static void state_and_weights_carry_everything(void **state) {
    struct algo *a = bandit("LinTS", 1.0, 5), *b = bandit("LinTS", 1.0, 6);
    struct algo *c = bandit("LinTS", 1.0, 7);
    size_t bytes = algo_state_bytes(a), n = algo_n_weights(a);
    void *block = malloc(bytes);
    float *flat = malloc(n * sizeof(*flat)), x[D] = { 0.5f, 0.1f, 0.2f, 0.3f, 0.4f };
    float of_a[K], of_b[K];

    (void)state;
    regret(a, 50, true);
    algo_get_state(a, block);
    assert_int_equal(algo_set_state(b, block, bytes), 0);
    algo_get_weights(a, flat);
    algo_set_weights(c, flat, 1);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(act(a, x, true, of_a), act(b, x, true, of_b));
        assert_memory_equal(of_a, of_b, sizeof(of_a));
    }
    act(a, x, false, of_a);
    act(c, x, false, of_b);
    assert_memory_equal(of_a, of_b, sizeof(of_a));
    free(block);
    free(flat);
    algo_free(a);
    algo_free(b);
    algo_free(c);
}

static void wrong_spaces_are_named(void **state) {
    struct algo_setup s = { .obs = { .kind = ALGO_BOX, .size = D },
                            .action = { .kind = ALGO_BOX, .size = K } };
    struct skate_error err = { "" };
    struct algo *a = NULL;

    (void)state;
    assert_int_equal(algo_new("LinUCB", &s, &a, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "discrete"));
    s.action.kind = ALGO_DISCRETE;
    s.obs.size = 100000;
    assert_int_equal(algo_new("LinTS", &s, &a, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "context"));
}

static void masks_and_actions_are_kept(void **state) {
    struct algo *a = bandit("LinUCB", 1.0, 1);
    float x[D] = { 1.0f }, mask[K] = { 0.0f, 0.0f, 1.0f, 0.0f }, reward = 1.0f;
    int32_t action = -1, wrong = K;
    struct algo_act io = { .n = 1, .obs = x, .mask = mask, .actions = &action };
    struct algo_batch b = { .rows = 1, .steps = 1, .n_cols = 3, .cols = {
        { "obs", ALGO_F32, D, 1, x, false }, { "actions", ALGO_I32, 1, 1, &wrong, false },
        { "rewards", ALGO_F32, 1, 1, &reward, false } } };
    struct algo_stats st;
    struct skate_error err = { "" };

    (void)state;
    assert_int_equal(algo_act(a, &io, &err), 0);
    assert_int_equal(action, 2);
    mask[2] = 0.0f;
    assert_int_equal(algo_act(a, &io, &err), -SKATE_EINVAL);
    assert_int_equal(algo_learn(a, &b, &st, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "actions"));
    algo_free(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_are_those_of_the_closed_form),
        cmocka_unit_test(regret_stays_small),
        cmocka_unit_test(state_and_weights_carry_everything),
        cmocka_unit_test(wrong_spaces_are_named),
        cmocka_unit_test(masks_and_actions_are_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
