/* residency.h - which bytes of the arena have pages now, and who is looking at them.
 *
 * The arena is a large range of addresses of which a bounded part has pages; the rest of what is
 * lent lies in spill files. Both are counted in granules. The residency map (one byte a granule,
 * behind the arena in its memory file) is written by the raylet alone; the pins (one counter a
 * granule, behind the ledger in a process's memory file) by that process alone, under its mutex.
 *
 * A reader pins, then looks at the map; the raylet marks granules as leaving, then looks at the
 * pins of all processes; each with a full barrier in between. So either the reader sees that they
 * leave (it keeps its pins and asks for them), or the raylet sees the pins (it keeps the pages).
 * What is pinned and not here stays pinned while it is brought back, so it can't leave again
 * before it was read. Tests: store_residency_test.c. */
#ifndef SKATE_STORE_RESIDENCY_H
#define SKATE_STORE_RESIDENCY_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/atomic.h"

#define GRANULE_BYTES (UINT64_C(256) << 10)

enum residency {
    RES_HERE = 0,
    RES_LEAVING = 1, /* its pages go if nobody has it pinned */
    RES_OUT = 2,     /* in a spill file */
    RES_LOST = 3,    /* was in a spill file that cannot be read */
};

static inline uint64_t granule_first(uint64_t offset) { return offset / GRANULE_BYTES; }
/* One after the last granule of these bytes (bytes > 0). */
static inline uint64_t granule_end(uint64_t offset, uint64_t bytes) {
    return (offset + bytes - 1) / GRANULE_BYTES + 1;
}
/* Sizes of the two tables for an arena of `span` bytes, in whole pages. */
static inline uint64_t residency_bytes(uint64_t span) {
    return (span / GRANULE_BYTES + 4096) & ~UINT64_C(4095);
}
static inline uint64_t pins_bytes(uint64_t span) {
    return (span / GRANULE_BYTES * sizeof(uint32_t) + 4096) & ~UINT64_C(4095);
}

/* Are all granules of [first, end) here? */
static inline bool residency_all_here(const uint8_t *map, uint64_t first, uint64_t end) {
    for (uint64_t g = first; g < end; g++)
        if (at_load_acquire(&map[g]) != RES_HERE) return false;
    return true;
}

/* Pin, then look: true when all is here. Pinned in any case: pins_drop() must follow. */
static inline bool pins_take(uint32_t *pins, const uint8_t *map, uint64_t offset, uint64_t bytes) {
    uint64_t first = granule_first(offset), end = granule_end(offset, bytes);

    for (uint64_t g = first; g < end; g++) at_store(&pins[g], pins[g] + 1);
    at_fence_seq();
    return residency_all_here(map, first, end);
}
static inline void pins_drop(uint32_t *pins, uint64_t offset, uint64_t bytes) {
    uint64_t end = granule_end(offset, bytes);

    for (uint64_t g = granule_first(offset); g < end; g++)
        at_store_release(&pins[g], pins[g] - 1);
}

#endif
