/* skate/actor.h - actors from C: created, called, named, killed; many native ones in one process.
 *
 * An actor is an object with methods in a worker process. Calls of one caller to one actor run in
 * the order of the calls, one at a time. A skate_actor is a handle: plain bytes, counted like a
 * ref; when the last is gone the actor ends after its queued calls (a detached one lives on).
 *
 * skate_c_actor() gives an actor a process of its own. skate_spawn() makes many more in the same
 * process (a million is fine), which cost some bytes each: they live and die with it, and share its
 * one thread. The rules of skate/skate.h for errors, threads and time hold here. */
#ifndef SKATE_ACTOR_H
#define SKATE_ACTOR_H

#include "skate/skate.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct skate_actor {
    skate_ref process; /* the counted part */
    uint64_t index;    /* which of its actors; 0: the one it was made for */
} skate_actor;

struct skate_actor_options {
    size_t size;
    double num_cpus; /* held for life: 0 */
    const struct skate_resource *resources;
    size_t resource_count;
    const char *name;         /* NULL: anonymous */
    const char *name_space;   /* NULL: the session's */
    bool detached;            /* outlives this program; needs a name */
    bool get_if_exists;       /* the living one of that name, if there is one */
    int32_t max_restarts;     /* 0; -1 without end. A restart makes it anew, spawned ones end */
    int32_t max_task_retries; /* of calls that a death cut off: 0 */
    const struct skate_group *group;
    int32_t bundle;
};
static inline void skate_actor_options_init(struct skate_actor_options *o) {
    memset(o, 0, sizeof *o);
    o->size = sizeof *o;
    o->bundle = -1;
}

/* An actor of class `name` (SKATE_ACTOR of skate/task.h) of a shared library; args go to its
 * constructor. Returns before it lives (a named one: after its name is taken, BLOCKS, -SKATE_EEXIST
 * when it is another's); a constructor that fails makes every call -SKATE_EACTOR. o may be NULL. */
SKATE_API int skate_c_actor(skate_session *s, const char *library, const char *name,
                            const struct skate_actor_options *o, const skate_value *args,
                            size_t count, skate_actor *ret);
/* A Python class by its import path, "package.module.Class". */
SKATE_API int skate_python_actor(skate_session *s, const char *path,
                                 const struct skate_actor_options *o, const skate_value *args,
                                 size_t count, skate_actor *ret);
/* The living actor of a name. name_space NULL: the session's. -SKATE_ENOENT. BLOCKS. */
SKATE_API int skate_get_actor(skate_session *s, const char *name, const char *name_space,
                              skate_actor *ret);
/* Call a method; results: room for `returns` refs. */
SKATE_API int skate_call(skate_session *s, skate_actor a, const char *method,
                         const skate_value *args, size_t count, uint32_t returns,
                         skate_ref *results);
/* End it now: running and queued calls fail with -SKATE_EACTOR. With restart it starts anew as far
 * as max_restarts allows. A spawned actor (index not 0) ends alone, after the calls before. */
SKATE_API int skate_kill(skate_session *s, skate_actor a, bool restart);
/* A handle more / less; of any actor of the process. Never block. */
SKATE_API void skate_actor_copy(skate_session *s, skate_actor a);
SKATE_API void skate_actor_drop(skate_session *s, skate_actor a);
/* As a value (a Python program gets an actor handle), and back: -SKATE_ETYPE when it is none.
 * What comes out of skate_actor_of() is the caller's, to be dropped. */
SKATE_API int skate_of_actor(skate_session *s, skate_actor a, skate_value *ret);
SKATE_API int skate_actor_of(skate_session *s, const skate_value *v, skate_actor *ret);

/* ---- many in one process ---- */

/* Make `count` actors of class `name` in the process of `in`, from the library it was made from.
 * All get the same args. Their handles are {in.process, *ret_first + 0..count-1}; they are not
 * counted one by one. *ret_done becomes NIL when all live; a failed constructor is its error. */
SKATE_API int skate_spawn(skate_session *s, skate_actor in, const char *name,
                          const skate_value *args, size_t args_count, uint64_t count,
                          uint64_t *ret_first, skate_ref *ret_done);

/* One call of a batch. args: a borrowed array of plain values (no tensor, Arrow stream or ref). */
struct skate_batch_call {
    uint64_t index; /* which actor of the process */
    const char *method;
    const skate_value *args;
    size_t count;
};
/* Many calls with one message: they run in this order, between the caller's calls before and
 * after. *ret becomes a SKATE_LIST with one value each; where a call failed, a SKATE_MAP with the
 * one key "error". -SKATE_ETOOBIG: more than 64 MiB of arguments. */
SKATE_API int skate_call_batch(skate_session *s, skate_ref process,
                               const struct skate_batch_call *calls, size_t count,
                               skate_ref *ret);

#ifdef __cplusplus
}
#endif

#endif
