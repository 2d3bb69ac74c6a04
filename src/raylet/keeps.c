/* keeps.c - objects that the raylet holds for processes that will not: results of tasks with
 * max_calls, whose workers end. And workers that are idle beyond need: asked to end.
 *
 * A kept object has an extent of its own, lent to the raylet under a number that no process has.
 * Its owner frees it (`free`). When the owner's job is over nobody will: then it goes when no
 * process of that time is left, since one of them may still look at the bytes. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/futex.h"
#include "raylet/raylet.h"
#include "raylet/spill.h"

enum { IDLE_MS = 2000 };

struct kept {
    struct job *job;
    uint64_t by; /* who writes it */
};

uint64_t keeps_holder(const struct raylet *r) { return proc_make(r->node, UINT32_MAX); }

int keeps_lend(struct raylet *r, const struct proc *p, uint64_t bytes, struct extent_span *ret,
               struct skate_error *err) {
    struct job *j = table_get(&r->jobs, p->job);
    int e = j ? spill_lend(r, keeps_holder(r), bytes, ret, err) : -SKATE_ENOENT;
    struct kept *k;

    if (e < 0) return e;
    k = malloc(sizeof *k);
    e = k ? table_set(&r->kept, ret->offset, k) : -SKATE_ENOMEM;
    if (e < 0) {
        free(k);
        if (extents_return(r->extents, keeps_holder(r), ret->offset) < 0) SKATE_ASSERT(false);
        return e;
    }
    *k = (struct kept){j, p->id};
    return 0;
}

/* Written by a process that is gone: nobody writes to it any more. */
bool keeps_is_done(struct raylet *r, uint64_t offset) {
    const struct kept *k = table_get(&r->kept, offset);

    return k && !proc_find(r, k->by);
}

/* The owner of these objects needs them no more. What lies elsewhere is not ours: ignored. */
void keeps_release(struct raylet *r, const struct wire_free *m) {
    uint32_t n;
    const uint64_t *offsets = wire_free_offsets(m, &n);

    for (uint32_t i = 0; i < n; i++) {
        uint64_t at = offsets[i] - offsets[i] % EXTENT_PAGE; /* one object in each extent */

        if (table_get(&r->kept, at) && extents_return(r->extents, keeps_holder(r), at) == 0)
            free(table_take(&r->kept, at));
    }
}

/* Once a second. */
static void sweep(struct raylet *r) {
    uint32_t oldest = UINT32_MAX, at = 0;
    uint64_t offset, gone[64];
    uint32_t count = 0;
    struct proc *p;
    struct kept *k;

    if (!r->kept.count) return;
    while ((p = table_next(&r->procs, &at, NULL)))
        if (proc_number(p->id) < oldest) oldest = proc_number(p->id);
    at = 0;
    while (count < 64 && (k = table_next(&r->kept, &at, &offset)))
        if (k->job->ended && k->job->ended_number <= oldest) gone[count++] = offset;
    while (count > 0) {
        if (extents_return(r->extents, keeps_holder(r), gone[--count]) < 0) continue;
        free(table_take(&r->kept, gone[count]));
    }
}

/* More idle workers than CPUs: those that were idle longest are asked to end. They are out of the
 * list before they know, so that no lease goes to one that is about to end. */
static void thin_out(struct raylet *r) {
    struct sched_node *own = node_own(r);
    int64_t keep = own ? resources_amount(&own->total, "CPU") / RESOURCE_UNIT : 0;
    int64_t before = time_now_ns() - IDLE_MS * INT64_C(1000000);
    struct wire_worker_retire m = {.head = {.size = sizeof m, .kind = WIRE_WORKER_RETIRE,
                                            .fixed = sizeof m}};
    uint32_t at = 0;
    struct job *j;

    if (keep < 1) keep = 1;
    while ((j = table_next(&r->jobs, &at, NULL)))
        for (struct proc **link = &j->idle, *p; (p = *link);) {
            if (keep-- > 0 || p->idle_since_ns > before) {
                link = &p->idle_next;
                continue;
            }
            *link = p->idle_next;
            p->idle_next = NULL;
            p->work = WORK_NONE;
            p->retiring = true;
            proc_send(p, &m, sizeof m);
        }
}

/* It cannot end: something needs it. */
void keeps_stays(struct proc *p) {
    struct job *j = table_get(&p->r->jobs, p->job);

    if (!p->retiring || p->work != WORK_NONE || p->state != PROC_LIVE || !j || j->ended) return;
    p->retiring = false;
    pool_idle(p);
}

void keeps_beat(struct raylet *r) {
    sweep(r);
    thin_out(r);
}
