/* create.h - part of the interface of core.h: a value that is written where it will lie. */
#ifndef SKATE_CORE_CREATE_H
#define SKATE_CORE_CREATE_H

#include "core/core.h"

/* Memory of the arena that its maker fills: writable until core_seal_put(), read-only from then on
 * for this process, too. Fields are for reading. */
struct core_draft {
    struct skate_id id; /* of the object that it becomes */
    uint64_t size;      /* of the value */
    uint8_t *data;      /* the value's bytes, 64 behind the begin of a page */
    void *map;          /* once sealed or taken: a mapping that the caller unmaps, else NULL */
    uint64_t map_bytes;
    uint64_t pin; /* once sealed: keeps the bytes as they are; core_unpin() after the unmapping */
};

/* Room for a value of `size` bytes in pages of its own, which come when they are first written to.
 * What stands in it is left over from others. size: one at least. BLOCKS when an extent must be
 * lent; -SKATE_EFULL (see core_room.h) and -SKATE_ETOOBIG with a reason. */
SKATE_NODISCARD int core_create(struct core *c, uint64_t size, struct core_draft *ret,
                                struct skate_error *err);
/* The bytes are complete: the object exists, and the caller has one local ref on draft->id. All
 * views of this memory stay readable, and whoever writes to it gets a SIGSEGV. No byte is copied;
 * takes a fifth of a millisecond for a gigabyte. BLOCKS when a file has its bytes (it is larger
 * than the store). On an error nothing has changed: store a copy then. */
SKATE_NODISCARD int core_seal_put(struct core *c, struct core_draft *draft, uint8_t format,
                                  uint16_t flags, struct skate_error *err);
/* It will not be sealed: its bytes go back. Never blocks, any thread, legal in a destructor. */
void core_draft_drop(struct core *c, struct core_draft *draft);
/* Before the session ends: the mapping of one that is not sealed becomes the caller's. */
void core_draft_take(struct core *c, struct core_draft *draft);

#endif
