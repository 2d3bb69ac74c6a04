/* gcs_demand_test.c - leases that wait at raylets: counted, placed, told of, forgotten.
 * links: base wire sched gcs. */
#include "gcs_rig_actors.h"
#include "sched/lease_queue.h"
#include "sched/policy.h"

struct say { /* a demand_report */
    uint64_t cls;
    double cpus, free; /* free < 0: not said */
    uint32_t count, seen, strategy, affinity, full, unused, not_there;
    const char *labels;
};

static void say(uint64_t link, struct say s) {
    uint8_t packed[200];
    struct wire_demand_report *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_DEMAND_REPORT);
    m->cls = s.cls;
    m->count = s.count;
    m->seen = s.seen;
    m->job = 1;
    m->strategy = s.strategy;
    m->affinity = s.affinity ? proc_make(s.affinity, 0) : 0;
    m->full = s.full;
    m->unused = s.unused;
    m->not_there = s.not_there;
    WIRE_PUT(&b, demand_report, name, "f", 1);
    if (s.free >= 0) {
        struct resources free_now = {.count = 1, .v = {{"CPU", (int64_t)(s.free * 10000)}}};
        size_t n = resources_pack(&free_now, packed, sizeof packed);

        WIRE_PUT(&b, demand_report, available, packed, n);
    }
    WIRE_PUT(&b, demand_report, resources, packed, pack("CPU", s.cpus, packed, sizeof packed));
    if (s.labels) WIRE_PUT(&b, demand_report, labels, s.labels, strlen(s.labels));
    give(link, 0, &b);
}

/* What the last step told that raylet: so many for a node; and of the rest. */
static uint32_t placed(uint64_t link, uint32_t node, int status) {
    const struct wire_demand_place *m;
    uint32_t sum = 0, n, k;

    for (uint32_t i = 0; (m = sent_nth(link, WIRE_DEMAND_PLACE, i)); i++) {
        const uint32_t *nodes = wire_demand_place_nodes(m, &n);
        const uint32_t *counts = wire_demand_place_counts(m, &k);

        assert_int_equal(n, k);
        for (uint32_t j = 0; j < n; j++) sum += nodes[j] == node ? counts[j] : 0;
        if (!sent_nth(link, WIRE_DEMAND_PLACE, i + 1)) assert_int_equal(m->status, status);
    }
    return sum;
}

static bool told(uint64_t link) { return sent(link, WIRE_DEMAND_PLACE) != NULL; }

static void test_placed_where_there_is_room(void **state) {
    (void)state;
    join(1, 2);
    join(2, 4);
    say(1, (struct say){.cls = 7, .cpus = 1, .count = 6, .free = 0});
    assert_int_equal(placed(1, 2, -SKATE_EAGAIN), 4);
    report(2, 0);
    assert_false(told(1));
    report(2, 1);
    assert_int_equal(placed(1, 2, -SKATE_EAGAIN), 1);
    say(1, (struct say){.cls = 7, .cpus = 1, .count = 1, .seen = 5, .free = 1});
    assert_int_equal(placed(1, 1, 0), 1);
    report(2, 4);
    assert_false(told(1));
}

/* A report that crossed a placement does not ask for those again. */
static void test_what_is_on_its_way_counts(void **state) {
    (void)state;
    join(1, 1);
    join(2, 4);
    say(1, (struct say){.cls = 7, .cpus = 1, .count = 6, .free = 0});
    assert_int_equal(placed(1, 2, -SKATE_EAGAIN), 4);
    say(1, (struct say){.cls = 7, .cpus = 1, .count = 7, .seen = 0, .free = 0});
    report(2, 4);
    assert_int_equal(placed(1, 2, 0), 3);
    say(1, (struct say){.cls = 7, .count = 0, .seen = 4, .free = -1});
    report(2, 4);
    assert_false(told(1));
}

static void test_sent_back_and_unused(void **state) {
    (void)state;
    join(1, 1);
    join(2, 2);
    say(1, (struct say){.cls = 7, .cpus = 1, .count = 2, .free = 0});
    assert_int_equal(placed(1, 2, 0), 2);
    say(1, (struct say){.cls = 7, .cpus = 1, .count = 1, .seen = 2, .free = 0, .full = 2});
    assert_int_equal(placed(1, 2, -SKATE_EAGAIN), 0);
    say(1, (struct say){.cls = 8, .cpus = 1, .count = 1, .free = -1});
    assert_int_equal(placed(1, 2, -SKATE_EAGAIN), 0);
    /* One of those that went to 2 was not wanted: there is room for one. */
    say(1, (struct say){.cls = 7, .cpus = 1, .count = 0, .free = -1, .unused = 1, .not_there = 2});
    assert_int_equal(placed(1, 2, 0), 1);
}

static void test_what_no_node_can_hold(void **state) {
    (void)state;
    join(1, 1);
    say(1, (struct say){.cls = 7, .cpus = 8, .count = 2, .free = 1});
    assert_int_equal(placed(1, 1, -SKATE_ENOENT), 0);
    HAS_TEXT((const struct wire_demand_place *)sent(1, WIRE_DEMAND_PLACE), demand_place, reason,
             "Task f needs 8 CPU, but the largest node has 1 CPU");
    join(2, 8);
    assert_int_equal(placed(1, 2, -SKATE_EAGAIN), 1);
    say(1, (struct say){.cls = 9, .cpus = 1, .count = 1, .strategy = SCHED_AFFINITY,
                        .affinity = 2, .free = 0});
    assert_int_equal(placed(1, 2, -SKATE_EAGAIN), 0);
    event(GCS_LINK_DOWN, 2, NULL, 0);
    now += 20 * (int64_t)SECOND;
    report(1, 0);
    event(GCS_TICK, 0, NULL, 0);
    report(1, 0);
}

/* Two raylets that want the same have turns. */
static void test_in_turn(void **state) {
    (void)state;
    join(1, 1);
    join(2, 1);
    join(3, 1);
    say(1, (struct say){.cls = 7, .cpus = 1, .count = 500, .free = 0});
    say(2, (struct say){.cls = 4, .cpus = 1, .count = 500, .free = 0});
    for (uint32_t i = 0; i < 4; i++) {
        report(3, 0);
        report(3, 1);
        assert_true(told(1) != told(2));
    }
    say(1, (struct say){.cls = 7, .count = 0, .seen = 3, .free = -1});
    report(3, 1);
    assert_true(told(2));
    assert_false(told(1));
}

static void ask_list(void) {
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    ((struct wire_list *)wire_begin(&b, WIRE_LIST))->what = 7;
    ((struct wire_head *)(void *)b.p)->call = 9;
    give(1, DRIVER, &b);
}

static void test_list(void **state) {
    const struct wire_demand_info *d;
    const struct wire_rows *rows;
    uint32_t len;

    (void)state;
    join(1, 1);
    say(1, (struct say){.cls = 7, .cpus = 8, .count = 3, .free = 1, .labels = "zone=a"});
    say(1, (struct say){.cls = 8, .cpus = 1, .count = 2, .free = 0});
    ask_list();
    rows = sent(DRIVER, WIRE_ROWS);
    assert_non_null(rows);
    assert_int_equal(rows->count, 2);
    d = (const void *)wire_rows_frames(rows, &len);
    assert_int_equal(d->head.kind, WIRE_DEMAND_INFO);
    assert_int_equal(d->count, 3);
    assert_int_equal(d->node, 1);
    assert_int_equal(d->status, -SKATE_ENOENT);
    HAS_TEXT(d, demand_info, labels, "zone=a");
    HAS_TEXT(d, demand_info, reason, "no node has such");
    d = (const void *)((const char *)d + ((d->head.size + 7) & ~7u));
    assert_int_equal(d->count, 2);
    assert_int_equal(d->status, -SKATE_EAGAIN);
    HAS_TEXT(d, demand_info, reason, "busy");
}

/* What makes no sense changes nothing. */
static void test_bad_input(void **state) {
    (void)state;
    join(1, 1);
    say(1, (struct say){.cls = 7, .cpus = 1, .count = 1, .strategy = 99, .free = 0});
    say(1, (struct say){.cls = 8, .cpus = 1, .count = 1, .labels = "=", .free = 0});
    say(1, (struct say){.cls = 9, .cpus = 1, .count = 0, .unused = UINT32_MAX, .not_there = 1,
                        .full = 77, .free = 0});
    say(1, (struct say){.cls = 9, .cpus = 1e13, .count = UINT32_MAX, .free = 1e13});
    ask_list();
    assert_int_equal(((const struct wire_rows *)sent(DRIVER, WIRE_ROWS))->count, 1);
}

/* One raylet with ever more kinds of demand fills its own part of the table, and nobody else's. */
static void test_too_many_kinds(void **state) {
    (void)state;
    join(1, 1);
    join(2, 1);
    for (uint32_t i = 1; i <= LEASES_CLASSES_MAX; i++) {
        say(1, (struct say){.cls = i, .cpus = 2 + i * 0.01, .count = 1, .free = -1});
        assert_int_equal(placed(1, 1, -SKATE_ENOENT), 0);
    }
    for (uint32_t i = 1; i < 100; i++) {
        say(1, (struct say){.cls = 10000 + i, .cpus = i * 0.001, .count = 1, .free = -1});
        assert_int_equal(placed(1, 1, -SKATE_EFULL), 0);
    }
    say(2, (struct say){.cls = 1, .cpus = 1, .count = 1, .free = 0});
    assert_int_equal(placed(2, 1, 0), 1);
    say(1, (struct say){.cls = 5, .count = 0, .free = -1}); /* one is gone: there is room for one */
    say(1, (struct say){.cls = 10001, .cpus = 1, .count = 1, .free = 1});
    assert_int_equal(placed(1, 1, 0), 1);
    say(1, (struct say){.cls = 10002, .cpus = 1, .count = 1, .free = 1});
    assert_int_equal(placed(1, 1, -SKATE_EFULL), 0);
}

/* Numbers at the ends of their types: the books stay within what the nodes have. */
static void test_absurd_numbers(void **state) {
    static const uint32_t numbers[] = {1, INT32_MAX, UINT32_C(1) << 31, UINT32_MAX};
    static const double amounts[] = {0.0001, 429496.7296, 1e13, 1e14};

    (void)state;
    join(1, 2);
    join(2, 2);
    for (uint32_t i = 0; i < 64; i++) {
        struct say s = {.cls = i + 1, .cpus = amounts[i & 3], .count = numbers[i >> 2 & 3],
                        .seen = numbers[i & 3], .unused = numbers[i >> 4], .not_there = 2,
                        .full = numbers[i >> 4], .affinity = numbers[i & 3],
                        .strategy = i % SCHED_STRATEGIES, .free = i & 1 ? 1e14 : 0};

        say(1, s);
        s.seen = numbers[i >> 4];
        s.count = 0;
        say(1, s);
    }
    /* It said that it had 1e14 CPUs free, and that those placed at node 2 were not wanted. */
    report(1, 1e14);
    say(2, (struct say){.cls = 1, .cpus = 1, .count = 10, .free = 2});
    assert_int_equal(placed(2, 1, -SKATE_EAGAIN), 2);
    ask_list();
    assert_int_equal(((const struct wire_rows *)sent(DRIVER, WIRE_ROWS))->count, 1);
}

static void all_kept(void) {
    struct gcs_records r = {0};

    (void)gcs_records_take(g, &r);
    gcs_records_release(&r);
    gcs_records_kept(g);
}

/* A raylet is not sent to a node that the log does not have yet: it has not heard of it, and might
 * never. */
static void test_on_a_node_that_is_kept(void **state) {
    struct gcs_opts opts = {.records = true};

    (void)state;
    g = gcs_free(g);
    assert_int_equal(gcs_new(&opts, &g), 0);
    join(1, 1);
    all_kept();
    join(2, 4);
    say(1, (struct say){.cls = 7, .cpus = 1, .count = 2, .free = 0});
    assert_int_equal(placed(1, 2, 0), 2);
    assert_true(out.acks && !out.changed); /* it waits for the log */
    all_kept();
    say(1, (struct say){.cls = 7, .cpus = 1, .count = 2, .seen = 2, .free = 0});
    assert_int_equal(placed(1, 2, 0), 2);
    assert_false(out.acks || out.changed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_placed_where_there_is_room, start, stop),
        cmocka_unit_test_setup_teardown(test_what_is_on_its_way_counts, start, stop),
        cmocka_unit_test_setup_teardown(test_sent_back_and_unused, start, stop),
        cmocka_unit_test_setup_teardown(test_what_no_node_can_hold, start, stop),
        cmocka_unit_test_setup_teardown(test_in_turn, start, stop),
        cmocka_unit_test_setup_teardown(test_list, start, stop),
        cmocka_unit_test_setup_teardown(test_bad_input, start, stop),
        cmocka_unit_test_setup_teardown(test_too_many_kinds, start, stop),
        cmocka_unit_test_setup_teardown(test_absurd_numbers, start, stop),
        cmocka_unit_test_setup_teardown(test_on_a_node_that_is_kept, start, stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
