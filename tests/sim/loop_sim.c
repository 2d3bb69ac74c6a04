/* loop_sim.c - loop/loop.h in virtual time.
 *
 * A loop has a turn when something is ready: due timers, descriptors in an order of chance, then
 * deferred calls until none is left that was there; its connections write at the end. A turn takes
 * some microseconds, in which it serves nobody else. The simulator drives the loop of a daemon
 * (loop_run() never returns there); loop_run() in a thread waits like any other call. */
#include "loop/loop.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "sim_os.h"

struct loop_watch {
    struct loop_watch *next, *prev; /* of its loop */
    struct loop_watch *next_ready;
    struct loop *loop;
    int fd;
    unsigned events;
    bool queued, dead;
    void (*on_event)(void *arg, unsigned events);
    void *arg;
};

struct loop_timer {
    struct loop_timer *next, *prev, *next_due;
    struct loop *loop;
    struct sim_event event;
    uint64_t repeat_ms;
    bool due, active, dead;
    void (*on_time)(void *arg);
    void *arg;
};

struct loop {
    struct loop *next; /* of its process */
    struct sim_proc *proc;
    struct loop_task *tasks, **tasks_end;
    struct loop_watch *watches, *ready, **ready_end, *graves;
    struct loop_timer *timers, *due, **due_end, *timer_graves;
    struct sim_event turn;
    int64_t busy_until;
    bool driven, stop, running;
    struct sim_queue runner; /* a thread in loop_run() */
};

/* ---- deferred calls ---- */

void loop_task_init(struct loop_task *t, void (*run)(void *arg), void *arg) {
    *t = (struct loop_task){.run = run, .arg = arg};
}

static void task_remove(struct loop_task *t) {
    *t->link = t->next;
    if (t->next) t->next->link = t->link;
    t->next = NULL;
    t->link = NULL;
}

void loop_post(struct loop *l, struct loop_task *t) {
    SKATE_ASSERT(t->run);
    if (t->link) return;
    t->next = NULL;
    t->link = l->tasks_end;
    *l->tasks_end = t;
    l->tasks_end = &t->next;
    sim_loop_kick(l);
}

void loop_unpost(struct loop *l, struct loop_task *t) {
    if (!t->link) return;
    if (l->tasks_end == &t->next) l->tasks_end = t->link;
    task_remove(t);
}

static void run_tasks(struct loop *l) {
    struct loop_task *list = l->tasks;

    l->tasks = NULL;
    l->tasks_end = &l->tasks;
    if (list) list->link = &list;
    while (list) {
        struct loop_task *t = list;

        task_remove(t);
        t->run(t->arg);
    }
}

/* ---- a turn ---- */

static bool has_work(const struct loop *l) { return l->tasks || l->ready || l->due; }

/* The ready ones, in an order of chance: the list is rotated. */
static struct loop_watch *rotated(struct loop_watch *list) {
    struct loop_watch *last = list, *cut = NULL;
    uint32_t n = 0, skip;

    for (struct loop_watch *w = list; w; last = w, w = w->next_ready) n++;
    if (n < 2) return list;
    skip = (uint32_t)sim_below(n);
    if (skip == 0) return list;
    last->next_ready = list;
    for (; skip > 0; skip--) {
        cut = list;
        list = list->next_ready;
    }
    cut->next_ready = NULL;
    return list;
}

static void run_watches(struct loop *l) {
    struct loop_watch *list = rotated(l->ready);

    l->ready = NULL;
    l->ready_end = &l->ready;
    while (list) {
        struct loop_watch *w = list;
        unsigned e;

        list = w->next_ready;
        w->queued = false;
        if (w->dead) continue; /* in its grave until the end of the turn */
        e = sim_file_ready(w->fd) & w->events;
        if (e) w->on_event(w->arg, e);
        if (!w->dead) sim_watch_ready(w);
    }
}

static void run_timers(struct loop *l) {
    struct loop_timer *t, *list = l->due;

    l->due = NULL;
    l->due_end = &l->due;
    for (; (t = list); ) {
        list = t->next_due;
        if (!t->due || t->dead) continue; /* stopped meanwhile */
        t->due = false;
        t->active = t->repeat_ms > 0;
        if (t->active) sim_event_at(&t->event, sim_now + (int64_t)t->repeat_ms * SIM_MS);
        t->on_time(t->arg);
    }
}

static void bury(struct loop *l) {
    while (l->graves) {
        struct loop_watch *w = l->graves;

        l->graves = w->next;
        free(w);
    }
    while (l->timer_graves) {
        struct loop_timer *t = l->timer_graves;

        l->timer_graves = t->next;
        free(t);
    }
}

static void turn(void *arg) {
    struct loop *l = arg;

    l->running = true;
    run_timers(l);
    run_watches(l);
    run_tasks(l);
    sim_net_turn_ends(l);
    l->running = false;
    bury(l);
    l->busy_until = sim_now + SIM_US + (int64_t)sim_below(4 * SIM_US);
    if (has_work(l)) sim_loop_kick(l);
}

static void on_turn(void *arg) {
    struct loop *l = arg;

    if (l->proc->paused_until > sim_now) {
        sim_event_at(&l->turn, l->proc->paused_until);
        return;
    }
    if (l->driven)
        (void)sim_enter(l->proc, turn, l);
    else
        (void)sim_wake(&l->runner);
}

void sim_loop_kick(struct loop *l) {
    int64_t at;

    if (l->turn.index || l->running) return;
    at = sim_now + SIM_US + (int64_t)sim_below(10 * SIM_US);
    if (sim_chance(1000)) at += (int64_t)sim_below(3 * SIM_MS); /* another had the CPU */
    if (at < l->busy_until) at = l->busy_until;
    sim_event_at(&l->turn, at);
}

void sim_loop_drive(struct loop *l) {
    l->driven = true;
    sim_loop_kick(l);
}

/* ---- descriptors ---- */

void sim_watch_ready(struct loop_watch *w) {
    struct loop *l = w->loop;

    if (w->queued || w->dead || !(sim_file_ready(w->fd) & w->events)) return;
    w->queued = true;
    w->next_ready = NULL;
    *l->ready_end = w;
    l->ready_end = &w->next_ready;
    sim_loop_kick(l);
}

int loop_watch_fd(struct loop *l, int fd, unsigned events,
                  void (*on_event)(void *arg, unsigned events), void *arg,
                  struct loop_watch **ret) {
    struct loop_watch *w = calloc(1, sizeof *w);

    if (!w) return -SKATE_ENOMEM;
    *w = (struct loop_watch){.next = l->watches, .loop = l, .fd = fd, .events = events,
                             .on_event = on_event, .arg = arg};
    if (sim_file_watch(fd, w) < 0) {
        free(w);
        return -SKATE_ESYS;
    }
    if (w->next) w->next->prev = w;
    l->watches = w;
    sim_watch_ready(w);
    *ret = w;
    return 0;
}

void loop_watch_set(struct loop_watch *w, unsigned events) {
    w->events = events;
    sim_watch_ready(w);
}

struct loop_watch *loop_unwatch(struct loop_watch *w) {
    struct loop *l;

    if (!w) return NULL;
    l = w->loop;
    sim_file_unwatch(w->fd, w);
    w->dead = true;
    if (w->prev)
        w->prev->next = w->next;
    else
        l->watches = w->next;
    if (w->next) w->next->prev = w->prev;
    for (struct loop_watch **at = &l->ready; w->queued && *at; at = &(*at)->next_ready)
        if (*at == w) {
            *at = w->next_ready;
            if (l->ready_end == &w->next_ready) l->ready_end = at;
            break;
        }
    w->next = l->graves;
    l->graves = w;
    return NULL;
}

/* ---- timers ---- */

static void on_due(void *arg) {
    struct loop_timer *t = arg;
    struct loop *l = t->loop;

    t->due = true;
    t->next_due = NULL;
    *l->due_end = t;
    l->due_end = &t->next_due;
    sim_loop_kick(l);
}

int loop_timer_new(struct loop *l, void (*on_time)(void *arg), void *arg,
                   struct loop_timer **ret) {
    struct loop_timer *t = calloc(1, sizeof *t);

    if (!t) return -SKATE_ENOMEM;
    *t = (struct loop_timer){.next = l->timers, .loop = l, .on_time = on_time, .arg = arg};
    sim_event_init(&t->event, on_due, t);
    if (t->next) t->next->prev = t;
    l->timers = t;
    *ret = t;
    return 0;
}

static void undue(struct loop_timer *t) {
    struct loop *l = t->loop;

    for (struct loop_timer **at = &l->due; t->due && *at; at = &(*at)->next_due)
        if (*at == t) {
            *at = t->next_due;
            if (l->due_end == &t->next_due) l->due_end = at;
            break;
        }
    t->due = false;
}

void loop_timer_start(struct loop_timer *t, uint64_t after_ms, uint64_t repeat_ms) {
    undue(t);
    t->active = true;
    t->repeat_ms = repeat_ms;
    sim_event_at(&t->event, after_ms > INT64_MAX / SIM_MS / 2
                                ? INT64_MAX / 2 : sim_now + (int64_t)after_ms * SIM_MS);
}

void loop_timer_stop(struct loop_timer *t) {
    undue(t);
    t->active = false;
    sim_event_cancel(&t->event);
}

bool loop_timer_is_active(const struct loop_timer *t) { return t->active; }

struct loop_timer *loop_timer_free(struct loop_timer *t) {
    struct loop *l;

    if (!t) return NULL;
    l = t->loop;
    loop_timer_stop(t);
    t->dead = true;
    if (t->prev)
        t->prev->next = t->next;
    else
        l->timers = t->next;
    if (t->next) t->next->prev = t->prev;
    t->next = l->timer_graves;
    l->timer_graves = t;
    return NULL;
}

/* ---- the loop ---- */

int loop_new(struct loop **ret) {
    struct loop *l = calloc(1, sizeof *l);

    if (!l) return -SKATE_ENOMEM;
    l->proc = sim_cur;
    l->tasks_end = &l->tasks;
    l->ready_end = &l->ready;
    l->due_end = &l->due;
    sim_event_init(&l->turn, on_turn, l);
    l->next = sim_cur->loops;
    sim_cur->loops = l;
    *ret = l;
    return 0;
}

static void silence(struct loop *l) {
    sim_event_cancel(&l->turn);
    for (struct loop_timer *t = l->timers; t; t = t->next) sim_event_cancel(&t->event);
    for (struct loop_watch *w = l->watches; w; w = w->next) sim_file_unwatch(w->fd, w);
}

struct loop *loop_free(struct loop *l) {
    struct loop **at;

    if (!l) return NULL;
    silence(l);
    for (at = &l->proc->loops; *at != l; at = &(*at)->next) {}
    *at = l->next;
    while (l->watches) (void)loop_unwatch(l->watches);
    while (l->timers) (void)loop_timer_free(l->timers);
    while (l->tasks) task_remove(l->tasks);
    bury(l);
    free(l);
    return NULL;
}

void sim_loops_end(struct sim_proc *p) {
    for (struct loop *l = p->loops; l; l = l->next) silence(l);
}

void loop_run_once(struct loop *l, uint32_t timeout_ms) {
    if (!has_work(l) && timeout_ms) (void)sim_wait(&l->runner, sim_now + timeout_ms * SIM_MS);
    turn(l);
}

void loop_run(struct loop *l) {
    l->stop = false;
    while (!l->stop) {
        if (!has_work(l)) (void)sim_wait(&l->runner, -1);
        if (!l->stop) turn(l);
    }
}

/* Nobody's sleep costs anything here. */
void loop_expect(struct loop *l, enum loop_what what) { (void)l, (void)what; }
bool loop_expects(const struct loop *l) { return (void)l, false; }

void loop_stop(struct loop *l) { l->stop = true; }

int64_t loop_now_ns(const struct loop *l) {
    (void)l;
    return sim_now += 30;
}

struct sim_proc *sim_loop_proc(const struct loop *l) { return l->proc; }
