/* table.c - see table.h. */
#include "store/table.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/assert.h"

static uint32_t home(const struct table *m, uint64_t key) {
    key ^= key >> 32;
    key *= UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(key >> 32) & m->mask;
}

void table_release(struct table *m) {
    free(m->slots);
    *m = (struct table){0};
}

/* The slot of a key, or the free slot where it would go. */
static struct table_slot *find(const struct table *m, uint64_t key) {
    uint32_t i = home(m, key);

    while (m->slots[i].value && m->slots[i].key != key) i = (i + 1) & m->mask;
    return &m->slots[i];
}

void *table_get(const struct table *m, uint64_t key) {
    return m->slots ? find(m, key)->value : NULL;
}

static int grow(struct table *m) {
    struct table old = *m;
    uint32_t slots = old.slots ? (old.mask + 1) * 2 : 16;

    m->slots = calloc(slots, sizeof *m->slots);
    if (!m->slots) {
        *m = old;
        return -SKATE_ENOMEM;
    }
    m->mask = slots - 1;
    for (uint32_t i = 0; old.slots && i <= old.mask; i++)
        if (old.slots[i].value) *find(m, old.slots[i].key) = old.slots[i];
    free(old.slots);
    return 0;
}

int table_set(struct table *m, uint64_t key, void *value) {
    struct table_slot *s;
    int e;

    SKATE_ASSERT(value);
    if (!m->slots || (uint64_t)m->count * 4 >= (uint64_t)(m->mask + 1) * 3) {
        e = grow(m);
        if (e < 0) return e;
    }
    s = find(m, key);
    if (!s->value) m->count++;
    *s = (struct table_slot){key, value};
    return 0;
}

void *table_take(struct table *m, uint64_t key) {
    struct table_slot *s;
    uint32_t hole, i;
    void *value;

    if (!m->slots) return NULL;
    s = find(m, key);
    value = s->value;
    if (!value) return NULL;
    s->value = NULL;
    m->count--;
    /* Close the gap: an entry whose home does not lie between the hole and itself moves back. */
    hole = (uint32_t)(s - m->slots);
    for (i = (hole + 1) & m->mask; m->slots[i].value; i = (i + 1) & m->mask) {
        uint32_t h = home(m, m->slots[i].key);

        if (((i - h) & m->mask) >= ((i - hole) & m->mask)) {
            m->slots[hole] = m->slots[i];
            m->slots[i].value = NULL;
            hole = i;
        }
    }
    return value;
}

void *table_next(const struct table *m, uint32_t *at, uint64_t *ret_key) {
    while (m->slots && *at <= m->mask) {
        const struct table_slot *s = &m->slots[(*at)++];

        if (s->value) {
            if (ret_key) *ret_key = s->key;
            return s->value;
        }
    }
    return NULL;
}
