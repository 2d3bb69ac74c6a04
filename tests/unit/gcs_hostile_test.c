/* gcs_hostile_test.c - the control store against frames of every newer kind in shapes that liars
 * and mistaken programs send, from processes, raylets and strangers; then it still serves. The rig
 * is that of tests/fuzz/fuzz_gcs.c. links: base wire sched gcs. */
#include "../fuzz/fuzz_gcs.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "sched/policy.h"

#include "hostile.c"

static int start(void **state) {
    struct gcs_opts opts = {.actors_max = 8, .dead_max = 3, .subs_max = 12, .kv_bytes = 2000,
                            .spec_bytes = 100000, .jobs_max = 6, .nodes_max = 12};

    (void)state;
    assert_int_equal(gcs_new(&opts, &store), 0);
    start_over();
    for (uint32_t i = 0; i < 3; i++) join(i, i + 1, 0);
    start_job(proc_make(1, 1));
    return 0;
}

static int stop(void **state) {
    (void)state;
    store = gcs_free(store);
    gcs_out_release(&out);
    return 0;
}

/* The answer of this kind to call 9, among what the last step sent. */
static const void *answer(uint16_t kind) {
    for (uint32_t i = 0; i < out.count; i++) {
        const struct wire_route *r = (const void *)(out.bytes + out.sends[i].at);
        const struct wire_head *head = (const void *)r;
        uint32_t len;

        if (out.sends[i].close) continue;
        if (head->kind == WIRE_ROUTE) head = (const void *)wire_route_frame(r, &len);
        if (head->kind == kind && head->call == 9) return head;
    }
    return NULL;
}

static int ask(struct wire_buf *b) {
    const struct wire_status *s;

    assert_int_equal(wire_end(b), 0);
    give_frame(links[0], proc_make(1, 1), b);
    wire_release(b);
    s = answer(WIRE_STATUS);
    assert_non_null(s);
    return s->status;
}

static struct skate_id group_made(void) {
    static uint64_t n = 1000;
    struct skate_id id = {++n, 5};
    uint32_t bundle[2] = {0, 0};
    struct wire_group_create *create;
    struct resources want = {0};
    uint8_t packed[128];
    struct wire_buf b;

    assert_int_equal(resources_set(&want, "CPU", 10000), 0);
    bundle[1] = (uint32_t)resources_pack(&want, packed + 8, sizeof packed - 8);
    memcpy(packed, bundle, sizeof bundle);
    wire_init(&b, NULL, 0);
    create = wire_begin(&b, WIRE_GROUP_CREATE);
    create->head.call = 9;
    create->group = id;
    create->creator = proc_make(1, 1);
    create->job = 1;
    WIRE_PUT(&b, group_create, bundles, packed, (8 + bundle[1] + 7) & ~7u);
    assert_int_equal(ask(&b), 0);
    return id;
}

static void group_gone(struct skate_id id) {
    struct wire_group_remove *away;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    away = wire_begin(&b, WIRE_GROUP_REMOVE);
    away->head.call = 9;
    away->group = id;
    assert_int_equal(ask(&b), 0);
}

/* A group comes and goes as if nothing had been. */
static void serves(void) { group_gone(group_made()); }

static void every_kind(void **state) {
    const struct skate_id ids[] = {{1, 1}, {proc_make(1, 1), 1}, {proc_make(2, 0), 2},
                                   {proc_make(9, 9), UINT64_MAX}};
    const uint64_t sources[] = {0, proc_make(1, 1), proc_make(1, 0), proc_make(3, 7), UINT64_MAX};

    (void)state;
    for (uint32_t kind = FIRST_KIND; kind < wire_info_count; kind++)
        for (int shape = 0; kind_exists(kind) && kind != WIRE_NODE_BYE && shape < SHAPES; shape++) {
            for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
                for (size_t k = 0; k < sizeof sources / sizeof *sources; k++) {
                    struct wire_buf b;

                    shape_frame(&b, kind, (enum shape)shape, &ids[i]);
                    give_frame(links[0], sources[k], &b);
                    give_frame(links[0], sources[k], &b);
                    give_frame(4711, sources[k], &b); /* a link that nobody opened */
                    wire_release(&b);
                }
            now += 1000000;
            serves();
        }
}

static uint32_t state_of(struct skate_id id) {
    const struct wire_group_info *info;
    struct wire_group_get *get;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    get = wire_begin(&b, WIRE_GROUP_GET);
    get->head.call = 9;
    get->group = id;
    assert_int_equal(wire_end(&b), 0);
    give_frame(links[0], proc_make(1, 1), &b);
    wire_release(&b);
    info = answer(WIRE_GROUP_INFO);
    assert_non_null(info);
    return info->state;
}

static void reserved(uint64_t link, uint64_t src, struct skate_id id, uint32_t epoch, int status) {
    struct wire_group_reserved *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_GROUP_RESERVED);
    m->group = id;
    m->epoch = epoch;
    m->status = status;
    assert_int_equal(wire_end(&b), 0);
    give_frame(link, src, &b);
    wire_release(&b);
}

/* Only the raylet that was asked for a bundle can say that it is set aside, and only for the
 * attempt that it was asked in. */
static void false_reservations(void **state) {
    struct skate_id id = group_made();
    uint64_t asked = 0;
    uint32_t epoch = 0;

    (void)state;
    for (uint32_t i = 0; i < out.count; i++) {
        const struct wire_head *head = (const void *)(out.bytes + out.sends[i].at);

        if (out.sends[i].close || head->kind != WIRE_GROUP_RESERVE) continue;
        asked = out.sends[i].link;
        epoch = ((const struct wire_group_reserve *)(const void *)head)->epoch;
    }
    assert_true(asked != 0);
    for (uint32_t i = 0; i < 3; i++)
        if (links[i] != asked) reserved(links[i], 0, id, epoch, 0);
    reserved(asked, proc_make(1, 1), id, epoch, 0); /* a process, by way of its raylet */
    reserved(asked, 0, id, epoch + 1, 0);
    reserved(asked, 0, id, epoch - 1, -SKATE_EFULL);
    assert_int_equal(state_of(id), 0);
    reserved(asked, 0, id, epoch, 0);
    assert_int_equal(state_of(id), 1);
    reserved(asked, 0, id, epoch, -SKATE_EFULL); /* it has said yes already */
    assert_int_equal(state_of(id), 1);
    group_gone(id);
}

/* Billions of leases that hold nothing, each for the next node, when one node is left: the store
 * places some in each step, and serves. */
static void spread_of_nothing(void **state) {
    struct gcs_event down = {.kind = GCS_LINK_DOWN, .text = "cut"}, tick = {.kind = GCS_TICK};
    struct wire_demand_report *m;
    uint64_t placed = 0;
    struct wire_buf b;

    (void)state;
    for (uint32_t i = 1; i < 3; i++) {
        down.link = links[i];
        give(&down);
    }
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_DEMAND_REPORT);
    m->cls = 1;
    m->job = 1;
    m->count = UINT32_MAX;
    m->strategy = SCHED_SPREAD;
    assert_int_equal(wire_end(&b), 0);
    give_frame(links[0], 0, &b);
    wire_release(&b);
    for (uint32_t k = 0; k < 3; k++) {
        for (uint32_t i = 0; i < out.count; i++) {
            const struct wire_demand_place *p = (const void *)(out.bytes + out.sends[i].at);
            const uint32_t *counts;
            uint32_t n;

            if (out.sends[i].close || p->head.kind != WIRE_DEMAND_PLACE) continue;
            counts = wire_demand_place_counts(p, &n);
            while (n-- > 0) placed += counts[n];
        }
        assert_in_range(placed, 100 * (k + 1), 100000 * (k + 1));
        give(&tick);
    }
}

static bool is_answered(void) {
    for (uint32_t i = 0; i < out.count; i++) {
        const void *frame = out.bytes + out.sends[i].at;
        const struct wire_head *head = frame;
        uint32_t len;

        if (out.sends[i].close) continue;
        if (head->kind == WIRE_ROUTE) head = (const void *)wire_route_frame(frame, &len);
        if (head->call == 9 && head->flags & WIRE_REPLY) return true;
    }
    return false;
}

/* Whatever a process asks, it is answered: its raylet keeps the question until then, and what it
 * can keep for all its processes is bounded. */
static void calls_are_answered(void **state) {
    (void)state;
    for (uint16_t kind = 1; kind < wire_info_count; kind++) {
        struct wire_buf b;

        if (!wire_info[kind].name) continue;
        wire_init(&b, NULL, 0);
        ((struct wire_head *)wire_begin(&b, kind))->call = 9;
        assert_int_equal(wire_end(&b), 0);
        give_frame(links[0], proc_make(1, 1), &b);
        if (!is_answered()) fail_msg("no answer to %s", wire_name(kind));
        wire_release(&b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_kind, start, stop),
        cmocka_unit_test_setup_teardown(false_reservations, start, stop),
        cmocka_unit_test_setup_teardown(spread_of_nothing, start, stop),
        cmocka_unit_test_setup_teardown(calls_are_answered, start, stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
