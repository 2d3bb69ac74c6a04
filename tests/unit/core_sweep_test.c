/* core_sweep_test.c - what the dead leave behind in a core is freed, and they stay known as dead.
 * The rig is that of tests/fuzz/fuzz_core.c. links: base wire sched own core. */
#include "../fuzz/fuzz_core.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/futex.h"

enum { STORM = 300, LEFT_MOST = 10, DEAD = 3 };
#define HEAD(type, kind_)                                                                      \
    {.size = sizeof(struct type), .kind = (kind_), .fixed = sizeof(struct type)}

static struct side *rig;

static int start_driver(void **state) {
    (void)state;
    rig = side_new(true);
    return 0;
}

static int stop(void **state) {
    (void)state;
    side_free(rig);
    return 0;
}

static void said(const void *frame, uint32_t len) { /* by the raylet */
    send_fds(rig->sock, frame, len, NULL, 0);
    bell_ring(rig->bell, 0, BELL_URGENT);
}

static void routed(uint64_t src, const void *frame, uint32_t len) {
    struct wire_buf b;
    struct wire_route *m;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_ROUTE);
    m->dst = SELF;
    m->src = src;
    WIRE_PUT(&b, route, frame, frame, len);
    assert_int_equal(wire_end(&b), 0);
    said(b.p, b.len);
    wire_release(&b);
}

static void dies(uint64_t proc) {
    struct wire_proc_died m = {.head = HEAD(wire_proc_died, WIRE_PROC_DIED), .proc = proc};

    said(&m, sizeof m);
}

static struct core_stats until(bool (*over)(const struct core_stats *)) {
    int64_t end = time_now_ns() + INT64_C(60000000000);
    struct core_stats s;

    do {
        core_get_stats(rig->core, &s);
        (void)poll(NULL, 0, 2);
    } while (!over(&s) && time_now_ns() < end);
    assert_true(over(&s));
    return s;
}

static bool links_few(const struct core_stats *s) { return s->links < LEFT_MOST; }
static bool actors_all(const struct core_stats *s) { return s->actors >= STORM; }
static bool actors_few(const struct core_stats *s) { return s->actors < LEFT_MOST; }

/* An object of a process has come to its end: with an error of the system that begins so. */
static void fails(const struct skate_id *id, const char *kind) {
    uint8_t ready = 0, copy[LIMIT_INLINE_VALUE];
    struct core_view v;

    assert_int_equal(core_wait(rig->core, id, 1, 1, INT64_C(60000000000), 0, &ready), 1);
    assert_int_equal(core_read(rig->core, id, copy, &v), 0);
    assert_int_equal(v.flags, VAL_ERROR | VAL_SYSTEM);
    assert_true(v.size > strlen(kind));
    assert_memory_equal(v.data, kind, strlen(kind));
}

static void dead_links(void **state) {
    uint64_t first = proc_make(1, 10), other_node = proc_make(7, 3);
    struct skate_id late = {first, 5 << 16 | 1}, mine;
    struct core_part part = {"x", 1, 1};
    struct core_value v = {.format = FORMAT_RAW, .part_count = 1, .parts = &part};
    struct wire_borrow b = {.head = HEAD(wire_borrow, WIRE_BORROW), .proc = first, .n = 1};
    struct core_stats before, s;

    (void)state;
    assert_int_equal(core_put(rig->core, &v, &mine, NULL), 0);
    for (uint32_t i = 0; i < STORM; i++) dies(first + i);
    dies(other_node);
    dies(proc_make(1, UINT32_MAX)); /* a number that cannot be: only its link stays */
    /* Known as dead without their links: what they owned is lost, and they borrow nothing. */
    core_ref_add(rig->core, &late);
    fails(&late, "owner_died");
    (void)until(links_few);
    core_get_stats(rig->core, &before);
    b.obj = mine;
    routed(PEER, &b, sizeof b);
    core_ref_drop(rig->core, &late);
    late.seq += 1 << 16;
    core_ref_add(rig->core, &late);
    fails(&late, "owner_died"); /* behind the borrow: that is dispatched */
    core_ref_drop(rig->core, &late);
    core_ref_drop(rig->core, &mine);
    core_get_stats(rig->core, &s);
    assert_int_equal(s.objects, before.objects - 2); /* neither is kept for a dead borrower */
    for (uint32_t i = 0; i < STORM; i++) dies(first + i); /* old news */
    (void)until(links_few);
}

static void state_of(const struct skate_id *actor, uint32_t state) {
    struct wire_actor_state m = {.head = HEAD(wire_actor_state, WIRE_ACTOR_STATE),
                                 .actor = *actor, .proc = PEER, .state = state};

    routed(SKATE_GCS, &m, sizeof m);
}

static bool dead_now(const struct skate_id *actor) {
    struct core_actor_state st;

    core_actor_state(rig->core, actor, &st);
    return st.state == DEAD;
}

static void dead_actors(void **state) {
    struct skate_id ids[STORM];
    int64_t end = time_now_ns() + INT64_C(60000000000);
    struct core_actor_state st;
    struct core_stats s;

    (void)state;
    for (uint32_t i = 0; i < STORM; i++) {
        ids[i] = (struct skate_id){proc_make(9, 5), (uint64_t)(i + 1) << 16};
        core_ref_add(rig->core, &ids[i]);
        core_actor_state(rig->core, &ids[i], &st);
        state_of(&ids[i], DEAD);
    }
    while (!dead_now(&ids[STORM - 1]) && time_now_ns() < end) (void)poll(NULL, 0, 2);
    s = until(actors_all); /* each has a handle: its death is still to be told */
    assert_true(s.actors >= STORM);
    assert_true(dead_now(&ids[0]));
    for (uint32_t i = 1; i < STORM; i++) core_ref_drop(rig->core, &ids[i]);
    (void)until(actors_few);
    assert_true(dead_now(&ids[0]));
    core_actor_state(rig->core, &ids[1], &st); /* asked for anew: the GCS is to say */
    assert_int_equal(st.state, 0);
    state_of(&ids[1], DEAD);
    while (!dead_now(&ids[1]) && time_now_ns() < end) (void)poll(NULL, 0, 2);
    assert_true(dead_now(&ids[1]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(dead_links, start_driver, stop),
        cmocka_unit_test_setup_teardown(dead_actors, start_driver, stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
