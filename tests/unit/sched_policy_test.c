/* sched_policy_test.c - amounts, and the choice of a node. links: base sched */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/id.h"
#include "sched/policy.h"

static struct resources cpus(double n) {
    struct resources r = {0};

    assert_int_equal(resources_set(&r, "CPU", (int64_t)(n * RESOURCE_UNIT)), 0);
    return r;
}

static void add_node(struct sched_view *v, uint32_t node, double total, double avail) {
    struct sched_node *n = sched_view_add(v, node);

    assert_non_null(n);
    n->alive = true;
    n->total = cpus(total);
    n->avail = cpus(avail);
}

static int pick(struct sched_view *v, struct sched_ask ask, double want, uint32_t *ret) {
    struct resources r = cpus(want);

    ask.want = &r;
    return sched_pick(v, &ask, ret);
}

static void test_resources(void **state) {
    struct resources a = cpus(2), b = {0};
    uint8_t packed[RESOURCES_MAX * 80];
    const char *lack = NULL;
    char text[100];
    size_t n;

    (void)state;
    assert_int_equal(resources_set(&a, "gpu", 5000), 0);
    n = resources_pack(&a, packed, sizeof packed);
    assert_int_equal(resources_unpack(&b, packed, n), 0);
    assert_int_equal(resources_amount(&b, "gpu"), 5000);
    assert_string_equal(resources_text(&b, text, sizeof text), "2 CPU, 0.5 gpu");
    for (size_t cut = 1; cut < n; cut++)
        if (cut % 16) assert_int_equal(resources_unpack(&b, packed, cut), -SKATE_EPROTO);
    resources_take(&a, &(struct resources){.count = 1, .v = {{"CPU", 30000}}});
    assert_int_equal(resources_amount(&a, "CPU"), -10000); /* below zero is allowed */
    assert_false(resources_fit(&a, &(struct resources){.count = 1, .v = {{"CPU", 1}}}, &lack));
    assert_string_equal(lack, "CPU");
    assert_true(resources_fit(&a, &(struct resources){0}, NULL));
}

/* Here up to half; then others up to half; then the least busy one, here among equals. */
static void test_hybrid(void **state) {
    struct sched_view v = {.self = 2};
    struct sched_ask ask = {.strategy = SCHED_HYBRID};
    uint32_t node = 0;

    (void)state;
    add_node(&v, 3, 8, 8);
    add_node(&v, 1, 8, 4);
    add_node(&v, 2, 2, 2);
    assert_int_equal(v.nodes[0].node, 1); /* in order */
    assert_int_equal(pick(&v, ask, 1, &node), 0);
    assert_int_equal(node, 2);
    sched_view_find(&v, 2)->avail = cpus(1);
    assert_int_equal(pick(&v, ask, 1, &node), 0);
    assert_int_equal(node, 3); /* here it would be all */
    sched_view_find(&v, 3)->avail = cpus(1);
    sched_view_find(&v, 1)->avail = cpus(1);
    assert_int_equal(pick(&v, ask, 1, &node), 0);
    assert_int_equal(node, 2); /* all of it everywhere */
    sched_view_find(&v, 3)->avail = cpus(8);
    sched_view_find(&v, 1)->avail = cpus(4);
    sched_view_find(&v, 2)->avail = cpus(0);
    assert_int_equal(pick(&v, ask, 1, &node), 0);
    assert_int_equal(node, 3); /* 1 would be above half */
    sched_view_find(&v, 3)->avail = cpus(2);
    assert_int_equal(pick(&v, ask, 1, &node), 0);
    assert_int_equal(node, 1); /* both above half: the least busy */
    assert_int_equal(pick(&v, ask, 6, &node), -SKATE_EAGAIN);
    assert_int_equal(pick(&v, ask, 9, &node), -SKATE_ENOENT);
    sched_view_release(&v);
}

static void test_locality(void **state) {
    struct sched_view v = {.self = 1};
    uint64_t near[1] = {proc_make(3, 7)};
    struct sched_ask ask = {.locality = near, .locality_count = 1};
    uint32_t node = 0;

    (void)state;
    add_node(&v, 1, 1, 0);
    add_node(&v, 2, 4, 4);
    add_node(&v, 3, 4, 1);
    assert_int_equal(pick(&v, ask, 1, &node), 0);
    assert_int_equal(node, 3);
    assert_int_equal(pick(&v, ask, 2, &node), 0);
    assert_int_equal(node, 2);
    sched_view_find(&v, 1)->avail = cpus(1);
    assert_int_equal(pick(&v, ask, 1, &node), 0);
    assert_int_equal(node, 3); /* before here */
    sched_view_release(&v);
}

static void test_affinity(void **state) {
    struct sched_view v = {.self = 1};
    struct sched_ask hard = {.strategy = SCHED_AFFINITY, .affinity = 2};
    struct sched_ask soft = {.strategy = SCHED_SOFT, .affinity = 2};
    uint32_t node = 0;

    (void)state;
    add_node(&v, 1, 4, 4);
    add_node(&v, 2, 2, 0);
    assert_int_equal(pick(&v, hard, 1, &node), -SKATE_EAGAIN);
    assert_int_equal(pick(&v, soft, 1, &node), -SKATE_EAGAIN);
    assert_int_equal(pick(&v, hard, 3, &node), -SKATE_ENOENT);
    assert_int_equal(pick(&v, soft, 3, &node), 0); /* it can never run there */
    assert_int_equal(node, 1);
    sched_view_find(&v, 2)->avail = cpus(1);
    assert_int_equal(pick(&v, hard, 1, &node), 0);
    assert_int_equal(node, 2);
    sched_view_find(&v, 2)->alive = false;
    assert_int_equal(pick(&v, hard, 1, &node), -SKATE_ENOENT);
    assert_int_equal(pick(&v, soft, 1, &node), 0);
    assert_int_equal(node, 1);
    sched_view_release(&v);
}

static void test_spread(void **state) {
    struct sched_view v = {.self = 1};
    struct sched_ask ask = {.strategy = SCHED_SPREAD};
    uint32_t seen[4] = {0}, node = 0;

    (void)state;
    for (uint32_t n = 1; n <= 3; n++) add_node(&v, n, 4, 4);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(pick(&v, ask, 1, &node), 0);
        seen[node]++;
    }
    for (uint32_t n = 1; n <= 3; n++) assert_int_equal(seen[n], 2);
    sched_view_release(&v);
}

static void test_explain(void **state) {
    struct sched_view v = {.self = 1};
    struct resources want = cpus(64);
    struct sched_ask ask = {.want = &want};
    struct skate_error text = {""};

    (void)state;
    add_node(&v, 1, 1, 1);
    add_node(&v, 2, 2, 0);
    sched_explain(&v, &ask, "Task f", &text);
    assert_string_equal(text.text, "Task f needs 64 CPU, but the largest node has 2 CPU: it waits "
                                   "until a node that fits joins");
    ask.strategy = SCHED_AFFINITY;
    ask.affinity = 9;
    sched_explain(&v, &ask, "Task f", &text);
    assert_non_null(strstr(text.text, "node 9"));
    sched_view_release(&v);
}

static void test_times(void **state) {
    struct resources have = cpus(5), two = cpus(2), none = {0}, below = cpus(-1);

    (void)state;
    assert_int_equal(sched_times(&have, &two, 100), 2);
    assert_int_equal(sched_times(&have, &two, 1), 1);
    assert_int_equal(sched_times(&have, &none, 7), 7);
    assert_int_equal(sched_times(&below, &two, 7), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resources), cmocka_unit_test(test_hybrid),
        cmocka_unit_test(test_locality),  cmocka_unit_test(test_affinity),
        cmocka_unit_test(test_spread),    cmocka_unit_test(test_explain),
        cmocka_unit_test(test_times),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
