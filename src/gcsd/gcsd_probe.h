/* gcsd_probe.h - does anybody listen at a raylet's port?
 *
 * A raylet listens for as long as it lives, stopped or busy as it may be. That its machine refuses
 * a connection there is thus proof that it is gone; anything else (an answer, silence, no way
 * there) says nothing. Nothing is sent on the connection. Loop thread; never blocks.
 * Tests: tests/unit/gcs_daemon_test.c. */
#ifndef SKATE_GCSD_GCSD_PROBE_H
#define SKATE_GCSD_GCSD_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "loop/loop.h"

struct probes;

enum { PROBES_MAX = 64, PROBE_MS = 1000 }; /* at once; one beyond is left out */

/* on_done comes from the loop, never from inside probes_start(). 0 or -SKATE_ENOMEM. */
SKATE_NODISCARD int probes_new(struct loop *loop,
                               void (*on_done)(void *arg, uint32_t node, bool refused), void *arg,
                               struct probes **ret);
/* Ask for node `node`; nothing when that is being asked already. */
void probes_start(struct probes *p, uint32_t node, const char *ip, uint16_t port);
struct probes *probes_free(struct probes *p); /* NULL is fine; NULL back */

#endif
