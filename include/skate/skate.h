/* skate/skate.h - tasks, actors and objects of Skate from C and C++.
 *
 * A program connects, submits functions that live in shared libraries (skate/task.h) or in Python
 * modules, gets refs at once, and gets their values when it needs them. docs/c.md is the tour,
 * examples/c/ has programs; build with: cc x.c $(pkg-config --cflags --libs skate).
 *
 * Errors: 0 or a count is success, negative is -SKATE_E... (skate/errors.h), and
 * skate_last_error() says it in words. Nothing here exits, aborts, or prints.
 * Threads: every function may be called by any thread, unless it says otherwise. A session is
 * usable by all threads at once; functions marked BLOCKS may sleep, all others return at once.
 * Fork: in a forked child every call returns -SKATE_EFORKED; the parent is not disturbed.
 * Signals: a blocking call that a signal handler interrupts goes on; handlers may call nothing of
 * libskate but skate_interrupt().
 * Times are milliseconds; a negative timeout waits for ever, 0 looks once.
 * Symbols carry the version SKATE_0; a function's meaning never changes under it. Structs with a
 * `size` field may grow at their end: initialise them with their _init function. */
#ifndef SKATE_SKATE_H
#define SKATE_SKATE_H

#include "skate/errors.h"
#include "skate/value.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct skate_session skate_session;
typedef struct skate_function skate_function;

/* ---- words for errors ---- */

/* Of the last failed call of this thread: one line or more, never NULL, valid until this thread's
 * next failing call. For an error of a task it is what the task said, with a Python traceback if
 * it was written in Python. */
SKATE_API const char *skate_last_error(void);
/* The meaning of a code (either sign); a static string. */
SKATE_API const char *skate_strerror(int code);
/* "0.1.0" */
SKATE_API const char *skate_version(void);

/* ---- connection ---- */

struct skate_options {
    size_t size;            /* sizeof this struct */
    const char *address;    /* NULL: SKATE_ADDRESS, else the cluster of `skate start` on this
                               machine, else a session of its own; "local": always of its own;
                               or "ip:port" of a cluster that has a node on this machine */
    const char *name_space; /* of named actors; NULL: one of this job alone */
    int32_t num_cpus;       /* of a session of its own; -1: those of the machine */
    int32_t timeout_ms;     /* to connect; -1: 20 s */
    uint64_t store_bytes;   /* object store of a session of its own; 0: the default */
};
static inline void skate_options_init(struct skate_options *o) {
    memset(o, 0, sizeof *o);
    o->size = sizeof *o;
    o->num_cpus = -1;
    o->timeout_ms = -1;
}

/* BLOCKS. o may be NULL. A session of its own ends with skate_close() or with the process. */
SKATE_API int skate_connect(const struct skate_options *o, skate_session **ret);
/* Ends the session: its tasks, its actors that are not detached, its refs, and the values that were
 * read from it, released or not. No other thread may be inside it or use it later. BLOCKS shortly.
 * NULL is fine. Inside a task: does nothing. */
SKATE_API void skate_close(skate_session *s);
/* Every thread that is blocked in this session returns -SKATE_EINTR once, within a tenth of a
 * second (a task in a native worker: when it wakes). Async-signal-safe. */
SKATE_API void skate_interrupt(skate_session *s);

/* ---- objects ---- */

/* Store a value. *ret is a ref of the caller's. BLOCKS only for large values. -SKATE_EFULL: the
 * store is full, the text says of what. */
SKATE_API int skate_put(skate_session *s, const skate_value *v, skate_ref *ret);
/* Memory of the object store for a value that you fill in place. like: SKATE_BYTES or SKATE_ARROW
 * of a size, or a SKATE_TENSOR of a dtype and shape; data in it is not looked at. What stands in
 * the memory is left over from others. -SKATE_EFULL: no room. BLOCKS only for large ones. */
SKATE_API int skate_create(skate_session *s, const skate_value *like, void **ret_data);
/* It is filled: the value is stored without a copy (up to 64 KB with one, which is cheaper), and
 * *ret is a ref of the caller's. The memory is the caller's no longer, also on an error. */
SKATE_API int skate_seal(skate_session *s, void *data, skate_ref *ret);
/* It will not be: its memory goes back. NULL is fine. */
SKATE_API void skate_discard(skate_session *s, void *data);
/* The value of a ref; the ref stays the caller's. *ret is to be released. -SKATE_ETIMEOUT says what
 * the ref waits for; -SKATE_ETASK, -SKATE_ECRASH, -SKATE_EACTOR, -SKATE_ECANCELLED, -SKATE_ELOST:
 * there is no value and never will be, the text says why. BLOCKS. */
SKATE_API int skate_get(skate_session *s, skate_ref ref, int64_t timeout_ms, skate_value *ret);
/* The same for count refs, in their order: all or, on an error, none. BLOCKS. */
SKATE_API int skate_get_many(skate_session *s, const skate_ref *refs, size_t count,
                             int64_t timeout_ms, skate_value *ret);
/* Wait until `need` of the refs are ready (a value or an error); ready[i] becomes 1 or 0. Returns
 * how many are; fewer than need after the timeout. BLOCKS. */
SKATE_API int skate_wait(skate_session *s, const skate_ref *refs, size_t count, size_t need,
                         int64_t timeout_ms, uint8_t *ready);
/* Count a ref once more / once less. Never block. */
SKATE_API void skate_ref_copy(skate_session *s, skate_ref ref);
SKATE_API void skate_ref_drop(skate_session *s, skate_ref ref);
/* Give back what a value holds, and make it NIL. */
SKATE_API void skate_release(skate_session *s, skate_value *v);

/* ---- functions ---- */

/* A share of the cluster that a task or actor needs, beside num_cpus. */
struct skate_resource {
    const char *name; /* "GPU", "memory" or a custom one */
    double amount;
};

struct skate_group; /* a placement group, skate/group.h */

/* How tasks of a function run. */
struct skate_task_options {
    size_t size;
    double num_cpus; /* 1 */
    const struct skate_resource *resources;
    size_t resource_count;
    uint32_t returns;     /* refs that a submit gives: 1; 0 and more than 1 are fine */
    int32_t max_retries;  /* when its worker dies: 3; -1 without end */
    uint32_t spread;      /* 1: over the nodes rather than packed */
    const struct skate_group *group; /* run inside this placement group, */
    int32_t bundle;       /* in this bundle of it; -1 in any */
};
static inline void skate_task_options_init(struct skate_task_options *o) {
    memset(o, 0, sizeof *o);
    o->size = sizeof *o;
    o->num_cpus = 1;
    o->returns = 1;
    o->max_retries = 3;
    o->bundle = -1;
}

/* A task `name` of SKATE_TASK in a shared library. The library is found as dlopen does it (give
 * an absolute path, or one that is the same on every node); it is loaded in the workers only, so a
 * wrong name is an error of the first task. o may be NULL. */
SKATE_API int skate_c_function(skate_session *s, const char *library, const char *name,
                               const struct skate_task_options *o, skate_function **ret);
/* A Python function by its import path, "package.module.function"; imported in the workers. */
SKATE_API int skate_python_function(skate_session *s, const char *path,
                                    const struct skate_task_options *o, skate_function **ret);
/* Its tasks go on. NULL is fine. */
SKATE_API void skate_function_free(skate_session *s, skate_function *f);

/* Run f(args...) somewhere. results: room for `returns` refs. An argument that is a ref is waited
 * for by the runtime, and the task gets its value. Returns before the task runs. -SKATE_EFULL: too
 * many unfinished tasks of this process. BLOCKS only for large arguments. */
SKATE_API int skate_submit(skate_session *s, const skate_function *f, const skate_value *args,
                           size_t count, skate_ref *results);
/* Do not start it, or interrupt it: skate_task_cancelled() becomes true in a C task, after 2 s its
 * worker is killed; force kills at once. Getting the ref is -SKATE_ECANCELLED. */
SKATE_API int skate_cancel(skate_session *s, skate_ref result, bool force);

/* ---- the session's news ---- */

/* Lines that workers printed, and notices of the runtime. */
struct skate_event {
    uint32_t kind; /* 1: a line of a worker's stdout, 2: of its stderr, 3: a notice */
    uint32_t pid;
    char node[64]; /* where */
    const char *text; /* 0-terminated; valid until the next skate_next_event of this session */
};
/* The next one. One thread at a time. -SKATE_ETIMEOUT: none came. BLOCKS. */
SKATE_API int skate_next_event(skate_session *s, int64_t timeout_ms, struct skate_event *ret);

/* To wait for refs in an event loop: fd is an eventfd of the caller's that is rung when a watched
 * ref becomes ready. skate_watch() returns 1 when the ref is ready already, else 0 and later the
 * token comes out of skate_watched(). Each ref is told once. */
SKATE_API int skate_watch_open(skate_session *s, int fd, uint32_t *ret_set);
SKATE_API int skate_watch(skate_session *s, uint32_t set, skate_ref ref, uint64_t token);
/* Up to max tokens; returns how many. Read the eventfd first. */
SKATE_API int skate_watched(skate_session *s, uint32_t set, uint64_t *tokens, uint32_t max);
SKATE_API void skate_watch_close(skate_session *s, uint32_t set);

#ifdef __cplusplus
}
#endif

#endif
