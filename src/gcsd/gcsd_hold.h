/* gcsd_hold.h - what the control store says waits until what it changed is durable.
 *
 * Acknowledged means kept: while a commit is on its way, everything goes into one queue, in order,
 * and comes out when the batch is durable that has what the step changed. Steps that happen during
 * a commit share the next one. While a commit takes longer than a second, what changed nothing and
 * tells of nothing that waits (gcs_out.acks) goes past the queue: questions are answered. While the
 * log cannot be written, whoever asks for a change is refused besides, and the rest waits. Loop
 * thread only. Tests: tests/unit/gcsd_hold_test.c, tests/sim (gcs, disk). */
#ifndef SKATE_GCSD_HOLD_H
#define SKATE_GCSD_HOLD_H

#include "gcsd/gcs_log.h"

struct hold;

struct hold_opts {
    struct gcs_log_opts log; /* on_done and arg are set here */
    void (*deliver)(void *arg, const struct gcs_out *out);
    /* Nothing can be kept any more: another has the log, it is damaged, or too much waits. */
    void (*on_end)(void *arg, int status, const char *text);
    void *arg;
};

/* Open the log, build the store `g` of its records with `store` as bounds. gcs_log.h's errors. */
SKATE_NODISCARD int hold_new(const struct hold_opts *opts, const struct gcs_opts *store,
                             struct gcs **ret_gcs, struct hold **ret, struct skate_error *err);
/* The outputs of a step: delivered now or later. `out` may come back empty. */
void hold_step(struct hold *h, struct gcs_out *out);
uint64_t hold_bytes(const struct hold *h); /* that wait */
struct hold *hold_free(struct hold *h); /* NULL is fine; NULL back */

#endif
