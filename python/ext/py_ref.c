/* py_ref.c - ObjectRef and ActorID: 16-byte ids whose lifetime is the lifetime of a count.
 *
 * Creation and destruction are the only places that touch counts; destruction never blocks. A ref
 * that is pickled records itself with the value being made on this thread; outside of that (by
 * hand, "out-of-band") one count is given up for good, so that the copy finds the object alive, and
 * the copy carries where it belongs: unpickled before its process is in that cluster, as in the
 * closure of a UDF, it waits, and is bound when it is first used there.
 * At the border ids have Ray's lengths: object 28, task 24, actor 16, job 4. */
#include "py.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static int id_from(PyObject *bytes, struct skate_id *ret);
static PyObject *ref_nil(PyObject *type, PyObject *unused);

static struct py_ref *as_ref(PyObject *o) { return (struct py_ref *)(void *)o; }

PyObject *py_ref_new(PyTypeObject *type, const struct skate_id *id, bool add) {
    struct py_ref *r = PyObject_New(struct py_ref, type);

    if (!r) {
        if (!add && py.core) core_ref_drop(py.core, id);
        return NULL;
    }
    r->id = *id;
    r->epoch = py.core ? py.epoch : 0;
    r->counted = py.core != NULL;
    if (add && py.core) core_ref_add(py.core, id);
    return (PyObject *)r;
}

/* One that came out of a value or an argument. */
PyObject *py_ref_read(const struct skate_id *id) {
    PyObject *ref = py_ref_new(py.ref_type, id, true);

    if (ref && py.core && py.note_sites) py_note_site(id, "deserialize");
    return ref;
}

void py_ref_dealloc(PyObject *self) {
    struct py_ref *r = as_ref(self);
    PyTypeObject *type = Py_TYPE(self);

    if (r->counted && py.core && r->epoch == py.epoch) core_ref_drop(py.core, &r->id);
    PyObject_Free(self);
    Py_DECREF(type);
}

/* ---- carried: made before this process was in the cluster that they belong to ---- */

/* In place of the epoch: these bits, and the port of the cluster's GCS (its host may have several
 * names). Never the number of a session. */
#define CARRIED (UINT64_C(1) << 63)

static char carried[96]; /* the cluster of the last one that was unpickled so; "": none was */
static uint32_t carried_job;

static bool is_carried(const struct py_ref *r) { return r->epoch & CARRIED; }

static uint64_t carried_to(const char *address) {
    const char *colon = strrchr(address, ':');

    return CARRIED | (colon ? strtoul(colon + 1, NULL, 10) & 0xffff : 0);
}

static void bind(struct py_ref *r) {
    if (!py.core || r->epoch != carried_to(core_get_info(py.core)->gcs_address)) return;
    core_ref_add(py.core, &r->id);
    r->counted = true;
    r->epoch = py.epoch;
}

/* carry(address, job): what the last carried ref said; "" forgets it. */
static PyObject *mod_carry(PyObject *module, PyObject *args) {
    const char *address;
    unsigned job;

    (void)module;
    if (!PyArg_ParseTuple(args, "sI", &address, &job)) return NULL;
    (void)snprintf(carried, sizeof carried, "%s", address);
    carried_job = job;
    Py_RETURN_NONE;
}

static PyObject *mod_carried(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    if (!carried[0]) Py_RETURN_NONE;
    return Py_BuildValue("(sI)", carried, (unsigned)carried_job);
}

/* _ref_carried(bytes, is_ref, address, job): the copy, at home or waiting. */
static PyObject *mod_ref_carried(PyObject *module, PyObject *args) {
    PyObject *bytes, *rest, *out;
    const char *address;
    struct skate_id id;
    unsigned job;
    int is_ref;

    (void)module;
    if (!PyArg_ParseTuple(args, "OpsI", &bytes, &is_ref, &address, &job)) return NULL;
    if (id_from(bytes, &id) < 0) return NULL;
    rest = Py_BuildValue("(sI)", address, job);
    out = rest ? mod_carry(NULL, rest) : NULL;
    Py_XDECREF(rest);
    if (!out) return NULL;
    Py_DECREF(out);
    out = ref_nil((PyObject *)(is_ref ? py.ref_type : py.actor_type), NULL);
    if (!out) return NULL;
    as_ref(out)->id = id;
    as_ref(out)->epoch = carried_to(address);
    /* Of another job it waits, too: this session may be over, and be replaced before it is used. */
    if (py.core && core_get_info(py.core)->job == job) bind(as_ref(out));
    if (as_ref(out)->counted && is_ref && py.note_sites) py_note_site(&id, "deserialize");
    return out;
}

static PyObject *reduce_carried(const struct py_ref *r) {
    PyObject *module = PyImport_ImportModule("skate._core"), *make;
    const struct core_info *i = py.core && r->counted ? core_get_info(py.core) : NULL;

    if (!i && carried_to(carried) != r->epoch) { /* another one came after it */
        Py_XDECREF(module);
        PyErr_SetString(PyExc_ValueError,
                        "this ref was unpickled outside of its cluster, and cannot be pickled "
                        "again here: call skate.util.spark.attach() or init() first");
        return NULL;
    }
    make = module ? PyObject_GetAttrString(module, "_ref_carried") : NULL;
    Py_XDECREF(module);
    if (!make) return NULL;
    return Py_BuildValue("N(y#OsI)", make, (const char *)&r->id, (Py_ssize_t)16,
                         py_is_ref((PyObject *)(uintptr_t)r) ? Py_True : Py_False,
                         i ? i->gcs_address : carried,
                         (unsigned)(i ? i->job : carried_job));
}

static PyObject *ref_is_carried(PyObject *self, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(is_carried(as_ref(self)));
}

int py_ref_check(PyObject *ref) {
    if (is_carried(as_ref(ref))) bind(as_ref(ref));
    if (as_ref(ref)->epoch == py.epoch && py.core) return 0;
    if (is_carried(as_ref(ref))) {
        PyErr_Format(PyExc_ValueError,
                     "this ref belongs to the cluster whose head has port %u, and this process %s: "
                     "call skate.util.spark.attach() in a UDF, or init() with that address",
                     (unsigned)(as_ref(ref)->epoch & 0xffff),
                     py.core ? "is in another one" : "is in none");
        return -1;
    }
    PyErr_SetString(PyExc_ValueError,
                    py.forked ? "this process was forked from one that uses Skate: its refs "
                                "cannot be used here"
                              : "this ref belongs to a Skate session that has ended; refs cannot "
                                "be used across shutdown() and init()");
    return -1;
}

/* _check(): ValueError when the id belongs to a session that has ended. */
static PyObject *ref_check(PyObject *self, PyObject *unused) {
    (void)unused;
    if (py_ref_check(self) < 0) return NULL;
    Py_RETURN_NONE;
}

void py_task_bytes(const struct skate_id *id, uint8_t out[24]) {
    struct skate_id task = id_with_index(*id, SKATE_INDEX_TASK);
    uint32_t job = py.core ? core_get_info(py.core)->job : 0;

    memset(out, 0, 24);
    if (id_is_nil(id)) {
        memset(out, 0xff, 24);
        return;
    }
    memcpy(out, &task, 16);
    memcpy(out + 20, &job, 4);
}

static void object_bytes(const struct skate_id *id, uint8_t out[28]) {
    uint32_t index = id_index(id);

    py_task_bytes(id, out);
    if (id_is_nil(id))
        memset(out + 24, 0xff, 4);
    else
        memcpy(out + 24, &index, 4);
}

/* Ray's bytes of either type into out; their number. */
static Py_ssize_t border(PyObject *self, uint8_t out[28]) {
    if (py_is_ref(self)) {
        object_bytes(&as_ref(self)->id, out);
        return 28;
    }
    if (id_is_nil(&as_ref(self)->id))
        memset(out, 0xff, 16);
    else
        memcpy(out, &as_ref(self)->id, 16);
    return 16;
}

static PyObject *ref_binary(PyObject *self, PyObject *unused) {
    uint8_t b[28];
    Py_ssize_t n = border(self, b);

    (void)unused;
    return PyBytes_FromStringAndSize((char *)b, n);
}

static void to_hex(const uint8_t *b, Py_ssize_t n, char *out) {
    for (Py_ssize_t i = 0; i < n; i++) {
        out[2 * i] = "0123456789abcdef"[b[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[b[i] & 15];
    }
    out[2 * n] = 0;
}

static PyObject *ref_hex(PyObject *self, PyObject *unused) {
    uint8_t b[28];
    char text[57];

    (void)unused;
    to_hex(b, border(self, b), text);
    return PyUnicode_FromString(text);
}

static PyObject *ref_repr(PyObject *self) {
    uint8_t b[28];
    char text[57];

    to_hex(b, border(self, b), text);
    return PyUnicode_FromFormat("%s(%s)", py_is_ref(self) ? "ObjectRef" : "ActorID", text);
}

static PyObject *ref_is_nil(PyObject *self, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(id_is_nil(&as_ref(self)->id));
}

static PyObject *ref_size(PyObject *type, PyObject *unused) {
    (void)unused;
    return PyLong_FromLong((PyTypeObject *)(void *)type == py.ref_type ? 28 : 16);
}

static PyObject *ref_nil(PyObject *type, PyObject *unused) {
    struct skate_id nil = {0, 0};
    struct py_ref *r = PyObject_New(struct py_ref, (PyTypeObject *)(void *)type);

    (void)unused;
    if (!r) return NULL;
    r->id = nil;
    r->epoch = 0;
    r->counted = false;
    return (PyObject *)r;
}

static PyObject *ref_task_id(PyObject *self, PyObject *unused) {
    PyObject *make = py_hook(HOOK_TASK_ID);
    uint8_t b[24];

    (void)unused;
    if (!make) return NULL;
    py_task_bytes(&as_ref(self)->id, b);
    return PyObject_CallFunction(make, "y#", (char *)b, (Py_ssize_t)24);
}

static PyObject *ref_job_id(PyObject *self, PyObject *unused) {
    PyObject *make = py_hook(HOOK_JOB_ID);
    uint32_t job = py.core ? core_get_info(py.core)->job : 0;

    (void)unused;
    (void)self;
    if (!make) return NULL;
    return PyObject_CallFunction(make, "y#", (char *)&job, (Py_ssize_t)4);
}

static PyObject *ref_owner(PyObject *self, PyObject *unused) {
    (void)unused;
    return PyBytes_FromStringAndSize((char *)&as_ref(self)->id.owner, 8);
}

void py_note_site(const struct skate_id *id, const char *what) {
    PyObject *type, *error, *trace, *hook, *text = NULL;
    const char *utf8 = NULL;
    Py_ssize_t n;

    PyErr_Fetch(&type, &error, &trace);
    hook = py_hook(HOOK_SITE);
    if (hook) text = PyObject_CallFunction(hook, "s", what);
    if (text) utf8 = PyUnicode_AsUTF8AndSize(text, &n);
    if (utf8 && py.core) core_note_site(py.core, id, utf8);
    Py_XDECREF(text);
    PyErr_Clear(); /* a note is not worth an error */
    PyErr_Restore(type, error, trace);
}

static PyObject *ref_call_site(PyObject *self, PyObject *unused) {
    char text[CORE_SITE_BYTES] = "";

    (void)unused;
    if (py.core && py.note_sites) core_site(py.core, &as_ref(self)->id, text);
    return PyUnicode_FromString(text);
}

/* The id itself, 16 bytes: for pickles and control frames. */
static PyObject *ref_raw(PyObject *self, PyObject *unused) {
    (void)unused;
    return PyBytes_FromStringAndSize((char *)&as_ref(self)->id, 16);
}

static PyObject *ref_reduce(PyObject *self, PyObject *unused) {
    struct py_ref *r = as_ref(self);
    PyObject *module, *make, *out;

    (void)unused;
    if (is_carried(r)) bind(r);
    if (is_carried(r)) return reduce_carried(r);
    if (r->counted && !id_is_nil(&r->id)) {
        if (py_ref_check(self) < 0) return NULL;
        if (!py_collect(self)) {
            core_ref_add(py.core, &r->id);
            return reduce_carried(r);
        }
    }
    if (PyErr_Occurred()) return NULL;
    module = PyImport_ImportModule("skate._core");
    if (!module) return NULL;
    make = PyObject_GetAttrString(module,
                                  py_is_ref(self) ? "_ref_from_bytes" : "_actor_from_bytes");
    Py_DECREF(module);
    if (!make) return NULL;
    if (py_is_ref(self))
        out = Py_BuildValue("N(y#)", make, (char *)&r->id, (Py_ssize_t)16);
    else
        out = Py_BuildValue("N(y#O)", make, (char *)&r->id, (Py_ssize_t)16,
                            r->counted ? Py_True : Py_False);
    return out;
}

static int id_from(PyObject *bytes, struct skate_id *ret) {
    char *p;
    Py_ssize_t n;

    if (PyBytes_AsStringAndSize(bytes, &p, &n) < 0) return -1;
    if (n != 16) return PyErr_SetString(PyExc_ValueError, "an id has 16 bytes"), -1;
    memcpy(ret, p, 16);
    return 0;
}

PyObject *py_ref_from_bytes(PyObject *module, PyObject *arg) {
    struct skate_id id;

    (void)module;
    if (id_from(arg, &id) < 0) return NULL;
    if (id_is_nil(&id)) return ref_nil((PyObject *)py.ref_type, NULL);
    return py_ref_read(&id);
}

PyObject *py_actor_from_bytes(PyObject *module, PyObject *args) {
    struct skate_id id;
    PyObject *bytes, *out;
    int counted;

    (void)module;
    if (!PyArg_ParseTuple(args, "Op", &bytes, &counted) || id_from(bytes, &id) < 0) return NULL;
    if (counted) return py_ref_new(py.actor_type, &id, true);
    out = ref_nil((PyObject *)py.actor_type, NULL);
    if (!out) return NULL;
    as_ref(out)->id = id;
    as_ref(out)->epoch = py.core ? py.epoch : 0;
    return out;
}

static Py_hash_t ref_hash(PyObject *self) {
    Py_hash_t h = (Py_hash_t)id_hash(&as_ref(self)->id);

    return h == -1 ? -2 : h;
}

static PyObject *ref_compare(PyObject *a, PyObject *b, int op) {
    bool equal;

    if (Py_TYPE(a) != Py_TYPE(b) || (op != Py_EQ && op != Py_NE)) Py_RETURN_NOTIMPLEMENTED;
    equal = id_equal(&as_ref(a)->id, &as_ref(b)->id);
    return PyBool_FromLong(op == Py_EQ ? equal : !equal);
}

static PyObject *ref_future(PyObject *self, PyObject *unused) {
    PyObject *make = py_ref_check(self) < 0 ? NULL : py_hook(HOOK_FUTURE);

    (void)unused;
    return make ? PyObject_CallFunctionObjArgs(make, self, Py_False, NULL) : NULL;
}

static PyObject *ref_as_future(PyObject *self, PyObject *unused) {
    PyObject *make = py_ref_check(self) < 0 ? NULL : py_hook(HOOK_FUTURE);

    (void)unused;
    return make ? PyObject_CallFunctionObjArgs(make, self, Py_True, NULL) : NULL;
}

static PyObject *ref_on_completed(PyObject *self, PyObject *function) {
    PyObject *call = py_ref_check(self) < 0 ? NULL : py_hook(HOOK_COMPLETED);

    return call ? PyObject_CallFunctionObjArgs(call, self, function, NULL) : NULL;
}

static PyObject *ref_await(PyObject *self) {
    PyObject *future = ref_as_future(self, NULL), *out;

    if (!future) return NULL;
    out = PyObject_CallMethod(future, "__await__", NULL);
    Py_DECREF(future);
    return out;
}

static PyObject *ref_generic(PyObject *type, PyObject *item) {
    (void)item;
    Py_INCREF(type);
    return type;
}

/* ---- ids made by hand, from the bytes that binary() gave ---- */

static PyObject *make_from(PyObject *type, PyObject *bytes) {
    bool is_ref = (PyTypeObject *)(void *)type == py.ref_type;
    Py_ssize_t want = is_ref ? 28 : 16, n;
    struct skate_id id;
    PyObject *out;
    uint32_t index;
    char *p;

    if (!PyBytes_Check(bytes))
        return PyErr_Format(PyExc_TypeError, "an id is made of bytes, not %R", Py_TYPE(bytes));
    if (PyBytes_AsStringAndSize(bytes, &p, &n) < 0) return NULL;
    if (n != want)
        return PyErr_Format(PyExc_ValueError, "this id has %zd bytes, not %zd", want, n);
    out = ref_nil(type, NULL);
    if (!out || memcmp(p, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 15) == 0)
        return out;
    memcpy(&id, p, 16);
    if (is_ref) {
        memcpy(&index, p + 24, 4);
        id = id_with_index(id, index & 0xffff);
    }
    as_ref(out)->id = id;
    as_ref(out)->epoch = py.core ? py.epoch : 0;
    if (is_ref && py.core) { /* a copy of a ref keeps the object, as a pickled one does */
        core_ref_add(py.core, &id);
        as_ref(out)->counted = true;
    }
    return out;
}

static PyObject *ref_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *bytes;

    if (kwargs && PyDict_Size(kwargs))
        return PyErr_SetString(PyExc_TypeError, "an id takes its bytes only"), NULL;
    if (!PyArg_ParseTuple(args, "O", &bytes)) return NULL;
    return make_from((PyObject *)type, bytes);
}

static PyObject *ref_from_random(PyObject *type, PyObject *unused) {
    uint8_t b[16];
    PyObject *out = ref_nil(type, NULL);

    (void)unused;
    if (out && getrandom(b, sizeof b, 0) == (ssize_t)sizeof b) {
        memcpy(&as_ref(out)->id, b, sizeof b); /* names nothing: it is not counted */
        as_ref(out)->epoch = py.core ? py.epoch : 0;
    }
    return out;
}

static PyObject *ref_from_hex(PyObject *type, PyObject *text) {
    PyObject *bytes, *out;

    if ((PyTypeObject *)(void *)type == py.ref_type)
        return PyErr_SetString(PyExc_NotImplementedError,
                               "a ref cannot be made of text; pickle it, or pass it to a task"),
               NULL;
    bytes = PyObject_CallMethod((PyObject *)&PyBytes_Type, "fromhex", "O", text);
    out = bytes ? make_from(type, bytes) : NULL;
    Py_XDECREF(bytes);
    return out;
}

static PyMethodDef ref_methods[] = {
    {"binary", ref_binary, METH_NOARGS, "The bytes of the id."},
    {"hex", ref_hex, METH_NOARGS, "The id as hexadecimal text."},
    {"is_nil", ref_is_nil, METH_NOARGS, "Is it the id of nothing?"},
    {"task_id", ref_task_id, METH_NOARGS, "The id of the task that makes the object."},
    {"job_id", ref_job_id, METH_NOARGS, "The id of the job."},
    {"owner_address", ref_owner, METH_NOARGS, "The process that owns the object."},
    {"call_site", ref_call_site, METH_NOARGS, "Where it was made, if noted."},
    {"future", ref_future, METH_NOARGS, "A concurrent.futures.Future of the value."},
    {"as_future", ref_as_future, METH_NOARGS, "An asyncio.Future of the value."},
    {"_on_completed", ref_on_completed, METH_O, "Call a function with the value, or the error."},
    {"nil", ref_nil, METH_NOARGS | METH_CLASS, "The id of nothing."},
    {"size", ref_size, METH_NOARGS | METH_CLASS, "Bytes of an id."},
    {"from_binary", make_from, METH_O | METH_CLASS, "From what binary() gave."},
    {"from_hex", ref_from_hex, METH_O | METH_CLASS, "From what hex() gave."},
    {"from_random", ref_from_random, METH_NOARGS | METH_CLASS, "An id that names nothing."},
    {"_raw", ref_raw, METH_NOARGS, NULL},
    {"__reduce__", ref_reduce, METH_NOARGS, NULL},
    {"__class_getitem__", ref_generic, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef actor_methods[] = {
    {"binary", ref_binary, METH_NOARGS, "The bytes of the id."},
    {"hex", ref_hex, METH_NOARGS, "The id as hexadecimal text."},
    {"is_nil", ref_is_nil, METH_NOARGS, "Is it the id of nothing?"},
    {"job_id", ref_job_id, METH_NOARGS, "The id of the job."},
    {"nil", ref_nil, METH_NOARGS | METH_CLASS, "The id of nothing."},
    {"size", ref_size, METH_NOARGS | METH_CLASS, "Bytes of an id."},
    {"from_binary", make_from, METH_O | METH_CLASS, "From what binary() gave."},
    {"from_hex", ref_from_hex, METH_O | METH_CLASS, "From what hex() gave."},
    {"from_random", ref_from_random, METH_NOARGS | METH_CLASS, "An id that names nothing."},
    {"_check", ref_check, METH_NOARGS, NULL},
    {"_is_carried", ref_is_carried, METH_NOARGS, NULL},
    {"_raw", ref_raw, METH_NOARGS, NULL},
    {"__reduce__", ref_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot ref_slots[] = {
    {Py_tp_dealloc, py_ref_dealloc},   {Py_tp_repr, ref_repr},       {Py_tp_hash, ref_hash},
    {Py_tp_methods, ref_methods},   {Py_am_await, ref_await},     {Py_tp_richcompare, ref_compare},
    {Py_tp_new, ref_new},
    {Py_tp_doc, "A promise of a value: the result of a task, or what put() stored."},
    {0, NULL},
};
static PyType_Slot actor_slots[] = {
    {Py_tp_dealloc, py_ref_dealloc},   {Py_tp_repr, ref_repr}, {Py_tp_hash, ref_hash},
    {Py_tp_methods, actor_methods}, {Py_tp_richcompare, ref_compare},
    {Py_tp_new, ref_new},
    {Py_tp_doc, "The id of an actor; a counted one keeps it alive."},
    {0, NULL},
};
static PyType_Spec ref_spec = {
    .name = "skate.ObjectRef",
    .basicsize = sizeof(struct py_ref),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = ref_slots,
};
static PyType_Spec actor_spec = {
    .name = "skate.ActorID",
    .basicsize = sizeof(struct py_ref),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = actor_slots,
};

static PyMethodDef functions[] = {
    {"_ref_carried", mod_ref_carried, METH_VARARGS, NULL},
    {"carry", mod_carry, METH_VARARGS, NULL},
    {"carried", mod_carried, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

int py_ref_init(PyObject *module) {
    if (PyModule_AddFunctions(module, functions) < 0) return -1;
    py.ref_type = (PyTypeObject *)PyType_FromSpec(&ref_spec);
    py.actor_type = (PyTypeObject *)PyType_FromSpec(&actor_spec);
    if (!py.ref_type || !py.actor_type) return -1;
    if (PyModule_AddObjectRef(module, "ObjectRef", (PyObject *)py.ref_type) < 0) return -1;
    return PyModule_AddObjectRef(module, "ActorID", (PyObject *)py.actor_type);
}
