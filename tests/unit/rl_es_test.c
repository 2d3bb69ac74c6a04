/* rl_es_test.c - ES and ARS: their updates against direct sums, the filter, rollouts, learning.
 * links: base rl. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rl/own/evo.h"
#include "rl/own/noise.h"

enum { OBS = 3, OUT = 2, WEIGHTS = OBS * OUT + OUT, PAIRS = 6 };

static double lr[] = { 0.05 }, l2[] = { 0.01 }, used[] = { 3 }, rollouts[] = { 6 };

static struct algo *make(const char *name, const char *filter, int obs, int out, uint64_t seed) {
    bool ars = strcmp(name, "ARS") == 0;
    struct algo_option es[] = { { .key = "fcnet_hiddens", .is_list = true, .list = lr, .n = 0 },
                                { .key = "observation_filter", .text = filter },
                                { .key = "stepsize", .list = lr, .n = 1 },
                                { .key = "l2_coeff", .list = l2, .n = 1 } };
    struct algo_option rs[] = { es[0], es[1], { .key = "sgd_stepsize", .list = lr, .n = 1 },
                                { .key = "rollouts_used", .list = used, .n = 1 },
                                { .key = "num_rollouts", .list = rollouts, .n = 1 } };
    struct algo_setup s = { .obs = { .kind = ALGO_BOX, .size = obs },
                            .action = { .kind = ALGO_DISCRETE, .size = out },
                            .options = ars ? rs : es, .n_options = ars ? 5 : 4, .seed = seed };
    struct skate_error err = { "" };
    struct algo *a = NULL;

    if (algo_new(name, &s, &a, &err) < 0)
        fail_msg("%s", err.text);
    return a;
}

struct rows {
    int n;
    int32_t positions[64];
    float returns[128];
    float count[64], mean[64 * 8], m2[64 * 8];
};

static int learn(struct algo *a, struct rows *r, bool filter, struct algo_stats *st) {
    int obs = a->obs.size;
    struct algo_batch b = { .rows = r->n, .steps = 1, .n_cols = filter ? 5 : 2, .cols = {
        { "positions", ALGO_I32, 1, r->n, r->positions, false },
        { "returns", ALGO_F32, 2, r->n, r->returns, false },
        { "filter_count", ALGO_F32, 1, r->n, r->count, false },
        { "filter_mean", ALGO_F32, obs, r->n, r->mean, false },
        { "filter_m2", ALGO_F32, obs, r->n, r->m2, false } } };
    struct skate_error err = { "" };
    int e = algo_learn(a, &b, st, &err);

    if (e < 0)
        assert_true(err.text[0] != '\0');
    return e;
}

static const struct rows six = { .n = PAIRS, .positions = { 5, 100, 1000, 7, 123456, 249000000 },
                                 .returns = { 1, 2, 9, 3, 3, 4, 0, -5, 6, 6, 2.5f, 8 } };

static void es_steps_along_ranked_directions(void **state) {
    /* ranks of -5 0 1 2 2.5 3 3 4 6 6 8 9, ties in the middle, minus one half of 11 */
    static const double ranks[PAIRS][2] = { { 2, 3 }, { 11, 5.5 }, { 5.5, 7 }, { 1, 0 },
                                            { 8.5, 8.5 }, { 4, 10 } };
    struct algo *a = make("ES", "NoFilter", OBS, OUT, 3);
    float before[WEIGHTS], after[WEIGHTS], noise[WEIGHTS];
    struct rows r = six;
    struct algo_stats st;

    (void)state;
    assert_int_equal(algo_n_weights(a), WEIGHTS);
    algo_get_weights(a, before);
    assert_int_equal(learn(a, &r, false, &st), 0);
    algo_get_weights(a, after);
    for (int i = 0; i < WEIGHTS; i++) {
        double g = 0.01 * (double)before[i];

        for (int k = 0; k < PAIRS; k++) {
            noise_read(123, (uint64_t)r.positions[k], noise, WEIGHTS);
            g -= (ranks[k][0] - ranks[k][1]) / 11.0 / 12.0 * (double)noise[i];
        }
        /* Adam's first step has the length of its rate. */
        assert_true(fabs((double)before[i] - 0.05 * g / (fabs(g) + 1e-8) - (double)after[i]) <
                    1e-4);
    }
    assert_string_equal(st.names[2], "update_ratio");
    algo_free(a);
}

static void ars_steps_along_the_best(void **state) {
    /* the best of each pair: 2 9 4 0 6 8; three of six are used: above their median 5 */
    static const int best[] = { 1, 4, 5 };
    struct algo *a = make("ARS", "NoFilter", OBS, OUT, 3);
    float before[WEIGHTS], after[WEIGHTS], noise[WEIGHTS];
    struct rows r = six;
    struct algo_stats st;
    double mean = (9 + 3 + 6 + 6 + 2.5 + 8) / 6, deviation = 0.0;

    (void)state;
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 2; i++)
            deviation += pow((double)r.returns[2 * best[k] + i] - mean, 2) / 6;
    deviation = sqrt(deviation);
    algo_get_weights(a, before);
    assert_int_equal(learn(a, &r, false, &st), 0);
    algo_get_weights(a, after);
    for (int i = 0; i < WEIGHTS; i++) {
        double g = 0.0;

        for (int k = 0; k < 3; k++) {
            noise_read(123, (uint64_t)r.positions[best[k]], noise, WEIGHTS);
            g += (double)(r.returns[2 * best[k]] - r.returns[2 * best[k] + 1]) *
                 (double)noise[i] / 3 / deviation;
        }
        assert_true(fabs((double)before[i] + 0.05 * g - (double)after[i]) < 1e-5);
    }
    algo_free(a);
}

static void bad_rows_change_nothing(void **state) {
    struct algo *a = make("ES", "NoFilter", OBS, OUT, 3);
    float before[WEIGHTS], after[WEIGHTS];
    struct algo_stats st;
    struct rows r = six;

    (void)state;
    algo_get_weights(a, before);
    r.positions[2] = 250000000 - WEIGHTS + 1;
    assert_int_equal(learn(a, &r, false, &st), -SKATE_EINVAL);
    r = six;
    r.returns[3] = NAN;
    assert_int_equal(learn(a, &r, false, &st), -SKATE_EINVAL);
    algo_get_weights(a, after);
    assert_memory_equal(before, after, sizeof(before));
    algo_free(a);
}

/* Rollouts of a policy that is shown given observations: what the filter has then. */
static void the_filter_standardises(void **state) {
    struct algo *a = make("ES", "MeanStdFilter", 1, OUT, 3);
    struct algo *worker = make("ES", "MeanStdFilter", 1, OUT, 4);
    struct evo_rules rules = { .explore = false };
    struct evo *e = NULL;
    struct rows r = { .n = 2, .positions = { 1, 2 }, .returns = { 1, 2, 3, 4 } };
    struct algo_stats st;
    float raw[2] = { 1000.0f, 1006.0f }, flat[64], counts[3];
    int32_t actions[2];
    float inputs[4], expected[4];
    struct algo_act io = { .n = 2, .obs = raw, .actions = actions, .inputs = inputs };
    int at = 1;
    size_t n = algo_n_weights(a);

    (void)state;
    assert_true(n <= 64);
    assert_int_equal(evo_new(worker, 123, &e), 0);
    algo_get_weights(a, flat);
    evo_weights(e, flat);
    for (int row = 0; row < 2; row++) {
        evo_start(e, 0, 0.0f, 9);
        for (int i = 0; i < 4; i++, at++) {         /* 1001 .. 1008 */
            float obs = (float)(1000 + at);
            int32_t action;

            assert_int_equal(evo_act(e, &obs, &action, &rules, NULL), 0);
        }
        evo_counts(e, counts);
        r.count[row] = counts[0];
        r.mean[row] = counts[1];
        r.m2[row] = counts[2];
    }
    assert_true(r.count[0] == 4.0f && r.mean[0] == 1002.5f && r.m2[0] == 5.0f);
    assert_int_equal(learn(a, &r, true, &st), 0);
    /* mean 1004.5, variance 6: 1000 is -1.837 deviations away. With the net's weights w, b: */
    algo_get_weights(a, flat);
    assert_int_equal(algo_act(a, &io, NULL), 0);
    for (int row = 0; row < 2; row++)
        for (int k = 0; k < OUT; k++)
            expected[row * OUT + k] = flat[OUT + k] + flat[k] * (float)(
                ((double)raw[row] - 1004.5) / (sqrt(6.0) + 1e-8));
    for (int i = 0; i < 4; i++)
        assert_true(fabsf(inputs[i] - expected[i]) < 1e-5f);
    raw[0] = 1e9f;                                  /* cut at 10 */
    assert_int_equal(algo_act(a, &io, NULL), 0);
    assert_true(fabsf(inputs[0] - flat[OUT] - 10.0f * flat[0]) < 1e-4f);
    evo_free(e);
    algo_free(worker);
    algo_free(a);
}

static struct rl_env *cartpole(void) {
    struct rl_env_opts o = { .name = "CartPole-v0", .lanes = 1, .max_steps = -1,
                             .mode = RL_ENV_NEVER };
    struct rl_env *env = NULL;

    assert_int_equal(rl_env_open(&o, &env, NULL), 0);
    return env;
}

/* Iterations of ARS on CartPole-v0, all in C; the mean return of the last one's directions. */
static float train(struct algo *a, int iterations, float *flat) {
    struct algo *worker = make("ARS", "MeanStdFilter", 4, 2, 1);
    struct rl_env *env = cartpole();
    struct evo *e = NULL;
    struct rl_rng rng;
    struct rows r = { .n = 12 };
    struct algo_stats st;
    float mean = 0.0f;

    rl_rng_init(&rng, 1, 1);
    assert_int_equal(evo_new(worker, 123, &e), 0);
    for (int i = 0; i < iterations; i++) {
        algo_get_weights(a, flat);
        evo_weights(e, flat);
        mean = 0.0f;
        for (int k = 0; k < r.n; k++) {
            float counts[9];

            r.positions[k] = (int32_t)rl_rng_below(&rng, 1000000);
            for (int s = 0; s < 2; s++) {
                struct evo_rules rules = { .seed = rl_rng_next(&rng) >> 1, .explore = true };
                struct evo_played played;

                evo_start(e, (uint64_t)r.positions[k], s ? -0.1f : 0.1f, rules.seed);
                assert_int_equal(evo_play(e, env, &rules, &played, NULL), 0);
                assert_true(played.reward == played.length && played.signs == played.reward);
                r.returns[2 * k + s] = (float)played.reward;
                mean += (float)played.reward / (float)(2 * r.n);
            }
            evo_counts(e, counts);
            r.count[k] = counts[0];
            memcpy(r.mean + 4 * k, counts + 1, 4 * sizeof(float));
            memcpy(r.m2 + 4 * k, counts + 5, 4 * sizeof(float));
        }
        assert_int_equal(learn(a, &r, true, &st), 0);
    }
    algo_get_weights(a, flat);
    evo_free(e);
    rl_env_free(env);
    algo_free(worker);
    return mean;
}

static void ars_learns_and_repeats(void **state) {
    struct algo *a, *b;
    float one[64] = { 0 }, two[64] = { 0 }, mean;

    (void)state;
    lr[0] = 0.3;
    a = make("ARS", "MeanStdFilter", 4, 2, 1);
    b = make("ARS", "MeanStdFilter", 4, 2, 1);
    mean = train(a, 60, one);
    assert_true(mean > 120.0f);         /* it begins at about 20 */
    assert_true(train(b, 60, two) == mean);
    assert_memory_equal(one, two, algo_n_weights(a) * sizeof(float));
    algo_free(a);
    algo_free(b);
    lr[0] = 0.05;
}

static void other_spaces_are_refused(void **state) {
    struct algo *a = make("ARS", "NoFilter", 4, 3, 1);
    struct rl_env *env = cartpole();
    struct evo_rules rules = { .seed = 1 };
    struct evo_played played;
    struct skate_error err = { "" };
    struct evo *e = NULL;

    (void)state;
    assert_int_equal(evo_new(a, 123, &e), 0);
    assert_int_equal(evo_play(e, env, &rules, &played, &err), -SKATE_EINVAL);
    assert_non_null(strstr(err.text, "action space"));
    evo_free(e);
    rl_env_free(env);
    algo_free(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(es_steps_along_ranked_directions),
        cmocka_unit_test(ars_steps_along_the_best),
        cmocka_unit_test(bad_rows_change_nothing),
        cmocka_unit_test(the_filter_standardises),
        cmocka_unit_test(ars_learns_and_repeats),
        cmocka_unit_test(other_spaces_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
