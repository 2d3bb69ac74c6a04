/* table.h - a hash table from a 64-bit key to a pointer: open addressing, linear probing.
 *
 * The keys are numbers that we made ourselves (offsets, process ids), never a peer's choice, so
 * one mixing step is enough. NULL is no value. Grows by doubling; removing moves later entries
 * back, so there are no tombstones. Single-threaded, never blocks. Tests: store_table_test.c. */
#ifndef SKATE_STORE_TABLE_H
#define SKATE_STORE_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct table_slot {
    uint64_t key;
    void *value; /* NULL: free */
};
struct table {
    struct table_slot *slots;
    uint32_t count, mask; /* mask + 1 slots; slots is NULL before the first table_set */
};

/* A zeroed struct is an empty map. Frees the table, not the values. */
void table_release(struct table *m);
/* The value of a key, or NULL. */
void *table_get(const struct table *m, uint64_t key);
/* Set or replace. -SKATE_ENOMEM leaves the map as it was. */
SKATE_NODISCARD int table_set(struct table *m, uint64_t key, void *value);
/* Remove and return the value, or NULL. */
void *table_take(struct table *m, uint64_t key);
/* Walk: start with *at = 0; NULL at the end. The map must not change during a walk. */
void *table_next(const struct table *m, uint32_t *at, uint64_t *ret_key);

#endif
