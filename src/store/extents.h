/* extents.h - which piece of the node's arena is lent to which process, and which has pages.
 *
 * The raylet's private table (nothing of it lies in the arena). The arena is a range of `span`
 * bytes, of which at most `budget` may have pages. Pieces begin on a granule (residency.h), in one
 * list by address; what a piece is paid for is counted in pages. What a process gave back keeps its
 * pages and goes back to it first, for its writable mapping of them is still warm, until the
 * budget needs them; free pieces without pages are joined at once.
 * States: FREE -> LENT(proc) -> FREE, or LENT -> HELD (its process is dead, readers may remain)
 * -> FREE; a piece that is busy (its bytes are being written out or read back) is free only after.
 * Pure but for the calls of env; one thread; never blocks. Tests: store_extents_test.c. */
#ifndef SKATE_STORE_EXTENTS_H
#define SKATE_STORE_EXTENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "store/residency.h"

enum { EXTENT_PAGE = 4096 };

struct extents;
struct extent_span {
    uint64_t offset, bytes;
};

struct extents_env {
    /* Nobody needs the pages of this span. May be NULL. */
    void (*punch)(void *arg, struct extent_span span);
    /* A piece with a note is gone, and its note with it. May be NULL. */
    void (*gone)(void *arg, void *note);
    void *arg;
};

/* A piece that is lent or held. */
struct extent_info {
    uint64_t offset, bytes; /* its paid bytes: a multiple of EXTENT_PAGE */
    uint64_t proc, out;     /* of them without pages (extents_out) */
    bool held, busy;
    void **note; /* the caller's; NULL at first */
};

/* span: rounded down to granules; its first granule is never lent, so that offset 0 can mean
 * "nowhere". NULL: out of memory, or too small. */
struct extents *extents_new(uint64_t span, uint64_t budget, const struct extents_env *env);
struct extents *extents_free(struct extents *e); /* NULL is fine; returns NULL */

/* Lend at least `bytes` to `proc`; *ret has them rounded up to pages. -SKATE_EINVAL for 0 bytes,
 * -SKATE_ETOOBIG when the whole budget is smaller, -SKATE_EFULL when it is not free now (the text
 * lists who holds what). */
SKATE_NODISCARD int extents_lend(struct extents *e, uint64_t proc, uint64_t bytes,
                                 struct extent_span *ret, struct skate_error *err);
/* The same without pages: all of it is out (extents_out) from the start, so that it may be larger
 * than the budget. */
SKATE_NODISCARD int extents_lend_outside(struct extents *e, uint64_t proc, uint64_t bytes,
                                         struct extent_span *ret, struct skate_error *err);
/* The borrower gives it back. -SKATE_ENOENT: not lent to it (nothing changed). */
SKATE_NODISCARD int extents_return(struct extents *e, uint64_t proc, uint64_t offset);
/* Its process died: hold what it had. Returns the bytes now held for it. */
uint64_t extents_hold(struct extents *e, uint64_t proc);
/* No reader of a dead process's bytes is left: free them. */
void extents_release(struct extents *e, uint64_t proc);
/* The same for those of its pieces in which none of `live` (sorted) begins or lies. */
void extents_release_unused(struct extents *e, uint64_t proc, const uint64_t *live, uint32_t n);

/* The piece that `offset` lies in. false: none is lent or held there. */
bool extents_find(struct extents *e, uint64_t offset, struct extent_info *ret);
/* Call `each` for every piece of `proc` (it must not free any) until it returns false. */
void extents_each(struct extents *e, uint64_t proc,
                  bool (*each)(void *arg, const struct extent_info *info), void *arg);
/* Its bytes are being read by the caller: a piece that is given back meanwhile is free only when
 * busy ends. */
void extents_set_busy(struct extents *e, uint64_t offset, bool busy);
/* `bytes` of the piece at `offset` lost their pages, or are to get them again (false: no room). */
void extents_out(struct extents *e, uint64_t offset, uint64_t bytes);
SKATE_NODISCARD bool extents_in(struct extents *e, uint64_t offset, uint64_t bytes);

/* Free pieces lose `bytes` of their pages, if they have as many; how many they lost. */
uint64_t extents_cool(struct extents *e, uint64_t bytes);

/* Does [offset, offset + bytes) lie inside one piece that is lent or held? */
bool extents_contains(const struct extents *e, uint64_t offset, uint64_t bytes);
uint64_t extents_budget(const struct extents *e);
/* Bytes with pages that are lent or held; free ones with pages; what one process has, in all. */
uint64_t extents_used(const struct extents *e);
uint64_t extents_warm(const struct extents *e);
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
