/* py_watch.c - the type Watcher: objects that an event loop or a thread awaits.
 *
 * watch(ref, future) asks the core; when the object is here, the core rings the Watcher's eventfd
 * and the loop (or thread) calls drain(), which reads the values and settles the futures, a batch
 * at a time. A future is anything with done(), set_result() and set_exception(). A future that was
 * cancelled is passed over; many of them are swept out, so that a loop that awaits one slow ref
 * with timeouts does not grow. watch(ref, future, True) settles it with None instead: to know that
 * the object is here is enough. One thread uses a Watcher at a time. */
#include "py.h"

#include <stdlib.h>
#include <unistd.h>

enum { BATCH = 512, SWEEP_LEAST = 256 };

struct entry { /* the token is its address */
    struct entry *next, **at;
    PyObject *ref, *future;
    bool bare; /* the value is not asked for */
};

struct watcher {
    PyObject_HEAD
    uint64_t epoch;
    uint32_t set, count, sweep_at;
    int fd;
    bool open;
    struct entry *entries;
};

static PyObject *name_done, *name_result, *name_exception;

static struct watcher *as_watcher(PyObject *o) { return (struct watcher *)(void *)o; }

static bool living(const struct watcher *w) { return w->open && py.core && w->epoch == py.epoch; }

static void entry_free(struct watcher *w, struct entry *e) {
    *e->at = e->next;
    if (e->next) e->next->at = e->at;
    w->count--;
    Py_DECREF(e->ref);
    Py_DECREF(e->future);
    free(e);
}

/* Watcher(eventfd) */
static PyObject *watcher_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    struct watcher *w;
    uint32_t set = 0;
    int fd, r;

    (void)kwargs;
    if (!PyArg_ParseTuple(args, "i", &fd)) return NULL;
    if (py_need_core() < 0) return NULL;
    r = core_watch_open(py.core, fd, &set);
    if (r < 0) return py_fail(r, NULL);
    w = PyObject_New(struct watcher, type);
    if (!w) return core_watch_close(py.core, set), NULL;
    w->epoch = py.epoch;
    w->set = set;
    w->count = 0;
    w->sweep_at = SWEEP_LEAST;
    w->fd = fd;
    w->open = true;
    w->entries = NULL;
    return (PyObject *)w;
}

static PyObject *watcher_close(PyObject *self, PyObject *unused) {
    struct watcher *w = as_watcher(self);

    (void)unused;
    if (living(w)) core_watch_close(py.core, w->set);
    w->open = false;
    while (w->entries) entry_free(w, w->entries);
    Py_RETURN_NONE;
}

static void watcher_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject *none = watcher_close(self, NULL);

    Py_XDECREF(none);
    PyObject_Free(self);
    Py_DECREF(type);
}

static bool is_done(PyObject *future) {
    PyObject *r = PyObject_CallMethodObjArgs(future, name_done, NULL);
    bool done = !r || PyObject_IsTrue(r);

    Py_XDECREF(r);
    return done;
}

/* The exception that is set goes to the future. */
static int settle_error(PyObject *future) {
    PyObject *type, *error, *traceback, *r;

    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    r = PyObject_CallMethodObjArgs(future, name_exception, error ? error : type, NULL);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    Py_XDECREF(r);
    return r ? 0 : -1;
}

/* The value of a readable ref goes to the future: 1; 0: it is not readable (any more). */
static int settle(PyObject *ref, PyObject *future, bool bare) {
    PyObject *value = NULL, *out;
    int r;

    if (is_done(future)) {
        PyErr_Clear();
        return 1;
    }
    if (bare) {
        r = 1;
        value = Py_NewRef(Py_None);
    } else
        r = py_read(ref, &value);
    if (r == 0) return 0;
    if (r > 0) {
        out = PyObject_CallMethodObjArgs(future, name_result, value, NULL);
        Py_DECREF(value);
        if (!out) PyErr_WriteUnraisable(future);
        Py_XDECREF(out);
    } else if (settle_error(future) < 0)
        PyErr_WriteUnraisable(future);
    return 1;
}

/* Watches of futures that are done already (cancelled) are given up. */
static void sweep(struct watcher *w) {
    struct entry *e, *next;

    for (e = w->entries; e; e = next) {
        next = e->next;
        if (is_done(e->future) &&
            core_unwatch(py.core, w->set, &((struct py_ref *)(void *)e->ref)->id, (uintptr_t)e))
            entry_free(w, e);
    }
    PyErr_Clear();
    w->sweep_at = w->count * 2 > SWEEP_LEAST ? w->count * 2 : SWEEP_LEAST;
}

/* Watch until it is readable here; settles the future at once when it is. -1 with an exception. */
static int watch(struct watcher *w, PyObject *ref, PyObject *future, bool bare) {
    for (;;) {
        struct entry *e;
        int r;

        if (w->count >= w->sweep_at) sweep(w);
        e = malloc(sizeof *e);
        if (!e) return PyErr_NoMemory(), -1;
        r = core_watch(py.core, w->set, &((struct py_ref *)(void *)ref)->id, (uintptr_t)e);
        if (r == 0) {
            Py_INCREF(ref);
            Py_INCREF(future);
            *e = (struct entry){w->entries, &w->entries, ref, future, bare};
            if (e->next) e->next->at = &e->next;
            w->entries = e;
            w->count++;
            return 0;
        }
        free(e);
        if (r < 0) return py_fail(r, NULL), -1;
        if (settle(ref, future, bare)) return 0;
    }
}

static PyObject *watcher_watch(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    struct watcher *w = as_watcher(self);

    if (count < 2 || count > 3 || !py_is_ref(args[0]))
        return PyErr_SetString(PyExc_TypeError, "watch(ref, future, bare=False)"), NULL;
    if (py_ref_check(args[0]) < 0) return NULL;
    if (!living(w)) return py_fail(SKATE_ESHUTDOWN, NULL);
    if (watch(w, args[0], args[1], count == 3 && PyObject_IsTrue(args[2])) < 0) return NULL;
    Py_RETURN_NONE;
}

/* The session is over: nobody waits for what cannot come. */
static void fail_all(struct watcher *w) {
    while (w->entries) {
        struct entry *e = w->entries;
        PyObject *future = e->future;

        Py_INCREF(future);
        entry_free(w, e);
        if (!is_done(future)) {
            py_fail(SKATE_ESHUTDOWN, NULL);
            if (settle_error(future) < 0) PyErr_WriteUnraisable(future);
        }
        PyErr_Clear();
        Py_DECREF(future);
    }
}

static void one_done(struct watcher *w, struct entry *e) {
    PyObject *ref = e->ref, *future = e->future;
    bool bare = e->bare;

    Py_INCREF(ref);
    Py_INCREF(future);
    entry_free(w, e);
    if (!settle(ref, future, bare) && living(w) && watch(w, ref, future, bare) < 0 &&
        settle_error(future) < 0)
        PyErr_WriteUnraisable(future);
    Py_DECREF(ref);
    Py_DECREF(future);
}

/* drain(): settle what is done; called when the eventfd rang. */
static PyObject *watcher_drain(PyObject *self, PyObject *unused) {
    struct watcher *w = as_watcher(self);
    uint64_t tokens[BATCH], counter;
    uint32_t n;

    (void)unused;
    (void)!read(w->fd, &counter, sizeof counter); /* non-blocking */
    while (living(w) && (n = core_watch_take(py.core, w->set, tokens, BATCH)) > 0)
        for (uint32_t i = 0; i < n && w->open; i++)
            one_done(w, (struct entry *)(uintptr_t)tokens[i]);
    if (w->open && (!living(w) || !core_alive(py.core, NULL))) fail_all(w);
    Py_RETURN_NONE;
}

static PyObject *watcher_count(PyObject *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLong(as_watcher(self)->count);
}

static PyObject *watcher_living(PyObject *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(living(as_watcher(self)));
}

static PyMethodDef watcher_methods[] = {
    {"watch", (PyCFunction)(void (*)(void))watcher_watch, METH_FASTCALL, NULL},
    {"drain", watcher_drain, METH_NOARGS, NULL},
    {"close", watcher_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef watcher_getset[] = {
    {"count", watcher_count, NULL, NULL, NULL},
    {"living", watcher_living, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot watcher_slots[] = {
    {Py_tp_new, watcher_new},
    {Py_tp_dealloc, watcher_dealloc},
    {Py_tp_methods, watcher_methods},
    {Py_tp_getset, watcher_getset},
    {Py_tp_doc, "What an event loop or a thread awaits."},
    {0, NULL},
};
static PyType_Spec watcher_spec = {
    .name = "skate._core.Watcher",
    .basicsize = sizeof(struct watcher),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = watcher_slots,
};

int py_watch_init(PyObject *module) {
    PyObject *type = PyType_FromSpec(&watcher_spec);
    int r;

    name_done = PyUnicode_InternFromString("done");
    name_result = PyUnicode_InternFromString("set_result");
    name_exception = PyUnicode_InternFromString("set_exception");
    if (!type || !name_done || !name_result || !name_exception) return -1;
    r = PyModule_AddObjectRef(module, "Watcher", type);
    Py_DECREF(type);
    return r;
}
