/* locate.c - where the bytes of an object lie, as far as this process knows: for people and tools.
 *
 * Called from any thread; does not block. Tests: tests/compat/test_compat_locations.py. */
#include "core/locate.h"

#include "core/core_fn.h"
#include "core/core_int.h"

enum locate_memory locate_memory(const struct core *c, uint32_t slot) {
    const struct ledger_slot *s = &c->ledger.slots[slot];
    uint64_t copy = object_copy_at(c, slot), at = copy ? copy : s->offset, end, out = 0;
    bool here = copy || proc_node(s->holder) == proc_node(c->info.proc);

    if (!c->residency || !here || ledger_state_of(s) != LEDGER_ARENA || s->size == 0 ||
        at > c->info.arena_bytes || s->size > c->info.arena_bytes - at)
        return LOCATE_HERE;
    end = granule_end(at, s->size);
    for (uint64_t g = granule_first(at); g < end; g++) {
        uint8_t is = at_load(&c->residency[g]);

        if (is == RES_LOST) return LOCATE_LOST;
        out += is == RES_OUT;
    }
    return out == 0 ? LOCATE_HERE : out == end - granule_first(at) ? LOCATE_OUT : LOCATE_PARTLY;
}

int core_locate(struct core *c, const struct skate_id *id, struct core_place *ret) {
    struct ledger_slot *s;
    uint32_t slot;
    int r = core_enter(c);

    if (r < 0) return r;
    *ret = (struct core_place){0};
    slot = object_find(c, id);
    if (slot != MAP_NONE && object_ready(c, slot)) {
        s = &c->ledger.slots[slot];
        ret->ready = true;
        ret->size = s->size;
        ret->node = proc_node(ledger_state_of(s) == LEDGER_ARENA ? s->holder : id->owner);
        ret->copied = ledger_state_of(s) == LEDGER_ARENA &&
                      ret->node != proc_node(c->info.proc) && object_copy_at(c, slot);
        ret->spilled = locate_memory(c, slot) != LOCATE_HERE;
    }
    core_leave(c);
    return 0;
}
