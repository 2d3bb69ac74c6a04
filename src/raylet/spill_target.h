/* spill_target.h - where spill files lie: directories (spill_dir.c), or something far away.
 *
 * A table of functions. All of them block and are called on the I/O threads of spill_io.c, two at
 * a time, so they must be safe against each other, also for the same file. They know nothing of
 * what is in a file. Results: 0 or negative: -SKATE_EFULL (no room there), -SKATE_EIO,
 * -SKATE_ENOENT (the file is gone), with a text that names the place and the system's reason.
 * A target writes a file in one call (`write`, the rest of that group NULL), or in pieces: `open`,
 * then `put` for each piece in any order and from both threads, then `close`. After a failure of
 * any of them `remove` is called, and the file is written anew, from `open` on, until `open` fails:
 * so a target that knows another place offers it there.
 * Every piece, position and length is a multiple of 4 KB, and so is its address. */
#ifndef SKATE_RAYLET_SPILL_TARGET_H
#define SKATE_RAYLET_SPILL_TARGET_H

#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"

enum { SPILL_PUT_MAX = 512 }; /* pieces of one put */

struct spill_target {
    /* The whole file at once: the pieces follow each other, at most 2,049 of them. */
    int (*write)(struct spill_target *t, uint64_t file, const struct iovec *pieces, int n,
                 struct skate_error *err);
    /* In pieces. open: room for `bytes` is set aside, so that a full disk is known now. */
    int (*open)(struct spill_target *t, uint64_t file, uint64_t bytes, struct skate_error *err);
    int (*put)(struct spill_target *t, uint64_t file, uint64_t at, const struct iovec *pieces,
               int n, struct skate_error *err);
    int (*close)(struct spill_target *t, uint64_t file, struct skate_error *err);

    /* Exactly `bytes`, or a failure (the file ends before: -SKATE_EIO). */
    int (*read)(struct spill_target *t, uint64_t file, uint64_t at, void *to, uint64_t bytes,
                struct skate_error *err);
    /* The file is not needed any more (it may be half written). What cannot go stays. */
    int (*remove)(struct spill_target *t, uint64_t file);
    /* These bytes of it are not needed any more; may do nothing. */
    void (*punch)(struct spill_target *t, uint64_t file, uint64_t at, uint64_t bytes);
    /* The end is near: what is under way, and what is still asked for, fails soon. Any thread; does
     * not block. NULL: nothing here takes long. */
    void (*stop)(struct spill_target *t);
    /* The end: every file of this session there goes, and the target itself. */
    void (*free)(struct spill_target *t);
};

#endif
