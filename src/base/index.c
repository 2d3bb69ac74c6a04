/* index.c - see index.h. */
#include "base/index.h"

#include <stdlib.h>

#include "base/assert.h"

enum { CELLS_MIN = 64 };

void index_init(struct index *x, const void *keys, uint32_t stride) {
    *x = (struct index){.keys = keys, .stride = stride};
}

void index_release(struct index *x) {
    free(x->cells);
    *x = (struct index){.keys = x->keys, .stride = x->stride};
}

static inline const struct skate_id *key_of(const struct index *x, uint32_t value) {
    return (const void *)(x->keys + (size_t)value * x->stride);
}

/* As in map.c, neighbours in use are neighbours here: eight sequences in a row of one owner lie
 * side by side (one cache line), the blocks of eight are spread by a multiple of the golden ratio.
 * The upper 29 bits are the block's place, the same for every size of the table. */
static inline uint32_t hash_of(const struct skate_id *key) {
    uint64_t owner = key->owner * UINT64_C(0xd6e8feb86659fd93), low = key->seq >> 16;
    uint64_t block = low >> 3, index = key->seq & 0xffff;

    if (index > 1 && index != 0xffff) {
        block = low * UINT64_C(0xff51afd7ed558ccd) + (index >> 3);
        low = index;
    }
    block = (block + owner) * UINT64_C(0x9e3779b97f4a7c15) >> 35;
    return (uint32_t)block << 3 | ((uint32_t)(low ^ owner >> 61) & 7);
}

static inline uint32_t home(const struct index *x, uint32_t hash) {
    return (hash >> x->shift << 3 | (hash & 7)) & x->mask;
}

/* The cell of the key, or the free cell where it would go. */
static inline struct index_cell *probe(const struct index *x, const struct skate_id *key,
                                       uint32_t hash) {
    uint32_t i = home(x, hash);

    while (x->cells[i].used &&
           (x->cells[i].hash != hash || !id_equal(key_of(x, x->cells[i].used - 1), key)))
        i = (i + 1) & x->mask;
    return &x->cells[i];
}

uint32_t index_get(const struct index *x, const struct skate_id *key) {
    struct index_cell *cell;

    if (!x->count) return MAP_NONE;
    cell = probe(x, key, hash_of(key));
    return cell->used ? cell->used - 1 : MAP_NONE;
}

/* Twice as many cells. The keys are not looked at: cells have their hashes. */
static int grow(struct index *x) {
    uint32_t cells = x->cells ? (x->mask + 1) * 2 : CELLS_MIN;
    struct index_cell *old = x->cells, *made = calloc(cells, sizeof *made);
    uint32_t n = x->cells ? x->mask + 1 : 0;

    if (!made) return -SKATE_ENOMEM;
    x->cells = made;
    x->mask = cells - 1;
    x->shift = 35 - (uint32_t)__builtin_popcount(x->mask);
    for (uint32_t i = 0; i < n; i++)
        if (old[i].used) {
            uint32_t at = home(x, old[i].hash);

            while (made[at].used) at = (at + 1) & x->mask;
            made[at] = old[i];
        }
    free(old);
    return 0;
}

int index_put(struct index *x, uint32_t value) {
    const struct skate_id *key = key_of(x, value);
    uint32_t hash = hash_of(key);
    struct index_cell *cell;

    SKATE_ASSERT(value != MAP_NONE);
    if (!x->cells || (x->count + 1) * 5ull > (x->mask + 1) * 4ull) {
        int r = grow(x);

        if (r < 0) return r;
    }
    cell = probe(x, key, hash);
    SKATE_ASSERT(!cell->used);
    *cell = (struct index_cell){hash, value + 1};
    x->count++;
    return 0;
}

uint32_t index_remove(struct index *x, const struct skate_id *key) {
    struct index_cell *cell;
    uint32_t value, hole;

    if (!x->count) return MAP_NONE;
    cell = probe(x, key, hash_of(key));
    if (!cell->used) return MAP_NONE;
    value = cell->used - 1;
    hole = (uint32_t)(cell - x->cells);
    /* Close the gap: move back each follower whose home is not after the hole. */
    for (uint32_t i = (hole + 1) & x->mask; x->cells[i].used; i = (i + 1) & x->mask) {
        uint32_t far = (i - home(x, x->cells[i].hash)) & x->mask;

        if (far < ((i - hole) & x->mask)) continue;
        x->cells[hole] = x->cells[i];
        hole = i;
    }
    x->cells[hole].used = 0;
    x->count--;
    return value;
}
