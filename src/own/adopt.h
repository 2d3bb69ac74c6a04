/* adopt.h - what of a dead process's ledger outlives it: read, checked, never trusted.
 *
 * The ledger is as its writer left it, at whatever store. Kept are the objects that other processes
 * had borrowed, the actor calls that are on their way (their callee may keep what they carry), the
 * tasks that run elsewhere for a borrowed result, and, from those on, everything of the same owner
 * that their values and arguments name, to any depth. Offsets and sizes that do not fit drop the
 * one slot that has them.
 *
 * Pure: no I/O, no clock. Caller: the raylet, one thread, once after each death. Design:
 * docs/design/0002-adoption.md. Tests: tests/unit/own_adopt_test.c. */
#ifndef SKATE_OWN_ADOPT_H
#define SKATE_OWN_ADOPT_H

#include <stdbool.h>

#include "base/map.h"
#include "own/ledger.h"
#include "wire/wire_gen.h"

struct adopt {
    const uint8_t *map;
    uint64_t proc;
    uint32_t slots;       /* in use at most */
    uint64_t area_used;
    struct map objects, tasks; /* id -> slot */
    uint8_t *kept;        /* by slot; for tasks ADOPT_AWAITED or ADOPT_HELD */
    uint32_t *queue, queued, found;
};
enum adopt_kept { ADOPT_NOT, ADOPT_HELD, ADOPT_AWAITED };

/* Find what is kept. -SKATE_EPROTO: no ledger of `proc` lies at map; -SKATE_ENOMEM. */
SKATE_NODISCARD int adopt_open(struct adopt *a, const void *map, uint64_t proc);
void adopt_close(struct adopt *a);
/* How many slots are kept; their numbers by adopt_slot(i), i below it. */
uint32_t adopt_count(const struct adopt *a);
uint32_t adopt_slot(const struct adopt *a, uint32_t i);

/* An object slot: its value as for a frame (NONE, INLINE, ARENA), where inline bytes lie, what it
 * contains (bytes of a dead process: copy at once). false: not a sound object of this owner. */
bool adopt_object(const struct adopt *a, uint32_t slot, struct wire_val *ret,
                  const uint8_t **ret_data, const struct skate_id **ret_refs);
/* A task slot: a checked copy of its frame (free() it) and where it was pushed to; or NULL. */
struct wire_task *adopt_task(const struct adopt *a, uint32_t slot, uint64_t *ret_worker);
/* The ids that a task of adopt_task() uses, without its actor. Returns how many there are; writes
 * up to cap. */
uint32_t adopt_task_uses(const struct wire_task *t, struct skate_id *out, uint32_t cap);

#endif
