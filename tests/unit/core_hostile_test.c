/* core_hostile_test.c - what another process once could do to a core, each by its name.
 * links: base wire sched own core. */
#include "core_side.c"
#include "core/items.h"
#include "hostile.c"

static int start_worker(void **state) {
    (void)state;
    rig = side_new(false);
    return 0;
}

static bool ready_within(const struct skate_id *id, int64_t ns) {
    int64_t end = time_now_ns() + ns;
    uint8_t ready = 0;

    while (!ready && time_now_ns() < end)
        if (core_wait(rig->core, id, 1, 1, 10000000, CORE_FETCH, &ready) < 0) break;
    return ready;
}

/* All that was sent before is dispatched: the answer to a last question is there. */
static void settled(void) {
    static uint64_t seq = 77;
    struct skate_id id = {proc_make(1, 3), ++seq << 16 | 1};
    struct wire_val v = {.kind = VAL_INLINE, .format = FORMAT_RAW, .id = id};
    struct wire_value *m;
    struct wire_buf b;

    core_ref_add(rig->core, &id);
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_VALUE);
    m->obj = id;
    WIRE_PUT(&b, value, value, &v, sizeof v);
    assert_int_equal(wire_end(&b), 0);
    routed(proc_make(1, 3), b.p, b.len);
    wire_release(&b);
    assert_true(ready_within(&id, INT64_C(60000000000)));
    core_ref_drop(rig->core, &id);
    assert_true(core_alive(rig->core, NULL));
}

static void routed_channel(void **state) {
    struct wire_channel m = {.head = HEAD(wire_channel, WIRE_CHANNEL), .peer = PEER,
                             .my_bit = 9, .peer_bit = 9};

    (void)state;
    m.head.nfds = 2;
    routed(PEER, &m, sizeof m);
    settled();
}

/* Another process says what only daemons say: a death, an answer. */
static void false_words(void **state) {
    struct wire_proc_died died = {.head = HEAD(wire_proc_died, WIRE_PROC_DIED), .proc = PEER};
    struct wire_lease_reclaim back = {.head = HEAD(wire_lease_reclaim, WIRE_LEASE_RECLAIM)};

    (void)state;
    routed(proc_make(1, 3), &died, sizeof died);
    routed(proc_make(1, 3), &back, sizeof back);
    settled();
    assert_null(link_get(rig->core, PEER)->death);
    routed(RAYLET, &died, sizeof died); /* from a raylet it counts */
    settled();
    assert_non_null(link_get(rig->core, PEER)->death);
}

/* The value of the first task, as its worker says it. */
static void result(const struct wire_val *v, uint32_t data_len) {
    struct skate_id task = id_with_index(rig->ids[1], 0);
    struct wire_result *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_RESULT);
    m->task = task;
    WIRE_PUT(&b, result, vals, v, sizeof *v);
    WIRE_PUT(&b, result, data, NULL, data_len);
    assert_int_equal(wire_end(&b), 0);
    for (int i = 0; i < 5000; i++) { /* it must be pushed first */
        uint8_t ready;

        if (rig->core->workers.count) break;
        assert_true(core_wait(rig->core, &rig->ids[1], 1, 1, 1000000, 0, &ready) >= 0);
    }
    routed(PEER, b.p, b.len);
    wire_release(&b);
    assert_true(ready_within(&rig->ids[1], INT64_C(60000000000)));
}

static void long_inline_value(void **state) {
    struct wire_val v = {.kind = VAL_INLINE, .format = FORMAT_RAW, .len = 60000, .size = 60000};
    uint8_t *copy = malloc(LIMIT_INLINE_VALUE);
    struct core_view view;

    (void)state;
    v.id = rig->ids[1];
    result(&v, 60000);
    assert_int_equal(core_read(rig->core, &rig->ids[1], copy, &view), 0);
    assert_true(view.size <= LIMIT_INLINE_VALUE);
    assert_int_equal(view.flags, VAL_ERROR | VAL_SYSTEM);
    free(copy);
}

static void false_place(void **state) {
    static const uint64_t places[] = {8, 3, 4096, ARENA - 8};
    uint8_t copy[LIMIT_INLINE_VALUE];
    struct core_view view;

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct wire_val v = {.kind = VAL_ARENA, .format = FORMAT_RAW, .holder = PEER,
                             .offset = places[i], .size = 8, .id = rig->ids[1]};

        result(&v, 0);
        assert_int_equal(core_read(rig->core, &rig->ids[1], copy, &view), -SKATE_EPROTO);
        (void)stop(NULL);
        (void)start_driver(NULL);
    }
}

/* A constructor with the same ref twice: the entry was gone when it was counted again. */
static void a_ref_twice(void **state) {
    struct skate_id ref = {PEER, 9 << 16 | 1}, refs[2] = {ref, ref};
    struct wire_val args = {.kind = VAL_INLINE, .format = FORMAT_RAW, .nref = 2}, fn = args;
    struct wire_task *t;
    struct wire_actor_start *m;
    struct wire_buf spec, b;
    struct core_stats stats;
    int64_t end = time_now_ns() + INT64_C(60000000000);

    (void)state;
    fn.nref = 0;
    wire_init(&spec, NULL, 0);
    t = wire_begin(&spec, WIRE_TASK);
    t->kind = 2;
    WIRE_PUT(&spec, task, args, &args, sizeof args);
    WIRE_PUT(&spec, task, refs, refs, sizeof refs);
    assert_int_equal(wire_end(&spec), 0);
    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_ACTOR_START);
    m->owner = PEER;
    m->incarnation = 1;
    WIRE_PUT(&b, actor_start, spec, spec.p, spec.len);
    WIRE_PUT(&b, actor_start, fn_value, &fn, sizeof fn);
    assert_int_equal(wire_end(&b), 0);
    said(b.p, b.len);
    wire_release(&spec);
    wire_release(&b);
    settled();
    do {
        settled();
        core_get_stats(rig->core, &stats);
    } while (stats.objects && time_now_ns() < end);
    assert_int_equal(stats.objects, 0);
}

/* A generator task of ours, pushed to a process that lies; its handle. */
static struct skate_id pushed_stream(uint64_t worker) {
    struct core_class_opts o = {.resources = "", .strategy = 1, .name = "spread"};
    struct core_value none = {.format = FORMAT_RAW};
    struct core_task t = {.fn = FN, .returns = 1, .name = "g", .flags = CORE_STREAM, .args = none};
    struct wire_lease_grant g = {.head = HEAD(wire_lease_grant, WIRE_LEASE_GRANT),
                                 .worker = worker, .pid = 6};
    struct skate_id task, first;

    assert_int_equal(core_class(rig->core, &o, &t.cls), 0);
    assert_int_equal(core_submit(rig->core, &t, &task, NULL), 0);
    first = id_with_index(task, 1);
    core_ref_drop(rig->core, &first);
    g.req = rig->core->classes[t.cls].request;
    said(&g, sizeof g);
    settled();
    return task;
}

static void item(uint64_t src, const struct skate_id *task, uint64_t index) {
    struct wire_val v = {.kind = VAL_INLINE, .format = FORMAT_RAW};
    struct wire_gen_item *m;
    struct wire_buf b;

    wire_init(&b, NULL, 0);
    m = wire_begin(&b, WIRE_GEN_ITEM);
    m->task = *task;
    m->index = index;
    WIRE_PUT(&b, gen_item, vals, &v, sizeof v);
    assert_int_equal(wire_end(&b), 0);
    routed(src, b.p, b.len);
    wire_release(&b);
}

/* Items of no task, of another worker's, out of order; false totals; acks of nothing. */
static void false_items(void **state) {
    uint64_t worker = proc_make(1, 3), other = proc_make(1, 4);
    struct skate_id task = pushed_stream(worker), unknown = {SELF, 12345 << 16}, id;
    struct wire_gen_end end = {.head = HEAD(wire_gen_end, WIRE_GEN_END), .task = task,
                               .count = UINT64_MAX};
    struct wire_gen_ack ack = {.head = HEAD(wire_gen_ack, WIRE_GEN_ACK), .task = task,
                               .limit = UINT64_MAX, .chunk = UINT32_MAX, .base = UINT64_MAX};

    (void)state;
    item(worker, &unknown, 0);
    item(other, &task, 0);
    item(worker, &task, 1);
    item(worker, &task, UINT64_MAX);
    routed(worker, &end, sizeof end);
    routed(worker, &ack, sizeof ack);
    settled();
    assert_int_equal(core_stream_next(rig->core, &task, true, &id), -SKATE_EAGAIN);
    item(worker, &task, 0);
    item(worker, &task, 0);
    item(worker, &task, 2);
    settled();
    assert_int_equal(core_stream_next(rig->core, &task, true, &id), 0);
    core_ref_drop(rig->core, &id);
    assert_int_equal(core_stream_next(rig->core, &task, true, &id), -SKATE_EAGAIN);
    end.task = unknown;
    routed(worker, &end, sizeof end);
    core_ref_drop(rig->core, &task);
    item(worker, &task, 1); /* nobody wants it any more */
    settled();
    assert_int_equal(core_stream_next(rig->core, &task, true, &id), -SKATE_EAGAIN);
}

/* On the ring and by the raylet, from its peer, from one that it does not know, from another node's
 * raylet; each twice. Only whoever may say so may end a worker. */
static void send_each_way(uint32_t kind, enum shape shape, const struct skate_id *id) {
    const uint64_t sources[] = {PEER, proc_make(1, 3), proc_make(2, 1), proc_make(2, 0)};
    struct wire_buf b;

    shape_frame(&b, kind, shape, id);
    for (int twice = 0; twice < 2; twice++) {
        void *to = b.len <= LIMIT_RING_FRAME && shape < SHAPES_WHOLE
                       ? ring_reserve(&rig->out, b.len, ++rig->sequence) : NULL;

        if (to) {
            memcpy(to, b.p, b.len);
            ring_publish(&rig->out, b.len);
            bell_ring(rig->bell, 5, BELL_URGENT);
        }
        for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
            if (kind != WIRE_WORKER_RETIRE || proc_number(sources[i]))
                routed(sources[i], b.p, b.len);
        if (kind != WIRE_WORKER_RETIRE) routed(RAYLET, b.p, b.len);
    }
    wire_release(&b);
}

static void every_kind(void) {
    const struct skate_id ids[] = {{SELF, 1 << 16 | 1}, {SELF, 1 << 16}, {PEER, 9 << 16 | 1},
                                   {PEER, 1 << 16},     {proc_make(2, 1), 3 << 16 | 1}};

    for (uint32_t kind = FIRST_KIND; kind < wire_info_count; kind++) {
        if (!kind_exists(kind)) continue;
        for (int shape = 0; shape < SHAPES; shape++)
            for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
                send_each_way(kind, (enum shape)shape, &ids[i]);
        settled();
        assert_int_equal(link_get(rig->core, PEER)->state, LINK_OPEN);
    }
}

static void every_kind_to_a_driver(void **state) {
    (void)state;
    every_kind();
}

static void every_kind_to_a_worker(void **state) {
    (void)state;
    every_kind();
}

/* A process says what only a raylet may: that one is dead and we inherit, that a request can never
 * be served, that we should leave; and claims an object whose owner lives. */
static void false_heirs(void **state) {
    struct skate_id dead = {PEER, 9 << 16 | 1}, ours = rig->ids[0];
    struct wire_val v = {.kind = VAL_INLINE, .format = FORMAT_RAW, .id = dead};
    struct wire_adopt_task task = {.head = HEAD(wire_adopt_task, WIRE_ADOPT_TASK),
                                   .task = {PEER, 9 << 16}, .dead = PEER, .nreturns = 1};
    struct wire_worker_retire leave = {.head = HEAD(wire_worker_retire, WIRE_WORKER_RETIRE)};
    struct wire_lease_failed failed = {.head = HEAD(wire_lease_failed, WIRE_LEASE_FAILED)};
    struct wire_value_lost lost = {.head = HEAD(wire_value_lost, WIRE_VALUE_LOST), .obj = ours,
                                   .holder = SELF, .offset = 4096};
    struct wire_claim *claim;
    struct wire_adopt *adopt;
    uint8_t copy[LIMIT_INLINE_VALUE];
    struct core_view view;
    struct wire_buf b;

    (void)state;
    wire_init(&b, NULL, 0);
    adopt = wire_begin(&b, WIRE_ADOPT);
    adopt->dead = PEER;
    adopt->last = 1;
    WIRE_PUT(&b, adopt, vals, &v, sizeof v);
    assert_int_equal(wire_end(&b), 0);
    routed(PEER, b.p, b.len);
    claim = wire_begin(&b, WIRE_CLAIM);
    claim->dead = SELF;
    WIRE_PUT(&b, claim, objs, &ours, sizeof ours);
    assert_int_equal(wire_end(&b), 0);
    routed(PEER, b.p, b.len);
    wire_release(&b);
    failed.req = rig->core->classes[rig->class].request;
    routed(PEER, &task, sizeof task);
    routed(PEER, &leave, sizeof leave);
    routed(PEER, &failed, sizeof failed);
    routed(PEER, &lost, sizeof lost);
    settled();
    assert_int_equal(rig->core->heritage.estate_count, 0);
    assert_false(rig->core->retiring);
    assert_null(rig->core->object_v[object_find(rig->core, &ours)].borrowers);
    assert_int_equal(core_read(rig->core, &ours, copy, &view), 0);
    assert_false(view.flags & VAL_ERROR);
}

/* A core that has died hangs up: whoever writes to it is told so, and does not wait for a reader
 * that never comes. */
static void hangs_up_when_dead(void **state) {
    struct wire_job_end end = {.head = HEAD(wire_job_end, WIRE_JOB_END), .job = 1};
    static const uint8_t bytes[4096];
    int64_t until = time_now_ns() + INT64_C(60000000000);
    ssize_t n = 0;

    (void)state;
    said(&end, sizeof end);
    while (time_now_ns() < until && (n >= 0 || errno == EAGAIN)) {
        struct pollfd p = {rig->sock, POLLOUT, 0};

        (void)poll(&p, 1, 10);
        n = send(rig->sock, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    assert_int_equal(n, -1);
    assert_int_equal(errno, EPIPE);
    assert_false(core_alive(rig->core, NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(routed_channel, start_driver, stop),
        cmocka_unit_test_setup_teardown(false_words, start_driver, stop),
        cmocka_unit_test_setup_teardown(long_inline_value, start_driver, stop),
        cmocka_unit_test_setup_teardown(false_place, start_driver, stop),
        cmocka_unit_test_setup_teardown(a_ref_twice, start_worker, stop),
        cmocka_unit_test_setup_teardown(false_items, start_driver, stop),
        cmocka_unit_test_setup_teardown(every_kind_to_a_driver, start_driver, stop),
        cmocka_unit_test_setup_teardown(every_kind_to_a_worker, start_worker, stop),
        cmocka_unit_test_setup_teardown(false_heirs, start_driver, stop),
        cmocka_unit_test_setup_teardown(hangs_up_when_dead, start_driver, stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
