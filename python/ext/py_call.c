/* py_call.c - `.remote()`: the type Call, which both remote functions and actor methods extend.
 *
 * A Call holds everything about a call that does not change: function key or actor and method,
 * scheduling class, number of returns, retries, how many positional arguments fit. `.remote()`
 * with fitting positional arguments runs no Python code; anything odd (keywords, defaults that are
 * missing, another session) is asked of the subclass: `_prepare()` fills the fields for this
 * session, `_check(count, keywords)` raises TypeError. */
#include "py_stream.h"

#include <stdlib.h>
#include <string.h>

struct call {
    PyObject_HEAD
    uint64_t epoch, fn;
    uint32_t cls, returns, flags;
    int32_t retries;
    Py_ssize_t min_args, max_args;
    PyObject *name, *method; /* bytes; method NULL for a task */
    PyObject *actor;         /* ActorID, or NULL */
    bool plain;              /* of another language: arguments without a pickle */
};

static struct call *as_call(PyObject *o) { return (struct call *)(void *)o; }

static void call_dealloc(PyObject *self) {
    struct call *c = as_call(self);
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    Py_XDECREF(c->name);
    Py_XDECREF(c->method);
    Py_XDECREF(c->actor);
    release(self);
    Py_DECREF(type);
}

static void replace(PyObject **place, PyObject *o) {
    PyObject *old = *place;

    Py_XINCREF(o);
    *place = o;
    Py_XDECREF(old);
}

/* _set(fn, cls, returns, retries, flags, name, method or None, actor or None, min, max, plain) */
static PyObject *call_set(PyObject *self, PyObject *args) {
    struct call *c = as_call(self);
    unsigned long long fn;
    unsigned cls, returns, flags;
    int retries, plain = 0;
    Py_ssize_t min, max;
    PyObject *name, *method, *actor;

    if (!PyArg_ParseTuple(args, "KIIiISOOnn|p", &fn, &cls, &returns, &retries, &flags,
                          &name, &method, &actor, &min, &max, &plain))
        return NULL;
    if ((method != Py_None && !PyBytes_Check(method)) ||
        (actor != Py_None && Py_TYPE(actor) != py.actor_type))
        return PyErr_SetString(PyExc_TypeError, "method: bytes; actor: ActorID"), NULL;
    c->fn = fn;
    c->cls = cls;
    c->returns = returns;
    c->retries = retries;
    c->flags = flags;
    c->min_args = min;
    c->max_args = max;
    c->plain = plain;
    replace(&c->name, name);
    replace(&c->method, method == Py_None ? NULL : method);
    replace(&c->actor, actor == Py_None ? NULL : actor);
    c->epoch = py.core ? py.epoch : 0;
    Py_RETURN_NONE;
}

static int ask_check(PyObject *self, Py_ssize_t count, PyObject *kwnames) {
    PyObject *r = kwnames ? PyObject_CallMethod(self, "_check", "nO", count, kwnames)
                          : PyObject_CallMethod(self, "_check", "nO", count, py.empty_tuple);

    if (!r) return -1;
    Py_DECREF(r);
    return 0;
}

static int make_ready(PyObject *self) {
    struct call *c = as_call(self);
    PyObject *r;

    if (py_need_core() < 0) return -1;
    if (c->epoch == py.epoch) return 0;
    r = PyObject_CallMethod(self, "_prepare", NULL);
    if (!r) return -1;
    Py_DECREF(r);
    if (c->epoch == py.epoch && py.core) return 0;
    PyErr_SetString(PyExc_RuntimeError, "_prepare() did not prepare");
    return -1;
}

static int submit(struct core_task *t, struct skate_id *ret_task) {
    bool large = t->args.part_count > 2;
    int r;

    for (uint32_t i = 0; i < t->args.part_count; i++) large |= t->args.parts[i].size > 65536;
    for (;;) {
        struct skate_error err = {{0}};
        struct core *c = py.core; /* pickling may have ended the session, and a signal's handler */
        PyThreadState *save;

        if (!c) return py_fail(SKATE_ESHUTDOWN, NULL), -1;
        if (large) {
            save = py_leave();
            r = core_submit(c, t, ret_task, &err);
            py_enter(save);
        } else {
            r = core_submit(c, t, ret_task, &err);
        }
        r = py_room(c, r, &err);
        if (r == -SKATE_EINTR) {
            if (PyErr_CheckSignals() < 0) return -1;
            continue;
        }
        if (r < 0) return py_fail(r, err.text), -1;
        return 0;
    }
}

static PyObject *results(const struct skate_id *task, uint32_t returns) {
    PyObject *list;
    struct skate_id id;

    if (returns == 0) Py_RETURN_NONE;
    if (returns == 1) {
        id = id_with_index(*task, 1);
        if (py.note_sites) py_note_site(&id, "task call");
        return py_ref_new(py.ref_type, &id, false);
    }
    list = PyList_New((Py_ssize_t)returns);
    for (uint32_t i = 0; list && i < returns; i++) {
        PyObject *ref;

        id = id_with_index(*task, i + 1);
        if (py.note_sites) py_note_site(&id, "task call");
        ref = py_ref_new(py.ref_type, &id, false);
        if (!ref || PyList_SetItem(list, (Py_ssize_t)i, ref) < 0) Py_CLEAR(list);
    }
    return list;
}

/* A TypeError of the encoder is raised again with the name of what was called. */
static void name_the_call(PyObject *self) {
    PyObject *type, *error, *traceback, *r;

    if (!PyErr_ExceptionMatches(PyExc_TypeError)) return;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    r = PyObject_CallMethod(self, "_refuse", "O", error); /* raises */
    Py_XDECREF(r);
    if (!PyErr_Occurred()) {
        PyErr_Restore(type, error, traceback);
        return;
    }
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
}

/* Arguments that are not plain, of a call into another language: as _convert() gives them. */
static PyObject *call_converted(PyObject *self, const struct py_args *a);

/* All given: args has count positional values, then one for each of kwnames. */
static PyObject *do_call(struct call *c, PyObject *const *args, Py_ssize_t count,
                         PyObject *kwnames) {
    Py_ssize_t all = count + (kwnames ? PyTuple_Size(kwnames) : 0);
    uint8_t scratch[PY_SCRATCH];
    struct skate_id deps_fixed[16], *deps = deps_fixed, task;
    struct py_args a = {args, count, kwnames, deps, 0, c->plain};
    struct core_task t = {.fn = c->fn, .cls = c->cls, .returns = c->returns,
                          .retries = c->retries, .flags = c->flags};
    struct py_value pv;
    PyObject *out = NULL;
    int r;

    if (all > 16) {
        a.deps = deps = malloc((size_t)all * sizeof *deps);
        if (!deps) return PyErr_NoMemory();
    }
    py_value_init(&pv, scratch, sizeof scratch);
    r = py_encode_args(&pv, &a);
    if (r) {
        if (r > 0) out = call_converted((PyObject *)(void *)c, &a);
        else name_the_call((PyObject *)(void *)c);
        goto out;
    }
    t.name = PyBytes_AsString(c->name);
    t.method = c->method ? PyBytes_AsString(c->method) : NULL;
    if (c->actor) t.actor = ((struct py_ref *)(void *)c->actor)->id;
    t.args = pv.v;
    t.deps = a.deps;
    t.dep_count = a.dep_count;
    if (!py.core) {
        py_fail(SKATE_ESHUTDOWN, NULL);
        goto out;
    }
    if (py.several) py_job_parent(&t.parent);
    if (submit(&t, &task) == 0)
        out = c->flags & CORE_STREAM ? py_stream_new(&task) : results(&task, c->returns);
out:
    py_value_release(&pv);
    if (deps != deps_fixed) free(deps);
    return out;
}

static PyObject *call_remote(PyObject *self, PyObject *const *args, Py_ssize_t count,
                             PyObject *kwnames) {
    struct call *c = as_call(self);

    if ((c->epoch != py.epoch || !py.core) && make_ready(self) < 0) return NULL;
    if (kwnames || count < c->min_args || count > c->max_args)
        if (ask_check(self, count, kwnames) < 0) return NULL;
    return do_call(c, args, count, kwnames);
}

/* _call(args, kwargs): what `.remote()` does, for callers that hold a tuple and a dict. */
static PyObject *call_apply(PyObject *self, PyObject *args) {
    PyObject *positional, *keywords, *all = NULL, *names = NULL, *out = NULL, *key, *value;
    PyObject **flat = NULL;
    Py_ssize_t n, pos = 0, i = 0;

    if (!PyArg_ParseTuple(args, "OO", &positional, &keywords)) return NULL;
    positional = PySequence_Tuple(positional);
    if (!positional) return NULL;
    n = PyTuple_Size(positional);
    if (PyDict_Check(keywords) && PyDict_Size(keywords)) {
        all = PyDict_Keys(keywords);
        names = all ? PyList_AsTuple(all) : NULL;
        if (!names) goto out;
    }
    flat = malloc(((size_t)n + (names ? (size_t)PyTuple_Size(names) : 0) + 1) * sizeof *flat);
    if (!flat) {
        PyErr_NoMemory();
        goto out;
    }
    for (; i < n; i++) flat[i] = PyTuple_GetItem(positional, i);
    while (names && PyDict_Next(keywords, &pos, &key, &value)) flat[i++] = value;
    out = call_remote(self, flat, n, names);
out:
    free(flat);
    Py_XDECREF(names);
    Py_XDECREF(all);
    Py_DECREF(positional);
    return out;
}

static PyObject *call_converted(PyObject *self, const struct py_args *a) {
    static _Thread_local bool inside;
    Py_ssize_t nkw = a->kwnames ? PyTuple_Size(a->kwnames) : 0;
    PyObject *args = PyTuple_New(a->count), *kwargs = PyDict_New(), *pair = NULL, *out = NULL;
    bool bad = !args || !kwargs;

    if (inside) {
        PyErr_SetString(PyExc_TypeError, "an argument has no plain form");
        bad = true;
    }
    for (Py_ssize_t i = 0; !bad && i < a->count; i++)
        bad = PyTuple_SetItem(args, i, Py_NewRef(a->args[i])) < 0;
    for (Py_ssize_t i = 0; !bad && i < nkw; i++)
        bad = PyDict_SetItem(kwargs, PyTuple_GetItem(a->kwnames, i), a->args[a->count + i]) < 0;
    if (!bad) pair = PyObject_CallMethod(self, "_convert", "OO", args, kwargs);
    inside = true;
    if (pair) out = call_apply(self, pair);
    inside = false;
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    Py_XDECREF(pair);
    return out;
}

static PyMethodDef call_methods[] = {
    {"remote", (PyCFunction)(void (*)(void))call_remote, METH_FASTCALL | METH_KEYWORDS,
     "Call it elsewhere; returns at once with the ref (or refs) of the result."},
    {"_set", call_set, METH_VARARGS, NULL},
    {"_call", call_apply, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot call_slots[] = {
    {Py_tp_dealloc, call_dealloc},
    {Py_tp_methods, call_methods},
    {Py_tp_doc, "What is fixed about a remote call."},
    {0, NULL},
};
static PyType_Spec call_spec = {
    .name = "skate._core.Call",
    .basicsize = sizeof(struct call),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = call_slots,
};

int py_call_init(PyObject *module) {
    py.call_type = (PyTypeObject *)PyType_FromSpec(&call_spec);
    if (!py.call_type) return -1;
    return PyModule_AddObjectRef(module, "Call", (PyObject *)py.call_type);
}

/* ---- what a call refers to ---- */

/* The key of a function: a hash of its bytes; when it has buffers too, one of its own. */
static uint64_t key_of(const struct py_value *pv) {
    static uint64_t counter;
    uint64_t key = core_get_info(py.core)->proc * UINT64_C(0x9e3779b97f4a7c15);

    if (pv->pickle && pv->view_count == 0)
        key ^= (uint64_t)PyObject_Hash(pv->pickle);
    else if (pv->v.format == FORMAT_MSGPACK)
        for (size_t i = 0; i < pv->len; i++) key = (key ^ pv->out[i]) * UINT64_C(0x100000001b3);
    else
        key += ++counter;
    return key ? key : 1;
}

/* define(name, object) -> key: make a function or class known to this session. */
PyObject *py_define(PyObject *module, PyObject *args) {
    struct skate_error err = {{0}};
    const char *name;
    PyObject *object;
    PyThreadState *save;
    struct py_value pv;
    struct core *c;
    uint64_t key;
    int r;

    (void)module;
    if (!PyArg_ParseTuple(args, "sO", &name, &object)) return NULL;
    if (py_need_core() < 0) return NULL;
    py_value_init(&pv, NULL, 0);
    if (py_encode(&pv, object) < 0) {
        py_value_release(&pv);
        return NULL;
    }
    if (!(c = py.core)) { /* pickling runs the user's code: it may have ended the session */
        py_value_release(&pv);
        return py_fail(SKATE_ESHUTDOWN, NULL);
    }
    key = key_of(&pv);
    do {
        save = py_leave();
        r = core_define(c, key, name, &pv.v, &err);
        py_enter(save);
        r = py_room(c, r, &err);
        if (r == -SKATE_EINTR && (PyErr_CheckSignals() < 0 || !(c = py.core))) break;
    } while (r == -SKATE_EINTR);
    py_value_release(&pv);
    if (PyErr_Occurred()) return NULL;
    if (r < 0) return py_fail(r, err.text);
    return PyLong_FromUnsignedLongLong(key);
}

/* A group's id as Python has it: 16 bytes, or none. */
static int group_of(struct core_bundle *place, const char *group, Py_ssize_t len) {
    if (len == 0) return 0;
    if (len != (Py_ssize_t)sizeof place->group) {
        PyErr_SetString(PyExc_ValueError, "the id of a placement group has 16 bytes here");
        return -1;
    }
    memcpy(&place->group, group, sizeof place->group);
    return 0;
}

/* scheduling_class(packed resources, strategy, node, name, packed runtime environment, group or
 *                  b"", bundle, capture, label selector) -> index */
PyObject *py_class(PyObject *module, PyObject *args) {
    struct core_class_opts o = {0};
    unsigned long long node;
    unsigned strategy;
    Py_ssize_t len, env_len, group_len = 0;
    const char *packed, *name, *env, *group = NULL;
    uint32_t index = 0;
    int r;

    (void)module;
    o.place.bundle = -1;
    if (!PyArg_ParseTuple(args, "y#IKsy#|y#iIs", &packed, &len, &strategy, &node, &name, &env,
                          &env_len, &group, &group_len, &o.place.bundle, &o.place.capture,
                          &o.labels))
        return NULL;
    if (group_of(&o.place, group, group_len) < 0) return NULL;
    if (py_need_core() < 0) return NULL;
    o.resources = packed;
    o.resources_len = (uint32_t)len;
    o.strategy = strategy;
    o.affinity = node;
    o.name = name;
    o.env = env;
    o.env_len = (uint32_t)env_len;
    r = core_class(py.core, &o, &index);
    if (r < 0) return py_fail(r, NULL);
    return PyLong_FromUnsignedLong(index);
}

static int create(struct core_actor *a, bool plain, PyObject *positional, PyObject *keywords,
                  struct skate_id *ret) {
    PyObject *names = PyList_New(0), *values = PySequence_List(positional), *tuple = NULL;
    PyObject *key, *value, **flat = NULL;
    Py_ssize_t pos = 0, n, all;
    struct skate_error err = {{0}};
    struct py_args args = {0};
    struct py_value pv;
    PyThreadState *save;
    int r = -1;

    py_value_init(&pv, NULL, 0);
    if (!names || !values) goto out;
    n = PyList_Size(values);
    while (PyDict_Next(keywords, &pos, &key, &value))
        if (PyList_Append(names, key) < 0 || PyList_Append(values, value) < 0) goto out;
    tuple = PyList_AsTuple(names);
    all = PyList_Size(values);
    flat = calloc((size_t)all + 1, sizeof *flat);
    args.deps = calloc((size_t)all + 1, sizeof *args.deps);
    if (!tuple || !flat || !args.deps) goto out;
    for (Py_ssize_t i = 0; i < all; i++) flat[i] = PyList_GetItem(values, i);
    args.args = flat;
    args.count = n;
    args.kwnames = tuple;
    args.plain = plain;
    if ((r = py_encode_args(&pv, &args)) != 0) {
        if (r > 0) PyErr_SetString(PyExc_TypeError, "an argument has no plain form");
        r = -1;
        goto out;
    }
    a->args = pv.v;
    a->deps = args.deps;
    a->dep_count = args.dep_count;
    do {
        struct core *c = py.core; /* pickling may have ended the session, and a signal's handler */

        r = -SKATE_ESHUTDOWN;
        if (!c) break;
        save = py_leave();
        r = core_actor_create(c, a, ret, &err);
        py_enter(save);
        r = py_room(c, r, &err);
        if (r == -SKATE_EINTR && PyErr_CheckSignals() < 0) break;
    } while (r == -SKATE_EINTR);
    if (r < 0) py_fail(r, err.text);
out:
    py_value_release(&pv);
    free(flat);
    free(args.deps);
    Py_XDECREF(names);
    Py_XDECREF(values);
    Py_XDECREF(tuple);
    if (r < 0 && !PyErr_Occurred()) PyErr_NoMemory();
    return r < 0 ? -1 : 0;
}

/* create_actor(class key, max_restarts, max_task_retries, detached, get_if_exists, concurrency,
 *              strategy, node, name, namespace, class name, held, placing, environment, args,
 *              kwargs, group or b"", bundle, capture, plain, label selector) */
PyObject *py_create_actor(PyObject *module, PyObject *args) {
    struct core_actor a = {0};
    struct skate_id id;
    unsigned long long fn, node;
    unsigned detached, exists, concurrency, strategy;
    Py_ssize_t held_len, placing_len, env_len, group_len = 0;
    PyObject *positional, *keywords;
    const char *group = NULL;
    int plain = 0;

    (void)module;
    a.place.bundle = -1;
    if (!PyArg_ParseTuple(args, "KiiIIIIKsssy#y#y#OO|y#iIps", &fn, &a.max_restarts,
                          &a.max_task_retries, &detached, &exists, &concurrency, &strategy, &node,
                          &a.name, &a.space, &a.cls, &a.held, &held_len, &a.placing, &placing_len,
                          &a.env, &env_len, &positional, &keywords, &group, &group_len,
                          &a.place.bundle, &a.place.capture, &plain, &a.labels))
        return NULL;
    if (group_of(&a.place, group, group_len) < 0) return NULL;
    if (py_need_core() < 0) return NULL;
    a.fn = fn;
    a.detached = detached;
    a.get_if_exists = exists;
    a.max_concurrency = concurrency;
    a.strategy = strategy;
    a.affinity = node;
    a.held_len = (uint32_t)held_len;
    a.placing_len = (uint32_t)placing_len;
    a.env_len = (uint32_t)env_len;
    if (!PyDict_Check(keywords)) return PyErr_SetString(PyExc_TypeError, "kwargs: dict"), NULL;
    if (create(&a, plain, positional, keywords, &id) < 0) return NULL;
    if (py.note_sites) py_note_site(&id, "actor creation");
    return py_ref_new(py.actor_type, &id, false);
}
