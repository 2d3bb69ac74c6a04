/* gpus.h - which of a node's GPUs a lease has: whole ones, or a part of one.
 *
 * A set says how much of each GPU is free; a share says which of them somebody holds, and how much
 * of each. Amounts as in resources.h. A node with more than GPUS_MAX has amounts, but no numbers:
 * its set is empty and every claim on it succeeds with an empty share. Value types; pure; any
 * thread. Tests: tests/unit/sched_bundle_fit_test.c. */
#ifndef SKATE_SCHED_GPUS_H
#define SKATE_SCHED_GPUS_H

#include "sched/resources.h"

enum { GPUS_MAX = 64 };

struct gpus {
    uint32_t count;
    int32_t free[GPUS_MAX];
};
struct gpu_share {
    uint64_t ids; /* a bit for each */
    int32_t each; /* held of each */
};

/* All of `amount` free (a node's), or none of it (a bundle's, filled by gpus_add). */
void gpus_init(struct gpus *g, int64_t amount);
/* Could `amount` be taken now? One GPU of many is whole, or shared with others by parts. */
bool gpus_fit(const struct gpus *g, int64_t amount);
/* Take it; the caller has asked gpus_fit. amount 0: an empty share. Parts go where most is taken
 * already, so that whole ones stay free. */
struct gpu_share gpus_take(struct gpus *g, int64_t amount);
void gpus_give(struct gpus *g, const struct gpu_share *s);
/* A bundle gets what a share holds; count as of the node. What is left of it goes back one by
 * one: the free amount of each of the share's GPUs moves from `from` to `to`. */
void gpus_add(struct gpus *g, const struct gpu_share *s, uint32_t count);
void gpus_move(struct gpus *from, struct gpus *to);
/* "0,3": names are the numbers, or what is listed in `names` (comma separated, may be NULL). */
const char *gpus_text(const struct gpu_share *s, const char *names, char *out, size_t cap);

#endif
