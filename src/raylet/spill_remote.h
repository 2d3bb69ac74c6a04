/* spill_remote.h - a spill target that is any URI of fsspec: s3://bucket/path, file:///dir, ...
 *
 * A helper process (python, skate._spill_remote) does the writing; it is started here, and again
 * when it has died. Bytes go through 16 MB of staging memory that it shares with us. What may pass
 * is tried again, a few seconds long. Tests: tests/unit/raylet_spill_remote_test.c,
 * tests/python/test_spill_remote.py. */
#ifndef SKATE_RAYLET_SPILL_REMOTE_H
#define SKATE_RAYLET_SPILL_REMOTE_H

#include <stdint.h>

#include "raylet/spill_target.h"

struct spill_remote_start {
    const char *python, *python_path; /* as for the zygote */
    const char *log_path;             /* for what the helper says on stderr */
    const char *uris;                 /* divided by spaces; files go to them in turn */
    const char *options;              /* JSON for fsspec, may hold secrets; NULL: none */
    uint64_t nonce;                   /* of the session: random */
    int pause_ms;                     /* before the second try, then 3 times as long; 0: 100 */
};

/* Starts the helper and does not wait for it: what is wrong is said by the first write (init() has
 * tried the URIs before). -SKATE_ENOMEM, -SKATE_ESYS, -SKATE_EINVAL. Its `free` waits for the
 * helper, which removes the session's files, 1.5 s at most. */
SKATE_NODISCARD int spill_remote_new(const struct spill_remote_start *s, struct spill_target **ret,
                                     struct skate_error *err);
/* Its `stop`: what is under way, and whatever is asked from now on, fails at once. Any thread. */
void spill_remote_stop(struct spill_target *t);

#endif
