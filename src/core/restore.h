/* restore.h - bytes that are read are pinned, and brought back when they have left memory.
 *
 * Which granules of the arena have pages is the raylet's decision (store/residency.h); what this
 * process reads it pins there, as long as a view lives. An object whose bytes are out is asked for
 * once, pinned from then on; it stays so until it is read, 2 s at most after it came.
 * Under the core mutex. Tests: tests/e2e/test_spill*.py, store_residency_test.c. */
#ifndef SKATE_CORE_RESTORE_H
#define SKATE_CORE_RESTORE_H

#include "core/core_fn.h"
#include "core/core_int.h"
#include "core/core_room.h"
#include "wire/wire_gen.h"

/* Pin [offset, offset + bytes) of the arena for a view of the object in `slot`: 0, and
 * restore_unpin() must follow; -SKATE_EAGAIN: not here, it has been asked for (restore_waits()
 * until the answer); -SKATE_ENOMEM; -SKATE_EFULL: what the raylet answered, said once
 * (core.trouble has the words). */
SKATE_NODISCARD int restore_pin(struct core *c, uint32_t slot, uint64_t offset, uint64_t bytes);
void restore_unpin(struct core *c, uint32_t slot);
/* Are bytes of it in a spill file of this node that cannot be read? */
bool restore_is_lost(const struct core *c, uint32_t slot);
/* Will be read soon: bring it back, if not too much is on its way. */
void restore_ahead(struct core *c, const struct skate_id *id);
/* Is it being brought back? */
bool restore_waits(const struct core *c, uint32_t slot);
void restore_on_answer(struct core *c, const struct wire_restored *m);
/* An answer with a file that has the bytes; takes the descriptor. */
void restore_on_file(struct core *c, const struct wire_restored *m, int fd);
void restore_tick(struct core *c); /* what came and nobody read is let go */
/* The raylet wants room: which of our extents may leave. */
void restore_on_ask(struct core *c, const struct wire_spill_ask *m);
void restore_on_back(struct core *c, const struct wire_spill_back *m);
/* lend() was refused so many bytes, in this thread; 0: for another reason. */
void restore_wants(uint64_t bytes);
/* Wait until the raylet has made the room that this thread was last refused, or bytes of ours
 * were freed: 0 (try again); -SKATE_EFULL with the reason; -SKATE_EINTR and the others of
 * pump_until(). */
SKATE_NODISCARD int restore_room(struct core *c, struct skate_error *err);
void restore_on_room(struct core *c, const struct wire_room_made *m);
void restore_release(struct core *c); /* private memory only */

#endif
