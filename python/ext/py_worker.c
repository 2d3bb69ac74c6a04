/* py_worker.c - the loop of a worker: take a task, call the Python function, send the result.
 *
 * Runs on the worker's main thread until the core says that it is over, or SystemExit passes
 * through (skate._worker.main decides what that means). A plain task whose function is known runs
 * no Python code but the user's. Errors become values; an error of the error path becomes a plain
 * RayError text, never a lost task. */
#include "py_stream.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static struct {
    PyObject *functions; /* key -> callable */
    PyObject *methods;   /* name -> bound method */
    PyObject *by_path;   /* keys of those defined by their import path; NULL: none */
    uint64_t last_key;
    PyObject *last; /* borrowed from functions */
    bool last_by_path, actor_by_path;
} known;

/* ---- what runs ---- */

static int note_by_path(PyObject *key) {
    if (!known.by_path && !(known.by_path = PyDict_New())) return -1;
    return PyDict_SetItem(known.by_path, key, Py_None);
}

bool py_answers_plainly(const struct core_job *job) {
    return job->kind == 1 ? known.actor_by_path : known.last_by_path;
}

static PyObject *find_function(struct core_job *job, uint64_t fn) {
    uint8_t copy[LIMIT_INLINE_VALUE] __attribute__((aligned(64)));
    struct py_source s = {0};
    PyObject *key, *hook, *value, *found;
    PyThreadState *save;
    int r;

    if (known.last && known.last_key == fn) return known.last;
    key = PyLong_FromUnsignedLongLong(fn);
    if (!key) return NULL;
    found = PyDict_GetItemWithError(known.functions, key);
    if (!found && !PyErr_Occurred()) {
        save = py_leave();
        r = core_function(py.core, job, fn, copy, &s.view);
        py_enter(save);
        hook = py_hook(HOOK_FUNCTION);
        value = r < 0 ? py_fail(r, NULL) : hook ? py_decode(&s) : NULL;
        if (value) {
            found = PyObject_CallFunctionObjArgs(hook, key, value, NULL);
            if (found && PyList_Check(value) && note_by_path(key) < 0) Py_CLEAR(found);
            Py_DECREF(value);
        }
        if (found) {
            r = PyDict_SetItem(known.functions, key, found);
            Py_DECREF(found); /* the dict holds it */
            if (r < 0) found = NULL;
        }
    }
    if (found) {
        known.last = found;
        known.last_key = fn;
        known.last_by_path = known.by_path && PyDict_Contains(known.by_path, key) > 0;
    }
    Py_DECREF(key);
    return found;
}

PyObject *py_find_method(const char *name) {
    PyObject *key = PyUnicode_FromString(name), *hook, *found;
    int r;

    if (!key) return NULL;
    found = PyDict_GetItemWithError(known.methods, key);
    if (!found && !PyErr_Occurred()) {
        hook = py_hook(HOOK_METHOD);
        found = hook ? PyObject_CallFunctionObjArgs(hook, key, NULL) : NULL;
        if (found) {
            r = PyDict_SetItem(known.methods, key, found);
            Py_DECREF(found);
            if (r < 0) found = NULL;
        }
    }
    Py_DECREF(key);
    return found;
}

/* The values of the dependencies, in order; a failed one is raised. NULL when there are none. */
static int take_deps(struct core_job *job, PyObject **ret) {
    PyObject *list;

    *ret = NULL;
    if (job->dep_count == 0) return 0;
    list = PyList_New((Py_ssize_t)job->dep_count);
    for (uint32_t i = 0; list && i < job->dep_count; i++) {
        struct py_source s = {.view = job->deps[i], .job = job};
        PyObject *o;

        if (s.view.flags & VAL_ERROR) {
            PyObject *error = py_decode_error(&s, &job->task);

            if (error) PyErr_SetObject((PyObject *)Py_TYPE(error), error);
            Py_XDECREF(error);
            o = NULL;
        } else {
            o = py_decode(&s);
        }
        if (!o || PyList_SetItem(list, (Py_ssize_t)i, o) < 0) Py_CLEAR(list);
    }
    *ret = list;
    return list ? 0 : -1;
}

/* Call what the job names. A new reference, or NULL with the user's (or our) exception. */
PyObject *py_perform(struct core_job *job) {
    struct py_source s = {.view = job->args, .job = job};
    PyObject *deps, *args = NULL, *kwargs = NULL, *callable, *out = NULL;

    if (take_deps(job, &deps) < 0) return NULL;
    if (py_decode_args(&s, deps, &args, &kwargs) < 0) goto out;
    Py_CLEAR(deps);
    core_mark(job, 0);
    if (job->kind == 2) {
        PyObject *hook = py_hook(HOOK_CONSTRUCT);

        callable = hook ? find_function(job, job->fn) : NULL;
        known.actor_by_path = known.last_by_path;
        if (callable)
            out = PyObject_CallFunctionObjArgs(hook, callable, args, kwargs ? kwargs : Py_None,
                                               NULL);
    } else {
        callable = job->kind == 1 ? py_find_method(job->method) : find_function(job, job->fn);
        if (callable) {
            Py_INCREF(callable);
            out = PyObject_Call(callable, args, kwargs);
            Py_DECREF(callable);
        }
    }
    core_mark(job, 1);
out:
    Py_XDECREF(deps);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return out;
}

/* ---- what comes out ---- */

int py_job_finish(struct core_job *job, enum core_status status, const struct core_value *values,
                  uint32_t count) {
    struct core *c = py.core;
    PyThreadState *save;
    bool large = false, mine = py.job == job;
    int r;

    if (!c) return 0;
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = 0; k < values[i].part_count; k++)
            large |= values[i].parts[k].size > LIMIT_INLINE_VALUE; /* it may wait for room */
    if (mine) py.job = NULL; /* other threads may ask while it is freed */
    do {
        if (large) {
            save = py_leave();
            r = core_finish(c, job, status, values, count);
            py_enter(save);
        } else {
            r = core_finish(c, job, status, values, count);
        }
    } while (r == -SKATE_EINTR);
    if (r == -SKATE_ESHUTDOWN || r == -SKATE_EDEAD) return 0; /* the next core_next says so */
    if (r < 0 && mine) py.job = job; /* still open: its error can be sent instead */
    return r;
}

/* Why py_job_finish() did not, as the exception. */
void py_job_failed(int code) {
    struct skate_error why = {0};

    if (py.core && code == -SKATE_EFULL) core_trouble(py.core, &why);
    py_fail(code, why.text);
}

static int finish_many(struct core_job *job, PyObject *result) {
    uint32_t n = job->returns;
    struct core_value *values = NULL;
    struct py_value *pvs = NULL;
    PyObject *items = PySequence_List(result);
    uint32_t made = 0;
    int r = -1;

    if (!items) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError,
                     "the task has num_returns=%u, so it must return a sequence of %u values, "
                     "not %R", n, n, Py_TYPE(result));
        return -1;
    }
    if (PyList_Size(items) != (Py_ssize_t)n) {
        PyErr_Format(PyExc_ValueError,
                     "the task has num_returns=%u, but it returned %zd values", n,
                     PyList_Size(items));
        goto out;
    }
    values = calloc(n, sizeof *values);
    pvs = calloc(n, sizeof *pvs);
    if (!values || !pvs) {
        PyErr_NoMemory();
        goto out;
    }
    for (; made < n; made++) {
        py_value_init(&pvs[made], NULL, 0);
        pvs[made].plain = py_answers_plainly(job);
        r = py_encode(&pvs[made], PyList_GetItem(items, (Py_ssize_t)made));
        if (r < 0) {
            made++;
            goto out;
        }
        values[made] = pvs[made].v;
    }
    r = py_job_finish(job, CORE_OK, values, n);
    if (r < 0) py_job_failed(r);
out:
    while (made > 0) py_value_release(&pvs[--made]);
    free(pvs);
    free(values);
    Py_DECREF(items);
    return r < 0 ? -1 : 0;
}

/* 0, or -1 with an exception; then the job is not finished yet. */
int py_finish_ok(struct core_job *job, PyObject *result) {
    uint8_t scratch[PY_SCRATCH];
    struct py_value pv;
    int r;

    if (job->kind == 2) result = Py_None;
    if (job->flags & (CORE_STREAM | CORE_DYNAMIC)) return py_yield_all(job, result);
    if (Py_TYPE(result) == py.generator_type && job->returns) return py_yield_fixed(job, result);
    if (job->returns > 1 && job->kind != 2) return finish_many(job, result);
    if (job->returns == 0 && job->kind != 2) {
        r = py_job_finish(job, CORE_OK, NULL, 0);
        return r < 0 ? (py_job_failed(r), -1) : 0;
    }
    py_value_init(&pv, scratch, sizeof scratch);
    pv.plain = py_answers_plainly(job);
    r = py_encode(&pv, result);
    if (r == 0) {
        r = py_job_finish(job, CORE_OK, &pv.v, 1);
        if (r < 0) py_job_failed(r);
    }
    py_value_release(&pv);
    return r < 0 ? -1 : 0;
}

/* May the call run again after this exception? */
static bool retries(struct core_job *job, PyObject *error) {
    PyObject *kinds;
    bool yes = true;

    if (!(job->flags & CORE_RETRY_EXCEPTIONS)) return false;
    if (!error || PyObject_HasAttrString(error, "__skate_no_retry__")) return !error;
    if (job->kind != 1 || !job->fn) return true;
    kinds = find_function(job, job->fn); /* of an actor's call: the exceptions it named */
    yes = kinds && PyErr_GivenExceptionMatches(error, kinds);
    PyErr_Clear();
    return yes;
}

/* The exception that is set becomes the value of every result of the job; -1: still open. */
int py_finish_error(struct core_job *job) {
    static const char lost[] = "system\nthe error of the task could not be sent";
    struct core_part part = {lost, sizeof lost - 1, 8};
    struct core_value plain = {.format = FORMAT_RAW, .flags = VAL_ERROR | VAL_SYSTEM,
                               .part_count = 1, .parts = &part}, *values, *one;
    PyObject *type, *error, *traceback;
    enum core_status status;
    uint32_t count = job->kind == 2 ? 1 : job->returns;
    struct py_value pv;
    int r;

    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback) PyException_SetTraceback(error, traceback);
    py_value_init(&pv, NULL, 0);
    status = retries(job, error) ? CORE_RETRY : CORE_ERROR;
    one = error && py_encode_error(&pv, error) == 0 ? &pv.v : &plain;
    if (PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_SystemExit)) return -1;
        PyErr_Print();
    }
    values = calloc(count ? count : 1, sizeof *values);
    for (uint32_t i = 0; values && i < count; i++) values[i] = *one;
    r = values ? py_job_finish(job, status, values, count) : -SKATE_ENOMEM;
    free(values);
    py_value_release(&pv);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    if (r < 0) return py_fail(r, NULL), -1;
    return 0;
}

/* leave(): the call that runs now ends this actor, even if it catches what exit_actor() raises. */
PyObject *py_leave_soon(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    py.leaving = true;
    Py_RETURN_NONE;
}

static PyObject *leave(PyObject *result) {
    PyObject *hook;

    Py_XDECREF(result);
    PyErr_Clear();
    hook = py_hook(HOOK_LEAVE);
    return hook ? PyObject_CallNoArgs(hook) : NULL; /* raises */
}

/* 0; 1: a constructor that asks for core_groups; -1 with an exception that ends the worker. */
static int run_one(struct core_job *job) {
    PyObject *result;
    int r, several;

    py.job = job;
    py.in_task = true;
    result = py_perform(job);
    py.in_task = false;
    if (py.leaving) result = leave(result);
    several = result && job->kind == 2 && result == Py_True;
    r = result ? py_finish_ok(job, result) : -1;
    Py_XDECREF(result);
    if (r == 0) return several;
    /* An exception of the task, or its result could not be encoded: the job is still open. */
    if (!py.job || PyErr_ExceptionMatches(PyExc_SystemExit)) return -1;
    return py_finish_error(job);
}

/* The lease says something else than before: its GPUs go into the environment. */
static void tell_lease(void) {
    PyObject *hook = py_hook(HOOK_LEASE);
    PyObject *out = hook ? PyObject_CallFunctionObjArgs(hook, NULL) : NULL;

    if (!out) PyErr_Print();
    Py_XDECREF(out);
}

/* run(): until the session is over; returns the reason's code, or passes SystemExit on. 1: this
 * worker is an actor now that runs several calls at once (skate._async.serve goes on). */
PyObject *py_run(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    known.functions = PyDict_New();
    known.methods = PyDict_New();
    if (!known.functions || !known.methods) return NULL;
    for (;;) {
        struct core *c = py.core;
        struct core_job *job = NULL;
        PyThreadState *save;
        int r;

        if (!c) return PyLong_FromLong(-SKATE_ESHUTDOWN);
        save = py_leave();
        r = core_next(c, &job);
        py_enter(save);
        if (r == -SKATE_EINTR) {
            if (PyErr_CheckSignals() < 0) return NULL;
            continue;
        }
        if (r < 0) return PyLong_FromLong(r);
        if (job->new_lease) tell_lease();
        r = run_one(job);
        if (r < 0) return NULL;
        if (r > 0) return PyLong_FromLong(r);
    }
}

/* What current() says of a job. */
PyObject *py_describe(uint32_t kind, const struct skate_id *id, const struct skate_id *actor,
                      const char *name, const char *method, uint32_t attempt) {
    struct core_job *j = py.job;
    uint8_t task[24];

    py_task_bytes(id, task);
    return Py_BuildValue("(Iy#y#zzIIzzz)", kind, (char *)task, (Py_ssize_t)24, (char *)actor,
                         (Py_ssize_t)16, name, method, attempt, j ? j->incarnation : 0,
                         j ? j->cls : NULL, j ? j->actor_name : NULL, j ? j->space : NULL);
}

/* current(): None, or (kind, task id, actor id, name, method, attempt, incarnation, class, actor
 * name, namespace) of what runs on this thread or in this coroutine. */
PyObject *py_current(PyObject *module, PyObject *unused) {
    struct core_job *j = py.job;

    (void)module;
    (void)unused;
    if (!j && py.several) return py_job_current();
    if (!j) Py_RETURN_NONE;
    return py_describe(j->kind, &j->task, &j->actor, j->name, j->method, j->attempt);
}

/* current_function(): what runs now, of a plain task; None when nothing was run yet. */
PyObject *py_function(PyObject *module, PyObject *unused) {
    PyObject *out = known.last ? known.last : Py_None;

    (void)module;
    (void)unused;
    Py_INCREF(out);
    return out;
}

/* limited(last): results of the running task outlive this process; last: it takes no more. */
PyObject *py_limited(PyObject *module, PyObject *last) {
    int leave = PyObject_IsTrue(last);

    (void)module;
    if (leave < 0) return NULL;
    if (!py.core) Py_RETURN_NONE;
    core_limited(py.core, leave);
    Py_RETURN_NONE;
}

/* lease(): None, or (id of the placement group, bundle, capture, GPUs). */
PyObject *py_lease(PyObject *module, PyObject *unused) {
    struct core_bundle place;
    char gpus[256];

    (void)module;
    (void)unused;
    if (!py.core || core_lease(py.core, &place, gpus, sizeof gpus) == 0) Py_RETURN_NONE;
    return Py_BuildValue("(y#iIs)", (char *)&place.group, (Py_ssize_t)sizeof place.group,
                         place.bundle, place.capture, gpus);
}

/* exit_intended(why, reason) */
PyObject *py_exit_intended(PyObject *module, PyObject *args) {
    struct core *c = py.core;
    const char *reason;
    PyThreadState *save;
    unsigned why;

    (void)module;
    if (!PyArg_ParseTuple(args, "Is", &why, &reason)) return NULL;
    if (!c) Py_RETURN_NONE;
    save = py_leave();
    core_exit_intended(c, why, reason);
    py_enter(save);
    Py_RETURN_NONE;
}

/* _adopt_orphans(): what the children of this process leave behind becomes its own child. */
PyObject *py_adopt_orphans(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

/* _child_setup(pid of the zygote): this process ends with it, and what it starts with it (its
 * process group is killed by the raylet, or by the zygote when the raylet is gone). */
PyObject *py_child_setup(PyObject *module, PyObject *parent) {
    long pid = PyLong_AsLong(parent);

    (void)module;
    if (pid == -1 && PyErr_Occurred()) return NULL;
    if (setpgid(0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    if (getppid() != (pid_t)pid) _exit(1); /* it ended before the line above */
    Py_RETURN_NONE;
}
