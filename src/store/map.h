/* map.h - a hash table from a 64-bit key to a pointer: open addressing, linear probing.
 *
 * The keys are numbers that we made ourselves (offsets, process ids), never a peer's choice, so
 * one mixing step is enough. NULL is no value. Grows by doubling; removing moves later entries
 * back, so there are no tombstones. Single-threaded, never blocks. Tests: store_map_test.c. */
#ifndef SKATE_STORE_MAP_H
#define SKATE_STORE_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct map_slot {
    uint64_t key;
    void *value; /* NULL: free */
};
struct map {
    struct map_slot *slots;
    uint32_t count, mask; /* mask + 1 slots; slots is NULL before the first map_set */
};

/* A zeroed struct is an empty map. Frees the table, not the values. */
void map_release(struct map *m);
/* The value of a key, or NULL. */
void *map_get(const struct map *m, uint64_t key);
/* Set or replace. -SKATE_ENOMEM leaves the map as it was. */
SKATE_NODISCARD int map_set(struct map *m, uint64_t key, void *value);
/* Remove and return the value, or NULL. */
void *map_take(struct map *m, uint64_t key);
/* Walk: start with *at = 0; NULL at the end. The map must not change during a walk. */
void *map_next(const struct map *m, uint32_t *at, uint64_t *ret_key);

#endif
