/* blocks.c - see blocks.h. */
#include "core/blocks.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum { PAGE_UNITS = 4096 / BLOCK_UNIT, LINEAR = 32, LINEAR_BITS = 5, LOOK_MAX = 4 };
_Static_assert(BLOCK_BINS == LINEAR + (16 - LINEAR_BITS + 1) * LINEAR, "the largest has a bin");

struct hole {
    struct region *region;
    uint32_t at, units;
    uint32_t prev, next;  /* in the bin: 1 + index, 0 none; next: of unused ones, too */
    uint32_t page_next;   /* begins in the same page: 1 + index */
};

static bool bit(const uint64_t *map, uint64_t at) { return map[at / 64] >> at % 64 & 1; }
static void bit_set(uint64_t *map, uint32_t at) { map[at / 64] |= UINT64_C(1) << at % 64; }
static void bit_clear(uint64_t *map, uint32_t at) { map[at / 64] &= ~(UINT64_C(1) << at % 64); }

/* Where the block behind the one at `at` begins, or the region ends. */
static uint32_t next_block(const struct region *g, uint32_t at) {
    uint32_t word = ++at / 64;
    uint64_t bits;

    if (at >= g->units) return g->units;
    bits = (g->objects[word] | g->holes[word]) >> at % 64;
    if (bits) return at + (uint32_t)__builtin_ctzll(bits);
    while (++word < g->units / 64)
        if ((bits = g->objects[word] | g->holes[word]))
            return word * 64 + (uint32_t)__builtin_ctzll(bits);
    return g->units;
}

/* Where the block before the one at `at` (not the first) begins. */
static uint32_t prev_block(const struct region *g, uint32_t at) {
    uint32_t word = --at / 64;
    uint64_t bits = (g->objects[word] | g->holes[word]) << (63 - at % 64);

    if (bits) return at - (uint32_t)__builtin_clzll(bits);
    while (word-- > 0)
        if ((bits = g->objects[word] | g->holes[word]))
            return word * 64 + 63 - (uint32_t)__builtin_clzll(bits);
    SKATE_ASSERT(!"a region begins with a block");
    return 0;
}

/* ---- holes and their nodes ---- */

static uint32_t bin_of(uint32_t units) {
    uint32_t doubling;

    if (units < LINEAR) return units;
    doubling = 31 - (uint32_t)__builtin_clz(units) - LINEAR_BITS;
    return LINEAR * (doubling + 1) + (units >> doubling) - LINEAR;
}

static uint32_t node_new(struct blocks *b) {
    uint32_t i = b->unused;

    if (i) {
        b->unused = b->nodes[i - 1].next;
        return i;
    }
    if (b->count == b->cap) {
        uint32_t cap = b->cap ? b->cap * 2 : 64;
        struct hole *grown = realloc(b->nodes, cap * sizeof *grown);

        if (!grown) return 0;
        b->nodes = grown;
        b->cap = cap;
    }
    return ++b->count;
}

/* A hole begins there; its bit is set already. */
static void hole_add(struct blocks *b, struct region *g, uint32_t at, uint32_t units) {
    uint32_t i = g->shown ? node_new(b) : 0, bin = bin_of(units);
    struct hole *n;

    if (!i) return;
    n = &b->nodes[i - 1];
    *n = (struct hole){.region = g, .at = at, .units = units, .next = b->bins[bin],
                       .page_next = g->pages[at / PAGE_UNITS]};
    if (n->next) b->nodes[n->next - 1].prev = i;
    b->bins[bin] = i;
    bit_set(b->full, bin);
    g->pages[at / PAGE_UNITS] = i;
}

/* Its node, if it has one, is gone; the bit stays. */
static void hole_remove(struct blocks *b, struct region *g, uint32_t at) {
    uint32_t *link = &g->pages[at / PAGE_UNITS], i, bin;
    struct hole *n;

    while (*link && b->nodes[*link - 1].at != at) link = &b->nodes[*link - 1].page_next;
    i = *link;
    if (!i) return;
    n = &b->nodes[i - 1];
    *link = n->page_next;
    bin = bin_of(n->units);
    if (n->next) b->nodes[n->next - 1].prev = n->prev;
    if (n->prev)
        b->nodes[n->prev - 1].next = n->next;
    else if (!(b->bins[bin] = n->next))
        bit_clear(b->full, bin);
    n->next = b->unused;
    b->unused = i;
}

/* A hole of that many units: its index, or BLOCK_NONE. Those of the next bin all serve, of the
 * length's own only some. */
static uint32_t find_hole(const struct blocks *b, uint32_t units) {
    uint32_t bin = bin_of(units), word = ++bin / 64;
    uint64_t bits;

    for (uint32_t i = b->bins[bin - 1], looked = 0; i && looked < LOOK_MAX; looked++) {
        const struct hole *n = &b->nodes[i - 1];

        if (n->units >= units) return i - 1;
        i = n->next;
    }
    if (bin >= BLOCK_BINS) return BLOCK_NONE;
    bits = b->full[word] >> bin % 64;
    if (bits) return b->bins[bin + (uint32_t)__builtin_ctzll(bits)] - 1;
    while (++word < sizeof b->full / sizeof *b->full)
        if (b->full[word])
            return b->bins[word * 64 + (uint32_t)__builtin_ctzll(b->full[word])] - 1;
    return BLOCK_NONE;
}

/* ---- regions ---- */

void blocks_release(struct blocks *b) {
    free(b->nodes);
    *b = (struct blocks){0};
}

int region_init(struct region *g, uint32_t units) {
    size_t words = units / 64;

    SKATE_ASSERT(units && units % 64 == 0 && units <= BLOCK_UNITS_MAX);
    *g = (struct region){.objects = calloc(1, 3 * words * sizeof *g->objects +
                                              units / PAGE_UNITS * sizeof *g->pages),
                         .units = units};
    if (!g->objects) return -SKATE_ENOMEM;
    g->holes = g->objects + words;
    g->open = g->holes + words;
    g->pages = (uint32_t *)(void *)(g->open + words);
    bit_set(g->holes, 0);
    return 0;
}

void region_release(struct region *g) {
    SKATE_ASSERT(!g->shown);
    free(g->objects);
    g->objects = NULL;
}

void blocks_show(struct blocks *b, struct region *g) {
    SKATE_ASSERT(!g->shown);
    g->shown = true;
    for (uint32_t at = 0; at < g->units; at = next_block(g, at))
        if (bit(g->holes, at)) hole_add(b, g, at, next_block(g, at) - at);
}

void blocks_hide(struct blocks *b, struct region *g) {
    for (uint32_t p = 0; p < g->units / PAGE_UNITS; p++)
        while (g->pages[p]) hole_remove(b, g, b->nodes[g->pages[p] - 1].at);
    g->shown = false;
}

uint32_t blocks_take(struct blocks *b, uint32_t units, struct region **ret) {
    uint32_t i = units <= BLOCK_UNITS_MAX ? find_hole(b, units) : BLOCK_NONE, at, all;
    struct region *g;

    if (i == BLOCK_NONE) return BLOCK_NONE;
    g = b->nodes[i].region;
    at = b->nodes[i].at;
    all = b->nodes[i].units;
    hole_remove(b, g, at);
    bit_clear(g->holes, at);
    bit_set(g->objects, at);
    bit_set(g->open, at);
    if (all > units) {
        bit_set(g->holes, at + units);
        hole_add(b, g, at + units, all - units);
    }
    *ret = g;
    return at;
}

int blocks_free(struct blocks *b, struct region *g, uint64_t where) {
    uint32_t at = (uint32_t)where, end;
    bool open;

    if (where >= g->units || !bit(g->objects, where)) return -SKATE_ENOENT;
    open = bit(g->open, at);
    end = next_block(g, at);
    bit_clear(g->open, at);
    bit_clear(g->objects, at);
    if (end < g->units && bit(g->holes, end)) {
        uint32_t behind = end;

        end = next_block(g, behind);
        hole_remove(b, g, behind);
        bit_clear(g->holes, behind);
    }
    if (at > 0) {
        uint32_t before = prev_block(g, at);

        if (bit(g->holes, before)) {
            hole_remove(b, g, before);
            at = before;
        }
    }
    bit_set(g->holes, at);
    hole_add(b, g, at, end - at);
    return open;
}

bool region_seal(struct region *g, uint64_t at) {
    if (at >= g->units || !bit(g->open, at)) return false;
    bit_clear(g->open, (uint32_t)at);
    return true;
}
