/* ledger.h - a process's state of record, in shared memory that outlives it.
 *
 * One memory file per process, made by the raylet (LEDGER_BYTES, sparse), written by the process
 * alone. Fixed slots and byte areas only: a header page, LEDGER_OBJECTS object slots, then a byte
 * area for small values and task specs. No lists and no indexes: those are private to the process
 * and can be rebuilt. A slot's transition is one 8-byte release store of `state`; everything else
 * in the slot is written before it. Offsets, never pointers.
 *
 * Writer: the owning process, under its core mutex. Readers: the raylet, after its death.
 * Tests: tests/unit/own_ledger_test.c. */
#ifndef SKATE_OWN_LEDGER_H
#define SKATE_OWN_LEDGER_H

#include <stdint.h>

#include "base/assert.h"
#include "base/atomic.h"
#include "base/err.h"
#include "base/id.h"
#include "own/trace.h"

#define LEDGER_MAGIC UINT64_C(0x31676c6574616b73)
#define LEDGER_OBJECTS (UINT32_C(1) << 22)
#define LEDGER_AREA (UINT64_C(4) << 30)

enum ledger_state {
    LEDGER_FREE = 0,
    LEDGER_PENDING = 1,  /* no value yet */
    LEDGER_INLINE = 2,   /* value in the byte area: offset, size */
    LEDGER_ARENA = 3,    /* value in the arena of holder's node: offset, size */
    LEDGER_TASK = 4,     /* not an object: a task spec: offset, size in the byte area */
    LEDGER_ACTOR = 5,    /* an actor's life: no value */
};

struct ledger_slot {
    uint64_t state; /* enum ledger_state, low byte; format << 8; value flags << 16 */
    struct skate_id id;
    uint64_t holder; /* whose extent holds the bytes (ARENA); where it was pushed to (TASK) */
    uint64_t offset;
    uint64_t size;
    uint32_t refs; /* what keeps it: local refs and holds */
    uint32_t borrows;
    uint64_t contained; /* offset + 1 in the byte area of an id_list: refs in the value */
};
_Static_assert(sizeof(struct ledger_slot) == 64, "one cache line");

/* Ids in the byte area: what a value contains. */
struct id_list {
    uint64_t count;
    struct skate_id ids[];
};

struct ledger_header {
    uint64_t magic;
    uint64_t proc;
    uint32_t version, slots;
    uint64_t area_offset, area_bytes;
    uint64_t slots_used; /* high-water mark: no slot at or above was ever used */
    uint64_t area_used;  /* the same for the byte area */
};

#define LEDGER_SLOTS_OFFSET UINT64_C(4096)
#define LEDGER_AREA_OFFSET (LEDGER_SLOTS_OFFSET + LEDGER_OBJECTS * UINT64_C(64))
#define LEDGER_TRACE_OFFSET (LEDGER_AREA_OFFSET + LEDGER_AREA) /* trace.h */
#define LEDGER_BYTES (LEDGER_TRACE_OFFSET + TRACE_BYTES)

enum { LEDGER_CLASSES = 152 }; /* up to 32 MB in one piece: a call with very many refs */

/* Slots of objects and of tasks come from pages of their own: a table beside the slots that only
 * objects need (core.object_v) then costs nothing for those of tasks. */
enum ledger_pool { LEDGER_OF_OBJECTS, LEDGER_OF_TASKS, LEDGER_POOLS };
enum { LEDGER_BLOCK = 64 }; /* slots that a pool takes at once: a page */

struct ledger_slots {
    uint32_t *free; /* stack of reusable slot numbers */
    uint32_t free_count, free_cap;
    uint32_t next, end, taken; /* what is left of the last block; slots of all its blocks */
};

/* The writer's private view. */
struct ledger {
    struct ledger_header *header; /* the mapping */
    struct ledger_slot *slots;
    uint8_t *area;
    struct ledger_slots pools[LEDGER_POOLS];
    uint64_t free_area[LEDGER_CLASSES]; /* heads of private free lists: offset + 1 */
};

/* Take over a zeroed mapping of LEDGER_BYTES (borrowed) as its writer. */
void ledger_init(struct ledger *l, void *mapping, uint64_t proc);
void ledger_release(struct ledger *l); /* private memory only */

/* A free slot's number (state still LEDGER_FREE); -SKATE_EFULL or -SKATE_ENOMEM. */
SKATE_NODISCARD int ledger_slot_take(struct ledger *l, enum ledger_pool pool, uint32_t *ret_slot);
void ledger_slot_free(struct ledger *l, enum ledger_pool pool, uint32_t slot);
static inline void ledger_move(struct ledger *l, uint32_t slot, enum ledger_state state,
                               uint8_t format, uint16_t flags) {
    SKATE_ASSERT(slot < l->header->slots_used);
    at_store_release(&l->slots[slot].state,
                     (uint64_t)state | (uint64_t)format << 8 | (uint64_t)flags << 16);
}
static inline enum ledger_state ledger_state_of(const struct ledger_slot *s) {
    return (enum ledger_state)(s->state & 0xff);
}
static inline uint8_t ledger_format_of(const struct ledger_slot *s) {
    return (uint8_t)(s->state >> 8);
}
static inline uint16_t ledger_flags_of(const struct ledger_slot *s) {
    return (uint16_t)(s->state >> 16);
}

/* Room for `bytes` in the area, 16-byte aligned; -SKATE_EFULL. Freed with the same size. */
SKATE_NODISCARD int ledger_alloc(struct ledger *l, uint64_t bytes, uint64_t *ret_offset);
void ledger_free(struct ledger *l, uint64_t offset, uint64_t bytes);

#endif
