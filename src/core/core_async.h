/* core_async.h - the part of the core's interface for programs that do several things at once:
 * actors that run several calls, objects that are awaited. The rules of core.h hold. */
#ifndef SKATE_CORE_CORE_ASYNC_H
#define SKATE_CORE_CORE_ASYNC_H

#include "core/core.h"

/* ---- the caller's side ---- */

/* Calls of the actor may overtake those whose arguments are missing; at most max_pending (0: any
 * number) of this process may be unanswered, the next core_submit is refused with -SKATE_EBUSY. */
void core_actor_calls(struct core *c, const struct skate_id *actor, bool unordered,
                      uint32_t max_pending);

/* ---- a worker that runs several calls at once: threaded and async actors (groups.c) ---- */

/* From now on (inside the constructor) calls go to `count` groups, 1..255; several jobs may run,
 * and core_finish may be called by any thread. core_next must not be called any more. */
SKATE_NODISCARD int core_groups(struct core *c, uint32_t count);
/* Ring this eventfd when a call comes into a group whose queue was found empty (-EAGAIN) last. */
SKATE_NODISCARD int core_group_bell(struct core *c, uint32_t group, int fd);
/* The next job of a group. wait: BLOCKS until there is one; else -SKATE_EAGAIN. -SKATE_ESHUTDOWN:
 * no more will come. */
SKATE_NODISCARD int core_group_next(struct core *c, uint32_t group, bool wait,
                                    struct core_job **ret);
/* The main thread: reads the input until the actor is to end and no call is left, or until
 * core_serve_end(); -SKATE_ESHUTDOWN then. -SKATE_EAGAIN: see core_cancel_next(). BLOCKS. */
SKATE_NODISCARD int core_serve(struct core *c);
void core_serve_end(struct core *c);
/* A running call, which is never answered, ends the actor as soon as the others that run or came
 * before it are done. */
void core_serve_drain(struct core *c);
/* ---- being told of objects without waiting (watch.c) ---- */

/* A set of watches: the eventfd is rung when one of them is done, once until all were taken. */
SKATE_NODISCARD int core_watch_open(struct core *c, int fd, uint32_t *ret_set);
/* 1: it is readable here now. 0: `token` will be given by core_watch_take when it is, or when the
 * session ends. The object stays alive meanwhile. */
SKATE_NODISCARD int core_watch(struct core *c, uint32_t set, const struct skate_id *id,
                               uint64_t token);
/* Not interested any more. False: its token was or will be given. */
bool core_unwatch(struct core *c, uint32_t set, const struct skate_id *id, uint64_t token);
/* Up to max tokens of done watches, in their order; their number. */
uint32_t core_watch_take(struct core *c, uint32_t set, uint64_t *tokens, uint32_t max);
void core_watch_close(struct core *c, uint32_t set);

#endif
