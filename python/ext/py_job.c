/* py_job.c - the type Job: a call of an actor that runs several at once, in the hands of Python.
 *
 * skate._async takes jobs (next_job) on its pool threads and event loops, runs them and answers
 * them: done(), fail(), on any thread. A Job that nobody answers stays open: its caller learns of
 * the end of the process. What current() says of a job is kept beyond its end, since a coroutine
 * may leave tasks behind that ask. Plain workers have no Job. */
#include "py_stream.h"

#include "core/items.h"

#include <stdlib.h>
#include <string.h>

struct job {
    PyObject_HEAD
    struct core_job *job; /* NULL: answered */
    uint64_t epoch;
    struct skate_id task, actor;
    uint32_t attempt;
    char *name;
    PyObject *method;
};

static _Thread_local struct job *here; /* inside call(), done() and fail() */

static struct job *as_job(PyObject *o) { return (struct job *)(void *)o; }

static void job_dealloc(PyObject *self) {
    struct job *j = as_job(self);
    PyTypeObject *type = Py_TYPE(self);

    free(j->name);
    Py_XDECREF(j->method);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyObject *job_new(struct core_job *job) {
    struct job *j = PyObject_New(struct job, py.job_type);

    if (!j) return NULL;
    j->job = job;
    j->epoch = py.epoch;
    j->task = job->task;
    j->actor = job->actor;
    j->attempt = job->attempt;
    j->name = strdup(job->name ? job->name : "");
    j->method = PyUnicode_InternFromString(job->method ? job->method : "");
    if (j->name && j->method) return (PyObject *)j;
    Py_DECREF((PyObject *)j);
    return NULL;
}

static bool is_open(const struct job *j) {
    if (j->job && py.core && j->epoch == py.epoch) return true;
    PyErr_SetString(PyExc_RuntimeError, "this call has been answered");
    return false;
}

/* call(): what the method returns; for a coroutine function that is the coroutine. */
static PyObject *job_call(PyObject *self, PyObject *unused) {
    struct job *j = as_job(self), *outer = here;
    PyObject *out;

    (void)unused;
    if (!is_open(j)) return NULL;
    here = j;
    out = py_perform(j->job);
    here = outer;
    return out;
}

/* The answer, or the exception that is set. */
static int answer(struct job *j, PyObject *value) {
    struct job *outer = here;
    int r;

    here = j;
    r = value ? py_finish_ok(j->job, value) : -1;
    if (r < 0 && !PyErr_ExceptionMatches(PyExc_SystemExit)) r = py_finish_error(j->job);
    here = outer;
    if (r == 0) j->job = NULL;
    return r;
}

static PyObject *job_done(PyObject *self, PyObject *value) {
    if (!is_open(as_job(self)) || answer(as_job(self), value) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *job_fail(PyObject *self, PyObject *error) {
    if (!PyExceptionInstance_Check(error))
        return PyErr_SetString(PyExc_TypeError, "fail() takes an exception"), NULL;
    if (!is_open(as_job(self))) return NULL;
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    if (answer(as_job(self), NULL) < 0) return NULL;
    Py_RETURN_NONE;
}

/* ---- async generators ---- */

/* send(item): one item of a stream; True when may_send() must say yes before the next. */
static PyObject *job_send(PyObject *self, PyObject *item) {
    struct job *j = as_job(self), *outer = here;
    struct skate_id id;
    int r;

    if (!is_open(j)) return NULL;
    here = j;
    r = py_yield_one(j->job, item, &id);
    here = outer;
    return r < 0 ? NULL : PyBool_FromLong(r);
}

static PyObject *job_may_send(PyObject *self, PyObject *unused) {
    struct job *j = as_job(self);
    int r;

    (void)unused;
    if (!is_open(j)) return NULL;
    r = core_yield_wait(py.core, j->job, 0);
    if (r < 0 && r != -SKATE_ETIMEOUT) return py_fail(r, NULL);
    return PyBool_FromLong(r == 0);
}

/* stop(error or None): the stream has ended. */
static PyObject *job_stop(PyObject *self, PyObject *error) {
    struct job *j = as_job(self), *outer = here;
    int r;

    if (!is_open(j)) return NULL;
    if (error != Py_None) PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    here = j;
    r = py_yield_stop(j->job);
    if (r < 0 && !PyErr_ExceptionMatches(PyExc_SystemExit)) r = py_finish_error(j->job);
    here = outer;
    if (r < 0) return NULL;
    j->job = NULL;
    Py_RETURN_NONE;
}

static PyObject *job_streams(PyObject *self, void *unused) {
    struct job *j = as_job(self);

    (void)unused;
    return PyBool_FromLong(j->job && (j->job->flags & CORE_STREAM));
}

static PyObject *describe(const struct job *j) {
    PyObject *bytes = PyUnicode_AsUTF8String(j->method), *out;

    if (!bytes) return NULL;
    out = py_describe(1, &j->task, &j->actor, j->name, PyBytes_AsString(bytes), j->attempt);
    Py_DECREF(bytes);
    return out;
}

PyObject *py_job_current(void) {
    PyObject *hook, *job, *out;

    if (here) return describe(here);
    hook = py_hook(HOOK_JOB);
    job = hook ? PyObject_CallNoArgs(hook) : NULL;
    if (!job) return NULL;
    if (Py_TYPE(job) != py.job_type) {
        Py_DECREF(job);
        Py_RETURN_NONE;
    }
    out = describe(as_job(job));
    Py_DECREF(job);
    return out;
}

void py_job_parent(struct skate_id *ret) {
    PyObject *hook, *job = NULL;

    if (here) {
        *ret = here->task;
        return;
    }
    hook = py_hook(HOOK_JOB);
    if (hook) job = PyObject_CallNoArgs(hook);
    if (!job)
        PyErr_Clear();
    else if (Py_TYPE(job) == py.job_type)
        *ret = as_job(job)->task;
    Py_XDECREF(job);
}

static PyObject *job_method(PyObject *self, void *unused) {
    (void)unused;
    Py_INCREF(as_job(self)->method);
    return as_job(self)->method;
}

/* The 24 bytes of the task's id. */
static PyObject *job_task(PyObject *self, void *unused) {
    uint8_t b[24];

    (void)unused;
    py_task_bytes(&as_job(self)->task, b);
    return PyBytes_FromStringAndSize((char *)b, 24);
}

static PyObject *job_open(PyObject *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(as_job(self)->job != NULL);
}

static PyMethodDef job_methods[] = {
    {"call", job_call, METH_NOARGS, NULL},
    {"done", job_done, METH_O, NULL},
    {"fail", job_fail, METH_O, NULL},
    {"send", job_send, METH_O, NULL},
    {"may_send", job_may_send, METH_NOARGS, NULL},
    {"stop", job_stop, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef job_getset[] = {
    {"method", job_method, NULL, NULL, NULL},
    {"task", job_task, NULL, NULL, NULL},
    {"open", job_open, NULL, NULL, NULL},
    {"streams", job_streams, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot job_slots[] = {
    {Py_tp_dealloc, job_dealloc},
    {Py_tp_methods, job_methods},
    {Py_tp_getset, job_getset},
    {Py_tp_doc, "A call that this actor has taken and not answered."},
    {0, NULL},
};
static PyType_Spec job_spec = {
    .name = "skate._core.Job",
    .basicsize = sizeof(struct job),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = job_slots,
};

int py_job_init(PyObject *module) {
    py.job_type = (PyTypeObject *)PyType_FromSpec(&job_spec);
    if (!py.job_type) return -1;
    return PyModule_AddObjectRef(module, "Job", (PyObject *)py.job_type);
}

/* ---- the functions ---- */

/* groups(count): called inside the constructor. */
PyObject *py_groups(PyObject *module, PyObject *args) {
    unsigned count;
    int r;

    (void)module;
    if (!PyArg_ParseTuple(args, "I", &count)) return NULL;
    if (!py.core) return py_fail(SKATE_ESHUTDOWN, NULL);
    r = core_groups(py.core, count);
    if (r < 0) return py_fail(r, NULL);
    py.several = true;
    Py_RETURN_NONE;
}

/* concurrency(): calls at once of the default group, as the maker said; in the constructor. */
PyObject *py_concurrency(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyLong_FromUnsignedLong(py.job && py.job->max_concurrency ? py.job->max_concurrency : 1);
}

/* group_bell(group, eventfd) */
PyObject *py_group_bell(PyObject *module, PyObject *args) {
    unsigned group;
    int fd, r;

    (void)module;
    if (!PyArg_ParseTuple(args, "Ii", &group, &fd)) return NULL;
    if (!py.core) return py_fail(SKATE_ESHUTDOWN, NULL);
    r = core_group_bell(py.core, group, fd);
    if (r < 0) return py_fail(r, NULL);
    Py_RETURN_NONE;
}

/* next_job(group, wait): a Job; None when there is none now; False when none will come. */
PyObject *py_next_job(PyObject *module, PyObject *args) {
    struct core *c = py.core;
    struct core_job *job = NULL;
    unsigned group;
    int wait, r;

    (void)module;
    if (!PyArg_ParseTuple(args, "Ip", &group, &wait)) return NULL;
    if (!c) Py_RETURN_FALSE;
    if (wait) {
        PyThreadState *save = py_leave();

        r = core_group_next(c, group, true, &job);
        py_enter(save);
    } else
        r = core_group_next(c, group, false, &job);
    if (r == 0) return job_new(job);
    if (r == -SKATE_EAGAIN || r == -SKATE_EINTR) Py_RETURN_NONE;
    Py_RETURN_FALSE;
}

/* serve(): the main thread, until the actor is to end. */
PyObject *py_serve(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    for (;;) {
        struct core *c = py.core;
        PyThreadState *save;
        int r;

        if (!c) Py_RETURN_NONE;
        save = py_leave();
        r = core_serve(c);
        py_enter(save);
        if (PyErr_CheckSignals() < 0) return NULL;
        if (r == -SKATE_EAGAIN && py_cancel_calls() < 0) PyErr_WriteUnraisable(NULL);
        if (r != -SKATE_EINTR && r != -SKATE_EAGAIN) Py_RETURN_NONE;
    }
}

PyObject *py_serve_drain(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    if (py.core && !py.forked) core_serve_drain(py.core);
    Py_RETURN_NONE;
}

PyObject *py_serve_end(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    if (py.core && !py.forked) core_serve_end(py.core);
    Py_RETURN_NONE;
}

/* actor_calls(actor, unordered, max_pending) */
PyObject *py_actor_calls(PyObject *module, PyObject *args) {
    PyObject *ref;
    unsigned max;
    int unordered;

    (void)module;
    if (!PyArg_ParseTuple(args, "OpI", &ref, &unordered, &max)) return NULL;
    if (Py_TYPE(ref) != py.actor_type)
        return PyErr_SetString(PyExc_TypeError, "an ActorID is needed"), NULL;
    if (!py.core) return py_fail(SKATE_ESHUTDOWN, NULL);
    core_actor_calls(py.core, &((struct py_ref *)(void *)ref)->id, unordered != 0, max);
    Py_RETURN_NONE;
}
