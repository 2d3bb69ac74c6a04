/* waits.h - who waits for whom: what this process can say, and the walk along the chain.
 *
 * why_facts.c answers about what is ours, under the core mutex and without the interpreter;
 * why_walk.c asks everybody on the way. A sleeper in core_wait is linked into core.waits. */
#ifndef SKATE_CORE_WAITS_H
#define SKATE_CORE_WAITS_H

#include <pthread.h>

#include "core/core_int.h"
#include "core/inspect.h"
#include "wire/why.h"

/* A thread inside core_wait (values.c), on its stack. */
struct waiting {
    const struct skate_id *ids;
    uint32_t *slots;
    uint8_t *ready;
    uint32_t count, need, found, cursor;
    unsigned flags;
    uint64_t errors_seen;
    bool error;
    pthread_t thread;
    int64_t since_ns, deadline_ns, asked_ns; /* asked: the first of its slices began */
    struct waiting *next;        /* of those that sleep */
    const struct why_fact *gone; /* only its edges are left (core_why) */
};

enum { WATCHES = 16, TOLD_MAX = 64 };
struct why_watch { /* a thread that waits long for one thing */
    pthread_t thread;
    struct skate_id id;
    int64_t since_ns, seen_ns, next_ns, pause_ns; /* since 0: free */
    uint64_t key;                                 /* of the cycle that the last look saw */
};
struct why_state {
    struct why_watch watches[WATCHES];
    uint32_t watched, told_next;
    uint64_t told[TOLD_MAX]; /* cycles that the driver has heard of */
};

/* why_facts.c */
/* What this process knows of `id`; never fails. */
void why_fact_of(struct core *c, enum why_kind kind, struct skate_id id, struct why_fact *ret);
/* The worker that the task was pushed to; NULL: none. */
const struct worker *why_worker_of(struct core *c, uint32_t task);
void why_on_req(struct core *c, uint64_t src, const struct wire_why_req *m);
void why_wait_begin(struct core *c, struct waiting *w, int64_t now_ns);
void why_wait_end(struct core *c, struct waiting *w);
/* What the thread of `w` waits for: one edge for each id that is not ready. */
void why_fact_of_wait(struct core *c, const struct waiting *w, struct why_fact *ret);

/* groups.c: the first call that waits in a group; NULL: none. */
const struct run *group_queue(const struct core *c, uint32_t i);

/* why_walk.c */
/* pump_until for a sleeper: looks for a deadlock when it takes long, and tells of it. */
int why_pump(struct core *c, pump_test test, struct waiting *w, bool bulk);
void why_on_told(struct core *c, const struct wire_why_told *m);

#endif
