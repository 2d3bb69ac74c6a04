/* place.h - the placement group that a task or actor runs in, and what a worker knows of its own
 * lease, and its end. Part of the core's face: see core.h for the threads. Tests: tests/compat. */
#ifndef SKATE_CORE_PLACE_H
#define SKATE_CORE_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"

struct core;

/* group nil: in none; bundle -1: any of it; capture: children run there, too. */
struct core_bundle {
    struct skate_id group;
    int32_t bundle;
    uint32_t capture;
};

/* A worker's lease as its core keeps it. */
struct lease_state {
    struct core_bundle place;
    uint64_t changes, seen;
    char gpus[256];
};

/* What the lease of this worker is: its place, and its GPUs ("0,1", NUL-terminated). Returns how
 * often that has changed; 0: never said, so neither. */
uint64_t core_lease(struct core *c, struct core_bundle *ret, char *ret_gpus, size_t cap);

/* The running task's results outlive this process, the raylet keeps their bytes. last: take no more
 * tasks; core_next says -SKATE_ESHUTDOWN when nothing needs this process. */
void core_limited(struct core *c, bool last);

#endif
