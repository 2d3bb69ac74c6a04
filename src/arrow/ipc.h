/* ipc.h - Arrow's C data interface to and from the bytes of an IPC stream, in C of our own.
 *
 * Called by src/api (skate/arrow.h says what users see) and python/ext/py_arrow.c. Each function
 * may be called by any thread, one at a time for a stream; what a caller's stream does inside may
 * block. Tests: tests/unit/arrow_test.c; tests/python/test_arrow_c.py against pyarrow. */
#ifndef SKATE_ARROW_IPC_H
#define SKATE_ARROW_IPC_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "skate/arrow.h"

enum { ARROW_ALIGN = 64 }; /* of every buffer, if the stream begins at a multiple of it */

/* Read `in` to its end, release it, and write all as one IPC stream. *ret is of malloc.
 * -SKATE_EINVAL: `in` failed or breaks the rules; -SKATE_ETYPE; -SKATE_ENOMEM. */
SKATE_NODISCARD int arrow_encode(struct ArrowArrayStream *in, uint8_t **ret, size_t *ret_len,
                                 struct skate_error *err);
/* What keeps bytes readable: counted by the stream that reads them and by each array that came out
 * of it. Whoever releases the last of them calls end(), on its thread. */
struct arrow_hold {
    uint32_t count;
    void (*end)(struct arrow_hold *hold);
};
/* A stream of what the bytes hold, read where they lie: they must stay and begin at a multiple of
 * 8. -SKATE_EPROTO, -SKATE_ETYPE, -SKATE_EINVAL (alignment), -SKATE_ENOMEM. */
SKATE_NODISCARD int arrow_decode(const void *data, size_t len, struct ArrowArrayStream *out,
                                 struct skate_error *err);
/* The same; the stream has one of the hold's counts, if there is a hold, and not on failure. */
SKATE_NODISCARD int arrow_decode_held(const void *data, size_t len, struct arrow_hold *hold,
                                      struct ArrowArrayStream *out, struct skate_error *err);
void arrow_hold_drop(struct arrow_hold *hold); /* NULL: nothing */
/* How many of n bits, from bit `from` on, are 0. */
int64_t arrow_nulls(const uint8_t *bits, int64_t from, int64_t n);

#endif
