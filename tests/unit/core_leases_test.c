/* What a process counts of its leased workers: idle ones once, deep ones while they are; a request
 * that is needed no more is taken back. libs: base wire own core */
#include "core_rig.c"

#include "core/core_int.h"

enum { MANY = 500 };

static void run_one(struct core *c, struct core_job *job) {
    int64_t x = number(&job->args);
    struct core_part part = {&x, sizeof x, 8};
    struct core_value v = {.format = FORMAT_RAW, .part_count = 1, .parts = &part};

    assert_int_equal(core_finish(c, job, CORE_OK, &v, 1), 0);
}

static struct skate_id submit(struct core *c, int64_t arg) {
    struct core_class_opts o = {.resources = "", .resources_len = 0, .name = "f"};
    struct core_part part = {&arg, 8, 8};
    struct core_task t = {.fn = FN_ADD, .returns = 1, .name = "f",
                          .args = {.format = FORMAT_RAW, .part_count = 1, .parts = &part}};
    struct skate_id id;

    assert_int_equal(core_class(c, &o, &t.cls), 0);
    assert_int_equal(core_submit(c, &t, &id, NULL), 0);
    return id_with_index(id, 1);
}

static void get_all(struct core *c, const struct skate_id *ids, uint32_t n) {
    static uint8_t ready[MANY];

    while (core_wait(c, ids, n, n, -1, CORE_FETCH, ready) != (int)n) continue;
    for (uint32_t i = 0; i < n; i++) core_ref_drop(c, &ids[i]);
}

/* The counts as the tables say them. */
static void expect_true_counts(struct core *c) {
    uint32_t idle = 0, deep = 0, leaving = 0;

    assert_int_equal(core_enter(c), 0);
    for (uint32_t i = 0; i < c->class_count; i++)
        for (uint32_t j = 0; j < c->classes[i].worker_count; j++) {
            const struct worker *w = c->classes[i].workers[j];

            idle += w->inflight == 0;
            deep += w->inflight > 1;
            leaving += w->leaving;
        }
    assert_int_equal(c->idle_workers, idle);
    assert_int_equal(c->deep_workers, deep);
    assert_int_equal(c->leaving_workers, leaving);
    core_leave(c);
}

static void idle_is_counted_once(void **state) {
    struct node *n = start(state);
    struct wire_returned nothing = {
        .head = {.size = sizeof nothing, .kind = WIRE_RETURNED, .fixed = sizeof nothing}};
    struct core *c = n->driver;
    struct skate_id id = submit(c, 1);

    get_all(c, &id, 1);
    expect_true_counts(c);
    for (int i = 0; i < 10; i++) { /* a steal that found nothing: it is idle still, not again */
        assert_int_equal(core_enter(c), 0);
        leases_on_returned(c, proc_make(1, 2), &nothing);
        core_leave(c);
        expect_true_counts(c);
    }
    finish(n);
}

static void counts_hold_under_load(void **state) {
    struct node *n = start(state);
    static struct skate_id ids[MANY];
    struct core *c = n->driver;

    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < MANY; i++) {
            ids[i] = submit(c, i);
            if (i % 50 == 0) expect_true_counts(c);
        }
        if (round % 5 == 4) { /* others want its CPUs: it is given back after what it has */
            assert_int_equal(core_enter(c), 0);
            leases_on_reclaim(c);
            core_leave(c);
            expect_true_counts(c);
        }
        get_all(c, ids, MANY);
        expect_true_counts(c);
    }
    expect_empty(c, 1); /* the definition that lies in the arena */
    finish(n);
}

/* A request for more workers ends when there is no backlog: at once or by the next look. */
static void request_is_taken_back(void **state) {
    struct node *n = start(state);
    static struct skate_id ids[MANY];
    struct core *c = n->driver;
    int64_t deadline = time_now_ns() + INT64_C(60000000000);
    uint32_t asked = 1;

    for (int i = 0; i < MANY; i++) ids[i] = submit(c, i);
    get_all(c, ids, MANY);
    while (asked && time_now_ns() < deadline) {
        assert_int_equal(core_enter(c), 0);
        asked = c->classes[0].asked;
        core_leave(c);
        (void)poll(NULL, 0, 1);
    }
    assert_int_equal(asked, 0);
    finish(n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle_is_counted_once),
        cmocka_unit_test(counts_hold_under_load),
        cmocka_unit_test(request_is_taken_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
