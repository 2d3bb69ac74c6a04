/* heap.h - the borrower's side of the arena: objects inside the extents lent to this process.
 *
 * Objects up to 128 KB lie side by side in extents of 1 to LIMIT_EXTENT_BYTES (blocks.h); larger
 * ones have an extent of their own. An extent without objects is spare: kept, with its pages, as
 * long as about as much was needed a short while ago (HEAP_SPARE_BYTES at most). Allocator data is
 * private memory; in the segment lies only a 64-byte object header in front of each object's bytes.
 * Offsets given out are those of the bytes, multiples of 64.
 *
 * An object is sealed when its bytes are complete. An extent whose objects are all sealed may be
 * offered: its bytes may then leave memory (the raylet writes them to a file), so nothing is put
 * there any more, and it goes back as soon as its last object is freed.
 *
 * The core's mutex guards it. Lending is the caller's business: `lend` may sleep for the raylet's
 * answer, and meanwhile anything here may be called. Tests: tests/unit/core_heap_test.c. */
#ifndef SKATE_CORE_HEAP_H
#define SKATE_CORE_HEAP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/id.h"
#include "store/object.h"

#define HEAP_SPARE_BYTES (UINT64_C(2) << 30)

/* lend: an address range of `bytes` (a multiple of a page) at least; only `bytes` of it are paid
 * for and touched. give_back must not call into the heap. */
struct heap_env {
    int (*lend)(void *arg, uint64_t bytes, uint64_t *ret_offset, uint64_t *ret_bytes,
                struct skate_error *err);
    void (*give_back)(void *arg, uint64_t offset);
    void *arg;
    int arena_fd;
    uint64_t spare_max; /* spare extents: at most this and HEAP_SPARE_BYTES */
    int *file_fd; /* lend sets it when a file has the extent's bytes, else -1; NULL: never */
};

struct heap; /* opaque */

SKATE_NODISCARD int heap_new(const struct heap_env *env, struct heap **ret);
void heap_free_all(struct heap *h); /* unmaps; the raylet takes the extents back by itself */
/* Room for `bytes`, its header written. *ret_data is writable until the process ends. */
SKATE_NODISCARD int heap_alloc(struct heap *h, uint64_t bytes, const struct skate_id *id,
                               uint8_t format, uint64_t *ret_offset, void **ret_data,
                               struct skate_error *err);
/* The same, but the pages of a large one may be missing (cold): they come when they are touched, or
 * with heap_back(). own: an extent of its own, whatever the size. */
struct heap_place {
    uint64_t offset;
    void *data;
    bool cold;
};
SKATE_NODISCARD int heap_alloc_cold(struct heap *h, uint64_t bytes, const struct skate_id *id,
                                    bool own, struct heap_place *ret, struct skate_error *err);
/* Give the bytes at a mapping of the arena their pages: a full machine is an error here, not a
 * SIGBUS while they are written. Long for many bytes; needs no lock, nor the heap. */
SKATE_NODISCARD int heap_back(int arena_fd, uint64_t offset, void *data, uint64_t bytes,
                              struct skate_error *err);
/* Where the writable mapping of the extent of a large object is noted, for the caller to put
 * another one in its place; NULL: no large object lies there. */
uint8_t **heap_map(struct heap *h, uint64_t offset, uint64_t *ret_bytes);
/* Give one back. -SKATE_ENOENT when no object lies there (a peer's mistake; nothing changed). */
int heap_free(struct heap *h, uint64_t offset);
/* The object's bytes are complete and do not change any more. What lies nowhere, or is sealed
 * already, is left alone. */
void heap_seal(struct heap *h, uint64_t offset);

struct heap_offer {
    uint64_t offset, bytes; /* of an extent; bytes: those that may have pages */
};
/* Make room of `bytes`: first extents without objects are given back, then at most `max` extents of
 * sealed objects are offered, the longest sealed first, for which `fit` (NULL: any) says that they
 * may leave; it must not call into the heap. Returns how many stand in ret. */
uint32_t heap_offer(struct heap *h, uint64_t bytes,
                    bool (*fit)(void *arg, uint64_t offset, uint64_t bytes), void *arg,
                    struct heap_offer *ret, uint32_t max);
/* The extent at `offset` is offered no longer, and again the last in the queue: one of blocks takes
 * objects. One that is gone already is left alone. */
void heap_take_back(struct heap *h, uint64_t offset);
uint64_t heap_held(const struct heap *h); /* bytes of lent extents */
uint64_t heap_spare(const struct heap *h); /* of these: empty ones, kept for reuse */
uint32_t heap_live(const struct heap *h); /* objects */

#endif
