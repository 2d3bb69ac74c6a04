/* py_create.c - StoreBuffer: memory of the object store that is written to before it is put.
 *
 * A large one is a draft of the core (core/create.h): its pages are those of the value, put() seals
 * them where they are, and this process can only read them from then on. A small one is private
 * pages: copying it is cheaper than an extent of its own, so put() copies, and then protects them.
 * What is put is the StoreBuffer itself, or the one array that skate.ndarray() made on it; views of
 * either are values like any other. In front of the bytes lies room for what else the value says:
 * exactly a tensor's header, or up to 4032 bytes of a pickle, after which the bytes begin a page.
 * Any thread that holds the interpreter lock. Tests: tests/python/test_create.py. */
#include "core/create.h"
#include "py_array.h"

#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/limits.h"

enum { PAGE = 4096, HEAD_MOST = PAGE - 64, SMALL = LIMIT_SLOT_BYTES };
enum state { OPEN, BUSY, SEALED };

struct store_buffer {
    PyObject_HEAD
    uint8_t *data;
    Py_ssize_t len;
    uint32_t head; /* bytes of the value before data */
    enum state state;
    uint64_t epoch;
    struct core_draft draft; /* of a large one, while its session lasts */
    bool large;
    void *map; /* what is unmapped at the end, of map_len bytes; NULL: the core's affair */
    size_t map_len;
    PyObject *array; /* weak reference to the array of skate.ndarray() */
    struct store_buffer *before, *after;
};
static struct store_buffer *buffers; /* all large ones */
static PyTypeObject *type;
static Py_ssize_t alive; /* all of them: put() looks for none when there is none */

static struct store_buffer *as_buffer(PyObject *o) { return (struct store_buffer *)(void *)o; }

static void dealloc(PyObject *self) {
    struct store_buffer *b = as_buffer(self);
    bool ours = py.core && b->epoch == py.epoch && !py.forked;

    Py_XDECREF(b->array);
    alive--;
    if (b->large) {
        *(b->before ? &b->before->after : &buffers) = b->after;
        if (b->after) b->after->before = b->before;
    }
    if (b->map && !py.forked) (void)munmap(b->map, b->map_len);
    if (b->large && ours && b->state == SEALED) core_unpin(py.core, b->draft.pin);
    if (b->large && ours && b->state != SEALED) core_draft_drop(py.core, &b->draft);
    PyObject_Free(self);
    Py_DECREF((PyObject *)type);
}

static int get_buffer(PyObject *self, Py_buffer *view, int flags) {
    struct store_buffer *b = as_buffer(self);

    return PyBuffer_FillInfo(view, self, b->data, b->len, b->state != OPEN, flags);
}

static Py_ssize_t length(PyObject *self) { return as_buffer(self)->len; }

/* A value like any other is a read-only memoryview of its bytes, which is what get() gives. */
static PyObject *reduce(PyObject *self, PyObject *protocol) {
    PyObject *pickle = PyImport_ImportModule("_pickle"), *all = PyMemoryView_FromObject(self);
    PyObject *view = all ? PyObject_CallMethod(all, "toreadonly", NULL) : NULL, *out = NULL;
    PyObject *bytes = NULL;

    (void)protocol;
    if (pickle && view) bytes = PyObject_CallMethod(pickle, "PickleBuffer", "O", view);
    if (bytes) out = Py_BuildValue("O(O)", (PyObject *)&PyMemoryView_Type, bytes);
    Py_XDECREF(bytes);
    Py_XDECREF(view);
    Py_XDECREF(all);
    Py_XDECREF(pickle);
    return out;
}

/* _made(array): the one array whose put() seals this buffer. */
static PyObject *made(PyObject *self, PyObject *array) {
    struct store_buffer *b = as_buffer(self);

    if (b->array) return PyErr_SetString(PyExc_ValueError, "it has an array"), NULL;
    b->array = PyWeakref_NewRef(array, NULL);
    if (!b->array) return NULL;
    Py_RETURN_NONE;
}

static PyObject *sealed(PyObject *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(as_buffer(self)->state != OPEN);
}

static PyObject *nbytes(PyObject *self, void *unused) {
    (void)unused;
    return PyLong_FromSsize_t(as_buffer(self)->len);
}

static PyMethodDef methods[] = {
    {"__reduce_ex__", reduce, METH_O, NULL},
    {"_made", made, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef getset[] = {
    {"sealed", sealed, NULL, "Was it put? Then nobody can write to it any more.", NULL},
    {"nbytes", nbytes, NULL, "How many bytes it has.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot slots[] = {
    {Py_tp_dealloc, dealloc},
    {Py_bf_getbuffer, get_buffer},
    {Py_sq_length, length},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_tp_doc, "Memory in the object store that may be written to until put() stores it."},
    {0, NULL},
};
static PyType_Spec spec = {
    .name = "skate._core.StoreBuffer",
    .basicsize = sizeof(struct store_buffer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int py_create_init(PyObject *module) {
    type = (PyTypeObject *)PyType_FromSpec(&spec);
    return type ? PyModule_AddObjectRef(module, "StoreBuffer", (PyObject *)type) : -1;
}

/* ---- making one ---- */

static int make_small(struct store_buffer *b) {
    b->map_len = ((size_t)b->len + PAGE) / PAGE * PAGE; /* one page at least */
    b->map = mmap(NULL, b->map_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b->map == MAP_FAILED) return b->map = NULL, PyErr_NoMemory(), -1;
    b->data = b->map;
    return 0;
}

static int make_large(struct store_buffer *b) {
    struct skate_error err = {{0}};
    int r;

    do {
        struct core *c = py.core;
        PyThreadState *save;

        if (!c) return py_fail(-SKATE_ESHUTDOWN, NULL), -1;
        save = py_leave();
        r = core_create(c, b->head + (uint64_t)b->len, &b->draft, &err);
        py_enter(save);
        r = py_room(c, r, &err);
    } while (r == -SKATE_EINTR && PyErr_CheckSignals() == 0);
    if (r < 0) {
        if (!PyErr_Occurred()) py_fail(r == -SKATE_ETOOBIG ? -SKATE_EFULL : r, err.text);
        return -1;
    }
    b->data = b->draft.data + b->head;
    b->large = true;
    b->after = buffers;
    if (buffers) buffers->before = b;
    buffers = b;
    return 0;
}

/* create_buffer(bytes, bytes of a tensor's header or 0) */
PyObject *py_create_buffer(PyObject *module, PyObject *args) {
    struct store_buffer *b;
    Py_ssize_t len;
    unsigned head;
    int r;

    (void)module;
    if (!PyArg_ParseTuple(args, "nI", &len, &head)) return NULL;
    if (len < 0 || head > HEAD_MOST || head % 64)
        return PyErr_SetString(PyExc_ValueError, "create_buffer(bytes, head)"), NULL;
    if (py_need_core() < 0) return NULL;
    b = PyObject_New(struct store_buffer, type);
    if (!b) return NULL;
    memset(&b->data, 0, sizeof *b - offsetof(struct store_buffer, data));
    alive++;
    b->len = len;
    b->head = head ? head : HEAD_MOST;
    b->epoch = py.epoch;
    r = len <= SMALL ? make_small(b) : make_large(b);
    if (r == 0) return (PyObject *)b;
    Py_DECREF((PyObject *)b);
    return NULL;
}

/* ---- put ---- */

/* The buffer that a put of this object seals, or has sealed; NULL: it is a value like any other. */
static struct store_buffer *whole(PyObject *o) {
    struct store_buffer *b = NULL;
    PyObject *base;

    if (Py_TYPE(o) == type) {
        b = as_buffer(o);
    } else if (py.array_type && Py_TYPE(o) == py.array_type) {
        base = PyObject_GetAttrString(o, "base");
        if (!base) return PyErr_Clear(), NULL;
        if (Py_TYPE(base) == type) b = as_buffer(base);
        if (b && (!b->array || PyWeakref_GetObject(b->array) != o)) b = NULL;
        Py_DECREF(base); /* the object holds it */
    }
    return b && b->epoch == py.epoch ? b : NULL;
}

/* What stands before the bytes of the value, if the value is this buffer as a whole. */
static bool head_of(const struct store_buffer *b, const struct py_value *pv, uint8_t *head) {
    const struct core_part *last = &pv->v.parts[pv->v.part_count - 1];
    uint64_t at = 0;

    if (pv->v.part_count < 2 || pv->v.ref_count || last->data != b->data ||
        last->size != (uint64_t)b->len)
        return false;
    memset(head, 0, b->head);
    for (uint32_t i = 0; i + 1 < pv->v.part_count; i++) {
        const struct core_part *part = &pv->v.parts[i];

        at = (at + part->align - 1) & ~(uint64_t)(part->align - 1);
        if (part->size > b->head - at) return false;
        if (part->size) memcpy(head + at, part->data, part->size);
        at += part->size;
    }
    if (pv->v.format == FORMAT_TENSOR) return at == b->head;
    if (pv->v.format != FORMAT_PICKLE5 || pv->view_count != 1) return false;
    memcpy(head + 16, &(uint64_t){b->head}, 8); /* where its one buffer begins */
    return true;
}

/* Arrays say by themselves that they cannot be written to; memory says it to everybody else. */
static void tell_array(struct store_buffer *b) {
    PyObject *array = b->array ? PyWeakref_GetObject(b->array) : NULL, *r;

    if (!array || array == Py_None) return;
    Py_INCREF(array);
    r = PyObject_CallMethod(array, "setflags", "i", 0);
    if (!r) PyErr_Clear();
    Py_XDECREF(r);
    Py_DECREF(array);
}

bool py_create_seal(PyObject *o, const struct py_value *pv, struct skate_id *ret) {
    struct store_buffer *b = alive ? whole(o) : NULL;
    uint8_t head[HEAD_MOST];
    PyThreadState *save;
    int r;

    if (!b || !b->large || b->state == BUSY || !head_of(b, pv, head)) return false;
    if (b->state == SEALED) {
        if (memcmp(b->data - b->head, head, b->head)) return false; /* another shape by now */
        core_ref_add(py.core, &b->draft.id);
        *ret = b->draft.id;
        return true;
    }
    b->state = BUSY;
    memcpy(b->data - b->head, head, b->head);
    save = py_leave();
    r = core_seal_put(py.core, &b->draft, pv->v.format, pv->v.flags, NULL);
    py_enter(save);
    b->state = r == 0 ? SEALED : OPEN;
    if (r < 0) return false; /* it is copied, then; what is wrong is said there */
    b->map = b->draft.map;
    b->map_len = b->draft.map_bytes;
    tell_array(b);
    *ret = b->draft.id;
    return true;
}

void py_create_stored(PyObject *o) {
    struct store_buffer *b = alive ? whole(o) : NULL;

    if (!b || b->large || b->state != OPEN) return;
    if (mprotect(b->map, b->map_len, PROT_READ) < 0) return; /* it was copied: no harm */
    b->state = SEALED;
    tell_array(b);
}

/* ---- the end of the session ---- */

/* Pages of our own with the same bytes, at the same place. */
static void make_private(struct store_buffer *b) {
    void *copy = mmap(NULL, b->map_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (copy == MAP_FAILED) return;
    memcpy(copy, b->map, b->map_len);
    if (b->state == SEALED) (void)mprotect(copy, b->map_len, PROT_READ);
    if (mremap(copy, b->map_len, b->map_len, MREMAP_MAYMOVE | MREMAP_FIXED, b->map) == MAP_FAILED)
        (void)munmap(copy, b->map_len);
}

void py_creates_keep(struct core *c) {
    for (struct store_buffer *b = buffers; b; b = b->after) {
        if (b->epoch != py.epoch) continue; /* of an earlier session */
        if (!b->map) core_draft_take(c, &b->draft);
        b->map = b->draft.map;
        b->map_len = b->draft.map_bytes;
        if (b->map) make_private(b);
    }
}
