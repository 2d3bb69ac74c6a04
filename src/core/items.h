/* items.h - tasks that produce items one by one (generators): what python/ext calls.
 *
 * Part of core.h's interface, with its rules; items.c is the owner's side, yield.c the worker's.
 * Tests: tests/unit/core_items_test.c, tests/compat/test_compat_generators.py. */
#ifndef SKATE_CORE_ITEMS_H
#define SKATE_CORE_ITEMS_H

#include "core/core.h"

/* Result 1 of a task with CORE_STREAM tells how it ended; its items are objects of their own. The
 * submitter gets a handle besides: the task's id itself, given up with core_ref_drop, which frees
 * the items that were not taken.
 * The next item: 0 and, if take, a local ref that passes to the caller; -SKATE_EAGAIN: it is not
 * there yet, *ret is its id and can be waited for; -SKATE_ENOENT: all are taken. A task that failed
 * as a whole gives its result 1 as its last item. */
SKATE_NODISCARD int core_stream_next(struct core *c, const struct skate_id *task, bool take,
                                     struct skate_id *ret);
/* The worker's side. Send an item. 0, or 1 when core_yield_wait() must be called before more is
 * produced; -SKATE_EFULL with a reason when it finds no room. BLOCKS when an extent must be lent.
 * *ret_id: the item's id (may be NULL). */
SKATE_NODISCARD int core_yield(struct core *c, struct core_job *job, const struct core_value *v,
                               struct skate_id *ret_id, struct skate_error *err);
/* Wait for permission to produce more: 0, or -SKATE_ETIMEOUT. BLOCKS; lends nothing. timeout_ns 0:
 * only asks, and the eventfd of the job's group (core_group_bell) is rung when it is given. */
SKATE_NODISCARD int core_yield_wait(struct core *c, struct core_job *job, int64_t timeout_ns);
/* All items are out; core_finish follows. */
SKATE_NODISCARD int core_yield_end(struct core *c, struct core_job *job);

#endif
