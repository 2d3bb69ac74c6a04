/* rl_noise_test.c - the noise table: moments, tails, and windows that agree wherever they begin.
 * links: base rl. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rl/own/noise.h"

enum { N = 400000 };

static void numbers_are_standard_normal(void **state) {
    float *x = malloc(N * sizeof(*x));
    double sum = 0.0, square = 0.0, cube = 0.0, fourth = 0.0, next = 0.0, apart = 0.0;
    int above[4] = { 0 };

    (void)state;
    noise_read(7, 12345, x, N);
    for (int i = 0; i < N; i++) {
        double y = (double)x[i];

        assert_true(isfinite(y));
        sum += y;
        square += y * y;
        cube += y * y * y;
        fourth += y * y * y * y;
        next += i ? y * (double)x[i - 1] : 0.0;
        apart += i > 1 ? y * y * (double)x[i - 1] * (double)x[i - 1] : 0.0;
        for (int k = 0; k < 4; k++)
            above[k] += y > k;
    }
    /* Five standard errors of each moment. */
    assert_true(fabs(sum / N) < 5 * sqrt(1.0 / N));
    assert_true(fabs(square / N - 1.0) < 5 * sqrt(2.0 / N));
    assert_true(fabs(cube / N) < 5 * sqrt(15.0 / N));
    assert_true(fabs(fourth / N - 3.0) < 5 * sqrt(96.0 / N));
    assert_true(fabs(next / N) < 5 * sqrt(1.0 / N));
    assert_true(fabs(apart / N - 1.0) < 5 * sqrt(8.0 / N));
    for (int k = 0; k < 4; k++) {
        double p = 0.5 * erfc(k / sqrt(2.0));

        assert_true(fabs(above[k] / (double)N - p) < 5 * sqrt(p * (1 - p) / N));
    }
    free(x);
}

static void windows_agree(void **state) {
    float whole[1000], part[1000];

    (void)state;
    noise_read(3, 1000, whole, 1000);
    for (int first = 0; first < 300; first += 7)
        for (int n = 1; n < 500; n += 83) {
            noise_read(3, 1000 + (uint64_t)first, part, (size_t)n);
            assert_memory_equal(part, whole + first, (size_t)n * sizeof(float));
        }
    memset(part, 0, sizeof(part));
    noise_add(3, 1000, 0.5f, part, 1000);
    noise_add(3, 1000, 0.5f, part, 1000);
    assert_memory_equal(part, whole, sizeof(whole));
    noise_add(3, 1000, -1.0f, part, 1000);
    for (int i = 0; i < 1000; i++)
        assert_true(part[i] == 0.0f);
}

static void seeds_differ(void **state) {
    float a[64], b[64];
    int same = 0;

    (void)state;
    noise_read(1, 0, a, 64);
    noise_read(2, 0, b, 64);
    for (int i = 0; i < 64; i++)
        same += a[i] == b[i];
    assert_int_equal(same, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_standard_normal),
        cmocka_unit_test(windows_agree),
        cmocka_unit_test(seeds_differ),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
