/* instances.h - the many actors of one native process: their states in slabs, found by number.
 *
 * Numbers are chosen by callers in runs (docs/design/0003-native.md); a slab holds the states of a
 * run, or of several that follow each other. Pure but for malloc; one thread (the worker's).
 * Numbers and counts come from peers: everything is checked, a full table says so.
 * Tests: tests/unit/native_instances_test.c. */
#ifndef SKATE_NATIVE_INSTANCES_H
#define SKATE_NATIVE_INSTANCES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { INSTANCES_MAX = 1 << 26, SLABS_MAX = 1 << 16 };

struct slab {
    uint64_t first;
    uint32_t count, cap, live_count;
    size_t stride;
    const void *cls; /* whose instances these are */
    uint8_t *states; /* aligned to 64 bytes, zeros at first */
    uint64_t *live;  /* a bit each */
    void *memory;
};
struct instances {
    struct slab *slabs; /* sorted by first */
    uint32_t slab_count, slab_cap, last;
    uint64_t count, bytes, bytes_max;
};

void instances_init(struct instances *t, uint64_t bytes_max);
void instances_release(struct instances *t);

/* States of self_bytes zeros for first..first+count-1, not alive yet. -SKATE_EINVAL: numbers that
 * no caller may choose, -SKATE_EEXIST: taken, -SKATE_EFULL, -SKATE_ENOMEM. */
SKATE_NODISCARD int instances_add(struct instances *t, uint64_t first, uint64_t count,
                                  const void *cls, size_t self_bytes);
/* The state of one that instances_add() made, alive or not; NULL: no such. */
void *instances_state(struct instances *t, uint64_t index);
void instances_born(struct instances *t, uint64_t index);
/* A living one: its state and class, or NULL. */
void *instances_find(struct instances *t, uint64_t index, const void **ret_cls);
/* It is dead; its number is never alive again while its slab stays. False: it was none. */
bool instances_end(struct instances *t, uint64_t index);
/* Take back what the last instances_add() made. */
void instances_undo(struct instances *t, uint64_t first, uint64_t count);
/* The next living one at or behind *at: its state, *at behind it; NULL at the end. */
void *instances_next(struct instances *t, uint64_t *at, uint64_t *ret_index, const void **ret_cls);

#endif
