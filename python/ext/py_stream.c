/* py_stream.c - generators on both sides: the type Stream, from which the owner takes items, and
 * the loops by which a worker sends what a generator yields.
 *
 * A Stream is the handle of a generator task (its id; the count is given up with it). The public
 * face is skate._generator.ObjectRefGenerator. On the worker an exception of the generator becomes
 * its last item, unless the task wants to be run again after exceptions. Tests:
 * tests/compat/test_compat_generators.py, test_compat_streaming.py. */
#include "py_stream.h"

#include "core/items.h"

#include <stdlib.h>
#include <string.h>

/* ---- the owner's side ---- */

static const struct skate_id *stream_id(PyObject *self) {
    return &((struct py_ref *)(void *)self)->id;
}

/* The core's answer about the next item; -1 with an exception, which includes StopIteration. */
static int ask(PyObject *self, bool take, struct skate_id *ret) {
    int r;

    if (py_ref_check(self) < 0) return -1;
    r = core_stream_next(py.core, stream_id(self), take, ret);
    if (r == 0 || r == -SKATE_EAGAIN) return r == 0;
    if (r == -SKATE_ENOENT)
        PyErr_SetNone(PyExc_StopIteration);
    else
        py_fail(r, NULL);
    return -1;
}

/* take(timeout): the ref of the next item; None when the time is over; raises StopIteration. */
static PyObject *stream_take(PyObject *self, PyObject *timeout) {
    struct skate_id id;
    int r;

    for (;;) {
        r = ask(self, true, &id);
        if (r < 0) return NULL;
        if (r) return py_ref_new(py.ref_type, &id, false);
        r = py_wait_one(&id, timeout);
        if (r < 0) return NULL;
        if (r == 0) Py_RETURN_NONE;
    }
}

/* peek(): (is it there, the ref of the next item); raises StopIteration. */
static PyObject *stream_peek(PyObject *self, PyObject *unused) {
    struct skate_id id;
    PyObject *ref;
    int r = ask(self, false, &id);

    (void)unused;
    if (r < 0) return NULL;
    ref = py_ref_new(py.ref_type, &id, true);
    return ref ? Py_BuildValue("(ON)", r ? Py_True : Py_False, ref) : NULL;
}

static PyMethodDef stream_methods[] = {
    {"take", stream_take, METH_O, NULL},
    {"peek", stream_peek, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot stream_slots[] = {
    {Py_tp_dealloc, py_ref_dealloc},
    {Py_tp_methods, stream_methods},
    {Py_tp_doc, "The items of a generator task that are still to be taken."},
    {0, NULL},
};
static PyType_Spec stream_spec = {
    .name = "skate._core.Stream",
    .basicsize = sizeof(struct py_ref),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = stream_slots,
};

int py_stream_init(PyObject *module) {
    PyObject *types;

    py.stream_type = (PyTypeObject *)PyType_FromSpec(&stream_spec);
    types = PyImport_ImportModule("types");
    if (!py.stream_type || !types) return -1;
    py.generator_type = (PyTypeObject *)PyObject_GetAttrString(types, "GeneratorType");
    Py_DECREF(types);
    if (!py.generator_type) return -1;
    return PyModule_AddObjectRef(module, "Stream", (PyObject *)py.stream_type);
}

PyObject *py_stream_new(const struct skate_id *task) {
    struct skate_id first = id_with_index(*task, 1);
    PyObject *stream = py_ref_new(py.stream_type, task, false), *out = NULL;
    PyObject *ref = py_ref_new(py.ref_type, &first, false), *make = py_hook(HOOK_STREAM);

    if (stream && ref && make) out = PyObject_CallFunctionObjArgs(make, ref, stream, NULL);
    Py_XDECREF(stream);
    Py_XDECREF(ref);
    return out;
}

/* ---- the worker's side ---- */

static bool is_large(const struct py_value *pv) { return py_value_size(pv) > LIMIT_INLINE_VALUE; }

/* Until more may be produced; the task may be cancelled meanwhile. 0, or -1 with an exception. */
static int wait_turn(struct core_job *job) {
    PyThreadState *save;
    int r;

    py.in_task = true;
    do {
        struct core *c = py.core;

        if (!c) {
            r = -SKATE_ESHUTDOWN;
            break;
        }
        save = py_leave();
        r = core_yield_wait(c, job, -1);
        py_enter(save);
        if (PyErr_CheckSignals() < 0) r = -SKATE_EINVAL;
    } while (r == -SKATE_EINTR);
    py.in_task = false;
    return r < 0 ? (py_fail(r, NULL), -1) : 0;
}

/* Send one value: 0, 1 when it must wait for its turn before it produces more, -1 an exception.
 * *ret_id stays nil when nobody wants it. */
static int send_value(struct core_job *job, const struct py_value *pv, struct skate_id *ret_id) {
    struct skate_error err = {{0}};
    bool large = is_large(pv);
    PyThreadState *save;
    int r;

    do {
        struct core *c = py.core;

        if (!c) return py_fail(SKATE_ESHUTDOWN, NULL), -1;
        save = large ? py_leave() : NULL;
        r = core_yield(c, job, &pv->v, ret_id, &err);
        if (save) py_enter(save);
        if (r == -SKATE_EINTR && PyErr_CheckSignals() < 0) return -1;
    } while (r == -SKATE_EINTR);
    return r < 0 ? (py_fail(r, err.text), -1) : r;
}

int py_yield_one(struct core_job *job, PyObject *item, struct skate_id *ret_id) {
    uint8_t scratch[PY_SCRATCH];
    struct py_value pv;
    int r;

    py_value_init(&pv, scratch, sizeof scratch);
    pv.plain = py_answers_plainly(job);
    r = py_encode(&pv, item);
    if (r == 0) r = send_value(job, &pv, ret_id);
    py_value_release(&pv);
    return r;
}

/* The exception that is set, as an error value; it is cleared. -1 with another exception. */
static int encode_raised(struct py_value *pv) {
    PyObject *type, *error, *traceback;
    int r;

    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback) PyException_SetTraceback(error, traceback);
    r = py_encode_error(pv, error);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return r;
}

/* Is the exception that is set one for the whole task, not for an item? */
static bool is_for_task(const struct core_job *job) {
    PyObject *type, *error, *traceback;
    bool mine;

    if (PyErr_ExceptionMatches(PyExc_SystemExit)) return true;
    if (!(job->flags & CORE_RETRY_EXCEPTIONS)) return false;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    mine = !error || !PyObject_HasAttrString(error, "__skate_no_retry__");
    PyErr_Restore(type, error, traceback);
    return mine;
}

static int send_raised(struct core_job *job, struct skate_id *ret_id) {
    struct py_value pv;
    int r;

    py_value_init(&pv, NULL, 0);
    r = encode_raised(&pv);
    if (r == 0) r = send_value(job, &pv, ret_id);
    py_value_release(&pv);
    return r;
}

/* The refs of the items are the value of a task with num_returns="dynamic". */
static int keep_id(PyObject *refs, const struct skate_id *id) {
    PyObject *ref;
    int r;

    if (!refs || id_is_nil(id)) return 0;
    ref = py_ref_new(py.ref_type, id, true);
    r = ref ? PyList_Append(refs, ref) : -1;
    Py_XDECREF(ref);
    return r;
}

static int finish_with(struct core_job *job, PyObject *value) {
    struct py_value pv;
    int r;

    py_value_init(&pv, NULL, 0);
    r = py_encode(&pv, value);
    if (r == 0 && (r = core_yield_end(py.core, job)) < 0) py_fail(r, NULL);
    if (r == 0 && (r = py_job_finish(job, CORE_OK, &pv.v, 1)) < 0) py_job_failed(r);
    py_value_release(&pv);
    return r < 0 ? -1 : 0;
}

static int finish_dynamic(struct core_job *job, PyObject *refs) {
    PyObject *make = py_hook(HOOK_DYNAMIC), *value;
    int r;

    value = make ? PyObject_CallFunctionObjArgs(make, refs, NULL) : NULL;
    r = value ? finish_with(job, value) : -1;
    Py_XDECREF(value);
    return r;
}

int py_yield_stop(struct core_job *job) {
    struct skate_id id;

    if (PyErr_Occurred() && (is_for_task(job) || send_raised(job, &id) < 0)) return -1;
    return finish_with(job, Py_None);
}

int py_yield_all(struct core_job *job, PyObject *generator) {
    PyObject *refs = NULL, *item;
    int r = 0;

    if (!PyIter_Check(generator)) {
        PyErr_Format(PyExc_TypeError,
                     "a task with num_returns=\"%s\" must return a generator, not %R",
                     job->flags & CORE_DYNAMIC ? "dynamic" : "streaming", Py_TYPE(generator));
        return -1;
    }
    if (job->flags & CORE_DYNAMIC && !(refs = PyList_New(0))) return -1;
    while (r == 0) {
        struct skate_id id = {0, 0};

        py.in_task = true;
        item = PyIter_Next(generator);
        py.in_task = false;
        if (item) {
            r = py_yield_one(job, item, &id);
            Py_DECREF(item);
            if (r == 1) r = wait_turn(job);
        }
        if (PyErr_Occurred()) { /* of the generator, or of sending what it gave */
            r = is_for_task(job) ? -1 : send_raised(job, &id);
            if (r == 1) r = 0;
            item = NULL;
        }
        if (r == 0) r = keep_id(refs, &id);
        if (!item) break;
    }
    if (r == 0) r = refs ? finish_dynamic(job, refs) : finish_with(job, Py_None);
    Py_XDECREF(refs);
    return r;
}

/* Value i of a task with num_returns=n that gave a generator: the item, or why there is none. */
static int encode_next(struct py_value *pv, PyObject *generator, uint32_t i, uint32_t n) {
    PyObject *item;
    int r;

    py.in_task = true;
    item = PyIter_Next(generator);
    py.in_task = false;
    if (item) {
        r = py_encode(pv, item);
        Py_DECREF(item);
        return r;
    }
    if (!PyErr_Occurred())
        PyErr_Format(PyExc_ValueError, "the task has num_returns=%u, but its generator gave %u "
                                       "values", n, i);
    return -1;
}

int py_yield_fixed(struct core_job *job, PyObject *generator) {
    uint32_t n = job->returns, made = 0, good = 0;
    struct core_value *values = calloc(n, sizeof *values);
    struct py_value *pvs = calloc(n, sizeof *pvs);
    int r = values && pvs ? 0 : -1;

    if (r < 0) PyErr_NoMemory();
    while (r == 0 && good < n) {
        py_value_init(&pvs[made++], NULL, 0);
        pvs[good].plain = py_answers_plainly(job);
        r = encode_next(&pvs[good], generator, good, n);
        if (r == 0) values[good] = pvs[good].v, good++;
    }
    if (r < 0 && good && !is_for_task(job)) { /* the rest of the refs get the error */
        py_value_release(&pvs[good]);
        r = encode_raised(&pvs[good]);
        for (uint32_t i = good; r == 0 && i < n; i++) values[i] = pvs[good].v;
    }
    if (r == 0 && (r = py_job_finish(job, CORE_OK, values, n)) < 0) py_job_failed(r);
    while (pvs && made > 0) py_value_release(&pvs[--made]);
    free(pvs);
    free(values);
    return r < 0 ? -1 : 0;
}
