/* core.h - the runtime inside a user process (driver or worker): refs, objects, tasks, actors.
 *
 * Knows nothing of Python. All functions may be called from any thread unless said otherwise; they
 * take the process-private mutex for short, and only the functions marked BLOCKS sleep (the caller
 * gives up its interpreter lock around them). No callback is ever made into the caller.
 * A blocking function returns -SKATE_EINTR when a signal handler ran, so that the caller can run
 * the interpreter's handlers and call again; -SKATE_EDEAD when the raylet is gone;
 * -SKATE_EFORKED in a forked child; -SKATE_ESHUTDOWN after core_close().
 * Design: docs/design/0001-runtime.md. Tests: tests/unit/core_*_test.c, tests/compat, tests/e2e. */
#ifndef SKATE_CORE_CORE_H
#define SKATE_CORE_CORE_H

#include <stdbool.h>

#include "base/err.h"
#include "base/limits.h"
#include "core/place.h"

struct core;
struct wire_head;

/* ---- connection ---- */

struct core_info {
    uint64_t proc;      /* this process */
    uint64_t driver;    /* the job's driver */
    uint32_t job;       /* 0 until core_set_job, core_join_job (member.h) */
    uint32_t is_driver; /* 1: a program, which takes no tasks: the driver or a member */
    uint64_t arena_bytes, store_bytes; /* for objects: addresses, memory (0: as much) */
    struct skate_id node_id; /* 16 random bytes */
    char node_ip[64];
    char session_dir[256];
    char gcs_address[96];
    const void *config; /* worker: the job's packed settings; lives as long as the core */
    uint32_t config_len;
    const void *env; /* worker: the packed runtime environment it serves; empty: the job's own */
    uint32_t env_len;
};

/* Driver: connect to the raylet's Unix socket. BLOCKS (bounded by timeout_ns). */
SKATE_NODISCARD int core_connect(const char *socket_path, int64_t timeout_ns, struct core **ret,
                                 struct skate_error *err);
/* Worker: take over the socketpair end that came with fork. BLOCKS shortly. */
SKATE_NODISCARD int core_attach(int fd, struct core **ret, struct skate_error *err);
const struct core_info *core_get_info(const struct core *c);
void core_set_job(struct core *c, uint32_t job);
/* Stop the core thread, close everything. No other thread may be inside. NULL is fine. core_close
 * leaves the struct and the arena to late users, core_free nothing: there must be none. */
void core_close(struct core *c);
void core_free(struct core *c);
/* Wake all blocked threads with -SKATE_ESHUTDOWN; call before core_close. */
void core_interrupt(struct core *c);
/* In the child of a fork: make every later call return -SKATE_EFORKED, touch nothing else. */
void core_forked(struct core *c);
/* Is the raylet alive? On false, the reason. */
bool core_alive(struct core *c, struct skate_error *ret_reason);

/* ---- values ---- */

/* A value to be stored or sent: parts are laid one behind the other, each at a multiple of its
 * alignment (1..64) from the start of the value, which is itself 64-byte aligned. refs: ids that
 * the bytes contain (the caller holds a local ref on each during the call). */
struct core_part {
    const void *data;
    uint64_t size;
    uint32_t align;
};
struct core_value {
    uint8_t format; /* enum val_format */
    uint16_t flags; /* enum val_flag */
    uint32_t part_count;
    const struct core_part *parts;
    uint32_t ref_count;
    const struct skate_id *refs;
};

/* A value as read. data: inside `inline_copy` of the caller for small ones (pin 0), else in the
 * read-only arena, valid until core_unpin(pin). */
struct core_view {
    const void *data;
    uint64_t size;
    uint8_t format;
    uint16_t flags;
    uint64_t pin;
};

/* Give up a pin. Never blocks, any thread, legal in a destructor. */
void core_unpin(struct core *c, uint64_t pin);

/* ---- refs ---- */

/* One more local ref on an id that came out of a value, an argument or by hand. */
void core_ref_add(struct core *c, const struct skate_id *id);
/* One less. Only appended to a list that the next pump applies; legal in a destructor. */
void core_ref_drop(struct core *c, const struct skate_id *id);

/* Store a value; the caller gets one local ref. BLOCKS when an extent must be lent.
 * -SKATE_EFULL with a reason that lists what the arena holds: see core_room.h. */
SKATE_NODISCARD int core_put(struct core *c, const struct core_value *v, struct skate_id *ret,
                             struct skate_error *err);

enum core_wait_flag {
    CORE_FETCH = 1,         /* ready means: readable on this node */
    CORE_STOP_ON_ERROR = 2, /* return as soon as one of them is an error */
};
/* Wait until `need` of the ids are ready, or timeout_ns is over (negative: for ever), or a signal.
 * ready[i] = 1 or 0 for each. Returns the number ready (>= need, fewer on timeout), or negative.
 * BLOCKS. A worker that sleeps here lends its CPUs and gives back its unstarted tasks. */
SKATE_NODISCARD int core_wait(struct core *c, const struct skate_id *ids, uint32_t count,
                              uint32_t need, int64_t timeout_ns, unsigned flags, uint8_t *ready);
/* Read a ready object. inline_copy has LIMIT_INLINE_VALUE bytes. -SKATE_EAGAIN when not ready. */
SKATE_NODISCARD int core_read(struct core *c, const struct skate_id *id, void *inline_copy,
                              struct core_view *ret);

/* ---- tasks: the owner's side ---- */

/* Make a function (or class) known under a key of the caller's choice (a hash of its pickle).
 * BLOCKS when the value is large. Idempotent. */
SKATE_NODISCARD int core_define(struct core *c, uint64_t fn, const char *name,
                                const struct core_value *v, struct skate_error *err);
/* The index of a scheduling class: packed resources (sched/resources.h) and strategy. */
struct core_class_opts {
    const void *resources;
    uint32_t resources_len;
    uint32_t strategy; /* 0 default (hybrid), 1 spread, 2 node affinity hard, 3 soft */
    uint64_t affinity; /* node (proc of its raylet) for 2 and 3 */
    const char *name;  /* what to call it in messages */
    const void *env;   /* packed runtime environment, empty: the job's own */
    uint32_t env_len;
    struct core_bundle place;
    const char *labels; /* a selector (sched/labels.h); NULL or "": any node */
};
SKATE_NODISCARD int core_class(struct core *c, const struct core_class_opts *o,
                               uint32_t *ret_class);

struct core_task {
    struct skate_id actor; /* nil for a task */
    uint64_t fn;           /* key of the function; a method's: what it retries, or 0 */
    uint32_t cls;          /* core_class(); unused for methods */
    uint32_t returns;      /* number of result refs, 0..LIMIT_RETURNS */
    int32_t retries;       /* on loss of the worker; -1 endless */
    uint32_t flags;        /* enum core_task_flag */
    const char *name;      /* shown to people; NUL-terminated */
    const char *method;    /* actor method name, or NULL */
    struct core_value args;
    const struct skate_id *deps; /* top-level refs, replaced by values before the call */
    uint32_t dep_count;
    struct skate_id parent; /* the task that submits; nil: the one of core_next, if any */
};
enum core_task_flag {
    CORE_RETRY_EXCEPTIONS = 1, /* status CORE_RETRY of the worker uses a retry */
    CORE_GROUP_SHIFT = 8,      /* an actor's call: eight bits, its concurrency group */
    CORE_GROUP_MASK = 255,
    CORE_STREAM = 16,          /* a generator: its items come one by one: items.h; returns 1 */
    CORE_DYNAMIC = 32,         /* a generator whose one value holds the refs of all its items */
    CORE_UNREAD = 1 << 16,     /* times n (up to 65535): pause the producer at n unread items */
};
/* Submit. Returns at once; results are ids ret_task with index 1..returns, one local ref each.
 * -SKATE_EFULL: the caller's own task table is full (back-pressure). BLOCKS only for large args. */
SKATE_NODISCARD int core_submit(struct core *c, const struct core_task *t,
                                struct skate_id *ret_task, struct skate_error *err);

/* ---- actors: the caller's side ---- */

struct core_actor {
    uint64_t fn; /* key of the class, defined before */
    int32_t max_restarts, max_task_retries;
    uint32_t detached, get_if_exists, max_concurrency;
    uint32_t strategy;
    uint64_t affinity;
    const char *name, *space, *cls; /* name "" for anonymous */
    struct core_bundle place;
    const void *held, *placing;     /* packed resources: for life; to be placed */
    uint32_t held_len, placing_len;
    const void *env; /* as in core_class_opts */
    uint32_t env_len;
    const char *labels;
    struct core_value args;
    const struct skate_id *deps;
    uint32_t dep_count;
};
/* Create (asynchronously; anonymous actors answer at once, named ones after the GCS did: BLOCKS).
 * The id is also a ref: handles are counted with core_ref_add/drop on it; when the last one of all
 * is gone the actor ends after its queued calls. The caller gets one. -SKATE_EEXIST: name taken. */
SKATE_NODISCARD int core_actor_create(struct core *c, const struct core_actor *a,
                                      struct skate_id *ret_actor, struct skate_error *err);
struct core_actor_state {
    uint32_t state; /* 0 pending 1 alive 2 restarting 3 dead 4 unknown */
    uint32_t pid, restarts;
    uint64_t proc;
    char reason[512];
};
void core_actor_state(struct core *c, const struct skate_id *actor, struct core_actor_state *ret);

/* ---- the worker's side (one executing thread) ---- */

struct core_job {
    uint32_t kind; /* 0 task, 1 method, 2 constructor */
    struct skate_id task, actor;
    uint64_t fn;
    uint32_t returns, attempt, flags;
    uint32_t incarnation, max_concurrency; /* constructor only */
    const char *name, *method;             /* NUL-terminated; name/namespace/class for kind 2: */
    const char *actor_name, *space, *cls;
    struct core_view args;
    uint32_t dep_count;
    const struct core_view *deps; /* in order of the placeholders */
    bool new_lease;               /* core_lease() says something else than before */
    void *frame;                  /* owned by the core; all of the above points into it */
};
/* The next task, its dependencies readable. BLOCKS. -SKATE_ESHUTDOWN: exit (core_exit_reason). */
SKATE_NODISCARD int core_next(struct core *c, struct core_job **ret);
/* A function of the owner of `job` by key. inline_copy as in core_read. */
SKATE_NODISCARD int core_function(struct core *c, const struct core_job *job, uint64_t fn,
                                  void *inline_copy, struct core_view *ret);
enum core_status { CORE_OK = 0, CORE_ERROR = 1, CORE_RETRY = 2, CORE_CANCELLED = 3 /* ours */ };
/* End of a task: values[returns] (on error each with VAL_ERROR). Views of the job are void after
 * it, unless pinned: core_job_pin() makes the pin of a view the caller's own (core_unpin later).
 * For kind 2 with CORE_ERROR the one value is the constructor's error. BLOCKS when full. */
SKATE_NODISCARD int core_finish(struct core *c, struct core_job *job, enum core_status status,
                                const struct core_value *values, uint32_t count);
void core_trouble(struct core *c, struct skate_error *ret); /* core_finish: -SKATE_EFULL, and why */
uint64_t core_job_pin(struct core *c, struct core_job *job, const struct core_view *view);
/* Tell the raylet (and for actors the GCS) that this worker ends by intention, with the reason,
 * after all sent results are on their way. BLOCKS shortly. */
void core_exit_intended(struct core *c, uint32_t why, const char *reason);

/* ---- control ---- */

/* Send a whole frame (head.call is set here) to a process, a raylet or SKATE_GCS and wait for its
 * reply; *ret is malloc'd, checked, the caller frees it. BLOCKS. */
SKATE_NODISCARD int core_call(struct core *c, uint64_t dst, const void *frame, uint32_t len,
                              int64_t timeout_ns, void **ret, uint32_t *ret_len);
/* Send a frame without a reply. */
SKATE_NODISCARD int core_send(struct core *c, uint64_t dst, const void *frame, uint32_t len);
/* The next log, notice or other frame for people (driver). malloc'd. BLOCKS up to timeout_ns.
 * Called by one thread that is not otherwise inside the core. */
SKATE_NODISCARD int core_event(struct core *c, int64_t timeout_ns, void **ret, uint32_t *ret_len);
/* End the present wait of core_event early (it returns -SKATE_ETIMEOUT). Any thread. */
void core_event_wake(struct core *c);

/* Counters for tests and `skate memory`. */
struct core_stats {
    uint64_t objects, tasks_pending, leases, pins;
    uint64_t links, actors; /* paths to other processes; the dead ones, too, until they are swept */
    uint64_t arena_held; /* bytes of lent extents */
};
void core_get_stats(struct core *c, struct core_stats *ret);

#endif
