/* loop_test.c - the daemon's loop: order of deferred calls, timers, watches, ends in callbacks.
 * links: base loop. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/futex.h"
#include "loop/loop.h"

static struct loop *loop;

static int start(void **state) {
    (void)state;
    return loop_new(&loop);
}

static int stop(void **state) {
    (void)state;
    loop = loop_free(loop);
    return 0;
}

struct note {
    struct loop_task task;
    char name;
    struct note *then, *take_back;
};
static char order[32];

static void run_note(void *arg) {
    struct note *n = arg;
    size_t at = strlen(order);

    order[at] = n->name;
    if (n->then) loop_post(loop, &n->then->task);
    if (n->take_back) loop_unpost(loop, &n->take_back->task);
}

/* In order of posting, each once, a task of a task a turn later, an unposted one never. */
static void tasks(void **state) {
    struct note a = {.name = 'a'}, b = {.name = 'b'}, c = {.name = 'c'}, d = {.name = 'd'};

    (void)state;
    memset(order, 0, sizeof order);
    loop_task_init(&a.task, run_note, &a);
    loop_task_init(&b.task, run_note, &b);
    loop_task_init(&c.task, run_note, &c);
    loop_task_init(&d.task, run_note, &d);
    a.then = &a;
    b.take_back = &d;
    loop_post(loop, &a.task);
    loop_post(loop, &b.task);
    loop_post(loop, &a.task);
    loop_post(loop, &c.task);
    loop_post(loop, &d.task);
    loop_unpost(loop, &c.task);
    loop_post(loop, &c.task); /* behind d now */
    assert_string_equal(order, "");
    loop_run_once(loop, 0);
    assert_string_equal(order, "abc");
    a.then = NULL;
    loop_run_once(loop, 0);
    loop_run_once(loop, 0);
    assert_string_equal(order, "abca");
}

struct clock {
    struct loop_timer *timer;
    uint32_t rings, free_at;
};

static void on_time(void *arg) {
    struct clock *c = arg;

    if (++c->rings == c->free_at) c->timer = loop_timer_free(c->timer);
}

/* Once, again and again, stopped, freed by its own callback. */
static void timers(void **state) {
    struct clock once = {0}, often = {.free_at = 3}, never = {0};
    int64_t began = time_now_ns();

    (void)state;
    assert_int_equal(loop_timer_new(loop, on_time, &once, &once.timer), 0);
    assert_int_equal(loop_timer_new(loop, on_time, &often, &often.timer), 0);
    assert_int_equal(loop_timer_new(loop, on_time, &never, &never.timer), 0);
    assert_false(loop_timer_is_active(once.timer));
    loop_timer_start(once.timer, 20, 0);
    loop_timer_start(often.timer, 5, 5);
    loop_timer_start(never.timer, 1, 0);
    assert_true(loop_timer_is_active(never.timer));
    loop_timer_stop(never.timer);
    while (once.rings == 0 || often.timer) loop_run_once(loop, 1000);
    assert_true(time_now_ns() - began >= 19 * INT64_C(1000000));
    assert_int_equal(once.rings, 1);
    assert_int_equal(often.rings, 3);
    assert_int_equal(never.rings, 0);
}

struct pipe_end {
    struct loop_watch *watch;
    int fd;
    unsigned seen;
    uint32_t calls;
    bool unwatch, halt;
};

static void on_event(void *arg, unsigned events) {
    struct pipe_end *p = arg;

    p->seen |= events;
    p->calls++;
    if (p->unwatch) p->watch = loop_unwatch(p->watch);
    if (p->halt) loop_stop(loop);
}

/* Interest can change; a closed peer is reported; the callback may end its own watch. */
static void watches(void **state) {
    struct pipe_end in = {0}, out = {0};
    int fds[2];
    char byte = 'x';

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(loop_watch_fd(loop, fds[0], 0, on_event, &in, &in.watch), 0);
    assert_int_equal(loop_watch_fd(loop, fds[1], LOOP_WRITE, on_event, &out, &out.watch), 0);
    loop_run_once(loop, 1000);
    assert_int_equal(out.seen, LOOP_WRITE);
    loop_watch_set(out.watch, 0);
    assert_int_equal(write(fds[1], &byte, 1), 1);
    loop_run_once(loop, 0);
    assert_int_equal(in.calls, 0); /* not watched for anything yet */
    loop_watch_set(in.watch, LOOP_READ);
    loop_run_once(loop, 1000);
    assert_int_equal(in.seen, LOOP_READ);
    assert_int_equal(read(fds[0], &byte, 1), 1);
    in.calls = 0;
    loop_run_once(loop, 0);
    assert_int_equal(in.calls, 0);
    out.watch = loop_unwatch(out.watch);
    close(fds[1]);
    in.unwatch = in.halt = true;
    loop_run(loop); /* until its callback stops it */
    assert_int_equal(in.calls, 1);
    assert_null(in.watch);
    loop_run_once(loop, 0);
    assert_int_equal(in.calls, 1);
    close(fds[0]);
}

/* A number that is closed and opened again can be watched again at once. */
static void reused_descriptor(void **state) {
    struct pipe_end a = {0}, b = {0};
    int fds[2];

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_int_equal(loop_watch_fd(loop, fds[0], LOOP_READ, on_event, &a, &a.watch), 0);
        assert_int_equal(write(fds[1], "y", 1), 1);
        a.calls = 0;
        while (!a.calls) loop_run_once(loop, 1000);
        a.watch = loop_unwatch(a.watch);
        close(fds[0]);
        close(fds[1]);
    }
    assert_int_equal(loop_watch_fd(loop, 1000, LOOP_READ, on_event, &b, &b.watch), -SKATE_ESYS);
}

/* It looks without sleeping, serves meanwhile, ends by itself, and is passed over when in vain. */
static void expecting(void **state) {
    struct pipe_end in = {.unwatch = true};
    int fds[2], tries = 0;

    (void)state;
    assert_false(loop_expects(loop));
    loop_expect(loop, LOOP_FROM_HERE);
    assert_true(loop_expects(loop));
    loop_run(loop); /* it keeps no loop alive for ever */
    assert_false(loop_expects(loop));
    while (loop_expect(loop, LOOP_FROM_HERE), loop_expects(loop)) { /* nothing ever comes */
        loop_run(loop);
        assert_true(++tries < 100);
    }
    loop_expect(loop, LOOP_FROM_FAR);
    assert_true(loop_expects(loop)); /* that is something else */
    loop_expect(loop, LOOP_FROM_HERE);
    assert_false(loop_expects(loop)); /* the last word counts */
    for (tries = 0; !loop_expects(loop); tries++) { /* tried again, later */
        loop_expect(loop, LOOP_FROM_HERE);
        assert_true(tries < 100);
    }
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(loop_watch_fd(loop, fds[0], LOOP_READ, on_event, &in, &in.watch), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    loop_run(loop);
    assert_int_equal(in.calls, 1);
    while (loop_expect(loop, LOOP_FROM_FAR), loop_expects(loop)) loop_run(loop);
    assert_int_equal(loop_watch_fd(loop, fds[0], LOOP_READ, on_event, &in, &in.watch), 0);
    loop_run(loop); /* that was not found by looking: nothing is forgotten */
    assert_int_equal(in.calls, 2);
    while (!loop_expects(loop)) loop_expect(loop, LOOP_FROM_FAR);
    loop_run(loop);
    loop_expect(loop, LOOP_FROM_FAR);
    assert_false(loop_expects(loop));
    close(fds[0]);
    close(fds[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void) {
    const struct CMUnitTest tests[] = {TEST(tasks), TEST(timers), TEST(watches),
                                       TEST(reused_descriptor), TEST(expecting)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
