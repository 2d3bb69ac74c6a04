/* rl_picture_test.c - sizes of pictures against the definition: the integral over each area.
 * links: base rl. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "rl/picture.h"
#include "rl/rl_rng.h"

enum { SIDE = 40 };

static double overlap(double a, double b, double c, double d) {
    double low = a > c ? a : c, high = b < d ? b : d;

    return high > low ? high - low : 0.0;
}

/* The mean of a pixel's area, by looking at all pixels there are. */
static double mean_at(const struct picture_job *j, int y, int x, int c) {
    static const double grey[] = { 0.299, 0.587, 0.114 };
    double total = 0.0, h = (double)j->height / j->to_height, w = (double)j->width / j->to_width;

    for (int i = 0; i < j->height; i++) {
        for (int k = 0; k < j->width; k++) {
            const uint8_t *p = j->from + (i * j->width + k) * j->channels;
            double value = j->grey ? grey[0] * p[0] + grey[1] * p[1] + grey[2] * p[2] : p[c];

            total += value * overlap(y * h, (y + 1) * h, i, i + 1) *
                     overlap(x * w, (x + 1) * w, k, k + 1);
        }
    }
    return total / (h * w);
}

static void check(struct picture_job j) {
    int channels = j.grey ? 1 : j.channels;

    assert_int_equal(picture_resize(&j), 0);
    for (int y = 0; y < j.to_height; y++)
        for (int x = 0; x < j.to_width; x++)
            for (int c = 0; c < channels; c++) {
                double want = mean_at(&j, y, x, c);
                double have = j.to[(y * j.to_width + x) * channels + c];

                assert_true(fabs(have - want) <= 0.501);
            }
}

static void test_areas(void **state) {
    static uint8_t from[SIDE * SIDE * 4], to[SIDE * SIDE * 4];
    static const int sizes[][4] = { { 21, 16, 9, 8 }, { 40, 40, 20, 10 }, { 7, 5, 7, 5 },
                                    { 3, 4, 10, 9 }, { 1, 1, 5, 5 }, { 40, 33, 1, 1 } };
    struct rl_rng r;

    (void)state;
    rl_rng_init(&r, 3, 0);
    for (size_t i = 0; i < sizeof from; i++)
        from[i] = (uint8_t)(256.0f * rl_rng_float(&r));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const int *s = sizes[i];

        for (int channels = 1; channels <= 4; channels++)
            check((struct picture_job){ from, to, s[0], s[1], channels, s[2], s[3], false });
        check((struct picture_job){ from, to, s[0], s[1], 3, s[2], s[3], true });
    }
}

/* White stays white: shares add up to one, and nothing goes round at 255. */
static void test_white(void **state) {
    static uint8_t from[210 * 160 * 3], to[84 * 84];

    (void)state;
    for (size_t i = 0; i < sizeof from; i++)
        from[i] = 255;
    assert_int_equal(picture_resize(&(struct picture_job){ from, to, 210, 160, 3, 84, 84, true }),
                     0);
    for (size_t i = 0; i < sizeof to; i++)
        assert_int_equal(to[i], 255);
}

static void test_refused(void **state) {
    uint8_t from[12] = { 0 }, to[12];
    struct picture_job good = { from, to, 2, 2, 3, 2, 2, false }, bad[6];

    (void)state;
    for (int i = 0; i < 6; i++)
        bad[i] = good;
    bad[0].height = 0;
    bad[1].width = PICTURE_SIDE_MAX + 1;
    bad[2].channels = 5;
    bad[3].to_height = -1;
    bad[4].to_width = 0;
    bad[5].grey = true;
    bad[5].channels = 1;
    assert_int_equal(picture_resize(&good), 0);
    for (int i = 0; i < 6; i++)
        assert_int_equal(picture_resize(&bad[i]), -SKATE_EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_areas),
        cmocka_unit_test(test_white),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
