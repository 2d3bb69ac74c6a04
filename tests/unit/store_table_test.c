/* store_table_test.c - the table against a plain array, over a random walk. links: base store */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "store/table.h"

enum { KEYS = 400, STEPS = 40000 };

static uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Whatever is set, replaced and taken: the table says what the array says. */
static void test_walk(void **state) {
    static int values[KEYS];
    void *model[KEYS] = {0};
    struct table t = {0};
    uint32_t seed = 7, count = 0;

    (void)state;
    for (int i = 0; i < STEPS; i++) {
        uint32_t k = next_random(&seed) % KEYS;
        uint64_t key = (uint64_t)k << 12; /* like offsets: low bits always 0 */

        if (next_random(&seed) % 2) {
            void *v = &values[next_random(&seed) % KEYS];

            assert_int_equal(table_set(&t, key, v), 0);
            if (!model[k]) count++;
            model[k] = v;
        } else {
            assert_ptr_equal(table_take(&t, key), model[k]);
            if (model[k]) count--;
            model[k] = NULL;
        }
        assert_int_equal(t.count, count);
        k = next_random(&seed) % KEYS;
        assert_ptr_equal(table_get(&t, (uint64_t)k << 12), model[k]);
    }
    table_release(&t);
}

static void test_next_sees_each_once(void **state) {
    struct table t = {0};
    uint64_t key, sum = 0;
    uint32_t at = 0, n = 0;

    (void)state;
    assert_null(table_next(&t, &at, NULL));
    for (uint64_t i = 1; i <= 100; i++) assert_int_equal(table_set(&t, i, &t), 0);
    at = 0;
    while (table_next(&t, &at, &key)) {
        sum += key;
        n++;
    }
    assert_int_equal(n, 100);
    assert_int_equal(sum, 5050);
    table_release(&t);
    assert_null(table_get(&t, 1));
    assert_null(table_take(&t, 1));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_walk),
                                       cmocka_unit_test(test_next_sees_each_once)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
