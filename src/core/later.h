/* later.h - tasks whose worker was ended for want of memory: how often they are tried again, and
 * not at once.
 *
 * Tries after such an end have a count of their own when others used the memory, too; a task that
 * had it to itself, or went over its own `memory`, uses its max_retries. The pause before the n-th
 * try doubles each time, up to a minute. A task that pauses is queued, but in no queue. Included by
 * core_int.h; all under the core mutex but core_memory_retries (any thread). Never sleeps. Tests:
 * tests/unit/core_later_test.c, tests/e2e/test_e2e_memory.py. */
#ifndef SKATE_CORE_LATER_H
#define SKATE_CORE_LATER_H

#include <stdbool.h>
#include <stdint.h>

struct core;
struct later_task {
    uint32_t index;
    int64_t due_ns;
};
struct later {
    struct later_task *v;
    uint32_t count, cap;
    int32_t retries;   /* -1: without end */
    uint32_t pause_ms; /* before the first */
};
enum { CORE_ONCE = 64 /* in wire_task.flags: not to be tried again */ };

/* retries: -1 without end. pause_ms: of the first. */
void core_memory_retries(struct core *c, int32_t retries, uint32_t pause_ms);

/* The worker of a pushed task died of `cause` (proc_died): true when it is to be tried again, after
 * *ret_pause_ns. The caller counts it as waiting and gives it to later_add. */
bool later_again(struct core *c, uint32_t index, bool started, uint32_t cause,
                 int64_t *ret_pause_ns);
void later_add(struct core *c, uint32_t index, int64_t pause_ns); /* 0: to its class at once */
bool later_take(struct core *c, uint32_t index); /* it pauses no longer; false: it did not */
int64_t later_left_ns(const struct core *c, uint32_t index); /* of its pause; -1: it has none */
bool later_tick(struct core *c);                             /* true: some still pause */

#endif
