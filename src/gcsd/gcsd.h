/* gcsd.h - the GCS daemon: the pure control store given a network and a clock.
 *
 * One loop thread owns everything; nothing blocks but the start. Each proven connection is a link
 * of the control store. When a step changed what must outlive the daemon (gcs_out.changed), this is
 * the one place between the step and its sends: a log is written there, in a later issue.
 * Tests: tests/unit/gcs_daemon_test.c. */
#ifndef SKATE_GCSD_GCSD_H
#define SKATE_GCSD_GCSD_H

#include "gcsd/gcsd_settings.h"
#include "loop/loop.h"

struct gcsd;

/* Listen and serve on the loop. on_head_lost (may be NULL) is told when the head node's raylet is
 * gone. 0, or net_listen()'s errors. The key in `settings` is copied. */
struct gcsd_opts {
    struct loop *loop; /* borrowed */
    const struct gcsd_settings *settings;
    void (*on_head_lost)(void *arg);
    void *arg;
    uint32_t heartbeat_ms; /* 0: the default */
};
SKATE_NODISCARD int gcsd_new(const struct gcsd_opts *opts, struct gcsd **ret,
                             struct skate_error *err);
struct gcsd *gcsd_free(struct gcsd *d); /* NULL is fine; NULL back */
uint16_t gcsd_port(const struct gcsd *d);

#endif
