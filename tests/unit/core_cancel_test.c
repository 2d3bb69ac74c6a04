/* Cancelled tasks: unsent ones, ones that lie at the worker, one that runs, its children, those of
 * another owner, and what has ended already. libs: base wire own core */
#include <semaphore.h>
#include <signal.h>
#include <sys/eventfd.h>

#include "core_rig.c"

#include "base/atomic.h"
#include "core/cancel.h"
#include "core/core_int.h"

enum { ARG_WAIT = -1, ARG_CHILD = -2 };
#define LONG_NS INT64_C(20000000000)

static int gate; /* readable: tasks that wait go on */
static sem_t begun;
static uint32_t runs_of[64], interrupts;

static uint32_t ran(uint32_t argument) { return at_load_seq(&runs_of[argument]); }

static uint32_t queued(struct core *c) {
    uint32_t n;

    (void)pthread_mutex_lock(&c->lock);
    n = c->runs;
    (void)pthread_mutex_unlock(&c->lock);
    return n;
}

static void on_signal(int number) { (void)number; }

static void gate_set(bool open) {
    uint64_t one = 1;

    if (open)
        assert_int_equal(write(gate, &one, sizeof one), sizeof one);
    else
        (void)!read(gate, &one, sizeof one);
}

static struct skate_id submit(struct core *c, uint64_t fn, int64_t arg,
                              const struct skate_id *dep) {
    struct core_class_opts o = {.resources = "", .name = "f"};
    struct core_part part = {&arg, 8, 8};
    struct core_task t = {.fn = fn, .returns = 1, .name = "f", .retries = 3,
                          .deps = dep, .dep_count = dep != NULL,
                          .args = {.format = FORMAT_RAW, .part_count = 1, .parts = &part}};
    struct skate_id id;

    assert_int_equal(core_class(c, &o, &t.cls), 0);
    assert_int_equal(core_submit(c, &t, &id, NULL), 0);
    return id_with_index(id, 1);
}

static void expect(struct core *c, const struct skate_id *id, unsigned flags,
                         const char *text) {
    uint8_t copy[LIMIT_INLINE_VALUE + 1] = {0}, ready = 0;
    int64_t end = time_now_ns() + LONG_NS;
    struct core_view v;

    while (!ready && time_now_ns() < end)
        if (core_wait(c, id, 1, 1, LONG_NS / 100, CORE_FETCH, &ready) == -SKATE_EDEAD) break;
    assert_true(ready);
    assert_int_equal(core_read(c, id, copy, &v), 0);
    assert_int_equal(v.flags, flags);
    if (text) assert_non_null(strstr((const char *)v.data, text));
    core_unpin(c, v.pin);
}

/* Until the gate opens; true when the task was interrupted before. */
static bool wait_at_gate(struct core *c) {
    struct pollfd p = {gate, POLLIN, 0};

    assert_int_equal(sem_post(&begun), 0);
    while (poll(&p, 1, -1) < 0)
        if (core_interrupt_take(c)) return true;
    return false;
}

/* FN_ADD, FN_NOTE: the argument; when it is ARG_WAIT or ARG_CHILD after the gate, the latter with a
 * task of its own, which no worker will ever run. */
static void run_one(struct core *c, struct core_job *job) {
    int64_t x = number(&job->args);
    struct core_part part = {&x, sizeof x, 8};
    struct core_value v = {.format = FORMAT_RAW, .part_count = 1, .parts = &part};
    struct skate_id child;
    bool stopped = false;

    if (x >= 0 && x < 64) (void)at_add_seq(&runs_of[x], 1);
    if (x == ARG_CHILD) child = submit(c, FN_ADD, 60, NULL);
    if (x < 0) stopped = wait_at_gate(c);
    if (stopped) {
        (void)at_add_seq(&interrupts, 1);
        assert_true(core_cancelled(c));
        assert_false(core_interrupt_take(c)); /* once for each cancel */
        v.flags = VAL_ERROR;
    }
    if (x == ARG_CHILD) {
        expect(c, &child, VAL_ERROR | VAL_SYSTEM, "it had not started");
        core_ref_drop(c, &child);
    }
    assert_int_equal(core_finish(c, job, stopped ? CORE_ERROR : CORE_OK, &v, 1), 0);
}

static struct node *begin(void **state) {
    struct sigaction act = {.sa_handler = on_signal};
    struct node *n = start(state);
    int64_t code = 1;
    struct core_part part = {&code, 8, 8};
    struct core_value f = {.format = FORMAT_RAW, .part_count = 1, .parts = &part};

    gate = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    assert_true(gate >= 0);
    assert_int_equal(sem_init(&begun, 0, 0), 0);
    memset(runs_of, 0, sizeof runs_of);
    interrupts = 0;
    assert_int_equal(sigaction(SIGUSR1, &act, NULL), 0); /* no SA_RESTART: poll ends */
    core_interrupt_signal(n->worker, SIGUSR1);
    assert_int_equal(core_define(n->worker, FN_ADD, "f", &f, NULL), 0);
    return n;
}

static void end(struct node *n) {
    expect_empty(n->driver, 1); /* the definition that lies in the arena */
    finish(n);
    (void)close(gate);
}

static void drop(struct node *n, const struct skate_id *ids, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) core_ref_drop(n->driver, &ids[i]);
}

static void unsent_ones(void **state) {
    struct node *n = begin(state);
    struct skate_id ids[3] = {submit(n->driver, FN_NOTE, ARG_WAIT, NULL)};

    ids[1] = submit(n->driver, FN_ADD, 1, &ids[0]);  /* its argument is missing */
    ids[2] = submit(n->driver, FN_NOTE, 2, NULL);    /* nobody knows how long they run: one each */
    while (sem_wait(&begun) < 0) continue;
    assert_int_equal(core_cancel(n->driver, &ids[1], 0), 0);
    assert_int_equal(core_cancel(n->driver, &ids[2], CORE_CANCEL_FORCE), 0);
    for (int i = 1; i < 3; i++)
        expect(n->driver, &ids[i], VAL_ERROR | VAL_SYSTEM, "it had not started");
    assert_int_equal(core_cancel(n->driver, &ids[1], 0), 0); /* again: nothing */
    gate_set(true);
    expect(n->driver, &ids[0], 0, NULL);
    assert_int_equal(ran(1) + ran(2) + at_load_seq(&interrupts), 0);
    drop(n, ids, 3);
    end(n);
}

static void the_running_one(void **state) {
    struct node *n = begin(state);
    struct skate_id ids[2] = {submit(n->driver, FN_NOTE, ARG_WAIT, NULL)};

    while (sem_wait(&begun) < 0) continue;
    assert_int_equal(core_cancel(n->driver, &ids[0], 0), 0);
    expect(n->driver, &ids[0], VAL_ERROR, NULL); /* and is not tried again */
    assert_int_equal(at_load_seq(&interrupts), 1);
    ids[1] = submit(n->driver, FN_NOTE, 3, NULL); /* the next one meets no interrupt */
    expect(n->driver, &ids[1], 0, NULL);
    assert_int_equal(ran(3), 1);
    (void)pthread_mutex_lock(&n->worker->lock);
    assert_false(n->worker->interrupt);
    (void)pthread_mutex_unlock(&n->worker->lock);
    drop(n, ids, 2);
    end(n);
}

/* Tasks that are known to be short lie behind each other at the worker. */
static void ones_at_the_worker(void **state) {
    struct node *n = begin(state);
    int64_t give_up = time_now_ns() + LONG_NS;
    struct skate_id ids[9];

    (void)pthread_mutex_lock(&n->driver->lock);
    for (uint32_t i = 0; i < n->driver->function_count; i++) n->driver->function_v[i].run_ns = 1000;
    (void)pthread_mutex_unlock(&n->driver->lock);
    for (int i = 0; i < 9; i++) ids[i] = submit(n->driver, FN_ADD, i ? i : ARG_WAIT, NULL);
    while (sem_wait(&begun) < 0) continue;
    while (queued(n->worker) < 8 && time_now_ns() < give_up) (void)poll(NULL, 0, 1);
    assert_int_equal(queued(n->worker), 8);
    assert_int_equal(core_cancel(n->driver, &ids[4], 0), 0);
    assert_int_equal(core_cancel(n->driver, &ids[8], 0), 0);
    expect(n->driver, &ids[4], VAL_ERROR | VAL_SYSTEM, "it had not started");
    expect(n->driver, &ids[8], VAL_ERROR | VAL_SYSTEM, "it had not started");
    gate_set(true);
    for (int i = 0; i < 9; i++) {
        if (i != 4 && i != 8) expect(n->driver, &ids[i], 0, NULL);
        if (i) assert_int_equal(ran(i), i != 4 && i != 8);
    }
    drop(n, ids, 9);
    end(n);
}

static void children(void **state) {
    struct node *n = begin(state);
    struct skate_id id = submit(n->driver, FN_NOTE, ARG_CHILD, NULL);

    while (sem_wait(&begun) < 0) continue;
    assert_int_equal(core_cancel(n->driver, &id, CORE_CANCEL_CHILDREN), 0);
    expect(n->driver, &id, VAL_ERROR, NULL);
    assert_int_equal(at_load_seq(&interrupts), 1);
    assert_int_equal(ran(60), 0);
    drop(n, &id, 1);
    end(n);
}

/* Whoever holds a ref may ask its owner; what is unknown or has ended is left as it is. */
static void of_another_owner(void **state) {
    struct node *n = begin(state);
    struct skate_id ids[3] = {submit(n->driver, FN_NOTE, ARG_WAIT, NULL)}, none;

    while (sem_wait(&begun) < 0) continue;
    ids[1] = submit(n->driver, FN_NOTE, 5, NULL);
    assert_int_equal(core_cancel(n->worker, &ids[1], 0), 0);
    expect(n->driver, &ids[1], VAL_ERROR | VAL_SYSTEM, "it had not started");
    none = (struct skate_id){ids[0].owner, 4711 << 16 | 1};
    assert_int_equal(core_cancel(n->driver, &none, CORE_CANCEL_FORCE), 0);
    assert_int_equal(core_cancel(n->worker, &none, 0), 0);
    gate_set(true);
    expect(n->driver, &ids[0], 0, NULL);
    assert_int_equal(core_cancel(n->driver, &ids[0], 0), 0);
    expect(n->driver, &ids[0], 0, NULL);
    ids[2] = submit(n->driver, FN_NOTE, 6, NULL);
    expect(n->driver, &ids[2], 0, NULL);
    assert_int_equal(at_load_seq(&interrupts), 0);
    drop(n, ids, 3);
    end(n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unsent_ones), cmocka_unit_test(the_running_one),
        cmocka_unit_test(ones_at_the_worker), cmocka_unit_test(children),
        cmocka_unit_test(of_another_owner),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
