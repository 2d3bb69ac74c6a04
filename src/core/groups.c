/* groups.c - a worker that runs several calls at once: threaded and async actors.
 *
 * After core_groups() the calls that come lie in one queue for each concurrency group (0 is the
 * default one). A pool thread sleeps on its group's condition and takes one; an event loop is
 * rung through an eventfd, once for a batch, and takes until the queue is empty. The main thread
 * stays in core_serve(): it reads the input, so that pool threads and loops need not. Plain tasks
 * and plain actors never come here: c->groups is NULL. Under the core mutex; a ring of the eventfd
 * never blocks. Tests: tests/unit/core_groups_test.c, tests/compat/test_compat_async.py. */
#include <stdlib.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/futex.h"
#include "core/core_int.h"
#include "core/waits.h"

struct run_group {
    struct run *head, **tail;
    uint32_t sleeping, last; /* last: calls that may begin yet, while draining */
    int fd; /* eventfd of a loop, -1: threads */
    bool rung;
    pthread_cond_t cond;
};

static struct run_group *group_at(struct core *c, uint32_t i) {
    return i < c->group_count ? &c->groups[i] : NULL;
}

static void group_wake(struct run_group *g) {
    uint64_t one = 1;

    if (g->sleeping) (void)pthread_cond_signal(&g->cond);
    if (g->fd < 0 || g->rung) return;
    g->rung = true;
    (void)!write(g->fd, &one, sizeof one);
}

void group_enqueue(struct core *c, struct run *r) {
    const struct wire_task *m = (const void *)r->node->data;
    struct run_group *g = group_at(c, m->flags >> CORE_GROUP_SHIFT & CORE_GROUP_MASK);

    if (!g) g = &c->groups[0]; /* a group that this actor has not */
    r->next = NULL;
    *g->tail = r;
    g->tail = &r->next;
    group_wake(g);
}

const struct run *group_queue(const struct core *c, uint32_t i) {
    return i < c->group_count ? c->groups[i].head : NULL;
}

void groups_wake(struct core *c) {
    for (uint32_t i = 0; i < c->group_count; i++) {
        (void)pthread_cond_broadcast(&c->groups[i].cond);
        c->groups[i].rung = false;
        group_wake(&c->groups[i]);
    }
}

/* The caller is the leader, asleep or not, or waits behind another one: it looks again. */
static void serve_wake(struct core *c) {
    (void)at_add_seq(&c->bell->leader_bell, 1);
    futex_wake(&c->bell->leader_bell, 1);
    (void)pthread_cond_broadcast(&c->cond);
}

void groups_run_ended(struct core *c) {
    SKATE_ASSERT(c->runs_out > 0);
    if (--c->runs_out <= c->runs_left && (c->exiting || c->draining)) serve_wake(c);
}

/* The queues are robbed of what a dead process asked for. */
struct run *groups_forget(struct core *c, uint64_t proc) {
    struct run *out = NULL;

    for (uint32_t i = 0; i < c->group_count; i++) {
        struct run_group *g = &c->groups[i];

        for (struct run **at = &g->head; *at;) {
            struct run *r = *at;

            if (!r->link || r->link->proc != proc ||
                orphan_is_kept(r->link, &((struct wire_task *)(void *)r->node->data)->task)) {
                at = &r->next;
                continue;
            }
            *at = r->next;
            r->next = out;
            out = r;
        }
        g->tail = &g->head;
        while (*g->tail) g->tail = &(*g->tail)->next;
    }
    return out;
}

/* The calls of link l that wait in the queues: their number; up to cap ids to out. */
uint32_t groups_tasks(struct core *c, const struct link *l, struct skate_id *out, uint32_t cap) {
    uint32_t n = 0;

    for (uint32_t i = 0; i < c->group_count; i++)
        for (struct run *r = c->groups[i].head; r; r = r->next)
            if (r->link == l && n < cap)
                out[n++] = ((const struct wire_task *)(const void *)r->node->data)->task;
    return n;
}

struct run *groups_find(struct core *c, uint64_t owner, const struct skate_id *task) {
    for (uint32_t i = 0; i < c->group_count; i++)
        for (struct run *r = c->groups[i].head; r; r = r->next) {
            const struct wire_task *m = (const void *)r->node->data;

            if (r->link && r->link->proc == owner && id_equal(&m->task, task)) return r;
        }
    return NULL;
}

/* Something else than a call has come for the loop that runs r. */
void group_ring(struct core *c, const struct run *r) {
    const struct wire_task *m = (const void *)r->node->data;
    struct run_group *g = group_at(c, m->flags >> CORE_GROUP_SHIFT & CORE_GROUP_MASK);
    uint64_t one = 1;

    if (c->group_count && !g) g = &c->groups[0];
    if (g && g->fd >= 0) (void)!write(g->fd, &one, sizeof one);
}

/* Take a call that has not begun out of its queue; NULL: it is not there. */
struct run *groups_unqueue(struct core *c, uint64_t proc, const struct skate_id *task) {
    for (uint32_t i = 0; i < c->group_count; i++) {
        struct run_group *g = &c->groups[i];

        for (struct run **at = &g->head; *at; at = &(*at)->next) {
            struct run *r = *at;
            const struct wire_task *m = (const void *)r->node->data;

            if (!r->link || r->link->proc != proc || !id_equal(&m->task, task)) continue;
            *at = r->next;
            if (!*at) g->tail = at;
            return r;
        }
    }
    return NULL;
}

/* What waits in the queues goes to the one of all: runs_free() frees it. */
void groups_release(struct core *c) {
    for (uint32_t i = 0; i < c->group_count; i++) {
        (void)pthread_cond_destroy(&c->groups[i].cond);
        *c->run_tail = c->groups[i].head;
        if (c->groups[i].head) c->run_tail = c->groups[i].tail;
    }
    free(c->groups);
    c->groups = NULL;
    c->group_count = 0;
}

int core_groups(struct core *c, uint32_t count) {
    struct run_group *made;
    int r = core_enter(c);

    if (r < 0) return r;
    made = count && count <= CORE_GROUP_MASK && !c->groups ? calloc(count, sizeof *made) : NULL;
    if (!made) return core_leave(c), -SKATE_EINVAL;
    for (uint32_t i = 0; i < count; i++) {
        made[i].tail = &made[i].head;
        made[i].fd = -1;
        (void)pthread_cond_init(&made[i].cond, NULL);
    }
    c->groups = made;
    c->group_count = count;
    c->runs_out = c->run_current != NULL; /* the constructor */
    c->run_current = NULL;
    for (struct run *at = c->run_head, *next; at; at = next) {
        next = at->next;
        group_enqueue(c, at);
    }
    c->run_head = NULL;
    c->run_tail = &c->run_head;
    core_leave(c);
    return 0;
}

int core_group_bell(struct core *c, uint32_t group, int fd) {
    struct run_group *g;
    int r = core_enter(c);

    if (r < 0) return r;
    g = group_at(c, group);
    if (g) {
        g->fd = fd;
        g->rung = false;
        if (g->head) group_wake(g);
    }
    core_leave(c);
    return g ? 0 : -SKATE_EINVAL;
}

int core_group_next(struct core *c, uint32_t group, bool wait, struct core_job **ret) {
    struct run_group *g;
    struct run *r;
    int e = core_enter(c);

    if (e < 0) return e;
    g = group_at(c, group);
    e = g ? -SKATE_EAGAIN : -SKATE_EINVAL;
    while (g && e == -SKATE_EAGAIN) {
        if (c->dead || c->stop) {
            e = c->dead ? -SKATE_EDEAD : -SKATE_ESHUTDOWN;
            break;
        }
        r = c->draining && g->last == 0 ? NULL : g->head;
        if (!r) {
            g->rung = false;
            if (c->exiting || c->draining) e = -SKATE_ESHUTDOWN;
            if (!wait || e == -SKATE_ESHUTDOWN) break;
            g->sleeping++;
            (void)pthread_cond_wait(&g->cond, &c->lock);
            g->sleeping--;
            continue;
        }
        g->head = r->next;
        if (!r->next) g->tail = &g->head;
        if (g->last) g->last--;
        c->runs_out++;
        e = run_begin(c, r, ret);
        if (e == 0) break;
        groups_run_ended(c);
        if (e != -SKATE_EDEAD && e != -SKATE_ESHUTDOWN) e = -SKATE_EAGAIN;
    }
    core_leave(c);
    return e;
}

static bool drained(const struct core *c) {
    for (uint32_t i = 0; i < c->group_count; i++)
        if (c->groups[i].last && c->groups[i].head) return false;
    return c->runs_out == c->runs_left;
}

static bool serve_over(struct core *c, void *arg) {
    (void)arg;
    if (c->cancel_count || c->serve_end) return true;
    if (c->draining) return drained(c);
    return c->exiting && c->runs == 0 && c->runs_out == 0;
}

int core_serve(struct core *c) {
    int e = core_enter(c);

    if (e < 0) return e;
    e = pump_until(c, serve_over, NULL, INT64_MAX, false);
    if (e == 0) e = c->cancel_count ? -SKATE_EAGAIN : -SKATE_ESHUTDOWN;
    core_leave(c);
    return e;
}

void core_serve_end(struct core *c) {
    if (core_enter(c) < 0) return;
    c->serve_end = true;
    serve_wake(c);
    core_leave(c);
}

void core_serve_drain(struct core *c) {
    if (core_enter(c) < 0) return;
    c->runs_left++;
    for (uint32_t i = 0; !c->draining && i < c->group_count; i++)
        for (const struct run *r = c->groups[i].head; r; r = r->next) c->groups[i].last++;
    c->draining = true;
    groups_wake(c);
    serve_wake(c);
    core_leave(c);
}
