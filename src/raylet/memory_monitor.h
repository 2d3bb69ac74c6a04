/* memory_monitor.h - ends the worker that fills this node's memory, before the kernel ends anybody.
 *
 * A timer looks at the machine, our cgroups and (if asked) what this session may use. Over the
 * threshold: the object store is asked first if it is what grew, else one worker is chosen
 * (sched/oom_policy.h), ended, and its memory awaited before the next is. A worker over its own
 * `memory` is ended too when that is enforced. The death of either says why, and by its cause its
 * owner knows how to try again. Loop thread; a look takes 0.1 ms, with many processes 10 us for
 * each of them. Tests: tests/unit/sched_oom_policy_test.c, raylet_memory_info_test.c,
 * tests/e2e/test_e2e_memory.py. */
#ifndef SKATE_RAYLET_MEMORY_MONITOR_H
#define SKATE_RAYLET_MEMORY_MONITOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct raylet;

/* proc_died.cause: why a worker was ended. ALONE: nobody else shared the memory. */
enum memory_cause { MEMORY_FINE, MEMORY_SHARED, MEMORY_ALONE, MEMORY_OWN_LIMIT };

/* -SKATE_ENOMEM. Nothing is started when nothing is to be looked at. */
SKATE_NODISCARD int memory_monitor_start(struct raylet *r);
/* The kernel's own choice, should it come to that: a worker before us. */
void memory_prefer(uint32_t pid);
void memory_protect_self(void);

#endif
