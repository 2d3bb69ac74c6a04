/* py_arrow.c - ArrowStream: a stored table for any library that knows Arrow's PyCapsule interface.
 *
 * What get() gives of a table where pyarrow is missing. Each stream that is asked for reads the
 * bytes where they lie, by src/arrow, and keeps them until its last array is released, on whatever
 * thread that happens. Any thread that holds the interpreter lock; never blocks. Tests:
 * tests/python/test_arrow_stream.py. */
#include "arrow/ipc.h"
#include "py.h"

#include <stdlib.h>

struct stream {
    PyObject_HEAD
    PyObject *bytes;
};

static PyObject *bytes_of(PyObject *self) { return ((struct stream *)(void *)self)->bytes; }

static void stream_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);

    Py_XDECREF(bytes_of(self));
    PyObject_Free(self);
    Py_DECREF(type);
}

/* ---- what the arrays of a stream keep ---- */

struct kept {
    struct arrow_hold hold;
    Py_buffer view;
};

/* The interpreter lock is not ours here: another library's thread may have released the array. */
static void kept_end(struct arrow_hold *hold) {
    struct kept *k = (struct kept *)(void *)hold;
    PyGILState_STATE state;

    if (!Py_IsInitialized()) return; /* the process is ending: nothing to give back to */
    state = PyGILState_Ensure();
    PyBuffer_Release(&k->view);
    PyGILState_Release(state);
    free(k);
}

static int open_stream(PyObject *bytes, struct ArrowArrayStream *ret) {
    struct skate_error err = {{0}};
    struct kept *k = calloc(1, sizeof *k);
    int r;

    if (!k) return PyErr_NoMemory(), -1;
    k->hold = (struct arrow_hold){.count = 1, .end = kept_end};
    if (PyObject_GetBuffer(bytes, &k->view, PyBUF_SIMPLE) < 0) return free(k), -1;
    r = arrow_decode_held(k->view.buf, (size_t)k->view.len, &k->hold, ret, &err);
    if (r == 0) return 0;
    arrow_hold_drop(&k->hold);
    PyErr_SetString(r == -SKATE_ENOMEM ? PyExc_MemoryError
                    : r == -SKATE_ETYPE ? PyExc_NotImplementedError : PyExc_ValueError,
                    err.text);
    return -1;
}

/* ---- capsules ---- */

static void stream_capsule_end(PyObject *capsule) {
    struct ArrowArrayStream *s = PyCapsule_GetPointer(capsule, "arrow_array_stream");

    if (s && s->release) s->release(s);
    free(s);
}

static void schema_capsule_end(PyObject *capsule) {
    struct ArrowSchema *s = PyCapsule_GetPointer(capsule, "arrow_schema");

    if (s && s->release) s->release(s);
    free(s);
}

/* __arrow_c_stream__(requested_schema=None): what is asked for is a wish, which is not granted. */
static PyObject *stream_capsule(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"requested_schema", NULL};
    struct ArrowArrayStream *s;
    PyObject *wish = NULL, *capsule;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O", names, &wish)) return NULL;
    s = calloc(1, sizeof *s);
    if (!s) return PyErr_NoMemory();
    if (open_stream(bytes_of(self), s) < 0) return free(s), NULL;
    capsule = PyCapsule_New(s, "arrow_array_stream", stream_capsule_end);
    if (!capsule) {
        s->release(s);
        free(s);
    }
    return capsule;
}

static PyObject *schema_capsule(PyObject *self, PyObject *unused) {
    struct ArrowSchema *schema = calloc(1, sizeof *schema);
    struct ArrowArrayStream s;
    PyObject *capsule = NULL;

    (void)unused;
    if (!schema) return PyErr_NoMemory();
    if (open_stream(bytes_of(self), &s) < 0) return free(schema), NULL;
    if (s.get_schema(&s, schema))
        PyErr_NoMemory();
    else
        capsule = PyCapsule_New(schema, "arrow_schema", schema_capsule_end);
    if (!capsule) {
        if (schema->release) schema->release(schema);
        free(schema);
    }
    s.release(&s);
    return capsule;
}

static PyObject *stream_repr(PyObject *self) {
    return PyUnicode_FromFormat("<skate ArrowStream of %zd bytes: a table for libraries with "
                                "__arrow_c_stream__; get() gives a pyarrow.Table when pyarrow is "
                                "installed>", PyObject_Size(bytes_of(self)));
}

/* ---- the type ---- */

static PyMethodDef stream_methods[] = {
    {"__arrow_c_stream__", (PyCFunction)(void (*)(void))stream_capsule,
     METH_VARARGS | METH_KEYWORDS, "A capsule with an ArrowArrayStream of the table."},
    {"__arrow_c_schema__", schema_capsule, METH_NOARGS, "A capsule with its ArrowSchema."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot stream_slots[] = {
    {Py_tp_dealloc, stream_dealloc},
    {Py_tp_repr, stream_repr},
    {Py_tp_methods, stream_methods},
    {Py_tp_doc, "A stored table, for libraries that know Arrow's PyCapsule interface."},
    {0, NULL},
};
static PyType_Spec stream_spec = {
    .name = "skate._core.ArrowStream",
    .basicsize = sizeof(struct stream),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = stream_slots,
};

/* arrow_stream(bytes): an ArrowStream. ValueError when they are none, NotImplementedError for a
 * type that src/arrow does not carry. */
PyObject *py_arrow_stream(PyObject *module, PyObject *bytes) {
    static PyTypeObject *type;
    struct ArrowArrayStream s;
    struct stream *made;

    (void)module;
    if (!type) type = (PyTypeObject *)PyType_FromSpec(&stream_spec);
    if (!type || open_stream(bytes, &s) < 0) return NULL;
    s.release(&s); /* it was to be seen that it can be read */
    made = PyObject_New(struct stream, type);
    if (!made) return NULL;
    made->bytes = Py_NewRef(bytes);
    return (PyObject *)made;
}
