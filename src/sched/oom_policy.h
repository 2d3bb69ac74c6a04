/* oom_policy.h - which worker ends when a node runs out of memory: the one that made it so.
 *
 * What counts against a worker is what it was seen to grow by lately; when nobody was seen growing,
 * what it may have grown by; when nobody has, its size. Only the guiltiest count (half of the most,
 * or more): among them a task goes before an actor, what can be tried again before what cannot,
 * the owner with most of them first, its newest first. Who holds too little is never ended: it
 * would not help. A driver is never in the list. Pure functions over value types; no clock. Tests:
 * tests/unit/sched_oom_policy_test.c. */
#ifndef SKATE_SCHED_OOM_POLICY_H
#define SKATE_SCHED_OOM_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#define OOM_LATELY_NS INT64_C(60000000000) /* after a minute growth counts a third */
#define OOM_WORTH (UINT64_C(16) << 20)     /* who holds less is left alone */

enum oom_kind { OOM_IDLE, OOM_TASK, OOM_ACTOR };

/* What is remembered of a worker from one look to the next; all zero before the first. */
struct oom_track {
    double grown;   /* bytes, seen; those of long ago counted less */
    double guess;   /* of what it had at the first look: as if that had come evenly */
    uint64_t bytes; /* its own memory at the last look */
    uint64_t work;  /* what it did then: any number that differs for another task */
    int64_t seen_ns;
};

struct oom_look {
    uint64_t bytes, work;
    int64_t began_ns; /* its work */
    int64_t now_ns;
    int64_t last_ns; /* of the look at all workers before this one; 0: there was none lately */
};
void oom_note(struct oom_track *t, const struct oom_look *look);

struct oom_worker {
    enum oom_kind kind;
    bool again;       /* its task may be tried again, its actor be made again */
    uint64_t owner;   /* who asked for its work */
    int64_t began_ns; /* its task, its actor */
    uint64_t bytes;   /* its own memory */
    double grown, guess; /* of its oom_track */
};
struct oom_choice {
    uint32_t index;
    /* What it ran had the memory nearly to itself: tried again it will not fit either. */
    bool alone;
};

/* idle_bytes: an idle worker that holds as much goes before all others. False: nobody is worth
 * ending. */
bool oom_pick(const struct oom_worker *v, uint32_t count, uint64_t idle_bytes,
              struct oom_choice *ret);

#endif
