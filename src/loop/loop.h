/* loop.h - the event loop of a daemon: readiness of descriptors, timers, deferred calls.
 *
 * A thin face over libuv, so that nothing else includes it. One loop per daemon, touched only by
 * its own thread (there is no call for other threads: they wake it through an eventfd that is
 * watched). loop_run() blocks, nothing else does. Callbacks come from loop_run() only, one at a
 * time, never from inside a call of this module. Within a callback everything here is allowed,
 * loop_unwatch() and loop_timer_free() of the running callback's own handle included: after them
 * the handle is never called again. A daemon links this, a user process never does.
 * Tests: tests/unit/loop_test.c. */
#ifndef SKATE_LOOP_LOOP_H
#define SKATE_LOOP_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct loop;       /* the loop; opaque */
struct loop_watch; /* a watched descriptor */
struct loop_timer; /* a timer */

enum loop_event { LOOP_READ = 1, LOOP_WRITE = 2 };

/* 0, -SKATE_ENOMEM or -SKATE_ESYS. */
SKATE_NODISCARD int loop_new(struct loop **ret);
/* Ends every handle that still exists (they must not be used after). NULL is fine; NULL back. */
struct loop *loop_free(struct loop *l);
/* Serve events until loop_stop(), or until nothing is left to wait for. May be called again. */
void loop_run(struct loop *l);
/* One turn: sleep until an event, at most timeout_ms, and serve it. For tests and benches. */
void loop_run_once(struct loop *l, uint32_t timeout_ms);
/* loop_run() returns after the callback that runs now. */
void loop_stop(struct loop *l);
/* Something is likely to come within microseconds: look for it for a moment (60 us from the last
 * call) before sleeping, since a wake-up of an idle core costs more than the work of a short
 * message. Learns for each `what` apart: where nothing comes in time, or the cores are busy, it is
 * done ever more seldom. Gives the core to whoever else wants it. */
enum loop_what { LOOP_FROM_HERE, LOOP_FROM_FAR, LOOP_WHATS }; /* a process here, another machine */
void loop_expect(struct loop *l, enum loop_what what);
bool loop_expects(const struct loop *l); /* is it looking now? */
/* CLOCK_MONOTONIC now, in nanoseconds. */
int64_t loop_now_ns(const struct loop *l);

/* Watch fd (made non-blocking; stays the caller's, who closes it after loop_unwatch()) for events,
 * a set of enum loop_event; 0: for nothing yet. Level-triggered. A broken or hung up descriptor
 * is reported as every event that is asked for: the next read or write says what is wrong.
 * on_event is called with the set that is ready. 0, -SKATE_ENOMEM, or -SKATE_ESYS (a descriptor
 * that epoll refuses, a plain file for one, or that is watched already). */
SKATE_NODISCARD int loop_watch_fd(struct loop *l, int fd, unsigned events,
                                  void (*on_event)(void *arg, unsigned events), void *arg,
                                  struct loop_watch **ret);
/* Change what is watched for; cheap when nothing changes. */
void loop_watch_set(struct loop_watch *w, unsigned events);
/* End it. NULL is fine; NULL back. */
struct loop_watch *loop_unwatch(struct loop_watch *w);

/* A timer, not started. 0 or -SKATE_ENOMEM. */
SKATE_NODISCARD int loop_timer_new(struct loop *l, void (*on_time)(void *arg), void *arg,
                                   struct loop_timer **ret);
/* (Re)start: after `after_ms`, then each `repeat_ms` (0: once). */
void loop_timer_start(struct loop_timer *t, uint64_t after_ms, uint64_t repeat_ms);
void loop_timer_stop(struct loop_timer *t);
bool loop_timer_is_active(const struct loop_timer *t);
/* NULL is fine; NULL back. */
struct loop_timer *loop_timer_free(struct loop_timer *t);

/* A deferred call, in the caller's memory: it never fails for want of memory. */
struct loop_task {
    void (*run)(void *arg);
    void *arg;
    struct loop_task *next, **link; /* the loop's; link is NULL when not queued */
};

void loop_task_init(struct loop_task *t, void (*run)(void *arg), void *arg);
/* Call it soon, from loop_run(), before the loop sleeps, in the order of posting. A task that is
 * queued already stays where it is. A task posted by a task runs after the events that are ready
 * then. The memory must stay until it has run or loop_unpost() was called. */
void loop_post(struct loop *l, struct loop_task *t);
/* Take it back; nothing when it is not queued. */
void loop_unpost(struct loop *l, struct loop_task *t);

#endif
