/* rl_math_test.c - random streams, the categorical distribution, advantages.
 * links: base rl. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "rl/dist.h"
#include "rl/gae.h"

static void streams_repeat_and_differ(void **state) {
    struct rl_rng a, b, c;
    int same = 0;

    (void)state;
    rl_rng_init(&a, 5, 1);
    rl_rng_init(&b, 5, 1);
    rl_rng_init(&c, 5, 2);
    for (int i = 0; i < 1000; i++) {
        uint64_t x = rl_rng_next(&a);

        assert_true(x == rl_rng_next(&b));
        same += x == rl_rng_next(&c);
    }
    assert_int_equal(same, 0);
}

static void draws_have_their_distributions(void **state) {
    struct rl_rng r;
    double sum = 0.0, square = 0.0, uniform = 0.0;
    int counts[7] = { 0 };

    (void)state;
    rl_rng_init(&r, 9, 0);
    for (int i = 0; i < 70000; i++) {
        double x = rl_rng_normal(&r);
        float u = rl_rng_float(&r);

        sum += x;
        square += x * x;
        assert_true(u >= 0.0f && u < 1.0f);
        uniform += (double)u;
        counts[rl_rng_below(&r, 7)]++;
    }
    assert_true(fabs(sum / 70000) < 0.02);
    assert_true(fabs(square / 70000 - 1.0) < 0.03);
    assert_true(fabs(uniform / 70000 - 0.5) < 0.01);
    for (int i = 0; i < 7; i++)
        assert_true(counts[i] > 9500 && counts[i] < 10500);
}

static void categorical_numbers(void **state) {
    const float logits[3] = { 1.0f, 2.0f, -30.0f };
    float lp[3], lq[3] = { logf(0.25f), logf(0.25f), logf(0.5f) };
    double z = exp(1.0) + exp(2.0) + exp(-30.0), p0 = exp(1.0) / z, p1 = exp(2.0) / z;
    struct rl_rng r;
    int counts[3] = { 0 };

    (void)state;
    dist_log_softmax(logits, lp, 3);
    assert_true(fabs((double)lp[0] - log(p0)) < 1e-6);
    assert_true(fabs((double)lp[2] - (-30.0 - log(z))) < 1e-5);
    assert_true(fabs((double)dist_entropy(lp, 3) + p0 * log(p0) + p1 * log(p1)) < 1e-5);
    assert_true(fabs((double)dist_kl(lp, lq, 3) -
                     (p0 * log(p0 / 0.25) + p1 * log(p1 / 0.25))) < 1e-5);
    assert_true(fabsf(dist_kl(lq, lq, 3)) < 1e-7f);
    assert_int_equal(dist_argmax(logits, 3), 1);
    rl_rng_init(&r, 1, 0);
    for (int i = 0; i < 20000; i++)
        counts[dist_sample(lp, 3, &r)]++;
    assert_true(fabs(counts[0] / 20000.0 - p0) < 0.015);
    assert_int_equal(counts[2], 0);
}

static void huge_logits_stay_finite(void **state) {
    const float logits[2] = { 1e30f, -1e30f };
    float lp[2];

    (void)state;
    dist_log_softmax(logits, lp, 2);
    assert_true(lp[0] == 0.0f);
    assert_true(isfinite(lp[1]));
    assert_true(isfinite(dist_entropy(lp, 2)));
}

/* Two segments by hand: one terminated, one cut; then a truncated one in another column. */
static void advantages_by_hand(void **state) {
    const float reward[4] = { 1, 2, 3, 4 }, value[4] = { 10, 20, 30, 40 };
    const float boot[4] = { 0, 999, 0, 5 };
    const uint8_t flags[4] = { 0, GAE_TERMINATED | GAE_TRUNCATED, 0, GAE_CUT };
    struct gae_column c = { reward, value, boot, flags, 4, 1 };
    float adv[4], target[4];
    double g = 0.5, l = 0.25, d3 = 4 + g * 5 - 40, d2 = 3 + g * 40 - 30, d1 = 2 - 20,
           d0 = 1 + g * 20 - 10;

    (void)state;
    gae_column(&c, 0.5f, 0.25f, adv, target);
    assert_true(fabs((double)adv[3] - d3) < 1e-5);
    assert_true(fabs((double)adv[2] - (d2 + g * l * d3)) < 1e-5);
    assert_true(fabs((double)adv[1] - d1) < 1e-5);
    assert_true(fabs((double)adv[0] - (d0 + g * l * d1)) < 1e-5);
    for (int i = 0; i < 4; i++)
        assert_true(fabsf(target[i] - (adv[i] + value[i])) < 1e-5f);
}

static void columns_are_strided(void **state) {
    const float reward[6] = { 1, 100, 1, 100, 1, 100 }, value[6] = { 0 };
    const float boot[6] = { 0, 0, 0, 0, 7, 0 };
    const uint8_t flags[6] = { 0, 0, 0, 0, GAE_TRUNCATED, GAE_TERMINATED };
    float adv[6], target[6];

    (void)state;
    for (size_t e = 0; e < 2; e++) {
        struct gae_column c = { reward + e, value + e, boot + e, flags + e, 3, 2 };

        gae_column(&c, 1.0f, 1.0f, adv + e, target + e);
    }
    assert_true(target[0] == 10.0f);        /* 1 + 1 + 1 + 7 */
    assert_true(target[4] == 8.0f);
    assert_true(target[1] == 300.0f);
    assert_true(target[5] == 100.0f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_repeat_and_differ),
        cmocka_unit_test(draws_have_their_distributions),
        cmocka_unit_test(categorical_numbers),
        cmocka_unit_test(huge_logits_stay_finite),
        cmocka_unit_test(advantages_by_hand),
        cmocka_unit_test(columns_are_strided),
    };

    return cmocka_run_group_tests_name("rl_math", tests, NULL, NULL);
}
