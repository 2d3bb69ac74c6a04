/* core_ages_test.c - how old objects are, from ids that are given out in order.
 * links: base loop wire store own core */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/holdings.h"

#define SECOND INT64_C(1000000000)

static void test_nothing_is_known(void **state) {
    struct ages a = {0};

    (void)state;
    assert_int_equal(ages_of(&a, 1, 5 * SECOND), 0);
    ages_note(&a, 10, 3 * SECOND);
    assert_int_equal(ages_of(&a, 11, 5 * SECOND), 0); /* younger than the last note */
    assert_int_equal(ages_of(&a, 10, 5 * SECOND), 2 * SECOND);
    assert_int_equal(ages_of(&a, 1, 5 * SECOND), 2 * SECOND); /* at least */
    assert_int_equal(ages_of(&a, 1, 2 * SECOND), 0);          /* the asker's clock is older */
}

static void test_a_second_apart(void **state) {
    struct ages a = {0};

    (void)state;
    ages_note(&a, 10, SECOND);
    ages_note(&a, 20, SECOND + 1); /* too soon */
    assert_int_equal(a.count, 1);
    ages_note(&a, 10, 9 * SECOND); /* nothing new */
    assert_int_equal(a.count, 1);
    ages_note(&a, 20, 9 * SECOND);
    assert_int_equal(a.count, 2);
}

/* A day of one object a second: the age told is never more than the true one, and less by a second
 * or a tenth at most. */
static void test_a_day(void **state) {
    const int64_t day = 24 * 3600;
    struct ages a = {0};

    (void)state;
    for (int64_t s = 1; s <= day; s++) ages_note(&a, (uint64_t)s, s * SECOND);
    assert_true(a.count <= AGES_MOST);
    for (uint32_t i = 1; i < a.count; i++) {
        assert_true(a.v[i].seq > a.v[i - 1].seq);
        assert_true(a.v[i].at_ns > a.v[i - 1].at_ns);
    }
    for (int64_t born = 1; born <= day; born += 7) {
        int64_t told = ages_of(&a, (uint64_t)born, day * SECOND) / SECOND, is = day - born;

        assert_true(told <= is);
        assert_true(is - told <= 1 + is / 10);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_known),
        cmocka_unit_test(test_a_second_apart),
        cmocka_unit_test(test_a_day),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
