/* gcsd.h - the GCS daemon: the pure control store given a network and a clock.
 *
 * One loop thread owns everything; nothing blocks but the start. Each proven connection is a link
 * of the control store. With a log in the settings, the store is built of its records at the start,
 * and what a step says waits until what it changed is durable (gcsd_hold.h).
 * Tests: tests/unit/gcs_daemon_test.c. */
#ifndef SKATE_GCSD_GCSD_H
#define SKATE_GCSD_GCSD_H

#include "gcsd/gcsd_settings.h"
#include "loop/loop.h"

struct gcsd;

/* Listen and serve on the loop. on_head_lost (may be NULL) is told when the head node's raylet is
 * gone; on_log_end (may be NULL) when the log is lost to us: this daemon must end. 0, or the errors
 * of gcs_log_open(), gcs_log_load() and net_listen(). The key in `settings` is copied. */
struct gcsd_opts {
    struct loop *loop; /* borrowed */
    const struct gcsd_settings *settings;
    void (*on_head_lost)(void *arg);
    void (*on_log_end)(void *arg, int status, const char *text);
    void *arg;
    uint32_t heartbeat_ms; /* 0: the default */
};
SKATE_NODISCARD int gcsd_new(const struct gcsd_opts *opts, struct gcsd **ret,
                             struct skate_error *err);
struct gcsd *gcsd_free(struct gcsd *d); /* NULL is fine; NULL back */
uint16_t gcsd_port(const struct gcsd *d);

#endif
