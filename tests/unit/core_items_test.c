/* Streams of generator tasks: items in order, counts, the limits of the producer, ids beyond the
 * first chunk, dropped handles, runs that are repeated. libs: base wire own core */
#include "core_rig.c"

#include "core/core_int.h"
#include "core/items.h"

enum { BIG = 5000, FAIL_AT = 3 };

static uint64_t produced; /* by the worker's thread, of the present task */

static int yield_bytes(struct core *c, struct core_job *job, const void *data, uint64_t size) {
    struct core_part part = {data, size, 8};
    struct core_value v = {.format = FORMAT_RAW, .part_count = 1, .parts = &part};
    struct skate_error err = {{0}};
    int r = core_yield(c, job, &v, NULL, &err);

    if (r < 0) fail_msg("%d %s", r, err.text);
    __atomic_add_fetch(&produced, 1, __ATOMIC_SEQ_CST);
    while (r == 1) {
        r = core_yield_wait(c, job, -1);
        if (r == -SKATE_EINTR) r = 1;
    }
    return r;
}

/* The argument is the number of items. FN_BIG: large ones; FN_FAIL: the first run is given up in
 * the middle, to be tried again. */
static void run_one(struct core *c, struct core_job *job) {
    static uint8_t big[BIG];
    int64_t n = number(&job->args), i;
    struct core_part part = {&n, 8, 8};
    struct core_value v = {.format = FORMAT_RAW, .part_count = 1, .parts = &part};

    __atomic_store_n(&produced, 0, __ATOMIC_SEQ_CST);
    for (i = 0; i < n; i++) {
        memcpy(big, &i, sizeof i);
        if (yield_bytes(c, job, job->fn == FN_BIG ? (void *)big : &i,
                        job->fn == FN_BIG ? BIG : 8) < 0)
            break;
        if (job->fn == FN_FAIL && job->attempt == 0 && i == FAIL_AT) {
            v.flags = VAL_ERROR;
            assert_int_equal(core_finish(c, job, CORE_RETRY, &v, 1), 0);
            return;
        }
    }
    assert_int_equal(core_yield_end(c, job), 0);
    assert_int_equal(core_finish(c, job, CORE_OK, &v, 1), 0);
}

static struct skate_id stream(struct core *c, uint64_t fn, int64_t count, uint32_t flags) {
    struct core_class_opts o = {.resources = "", .resources_len = 0, .name = "f"};
    struct core_part part = {&count, 8, 8};
    struct core_task t = {.fn = fn, .returns = 1, .name = "f", .retries = 1,
                          .flags = CORE_STREAM | flags,
                          .args = {.format = FORMAT_RAW, .part_count = 1, .parts = &part}};
    struct skate_error err = {{0}};
    struct skate_id id, first;

    assert_int_equal(core_class(c, &o, &t.cls), 0);
    assert_int_equal(core_submit(c, &t, &id, &err), 0);
    first = id_with_index(id, 1);
    core_ref_drop(c, &first);
    return id;
}

/* The next item, waited for; false at the end. */
static bool take(struct core *c, const struct skate_id *task, struct skate_id *ret) {
    uint8_t ready;
    int r;

    while ((r = core_stream_next(c, task, true, ret)) == -SKATE_EAGAIN) {
        r = core_wait(c, ret, 1, 1, -1, 0, &ready);
        assert_true(r == 1 || r == -SKATE_EINTR);
    }
    assert_true(r == 0 || r == -SKATE_ENOENT);
    return r == 0;
}

static int64_t value_of(struct core *c, const struct skate_id *id) {
    uint8_t copy[LIMIT_INLINE_VALUE];
    struct core_view v;
    int64_t x;

    assert_int_equal(core_read(c, id, copy, &v), 0);
    assert_int_equal(v.flags, 0);
    x = number(&v);
    core_unpin(c, v.pin);
    return x;
}

static void wait_produced(uint64_t n) {
    int64_t deadline = time_now_ns() + INT64_C(60000000000);

    while (__atomic_load_n(&produced, __ATOMIC_SEQ_CST) != n && time_now_ns() < deadline)
        (void)poll(NULL, 0, 1);
    assert_int_equal(__atomic_load_n(&produced, __ATOMIC_SEQ_CST), n);
}

/* ---- tests ---- */

static void items_in_order(void **state) {
    static const int64_t counts[] = {0, 1, 3, 2000, 3 * STREAM_CHUNK + 5};
    struct node *n = start(state);

    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        struct skate_id task = stream(n->driver, FN_ADD, counts[k], 0), id, seen = {0, 0};
        int64_t i = 0;

        for (; take(n->driver, &task, &id); i++) {
            assert_int_equal(value_of(n->driver, &id), i);
            assert_int_equal(id.owner, task.owner);
            assert_false(id_equal(&id, &seen));
            seen = id;
            core_ref_drop(n->driver, &id);
        }
        assert_int_equal(i, counts[k]);
        assert_int_equal(core_stream_next(n->driver, &task, true, &id), -SKATE_ENOENT);
        core_ref_drop(n->driver, &task);
        expect_empty(n->driver, 1); /* the definition that lies in the arena */
    }
    assert_int_equal(n->driver->streams.count, 0);
    (void)pthread_mutex_lock(&n->worker->lock); /* it may be busy with the end of the last one */
    assert_null(n->worker->yields);
    (void)pthread_mutex_unlock(&n->worker->lock);
    finish(n);
}

static void many_streams_at_once(void **state) {
    enum { STREAMS = 50, ITEMS = 7 };
    struct node *n = start(state);
    struct skate_id tasks[STREAMS], ids[STREAMS][ITEMS];

    for (int i = 0; i < STREAMS; i++) tasks[i] = stream(n->driver, FN_ADD, ITEMS, 0);
    for (int i = STREAMS; i-- > 0;)
        for (int k = 0; k < ITEMS; k++) assert_true(take(n->driver, &tasks[i], &ids[i][k]));
    for (int i = 0; i < STREAMS; i += 2) core_ref_drop(n->driver, &tasks[i]);
    for (int i = 0; i < STREAMS; i++)
        for (int k = 0; k < ITEMS; k++) {
            assert_int_equal(value_of(n->driver, &ids[i][k]), k);
            core_ref_drop(n->driver, &ids[i][k]);
        }
    for (int i = 1; i < STREAMS; i += 2) {
        struct skate_id id;

        assert_false(take(n->driver, &tasks[i], &id));
        core_ref_drop(n->driver, &tasks[i]);
    }
    expect_empty(n->driver, 1);
    assert_int_equal(n->driver->streams.count, 0);
    finish(n);
}

static void the_producer_is_held_back(void **state) {
    struct node *n = start(state);
    struct skate_id task = stream(n->driver, FN_ADD, 100, 2 * CORE_UNREAD), id;

    for (uint64_t i = 0; i < 20; i++) {
        wait_produced(i + 2);
        assert_true(take(n->driver, &task, &id));
        core_ref_drop(n->driver, &id);
    }
    core_ref_drop(n->driver, &task); /* nobody reads on: it goes on to its end */
    wait_produced(100);
    expect_empty(n->driver, 1);
    finish(n);
}

static void dropped_items_free_their_bytes(void **state) {
    struct node *n = start(state);
    struct core_stats s;

    for (int round = 0; round < 20; round++) {
        struct skate_id task = stream(n->driver, FN_BIG, 400, 0), id;

        for (int i = 0; i < round; i++) {
            assert_true(take(n->driver, &task, &id));
            assert_int_equal(value_of(n->driver, &id), i);
            core_ref_drop(n->driver, &id);
        }
        core_ref_drop(n->driver, &task);
        expect_empty(n->driver, 1);
    }
    core_get_stats(n->worker, &s);
    assert_true(s.arena_held < 24 << 20); /* 20 x 400 x 5 KB are 40 MB */
    finish(n);
}

static void a_dropped_stream_that_has_not_begun(void **state) {
    struct node *n = start(state);
    struct skate_id first = stream(n->driver, FN_ADD, 5, CORE_UNREAD), id;

    for (int i = 0; i < 30; i++) { /* they wait behind the first, which waits for us */
        struct skate_id task = stream(n->driver, FN_BIG, 2000, CORE_UNREAD);

        core_ref_drop(n->driver, &task);
    }
    for (int i = 0; i < 5; i++) {
        assert_true(take(n->driver, &first, &id));
        core_ref_drop(n->driver, &id);
    }
    core_ref_drop(n->driver, &first);
    expect_empty(n->driver, 1);
    finish(n);
}

/* What a second run makes again is there already; what was taken stays what it is. */
static void a_run_that_is_repeated(void **state) {
    struct node *n = start(state);
    struct skate_id task = stream(n->driver, FN_FAIL, 10, CORE_RETRY_EXCEPTIONS), ids[10], id;

    for (int i = 0; i < 10; i++) {
        assert_true(take(n->driver, &task, &ids[i]));
        assert_int_equal(value_of(n->driver, &ids[i]), i);
    }
    assert_false(take(n->driver, &task, &id));
    for (int i = 0; i < 10; i++) core_ref_drop(n->driver, &ids[i]);
    core_ref_drop(n->driver, &task);
    expect_empty(n->driver, 1);
    finish(n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_in_order),
        cmocka_unit_test(many_streams_at_once),
        cmocka_unit_test(the_producer_is_held_back),
        cmocka_unit_test(dropped_items_free_their_bytes),
        cmocka_unit_test(a_dropped_stream_that_has_not_begun),
        cmocka_unit_test(a_run_that_is_repeated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
