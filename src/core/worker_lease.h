/* worker_lease.h - a lease's group and GPUs on their way to its worker; for the files of src/core
 * only. See worker_lease.c. */
#ifndef SKATE_CORE_WORKER_LEASE_H
#define SKATE_CORE_WORKER_LEASE_H

#include "core/core_int.h"

void lease_on_info(struct core *c, const struct wire_lease_info *m);
void lease_tell(struct core *c, const struct sched_class *k, struct worker *w,
                const struct wire_lease_grant *m);
void leases_on_failed(struct core *c, const struct wire_lease_failed *m);
void lease_look(struct core *c, struct core_job *job);
/* locality.c */
uint64_t task_near(struct core *c, const struct task *t); /* 0: anywhere */
uint32_t class_near(struct core *c, const struct sched_class *k, uint64_t *out, uint32_t cap);

#endif
