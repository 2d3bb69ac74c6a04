/* core_room.h - objects and memory: a full store, bytes that have left it. A part of core.h.
 *
 * Whatever stores bytes (core_put, core_submit, core_define, ...) is refused at once, -SKATE_EFULL,
 * when there is no room; the caller then decides to wait here, holding no lock. */
#ifndef SKATE_CORE_CORE_ROOM_H
#define SKATE_CORE_CORE_ROOM_H

#include "core/core.h"

/* Would core_room_for() wait: was it the store that was full, and not a table? Any thread. */
bool core_wants_room(struct core *c, int r);
/* A call came to `r`. If it wants room, wait for that: -SKATE_EINTR: call again (after a look
 * at the signals); -SKATE_EFULL: there will be none, err says who holds what. Else r itself.
 * BLOCKS. */
SKATE_NODISCARD int core_room_for(struct core *c, int r, struct skate_error *err);

/* These will be read one after another: what has left memory is brought back meanwhile, as far as
 * an eighth of the store allows. Never blocks. */
void core_ahead(struct core *c, const struct skate_id *ids, uint32_t count);

#endif
