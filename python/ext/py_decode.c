/* py_decode.c - values of the core to Python objects. See py_encode.c for the forms.
 *
 * Values come from other processes: every length is checked against the bytes that are there.
 * A pickle's buffers are handed to pickle as Buffer objects: read-only views of the arena that own
 * the pin of the value (or of a private copy, when the value was small). When the session ends,
 * pages that somebody still looks at become private copies: the node reuses its own. Any thread
 * that holds the interpreter lock; never blocks. */
#include "core/private_view.h"
#include "py_array.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- Buffer: bytes that someone must be told about when nobody looks at them any more ---- */

struct buffer {
    PyObject_HEAD
    const void *data;
    Py_ssize_t len;
    PyObject *base; /* the Buffer that owns the bytes, or NULL: this one does */
    void *copy;     /* freed */
    struct kept *kept; /* the pages it lies in, once the session has ended; or NULL */
    uint64_t pin, epoch;
    struct buffer *before, *after; /* in the list of those that own a pin */
};
static struct buffer *pinned;

static struct buffer *as_buffer(PyObject *o) { return (struct buffer *)(void *)o; }

static void link_pinned(struct buffer *b) {
    b->before = NULL;
    b->after = pinned;
    if (pinned) pinned->before = b;
    pinned = b;
}

static void unlink_pinned(struct buffer *b) {
    if (b->before)
        b->before->after = b->after;
    else
        pinned = b->after;
    if (b->after) b->after->before = b->before;
}

/* ---- what is still looked at when the session ends ---- */

struct kept { /* private pages in the place of shared ones, and how many Buffers lie in them */
    uint8_t *from, *to;
    size_t users;
};

static int by_address(const void *a, const void *b) {
    const struct buffer *x = *(struct buffer *const *)a, *y = *(struct buffer *const *)b;

    return (x->data > y->data) - (x->data < y->data);
}

static bool make_private(const struct kept *k) {
    size_t len = (size_t)(k->to - k->from);
    void *copy = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (copy == MAP_FAILED) return false;
    memcpy(copy, k->from, len);
    (void)mprotect(copy, len, PROT_READ);
    if (mremap(copy, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, k->from) != MAP_FAILED) return true;
    (void)munmap(copy, len);
    return false;
}

/* The pages of sorted[0..), as far as they touch each other; how many Buffers. Those own them. */
static size_t keep_some(struct buffer *const *sorted, size_t n, struct kept *k) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), to = 0;
    size_t i;

    for (i = 0; i < n; i++) {
        uintptr_t first = (uintptr_t)sorted[i]->data, from = first & ~(page - 1);
        uintptr_t end = (first + (size_t)sorted[i]->len + page - 1) & ~(page - 1);

        if (i > 0 && from >= to) break;
        if (end > to) to = end;
        sorted[i]->kept = k;
    }
    k->from = (uint8_t *)((uintptr_t)sorted[0]->data & ~(page - 1));
    k->to = (uint8_t *)to;
    k->users = i;
    return i;
}

/* No memory: everything stays where it is, shared. */
struct core_pages *py_buffers_keep(size_t *ret_n) {
    size_t n = 0, at = 0, m = 0;
    struct buffer **sorted;
    struct core_pages *rooms;

    for (struct buffer *b = pinned; b; b = b->after) n++;
    sorted = malloc((n ? n : 1) * sizeof *sorted);
    rooms = malloc((n ? n : 1) * sizeof *rooms);
    for (struct buffer *b = pinned; b; b = b->after) {
        b->pin = 0;
        if (sorted) sorted[at++] = b;
    }
    pinned = NULL;
    if (!sorted || !rooms) return free(sorted), free(rooms), NULL;
    qsort(sorted, n, sizeof *sorted, by_address);
    for (at = 0; at < n; m++) {
        struct kept *k = malloc(sizeof *k);

        if (!k) return free(sorted), free(rooms), NULL;
        at += keep_some(sorted + at, n - at, k);
        if (!make_private(k)) k->users = SIZE_MAX / 2; /* never unmapped */
        rooms[m] = (struct core_pages){k->from, k->to};
    }
    free(sorted);
    *ret_n = m;
    return rooms;
}

static void kept_drop(struct kept *k) {
    if (--k->users) return;
    (void)munmap(k->from, (size_t)(k->to - k->from));
    free(k);
}

static void buffer_dealloc(PyObject *self) {
    struct buffer *b = as_buffer(self);
    PyTypeObject *type = Py_TYPE(self);

    Py_XDECREF(b->base);
    free(b->copy);
    if (b->pin) unlink_pinned(b);
    if (b->kept) kept_drop(b->kept);
    if (b->pin && py.core && b->epoch == py.epoch) core_unpin(py.core, b->pin);
    PyObject_Free(self);
    Py_DECREF(type);
}

static int buffer_get(PyObject *self, Py_buffer *view, int flags) {
    struct buffer *b = as_buffer(self);

    return PyBuffer_FillInfo(view, self, (void *)(uintptr_t)b->data, b->len, 1, flags);
}

static Py_ssize_t buffer_len(PyObject *self) { return as_buffer(self)->len; }

static struct buffer *buffer_new(const void *data, uint64_t len, PyObject *base) {
    struct buffer *b = PyObject_New(struct buffer, py.buffer_type);

    if (!b) return NULL;
    b->data = data;
    b->len = (Py_ssize_t)len;
    b->base = base;
    Py_XINCREF(base);
    b->copy = NULL;
    b->kept = NULL;
    b->pin = 0;
    b->epoch = py.epoch;
    return b;
}

static PyType_Slot buffer_slots[] = {
    {Py_tp_dealloc, buffer_dealloc},
    {Py_bf_getbuffer, buffer_get},
    {Py_sq_length, buffer_len},
    {Py_tp_doc, "Read-only bytes in the object store."},
    {0, NULL},
};
static PyType_Spec buffer_spec = {
    .name = "skate._core.Buffer",
    .basicsize = sizeof(struct buffer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = buffer_slots,
};

/* ---- Slot: stands for a top-level ref among pickled arguments ---- */

struct slot {
    PyObject_HEAD
    uint32_t index;
};

PyObject *py_slot_new(uint32_t index) {
    struct slot *s = PyObject_New(struct slot, py.slot_type);

    if (s) s->index = index;
    return (PyObject *)s;
}

static void slot_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);

    PyObject_Free(self);
    Py_DECREF(type);
}

static PyObject *slot_make(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    unsigned index;

    (void)type;
    (void)kwargs;
    return PyArg_ParseTuple(args, "I", &index) ? py_slot_new(index) : NULL;
}

static PyObject *slot_reduce(PyObject *self, PyObject *unused) {
    (void)unused;
    return Py_BuildValue("O(I)", Py_TYPE(self), (unsigned)((struct slot *)(void *)self)->index);
}

static PyMethodDef slot_methods[] = {
    {"__reduce__", slot_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot slot_slots[] = {
    {Py_tp_dealloc, slot_dealloc},
    {Py_tp_new, slot_make},
    {Py_tp_methods, slot_methods},
    {0, NULL},
};
static PyType_Spec slot_spec = {
    .name = "skate._core.Slot",
    .basicsize = sizeof(struct slot),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slot_slots,
};

int py_decode_init(PyObject *module) {
    py.buffer_type = (PyTypeObject *)PyType_FromSpec(&buffer_spec);
    py.slot_type = (PyTypeObject *)PyType_FromSpec(&slot_spec);
    if (!py.buffer_type || !py.slot_type) return -1;
    if (py_memory_init() < 0) return -1;
    return PyModule_AddObjectRef(module, "Slot", (PyObject *)py.slot_type);
}

/* ---- plain values ---- */

struct in {
    const uint8_t *p, *end;
    PyObject *deps; /* list of the arguments' values, or NULL */
};

static PyObject *take(struct in *in, int depth);

static PyObject *bad(void) {
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a malformed value");
    return NULL;
}

static bool has(struct in *in, size_t n) { return (size_t)(in->end - in->p) >= n; }

static uint64_t big(struct in *in, int n) {
    uint64_t v = 0;

    while (n-- > 0) v = v << 8 | *in->p++;
    return v;
}

static PyObject *take_block(struct in *in, size_t n, bool text) {
    const char *s = (const char *)in->p;

    if (!has(in, n)) return bad();
    in->p += n;
    return text ? PyUnicode_DecodeUTF8(s, (Py_ssize_t)n, NULL)
                : PyBytes_FromStringAndSize(s, (Py_ssize_t)n);
}

static PyObject *take_list(struct in *in, size_t n, int depth) {
    PyObject *list;

    if (!has(in, n) || depth == 0) return bad();
    list = PyList_New((Py_ssize_t)n);
    for (size_t i = 0; list && i < n; i++) {
        PyObject *o = take(in, depth - 1);

        if (!o || PyList_SetItem(list, (Py_ssize_t)i, o) < 0) Py_CLEAR(list);
    }
    return list;
}

static PyObject *take_items(struct in *in, size_t n, int depth) {
    PyObject *tuple;

    if (!has(in, n) || depth == 0) return bad();
    if (n == 0) {
        Py_INCREF(py.empty_tuple);
        return py.empty_tuple;
    }
    tuple = PyTuple_New((Py_ssize_t)n);
    for (size_t i = 0; tuple && i < n; i++) {
        PyObject *o = take(in, depth - 1);

        if (!o || PyTuple_SetItem(tuple, (Py_ssize_t)i, o) < 0) Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *take_dict(struct in *in, size_t n, int depth) {
    PyObject *dict;

    if (!has(in, n) || depth == 0) return bad();
    dict = PyDict_New();
    for (size_t i = 0; dict && i < n; i++) {
        PyObject *key = take(in, depth - 1), *value = key ? take(in, depth - 1) : NULL;

        if (!value || PyDict_SetItem(dict, key, value) < 0) Py_CLEAR(dict);
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return dict;
}

/* The count of an array's head, or SIZE_MAX. */
static size_t array_count(struct in *in) {
    uint8_t c;

    if (!has(in, 1)) return SIZE_MAX;
    c = *in->p++;
    if ((c & 0xf0) == 0x90) return c & 0x0f;
    if (c != 0xdd || !has(in, 4)) return SIZE_MAX;
    return (size_t)big(in, 4);
}

static PyObject *take_tuple(struct in *in, int depth) {
    size_t n;

    if (!has(in, 5)) return bad();
    in->p += 4; /* the length is for other readers */
    if (*in->p++ != 1) return bad();
    n = array_count(in);
    return n == SIZE_MAX ? bad() : take_items(in, n, depth);
}

static PyObject *take_slot(struct in *in) {
    uint32_t index;
    PyObject *o;

    if (!has(in, 5) || *in->p++ != 2) return bad();
    index = (uint32_t)big(in, 4);
    if (!in->deps || (Py_ssize_t)index >= PyList_Size(in->deps)) return bad();
    o = PyList_GetItem(in->deps, (Py_ssize_t)index);
    Py_XINCREF(o);
    return o;
}

static PyObject *take_ref(struct in *in) {
    struct skate_id id;

    if (!has(in, 17) || *in->p++ != 3) return bad();
    memcpy(&id, in->p, 16);
    in->p += 16;
    return py_ref_read(&id);
}

/* An actor, and which one of its process: what another language says of an actor's handle. */
static PyObject *take_actor(struct in *in) {
    PyObject *hook = py_hook(HOOK_HANDLE), *ref, *out;
    struct skate_id id;

    if (!hook) return NULL;
    if (!has(in, 26) || *in->p++ != 24 || *in->p++ != 4) return bad();
    memcpy(&id, in->p, 16);
    in->p += 16;
    ref = py_ref_new(py.actor_type, &id, true);
    out = ref ? PyObject_CallFunction(hook, "OK", ref, (unsigned long long)big(in, 8)) : NULL;
    Py_XDECREF(ref);
    return out;
}

static PyObject *take_float(struct in *in) {
    uint64_t bits;
    double d;

    bits = big(in, 8);
    memcpy(&d, &bits, 8);
    return PyFloat_FromDouble(d);
}

static PyObject *constant(PyObject *o) {
    Py_INCREF(o);
    return o;
}

/* Codes with a 32-bit count behind them. */
static PyObject *take_wide(struct in *in, uint8_t c, int depth) {
    size_t n;

    if (!has(in, 4)) return bad();
    n = (size_t)big(in, 4);
    switch (c) {
    case 0xc6: return take_block(in, n, false);
    case 0xdb: return take_block(in, n, true);
    case 0xdd: return take_list(in, n, depth);
    default: return take_dict(in, n, depth);
    }
}

static PyObject *take(struct in *in, int depth) {
    uint8_t c;

    if (!has(in, 1)) return bad();
    c = *in->p++;
    if (c <= 0x7f || c >= 0xe0) return PyLong_FromLong((int8_t)c);
    if (c <= 0x8f) return take_dict(in, c & 0x0f, depth);
    if (c <= 0x9f) return take_list(in, c & 0x0f, depth);
    if (c <= 0xbf) return take_block(in, c & 0x1f, true);
    switch (c) {
    case 0xc0: return constant(Py_None);
    case 0xc2: return constant(Py_False);
    case 0xc3: return constant(Py_True);
    case 0xd2: return has(in, 4) ? PyLong_FromLong((int32_t)big(in, 4)) : bad();
    case 0xd3: return has(in, 8) ? PyLong_FromLongLong((int64_t)big(in, 8)) : bad();
    case 0xcb: return has(in, 8) ? take_float(in) : bad();
    case 0xc9: return take_tuple(in, depth);
    case 0xd6: return take_slot(in);
    case 0xd8: return take_ref(in);
    case 0xc7: return take_actor(in);
    case 0xc6:
    case 0xdb:
    case 0xdd:
    case 0xdf: return take_wide(in, c, depth);
    default: return bad();
    }
}

/* ---- pickles ---- */

/* The Buffer that owns the bytes of the value: a pin, or a copy of a small value. */
static struct buffer *own(struct py_source *s) {
    struct buffer *b = buffer_new(s->view.data, s->view.size, NULL);

    if (!b) return NULL;
    if (s->view.pin) {
        b->pin = s->job ? core_job_pin(py.core, s->job, &s->view) : s->view.pin;
        if (b->pin) link_pinned(b);
        s->view.pin = 0;
        return b;
    }
    if (posix_memalign(&b->copy, 64, s->view.size ? s->view.size : 1)) {
        b->copy = NULL;
        Py_DECREF((PyObject *)b);
        PyErr_NoMemory();
        return NULL;
    }
    memcpy(b->copy, s->view.data, s->view.size);
    b->data = b->copy;
    return b;
}

static _Thread_local bool writable;

bool py_decode_writable(bool on) {
    bool before = writable;

    writable = on;
    return before;
}

static PyObject *pickle_buffers(struct py_source *s, uint32_t n) {
    uint64_t size = s->view.size;
    struct buffer *base = own(s);
    PyObject *list = base ? PyList_New(0) : NULL;

    for (uint32_t i = 0; list && i < n; i++) {
        uint64_t at, len;
        PyObject *b;

        memcpy(&at, (const uint8_t *)base->data + 16 + 16 * i, 8);
        memcpy(&len, (const uint8_t *)base->data + 24 + 16 * i, 8);
        if (at > size || len > size - at) {
            bad();
            Py_CLEAR(list);
            break;
        }
        b = (PyObject *)buffer_new((const uint8_t *)base->data + at, len, (PyObject *)base);
        if (b && writable) {
            PyObject *memory = py_memory_of(b);

            Py_DECREF(b);
            b = memory;
        }
        if (!b || PyList_Append(list, b) < 0) Py_CLEAR(list);
        Py_XDECREF(b);
    }
    Py_XDECREF((PyObject *)base);
    return list;
}

static PyObject *decode_pickle(struct py_source *s) {
    const uint8_t *p = s->view.data;
    PyObject *loads = py_hook(HOOK_LOADS), *bytes, *buffers = NULL, *out = NULL;
    uint64_t head, len;
    uint32_t n;

    if (!loads) return NULL;
    if (s->view.size < 16) return bad();
    memcpy(&n, p, 4);
    memcpy(&len, p + 8, 8);
    head = 16 + 16 * (uint64_t)n;
    if (head > s->view.size || len > s->view.size - head) return bad();
    bytes = PyMemoryView_FromMemory((char *)(uintptr_t)(p + head), (Py_ssize_t)len, PyBUF_READ);
    if (!bytes) return NULL;
    if (n == 0) {
        out = PyObject_CallFunctionObjArgs(loads, bytes, NULL);
    } else if ((buffers = pickle_buffers(s, n)) != NULL) {
        PyObject *args = PyTuple_Pack(1, bytes), *kw = Py_BuildValue("{s:O}", "buffers", buffers);

        if (args && kw) out = PyObject_Call(loads, args, kw);
        Py_XDECREF(args);
        Py_XDECREF(kw);
    }
    Py_XDECREF(buffers);
    Py_DECREF(bytes);
    return out;
}

/* ---- tensors and tables: what a library makes of bytes that it reads in place ---- */

static PyObject *decode_in_place(struct py_source *s, enum py_hook hook) {
    uint8_t head[192]; /* of a tensor */
    uint64_t size = s->view.size;
    PyObject *bytes, *make, *out = NULL;

    memcpy(head, s->view.data, size < sizeof head ? size : sizeof head);
    bytes = (PyObject *)own(s);
    if (bytes && writable) {
        PyObject *memory = py_memory_of(bytes);

        Py_DECREF(bytes);
        bytes = memory;
    }
    if (!bytes) return NULL;
    if (hook == HOOK_TENSOR) out = py_array_decode(head, size, bytes);
    if (!out && !PyErr_Occurred() && (make = py_hook(hook)) != NULL)
        out = PyObject_CallFunctionObjArgs(make, bytes, NULL);
    Py_DECREF(bytes);
    return out;
}

/* ---- all forms ---- */

static void done(struct py_source *s) {
    if (s->view.pin && !s->job && py.core) core_unpin(py.core, s->view.pin);
    s->view.pin = 0;
}

static PyObject *decode(struct py_source *s) {
    struct in in = {s->view.data, (const uint8_t *)s->view.data + s->view.size, NULL};

    switch (s->view.format) {
    case FORMAT_RAW:
        return PyBytes_FromStringAndSize(s->view.data, (Py_ssize_t)s->view.size);
    case FORMAT_MSGPACK: return take(&in, PY_DEPTH + 2);
    case FORMAT_PICKLE5: return decode_pickle(s);
    case FORMAT_TENSOR: return decode_in_place(s, HOOK_TENSOR);
    case FORMAT_ARROW: return decode_in_place(s, HOOK_ARROW);
    default: return bad();
    }
}

PyObject *py_decode(struct py_source *s) {
    PyObject *o = decode(s);

    done(s);
    return o;
}

PyObject *py_decode_error(struct py_source *s, const struct skate_id *id) {
    bool system = s->view.flags & VAL_SYSTEM;
    PyObject *payload = py_decode(s), *make, *out;

    if (!payload) return NULL;
    make = py_hook(system ? HOOK_SYSTEM : HOOK_ERROR);
    if (!make) {
        Py_DECREF(payload);
        return NULL;
    }
    if (system)
        out = PyObject_CallFunction(make, "Oy#", payload, (const char *)id, (Py_ssize_t)16);
    else
        out = PyObject_CallFunctionObjArgs(make, payload, NULL);
    Py_DECREF(payload);
    return out;
}

/* ---- arguments ---- */

/* A new reference to what stands at a place of pickled arguments. */
static PyObject *resolve(PyObject *o, PyObject *deps) {
    if (Py_TYPE(o) == py.slot_type) {
        uint32_t index = ((struct slot *)(void *)o)->index;

        if (!deps || (Py_ssize_t)index >= PyList_Size(deps)) return bad();
        o = PyList_GetItem(deps, (Py_ssize_t)index);
    }
    Py_XINCREF(o);
    return o;
}

static int args_of_pair(PyObject *pair, PyObject *deps, PyObject **ret_args,
                        PyObject **ret_kwargs) {
    PyObject *args, *kwargs, *out, *more = NULL, *key, *value;
    Py_ssize_t pos = 0, n;

    if (!PyTuple_Check(pair) || PyTuple_Size(pair) != 2) return bad(), -1;
    args = PyTuple_GetItem(pair, 0);
    kwargs = PyTuple_GetItem(pair, 1);
    if (!PyTuple_Check(args) || (kwargs != Py_None && !PyDict_Check(kwargs))) return bad(), -1;
    n = PyTuple_Size(args);
    out = PyTuple_New(n);
    for (Py_ssize_t i = 0; out && i < n; i++) {
        PyObject *o = resolve(PyTuple_GetItem(args, i), deps);

        if (!o || PyTuple_SetItem(out, i, o) < 0) Py_CLEAR(out);
    }
    if (out && kwargs != Py_None) more = PyDict_New();
    while (more && PyDict_Next(kwargs, &pos, &key, &value)) {
        PyObject *o = resolve(value, deps);

        if (!o || PyDict_SetItem(more, key, o) < 0) Py_CLEAR(more);
        Py_XDECREF(o);
    }
    if (!out || PyErr_Occurred()) {
        Py_XDECREF(out);
        Py_XDECREF(more);
        return -1;
    }
    *ret_args = out;
    *ret_kwargs = more;
    return 0;
}

int py_decode_args(struct py_source *s, PyObject *deps, PyObject **ret_args,
                   PyObject **ret_kwargs) {
    struct in in = {s->view.data, (const uint8_t *)s->view.data + s->view.size, deps};
    PyObject *args, *kwargs = NULL;
    size_t n;

    if (s->view.format == FORMAT_PICKLE5) {
        PyObject *pair = py_decode(s);
        int r = pair ? args_of_pair(pair, deps, ret_args, ret_kwargs) : -1;

        Py_XDECREF(pair);
        return r;
    }
    if (s->view.format != FORMAT_MSGPACK) return bad(), -1;
    n = array_count(&in);
    args = n == SIZE_MAX ? bad() : take_items(&in, n, PY_DEPTH + 2);
    if (args && in.p < in.end) {
        kwargs = take(&in, PY_DEPTH + 2);
        if (!kwargs || !PyDict_Check(kwargs)) Py_CLEAR(args);
    }
    done(s);
    if (!args) {
        Py_XDECREF(kwargs);
        return bad(), -1;
    }
    *ret_args = args;
    *ret_kwargs = kwargs;
    return 0;
}
