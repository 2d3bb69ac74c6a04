/* spill_dir.h - spill files in one or several local directories, used in turn.
 *
 * In each of them the session has a folder of its own, skate-spill-<nonce>, with a file `owner`
 * that it holds a lock on: folders whose lock is free belonged to sessions that are dead, and are
 * removed when a session starts. Tests: raylet_spill_io_test.c. */
#ifndef SKATE_RAYLET_SPILL_DIR_H
#define SKATE_RAYLET_SPILL_DIR_H

#include "raylet/spill_target.h"

enum { SPILL_DIRS_MAX = 16 };

struct spill_dirs {
    const char *const *paths; /* made when they are not there; absolute */
    uint32_t count;           /* 1 to SPILL_DIRS_MAX */
    uint64_t nonce;           /* of the session: random */
    /* A file that names our folders, a line each: who cleans up after a killed raylet (the
     * zygote) finds them there. NULL: none. */
    const char *list_path;
};

/* Makes the folders, removes those of dead sessions. Returns how many of the directories can be
 * used now; the text says why the others cannot (none: it is ""). These are tried again whenever a
 * file is written, so 0 is no failure: a disk may come back. Failures: -SKATE_EINVAL (a path that
 * is not absolute, or named twice), -SKATE_ENOMEM. Blocks: called at start. */
SKATE_NODISCARD int spill_dir_new(const struct spill_dirs *dirs, struct spill_target **ret,
                                  struct skate_error *err);

#endif
