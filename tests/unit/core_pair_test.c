/* A driver's core and a worker's core in one process: tasks, dependencies, values by ring and by
 * arena, refs in containers, worker death. libs: base wire own core */
#include <semaphore.h>

#include "core_rig.c"

static sem_t answered, go_on; /* of FN_NOTE: it waits for the latter */

/* ---- the worker: functions by key ---- */

static void finish_bytes(struct core *c, struct core_job *job, enum core_status status,
                         const void *data, uint64_t size, const struct skate_id *ref) {
    struct core_part part = {data, size, 8};
    struct core_value v = {.format = FORMAT_RAW, .flags = status ? VAL_ERROR : 0, .part_count = 1,
                           .parts = &part, .ref_count = ref != NULL, .refs = ref};

    assert_int_equal(core_finish(c, job, status, &v, 1), 0);
}

static void run_one(struct core *c, struct core_job *job) {
    uint8_t copy[LIMIT_INLINE_VALUE];
    struct core_view code;
    int64_t sum = number(&job->args);
    bool note = job->fn == FN_NOTE;

    assert_int_equal(core_function(c, job, job->fn, copy, &code), 0);
    assert_int_equal(code.size, job->fn == FN_BIG ? 10000 : 8);
    core_unpin(c, code.pin);
    for (uint32_t i = 0; i < job->dep_count; i++) sum += number(&job->deps[i]);
    if (job->fn == FN_BIG) {
        static uint8_t big[300000];

        memset(big, (int)(sum & 0xff), sizeof big);
        finish_bytes(c, job, CORE_OK, big, sizeof big, NULL);
    } else if (job->fn == FN_CONTAIN) { /* put something, return a ref to it inside a value */
        struct core_part part = {&sum, 8, 8};
        struct core_value v = {.format = FORMAT_RAW, .part_count = 1, .parts = &part};
        struct skate_id id;

        assert_int_equal(core_put(c, &v, &id, NULL), 0);
        finish_bytes(c, job, CORE_OK, &id, sizeof id, &id);
        core_ref_drop(c, &id);
    } else {
        if (note && job->dep_count) (void)sem_wait(&go_on);
        finish_bytes(c, job, job->fn == FN_FAIL ? CORE_ERROR : CORE_OK, &sum, sizeof sum, NULL);
        if (note) (void)sem_post(&answered);
    }
}

/* ---- tests ---- */

static struct skate_id submit(struct core *c, uint64_t fn, int64_t arg,
                              const struct skate_id *deps, uint32_t n) {
    struct core_class_opts o = {.resources = "", .resources_len = 0, .name = "f"};
    struct core_part part = {&arg, 8, 8};
    struct core_task t = {.fn = fn, .returns = 1, .name = "f", .deps = deps, .dep_count = n,
                          .args = {.format = FORMAT_RAW, .part_count = 1, .parts = &part}};
    struct skate_error err = {{0}};
    struct skate_id id;

    assert_int_equal(core_class(c, &o, &t.cls), 0);
    assert_int_equal(core_submit(c, &t, &id, &err), 0);
    return id_with_index(id, 1);
}

static int64_t get(struct core *c, const struct skate_id *id) {
    uint8_t copy[LIMIT_INLINE_VALUE], ready;
    struct core_view v;
    int64_t x;

    while (core_wait(c, id, 1, 1, -1, CORE_FETCH, &ready) != 1) continue;
    assert_int_equal(core_read(c, id, copy, &v), 0);
    x = number(&v);
    core_unpin(c, v.pin);
    return x;
}

static void tasks_sync_and_async(void **state) {
    struct node *n = start(state);
    enum { MANY = 3000 };
    static struct skate_id ids[MANY];
    static uint8_t ready[MANY];
    int r;

    for (int i = 0; i < 200; i++) {
        struct skate_id id = submit(n->driver, FN_ADD, i, NULL, 0);

        assert_int_equal(get(n->driver, &id), i);
        core_ref_drop(n->driver, &id);
    }
    for (int i = 0; i < MANY; i++) ids[i] = submit(n->driver, FN_ADD, i * 3, NULL, 0);
    do r = core_wait(n->driver, ids, MANY, MANY, -1, CORE_FETCH, ready);
    while (r == -SKATE_EINTR);
    assert_int_equal(r, MANY);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(get(n->driver, &ids[i]), i * 3);
        core_ref_drop(n->driver, &ids[i]);
    }
    expect_empty(n->driver, 1); /* the definition that lies in the arena */
    finish(n);
}

static void chain_and_errors(void **state) {
    struct node *n = start(state);
    struct skate_id id = submit(n->driver, FN_ADD, 1, NULL, 0), bad, next;
    uint8_t copy[LIMIT_INLINE_VALUE], ready;
    struct core_view v;

    for (int i = 0; i < 100; i++) {
        next = submit(n->driver, FN_ADD, 1, &id, 1);
        core_ref_drop(n->driver, &id);
        id = next;
    }
    assert_int_equal(get(n->driver, &id), 101);
    core_ref_drop(n->driver, &id);
    bad = submit(n->driver, FN_FAIL, 7, NULL, 0);
    for (int i = 0; i < 3000; i++) { /* a long chain of dependants fails without running */
        next = submit(n->driver, FN_ADD, 1, &bad, 1);
        core_ref_drop(n->driver, &bad);
        bad = next;
    }
    while (core_wait(n->driver, &bad, 1, 1, -1, CORE_FETCH, &ready) != 1) continue;
    assert_int_equal(core_read(n->driver, &bad, copy, &v), 0);
    assert_int_equal(v.flags, VAL_ERROR);
    assert_int_equal(number(&v), 7);
    core_ref_drop(n->driver, &bad);
    expect_empty(n->driver, 1);
    finish(n);
}

static void arena_values(void **state) {
    struct node *n = start(state);
    uint8_t copy[LIMIT_INLINE_VALUE];
    struct core_stats s;

    for (int i = 0; i < 50; i++) {
        struct skate_id id = submit(n->driver, FN_BIG, i, NULL, 0), sum;
        struct core_view v;

        sum = submit(n->driver, FN_ADD, 0, &id, 1); /* a large value as an argument */
        (void)get(n->driver, &sum);
        (void)get(n->driver, &id);
        assert_int_equal(core_read(n->driver, &id, copy, &v), 0);
        assert_int_equal(v.size, 300000);
        assert_int_equal(((const uint8_t *)v.data)[299999], i);
        core_ref_drop(n->driver, &id); /* the view outlives the ref */
        core_ref_drop(n->driver, &sum);
        assert_int_equal(((const uint8_t *)v.data)[0], i);
        core_unpin(n->driver, v.pin);
    }
    expect_empty(n->driver, 1);
    core_get_stats(n->worker, &s);
    assert_true(s.arena_held < 16 << 20); /* the worker's bytes were freed and reused */
    finish(n);
}

/* A worker that reads its own results as arguments must not free them: the owner alone does. */
static void own_results_as_arguments(void **state) {
    enum { KEPT = 8 };
    struct node *n = start(state);
    struct skate_id ids[2 * KEPT], sum;
    uint8_t copy[LIMIT_INLINE_VALUE];

    for (int i = 0; i < 2 * KEPT; i++) {
        ids[i] = submit(n->driver, FN_BIG, i, NULL, 0);
        if (i == KEPT - 1)
            for (int k = 0; k < KEPT; k++) {
                sum = submit(n->driver, FN_ADD, 0, &ids[k], 1);
                (void)get(n->driver, &sum);
                core_ref_drop(n->driver, &sum);
            }
    }
    for (int i = 0; i < 2 * KEPT; i++) {
        struct core_view v;

        (void)get(n->driver, &ids[i]);
        assert_int_equal(core_read(n->driver, &ids[i], copy, &v), 0);
        assert_int_equal(((const uint8_t *)v.data)[299999], i);
        core_unpin(n->driver, v.pin);
        core_ref_drop(n->driver, &ids[i]);
    }
    expect_empty(n->driver, 1);
    finish(n);
}

static void contained_refs(void **state) {
    struct node *n = start(state);
    struct core_stats before, s;
    int64_t deadline;

    core_get_stats(n->worker, &before);
    for (int i = 0; i < 20; i++) {
        struct skate_id outer = submit(n->driver, FN_CONTAIN, i, NULL, 0), inner;
        uint8_t copy[LIMIT_INLINE_VALUE], ready;
        struct core_view v;

        while (core_wait(n->driver, &outer, 1, 1, -1, CORE_FETCH, &ready) != 1) continue;
        assert_int_equal(core_read(n->driver, &outer, copy, &v), 0);
        memcpy(&inner, v.data, sizeof inner);
        core_ref_add(n->driver, &inner);
        core_ref_drop(n->driver, &outer); /* the inner ref lives on without its container */
        assert_int_equal(get(n->driver, &inner), i); /* owned by the worker */
        core_ref_drop(n->driver, &inner);
    }
    expect_empty(n->driver, 1);
    deadline = time_now_ns() + INT64_C(60000000000);
    do {
        core_get_stats(n->worker, &s);
        (void)poll(NULL, 0, 1);
    } while (s.objects > before.objects && time_now_ns() < deadline);
    assert_int_equal(s.objects, before.objects);
    finish(n);
}

/* A result that nobody was woken for, because it unlocked nothing; then a task is submitted that
 * needs it. It starts at once, not when the core thread happens to look. */
static void silent_result_unlocks(void **state) {
    struct node *n = start(state);
    struct doorbell *bell = mmap(NULL, 4096, PROT_READ, MAP_SHARED, n->bells[0], 0);

    assert_true(bell != MAP_FAILED);
    assert_int_equal(sem_init(&answered, 0, 0) | sem_init(&go_on, 0, 0), 0);
    for (int i = 0; i < 10; i++) {
        struct skate_id first = submit(n->driver, FN_NOTE, i, NULL, 0), second;

        while (sem_wait(&answered) < 0) continue;
        second = submit(n->driver, FN_NOTE, 1, &first, 1);
        assert_false(bell->ready[0] & 1 << 5);
        assert_int_equal(sem_post(&go_on), 0);
        while (sem_wait(&answered) < 0) continue;
        assert_int_equal(get(n->driver, &second), i + 1);
        core_ref_drop(n->driver, &first);
        core_ref_drop(n->driver, &second);
    }
    (void)munmap(bell, 4096);
    finish(n);
}

static void timeouts(void **state) {
    struct node *n = start(state);
    struct skate_id never = {proc_make(1, 1), 999 << 16 | 1};
    uint8_t ready;
    int64_t began = time_now_ns();

    assert_int_equal(core_wait(n->driver, &never, 1, 1, 0, CORE_FETCH, &ready), 0);
    assert_int_equal(core_wait(n->driver, &never, 1, 1, 30000000, CORE_FETCH, &ready), 0);
    assert_true(time_now_ns() - began >= 30000000);
    finish(n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tasks_sync_and_async), cmocka_unit_test(chain_and_errors),
        cmocka_unit_test(arena_values),         cmocka_unit_test(contained_refs),
        cmocka_unit_test(own_results_as_arguments),
        cmocka_unit_test(silent_result_unlocks),
        cmocka_unit_test(timeouts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
