/* py_mod.c - the module skate._core: connection, control frames, errors, and the table of all.
 *
 * Called by skate's Python modules only; none of it is public. See py.h for the rules of locks. */
#include "base/crc32c.h"
#include "py_array.h"
#include "py_stream.h"
#include "core/core_room.h"

#include "core/later.h"
#include "core/lend.h"
#include "core/lineage.h"
#include "core/member.h"
#include "core/private_view.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct py_state py;

static const struct {
    const char *module, *name;
} hook_names[HOOK_COUNT] = {
    [HOOK_DUMPS] = {"skate._serialize", "dumps"},
    [HOOK_LOADS] = {"_pickle", "loads"},
    [HOOK_ERROR] = {"skate._serialize", "task_error"},
    [HOOK_SYSTEM] = {"skate._serialize", "system_error"},
    [HOOK_CORE] = {"skate._serialize", "core_error"},
    [HOOK_PAYLOAD] = {"skate._serialize", "error_payload"},
    [HOOK_TIMEOUT] = {"skate._serialize", "timeout_error"},
    [HOOK_INIT] = {"skate._api", "auto_init"},
    [HOOK_TASK_ID] = {"skate._ids", "TaskID"},
    [HOOK_JOB_ID] = {"skate._ids", "JobID"},
    [HOOK_NOTE] = {"skate._why", "note"},
    [HOOK_SITE] = {"skate._sites", "here"},
    [HOOK_FUTURE] = {"skate._await", "future_of"},
    [HOOK_FUNCTION] = {"skate._worker", "load_function"},
    [HOOK_METHOD] = {"skate._worker", "find_method"},
    [HOOK_CANCEL] = {"skate._async", "cancel_running"},
    [HOOK_CONSTRUCT] = {"skate._worker", "construct"},
    [HOOK_BLOCKING] = {"skate._async", "warn_blocking"},
    [HOOK_LEAVE] = {"skate._actor", "leave"},
    [HOOK_COMPLETED] = {"skate._await", "on_completed"},
    [HOOK_JOB] = {"skate._async", "running_job"},
    [HOOK_STREAM] = {"skate._generator", "ObjectRefGenerator"},
    [HOOK_DYNAMIC] = {"skate._generator", "DynamicObjectRefGenerator"},
    [HOOK_LEASE] = {"skate._lease", "changed"},
    [HOOK_TENSOR] = {"skate._plain", "tensor"},
    [HOOK_ARROW] = {"skate._plain", "arrow"},
    [HOOK_HANDLE] = {"skate._cross", "handle"},
    [HOOK_LAY_OUT] = {"skate._plain", "lay_out"},
};

PyObject *py_hook(enum py_hook hook) {
    static PyObject *found[HOOK_COUNT];

    if (!found[hook]) {
        PyObject *module = PyImport_ImportModule(hook_names[hook].module);

        if (!module) return NULL;
        found[hook] = PyObject_GetAttrString(module, hook_names[hook].name);
        Py_DECREF(module);
    }
    return found[hook];
}

PyObject *py_fail(int code, const char *text) {
    PyObject *make, *error;
    struct skate_error why = {""};

    if (PyErr_Occurred()) return NULL;
    if (code < 0) code = -code;
    if (code == SKATE_EFULL && py.core && !(text && *text)) {
        core_trouble(py.core, &why);
        text = why.text;
    }
    make = py_hook(HOOK_CORE);
    if (!make) return NULL;
    error = PyObject_CallFunction(make, "is", code, text && *text ? text : skate_strerror(code));
    if (!error) return NULL;
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
    return NULL;
}

int py_need_core(void) {
    PyObject *init, *r;

    if (py.core) return 0;
    if (py.forked) return py_fail(SKATE_EFORKED, NULL), -1;
    init = py_hook(HOOK_INIT);
    if (!init) return -1;
    r = PyObject_CallObject(init, NULL);
    if (!r) return -1;
    Py_DECREF(r);
    if (py.core) return 0;
    return py_fail(SKATE_ESHUTDOWN, NULL), -1;
}

int py_room(struct core *c, int r, struct skate_error *err) {
    PyThreadState *save;

    if (!core_wants_room(c, r)) return r;
    save = py_leave();
    r = core_room_for(c, r, err);
    py_enter(save);
    return r;
}

PyThreadState *py_leave(void) {
    py.inside++;
    return PyEval_SaveThread();
}

void py_enter(PyThreadState *save) {
    PyEval_RestoreThread(save);
    py.inside--;
}

/* ---- connection ---- */

static bool says_yes(const char *name) {
    const char *value = getenv(name);

    return value && (strcmp(value, "1") == 0 || strcmp(value, "true") == 0);
}

static PyObject *started(struct core *c) {
    py.core = c;
    py.epoch++;
    py.forked = false;
    py.note_sites = says_yes("SKATE_record_ref_creation_sites") ||
                    says_yes("RAY_record_ref_creation_sites");
    return PyLong_FromUnsignedLongLong(py.epoch);
}

static PyObject *mod_connect(PyObject *module, PyObject *args) {
    struct skate_error err = {{0}};
    struct core *c = NULL;
    PyThreadState *save;
    const char *path;
    double seconds;
    int r;

    (void)module;
    if (!PyArg_ParseTuple(args, "sd", &path, &seconds)) return NULL;
    if (py.core) return PyErr_SetString(PyExc_RuntimeError, "already connected"), NULL;
    save = py_leave();
    r = core_connect(path, (int64_t)(seconds * 1e9), &c, &err);
    py_enter(save);
    return r < 0 ? py_fail(r, err.text) : started(c);
}

static PyObject *mod_attach(PyObject *module, PyObject *args) {
    struct skate_error err = {{0}};
    struct core *c = NULL;
    PyThreadState *save;
    int fd, r;

    (void)module;
    if (!PyArg_ParseTuple(args, "i", &fd)) return NULL;
    if (py.core) return PyErr_SetString(PyExc_RuntimeError, "already connected"), NULL;
    save = py_leave();
    r = core_attach(fd, &c, &err);
    py_enter(save);
    return r < 0 ? py_fail(r, err.text) : started(c);
}

/* New calls see no core; those inside are woken and waited for; then the core ends. */
static PyObject *mod_close(PyObject *module, PyObject *unused) {
    struct core *c = py.core;
    struct core_pages *kept;
    PyThreadState *save;
    size_t n = 0;

    (void)module;
    (void)unused;
    py.core = NULL;
    if (!c || py.forked) Py_RETURN_NONE;
    core_interrupt(c);
    save = PyEval_SaveThread();
    for (;;) {
        struct timespec pause = {0, 200000}; /* they were woken, and need this lock to leave: a
                                                condition would cost each of their calls */
        unsigned left;

        PyEval_RestoreThread(save);
        left = py.inside;
        save = PyEval_SaveThread();
        if (left == 0) break;
        nanosleep(&pause, NULL); /* see above */
    }
    PyEval_RestoreThread(save);
    py_creates_keep(c);
    py_memories_keep();
    kept = py_buffers_keep(&n);
    save = PyEval_SaveThread();
    core_close(c);
    if (kept) core_unmap(c, kept, n);
    PyEval_RestoreThread(save);
    free(kept);
    Py_RETURN_NONE;
}

/* Wake every thread that blocks; the session cannot be used afterwards but for close(). */
static PyObject *mod_interrupt(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    if (py.core && !py.forked) core_interrupt(py.core);
    Py_RETURN_NONE;
}

/* The child of a fork: everything that the parent owns is left alone. */
static PyObject *mod_forked(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    py.inside = 0; /* the parent's threads, which are not here */
    if (py.core) {
        core_forked(py.core);
        py.core = NULL;
        py.epoch++;
        py.forked = true;
    }
    Py_RETURN_NONE;
}

static PyObject *mod_alive(PyObject *module, PyObject *unused) {
    struct skate_error reason = {{0}};

    (void)module;
    (void)unused;
    if (!py.core) return PyUnicode_FromString("not connected");
    if (core_alive(py.core, &reason)) Py_RETURN_NONE;
    return PyUnicode_FromString(reason.text);
}

static PyObject *mod_info(PyObject *module, PyObject *unused) {
    const struct core_info *i;
    const char *config;

    (void)module;
    (void)unused;
    if (!py.core) Py_RETURN_NONE;
    i = core_get_info(py.core);
    config = i->config ? i->config : "";
    return Py_BuildValue(
        "{s:K,s:K,s:I,s:O,s:K,s:y#,s:s,s:s,s:s,s:y#,s:y#,s:K}", "proc", (unsigned long long)i->proc,
        "driver", (unsigned long long)i->driver, "job", (unsigned)i->job, "is_driver",
        i->is_driver ? Py_True : Py_False, "arena_bytes", (unsigned long long)i->arena_bytes,
        "node_id", (const char *)&i->node_id, (Py_ssize_t)sizeof i->node_id, "node_ip", i->node_ip,
        "session_dir", i->session_dir, "gcs_address", i->gcs_address, "config", config,
        (Py_ssize_t)i->config_len, "env", i->env ? (const char *)i->env : "",
        (Py_ssize_t)i->env_len, "epoch", (unsigned long long)py.epoch);
}

static PyObject *mod_epoch(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyLong_FromUnsignedLongLong(py.core ? py.epoch : 0);
}

static PyObject *mod_set_job(PyObject *module, PyObject *args) {
    unsigned job;
    unsigned long long driver = 0;

    (void)module;
    if (!PyArg_ParseTuple(args, "I|K", &job, &driver)) return NULL;
    if (!py.core) return py_fail(SKATE_ESHUTDOWN, NULL);
    if (driver)
        core_join_job(py.core, job, driver);
    else
        core_set_job(py.core, job);
    Py_RETURN_NONE;
}

static PyObject *mod_leave_job(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    if (py.core) core_leave_job(py.core);
    Py_RETURN_NONE;
}

/* ---- control frames ---- */

static PyObject *mod_call(PyObject *module, PyObject *args) {
    unsigned long long dst;
    const char *frame;
    Py_ssize_t len;
    double seconds;
    void *reply = NULL;
    uint32_t reply_len = 0;
    PyObject *o;
    int r;

    (void)module;
    if (!PyArg_ParseTuple(args, "Ky#d", &dst, &frame, &len, &seconds)) return NULL;
    do {
        struct core *c = py.core;
        PyThreadState *save;

        if (!c) return py_fail(SKATE_ESHUTDOWN, NULL);
        save = py_leave();
        r = core_call(c, dst, frame, (uint32_t)len, (int64_t)(seconds * 1e9), &reply, &reply_len);
        py_enter(save);
        if (r == -SKATE_EINTR && PyErr_CheckSignals() < 0) return NULL;
    } while (r == -SKATE_EINTR);
    if (r < 0) return py_fail(r, NULL);
    o = PyBytes_FromStringAndSize(reply, reply_len);
    free(reply);
    return o;
}

static PyObject *mod_send(PyObject *module, PyObject *args) {
    unsigned long long dst;
    const char *frame;
    Py_ssize_t len;
    int r;

    (void)module;
    if (!PyArg_ParseTuple(args, "Ky#", &dst, &frame, &len)) return NULL;
    if (!py.core) return py_fail(SKATE_ESHUTDOWN, NULL);
    r = core_send(py.core, dst, frame, (uint32_t)len);
    if (r < 0) return py_fail(r, NULL);
    Py_RETURN_NONE;
}

/* The next frame for people, None after the timeout; raises when the session is over. */
static PyObject *mod_event(PyObject *module, PyObject *args) {
    void *frame = NULL;
    uint32_t len = 0;
    double seconds;
    struct core *c = py.core;
    PyThreadState *save;
    PyObject *o;
    int r;

    (void)module;
    if (!PyArg_ParseTuple(args, "d", &seconds)) return NULL;
    if (!c) return py_fail(SKATE_ESHUTDOWN, NULL);
    save = py_leave();
    r = core_event(c, (int64_t)(seconds * 1e9), &frame, &len);
    py_enter(save);
    if (r == -SKATE_ETIMEOUT || r == -SKATE_EAGAIN || r == -SKATE_EINTR) Py_RETURN_NONE;
    if (r < 0) return py_fail(r, NULL);
    o = PyBytes_FromStringAndSize(frame, len);
    free(frame);
    return o;
}

static PyObject *mod_event_wake(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    if (py.core && !py.forked) core_event_wake(py.core);
    Py_RETURN_NONE;
}

static PyObject *mod_stats(PyObject *module, PyObject *unused) {
    struct core_stats s = {0};

    (void)module;
    (void)unused;
    if (!py.core) return py_fail(SKATE_ESHUTDOWN, NULL);
    core_get_stats(py.core, &s);
    return Py_BuildValue("{s:K,s:K,s:K,s:K,s:K,s:K,s:K}", "objects",
                         (unsigned long long)s.objects, "tasks_pending",
                         (unsigned long long)s.tasks_pending, "leases",
                         (unsigned long long)s.leases, "links", (unsigned long long)s.links,
                         "actors", (unsigned long long)s.actors, "pins",
                         (unsigned long long)s.pins, "arena_held",
                         (unsigned long long)s.arena_held);
}

static PyObject *mod_lineage_max(PyObject *module, PyObject *bytes) {
    unsigned long long n = PyLong_AsUnsignedLongLong(bytes);

    (void)module;
    if (PyErr_Occurred()) return NULL;
    if (!py.core) return py_fail(SKATE_ESHUTDOWN, NULL);
    core_lineage_max(py.core, n);
    Py_RETURN_NONE;
}

static PyObject *mod_lend(PyObject *module, PyObject *on) {
    int yes = PyObject_IsTrue(on);

    (void)module;
    if (yes < 0) return NULL;
    if (!py.core) return py_fail(SKATE_ESHUTDOWN, NULL);
    core_lend(py.core, yes);
    Py_RETURN_NONE;
}

static PyObject *mod_memory_retries(PyObject *module, PyObject *args) {
    int retries;
    unsigned pause_ms;

    (void)module;
    if (!PyArg_ParseTuple(args, "iI", &retries, &pause_ms)) return NULL;
    if (!py.core) return py_fail(SKATE_ESHUTDOWN, NULL);
    core_memory_retries(py.core, retries, pause_ms);
    Py_RETURN_NONE;
}

static PyObject *mod_actor_state(PyObject *module, PyObject *ref) {
    struct core_actor_state s = {0};

    (void)module;
    if (Py_TYPE(ref) != py.actor_type)
        return PyErr_SetString(PyExc_TypeError, "an ActorID is needed"), NULL;
    if (!py.core) return py_fail(SKATE_ESHUTDOWN, NULL);
    core_actor_state(py.core, &((struct py_ref *)(void *)ref)->id, &s);
    return Py_BuildValue("(IIIKs)", s.state, s.pid, s.restarts, (unsigned long long)s.proc,
                         s.reason);
}

/* ---- values without a store: the job's settings, tests ---- */

/* One object as one block of bytes: a byte for the format, 63 of nothing, the value. */
static PyObject *pack(PyObject *o, bool plain) {
    struct py_value pv;
    PyObject *bytes = NULL;
    char *p;
    size_t at = 0;

    py_value_init(&pv, NULL, 0);
    pv.plain = plain;
    if (py_encode(&pv, o) < 0) goto out;
    bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(64 + py_value_size(&pv)));
    if (!bytes) goto out;
    p = PyBytes_AsString(bytes);
    memset(p, 0, 64 + py_value_size(&pv));
    p[0] = (char)pv.v.format;
    for (uint32_t i = 0; i < pv.v.part_count; i++) {
        at = (at + pv.v.parts[i].align - 1) & ~(size_t)(pv.v.parts[i].align - 1);
        if (pv.v.parts[i].size) memcpy(p + 64 + at, pv.v.parts[i].data, pv.v.parts[i].size);
        at += pv.v.parts[i].size;
    }
out:
    py_value_release(&pv);
    return bytes;
}

static PyObject *mod_pack(PyObject *module, PyObject *o) {
    (void)module;
    return pack(o, false);
}

/* As the result of a function that was called by its import path. */
static PyObject *mod_pack_plain(PyObject *module, PyObject *o) {
    (void)module;
    return pack(o, true);
}

static PyObject *mod_unpack(PyObject *module, PyObject *bytes) {
    struct py_source s = {0};
    char *p;
    Py_ssize_t n;

    (void)module;
    if (PyBytes_AsStringAndSize(bytes, &p, &n) < 0) return NULL;
    if (n < 64) return PyErr_SetString(PyExc_ValueError, "a truncated value"), NULL;
    s.view.data = p + 64;
    s.view.size = (uint64_t)n - 64;
    s.view.format = (uint8_t)p[0];
    return py_decode(&s);
}

/* crc32c(bytes): for TensorBoard's event files. */
static PyObject *mod_crc32c(PyObject *module, PyObject *bytes) {
    char *p;
    Py_ssize_t n;

    (void)module;
    if (PyBytes_AsStringAndSize(bytes, &p, &n) < 0) return NULL;
    return PyLong_FromUnsignedLong(crc32c(p, (size_t)n));
}

/* ---- the table ---- */

static PyMethodDef methods[] = {
    {"connect", mod_connect, METH_VARARGS, NULL},
    {"attach", mod_attach, METH_VARARGS, NULL},
    {"close", mod_close, METH_NOARGS, NULL},
    {"interrupt", mod_interrupt, METH_NOARGS, NULL},
    {"forked", mod_forked, METH_NOARGS, NULL},
    {"alive", mod_alive, METH_NOARGS, NULL},
    {"info", mod_info, METH_NOARGS, NULL},
    {"epoch", mod_epoch, METH_NOARGS, NULL},
    {"leave_job", mod_leave_job, METH_NOARGS, NULL},
    {"set_job", mod_set_job, METH_VARARGS, NULL},
    {"call", mod_call, METH_VARARGS, NULL},
    {"send", mod_send, METH_VARARGS, NULL},
    {"event", mod_event, METH_VARARGS, NULL},
    {"event_wake", mod_event_wake, METH_NOARGS, NULL},
    {"stats", mod_stats, METH_NOARGS, NULL},
    {"lineage_max", mod_lineage_max, METH_O, NULL},
    {"lend", mod_lend, METH_O, NULL},
    {"memory_retries", mod_memory_retries, METH_VARARGS, NULL},
    {"actor_state", mod_actor_state, METH_O, NULL},
    {"pack", mod_pack, METH_O, NULL},
    {"unpack", mod_unpack, METH_O, NULL},
    {"crc32c", mod_crc32c, METH_O, NULL},
    {"define", py_define, METH_VARARGS, NULL},
    {"scheduling_class", py_class, METH_VARARGS, NULL},
    {"create_actor", py_create_actor, METH_VARARGS, NULL},
    {"get", (PyCFunction)(void (*)(void))py_get, METH_FASTCALL, NULL},
    {"get_writable", (PyCFunction)(void (*)(void))py_get_writable, METH_FASTCALL, NULL},
    {"writable", py_writable, METH_O, NULL},
    {"locate", py_locate, METH_O, NULL},
    {"wait", (PyCFunction)(void (*)(void))py_wait, METH_FASTCALL, NULL},
    {"put", py_put, METH_O, NULL},
    {"pack_plain", mod_pack_plain, METH_O, NULL},
    {"laid", py_set_laid, METH_O, NULL},
    {"arrow_stream", py_arrow_stream, METH_O, NULL},
    {"arrays", py_arrays, METH_O, NULL},
    {"create_buffer", py_create_buffer, METH_VARARGS, NULL},
    {"why", py_why, METH_VARARGS, NULL},
    {"forget_refs", py_forget_refs, METH_NOARGS, NULL},
    {"run", py_run, METH_NOARGS, NULL},
    {"current", py_current, METH_NOARGS, NULL},
    {"groups", py_groups, METH_VARARGS, NULL},
    {"concurrency", py_concurrency, METH_NOARGS, NULL},
    {"group_bell", py_group_bell, METH_VARARGS, NULL},
    {"next_job", py_next_job, METH_VARARGS, NULL},
    {"serve", py_serve, METH_NOARGS, NULL},
    {"serve_end", py_serve_end, METH_NOARGS, NULL},
    {"serve_drain", py_serve_drain, METH_NOARGS, NULL},
    {"leave", py_leave_soon, METH_NOARGS, NULL},
    {"actor_calls", py_actor_calls, METH_VARARGS, NULL},
    {"lease", py_lease, METH_NOARGS, NULL},
    {"exit_intended", py_exit_intended, METH_VARARGS, NULL},
    {"current_function", py_function, METH_NOARGS, NULL},
    {"limited", py_limited, METH_O, NULL},
    {"_adopt_orphans", py_adopt_orphans, METH_NOARGS, NULL},
    {"_child_setup", py_child_setup, METH_O, NULL},
    {"cancel", py_cancel, METH_VARARGS, NULL},
    {"cancelled", py_cancelled, METH_NOARGS, NULL},
    {"interruptible", py_interruptible, METH_O, NULL},
    {"on_interrupt", py_on_interrupt, METH_VARARGS, NULL},
    {"_ref_from_bytes", py_ref_from_bytes, METH_O, NULL},
    {"_actor_from_bytes", py_actor_from_bytes, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static int mod_exec(PyObject *module) {
    if (py.ref_type) {
        PyErr_SetString(PyExc_ImportError, "skate._core serves one interpreter of a process");
        return -1;
    }
    py.empty_tuple = PyTuple_New(0);
    if (!py.empty_tuple) return -1;
    if (py_ref_init(module) < 0 || py_decode_init(module) < 0 || py_call_init(module) < 0 ||
        py_job_init(module) < 0 || py_watch_init(module) < 0)
        return -1;
    if (py_stream_init(module) < 0 || py_create_init(module) < 0) return -1;
    return PyModule_AddStringConstant(module, "version", SKATE_VERSION);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, mod_exec},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "skate._core",
    .m_doc = "The door to the C core. Private: use the package skate.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__core(void);
PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&definition); }
