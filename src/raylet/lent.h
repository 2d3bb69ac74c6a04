/* lent.h - cores that a node has only while others lend them.
 *
 * A node inside a Spark executor (docs/spark/nodes.md, mode="shared") holds few cores of its own.
 * Its drivers there are Spark tasks with cores of theirs: while one waits in get() its cores are
 * this node's. The node says all of them as its total; those not lent count as taken. Owned by the
 * loop thread; costs nothing when `shared_cpus` is not set. Tests: tests/e2e/test_lent_cores.py. */
#ifndef SKATE_RAYLET_LENT_H
#define SKATE_RAYLET_LENT_H

#include "raylet/raylet.h"

/* The node has its number and its amounts: take what is not its own. */
void lent_start(struct raylet *r);
/* A driver waits (true), or goes on, or is dead. Said twice counts once. On waking it has its cores
 * at once, even if that makes the node's amount negative for a while. One that begins to wait when
 * all is lent already does not lend later, when another has gone on. */
void lent_by(struct proc *p, bool waits);
/* For the books: what is not here now. */
void lent_sum(const struct raylet *r, struct resources *sum);

#endif
