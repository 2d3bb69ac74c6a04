/* extents.h - which piece of the node's arena is lent to which process.
 *
 * The raylet's private table (nothing of it lies in the arena). Pieces are multiples of a page,
 * in one list by address; free ones are also in bins by size. What a process gave back it gets
 * back first, for its writable mapping of those pages is still warm; so neighbours are joined
 * only when both were last used by the same process, or when nothing else fits.
 * States: FREE -> LENT(proc) -> FREE, or LENT -> HELD (its process is dead, readers may remain)
 * -> FREE. Pure: no I/O, no clock; one thread; never blocks. Tests: store_extents_test.c. */
#ifndef SKATE_STORE_EXTENTS_H
#define SKATE_STORE_EXTENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { EXTENT_PAGE = 4096 };

struct extents;
struct extent_span {
    uint64_t offset, bytes;
};

/* bytes: size of the arena, rounded down to pages (two at least). Its first page is never lent, so
 * that offset 0 can mean "nowhere". NULL: out of memory, or too small. */
struct extents *extents_new(uint64_t bytes);
struct extents *extents_free(struct extents *e); /* NULL is fine; returns NULL */

/* Lend at least `bytes` to `proc`. -SKATE_EINVAL for 0 bytes, -SKATE_ETOOBIG when the whole arena
 * is smaller, -SKATE_EFULL when it is not free now (the text lists who holds what). */
SKATE_NODISCARD int extents_lend(struct extents *e, uint64_t proc, uint64_t bytes,
                                 struct extent_span *ret, struct skate_error *err);
/* The borrower gives it back. -SKATE_ENOENT: not lent to it (nothing changed). */
SKATE_NODISCARD int extents_return(struct extents *e, uint64_t proc, uint64_t offset);
/* Its process died: hold what it had. Returns the bytes now held for it. */
uint64_t extents_hold(struct extents *e, uint64_t proc);
/* No reader of a dead process's bytes is left: free them. `on_free` (may be NULL) is told each
 * range whose pages nobody needs. */
void extents_release(struct extents *e, uint64_t proc,
                     void (*on_free)(void *arg, struct extent_span span), void *arg);

/* The same for those of its pieces in which none of `live` (sorted) begins or lies. */
void extents_release_unused(struct extents *e, uint64_t proc, const uint64_t *live, uint32_t n,
                            void (*on_free)(void *arg, struct extent_span span), void *arg);

/* Does [offset, offset + bytes) lie inside one piece that is lent or held? */
bool extents_contains(const struct extents *e, uint64_t offset, uint64_t bytes);
/* Bytes that are lent or held; and of one process. */
uint64_t extents_used(const struct extents *e);
uint64_t extents_used_by(const struct extents *e, uint64_t proc);
/* One process that has some after another, in no order: start with *at = 0; false at the end. */
struct extent_holder {
    uint64_t proc, bytes;
    bool held; /* it is dead */
};
bool extents_next_holder(const struct extents *e, uint32_t *at, struct extent_holder *ret);
/* Check all invariants (tests; linear). */
bool extents_is_valid(const struct extents *e);

#endif
