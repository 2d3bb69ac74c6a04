/* spill_io.h - writes pieces of the arena into spill files and brings them back, on two threads.
 *
 * Called on the loop thread only; nothing here blocks but spill_io_start() and spill_io_stop().
 * What is asked for is done by two I/O threads (both work on the same write or read: one sums up
 * while the other waits for the disk); what came of it is told on the loop thread, in a callback
 * from loop_run(), never from inside a call of this module. A callback may call anything here but
 * spill_io_stop().
 * What is read is verified granule by granule in a buffer of the thread, and only what is right is
 * written into the memory file (through its descriptor: pages that were punched out come to be
 * with their bytes, none is zeroed first). So a damaged file never puts a wrong byte anywhere.
 * Tests: raylet_spill_io_test.c, raylet_spill_mutated_test.c. */
#ifndef SKATE_RAYLET_SPILL_IO_H
#define SKATE_RAYLET_SPILL_IO_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "loop/loop.h"
#include "raylet/spill_target.h"
#include "store/extents.h"
#include "store/spill_file.h"

enum { SPILL_JOBS_MAX = 1024 }; /* writes and reads that have not ended */

struct spill_io;

/* Where a record lies. */
struct spill_place {
    uint64_t file;   /* number of its file; 0: nowhere */
    uint64_t at;     /* where its data begins there */
    uint64_t bytes;  /* of data */
    uint64_t offset; /* where in the arena they were */
    uint64_t check;  /* checksum of its head */
};

struct spill_io_start {
    struct loop *loop;
    const void *arena;           /* the arena as it is mapped here: what is written is read there */
    struct spill_target *target; /* taken over on success */
    uint64_t nonce;              /* of the session */
};

struct spill_io_stats {
    uint64_t written, read;           /* bytes of data, since the start */
    uint64_t files, disk_bytes;       /* that exist now */
    uint64_t write_fails, read_fails; /* jobs that failed */
    uint64_t damaged;                 /* of read_fails: bytes or heads that were not right */
    uint32_t jobs;                    /* that have not ended */
};

/* status 0: places[i] is where pieces[i] lies now (`places` is valid during the call only; it is
 * for the caller to remember them). Negative: nothing is on disk, n is 0: -SKATE_EFULL (no
 * directory has the room), -SKATE_EIO, -SKATE_ENOMEM. `why`: a sentence, "" on success. */
typedef void spill_wrote_fn(void *arg, int status, const struct spill_place *places, uint32_t n,
                            const char *why);
/* status 0: all bytes are there. -SKATE_EPROTO: what lies on disk is not what was written;
 * -SKATE_ENOENT: the file is gone; -SKATE_EIO; these three are no better the next time, though
 * EIO may be. -SKATE_ENOMEM: no memory for the pages. */
typedef void spill_read_fn(void *arg, int status, const char *why);

struct spill_read {
    struct spill_place place;
    uint64_t from, bytes; /* of the record: granules, the last one to the record's end */
    int to_fd;            /* the memory file that they go to (the arena's, or any other) ... */
    uint64_t to;          /* ... and where there: of byte `from`, not of the record */
    spill_read_fn *done;
    void *arg;
};

/* -SKATE_ENOMEM, -SKATE_ESYS; the target is the caller's then. */
SKATE_NODISCARD int spill_io_start(const struct spill_io_start *s, struct spill_io **ret,
                                   struct skate_error *err);
/* Waits for the threads (for the request to the disk that each is at), then ends the target: its
 * files go. What has not ended is forgotten: its `done` is not called. When a thread is stuck in a
 * request for a second, it, the target and the memory that it uses are left as they are: for a
 * process that ends. NULL is fine; NULL back. */
struct spill_io *spill_io_stop(struct spill_io *io);

/* Write these pieces of the arena (1 to SPILL_RECORDS_MAX; offsets multiples of 4 KB) into one new
 * file. Their bytes must not change until `done`. -SKATE_EAGAIN: SPILL_JOBS_MAX jobs have not
 * ended; -SKATE_EINVAL, -SKATE_ENOMEM: `done` is not called. */
SKATE_NODISCARD int spill_io_write(struct spill_io *io, const struct extent_span *pieces,
                                   uint32_t n, spill_wrote_fn *done, void *arg);
/* Bring granules back. On failure some granules may have been written, each of them right.
 * -SKATE_ENOENT: no record lies there; else as above. */
SKATE_NODISCARD int spill_io_read(struct spill_io *io, const struct spill_read *read);
/* The record is not needed any more. Reads of it that are under way end first. When it was the
 * last one of its file the file goes, else its room there is punched out. Unknown: nothing. */
void spill_io_drop(struct spill_io *io, const struct spill_place *place);

void spill_io_stats(const struct spill_io *io, struct spill_io_stats *ret);

#endif
