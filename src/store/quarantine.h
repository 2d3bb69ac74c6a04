/* quarantine.h - whose word is awaited before a dead process's bytes may be used again.
 *
 * When a process dies, every live process of its node, and every other raylet on behalf of its
 * pulls, is told; the bytes are held until each of them answered (extents_done) or is gone.
 * Pure; one thread; never blocks. Tests: store_extents_test.c. */
#ifndef SKATE_STORE_QUARANTINE_H
#define SKATE_STORE_QUARANTINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "store/table.h"

struct quarantine {
    struct table dead; /* proc -> struct wait_set (quarantine.c) */
};

void quarantine_release(struct quarantine *q);
/* Wait for `count` processes before the bytes of `dead` are free. -SKATE_ENOMEM. */
SKATE_NODISCARD int quarantine_begin(struct quarantine *q, uint64_t dead, const uint64_t *waits,
                                     uint32_t count);
/* `proc` answered for `dead`. True: nobody is awaited any more, and the entry is gone. */
bool quarantine_done(struct quarantine *q, uint64_t dead, uint64_t proc);
/* `proc` still uses these offsets of it, and no others. false: it is not awaited (or no memory). */
bool quarantine_live(struct quarantine *q, uint64_t dead, uint64_t proc, const uint64_t *live,
                     uint32_t count);
/* Everything that those who are awaited still use, sorted (free() it). -SKATE_EAGAIN: not all have
 * said; -SKATE_ENOENT: nobody is awaited; -SKATE_ENOMEM. */
SKATE_NODISCARD int quarantine_used(const struct quarantine *q, uint64_t dead, uint64_t **ret,
                                    uint32_t *ret_count);
bool quarantine_holds(const struct quarantine *q, uint64_t dead);
/* What `from` was awaited for, `to` answers from now on, if the bytes of `dead` are still held.
 * -SKATE_ENOMEM. */
SKATE_NODISCARD int quarantine_pass(struct quarantine *q, uint64_t dead, uint64_t from,
                                    uint64_t to);
/* `proc` ended: it will answer nothing. Call until it returns 0; each other return is a dead
 * process whose bytes are free now. */
uint64_t quarantine_gone(struct quarantine *q, uint64_t proc);

#endif
