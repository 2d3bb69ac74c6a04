/* map.c - see map.h. */
#include "base/map.h"

#include <stdlib.h>

#include "base/assert.h"

void map_release(struct map *m) {
    free(m->cells);
    *m = (struct map){0};
}

/* Where a key would like to be. Eight sequences in a row of one owner are neighbours, for they are
 * used one after the other (a cache line holds two or three); the blocks of eight are spread by a
 * multiple of the golden ratio, which lays any run of them out evenly, however many runs there are.
 * The results of one task beyond the first are a block of their own. */
static inline uint32_t home(const struct map *m, const struct skate_id *key) {
    uint64_t owner = key->owner * UINT64_C(0xd6e8feb86659fd93), low = key->seq >> 16;
    uint64_t block = low >> 3, index = key->seq & 0xffff;

    if (index > 1 && index != 0xffff) {
        block = low * UINT64_C(0xff51afd7ed558ccd) + (index >> 3);
        low = index;
    }
    block = (block + owner) * UINT64_C(0x9e3779b97f4a7c15) >> m->shift;
    return ((uint32_t)block << 3 | ((uint32_t)(low ^ owner >> 61) & 7)) & m->mask;
}

/* The cell of the key, or the free cell where it would go; *ret_far: how far from its home. */
static inline struct map_cell *probe(const struct map *m, const struct skate_id *key,
                                     uint32_t *ret_far) {
    uint32_t i = home(m, key), far = 0;

    while (m->cells[i].used && !id_equal(&m->cells[i].key, key)) {
        i = (i + 1) & m->mask;
        far++;
    }
    *ret_far = far;
    return &m->cells[i];
}

uint32_t map_get(const struct map *m, const struct skate_id *key) {
    struct map_cell *cell;
    uint32_t far;

    if (!m->count) return MAP_NONE;
    cell = probe(m, key, &far);
    return cell->used ? cell->value : MAP_NONE;
}

static int grow(struct map *m) {
    uint32_t far;
    struct map bigger = {.mask = m->cells ? m->mask * 2 + 1 : 63};

    bigger.shift = 67 - (uint32_t)__builtin_popcount(bigger.mask);

    bigger.cells = calloc((size_t)bigger.mask + 1, sizeof *bigger.cells);
    if (!bigger.cells) return -SKATE_ENOMEM;
    for (uint32_t i = 0; m->cells && i <= m->mask; i++)
        if (m->cells[i].used) {
            struct map_cell *cell = probe(&bigger, &m->cells[i].key, &far);

            *cell = m->cells[i];
            cell->used = far + 1;
        }
    bigger.count = m->count;
    free(m->cells);
    *m = bigger;
    return 0;
}

int map_put(struct map *m, const struct skate_id *key, uint32_t value) {
    struct map_cell *cell;
    uint32_t far;

    SKATE_ASSERT(value != MAP_NONE);
    if (!m->cells || (m->count + 1) * 5ull > (m->mask + 1) * 4ull) {
        int r = grow(m);

        if (r < 0) return r;
    }
    cell = probe(m, key, &far);
    m->count += !cell->used;
    *cell = (struct map_cell){.key = *key, .value = value, .used = far + 1};
    return 0;
}

uint32_t map_remove(struct map *m, const struct skate_id *key) {
    struct map_cell *cell;
    uint32_t value, hole, i, far;

    if (!m->count) return MAP_NONE;
    cell = probe(m, key, &far);
    if (!cell->used) return MAP_NONE;
    value = cell->value;
    hole = (uint32_t)(cell - m->cells);
    /* Close the gap: move back each follower whose home is not after the hole. */
    for (i = (hole + 1) & m->mask; m->cells[i].used; i = (i + 1) & m->mask) {
        uint32_t back = (i - hole) & m->mask;

        if (m->cells[i].used <= back) continue;
        m->cells[hole] = m->cells[i];
        m->cells[hole].used -= back;
        hole = i;
    }
    m->cells[hole].used = 0;
    m->count--;
    return value;
}
