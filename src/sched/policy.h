/* policy.h - on which node a request goes, given what is known of all nodes.
 *
 * The view is a plain table: what each node has in all and what was free at its last report, less
 * what was sent there since. The own node's row is kept exact by the raylet. Pure, no clock; one
 * thread; never blocks. Tests: tests/unit/sched_policy_test.c. */
#ifndef SKATE_SCHED_POLICY_H
#define SKATE_SCHED_POLICY_H

#include "sched/labels.h"
#include "sched/resources.h"

enum { POLICY_NODES_MAX = 16384 };
enum sched_strategy {
    SCHED_HYBRID = 0,
    SCHED_SPREAD = 1,
    SCHED_AFFINITY = 2,   /* on that node, or never */
    SCHED_SOFT = 3,       /* elsewhere when it is gone or can never hold it */
    SCHED_SOFT_SPILL = 4, /* ... and when it is full now */
    SCHED_HARD_NOW = 5,   /* on that node, and now, or never */
    SCHED_STRATEGIES,
};
static inline bool sched_is_hard(uint32_t strategy) {
    return strategy == SCHED_AFFINITY || strategy == SCHED_HARD_NOW;
}

struct sched_node {
    uint32_t node;
    bool alive;
    struct resources total, avail;
    char labels[LABELS_MAX];
};
struct sched_view {
    struct sched_node *nodes; /* in order of number */
    uint32_t count, cap, self;
    uint32_t turn; /* SPREAD: where the last one went */
};
struct sched_ask {
    const struct resources *want;
    uint32_t strategy, affinity; /* affinity: number of a node */
    const uint64_t *locality;    /* processes on whose nodes large arguments lie */
    uint32_t locality_count;
    const char *labels; /* a selector; NULL or "": none */
    bool here_only; /* it was passed on once: serve it here or say no */
};

/* A zeroed view with `self` set is empty. */
void sched_view_release(struct sched_view *v);
/* The row of a node; NULL when there is none. Valid until the next sched_view_add. */
struct sched_node *sched_view_find(const struct sched_view *v, uint32_t node);
/* The row of a node, made when there is none. NULL: out of memory or POLICY_NODES_MAX. */
struct sched_node *sched_view_add(struct sched_view *v, uint32_t node);

/* Where to run it now. 0 and *ret_node; -SKATE_EAGAIN: it must wait (some node can fit it when
 * others end); -SKATE_ENOENT: no living node can ever fit it. */
SKATE_NODISCARD int sched_pick(struct sched_view *v, const struct sched_ask *ask,
                               uint32_t *ret_node);
/* Like the last case of sched_pick, with a sentence for people. */
void sched_explain(const struct sched_view *v, const struct sched_ask *ask, const char *name,
                   struct skate_error *ret);
/* How often does `want` fit into `have`? At most `max`. */
uint32_t sched_times(const struct resources *have, const struct resources *want, uint32_t max);

#endif
