/* ledger.c - see ledger.h. The byte area is a bump pointer with one free list for each of 72 size
 * classes (64 bytes and up, four steps for each power of two); the link of a free piece lies in
 * the piece itself, since a free piece holds nothing of record. */
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
    free(l->free_slots);
    *l = (struct ledger){0};
}

int ledger_slot_take(struct ledger *l, uint32_t *ret_slot) {
    uint64_t next = l->header->slots_used;

    if (l->free_count) {
        *ret_slot = l->free_slots[--l->free_count];
        return 0;
    }
    if (next >= LEDGER_OBJECTS) return -SKATE_EFULL;
    if (next >= l->free_cap) { /* so that a free never needs memory */
        uint32_t cap = l->free_cap ? l->free_cap * 2 : 1024;
        uint32_t *grown = realloc(l->free_slots, cap * sizeof *grown);

        if (!grown) return -SKATE_ENOMEM;
        l->free_slots = grown;
        l->free_cap = cap;
    }
    at_store_release(&l->header->slots_used, next + 1);
    *ret_slot = (uint32_t)next;
    return 0;
}

void ledger_slot_free(struct ledger *l, uint32_t slot) {
    SKATE_ASSERT(slot < l->header->slots_used && l->free_count < l->free_cap);
    at_store_release(&l->slots[slot].state, LEDGER_FREE);
    l->free_slots[l->free_count++] = slot;
}

/* Class of a size, and the size of that class: 64, 128, 192, 256, 320, 384, 448, 512, 640, ... */
static inline unsigned class_of(uint64_t bytes, uint64_t *ret_size) {
    uint64_t units = (bytes + 63) / 64, step;
    unsigned shift = 0;

    if (units <= 4) { /* most pieces */
        units += units == 0;
        return *ret_size = units * 64, (unsigned)units - 1;
    }
    while (units > (UINT64_C(4) << shift)) shift++;
    step = UINT64_C(1) << (shift - 1);
    units = (units + step - 1) / step;
    *ret_size = units * step * 64;
    return 4 * shift + (unsigned)(units - 5);
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
