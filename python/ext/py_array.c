/* py_array.c - numpy arrays as tensors, and back, without a pickle and without Python code.
 *
 * An array of exactly the type numpy.ndarray, not empty, in C order, whose elements are numbers as
 * this machine has them, is a TENSOR: header {u32 dtype, u32 ndim, i64 shape[]} filled up to 64
 * bytes, then the elements. All else is skate._plain (for other languages) or pickle. numpy is
 * never imported here before a value needs it. Any thread that holds the interpreter lock. Tests:
 * tests/python/test_arrays.py. */
#include "py_array.h"

#include <stdlib.h>
#include <string.h>

/* Of enum skate_dtype those that numpy itself has: all but bfloat16, the last. */
enum { DTYPES = 15, DIMS_MAX = 16 };

/* As numpy spells enum skate_dtype. */
static const char *const names[DTYPES] = {"",   "u1", "i1", "u2", "i2", "u4", "i4", "u8",
                                          "i8", "f2", "f4", "f8", "?",  "c8", "c16"};
static const uint8_t sizes[DTYPES] = {0, 1, 1, 2, 2, 4, 4, 8, 8, 2, 4, 8, 1, 8, 16};
static PyObject *dtypes[DTYPES]; /* once they were asked for; there is one object for each */
static bool off;                 /* the user has a serializer of arrays */

/* Is numpy there? Its types are looked up once. `import`: load it if it is not. False: no, and no
 * exception is set. */
static bool know_numpy(bool import) {
    PyObject *module = NULL, *make = NULL, *type = NULL;

    if (py.array_type) return true;
    if (import) {
        module = PyImport_ImportModule("numpy");
    } else {
        module = PyDict_GetItemString(PyImport_GetModuleDict(), "numpy"); /* borrowed */
        Py_XINCREF(module);
    }
    make = module ? PyObject_GetAttrString(module, "dtype") : NULL;
    type = make ? PyObject_GetAttrString(module, "ndarray") : NULL;
    for (int i = 1; type && i < DTYPES; i++) {
        if (!dtypes[i]) dtypes[i] = PyObject_CallFunction(make, "s", names[i]);
        if (!dtypes[i]) Py_CLEAR(type);
    }
    if (type && PyType_Check(type)) py.array_type = (PyTypeObject *)type; /* for good */
    Py_XDECREF(make);
    Py_XDECREF(module);
    PyErr_Clear(); /* numpy may be half imported */
    return py.array_type != NULL;
}

PyObject *py_arrays(PyObject *module, PyObject *on) {
    (void)module;
    off = on != Py_True;
    Py_RETURN_NONE;
}

static uint32_t dtype_of(PyObject *o) {
    PyObject *dtype = PyObject_GetAttrString(o, "dtype");
    uint32_t n = DTYPES;

    if (!dtype) return PyErr_Clear(), 0;
    while (--n > 0 && dtypes[n] != dtype) continue;
    Py_DECREF(dtype);
    return n;
}

int py_array_encode(struct py_value *pv, PyObject *o) {
    bool array = !off && know_numpy(false) && Py_TYPE(o) == py.array_type;
    uint32_t dtype = array ? dtype_of(o) : 0, ndim;
    Py_buffer *view;
    uint64_t head;
    uint8_t *p;

    _Static_assert(sizeof pv->tensor_head >= ((8 + 8 * DIMS_MAX + 63) & ~63), "any fits");
    if (!dtype) return 1;
    view = calloc(1, sizeof *view);
    if (!view) return PyErr_NoMemory(), -1;
    if (PyObject_GetBuffer(o, view, PyBUF_C_CONTIGUOUS) < 0) return free(view), PyErr_Clear(), 1;
    if (view->ndim > DIMS_MAX || view->len == 0) /* bytes of none would be writable */
        return PyBuffer_Release(view), free(view), 1;
    pv->views = view;
    pv->view_count = 1;
    ndim = (uint32_t)view->ndim;
    head = (8 + 8 * (uint64_t)ndim + 63) & ~UINT64_C(63);
    p = pv->tensor_head;
    memset(p, 0, head);
    memcpy(p, &dtype, 4);
    memcpy(p + 4, &ndim, 4);
    for (uint32_t i = 0; i < ndim; i++)
        memcpy(p + 8 + 8 * i, &(int64_t){view->shape[i]}, 8);
    pv->parts[0] = (struct core_part){p, head, 64};
    pv->parts[1] = (struct core_part){view->buf, (uint64_t)view->len, 64};
    pv->v.format = FORMAT_TENSOR;
    pv->v.part_count = 2;
    pv->v.parts = pv->parts;
    return 0;
}

PyObject *py_array_decode(const uint8_t *p, uint64_t size, PyObject *bytes) {
    uint32_t dtype, ndim;
    uint64_t head, count = 1;
    PyObject *shape, *out;

    if (size < 8 || !know_numpy(true)) return NULL;
    memcpy(&dtype, p, 4);
    memcpy(&ndim, p + 4, 4);
    head = (8 + 8 * (uint64_t)ndim + 63) & ~UINT64_C(63);
    if (dtype == 0 || dtype >= DTYPES || ndim > DIMS_MAX || head >= size) return NULL;
    shape = PyTuple_New((Py_ssize_t)ndim);
    for (uint32_t i = 0; shape && i < ndim; i++) {
        int64_t n;

        memcpy(&n, p + 8 + 8 * i, 8);
        if (n <= 0 || count > size / (uint64_t)n) { /* also what has no elements */
            Py_DECREF(shape);
            return NULL;
        }
        count *= (uint64_t)n;
        if (PyTuple_SetItem(shape, (Py_ssize_t)i, PyLong_FromLongLong(n)) < 0) Py_CLEAR(shape);
    }
    if (!shape) return NULL;
    out = count * sizes[dtype] == size - head
              ? PyObject_CallFunction((PyObject *)py.array_type, "OOOn", shape, dtypes[dtype],
                                      bytes, (Py_ssize_t)head)
              : NULL;
    Py_DECREF(shape);
    return out;
}
