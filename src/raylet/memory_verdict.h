/* memory_verdict.h - what is said of a worker that was ended for want of memory: to its owner (the
 * text of its death), to the driver of its job at once, to the log; and what a worker does.
 *
 * Used by memory_monitor.c alone. Loop thread; nothing blocks. */
#ifndef SKATE_RAYLET_MEMORY_VERDICT_H
#define SKATE_RAYLET_MEMORY_VERDICT_H

#include "raylet/memory_info.h"
#include "raylet/memory_monitor.h"
#include "raylet/raylet.h"
#include "sched/oom_policy.h"

enum { MEMORY_VERDICT = 1300 }; /* the last lines that it printed fit behind it */

/* What a worker runs, out of the ring of its runs (own/trace.h). */
struct memory_doing {
    bool running;
    bool once;        /* its owner does not want it tried again */
    uint64_t work;    /* another task, another number; an actor's stays */
    int64_t began_ns; /* the task, or the actor's life */
    char name[48];    /* "f", "Actor.method", "" */
};
void memory_doing_of(const struct proc *p, struct memory_doing *ret);

struct memory_case {
    struct raylet *r;
    const struct proc *proc;
    const struct memory_doing *doing;
    enum memory_cause cause;
    uint64_t bytes, grown, limit; /* limit: its own, for MEMORY_OWN_LIMIT */
    const struct memory_use *use; /* the others: what was too full */
    const struct memory_rules *rules;
    const struct memory_proc *scan;
    uint32_t scanned;
    uint64_t store; /* bytes of the object store */
    int64_t now_ns;
};
void memory_verdict(const struct memory_case *c, char out[MEMORY_VERDICT]);

/* At most one notice a second goes to a driver; how many were left out is said with the next. */
struct memory_teller {
    int64_t told_ns, helpless_ns;
    uint32_t untold;
};
void memory_tell(struct memory_teller *t, const struct proc *p, const struct memory_case *c,
                 const char *verdict);
/* Memory is short and no worker is worth ending; store: it is the object store that has grown. */
void memory_tell_helpless(struct memory_teller *t, const struct memory_case *c, bool store);

#endif
