/* loop.c - see loop.h. The one file that includes libuv.
 *
 * Handles are freed in libuv's close callback, which comes a turn later: a stopped handle is
 * silent until then. Deferred calls run from an idle handle, which also keeps the loop from
 * sleeping while any is queued. Loop thread only. Tests: tests/unit/loop_test.c. */
#include "loop/loop.h"

#include <sched.h>
#include <stdlib.h>

#include <uv.h>

#include "base/assert.h"

/* LOOK_NS: a few hops between processes of one machine. After VAIN_FREE looks in vain in a row two
 * calls are passed over, then four, up to 64; at once when the core was away for SLOW_NS. */
enum { LOOK_NS = 60 * 1000, SLOW_NS = 200 * 1000, VAIN_FREE = 3, VAIN_MOST = VAIN_FREE + 6 };

/* Every handle is in a list of its loop, so that loop_free() finds what was left. */
struct handle {
    struct handle *next, **link;
    struct loop *loop;
};

struct loop_watch {
    struct handle handle; /* first */
    uv_poll_t poll;
    unsigned events;
    void (*on_event)(void *arg, unsigned events);
    void *arg;
};

struct loop_timer {
    struct handle handle; /* first */
    uv_timer_t timer;
    void (*on_time)(void *arg);
    void *arg;
};

struct loop {
    uv_loop_t uv;
    uv_idle_t idle;
    uv_timer_t limit; /* of loop_run_once() */
    uv_idle_t hot;    /* active: looking without sleeping */
    uint64_t hot_until, hot_seen; /* seen: when it last looked */
    bool hot_last;                /* it ends after one more look */
    struct look {
        uint32_t vain, skip; /* in vain, in a row; how many calls are passed over for it */
    } looks[LOOP_WHATS], *look; /* look: what is expected now */
    struct loop_task *tasks, **tasks_end;
    struct handle *watches, *timers;
};

static void handle_add(struct handle **list, struct handle *h, struct loop *l) {
    h->loop = l;
    h->next = *list;
    h->link = list;
    if (h->next) h->next->link = &h->next;
    *list = h;
}

static void handle_remove(struct handle *h) {
    *h->link = h->next;
    if (h->next) h->next->link = h->link;
}

static void on_closed(uv_handle_t *h) { free(h->data); }

/* ------------------------------------------------------------------ deferred calls */

void loop_task_init(struct loop_task *t, void (*run)(void *arg), void *arg) {
    *t = (struct loop_task){.run = run, .arg = arg};
}

static void task_remove(struct loop_task *t) {
    *t->link = t->next;
    if (t->next) t->next->link = t->link;
    t->next = NULL;
    t->link = NULL;
}

/* Run what was queued before; what these tasks queue waits for the next turn. */
static void on_idle(uv_idle_t *idle) {
    struct loop *l = idle->data;
    struct loop_task *list = l->tasks;

    l->tasks = NULL;
    l->tasks_end = &l->tasks;
    if (list) list->link = &list;
    while (list) {
        struct loop_task *t = list;

        task_remove(t);
        t->run(t->arg);
    }
    if (!l->tasks) (void)uv_idle_stop(idle);
}

void loop_post(struct loop *l, struct loop_task *t) {
    SKATE_ASSERT(t->run);
    if (t->link) return;
    t->next = NULL;
    t->link = l->tasks_end;
    *l->tasks_end = t;
    l->tasks_end = &t->next;
    (void)uv_idle_start(&l->idle, on_idle);
}

void loop_unpost(struct loop *l, struct loop_task *t) {
    if (!t->link) return;
    if (l->tasks_end == &t->next) l->tasks_end = t->link;
    task_remove(t);
}

/* ------------------------------------------------------------------ descriptors */

static int poll_start(struct loop_watch *w);

static void on_poll(uv_poll_t *poll, int status, int ready) {
    struct loop_watch *w = poll->data;
    unsigned events = 0;

    if (status < 0) {
        /* libuv has stopped the handle; there may be more to read before the error. */
        events = w->events;
        (void)poll_start(w);
    } else {
        if (ready & UV_READABLE) events |= LOOP_READ;
        if (ready & UV_WRITABLE) events |= LOOP_WRITE;
        events &= w->events;
    }
    if (loop_expects(w->handle.loop)) w->handle.loop->look->vain = 0; /* not in vain */
    if (events) w->on_event(w->arg, events);
}

static int poll_start(struct loop_watch *w) {
    int want = 0;

    if (w->events & LOOP_READ) want |= UV_READABLE;
    if (w->events & LOOP_WRITE) want |= UV_WRITABLE;
    return want ? uv_poll_start(&w->poll, want, on_poll) : uv_poll_stop(&w->poll);
}

int loop_watch_fd(struct loop *l, int fd, unsigned events,
                  void (*on_event)(void *arg, unsigned events), void *arg,
                  struct loop_watch **ret) {
    struct loop_watch *w = calloc(1, sizeof *w);

    SKATE_ASSERT(on_event);
    if (!w) return -SKATE_ENOMEM;
    if (uv_poll_init(&l->uv, &w->poll, fd) < 0) {
        free(w);
        return -SKATE_ESYS;
    }
    w->poll.data = w;
    w->events = events;
    w->on_event = on_event;
    w->arg = arg;
    if (poll_start(w) < 0) {
        uv_close((uv_handle_t *)&w->poll, on_closed);
        return -SKATE_ESYS;
    }
    handle_add(&l->watches, &w->handle, l);
    *ret = w;
    return 0;
}

void loop_watch_set(struct loop_watch *w, unsigned events) {
    if (w->events == events) return;
    w->events = events;
    (void)poll_start(w);
}

struct loop_watch *loop_unwatch(struct loop_watch *w) {
    if (!w) return NULL;
    handle_remove(&w->handle);
    w->events = 0;
    (void)uv_poll_stop(&w->poll);
    uv_close((uv_handle_t *)&w->poll, on_closed);
    return NULL;
}

/* ------------------------------------------------------------------ timers */

static void on_timer(uv_timer_t *timer) {
    struct loop_timer *t = timer->data;

    t->on_time(t->arg);
}

int loop_timer_new(struct loop *l, void (*on_time)(void *arg), void *arg,
                   struct loop_timer **ret) {
    struct loop_timer *t = calloc(1, sizeof *t);

    SKATE_ASSERT(on_time);
    if (!t) return -SKATE_ENOMEM;
    (void)uv_timer_init(&l->uv, &t->timer);
    t->timer.data = t;
    t->on_time = on_time;
    t->arg = arg;
    handle_add(&l->timers, &t->handle, l);
    *ret = t;
    return 0;
}

void loop_timer_start(struct loop_timer *t, uint64_t after_ms, uint64_t repeat_ms) {
    uv_update_time(&t->handle.loop->uv); /* a long callback must not shorten the wait */
    (void)uv_timer_start(&t->timer, on_timer, after_ms, repeat_ms);
}

void loop_timer_stop(struct loop_timer *t) { (void)uv_timer_stop(&t->timer); }

bool loop_timer_is_active(const struct loop_timer *t) {
    return uv_is_active((const uv_handle_t *)&t->timer) != 0;
}

struct loop_timer *loop_timer_free(struct loop_timer *t) {
    if (!t) return NULL;
    handle_remove(&t->handle);
    (void)uv_timer_stop(&t->timer);
    uv_close((uv_handle_t *)&t->timer, on_closed);
    return NULL;
}

/* ------------------------------------------------------------------ the loop */

static void look_less(struct look *k) {
    if (++k->vain <= VAIN_FREE) return;
    if (k->vain > VAIN_MOST) k->vain = VAIN_MOST;
    k->skip = 1u << (k->vain - VAIN_FREE);
}

static void on_hot(uv_idle_t *hot) {
    struct loop *l = hot->data;
    uint64_t now = uv_hrtime(), gap = now - l->hot_seen;

    l->hot_seen = now;
    if (gap > SLOW_NS) {
        (void)uv_idle_stop(hot); /* a busy one had the core: who sleeps gets it back sooner */
        if (l->look->vain < VAIN_FREE) l->look->vain = VAIN_FREE;
        look_less(l->look);
    } else if (now < l->hot_until) {
        (void)sched_yield(); /* on few cores the answer comes from one who needs this one */
    } else if (!l->hot_last) {
        l->hot_last = true; /* time passed elsewhere: one more look */
    } else {
        (void)uv_idle_stop(hot);
        look_less(l->look);
    }
}

void loop_expect(struct loop *l, enum loop_what what) {
    struct look *k = &l->looks[what];

    l->look = k;
    if (k->skip > 0) {
        k->skip--;
        (void)uv_idle_stop(&l->hot);
        return;
    }
    l->hot_last = false;
    l->hot_seen = uv_hrtime();
    l->hot_until = l->hot_seen + LOOK_NS;
    (void)uv_idle_start(&l->hot, on_hot);
}

bool loop_expects(const struct loop *l) {
    return uv_is_active((const uv_handle_t *)&l->hot) != 0;
}

static void on_limit(uv_timer_t *timer) { (void)timer; }

int loop_new(struct loop **ret) {
    struct loop *l = calloc(1, sizeof *l);

    if (!l) return -SKATE_ENOMEM;
    if (uv_loop_init(&l->uv) < 0) {
        free(l);
        return -SKATE_ESYS;
    }
    l->tasks_end = &l->tasks;
    (void)uv_idle_init(&l->uv, &l->idle);
    l->idle.data = l;
    (void)uv_timer_init(&l->uv, &l->limit);
    (void)uv_idle_init(&l->uv, &l->hot);
    l->look = &l->looks[0];
    l->hot.data = l;
    *ret = l;
    return 0;
}

struct loop *loop_free(struct loop *l) {
    if (!l) return NULL;
    while (l->watches) (void)loop_unwatch((struct loop_watch *)(void *)l->watches);
    while (l->timers) (void)loop_timer_free((struct loop_timer *)(void *)l->timers);
    while (l->tasks) task_remove(l->tasks);
    uv_close((uv_handle_t *)&l->idle, NULL);
    uv_close((uv_handle_t *)&l->limit, NULL);
    uv_close((uv_handle_t *)&l->hot, NULL);
    while (uv_run(&l->uv, UV_RUN_DEFAULT) != 0) {}
    SKATE_ASSERT(uv_loop_close(&l->uv) == 0);
    free(l);
    return NULL;
}

void loop_run(struct loop *l) { (void)uv_run(&l->uv, UV_RUN_DEFAULT); }

void loop_run_once(struct loop *l, uint32_t timeout_ms) {
    if (timeout_ms == 0) {
        (void)uv_run(&l->uv, UV_RUN_NOWAIT);
        return;
    }
    /* Repeating: were it due at once, libuv would run it first and then sleep without end. */
    uv_update_time(&l->uv);
    (void)uv_timer_start(&l->limit, on_limit, timeout_ms, timeout_ms);
    (void)uv_run(&l->uv, UV_RUN_ONCE);
    (void)uv_timer_stop(&l->limit);
}

void loop_stop(struct loop *l) { uv_stop(&l->uv); }

int64_t loop_now_ns(const struct loop *l) {
    (void)l;
    return (int64_t)uv_hrtime();
}
