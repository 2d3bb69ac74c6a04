/* core_later_test.c - tasks that were ended for want of memory: how often again, how soon.
 * links: base wire own core */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/core_int.h"

enum { OTHERS_TOO = 1, ALONE = 2, OWN_LIMIT = 3, SECOND_MS = 1000 };
static struct core *c;

static int begin(void **state) {
    (void)state;
    c = calloc(1, sizeof *c);
    c->task_v = calloc(4, sizeof *c->task_v);
    c->classes = calloc(1, sizeof *c->classes);
    c->classes[0] = (struct sched_class){.head = NONE, .tail = NONE};
    c->task_count = c->task_cap = 4;
    c->class_count = 1;
    c->later.retries = -1;
    c->later.pause_ms = SECOND_MS;
    return 0;
}

static int end(void **state) {
    (void)state;
    free(c->later.v);
    free(c->classes);
    free(c->task_v);
    free(c);
    return 0;
}

/* Is it tried again? -1: no; else the pause in ms. */
static int64_t dies(uint32_t task, bool started, uint32_t cause) {
    int64_t pause = -5;

    return later_again(c, task, started, cause, &pause) ? pause / 1000000 : -1;
}

static void test_counts(void **state) {
    struct task *t = c->task_v;

    (void)state;
    t->retries = 1;
    assert_int_equal(dies(0, true, OTHERS_TOO), SECOND_MS);
    assert_int_equal(dies(0, true, OTHERS_TOO), 2 * SECOND_MS);
    assert_int_equal(t->attempt, 2);
    assert_int_equal(dies(0, false, OTHERS_TOO), 0); /* it had not begun: not counted */
    assert_int_equal(dies(0, true, 0), 0);           /* its one retry is still there */
    assert_int_equal(dies(0, true, 0), -1);
    assert_int_equal(dies(0, true, OTHERS_TOO), 4 * SECOND_MS);
    for (int i = 0; i < 100; i++) assert_true(dies(0, true, OTHERS_TOO) >= 8 * SECOND_MS);
    assert_int_equal(dies(0, true, OTHERS_TOO), 60 * SECOND_MS);
    assert_int_equal(dies(1, true, OTHERS_TOO), -1); /* max_retries=0: never */
    t[2].retries = -1;
    for (int i = 0; i < 100; i++) assert_true(dies(2, true, ALONE) > 0);
    t[2].cancelled = true;
    assert_int_equal(dies(2, true, OTHERS_TOO), -1);
}

/* Alone, or over its own limit: max_retries. A number given counts for both but the limit. */
static void test_alone(void **state) {
    struct task *t = c->task_v;

    (void)state;
    t[0].retries = t[1].retries = t[2].retries = 1;
    assert_int_equal(dies(0, true, ALONE), SECOND_MS);
    assert_int_equal(dies(0, true, ALONE), -1);
    c->later.retries = 2;
    assert_int_equal(dies(1, true, ALONE), SECOND_MS);
    assert_int_equal(dies(1, true, OTHERS_TOO), 2 * SECOND_MS);
    assert_int_equal(dies(1, true, ALONE), -1);
    assert_int_equal(dies(2, true, OWN_LIMIT), SECOND_MS);
    assert_int_equal(dies(2, true, OWN_LIMIT), -1);
    c->later.retries = 0;
    t[3].retries = 5;
    assert_int_equal(dies(3, true, OTHERS_TOO), -1);
    c->later.retries = -1;
    c->later.pause_ms = 0;
    assert_int_equal(dies(3, true, OTHERS_TOO), 0);
}

static void test_pauses(void **state) {
    (void)state;
    assert_true(later_left_ns(c, 1) < 0);
    assert_false(later_take(c, 1));
    later_add(c, 1, INT64_C(50000000000));
    later_add(c, 2, INT64_C(90000000000));
    assert_int_equal(c->classes[0].queued, 0);
    assert_in_range(later_left_ns(c, 1), INT64_C(1000000000), INT64_C(50000000000));
    assert_true(later_tick(c));
    assert_true(class_unqueue(c, 1)); /* out of its pause, as out of a queue */
    assert_true(later_left_ns(c, 1) < 0);
    assert_false(class_unqueue(c, 1));
    assert_true(later_take(c, 2));
    assert_false(later_tick(c));
    later_add(c, 3, 0); /* no pause: to its class */
    assert_int_equal(c->classes[0].head, 3);
    assert_int_equal(c->task_v[3].state, TASK_QUEUED);
    for (int i = 0; i < 100; i++) later_add(c, 1, INT64_C(90000000000));
    assert_int_equal(c->later.count, 100);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
    const struct CMUnitTest tests[] = {TEST(test_counts), TEST(test_alone), TEST(test_pauses)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
