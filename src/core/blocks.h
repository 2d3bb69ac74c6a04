/* blocks.h - which bytes of some regions hold an object: room is found, taken and freed.
 *
 * A region is cut into blocks of whole units, without gaps: objects and holes, no two holes side
 * by side. Two bit maps say where blocks begin; a third says which objects are still being written.
 * Holes of all shown regions lie in bins by length, 32 to a doubling; the smallest bin that serves
 * is found in a bit map, so that taking and freeing are next to constant in time, and what is left
 * over of a hole is small. A hole is known by a node: in its bin, and in the chain of the page
 * where it begins. Holes without one (of hidden regions; or memory was short) are not found
 * until they are joined with a neighbour or shown.
 *
 * All of it is private memory. Pure, never blocks; the caller guards it. Tests: core_heap_test.c */
#ifndef SKATE_CORE_BLOCKS_H
#define SKATE_CORE_BLOCKS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum {
    BLOCK_UNIT = 64,
    BLOCK_UNITS_MAX = 1 << 16, /* of a region: 4 MB */
    BLOCK_BINS = 416,
    BLOCK_NONE = 0xffffffffu
};

struct region {
    uint64_t *objects, *holes, *open; /* a bit a unit: one begins here; open: of objects */
    uint32_t *pages;                  /* the first hole (1 + its index) that begins in each 4 KB */
    uint32_t units;
    bool shown;
};
struct hole; /* opaque */
struct blocks {
    struct hole *nodes;
    uint32_t count, cap, unused; /* unused: the first of a chain, 1 + index */
    uint32_t bins[BLOCK_BINS];   /* the first hole (1 + index) */
    uint64_t full[(BLOCK_BINS + 63) / 64]; /* a bit a bin: not empty */
};

void blocks_release(struct blocks *b);
/* units: a multiple of 64, BLOCK_UNITS_MAX at most. All one hole, hidden. -SKATE_ENOMEM. */
SKATE_NODISCARD int region_init(struct region *g, uint32_t units);
void region_release(struct region *g); /* a hidden one */
/* Its holes can be taken; or no more. */
void blocks_show(struct blocks *b, struct region *g);
void blocks_hide(struct blocks *b, struct region *g);

/* Take `units` (1 at least) of a shown region: where, or BLOCK_NONE. The object is open. */
uint32_t blocks_take(struct blocks *b, uint32_t units, struct region **ret);
/* Free the object that begins at `at`: 1 when it was open, else 0. -SKATE_ENOENT: none there. */
int blocks_free(struct blocks *b, struct region *g, uint64_t at);
/* The object is open no longer. False when none begins there, or it was not. */
bool region_seal(struct region *g, uint64_t at);

#endif
