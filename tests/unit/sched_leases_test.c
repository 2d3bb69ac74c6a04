/* sched_leases_test.c - the queue of lease requests: turns, counts, ends. links: base sched */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "sched/lease_queue.h"

static struct lease_class class_of(int64_t cpus) {
    struct lease_class c = {0};

    assert_int_equal(resources_set(&c.want, "CPU", cpus * RESOURCE_UNIT), 0);
    return c;
}

static void put(struct lease_queue *q, uint64_t owner, uint64_t req, uint32_t count,
                int64_t cpus) {
    struct lease_ask a = {.owner = owner, .req = req, .count = count, .job = (uint32_t)owner,
                          .name = "f"};
    struct lease_class c = class_of(cpus);

    assert_int_equal(leases_put(q, &a, &c, false), 0);
}

/* A thousand tasks of one owner do not starve the other. */
static void test_owners_in_turn(void **state) {
    struct lease_queue *q = leases_new(10);
    struct lease_class *c;
    uint32_t at = 0, served[3] = {0};

    (void)state;
    put(q, 1, 1, 1000, 1);
    put(q, 2, 1, 3, 1);
    c = leases_next_class(q, &at);
    assert_non_null(c);
    for (int i = 0; i < 6; i++) {
        served[c->first->owner]++;
        leases_served(q, c->first, 1);
    }
    assert_int_equal(served[1], 3);
    assert_int_equal(served[2], 3);
    assert_int_equal(leases_waiting(q), 997); /* the other's request is gone */
    assert_int_equal(c->asks, 1);
    leases_free(q);
}

/* The queue keeps its own copy of what the workers of a request need around them. */
static void test_environment_is_copied(void **state) {
    struct lease_queue *q = leases_new(10);
    char env[4] = "abc";
    struct lease_ask a = {.owner = 1, .req = 1, .count = 2, .env = env, .env_len = 4};
    struct lease_class c = class_of(1);
    uint32_t at = 0;

    (void)state;
    assert_int_equal(leases_put(q, &a, &c, false), 0);
    memset(env, 'x', sizeof env);
    at = 0;
    assert_memory_equal(leases_next_class(q, &at)->first->env, "abc", 4);
    leases_drop_owner(q, 1);
    leases_free(q);
}

static void test_same_name_replaces(void **state) {
    struct lease_queue *q = leases_new(10);
    struct lease_ask back = {.owner = 1, .req = 5, .count = 2};
    struct lease_class c = class_of(1);

    (void)state;
    put(q, 1, 5, 10, 1);
    put(q, 1, 5, 4, 1);
    assert_int_equal(leases_waiting(q), 4);
    assert_int_equal(leases_put(q, &back, &c, true), 0); /* came back from another node */
    assert_int_equal(leases_waiting(q), 6);
    back.count = UINT32_MAX;
    assert_int_equal(leases_put(q, &back, &c, true), 0);
    assert_int_equal(leases_waiting(q), UINT32_MAX);
    put(q, 1, 5, 0, 1);
    assert_int_equal(leases_waiting(q), 0);
    leases_free(q);
}

static void test_ends(void **state) {
    struct lease_queue *q = leases_new(10);

    (void)state;
    put(q, 1, 1, 1, 1);
    put(q, 1, 2, 1, 2);
    put(q, 2, 1, 1, 1);
    put(q, 3, 1, 1, 2);
    leases_cancel(q, 1, 7); /* no such request */
    leases_cancel(q, 2, 1);
    assert_int_equal(leases_waiting(q), 3);
    leases_drop_owner(q, 1);
    assert_int_equal(leases_waiting(q), 1);
    leases_free(q);
}

static void test_bounds(void **state) {
    struct lease_queue *q = leases_new(2);
    struct lease_ask a = {.owner = 9, .req = 9, .count = 1};
    struct lease_class c = class_of(1);

    (void)state;
    put(q, 1, 1, 1, 1);
    put(q, 1, 2, 1, 1);
    assert_int_equal(leases_put(q, &a, &c, false), -SKATE_EFULL);
    assert_int_equal(leases_waiting(q), 2);
    leases_free(q);
    q = leases_new(2);
    for (int64_t i = 0; i < 3 * LEASES_CLASSES_MAX; i++) { /* empty classes are used again */
        put(q, 1, 1, 1, i + 1);
        leases_cancel(q, 1, 1);
    }
    leases_free(q);
}

/* Each walk starts one class further, and sees each class with requests once. */
static void test_classes_in_turn(void **state) {
    struct lease_queue *q = leases_new(10);
    const struct lease_class *first[3];

    (void)state;
    for (int64_t i = 1; i <= 3; i++) put(q, 1, (uint64_t)i, 1, i);
    for (int i = 0; i < 3; i++) {
        uint32_t at = 0, n = 0;

        first[i] = leases_next_class(q, &at);
        for (n = 1; leases_next_class(q, &at); n++) {}
        assert_int_equal(n, 3);
        leases_turn(q);
    }
    assert_ptr_not_equal(first[0], first[1]);
    assert_ptr_not_equal(first[1], first[2]);
    leases_free(q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_owners_in_turn),
        cmocka_unit_test(test_environment_is_copied), cmocka_unit_test(test_same_name_replaces),
        cmocka_unit_test(test_ends),           cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_classes_in_turn),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
