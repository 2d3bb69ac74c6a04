/* sched_bundle_fit_test.c - where bundles go, and which GPUs a lease gets. links: base sched */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "sched/bundle_fit.h"
#include "sched/gpus.h"

enum { UNIT = RESOURCE_UNIT };

static struct resources cpus(double n) {
    struct resources r = {0};

    assert_int_equal(resources_set(&r, "CPU", (int64_t)(n * UNIT)), 0);
    return r;
}

static void nodes(struct sched_view *v, const double *totals, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        struct sched_node *n = sched_view_add(v, i + 1);

        n->alive = true;
        n->total = n->avail = cpus(totals[i]);
    }
}

/* Place bundles on nodes; the nodes chosen as text, "" when it cannot be. */
static const char *placed(const double *totals, uint32_t n, const double *wants, uint32_t count,
                          enum group_strategy strategy) {
    static char text[64];
    struct sched_view v = {.self = 1};
    struct bundle_want b[8] = {0};
    int64_t before = 0, after = 0, asked = 0;
    int e;

    nodes(&v, totals, n);
    for (uint32_t i = 0; i < count; i++) {
        b[i].index = i;
        b[i].want = cpus(wants[i]);
        asked += b[i].want.v[0].amount;
    }
    for (uint32_t i = 0; i < n; i++) before += v.nodes[i].avail.v[0].amount;
    e = bundles_place(&v, b, count, strategy);
    for (uint32_t i = 0; i < n; i++) after += v.nodes[i].avail.v[0].amount;
    assert_int_equal(before - after, e == 0 ? asked : 0);
    for (uint32_t i = 0; i < count; i++) text[i] = (char)('0' + b[i].node);
    text[count] = 0;
    sched_view_release(&v);
    return e == 0 ? text : e == -SKATE_ENOENT ? "never" : "wait";
}

static void test_strategies(void **state) {
    const double four[] = {4, 4}, uneven[] = {1, 4}, one[] = {4}, two[] = {2, 2};
    const double ones[] = {1, 1, 1}, small_large[] = {1, 3};

    (void)state;
    assert_string_equal(placed(four, 2, ones, 3, GROUP_PACK), "111");
    assert_string_equal(placed(four, 2, ones, 3, GROUP_STRICT_PACK), "111");
    assert_string_equal(placed(four, 2, ones, 2, GROUP_STRICT_SPREAD), "12");
    assert_string_equal(placed(four, 2, ones, 3, GROUP_STRICT_SPREAD), "never");
    assert_string_equal(placed(four, 2, ones, 3, GROUP_SPREAD), "121");
    assert_string_equal(placed(one, 1, ones, 3, GROUP_SPREAD), "111");
    assert_string_equal(placed(two, 2, ones, 3, GROUP_PACK), "112");
    assert_string_equal(placed(two, 2, ones, 3, GROUP_STRICT_PACK), "never");
    /* The one that fits on one node only chooses first. */
    assert_string_equal(placed(uneven, 2, small_large, 2, GROUP_STRICT_SPREAD), "12");
    assert_string_equal(placed((double[]){4, 1}, 2, small_large, 2, GROUP_STRICT_SPREAD), "21");
    assert_string_equal(placed(one, 1, (double[]){5}, 1, GROUP_PACK), "never");
}

/* Not now, but when others end; dead nodes are none. */
static void test_full_and_dead(void **state) {
    struct sched_view v = {.self = 1};
    struct bundle_want b = {.want = cpus(2)};

    (void)state;
    nodes(&v, (double[]){2, 2}, 2);
    v.nodes[0].avail = cpus(1);
    v.nodes[1].avail = cpus(1);
    assert_int_equal(bundles_place(&v, &b, 1, GROUP_PACK), -SKATE_EAGAIN);
    v.nodes[0].alive = false;
    v.nodes[1].avail = cpus(2);
    assert_int_equal(bundles_place(&v, &b, 1, GROUP_PACK), 0);
    assert_int_equal(b.node, 2);
    b.node = 0;
    v.nodes[1].alive = false;
    assert_int_equal(bundles_place(&v, &b, 1, GROUP_PACK), -SKATE_ENOENT);
    sched_view_release(&v);
}

static void test_packed(void **state) {
    struct bundle_want b[2] = {{.index = 0, .node = 1, .want = cpus(1)},
                               {.index = 1, .node = 2, .want = cpus(2.5)}}, *back;
    uint32_t len, n;
    void *packed = bundles_pack(b, 2, 0, &len), *some;

    (void)state;
    assert_int_equal(bundles_unpack(packed, len, &back, &n), 0);
    assert_int_equal(n, 2);
    assert_int_equal(back[1].index, 1);
    assert_int_equal(resources_amount(&back[1].want, "CPU"), 25000);
    free(back);
    for (uint32_t cut = 1; cut < len; cut++)
        if (cut != len / 2) assert_true(bundles_unpack(packed, cut, &back, &n) < 0);
    free(packed);
    some = bundles_pack(b, 2, 2, &len);
    assert_int_equal(bundles_unpack(some, len, &back, &n), 0);
    assert_int_equal(n, 1);
    assert_int_equal(back[0].index, 1);
    free(back);
    free(some);
}

static const char *text(struct gpu_share s, const char *names) {
    static char out[64];

    return gpus_text(&s, names, out, sizeof out);
}

static void test_gpus(void **state) {
    struct gpus g, bundle;
    struct gpu_share half, other, two, again;

    (void)state;
    gpus_init(&g, 3 * UNIT);
    half = gpus_take(&g, UNIT / 2);
    other = gpus_take(&g, UNIT / 2);
    assert_string_equal(text(half, ""), "0");
    assert_string_equal(text(other, ""), "0"); /* two halves share one */
    assert_true(gpus_fit(&g, 2 * UNIT));
    two = gpus_take(&g, 2 * UNIT);
    assert_string_equal(text(two, ""), "1,2");
    assert_string_equal(text(two, "GPU-a,GPU-b,7"), "GPU-b,7");
    assert_false(gpus_fit(&g, 1));
    gpus_give(&g, &half);
    assert_false(gpus_fit(&g, UNIT)); /* half of it is another's */
    assert_true(gpus_fit(&g, UNIT / 2));
    gpus_give(&g, &two);
    /* A bundle of two GPUs gives them on, and what is left goes back. */
    two = gpus_take(&g, 2 * UNIT);
    gpus_add(&bundle, &two, g.count);
    again = gpus_take(&bundle, UNIT);
    assert_string_equal(text(again, ""), "1");
    gpus_move(&bundle, &g);
    assert_true(gpus_fit(&g, UNIT));
    assert_false(gpus_fit(&g, 2 * UNIT));
    gpus_give(&g, &again);
    gpus_give(&g, &other);
    assert_true(gpus_fit(&g, 3 * UNIT));
}

/* More than have numbers: amounts only. */
static void test_many_gpus(void **state) {
    struct gpus g;

    (void)state;
    gpus_init(&g, (int64_t)(GPUS_MAX + 1) * UNIT);
    assert_true(gpus_fit(&g, UNIT));
    assert_int_equal(gpus_take(&g, UNIT).ids, 0);
    gpus_init(&g, 0);
    assert_true(gpus_fit(&g, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strategies), cmocka_unit_test(test_full_and_dead),
        cmocka_unit_test(test_packed),     cmocka_unit_test(test_gpus),
        cmocka_unit_test(test_many_gpus),
    };

    return cmocka_run_group_tests_name("sched_bundle_fit", tests, NULL, NULL);
}
