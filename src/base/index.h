/* index.h - hash index from a 16-byte id to a small number, for tables that hold the ids already:
 * 8 bytes a cell, where struct map has 24. Open addressing, linear probing, no tombstones.
 *
 * The id of number v lies at keys + v * stride; it must be there before index_put() and stay until
 * index_remove(). Private memory, one thread at a time. Tests: tests/unit/base_index_test.c. */
#ifndef SKATE_BASE_INDEX_H
#define SKATE_BASE_INDEX_H

#include <stdbool.h>

#include "base/err.h"
#include "base/id.h"
#include "base/map.h"

struct index_cell {
    uint32_t hash;
    uint32_t used; /* 0: free; else the number + 1 */
};
struct index {
    const uint8_t *keys;
    struct index_cell *cells;
    uint32_t stride;
    uint32_t count, mask; /* mask + 1 cells; none before the first put */
    uint32_t shift;       /* from a hash to its home, see index.c */
};

void index_init(struct index *x, const void *keys, uint32_t stride);
void index_release(struct index *x);
/* MAP_NONE when absent. */
uint32_t index_get(const struct index *x, const struct skate_id *key);
/* Add a number whose id is not in the index yet. -SKATE_ENOMEM. */
SKATE_NODISCARD int index_put(struct index *x, uint32_t value);
/* The removed number, or MAP_NONE. */
uint32_t index_remove(struct index *x, const struct skate_id *key);

#endif
