/* Watched objects: told once and in batches, given up, closed sets, the end of the session.
 * libs: base wire own core */
#include "core_rig.c"

#include <sys/eventfd.h>

#include "core/core_async.h"

enum { MANY = 2000, WAIT_MS = 60000 };

static pthread_mutex_t gate_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_moved = PTHREAD_COND_INITIALIZER;
static bool gate_open;
static uint32_t notes_begun, notes_done; /* tasks of FN_NOTE: running; their result is sent */

static void gate_set(bool open) {
    (void)pthread_mutex_lock(&gate_lock);
    gate_open = open;
    (void)pthread_cond_broadcast(&gate_moved);
    (void)pthread_mutex_unlock(&gate_lock);
}

/* FN_NOTE waits for the gate, FN_BIG gives a large value, FN_ADD its argument. */
static void run_one(struct core *c, struct core_job *job) {
    static uint8_t big[300000];
    int64_t x = number(&job->args);
    uint64_t fn = job->fn; /* the job is gone once it is finished */
    struct core_part part = {&x, sizeof x, 8};
    struct core_value v = {.format = FORMAT_RAW, .part_count = 1, .parts = &part};

    if (fn == FN_BIG) part = (struct core_part){big, sizeof big, 8};
    if (fn == FN_NOTE) {
        (void)pthread_mutex_lock(&gate_lock);
        notes_begun++;
        (void)pthread_cond_broadcast(&gate_moved);
        while (!gate_open) (void)pthread_cond_wait(&gate_moved, &gate_lock);
        (void)pthread_mutex_unlock(&gate_lock);
    }
    assert_int_equal(core_finish(c, job, CORE_OK, &v, 1), 0);
    if (fn != FN_NOTE) return;
    (void)pthread_mutex_lock(&gate_lock);
    notes_done++;
    (void)pthread_cond_broadcast(&gate_moved);
    (void)pthread_mutex_unlock(&gate_lock);
}

/* Nobody here hears of the result once the driver has ended: the worker says it itself. */
static void wait_for(const uint32_t *notes, uint32_t count) {
    (void)pthread_mutex_lock(&gate_lock);
    while (*notes < count) (void)pthread_cond_wait(&gate_moved, &gate_lock);
    (void)pthread_mutex_unlock(&gate_lock);
}

static struct skate_id submit(struct core *c, uint64_t fn, int64_t arg) {
    struct core_class_opts o = {.resources = "", .resources_len = 0, .name = "f"};
    struct core_part part = {&arg, 8, 8};
    struct core_task t = {.fn = fn, .returns = 1, .name = "f",
                          .args = {.format = FORMAT_RAW, .part_count = 1, .parts = &part}};
    struct skate_id id;

    assert_int_equal(core_class(c, &o, &t.cls), 0);
    assert_int_equal(core_submit(c, &t, &id, NULL), 0);
    return id_with_index(id, 1);
}

static uint32_t open_set(struct core *c, int *fd) {
    uint32_t set = 77;

    *fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    assert_true(*fd >= 0);
    assert_int_equal(core_watch_open(c, *fd, &set), 0);
    return set;
}

/* The next tokens, once the set rings. */
static uint32_t take(struct core *c, uint32_t set, int fd, uint64_t *tokens, uint32_t max) {
    struct pollfd p = {fd, POLLIN, 0};
    uint64_t counter;

    assert_int_equal(poll(&p, 1, WAIT_MS), 1);
    assert_int_equal(read(fd, &counter, sizeof counter), sizeof counter);
    return core_watch_take(c, set, tokens, max);
}

static void each_is_told_once(void **state) {
    struct node *n = start(state);
    static struct skate_id ids[MANY];
    static uint8_t told[MANY];
    uint64_t tokens[64];
    uint32_t got = 0, waiting = 0;
    int fd;
    uint32_t set = open_set(n->driver, &fd);

    for (uint32_t i = 0; i < MANY; i++) ids[i] = submit(n->driver, FN_ADD, i);
    for (uint32_t i = 0; i < MANY; i++) {
        int r = core_watch(n->driver, set, &ids[i], i);

        assert_true(r == 0 || r == 1);
        told[i] = r == 1;
        waiting += r == 0;
    }
    while (got < waiting) {
        uint32_t k = take(n->driver, set, fd, tokens, 64);

        do {
            for (uint32_t i = 0; i < k; i++) {
                assert_true(tokens[i] < MANY);
                assert_int_equal(told[tokens[i]]++, 0);
            }
            got += k;
            k = core_watch_take(n->driver, set, tokens, 64);
        } while (k);
    }
    for (uint32_t i = 0; i < MANY; i++) {
        uint8_t copy[LIMIT_INLINE_VALUE];
        struct core_view v;

        assert_int_equal(told[i], 1);
        assert_int_equal(core_read(n->driver, &ids[i], copy, &v), 0);
        assert_int_equal(number(&v), i);
        core_ref_drop(n->driver, &ids[i]);
    }
    core_watch_close(n->driver, set);
    expect_empty(n->driver, 1); /* the definition that lies in the arena */
    finish(n);
    (void)close(fd);
}

static void a_watch_keeps_its_object(void **state) {
    struct node *n = start(state);
    uint64_t token = 0;
    int fd;
    uint32_t set = open_set(n->driver, &fd);
    struct skate_id id;

    gate_set(false);
    id = submit(n->driver, FN_NOTE, 5);
    assert_int_equal(core_watch(n->driver, set, &id, 9), 0);
    core_ref_drop(n->driver, &id); /* the last */
    gate_set(true);
    assert_int_equal(take(n->driver, set, fd, &token, 1), 1);
    assert_int_equal(token, 9);
    expect_empty(n->driver, 1);
    id = submit(n->driver, FN_BIG, 5); /* a large value is told of as well */
    while (core_watch(n->driver, set, &id, 10) == 0)
        assert_int_equal(take(n->driver, set, fd, &token, 1), 1);
    core_ref_drop(n->driver, &id);
    expect_empty(n->driver, 1);
    finish(n);
    (void)close(fd);
}

/* Four watches of one object, of two sets; any of them may be given up. */
static void watches_are_given_up(void **state) {
    struct node *n = start(state);
    int fd, other_fd;
    uint32_t set = open_set(n->driver, &fd), other = open_set(n->driver, &other_fd), k;
    uint64_t tokens[8];

    assert_int_not_equal(set, other);
    for (uint64_t gone = 0; gone < 4; gone++) {
        struct skate_id id;
        uint64_t sum = 0;

        gate_set(false);
        id = submit(n->driver, FN_NOTE, 1);
        for (uint64_t i = 0; i < 4; i++)
            assert_int_equal(core_watch(n->driver, i == 3 ? other : set, &id, i), 0);
        assert_false(core_unwatch(n->driver, set, &id, 8));
        assert_false(core_unwatch(n->driver, gone == 3 ? set : other, &id, gone));
        assert_true(core_unwatch(n->driver, gone == 3 ? other : set, &id, gone));
        assert_false(core_unwatch(n->driver, gone == 3 ? other : set, &id, gone));
        gate_set(true);
        for (uint32_t got = 0; got < (gone == 3 ? 3 : 2); got += k) {
            k = take(n->driver, set, fd, tokens, 8);
            for (uint32_t i = 0; i < k; i++) sum += tokens[i];
        }
        if (gone != 3) {
            assert_int_equal(take(n->driver, other, other_fd, tokens, 8), 1);
            assert_int_equal(tokens[0], 3);
        }
        assert_int_equal(sum, gone == 3 ? 3 : 3 - gone);
        core_ref_drop(n->driver, &id);
        expect_empty(n->driver, 1);
    }
    finish(n);
    (void)close(fd);
    (void)close(other_fd);
}

static void a_closed_set_and_wrong_ones(void **state) {
    struct node *n = start(state);
    int fd, other_fd;
    uint32_t set = open_set(n->driver, &fd), other = open_set(n->driver, &other_fd), again;
    struct skate_id id;
    uint64_t token = 0;

    gate_set(false);
    id = submit(n->driver, FN_NOTE, 1);
    assert_int_equal(core_watch(n->driver, set, &id, 1), 0);
    assert_int_equal(core_watch(n->driver, other, &id, 2), 0);
    core_watch_close(n->driver, set);
    assert_int_equal(core_watch(n->driver, set, &id, 1), -SKATE_EINVAL);
    assert_int_equal(core_watch(n->driver, 12345, &id, 1), -SKATE_EINVAL);
    assert_int_equal(core_watch_take(n->driver, set, &token, 1), 0);
    gate_set(true);
    assert_int_equal(take(n->driver, other, other_fd, &token, 1), 1);
    assert_int_equal(token, 2);
    again = open_set(n->driver, &fd);
    assert_int_equal(again, set); /* its place is used again */
    core_ref_drop(n->driver, &id);
    expect_empty(n->driver, 1);
    finish(n);
    (void)close(other_fd);
}

static void the_end_of_the_session_tells_all(void **state) {
    struct node *n = start(state);
    struct pollfd p;
    int fd;
    uint32_t set = open_set(n->driver, &fd), begun = notes_begun, done = notes_done;
    struct skate_id id;

    gate_set(false);
    id = submit(n->driver, FN_NOTE, 1);
    assert_int_equal(core_watch(n->driver, set, &id, 1), 0);
    wait_for(&notes_begun, begun + 1);
    core_interrupt(n->driver);
    p = (struct pollfd){fd, POLLIN, 0};
    assert_int_equal(poll(&p, 1, WAIT_MS), 1);
    assert_int_equal(core_watch(n->driver, set, &id, 1), -SKATE_ESHUTDOWN);
    gate_set(true);
    wait_for(&notes_done, done + 1);
    finish(n);
    (void)close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_told_once),
        cmocka_unit_test(a_watch_keeps_its_object),
        cmocka_unit_test(watches_are_given_up),
        cmocka_unit_test(a_closed_set_and_wrong_ones),
        cmocka_unit_test(the_end_of_the_session_tells_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
