/* prio.h - a 16-ary tree of sums with a tree of minima beside it: priorities of numbered places.
 *
 * Places 0 to n - 1 hold a float; 0 is "empty", and the empty ones are the last. A node's sum is
 * taken anew from its 16 children (one cache line), so errors do not pile up. Changes come in
 * batches: each touched node is summed once. One owner, no locks, never blocks.
 * Tests: tests/unit/rl_replay_test.c. */
#ifndef SKATE_RL_REPLAY_PRIO_H
#define SKATE_RL_REPLAY_PRIO_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { PRIO_LEVELS = 9 };                   /* 16^8 = 2^32 */

struct prio {
    int levels;                             /* the root is sum[levels - 1][0] */
    uint32_t nodes[PRIO_LEVELS];            /* of a level, filled up to a multiple of 16 */
    float *sum[PRIO_LEVELS], *min[PRIO_LEVELS];     /* min[0] is NULL: the places themselves */
    uint8_t *mark[PRIO_LEVELS];             /* noted in the batch already */
};

SKATE_NODISCARD int prio_init(struct prio *p, uint64_t places);
void prio_release(struct prio *p);
/* Write values (0 to 1e28) at rows that exist; the last of equal rows counts. */
void prio_set(struct prio *p, const uint32_t *rows, const float *values, size_t n);
/* The place at which the running sum passes `target`; may be an empty one past the last. */
uint32_t prio_find(const struct prio *p, double target);

static inline float prio_total(const struct prio *p) {
    return p->sum[p->levels - 1][0];
}

/* The least of the places that are not empty; infinite if all are. */
static inline float prio_least(const struct prio *p) {
    return p->min[p->levels - 1][0];
}

#endif
