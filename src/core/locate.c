/* locate.c - where the bytes of an object lie, as far as this process knows: for people and tools.
 *
 * Called from any thread; does not block. Tests: tests/compat/test_compat_locations.py. */
#include "core/locate.h"

#include "core/core_fn.h"
#include "core/core_int.h"

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
    }
    core_leave(c);
    return 0;
}
