/* The hot paths of the core, one function each, in lockstep on one thread: nobody waits, so what a
 * path executes is the same in every run. tools/instructions.py runs this under callgrind and reads
 * the cost of each path_*() out of its profile; as a unit test it checks the values.
 * ROUNDS in the environment says how often. libs: base wire own core */
#include "core_rig.c"

#include "core/core_int.h"

enum { BURST = 32, FEW = 50 };

#define PATH static __attribute__((noipa))

/* `worker` is not started here: the one thread plays both sides in turn. */
static void run_one(struct core *c, struct core_job *job) {
    (void)c;
    (void)job;
    fail_msg("nobody runs tasks by himself here");
}

static int rounds(void) {
    const char *text = getenv("ROUNDS");
    long n = text ? strtol(text, NULL, 10) : FEW;

    return n > 0 && n < 1000000 ? (int)n : FEW;
}

/* ---- the paths ---- */

PATH struct skate_id path_submit(struct core *c, const struct core_task *t) {
    struct skate_id id;

    assert_int_equal(core_submit(c, t, &id, NULL), 0);
    return id_with_index(id, 1);
}

PATH struct skate_id path_actor_submit(struct core *c, const struct core_task *t) {
    struct skate_id id;

    assert_int_equal(core_submit(c, t, &id, NULL), 0);
    return id_with_index(id, 1);
}

PATH struct core_job *path_execute(struct core *c) {
    struct core_job *job;
    int r;

    do r = core_next(c, &job);
    while (r == -SKATE_EINTR);
    assert_int_equal(r, 0);
    return job;
}

PATH void path_complete(struct core *c, struct core_job *job, int64_t x) {
    struct core_part part = {&x, 8, 8};
    struct core_value v = {.format = FORMAT_RAW, .part_count = 1, .parts = &part};

    assert_int_equal(core_finish(c, job, CORE_OK, &v, 1), 0);
}

/* The first of them takes all that lie in the ring. */
PATH int64_t path_result(struct core *c, const struct skate_id *id) {
    uint8_t copy[LIMIT_INLINE_VALUE], ready;
    struct core_view v;
    int r;

    do r = core_wait(c, id, 1, 1, -1, CORE_FETCH, &ready);
    while (r == -SKATE_EINTR);
    assert_int_equal(core_read(c, id, copy, &v), 0);
    core_ref_drop(c, id);
    return number(&v);
}

PATH struct skate_id path_put(struct core *c, int64_t x) {
    struct core_part part = {&x, 8, 8};
    struct core_value v = {.format = FORMAT_RAW, .part_count = 1, .parts = &part};
    struct skate_id id;

    assert_int_equal(core_put(c, &v, &id, NULL), 0);
    return id;
}

PATH int64_t path_get(struct core *c, const struct skate_id *id) {
    uint8_t copy[LIMIT_INLINE_VALUE], ready;
    struct core_view v;

    assert_int_equal(core_wait(c, id, 1, 1, -1, CORE_FETCH, &ready), 1);
    assert_int_equal(core_read(c, id, copy, &v), 0);
    return number(&v);
}

PATH void path_drop(struct core *c, const struct skate_id *id) { core_ref_drop(c, id); }

/* ---- round trips made of them ---- */

static int64_t answer(struct core *c) {
    struct core_job *job = path_execute(c);
    int64_t x = number(&job->args) + 1;

    path_complete(c, job, x);
    return x;
}

/* How many submissions are traced depends on the clock: none here, as in a long loop. */
static void untraced(struct node *n) {
    (void)pthread_mutex_lock(&n->driver->lock);
    n->driver->submits_left = 0;
    (void)pthread_mutex_unlock(&n->driver->lock);
}

/* One at a time: each part of it is what a synchronous call costs. */
static int64_t trip(struct node *n, const struct core_task *t, int64_t x) {
    struct skate_id id;

    untraced(n);
    id = t->actor.owner ? path_actor_submit(n->driver, t) : path_submit(n->driver, t);
    assert_int_equal(answer(n->worker), x + 1);
    return path_result(n->driver, &id);
}

PATH void path_task_alone(struct node *n, const struct core_task *t, int64_t x) {
    assert_int_equal(trip(n, t, x), x + 1);
}

PATH void path_actor_call_alone(struct node *n, const struct core_task *t, int64_t x) {
    assert_int_equal(trip(n, t, x), x + 1);
}

/* Thirty-two at a time, as a caller in a loop has them. */
PATH void path_actor_burst(struct node *n, const struct core_task *t, int64_t *x) {
    struct skate_id ids[BURST];
    uint8_t ready[BURST], copy[LIMIT_INLINE_VALUE];
    struct core_view v;
    int r;

    for (int i = 0; i < BURST; i++) {
        ++*x;
        untraced(n);
        assert_int_equal(core_submit(n->driver, t, &ids[i], NULL), 0);
        ids[i] = id_with_index(ids[i], 1);
    }
    for (int i = 0; i < BURST; i++) {
        struct core_part part = {&i, sizeof i, 4};
        struct core_value value = {.format = FORMAT_RAW, .part_count = 1, .parts = &part};
        struct core_job *job;

        do r = core_next(n->worker, &job);
        while (r == -SKATE_EINTR);
        assert_int_equal(r, 0);
        assert_int_equal(core_finish(n->worker, job, CORE_OK, &value, 1), 0);
    }
    do r = core_wait(n->driver, ids, BURST, BURST, -1, CORE_FETCH, ready);
    while (r == -SKATE_EINTR);
    assert_int_equal(r, BURST);
    for (int i = 0; i < BURST; i++) {
        assert_int_equal(core_read(n->driver, &ids[i], copy, &v), 0);
        assert_int_equal(*(const int *)v.data, i);
        core_ref_drop(n->driver, &ids[i]);
    }
}

/* ---- tests ---- */

static void stop(struct node *n) {
    expect_empty(n->driver, 1); /* the definition that lies in the arena */
    finish(n);
}

static void tasks(void **state) {
    struct node *n = start_cores(state);
    struct core_class_opts o = {.resources = "", .resources_len = 0, .name = "f"};
    int64_t x;
    struct core_part part = {&x, 8, 8};
    struct core_task t = {.fn = FN_ADD, .returns = 1, .name = "f",
                          .args = {.format = FORMAT_RAW, .part_count = 1, .parts = &part}};

    assert_int_equal(core_class(n->driver, &o, &t.cls), 0);
    for (x = 0; x < rounds(); x++) path_task_alone(n, &t, x);
    stop(n);
}

static void objects(void **state) {
    struct node *n = start_cores(state);

    for (int64_t x = 0; x < rounds(); x++) {
        struct skate_id id = path_put(n->driver, x);

        assert_int_equal(path_get(n->driver, &id), x);
        path_drop(n->driver, &id);
    }
    stop(n);
}

/* The worker runs the constructor, and the driver has heard that the actor lives there. */
static void construct(struct node *n, const struct skate_id *actor) {
    struct core_actor_state now = {0};
    struct core_job *job;
    int r;

    do r = core_next(n->worker, &job);
    while (r == -SKATE_EINTR);
    assert_int_equal(r, 0);
    assert_int_equal(job->kind, 2);
    assert_int_equal(core_finish(n->worker, job, CORE_OK, NULL, 0), 0);
    for (int i = 0; i < 20000 && now.state != 1; i++) {
        core_actor_state(n->driver, actor, &now);
        (void)poll(NULL, 0, 1);
    }
    assert_int_equal(now.state, 1);
}

static void actor_calls(void **state) {
    struct node *n = start_cores(state);
    int64_t x = 0;
    struct core_part part = {&x, 8, 8};
    struct core_value args = {.format = FORMAT_RAW, .part_count = 1, .parts = &part};
    struct core_actor a = {.fn = FN_ADD, .max_concurrency = 1, .name = "", .space = "",
                           .cls = "Counter", .args = args, .held = "", .placing = "", .env = ""};
    struct core_task t = {.returns = 1, .name = "Counter.add", .method = "add", .args = args};

    assert_int_equal(core_actor_create(n->driver, &a, &t.actor, NULL), 0);
    construct(n, &t.actor);
    for (; x < rounds(); x++) path_actor_call_alone(n, &t, x);
    for (int i = 0; i < rounds() / 8; i++) path_actor_burst(n, &t, &x);
    core_ref_drop(n->driver, &t.actor);
    finish(n);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(tasks), cmocka_unit_test(objects),
                                       cmocka_unit_test(actor_calls)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
