/* worker_lease.c - what a worker knows of its lease: the placement group it runs in, its GPUs.
 *
 * The raylet says it to the owner with the grant; the owner says it to the worker ahead of the
 * first task, on the same path, so that it is there when the task is (an actor hears it from its
 * raylet, ahead of actor_start). Leases with neither group nor GPU say nothing, unless the worker
 * must forget an earlier one. Under the core mutex; never sleeps. */
#include <stdio.h>
#include <string.h>

#include "core/core_int.h"
#include "core/worker_lease.h"

/* The owner's side, at the grant. */
void lease_tell(struct core *c, const struct sched_class *k, struct worker *w,
                const struct wire_lease_grant *m) {
    uint32_t len;
    const char *devices = wire_lease_grant_devices(m, &len);
    struct wire_lease_info *out;
    uint64_t stack[64];
    struct wire_buf b;

    wire_init(&b, stack, sizeof stack);
    out = wire_begin(&b, WIRE_LEASE_INFO);
    out->group = k->opts.place.group;
    out->bundle = k->opts.place.bundle;
    out->capture = k->opts.place.capture;
    WIRE_PUT(&b, lease_info, devices, devices, len);
    if (wire_end(&b) == 0) (void)link_send(c, w->link, b.p, b.len, BELL_QUIET, 0);
    wire_release(&b);
}

/* The worker's side. */
void lease_on_info(struct core *c, const struct wire_lease_info *m) {
    uint32_t len;
    const char *devices = wire_lease_info_devices(m, &len);

    if (c->info.is_driver) return;
    c->lease.place = (struct core_bundle){m->group, m->bundle, m->capture};
    (void)snprintf(c->lease.gpus, sizeof c->lease.gpus, "%.*s", (int)len, len ? devices : "");
    c->lease.changes++;
}

void lease_look(struct core *c, struct core_job *job) {
    c->lease.seen = c->lease.changes;
    job->new_lease = true;
}

uint64_t core_lease(struct core *c, struct core_bundle *ret, char *ret_gpus, size_t cap) {
    uint64_t changes;

    if (core_enter(c) < 0) return 0;
    *ret = c->lease.place;
    (void)snprintf(ret_gpus, cap, "%s", c->lease.gpus);
    changes = c->lease.changes;
    core_leave(c);
    return changes;
}
