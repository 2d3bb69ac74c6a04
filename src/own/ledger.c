/* ledger.c - see ledger.h. The byte area is a bump pointer with one free list for each of 152 size
 * classes (by 16 bytes to 1,024, by 32 to 2,048, then four steps for each power of two, so that a
 * million small values waste little); the link of a free piece lies in the piece itself, since a
 * free piece holds nothing of record. */
#include "own/ledger.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/atomic.h"

void ledger_init(struct ledger *l, void *mapping, uint64_t proc) {
    *l = (struct ledger){.header = mapping};
    l->slots = (struct ledger_slot *)(void *)((uint8_t *)mapping + LEDGER_SLOTS_OFFSET);
    l->area = (uint8_t *)mapping + LEDGER_AREA_OFFSET;
    l->header->proc = proc;
    l->header->version = 1;
    l->header->slots = LEDGER_OBJECTS;
    l->header->area_offset = LEDGER_AREA_OFFSET;
    l->header->area_bytes = LEDGER_AREA;
    at_store_release(&l->header->magic, LEDGER_MAGIC);
}

void ledger_release(struct ledger *l) {
    for (int i = 0; i < LEDGER_POOLS; i++) free(l->pools[i].free);
    *l = (struct ledger){0};
}

/* The next block of slots of a pool. Room on its stack first: a free must never need memory. */
static int more_slots(struct ledger *l, struct ledger_slots *p) {
    uint64_t at = l->header->slots_used;

    if (at + LEDGER_BLOCK > LEDGER_OBJECTS) return -SKATE_EFULL;
    if (p->taken + LEDGER_BLOCK > p->free_cap) {
        uint32_t cap = p->free_cap ? p->free_cap * 2 : 1024;
        uint32_t *grown = realloc(p->free, cap * sizeof *grown);

        if (!grown) return -SKATE_ENOMEM;
        p->free = grown;
        p->free_cap = cap;
    }
    p->next = (uint32_t)at;
    p->end = p->next + LEDGER_BLOCK;
    p->taken += LEDGER_BLOCK;
    at_store_release(&l->header->slots_used, at + LEDGER_BLOCK);
    return 0;
}

int ledger_slot_take(struct ledger *l, enum ledger_pool pool, uint32_t *ret_slot) {
    struct ledger_slots *p = &l->pools[pool];

    if (p->free_count) {
        *ret_slot = p->free[--p->free_count];
        return 0;
    }
    if (p->next == p->end) {
        int r = more_slots(l, p);

        if (r < 0) return r;
    }
    *ret_slot = p->next++;
    return 0;
}

void ledger_slot_free(struct ledger *l, enum ledger_pool pool, uint32_t slot) {
    struct ledger_slots *p = &l->pools[pool];

    SKATE_ASSERT(slot < l->header->slots_used && p->free_count < p->free_cap);
    at_store_release(&l->slots[slot].state, LEDGER_FREE);
    p->free[p->free_count++] = slot;
}

/* Class of a size, and the size of that class. */
static inline unsigned class_of(uint64_t bytes, uint64_t *ret_size) {
    uint64_t units, step;
    unsigned shift = 0;

    if (bytes <= 1024) { /* most pieces */
        units = (bytes + 15) / 16;
        units += units == 0;
        return *ret_size = units * 16, (unsigned)units - 1;
    }
    if (bytes <= 2048) {
        units = (bytes + 31) / 32;
        return *ret_size = units * 32, (unsigned)units + 31; /* 33 to 64: classes 64 to 95 */
    }
    units = (bytes + 511) / 512;
    while (units > (UINT64_C(8) << shift)) shift++;
    step = UINT64_C(1) << shift;
    units = (units + step - 1) / step; /* 5 to 8 */
    *ret_size = units * step * 512;
    return 96 + 4 * shift + (unsigned)(units - 5);
}

int ledger_alloc(struct ledger *l, uint64_t bytes, uint64_t *ret_offset) {
    uint64_t size, at;
    unsigned class = class_of(bytes, &size);

    if (class >= LEDGER_CLASSES) return -SKATE_ETOOBIG;
    if (l->free_area[class]) {
        at = l->free_area[class] - 1;
        memcpy(&l->free_area[class], l->area + at, sizeof l->free_area[class]);
    } else {
        at = l->header->area_used;
        if (at + size > LEDGER_AREA) return -SKATE_EFULL;
        at_store_release(&l->header->area_used, at + size);
    }
    *ret_offset = at;
    return 0;
}

void ledger_free(struct ledger *l, uint64_t offset, uint64_t bytes) {
    uint64_t size;
    unsigned class = class_of(bytes, &size);

    SKATE_ASSERT(class < LEDGER_CLASSES && offset + size <= l->header->area_used);
    memcpy(l->area + offset, &l->free_area[class], sizeof l->free_area[class]);
    l->free_area[class] = offset + 1;
}
