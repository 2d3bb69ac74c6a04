/* node_index.h - finds the node that policy.c wants without a look at every row of its view.
 *
 * Rows alike in the names of their resources, in their totals (large ones: nearly) and in their
 * labels form a shape. Each shape keeps its nodes in order of number under a tree whose inner nodes
 * hold the most that is free below them of each resource: what cannot fit, or would be too busy, is
 * left out by whole branches. A label that names one node (ray.io/node-id) and resources "node:..."
 * form no shapes; who asks for one of these is led to the nodes that have it by a hash. The answer
 * is checked against the row itself, so the index may be too hopeful, never wrong.
 *
 * A search costs (shapes x log of nodes) while the wanted resources run short together; where some
 * nodes lack one and others another it looks at more, at most all. Memory: 48 bytes for each node
 * and resource. Only policy.c uses it; pure; one thread. Tests: tests/unit/sched_index_test.c. */
#ifndef SKATE_SCHED_NODE_INDEX_H
#define SKATE_SCHED_NODE_INDEX_H

#include "sched/policy.h"

#define BUSY_ANY INT64_MAX

/* Bring it up to date, made when the view is large enough. False: look at every row. */
bool node_index_ready(struct sched_view *v);
void node_index_free(struct sched_view *v);
/* This row is to be looked at again before the next search. */
void node_index_queue(struct sched_view *v, struct sched_node *n, bool reshaped);

/* The own row (view.self) is in none of these. */
/* The first of number >= from that fits now and is at most so busy with it, in percent; or NULL. */
struct sched_node *node_index_first(struct sched_view *v, const struct sched_ask *ask,
                                    int64_t busy_most, uint32_t from);
/* The least busy one that fits now, the first among equals. */
struct sched_node *node_index_least(struct sched_view *v, const struct sched_ask *ask);
/* One that could hold it if it were empty. */
struct sched_node *node_index_ever(struct sched_view *v, const struct sched_ask *ask);

/* policy.c: the rules themselves, for one row */
bool sched_fits_now(const struct sched_node *n, const struct sched_ask *ask);
bool sched_fits_ever(const struct sched_node *n, const struct sched_ask *ask);
/* Use of the busiest wanted resource with it, in percent. */
int64_t sched_busy_after(const struct sched_node *n, const struct resources *want);
int64_t sched_busy(int64_t total, int64_t used);

#endif
