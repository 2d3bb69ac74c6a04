/* later.c - see later.h. Called by leases.c (a death), pump.c (the core thread's tick). */
#include <stdlib.h>

#include "base/futex.h"
#include "core/core_int.h"

enum { OTHERS_TOO = 1, DOUBLED_MOST = 6, PAUSE_MOST_MS = 60000, COUNT_MOST = 31 };

void core_memory_retries(struct core *c, int32_t retries, uint32_t pause_ms) {
    if (core_enter(c) < 0) return;
    c->later.retries = retries;
    c->later.pause_ms = pause_ms < PAUSE_MOST_MS ? pause_ms : PAUSE_MOST_MS;
    core_leave(c);
}

bool later_again(struct core *c, uint32_t index, bool started, uint32_t cause,
                 int64_t *ret_pause_ns) {
    struct task *t = task_get(c, index);
    uint64_t pause_ms = (uint64_t)c->later.pause_ms;
    uint32_t before = t->starved;
    bool counted = cause == OTHERS_TOO || (cause == OTHERS_TOO + 1 && c->later.retries >= 0);

    *ret_pause_ns = 0;
    if (!cause || !started || t->cancelled) return task_lost(c, index, started);
    pause_ms <<= before < DOUBLED_MOST ? before : DOUBLED_MOST;
    if (pause_ms > PAUSE_MOST_MS) pause_ms = PAUSE_MOST_MS;
    if (before < COUNT_MOST) t->starved++;
    *ret_pause_ns = (int64_t)pause_ms * 1000000;
    if (!counted || t->retries == 0) return task_lost(c, index, started);
    if (c->later.retries >= 0 && before >= (uint32_t)c->later.retries) return false;
    t->attempt++;
    if (t->retries > 0 && t->retries < INT32_MAX) t->retries++; /* this one is not among them */
    return true;
}

void later_add(struct core *c, uint32_t index, int64_t pause_ns) {
    struct later *l = &c->later;

    if (pause_ns > 0 && l->count == l->cap) {
        uint32_t cap = l->cap ? l->cap * 2 : 16;
        struct later_task *grown = realloc(l->v, cap * sizeof *grown);

        if (!grown) pause_ns = 0;
        if (grown) *l = (struct later){grown, l->count, cap, l->retries, l->pause_ms};
    }
    if (pause_ns <= 0) {
        class_enqueue(c, index, false);
        return;
    }
    task_get(c, index)->state = TASK_QUEUED;
    l->v[l->count++] = (struct later_task){index, time_now_ns() + pause_ns};
}

bool later_take(struct core *c, uint32_t index) {
    struct later *l = &c->later;

    for (uint32_t i = 0; i < l->count; i++)
        if (l->v[i].index == index) {
            l->v[i] = l->v[--l->count];
            return true;
        }
    return false;
}

int64_t later_left_ns(const struct core *c, uint32_t index) {
    for (uint32_t i = 0; i < c->later.count; i++)
        if (c->later.v[i].index == index) {
            int64_t left = c->later.v[i].due_ns - time_now_ns();

            return left > 0 ? left : 0;
        }
    return -1;
}

bool later_tick(struct core *c) {
    struct later *l = &c->later;
    int64_t now = time_now_ns();

    for (uint32_t i = l->count; i-- > 0;)
        if (l->v[i].due_ns <= now) {
            uint32_t index = l->v[i].index;

            l->v[i] = l->v[--l->count];
            class_enqueue(c, index, false);
        }
    if (c->dirty_classes) classes_dispatch(c);
    return l->count > 0;
}
