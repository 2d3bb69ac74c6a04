/* report.h - what this process tells of itself (report.c). All but core_mark under the mutex. */
#ifndef SKATE_CORE_REPORT_H
#define SKATE_CORE_REPORT_H

#include "core/core_int.h"
#include "core/inspect.h"

/* A run begins, ends; a task of ours was submitted, or failed without a worker's answer. */
void report_run_begin(struct core *c, struct run *r);
void report_run_end(struct core *c, struct run *r, enum core_status status);
void report_submitted(struct core *c, uint32_t index);
void report_lost(struct core *c, uint32_t index, const struct wire_val *v, const uint8_t *data);
void report_tick(struct core *c); /* the core thread's, now and then */
void report_on_req(struct core *c, uint64_t src, const struct wire_state_req *m);

#endif
