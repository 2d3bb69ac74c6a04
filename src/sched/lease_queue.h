/* lease_queue.h - the queue of lease requests that wait on this node.
 *
 * Requests with the same needs (resources, strategy, node, labels) are one class. Within a class
 * they are served in turn, one lease each, so an owner with a thousand tasks does not starve
 * another; a pass over the classes starts at another class each time. A request is named by
 * (owner, number) and holds a count, which a newer request of the same name replaces.
 * Pure; one thread; never blocks. Bounds: LEASES_CLASSES_MAX, `requests_max`.
 * Tests: tests/unit/sched_leases_test.c. */
#ifndef SKATE_SCHED_LEASE_QUEUE_H
#define SKATE_SCHED_LEASE_QUEUE_H

#include "base/id.h"
#include "sched/labels.h"
#include "sched/resources.h"

enum { LEASES_CLASSES_MAX = 4096, LEASES_REQUESTS_MAX = 65536, LEASES_LOCALITY_MAX = 8 };

struct lease_class;
struct lease_queue;

struct lease_ask {
    uint64_t req, owner;
    uint32_t job, count; /* count: leases still wanted */
    uint64_t locality[LEASES_LOCALITY_MAX];
    uint32_t locality_count;
    char name[64];
    void *env; /* the runtime environment its workers need; the queue keeps a copy */
    uint32_t env_len;
    struct skate_id group; /* nil, or the placement group; kept apart from the queue */
    int32_t bundle;        /* of it; -1: any */
    struct lease_class *cls;      /* set by the queue */
    struct lease_ask *prev, *next; /* the queue's */
};
struct lease_class {
    struct resources want;
    uint32_t strategy, affinity;
    char labels[LABELS_MAX]; /* a selector */
    bool told; /* the driver knows that no node can fit it */
    /* What the GCS and this node know of each other's counts of it (raylet/demand.c). */
    uint64_t number;  /* its name, never used again */
    uint32_t asked;   /* the GCS knows of so many as waiting */
    uint32_t placed;  /* so many of all times it has placed, as was heard */
    uint32_t here;    /* of these, to be granted here, and not yet granted */
    uint32_t full;    /* a node that sent back what was placed there, to be told */
    bool known;       /* the GCS has a row of it */
    bool refused;     /* the GCS holds no more different demands: it is told again later */
    int64_t asked_ns; /* since when it has not answered; 0: it has */
    uint32_t asks;
    struct lease_ask *first, *last;
};

/* NULL: out of memory. */
struct lease_queue *leases_new(uint32_t requests_max);
struct lease_queue *leases_free(struct lease_queue *q); /* NULL is fine; returns NULL */

/* Add `ask` (copied) to its class, or set the count of the one with its name; add = true: raise
 * it instead. -SKATE_EFULL, -SKATE_ENOMEM. */
SKATE_NODISCARD int leases_put(struct lease_queue *q, const struct lease_ask *ask,
                               const struct lease_class *cls, bool add);
/* The request of that name, or NULL. */
const struct lease_ask *leases_find(const struct lease_queue *q, uint64_t owner, uint64_t req);
/* One lease of it was granted, or `n` were passed on: count them off, let the next one of the
 * class have its turn. The request is gone (freed) at 0. */
void leases_served(struct lease_queue *q, struct lease_ask *ask, uint32_t n);
/* Forget one request; all of an owner. */
void leases_cancel(struct lease_queue *q, uint64_t owner, uint64_t req);
void leases_drop_owner(struct lease_queue *q, uint64_t owner);

/* Walk the classes that have requests: start with *at = 0; NULL at the end. */
struct lease_class *leases_next_class(struct lease_queue *q, uint32_t *at);
/* All classes, those without requests, too: the i-th; NULL at the end. By its number. */
struct lease_class *leases_class_at(struct lease_queue *q, uint32_t i);
struct lease_class *leases_class(struct lease_queue *q, uint64_t number);
/* The next walk starts one class further. */
void leases_turn(struct lease_queue *q);
/* Nodes came or went: what no node could fit may be told again. */
void leases_untell(struct lease_queue *q);
/* Leases wanted in all. */
uint32_t leases_waiting(const struct lease_queue *q);

#endif
