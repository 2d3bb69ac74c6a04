/* core_sweep_test.c - what the dead leave behind in a core is freed, and they stay known as dead.
 * links: base wire sched own core. */
#include "core_side.c"

enum { STORM = 300, LEFT_MOST = 10, ALIVE = 1, DEAD = 3 };

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

static void state_at(const struct skate_id *actor, uint32_t state, uint64_t proc) {
    struct wire_actor_state m = {.head = HEAD(wire_actor_state, WIRE_ACTOR_STATE),
                                 .actor = *actor, .proc = proc, .state = state};

    routed(SKATE_GCS, &m, sizeof m);
}

static void state_of(const struct skate_id *actor, uint32_t state) {
    state_at(actor, state, PEER);
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

static bool actors_own(const struct core_stats *s) { return s->actors == 1; }

/* Whom the path to that process leads to. */
static struct worker *lease_at(uint64_t proc) {
    struct worker *w;

    assert_int_equal(core_enter(rig->core), 0);
    w = link_get(rig->core, proc)->lease;
    core_leave(rig->core);
    return w;
}

/* An actor is dead for the GCS while its process still winds up, whose path stays: it must not lead
 * to the entry that is gone. So for the process that it had before a restart. */
static void dead_actor_living_process(void **state) {
    uint64_t first = proc_make(1, 20), second = proc_make(1, 21);
    struct skate_id id = {proc_make(9, 5), 1 << 16};
    int64_t end = time_now_ns() + INT64_C(60000000000);
    struct core_actor_state st;

    (void)state;
    core_ref_add(rig->core, &id);
    core_actor_state(rig->core, &id, &st);
    state_at(&id, ALIVE, first);
    while (!lease_at(first) && time_now_ns() < end) (void)poll(NULL, 0, 2);
    assert_non_null(lease_at(first));
    state_at(&id, ALIVE, second);
    while (!lease_at(second) && time_now_ns() < end) (void)poll(NULL, 0, 2);
    assert_non_null(lease_at(second));
    assert_null(lease_at(first));
    state_at(&id, DEAD, second);
    while (!dead_now(&id) && time_now_ns() < end) (void)poll(NULL, 0, 2);
    core_ref_drop(rig->core, &id);
    (void)until(actors_own); /* that of the rig */
    assert_null(lease_at(second));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(dead_links, start_driver, stop),
        cmocka_unit_test_setup_teardown(dead_actors, start_driver, stop),
        cmocka_unit_test_setup_teardown(dead_actor_living_process, start_driver, stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
