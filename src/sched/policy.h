/* policy.h - on which node a request goes, given what is known of all nodes.
 *
 * The view is a plain table: what each node has in all and what was free at its last report, less
 * what was sent there since. The own node's row is kept exact by the raylet. From INDEX_FROM rows
 * on an index (node_index.h) finds the same node that a look at every row would find; who changes a
 * row that is not the own one says so by sched_view_touch. Pure, no clock; one thread; never
 * blocks. Tests: tests/unit/sched_policy_test.c, tests/unit/sched_index_test.c. */
#ifndef SKATE_SCHED_POLICY_H
#define SKATE_SCHED_POLICY_H

#include "sched/labels.h"
#include "sched/resources.h"

enum { POLICY_NODES_MAX = 16384, INDEX_FROM = 32 };
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
    bool closed; /* nothing new is placed there for now; it counts as one that could hold things */
    bool queued, reshaped;  /* node_index.c, as the next two */
    uint32_t shape, leaf;
    struct resources total, avail; /* avail: no names that total lacks */
    char labels[LABELS_MAX];
};
struct node_index;
struct sched_view {
    struct sched_node *nodes; /* in order of number */
    uint32_t count, cap;
    uint32_t self; /* the own node, whose row changes unsaid; 0: none */
    uint32_t turn; /* SPREAD: where the last one went */
    struct node_index *index; /* NULL: every row is looked at */
    uint32_t index_from;      /* 0: INDEX_FROM */
};
struct sched_ask {
    const struct resources *want;
    uint32_t strategy, affinity; /* affinity: number of a node */
    const uint64_t *locality;    /* processes on whose nodes large arguments lie */
    uint32_t locality_count;
    const char *labels; /* a selector; NULL or "": none */
    bool here_only; /* it was passed on once: serve it here or say no */
    uint32_t here;  /* the node that asks, in a view with no own one; else 0 */
};

/* A zeroed view with `self` set is empty. Views are not copied: see sched_could. */
void sched_view_release(struct sched_view *v);
/* The row of a node; NULL when there is none. Valid until the next sched_view_add. */
struct sched_node *sched_view_find(const struct sched_view *v, uint32_t node);
/* The row of a node, made when there is none. NULL: out of memory or POLICY_NODES_MAX. */
struct sched_node *sched_view_add(struct sched_view *v, uint32_t node);
/* Its free amounts, `alive` or `closed` have changed; reshape: total or labels, too. */
void sched_view_touch(struct sched_view *v, struct sched_node *n);
void sched_view_reshape(struct sched_view *v, struct sched_node *n);
/* Bring the index up to date now: else the next pick does. */
void sched_view_settle(struct sched_view *v);

enum sched_place { SCHED_HERE, SCHED_MAYBE, SCHED_AWAY };
/* By the own row alone. HERE: it fits and sched_pick would say so whatever others have free; MAYBE:
 * it fits, but another node may be better; AWAY: it does not fit, or must not run here. */
enum sched_place sched_here(const struct sched_view *v, const struct sched_ask *ask);

/* Where to run it now. 0 and *ret_node; -SKATE_EAGAIN: it must wait (some node can fit it when
 * others end); -SKATE_ENOENT: no living node can ever fit it. */
SKATE_NODISCARD int sched_pick(struct sched_view *v, const struct sched_ask *ask,
                               uint32_t *ret_node);
/* What sched_pick would say; nothing is chosen. */
SKATE_NODISCARD int sched_could(struct sched_view *v, const struct sched_ask *ask);
/* Like the last case of sched_pick, with a sentence for people. */
void sched_explain(const struct sched_view *v, const struct sched_ask *ask, const char *name,
                   struct skate_error *ret);
/* How often does `want` fit into `have`? At most `max`. */
uint32_t sched_times(const struct resources *have, const struct resources *want, uint32_t max);

#endif
