/* cancel.h - the end of a task that nobody wants any more.
 *
 * A part of the interface of core.h, for its owner's and its worker's side. Any thread; nothing
 * here blocks. How user code is interrupted is the caller's business: the core only sends the
 * executing thread the signal that it was given, and says whether the running task is meant. */
#ifndef SKATE_CORE_CANCEL_H
#define SKATE_CORE_CANCEL_H

#include "core/core.h"

enum core_cancel_flag {
    CORE_CANCEL_FORCE = 1,    /* end the worker's process when the task runs */
    CORE_CANCEL_CHILDREN = 2, /* what the task has submitted, too */
};
/* Cancel the task that makes `object`; nothing when it has ended. Of another owner's task that
 * owner is told. -SKATE_EINVAL: a call of an actor cannot be forced. */
SKATE_NODISCARD int core_cancel(struct core *c, const struct skate_id *object, unsigned flags);

/* The signal that interrupts the thread inside core_next's tasks (0: none); its handler asks
 * core_interrupt_take(). */
void core_interrupt_signal(struct core *c, int number);
/* Is the task that runs now in this thread to be interrupted? True once for each cancel. */
bool core_interrupt_take(struct core *c);
/* A call of an actor of groups (core_async.h) that is to be cancelled if it runs; core_serve()
 * returns -SKATE_EAGAIN when there is one. */
bool core_cancel_next(struct core *c, struct skate_id *ret);
/* Was the task that runs now cancelled? */
bool core_cancelled(struct core *c);

#endif
