/* A worker that runs several calls at once: pool threads, a loop that is rung, cancelled calls, the
 * ways to an end. The raylet of core_rig.c plays the GCS, too. libs: base wire own core */
#include <errno.h>
#include <semaphore.h>
#include <sys/eventfd.h>

#include "core_rig.c"

#include "base/atomic.h"
#include "core/cancel.h"
#include "core/core_int.h"

enum { DEFAULT = 0, POOL = 1, LOOP = 2, GROUPS = 3, POOL_THREADS = 2, WAIT_MS = 20000 };
#define LONG_NS INT64_C(20000000000)

static struct {
    struct node *n;
    struct skate_id actor;
    int bell;
    pthread_t threads[1 + POOL_THREADS];
    sem_t serving, begun, go, cancels, over; /* go: calls with a negative argument wait for it */
    uint32_t running, most, ended; /* calls of the pool at once; threads that were told to end */
    int64_t order[64];
    uint32_t order_count;
    struct skate_id cancelled;
    int serve_result;
} at;

static void down(sem_t *s) {
    struct timespec until;

    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_MS / 1000;
    while (sem_timedwait(s, &until) < 0) assert_int_equal(errno, EINTR);
}

static void answer(struct core *c, struct core_job *job) {
    int64_t x = number(&job->args);
    struct core_part part = {&x, sizeof x, 8};
    struct core_value v = {.format = FORMAT_RAW, .part_count = 1, .parts = &part};

    assert_int_equal(core_finish(c, job, CORE_OK, &v, 1), 0);
}

/* Calls with a negative argument say that they run and wait; -9 is the one that never answers. */
static void run_call(struct core *c, struct core_job *job) {
    int64_t x = number(&job->args);
    uint32_t now = at_add_seq(&at.running, 1) + 1, most = at_load_seq(&at.most);

    while (now > most && !at_cas(&at.most, &most, now)) {}
    if (x == -9) core_serve_drain(c);
    if (x < 0) {
        assert_int_equal(sem_post(&at.begun), 0);
        down(&at.go);
    } else
        at_store_seq(&at.order[at_add_seq(&at.order_count, 1)], x);
    (void)at_add_seq(&at.running, UINT32_MAX);
    if (x != -9) answer(c, job);
}

static void *pool_thread(void *arg) {
    uint32_t group = (uint32_t)(uintptr_t)arg;
    struct core *c = at.n->worker;
    struct core_job *job;
    int r;

    while ((r = core_group_next(c, group, true, &job)) == 0) run_call(c, job);
    assert_int_equal(r, -SKATE_ESHUTDOWN);
    (void)at_add_seq(&at.ended, 1);
    return NULL;
}

/* The constructor: it makes the groups, and its thread serves until the end. */
static void run_one(struct core *c, struct core_job *job) {
    assert_int_equal(job->kind, 2);
    assert_int_equal(core_groups(c, 0), -SKATE_EINVAL);
    assert_int_equal(core_groups(c, CORE_GROUP_MASK + 1), -SKATE_EINVAL);
    assert_int_equal(core_groups(c, GROUPS), 0);
    assert_int_equal(core_groups(c, GROUPS), -SKATE_EINVAL);
    assert_int_equal(core_group_bell(c, GROUPS, at.bell), -SKATE_EINVAL);
    assert_int_equal(core_group_bell(c, LOOP, at.bell), 0);
    answer(c, job);
    for (uintptr_t i = 0; i < 1 + POOL_THREADS; i++)
        assert_int_equal(pthread_create(&at.threads[i], NULL, pool_thread,
                                        (void *)(i ? (uintptr_t)POOL : (uintptr_t)DEFAULT)), 0);
    assert_int_equal(sem_post(&at.serving), 0);
    for (;;) {
        at.serve_result = core_serve(c);
        if (at.serve_result == -SKATE_EINTR) continue;
        if (at.serve_result != -SKATE_EAGAIN) break;
        while (core_cancel_next(c, &at.cancelled)) assert_int_equal(sem_post(&at.cancels), 0);
    }
    for (int i = 0; i < 1 + POOL_THREADS; i++)
        assert_int_equal(pthread_join(at.threads[i], NULL), 0);
    assert_int_equal(sem_post(&at.over), 0);
}

static struct node *begin(void **state) {
    static const int64_t zero;
    struct core_part part = {&zero, 8, 8};
    struct core_actor a = {.fn = FN_ADD, .cls = "A", .name = "", .space = "", .held = "",
                           .placing = "", .max_concurrency = 8,
                           .args = {.format = FORMAT_RAW, .part_count = 1, .parts = &part}};

    memset(&at, 0, sizeof at);
    at.bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    assert_true(at.bell >= 0);
    assert_int_equal(sem_init(&at.serving, 0, 0) | sem_init(&at.begun, 0, 0), 0);
    assert_int_equal(sem_init(&at.go, 0, 0) | sem_init(&at.cancels, 0, 0), 0);
    assert_int_equal(sem_init(&at.over, 0, 0), 0);
    at.n = start(state);
    assert_int_equal(core_actor_create(at.n->driver, &a, &at.actor, NULL), 0);
    core_actor_calls(at.n->driver, &at.actor, true, 0);
    down(&at.serving);
    return at.n;
}

static void end(struct node *n) {
    core_ref_drop(n->driver, &at.actor);
    finish(n);
    assert_int_equal(at_load_seq(&at.ended), 1 + POOL_THREADS);
    (void)close(at.bell);
}

static int call_as(uint32_t group, int64_t arg, struct skate_id *ret) {
    struct core_part part = {&arg, 8, 8};
    struct core_task t = {.actor = at.actor, .returns = 1, .name = "A.m", .method = "m",
                          .flags = group << CORE_GROUP_SHIFT,
                          .args = {.format = FORMAT_RAW, .part_count = 1, .parts = &part}};
    int r = core_submit(at.n->driver, &t, ret, NULL);

    if (r == 0) *ret = id_with_index(*ret, 1);
    return r;
}

static struct skate_id call(uint32_t group, int64_t arg) {
    struct skate_id id = {0, 0};

    assert_int_equal(call_as(group, arg, &id), 0);
    return id;
}

/* The answer, and the ref is gone. */
static void expect(struct skate_id id, unsigned flags) {
    struct core *c = at.n->driver;
    uint8_t copy[LIMIT_INLINE_VALUE], ready = 0;
    int64_t give_up = time_now_ns() + LONG_NS;
    struct core_view v;

    while (!ready && time_now_ns() < give_up)
        if (core_wait(c, &id, 1, 1, LONG_NS / 100, CORE_FETCH, &ready) == -SKATE_EDEAD) break;
    assert_true(ready);
    assert_int_equal(core_read(c, &id, copy, &v), 0);
    assert_int_equal(v.flags, flags);
    core_unpin(c, v.pin);
    core_ref_drop(c, &id);
}

/* ---- tests ---- */

/* Two of the pool at once, never more; the default group goes on beside them; a group that there
 * is not is the default one. */
static void each_group_for_itself(void **state) {
    struct node *n = begin(state);
    struct skate_id slow[3];
    struct core_job *job;

    for (int i = 0; i < 3; i++) slow[i] = call(POOL, -1);
    down(&at.begun);
    down(&at.begun);
    for (int i = 0; i < 5; i++) expect(call(i & 1 ? DEFAULT : 77, i), 0);
    for (int i = 0; i < 5; i++) assert_int_equal(at_load_seq(&at.order[i]), i);
    assert_int_equal(sem_trywait(&at.begun), -1); /* the third waits */
    for (int i = 0; i < 3; i++) assert_int_equal(sem_post(&at.go), 0);
    for (int i = 0; i < 3; i++) expect(slow[i], 0);
    assert_int_equal(at_load_seq(&at.most), POOL_THREADS + 1); /* with one of the default group */
    assert_int_equal(core_group_next(n->worker, GROUPS, true, &job), -SKATE_EINVAL);
    end(n);
}

static void rung_once(void) {
    struct pollfd p = {at.bell, POLLIN, 0};
    uint64_t rings = 0;

    assert_int_equal(poll(&p, 1, WAIT_MS), 1);
    assert_int_equal(read(at.bell, &rings, sizeof rings), sizeof rings);
    assert_int_equal(rings, 1);
}

/* A loop is rung once, takes until there is nothing, and is rung again after that only. */
static void a_loop_is_rung(void **state) {
    struct node *n = begin(state);
    struct skate_id ids[4];
    struct core_job *job;
    uint64_t rings;

    for (int round = 0; round < 50; round++) {
        uint32_t taken = 0;

        for (int i = 0; i < 4; i++) ids[i] = call(LOOP, i);
        rung_once();
        while (taken < 4) {
            int r = core_group_next(n->worker, LOOP, false, &job);

            if (r == -SKATE_EAGAIN) {
                rung_once(); /* the rest came later */
                continue;
            }
            assert_int_equal(r, 0);
            assert_int_equal(number(&job->args), taken++);
            answer(n->worker, job);
        }
        for (int i = 0; i < 4; i++) expect(ids[i], 0);
        assert_int_equal(core_group_next(n->worker, LOOP, false, &job), -SKATE_EAGAIN);
        assert_int_equal(read(at.bell, &rings, sizeof rings), -1);
    }
    end(n);
}

/* One that waits is answered unstarted; one that runs is told to whoever serves; none is forced. */
static void cancelled_calls(void **state) {
    struct node *n = begin(state);
    struct skate_id runs = call(DEFAULT, -1), waits = call(DEFAULT, 1), last = call(DEFAULT, 2);
    struct skate_id task = id_with_index(runs, SKATE_INDEX_TASK);

    down(&at.begun);
    assert_int_equal(core_cancel(n->driver, &runs, CORE_CANCEL_FORCE), -SKATE_EINVAL);
    assert_int_equal(core_cancel(n->driver, &waits, 0), 0);
    assert_int_equal(core_cancel(n->driver, &runs, 0), 0);
    down(&at.cancels);
    assert_true(id_equal(&at.cancelled, &task));
    expect(waits, VAL_ERROR | VAL_SYSTEM);
    assert_int_equal(sem_post(&at.go), 0);
    expect(runs, 0); /* its program took no notice */
    expect(last, 0);
    assert_int_equal(at_load_seq(&at.order_count), 1);
    assert_int_equal(at_load_seq(&at.order[0]), 2);
    end(n);
}

static void too_many_pending(void **state) {
    struct node *n = begin(state);
    struct skate_id ids[2], refused;

    core_actor_calls(n->driver, &at.actor, true, 2);
    ids[0] = call(DEFAULT, -1);
    ids[1] = call(DEFAULT, 1);
    assert_int_equal(call_as(DEFAULT, 2, &refused), -SKATE_EBUSY);
    down(&at.begun);
    assert_int_equal(sem_post(&at.go), 0);
    expect(ids[0], 0);
    expect(ids[1], 0);
    expect(call(DEFAULT, 3), 0);
    end(n);
}

/* So many calls lie in its queues, or it has been told to leave. */
static void until(struct core *c, uint32_t queued, bool exiting) {
    int64_t give_up = time_now_ns() + LONG_NS;
    bool is = false;

    while (!is && time_now_ns() < give_up) {
        (void)poll(NULL, 0, 1);
        (void)pthread_mutex_lock(&c->lock);
        is = c->runs == queued && c->exiting == exiting;
        (void)pthread_mutex_unlock(&c->lock);
    }
    assert_true(is);
}

/* A call ends the actor: what came before it is answered, what came after is not begun. */
static void a_call_ends_it(void **state) {
    struct node *n = begin(state);
    struct skate_id busy[2] = {call(POOL, -1), call(POOL, -1)}, before, never[2];

    down(&at.begun);
    down(&at.begun);
    before = call(POOL, 1);
    until(n->worker, 1, false);
    never[0] = call(DEFAULT, -9);
    down(&at.begun);
    never[1] = call(POOL, 2);
    until(n->worker, 2, false);
    for (int i = 0; i < 3; i++) assert_int_equal(sem_post(&at.go), 0);
    down(&at.over);
    assert_int_equal(at.serve_result, -SKATE_ESHUTDOWN);
    expect(busy[0], 0);
    expect(busy[1], 0);
    expect(before, 0);
    assert_int_equal(at_load_seq(&at.order_count), 1);
    for (int i = 0; i < 2; i++) core_ref_drop(n->driver, &never[i]);
    end(n);
}

/* The GCS ends it: what has come is answered first. */
static void told_to_leave(void **state) {
    struct node *n = begin(state);
    struct skate_id ids[3] = {call(DEFAULT, -1), call(DEFAULT, 1), call(POOL, 2)};
    struct wire_buf b;

    down(&at.begun);
    expect(ids[2], 0);
    until(n->worker, 1, false);
    wire_init(&b, NULL, 0);
    (void)wire_begin(&b, WIRE_ACTOR_EXIT);
    tell(n, 1, &b);
    until(n->worker, 1, true);
    assert_int_equal(sem_post(&at.go), 0);
    down(&at.over);
    assert_int_equal(at.serve_result, -SKATE_ESHUTDOWN);
    expect(ids[0], 0);
    expect(ids[1], 0);
    end(n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_group_for_itself), cmocka_unit_test(a_loop_is_rung),
        cmocka_unit_test(cancelled_calls),       cmocka_unit_test(too_many_pending),
        cmocka_unit_test(a_call_ends_it),        cmocka_unit_test(told_to_leave),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
