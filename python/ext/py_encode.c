/* py_encode.c - Python objects to values of the core.
 *
 * Two forms. MSGPACK, made here, for None, bool, 64-bit int, float, str, bytes, refs and the exact
 * tuples, lists and dicts of them: no Python code runs. Everything else is PICKLE5: header {u32
 * buffers, u32 0, u64 pickle bytes, then u64 offset and u64 length of each buffer}, the pickle,
 * each out-of-band buffer at a multiple of 64, so that arrays are read in place. A lone bytes
 * object is RAW, a lone table ARROW. A mutable container met twice goes to pickle, which keeps it
 * one object. A numpy array is a TENSOR if that says all of it (py_array.c); for other languages
 * (`plain`) every array is, by skate._plain.
 *
 * Extensions of MSGPACK: 1 tuple (its items as an array), 2 argument slot (u32), 3 ref (16 bytes),
 * 4 actor (16 bytes, and a u64: which one of its process; for other languages only).
 * Refs found on the way are kept alive until py_value_release(). Reader: py_decode.c. */
#include "py_array.h"

#include <stdlib.h>
#include <string.h>

enum { PLAIN = 0, NOT_PLAIN = 1 };

static _Thread_local struct py_value *collector;

void py_value_init(struct py_value *pv, void *scratch, size_t cap) {
    memset(&pv->v, 0, sizeof pv->v);
    pv->parts = pv->parts_fixed;
    pv->out = scratch;
    pv->cap = scratch ? cap : 0;
    pv->len = 0;
    pv->heap = false;
    pv->refs = pv->refs_fixed;
    pv->keep = pv->keep_fixed;
    pv->refs_cap = PY_REFS;
    pv->pickle = pv->buffers = NULL;
    pv->views = NULL;
    pv->view_count = 0;
    pv->seen_count = 0;
    pv->plain = false;
    pv->outer = NULL;
}

void py_value_release(struct py_value *pv) {
    for (uint32_t i = 0; i < pv->v.ref_count; i++) Py_DECREF(pv->keep[i]);
    for (uint32_t i = 0; i < pv->view_count; i++) PyBuffer_Release(&pv->views[i]);
    free(pv->views);
    if (pv->refs != pv->refs_fixed) {
        free(pv->refs);
        free(pv->keep);
    }
    if (pv->parts != pv->parts_fixed) free(pv->parts);
    if (pv->heap) free(pv->out);
    Py_XDECREF(pv->pickle);
    Py_XDECREF(pv->buffers);
    py_value_init(pv, NULL, 0);
}

size_t py_value_size(const struct py_value *pv) {
    size_t at = 0;

    for (uint32_t i = 0; i < pv->v.part_count; i++) {
        size_t align = pv->v.parts[i].align;

        at = ((at + align - 1) & ~(align - 1)) + pv->v.parts[i].size;
    }
    return at;
}

/* ---- refs ---- */

static int add_ref(struct py_value *pv, PyObject *ref) {
    if (pv->v.ref_count == pv->refs_cap) {
        uint32_t cap = pv->refs_cap * 4;
        struct skate_id *refs = malloc(cap * sizeof *refs);
        PyObject **keep = malloc(cap * sizeof(PyObject *));

        if (!refs || !keep) {
            free(refs);
            free(keep);
            PyErr_NoMemory();
            return -1;
        }
        memcpy(refs, pv->refs, pv->v.ref_count * sizeof *refs);
        memcpy(keep, pv->keep, pv->v.ref_count * sizeof(PyObject *));
        if (pv->refs != pv->refs_fixed) {
            free(pv->refs);
            free(pv->keep);
        }
        pv->refs = refs;
        pv->keep = keep;
        pv->refs_cap = cap;
    }
    Py_INCREF(ref);
    pv->keep[pv->v.ref_count] = ref;
    pv->refs[pv->v.ref_count++] = ((struct py_ref *)(void *)ref)->id;
    pv->v.refs = pv->refs;
    return 0;
}

bool py_collect(PyObject *ref) {
    if (!collector) return false;
    (void)add_ref(collector, ref);
    return true;
}

/* A pickle that was given up: what it collected comes again in the next one. */
PyObject *py_forget_refs(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    if (collector) {
        for (uint32_t i = 0; i < collector->v.ref_count; i++) Py_DECREF(collector->keep[i]);
        collector->v.ref_count = 0;
    }
    Py_RETURN_NONE;
}

/* ---- bytes ---- */

static uint8_t *room(struct py_value *pv, size_t n) {
    if (pv->len + n > pv->cap) {
        size_t cap = pv->cap < 256 ? 256 : pv->cap;
        uint8_t *p;

        while (cap < pv->len + n) cap *= 2;
        p = pv->heap ? realloc(pv->out, cap) : malloc(cap);
        if (!p) {
            PyErr_NoMemory();
            return NULL;
        }
        if (!pv->heap && pv->len) memcpy(p, pv->out, pv->len);
        pv->out = p;
        pv->cap = cap;
        pv->heap = true;
    }
    pv->len += n;
    return pv->out + pv->len - n;
}

static void big16(uint8_t *p, uint32_t v) {
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}
static void big32(uint8_t *p, uint32_t v) {
    big16(p, v >> 16);
    big16(p + 2, v);
}
static void big64(uint8_t *p, uint64_t v) {
    big32(p, (uint32_t)(v >> 32));
    big32(p + 4, (uint32_t)v);
}

static int put_byte(struct py_value *pv, uint8_t b) {
    uint8_t *p = room(pv, 1);

    if (!p) return -1;
    *p = b;
    return PLAIN;
}

static int put_long(struct py_value *pv, PyObject *o) {
    int overflow;
    long long v = PyLong_AsLongLongAndOverflow(o, &overflow);
    uint8_t *p;

    if (overflow) return NOT_PLAIN;
    if (v >= -32 && v <= 127) return put_byte(pv, (uint8_t)v);
    if (v >= INT32_MIN && v <= INT32_MAX) {
        p = room(pv, 5);
        if (!p) return -1;
        p[0] = 0xd2;
        big32(p + 1, (uint32_t)v);
        return PLAIN;
    }
    p = room(pv, 9);
    if (!p) return -1;
    p[0] = 0xd3;
    big64(p + 1, (uint64_t)v);
    return PLAIN;
}

static int put_float(struct py_value *pv, PyObject *o) {
    double d = PyFloat_AsDouble(o);
    uint8_t *p = room(pv, 9);
    uint64_t bits;

    if (!p) return -1;
    memcpy(&bits, &d, 8);
    p[0] = 0xcb;
    big64(p + 1, bits);
    return PLAIN;
}

/* small: the code of the shortest form with its length in the low bits, or 0; wide: 32-bit form. */
static int put_head(struct py_value *pv, uint8_t small, size_t small_max, uint8_t wide, size_t n) {
    uint8_t *p;

    if (n > UINT32_MAX) return NOT_PLAIN;
    if (small && n < small_max) return put_byte(pv, (uint8_t)(small | n));
    p = room(pv, 5);
    if (!p) return -1;
    p[0] = wide;
    big32(p + 1, (uint32_t)n);
    return PLAIN;
}

static int put_block(struct py_value *pv, const char *data, size_t n) {
    uint8_t *p = room(pv, n);

    if (!p) return -1;
    if (n) memcpy(p, data, n);
    return PLAIN;
}

static int put_str(struct py_value *pv, PyObject *o) {
    Py_ssize_t n;
    const char *s = PyUnicode_AsUTF8AndSize(o, &n);
    int r;

    if (!s) {
        PyErr_Clear(); /* lone surrogates: pickle can carry them */
        return NOT_PLAIN;
    }
    r = put_head(pv, 0xa0, 32, 0xdb, (size_t)n);
    return r ? r : put_block(pv, s, (size_t)n);
}

static int put_bytes(struct py_value *pv, PyObject *o) {
    char *s;
    Py_ssize_t n;
    int r;

    if (PyBytes_AsStringAndSize(o, &s, &n) < 0) return -1;
    r = put_head(pv, 0, 0, 0xc6, (size_t)n);
    return r ? r : put_block(pv, s, (size_t)n);
}

static int put_ref(struct py_value *pv, PyObject *o) {
    uint8_t *p;

    if (!((struct py_ref *)(void *)o)->counted) return NOT_PLAIN;
    if (py_ref_check(o) < 0 || add_ref(pv, o) < 0) return -1;
    p = room(pv, 18);
    if (!p) return -1;
    p[0] = 0xd8;
    p[1] = 3;
    memcpy(p + 2, &((struct py_ref *)(void *)o)->id, 16);
    return PLAIN;
}

/* An actor, for another language: the one that its process was made for. */
static int put_actor(struct py_value *pv, PyObject *o) {
    uint8_t *p;

    if (!pv->plain || !((struct py_ref *)(void *)o)->counted) return NOT_PLAIN;
    if (py_ref_check(o) < 0 || add_ref(pv, o) < 0) return -1;
    p = room(pv, 27);
    if (!p) return -1;
    memcpy(p, "\xc7\x18\x04", 3);
    memcpy(p + 3, &((struct py_ref *)(void *)o)->id, 16);
    big64(p + 19, 0);
    return PLAIN;
}

static int put_slot(struct py_value *pv, uint32_t index) {
    uint8_t *p = room(pv, 6);

    if (!p) return -1;
    p[0] = 0xd6;
    p[1] = 2;
    big32(p + 2, index);
    return PLAIN;
}

/* ---- plain objects ---- */

static int put(struct py_value *pv, PyObject *o, int depth);

/* A container that only one other object holds cannot be met twice. */
static int met(struct py_value *pv, PyObject *o) {
    if (Py_REFCNT(o) == 1 || pv->plain) return PLAIN;
    for (uint32_t i = 0; i < pv->seen_count; i++)
        if (pv->seen[i] == o) return NOT_PLAIN;
    if (pv->seen_count == 16) return NOT_PLAIN;
    pv->seen[pv->seen_count++] = o;
    return PLAIN;
}

static int put_list(struct py_value *pv, PyObject *o, int depth) {
    Py_ssize_t n = PyList_Size(o);
    int r = met(pv, o);

    if (!r) r = put_head(pv, 0x90, 16, 0xdd, (size_t)n);
    for (Py_ssize_t i = 0; !r && i < n && i < PyList_Size(o); i++)
        r = put(pv, PyList_GetItem(o, i), depth);
    return r;
}

static int put_tuple(struct py_value *pv, PyObject *o, int depth) {
    Py_ssize_t n = PyTuple_Size(o);
    uint8_t *p = room(pv, 6);
    size_t start;
    int r;

    if (!p) return -1;
    p[0] = 0xc9;
    p[5] = 1;
    start = pv->len;
    r = put_head(pv, 0x90, 16, 0xdd, (size_t)n);
    for (Py_ssize_t i = 0; !r && i < n; i++) r = put(pv, PyTuple_GetItem(o, i), depth);
    if (r) return r;
    if (pv->len - start > UINT32_MAX) return NOT_PLAIN;
    big32(pv->out + start - 5, (uint32_t)(pv->len - start));
    return PLAIN;
}

static int put_dict(struct py_value *pv, PyObject *o, int depth) {
    PyObject *key, *value;
    Py_ssize_t pos = 0;
    int r = met(pv, o);

    if (!r) r = put_head(pv, 0x80, 16, 0xdf, (size_t)PyDict_Size(o));
    while (!r && PyDict_Next(o, &pos, &key, &value)) {
        r = put(pv, key, depth);
        if (!r) r = put(pv, value, depth);
    }
    return r;
}

static int put(struct py_value *pv, PyObject *o, int depth) {
    PyTypeObject *t = Py_TYPE(o);

    if (o == Py_None) return put_byte(pv, 0xc0);
    if (t == &PyUnicode_Type) return put_str(pv, o);
    if (t == &PyLong_Type) return put_long(pv, o);
    if (t == &PyFloat_Type) return put_float(pv, o);
    if (t == &PyBool_Type) return put_byte(pv, o == Py_True ? 0xc3 : 0xc2);
    if (t == &PyBytes_Type) return put_bytes(pv, o);
    if (t == py.ref_type) return put_ref(pv, o);
    if (t == py.actor_type) return put_actor(pv, o);
    if (depth == 0) return NOT_PLAIN;
    if (t == &PyList_Type) return put_list(pv, o, depth - 1);
    if (t == &PyTuple_Type) return put_tuple(pv, o, depth - 1);
    if (t == &PyDict_Type) return put_dict(pv, o, depth - 1);
    return NOT_PLAIN;
}

static void finish_plain(struct py_value *pv) {
    pv->parts[0] = (struct core_part){pv->out, pv->len, 8};
    pv->v.format = FORMAT_MSGPACK;
    pv->v.part_count = 1;
    pv->v.parts = pv->parts;
}

/* ---- pickles ---- */

static void forget(struct py_value *pv) {
    for (uint32_t i = 0; i < pv->v.ref_count; i++) Py_DECREF(pv->keep[i]);
    pv->v.ref_count = 0;
    pv->len = 0;
    pv->seen_count = 0;
}

static int lay_out(struct py_value *pv) {
    Py_ssize_t n = PyList_Size(pv->buffers);
    uint64_t head = 16 + 16 * (uint64_t)n, at;
    uint8_t *p;

    if (n > 0) {
        pv->views = calloc((size_t)n, sizeof *pv->views);
        if (n + 2 > PY_PARTS) pv->parts = malloc(((size_t)n + 2) * sizeof *pv->parts);
        if (!pv->views || !pv->parts) return PyErr_NoMemory(), -1;
    }
    p = room(pv, head);
    if (!p) return -1;
    memset(p, 0, head);
    memcpy(p, &(uint32_t){(uint32_t)n}, 4);
    memcpy(p + 8, &(uint64_t){(uint64_t)PyBytes_Size(pv->pickle)}, 8);
    pv->parts[0] = (struct core_part){p, head, 8};
    pv->parts[1] = (struct core_part){PyBytes_AsString(pv->pickle),
                                      (uint64_t)PyBytes_Size(pv->pickle), 1};
    at = head + (uint64_t)PyBytes_Size(pv->pickle);
    for (Py_ssize_t i = 0; i < n; i++) {
        uint64_t size;

        if (PyObject_GetBuffer(PyList_GetItem(pv->buffers, i), &pv->views[i], PyBUF_SIMPLE) < 0)
            return -1;
        pv->view_count++;
        size = (uint64_t)pv->views[i].len;
        at = (at + 63) & ~UINT64_C(63);
        memcpy(p + 16 + 16 * i, &at, 8);
        memcpy(p + 24 + 16 * i, &size, 8);
        pv->parts[i + 2] = (struct core_part){pv->views[i].buf, size, 64};
        at += size;
    }
    pv->v.format = FORMAT_PICKLE5;
    pv->v.part_count = (uint32_t)n + 2;
    pv->v.parts = pv->parts;
    return 0;
}

/* ---- tensors and tables ---- */

/* (format, header, data), see skate._plain.Laid. A table's data is a list of buffers as its library
 * has them: they are put together where they are stored. */
static int encode_laid(struct py_value *pv, PyObject *made) {
    PyObject *data;
    Py_ssize_t n;
    int format;

    if (!PyArg_ParseTuple(made, "iSO", &format, &pv->pickle, &data)) return pv->pickle = NULL, -1;
    Py_INCREF(pv->pickle);
    n = PyList_Check(data) ? PyList_Size(data) : 1;
    pv->views = calloc((size_t)n + 1, sizeof *pv->views);
    if (n + 1 > PY_PARTS) pv->parts = malloc(((size_t)n + 1) * sizeof *pv->parts);
    if (!pv->views || !pv->parts) return PyErr_NoMemory(), -1;
    pv->parts[0] = (struct core_part){PyBytes_AsString(pv->pickle),
                                      (uint64_t)PyBytes_Size(pv->pickle), 64};
    for (Py_ssize_t i = 0; i < n; i++) {
        Py_buffer *view = &pv->views[i];
        PyObject *o = PyList_Check(data) ? PyList_GetItem(data, i) : data;

        if (!o || PyObject_GetBuffer(o, view, PyBUF_SIMPLE) < 0) return -1;
        pv->view_count++;
        pv->parts[i + 1] = (struct core_part){view->buf, (uint64_t)view->len, i ? 1 : 64};
    }
    pv->v.format = (uint8_t)format;
    pv->v.part_count = (uint32_t)n + 1;
    pv->v.parts = pv->parts;
    return PLAIN;
}

static int encode_pickle(struct py_value *pv, PyObject *o) {
    PyObject *dumps = py_hook(HOOK_DUMPS), *made;

    forget(pv);
    if (!dumps) return -1;
    pv->buffers = PyList_New(0);
    if (!pv->buffers) return -1;
    pv->outer = collector;
    collector = pv;
    made = PyObject_CallFunctionObjArgs(dumps, o, pv->buffers, NULL);
    collector = pv->outer;
    if (!made) return -1;
    if (Py_TYPE(made) == py.laid_type) {
        int r = encode_laid(pv, made);

        Py_DECREF(made);
        return r;
    }
    pv->pickle = made;
    if (!PyBytes_Check(made))
        return PyErr_SetString(PyExc_TypeError, "dumps() gives bytes"), -1;
    return lay_out(pv);
}

/* ---- forms for every language ---- */

/* laid(type): how tuples are marked that encode_laid() takes. */
PyObject *py_set_laid(PyObject *module, PyObject *type) {
    (void)module;
    if (!PyType_Check(type)) return PyErr_SetString(PyExc_TypeError, "laid(type)"), NULL;
    Py_INCREF(type); /* for good */
    py.laid_type = (PyTypeObject *)type;
    Py_RETURN_NONE;
}

/* NOT_PLAIN when it has no such form. */
static int encode_in_place(struct py_value *pv, PyObject *o) {
    PyObject *hook = py_hook(HOOK_LAY_OUT), *made = NULL;
    int r = NOT_PLAIN;

    if (Py_TYPE(o) == py.laid_type)
        made = Py_NewRef(o);
    else if (hook)
        made = PyObject_CallFunctionObjArgs(hook, o, NULL);
    if (!made) return -1;
    if (made != Py_None) forget(pv);
    if (PyTuple_Check(made)) {
        r = encode_laid(pv, made);
    } else if (PyList_Check(made) && PyList_Size(made) == 1) {
        r = put(pv, PyList_GetItem(made, 0), PY_DEPTH);
        if (r == PLAIN) finish_plain(pv);
    }
    Py_DECREF(made);
    return r;
}

int py_encode(struct py_value *pv, PyObject *o) {
    int r;

    if (Py_TYPE(o) == &PyBytes_Type) {
        char *s;
        Py_ssize_t n;

        if (PyBytes_AsStringAndSize(o, &s, &n) < 0) return -1;
        Py_INCREF(o);
        pv->pickle = o;
        pv->parts[0] = (struct core_part){s, (uint64_t)n, 8};
        pv->v.format = FORMAT_RAW;
        pv->v.part_count = 1;
        pv->v.parts = pv->parts;
        return 0;
    }
    r = put(pv, o, PY_DEPTH);
    if (r == NOT_PLAIN && (pv->plain || Py_TYPE(o) == py.laid_type)) {
        r = encode_in_place(pv, o);
        if (r == PLAIN) return 0;
    }
    if (r == NOT_PLAIN) {
        r = py_array_encode(pv, o);
        if (r == PLAIN) return 0;
    }
    if (r < 0) return -1;
    if (r == NOT_PLAIN) return encode_pickle(pv, o);
    finish_plain(pv);
    return 0;
}

int py_encode_error(struct py_value *pv, PyObject *exception) {
    PyObject *make = py_hook(HOOK_PAYLOAD), *payload;
    int r;

    if (!make) return -1;
    pv->outer = collector;
    collector = pv; /* refs inside the exception are met while its payload is made */
    payload = PyObject_CallFunctionObjArgs(make, exception, NULL);
    collector = pv->outer;
    if (!payload) return -1;
    r = put(pv, payload, PY_DEPTH);
    Py_DECREF(payload);
    if (r == NOT_PLAIN) PyErr_SetString(PyExc_TypeError, "error_payload() gives plain values");
    if (r) return -1;
    finish_plain(pv);
    pv->v.flags = VAL_ERROR;
    return 0;
}

/* ---- arguments ---- */

/* One argument in plain form; a ref becomes a slot. */
static int put_arg(struct py_value *pv, struct py_args *a, PyObject *o) {
    if (!py_is_ref(o)) return put(pv, o, PY_DEPTH);
    if (py_ref_check(o) < 0) return -1;
    a->deps[a->dep_count] = ((struct py_ref *)(void *)o)->id;
    return put_slot(pv, a->dep_count++);
}

static int put_args(struct py_value *pv, struct py_args *a) {
    Py_ssize_t nkw = a->kwnames ? PyTuple_Size(a->kwnames) : 0;
    int r = put_head(pv, 0x90, 16, 0xdd, (size_t)a->count);

    for (Py_ssize_t i = 0; !r && i < a->count; i++) r = put_arg(pv, a, a->args[i]);
    if (r || nkw == 0) return r;
    r = put_head(pv, 0x80, 16, 0xdf, (size_t)nkw);
    for (Py_ssize_t i = 0; !r && i < nkw; i++) {
        r = put(pv, PyTuple_GetItem(a->kwnames, i), 0);
        if (!r) r = put_arg(pv, a, a->args[a->count + i]);
    }
    return r;
}

/* The argument, or a slot in place of a ref. A new reference. */
static PyObject *arg_object(struct py_args *a, PyObject *o) {
    if (!py_is_ref(o)) {
        Py_INCREF(o);
        return o;
    }
    if (py_ref_check(o) < 0) return NULL;
    a->deps[a->dep_count] = ((struct py_ref *)(void *)o)->id;
    return py_slot_new(a->dep_count++);
}

/* (positional, keywords or None) as objects, for pickle. */
static PyObject *args_pair(struct py_args *a) {
    Py_ssize_t nkw = a->kwnames ? PyTuple_Size(a->kwnames) : 0;
    PyObject *args = PyTuple_New(a->count), *kwargs = nkw ? PyDict_New() : NULL, *pair;

    if (!args || (nkw && !kwargs)) goto fail;
    for (Py_ssize_t i = 0; i < a->count; i++) {
        PyObject *o = arg_object(a, a->args[i]);

        if (!o || PyTuple_SetItem(args, i, o) < 0) goto fail;
    }
    for (Py_ssize_t i = 0; i < nkw; i++) {
        PyObject *o = arg_object(a, a->args[a->count + i]);
        int r = o ? PyDict_SetItem(kwargs, PyTuple_GetItem(a->kwnames, i), o) : -1;

        Py_XDECREF(o);
        if (r < 0) goto fail;
    }
    pair = PyTuple_Pack(2, args, kwargs ? kwargs : Py_None);
    Py_DECREF(args);
    Py_XDECREF(kwargs);
    return pair;

fail:
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return NULL;
}

int py_encode_args(struct py_value *pv, struct py_args *a) {
    PyObject *pair;
    int r;

    a->dep_count = 0;
    pv->plain = a->plain;
    r = put_args(pv, a);
    if (r < 0) return -1;
    if (r == PLAIN) {
        finish_plain(pv);
        return 0;
    }
    if (a->plain) return 1;
    a->dep_count = 0;
    pair = args_pair(a);
    if (!pair) return -1;
    r = encode_pickle(pv, pair);
    Py_DECREF(pair);
    return r;
}
