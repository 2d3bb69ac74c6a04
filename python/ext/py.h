/* py.h - what the files of skate._core share.
 *
 * One core per process, so the state is one static struct, guarded by the interpreter lock. Rules:
 * a core function that BLOCKS is called between py_leave() and py_enter(), which give up the lock
 * and count who is inside, so that close() can wait; all others are called with it held. The core
 * never calls back. Objects remember the epoch (session) they belong to: after a shutdown they are
 * only numbers. Files in reading order: README.md. Tests: tests/python, tests/compat. */
#ifndef SKATE_PY_H
#define SKATE_PY_H

#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

#include "core/core.h"
#include "core/core_async.h"
#include "core/inspect.h"
#include "wire/frame.h"

enum { PY_SCRATCH = 4096, PY_PARTS = 8, PY_REFS = 16, PY_DEPTH = 48 };

struct py_state {
    struct core *core; /* NULL: not connected */
    uint64_t epoch;    /* session number, from 1; 0 is no session */
    unsigned inside;   /* threads inside a blocking call */
    bool forked, note_sites; /* note_sites: SKATE_record_ref_creation_sites=1 */
    struct core_job *job; /* worker: what runs now; NULL when several do */
    bool in_task;         /* worker: code of a task runs; an interrupt may come */
    bool warned;          /* of a blocking call in an async actor */
    bool leaving;         /* worker: exit_actor() was called; the call is not answered */
    bool several;         /* an actor that runs several calls at once: py_job.c */
    PyTypeObject *ref_type, *actor_type, *buffer_type, *slot_type, *call_type, *job_type;
    PyTypeObject *stream_type, *generator_type; /* generator_type: Python's own */
    PyTypeObject *laid_type; /* skate._plain.Laid, when that is imported */
    PyTypeObject *array_type; /* numpy.ndarray, when that is */
    PyObject *empty_tuple;
};
extern struct py_state py;

/* ---- py_mod.c: state, errors, control ---- */

/* An attribute of a Python helper module, looked up once. Borrowed; NULL with an exception. */
enum py_hook {
    HOOK_DUMPS,     /* skate._serialize.dumps(obj, buffers) -> bytes */
    HOOK_LOADS,     /* _pickle.loads */
    HOOK_ERROR,     /* skate._serialize.task_error(payload) -> exception */
    HOOK_SYSTEM,    /* skate._serialize.system_error(bytes, ref) -> exception */
    HOOK_CORE,      /* skate._serialize.core_error(code, text) -> exception */
    HOOK_PAYLOAD,   /* skate._serialize.error_payload(exception) -> plain values */
    HOOK_TIMEOUT,   /* skate._serialize.timeout_error(done, count, seconds) -> exception */
    HOOK_INIT,      /* skate._api.auto_init() */
    HOOK_TASK_ID,   /* skate._ids.TaskID(bytes) */
    HOOK_JOB_ID,    /* skate._ids.JobID(bytes) */
    HOOK_NOTE,      /* skate._why.note(error, ref, seconds) */
    HOOK_SITE,      /* skate._sites.here(what) -> str */
    HOOK_FUTURE,    /* skate._await.future_of(ref, in_loop) */
    HOOK_FUNCTION,  /* skate._worker.load_function(key, value) -> callable */
    HOOK_METHOD,    /* skate._worker.find_method(name) -> callable */
    HOOK_CANCEL,    /* skate._async.cancel_running(bytes) */
    HOOK_CONSTRUCT, /* skate._worker.construct(class, args, kwargs) */
    HOOK_BLOCKING,  /* skate._async.warn_blocking() */
    HOOK_LEAVE,     /* skate._actor.leave() raises ActorExit */
    HOOK_COMPLETED, /* skate._await.on_completed(ref, function) */
    HOOK_JOB,       /* skate._async.current_job.get() -> Job or None */
    HOOK_STREAM,    /* skate._generator.ObjectRefGenerator(ref, stream) */
    HOOK_DYNAMIC,   /* skate._generator.DynamicObjectRefGenerator(refs) */
    HOOK_LEASE,     /* skate._lease.changed() */
    HOOK_TENSOR,    /* skate._plain.tensor(bytes) -> array */
    HOOK_ARROW,     /* skate._plain.arrow(bytes) -> table */
    HOOK_HANDLE,    /* skate._cross.handle(ActorID, index) -> actor handle */
    HOOK_LAY_OUT,   /* skate._plain.lay_out(obj) -> (format, header, data), [plain] or None */
    HOOK_COUNT
};
PyObject *py_hook(enum py_hook hook);
/* Set the exception for a core error; returns NULL. text may be NULL. */
PyObject *py_fail(int code, const char *text);
/* Is there a session? If not, start one as Ray does; -1 with an exception. */
int py_need_core(void);
/* Give up the interpreter lock around a blocking call, and take it again; core_room_for() so. */
int py_room(struct core *c, int r, struct skate_error *err);
PyThreadState *py_leave(void);
void py_enter(PyThreadState *save);

/* ---- py_ref.c: ObjectRef and ActorID ---- */

struct py_ref {
    PyObject_HEAD
    struct skate_id id;
    uint64_t epoch;
    bool counted; /* false: a weak actor handle, or made outside a session */
};
int py_ref_init(PyObject *module);
/* A new object around an id. add: take a new local ref; else the caller's own passes over. */
PyObject *py_ref_new(PyTypeObject *type, const struct skate_id *id, bool add);
PyObject *py_ref_read(const struct skate_id *id); /* out of a value or an argument */
static inline bool py_is_ref(PyObject *o) { return Py_TYPE(o) == py.ref_type; }
/* May it be used in this session? -1 with ValueError. */
int py_ref_check(PyObject *ref);
PyObject *py_ref_from_bytes(PyObject *module, PyObject *arg);
/* Note where the ref was made. Keeps an exception that is set. */
void py_note_site(const struct skate_id *id, const char *what);
PyObject *py_actor_from_bytes(PyObject *module, PyObject *args);
/* The 24 bytes at the border of Ray's task ids. */
void py_task_bytes(const struct skate_id *id, uint8_t out[24]);

void py_ref_dealloc(PyObject *self); /* of all types with this layout */

/* ---- py_worker.c, py_wait.c: for other files ---- */

/* End the job: 0, or a negative code and the job is open still. */
int py_job_finish(struct core_job *job, enum core_status status, const struct core_value *values,
                  uint32_t count);
void py_job_failed(int code); /* and the reason, as the exception */
/* Wait for one object to exist: 1, 0 when the time (None: for ever) is over, -1 an exception. */
int py_wait_one(const struct skate_id *id, PyObject *timeout);

/* ---- py_encode.c: objects to values ---- */

/* A value under construction; refs met on the way are collected and kept alive. */
struct py_value {
    struct core_value v;
    struct core_part parts_fixed[PY_PARTS], *parts;
    uint8_t *out; /* msgpack bytes, or the header of PICKLE5 */
    size_t len, cap;
    bool heap;
    struct skate_id refs_fixed[PY_REFS], *refs;
    PyObject *keep_fixed[PY_REFS], **keep;
    uint32_t refs_cap;
    PyObject *pickle, *buffers;
    Py_buffer *views;
    uint32_t view_count;
    uint8_t tensor_head[192];
    const void *seen[16]; /* shared containers met: a second time means aliasing */
    uint32_t seen_count;
    bool plain; /* for every language: aliases are copied, arrays and tables are not pickled */
    struct py_value *outer; /* the collector stack of this thread */
};
/* scratch: caller's buffer for small values, may be NULL. */
void py_value_init(struct py_value *pv, void *scratch, size_t cap);
void py_value_release(struct py_value *pv);
/* 0, or -1 with an exception (TypeError when it cannot be pickled). */
int py_encode(struct py_value *pv, PyObject *o);
PyObject *py_set_laid(PyObject *module, PyObject *type);
/* Arguments of a call: top-level refs become placeholders and are appended to deps (count at
 * most dep_max). args: count positional and then the values of kwnames. */
struct py_args {
    PyObject *const *args;
    Py_ssize_t count;
    PyObject *kwnames; /* tuple or NULL */
    struct skate_id *deps;
    uint32_t dep_count;
    bool plain; /* no pickle: 1 without an exception instead */
};
int py_encode_args(struct py_value *pv, struct py_args *a);
/* An exception as an error value. */
int py_encode_error(struct py_value *pv, PyObject *exception);
/* Record a ref that is being pickled: true when a value is under construction here. */
bool py_collect(PyObject *ref);
PyObject *py_forget_refs(PyObject *module, PyObject *unused);
size_t py_value_size(const struct py_value *pv);

/* ---- py_decode.c: values to objects ---- */

/* Where a value lies and who must be told when it is not needed any more. */
struct py_source {
    struct core_view view;
    struct core_job *job; /* the view belongs to a job: take the pin only if needed */
};
int py_decode_init(PyObject *module);
/* A new reference, or NULL with an exception. Takes over the pin of a view that is not a job's. */
PyObject *py_decode(struct py_source *s);
/* The arguments of a call: a tuple and a dict (or NULL), placeholders replaced by deps. */
int py_decode_args(struct py_source *s, PyObject *deps, PyObject **ret_args, PyObject **ret_kwargs);
/* The exception object that a value with VAL_ERROR stands for. */
PyObject *py_decode_error(struct py_source *s, const struct skate_id *id);
PyObject *py_slot_new(uint32_t index);
/* From now on values of this thread have writable buffers (or not): what it was before. */
bool py_decode_writable(bool on);
/* Before the end: what is pinned becomes private. Its pages, to free(); NULL: unmap nothing. */
struct core_pages *py_buffers_keep(size_t *ret_n);

/* ---- py_memory.c: bytes of a value that may be written to ---- */

int py_memory_init(void);
/* The bytes of a Buffer (or any other object with bytes) as a new, writable object. */
PyObject *py_memory_of(PyObject *buffer);
PyObject *py_writable(PyObject *module, PyObject *buffer);
PyObject *py_arrow_stream(PyObject *module, PyObject *bytes); /* py_arrow.c */
/* (is there a value, is there a copy here, number of the node, bytes) of a ref. */
PyObject *py_locate(PyObject *module, PyObject *ref);
/* Before the session ends: nothing of them depends on the arena any more. */
void py_memories_keep(void);

/* ---- py_worker.c: one job ---- */

/* Call what the job names: a new reference, or NULL with the user's (or our) exception. */
PyObject *py_perform(struct core_job *job);
/* Send its result, or the exception that is set. -1 with an exception: the job is still open. */
int py_finish_ok(struct core_job *job, PyObject *result);
int py_finish_error(struct core_job *job);
PyObject *py_find_method(const char *name); /* borrowed */
PyObject *py_describe(uint32_t kind, const struct skate_id *id, const struct skate_id *actor,
                      const char *name, const char *method, uint32_t attempt);
/* py_job.c: current() where several jobs run. */
PyObject *py_job_current(void);
int py_job_init(PyObject *module);
int py_watch_init(PyObject *module);
/* py_wait.c: the value of a ref: 1 and *ret, 0 when it is not readable here, -1 an exception. */
int py_read(PyObject *ref, PyObject **ret);

/* ---- the functions of the module, by file ---- */
int py_call_init(PyObject *module);
PyObject *py_create_actor(PyObject *module, PyObject *args);
PyObject *py_get(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *py_get_writable(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *py_wait(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *py_why(PyObject *module, PyObject *args);
PyObject *py_put(PyObject *module, PyObject *object);
PyObject *py_define(PyObject *module, PyObject *args);
PyObject *py_class(PyObject *module, PyObject *args);
PyObject *py_run(PyObject *module, PyObject *unused);
PyObject *py_current(PyObject *module, PyObject *unused);
PyObject *py_groups(PyObject *module, PyObject *args);
PyObject *py_concurrency(PyObject *module, PyObject *unused);
PyObject *py_group_bell(PyObject *module, PyObject *args);
PyObject *py_next_job(PyObject *module, PyObject *args);
PyObject *py_serve(PyObject *module, PyObject *unused);
PyObject *py_serve_drain(PyObject *module, PyObject *unused);
PyObject *py_leave_soon(PyObject *module, PyObject *unused);
PyObject *py_serve_end(PyObject *module, PyObject *unused);
PyObject *py_actor_calls(PyObject *module, PyObject *args);
PyObject *py_lease(PyObject *module, PyObject *unused);
PyObject *py_exit_intended(PyObject *module, PyObject *args);
PyObject *py_function(PyObject *module, PyObject *unused);
PyObject *py_limited(PyObject *module, PyObject *last);
PyObject *py_adopt_orphans(PyObject *module, PyObject *unused);
PyObject *py_child_setup(PyObject *module, PyObject *parent);
void py_job_parent(struct skate_id *ret); /* the call that this thread or coroutine works for */
int py_cancel_calls(void); /* those that core_cancel_next() names */
PyObject *py_cancel(PyObject *module, PyObject *args);
PyObject *py_cancelled(PyObject *module, PyObject *unused);
PyObject *py_interruptible(PyObject *module, PyObject *number);
PyObject *py_on_interrupt(PyObject *module, PyObject *args);

#endif
