/* py_memory.c - Memory: bytes of a value that its receiver may write to, without a copy.
 *
 * The arena is mapped read-only. A Memory is a second, private mapping of the same pages: what is
 * read is the arena's, what is written becomes this process's own, a page at a time. It keeps the
 * Buffer it was made of, and with that the pin of the value, for its whole life: pages that were
 * not written to are the store's still, and must be neither reused nor spilled. Small ones are
 * plain copies. When the session ends the pages that were not written are made private, too. Any
 * thread that holds the interpreter lock; never blocks. Tests: tests/python/test_writable.py. */
#include "core/locate.h"
#include "core/private_view.h"
#include "py.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SMALL = 64 * 1024 }; /* from here on a mapping is cheaper than a copy */

struct memory {
    PyObject_HEAD
    uint8_t *data;
    Py_ssize_t len;
    void *map;      /* of map_len bytes; or, when that is 0, what free() takes */
    size_t map_len;
    PyObject *base;
    bool shy; /* writable for those only who ask for that */
    struct memory *before, *after; /* in the list of those that are mapped */
};
static struct memory *mapped;

static struct memory *as_memory(PyObject *o) { return (struct memory *)(void *)o; }

static void link_mapped(struct memory *m) {
    m->before = NULL;
    m->after = mapped;
    if (mapped) mapped->before = m;
    mapped = m;
}

static void unlink_mapped(struct memory *m) {
    if (m->before)
        m->before->after = m->after;
    else
        mapped = m->after;
    if (m->after) m->after->before = m->before;
}

static void memory_dealloc(PyObject *self) {
    struct memory *m = as_memory(self);
    PyTypeObject *type = Py_TYPE(self);

    if (m->map_len) {
        unlink_mapped(m);
        (void)munmap(m->map, m->map_len);
    } else
        free(m->map);
    Py_XDECREF(m->base);
    PyObject_Free(self);
    Py_DECREF(type);
}

static int memory_get(PyObject *self, Py_buffer *view, int flags) {
    struct memory *m = as_memory(self);
    int readonly = m->shy && !(flags & PyBUF_WRITABLE);

    return PyBuffer_FillInfo(view, self, m->data, m->len, readonly, flags);
}

static Py_ssize_t memory_len(PyObject *self) { return as_memory(self)->len; }

static PyType_Slot memory_slots[] = {
    {Py_tp_dealloc, memory_dealloc},
    {Py_bf_getbuffer, memory_get},
    {Py_sq_length, memory_len},
    {Py_tp_doc, "Bytes of a stored value that this process may write to."},
    {0, NULL},
};
static PyType_Spec memory_spec = {
    .name = "skate._core.Memory",
    .basicsize = sizeof(struct memory),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = memory_slots,
};
static PyTypeObject *memory_type;

int py_memory_init(void) {
    memory_type = (PyTypeObject *)PyType_FromSpec(&memory_spec);
    return memory_type ? 0 : -1;
}

/* The bytes at `from`, writable; base holds them. */
static PyObject *memory_new(const void *from, Py_ssize_t len, PyObject *base) {
    struct memory *m = PyObject_New(struct memory, memory_type);

    if (!m) return NULL;
    m->len = len;
    m->map = NULL;
    m->map_len = 0;
    m->base = NULL;
    m->shy = false;
    if (len >= SMALL && py.core &&
        core_private_view(py.core, from, (uint64_t)len, &m->map, &m->map_len) == 0) {
        size_t page = (size_t)sysconf(_SC_PAGESIZE);

        m->data = (uint8_t *)m->map + ((uintptr_t)from & (page - 1));
        m->base = Py_NewRef(base);
        link_mapped(m);
        return (PyObject *)m;
    }
    if (posix_memalign(&m->map, 64, len ? (size_t)len : 1)) {
        m->map = NULL;
        Py_DECREF((PyObject *)m);
        return PyErr_NoMemory();
    }
    m->data = m->map;
    memcpy(m->data, from, (size_t)len);
    return (PyObject *)m;
}

static PyObject *memory_of(PyObject *buffer, bool shy) {
    Py_buffer view;
    PyObject *out;

    if (PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE) < 0) return NULL;
    out = memory_new(view.buf, view.len, buffer);
    PyBuffer_Release(&view);
    if (out) as_memory(out)->shy = shy;
    return out;
}

/* For pickle. What its maker could not write to pickle would wrap into a read-only view, unless it
 * looks like one already; numpy asks for the right to write, and gets it. */
PyObject *py_memory_of(PyObject *buffer) { return memory_of(buffer, true); }

PyObject *py_writable(PyObject *module, PyObject *buffer) {
    (void)module;
    return memory_of(buffer, false);
}

PyObject *py_locate(PyObject *module, PyObject *ref) {
    struct core_place place;
    int r;

    (void)module;
    if (!py_is_ref(ref)) return PyErr_SetString(PyExc_TypeError, "locate(ref)"), NULL;
    if (py_need_core() < 0 || py_ref_check(ref) < 0) return NULL;
    r = core_locate(py.core, &((struct py_ref *)(void *)ref)->id, &place);
    if (r < 0) return py_fail(r, NULL);
    return Py_BuildValue("OOIKO", place.ready ? Py_True : Py_False,
                         place.copied ? Py_True : Py_False, (unsigned)place.node,
                         (unsigned long long)place.size, place.spilled ? Py_True : Py_False);
}

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Make the pages that were not written our own, too. The kernel does it without a write of ours, so
 * that no write of another thread is lost; before Linux 5.14 by hand. */
static void own_pages(const struct memory *m) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    if (madvise(m->map, m->map_len, MADV_POPULATE_WRITE) == 0) return;
    for (size_t at = 0; at < m->map_len; at += page) {
        volatile uint8_t *byte = (uint8_t *)m->map + at;

        *byte = *byte;
    }
}

void py_memories_keep(void) {
    for (struct memory *m = mapped; m; m = m->after) own_pages(m);
}
