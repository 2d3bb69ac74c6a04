/* map.h - hash map from a 16-byte id to a 32-bit index: open addressing, linear probing, no
 * tombstones. Private memory, one thread at a time. Tests: tests/unit/base_model_test.c. */
#ifndef SKATE_BASE_MAP_H
#define SKATE_BASE_MAP_H

#include "base/err.h"
#include "base/id.h"

enum { MAP_NONE = 0xffffffff };

struct map_cell {
    struct skate_id key;
    uint32_t value;
    uint32_t used; /* 0: free; else 1 + how far behind its home it lies */
};
struct map {
    struct map_cell *cells;
    uint32_t count, mask; /* mask + 1 cells; 0 cells before the first put */
    uint32_t shift;       /* of a block's number, see map.c */
};

void map_release(struct map *m);
/* MAP_NONE when absent. */
uint32_t map_get(const struct map *m, const struct skate_id *key);
/* Insert or replace. -SKATE_ENOMEM. */
SKATE_NODISCARD int map_put(struct map *m, const struct skate_id *key, uint32_t value);
/* The removed value, or MAP_NONE. */
uint32_t map_remove(struct map *m, const struct skate_id *key);

/* Keys that are one number (a process, a function). */
static inline struct skate_id map_key(uint64_t n) {
    return (struct skate_id){.owner = n, .seq = 0};
}

#endif
