/* py_wait.c - put, get and wait: the calls that block on objects.
 *
 * get of many refs is one core_wait and then a loop of reads and decodes. A signal interrupts the
 * wait: its Python handler runs, then the wait goes on with the time that is left. */
#include "py_array.h"
#include "core/core_room.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t now_ns(void) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* None or seconds to nanoseconds; -1 is for ever, -2 an exception. */
static int64_t timeout_ns(PyObject *o) {
    double seconds;

    if (o == Py_None) return -1;
    seconds = PyFloat_AsDouble(o);
    if (seconds == -1.0 && PyErr_Occurred()) return -2;
    if (seconds != seconds) return PyErr_SetString(PyExc_ValueError, "timeout is not a number"), -2;
    if (seconds < 0) seconds = 0;
    return seconds > 9e9 ? -1 : (int64_t)(seconds * 1e9);
}

/* Is one of the ready ones an error? Then the core has stopped early. */
static bool any_error(const struct skate_id *ids, const uint8_t *ready, uint32_t n) {
    uint8_t copy[LIMIT_INLINE_VALUE] __attribute__((aligned(64)));

    for (uint32_t i = 0; i < n; i++) {
        struct core_view view;

        if (!ready[i] || core_read(py.core, &ids[i], copy, &view) < 0) continue;
        if (view.pin) core_unpin(py.core, view.pin);
        if (view.flags & VAL_ERROR) return true;
    }
    return false;
}

/* A driver's wait is cut into slices: a signal that comes a moment before the core sleeps, or that
 * the kernel gives to another thread, wakes nobody. Workers need no Ctrl-C, and their waits are
 * told to the raylet. */
enum { SLICE_NS = 250000000, FEW = 16 };

/* Once in an async actor: a blocking call there stops the event loop. */
static void warn_blocking(void) {
    PyObject *hook, *r;

    py.warned = true;
    hook = py_hook(HOOK_BLOCKING);
    r = hook ? PyObject_CallNoArgs(hook) : NULL;
    if (!r) PyErr_Clear();
    Py_XDECREF(r);
}

/* core_wait that runs signal handlers in between. The number ready, or -1 with an exception. */
static int wait_ready(const struct skate_id *ids, uint32_t n, uint32_t need, int64_t timeout,
                      unsigned flags, uint8_t *ready) {
    bool error = flags & CORE_STOP_ON_ERROR, sliced = core_get_info(py.core)->is_driver;
    int64_t deadline = timeout < 0 ? INT64_MAX : now_ns() + timeout;
    struct core *c;
    int r;

    if (py.several && !py.warned && timeout != 0) warn_blocking();
    for (;;) {
        PyThreadState *save;
        int64_t left = timeout < 0 ? -1 : deadline - now_ns(), slice;

        if (timeout >= 0 && left < 0) left = 0;
        slice = sliced && (left < 0 || left > SLICE_NS) ? SLICE_NS : left;
        if (!(c = py.core)) return py_fail(SKATE_ESHUTDOWN, NULL), -1;
        save = py_leave();
        r = core_wait(c, ids, n, need, slice, flags, ready);
        py_enter(save);
        if (r < 0 && r != -SKATE_EINTR) return py_fail(r, NULL), -1;
        if (PyErr_CheckSignals() < 0) return -1;
        if (r == -SKATE_EINTR) continue;
        if ((uint32_t)r >= need || slice == left) return r;
        if (error && r > 0 && any_error(ids, ready, n)) return r;
    }
}

int py_wait_one(const struct skate_id *id, PyObject *timeout) {
    int64_t ns = timeout_ns(timeout);
    uint8_t ready = 0;

    return ns == -2 ? -1 : wait_ready(id, 1, 1, ns, 0, &ready);
}

/* ---- get ---- */

static PyObject *raise_value(struct py_source *s, const struct skate_id *id) {
    PyObject *error = py_decode_error(s, id);

    if (!error) return NULL;
    if (PyExceptionInstance_Check(error))
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    else
        PyErr_SetString(PyExc_SystemError, "an error value is not an exception");
    Py_DECREF(error);
    return NULL;
}

/* The value of a ref: 1 and *ret, 0 when it is not ready, -1 with an exception. */
int py_read(PyObject *ref, PyObject **ret) {
    uint8_t copy[LIMIT_INLINE_VALUE] __attribute__((aligned(64)));
    const struct skate_id *id = &((struct py_ref *)(void *)ref)->id;
    struct py_source s = {0};
    int r;

    if (!py.core) return py_fail(SKATE_ESHUTDOWN, NULL), -1;
    r = core_read(py.core, id, copy, &s.view);
    if (r == -SKATE_EAGAIN) return 0;
    if (r < 0) return py_fail(r, NULL), -1;
    *ret = s.view.flags & VAL_ERROR ? raise_value(&s, id) : py_decode(&s);
    return *ret ? 1 : -1;
}

/* first: one that is missing. */
static PyObject *raise_timeout(uint32_t done, uint32_t count, PyObject *timeout, PyObject *first) {
    PyObject *make = py_hook(HOOK_TIMEOUT), *error;

    if (!make) return NULL;
    error = PyObject_CallFunction(make, "IIOO", done, count, timeout, first);
    if (!error) return NULL;
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
    return NULL;
}

/* Ctrl-C in a long wait: the exception says what was waited for. */
static void note_interrupt(PyObject *ref, int64_t since_ns) {
    double waited = (double)(now_ns() - since_ns) / 1e9;
    PyObject *type, *error, *trace, *hook, *done;

    if (waited < 1 || !PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) return;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    hook = py_hook(HOOK_NOTE);
    done = hook && error ? PyObject_CallFunction(hook, "OOd", error, ref, waited) : NULL;
    Py_XDECREF(done);
    PyErr_Clear(); /* without the note then */
    PyErr_Restore(type, error, trace);
}

/* Until deadline_ns: 1 and *ret, 0 when the time is over, -1 with an exception. */
static int read_by(PyObject *ref, int64_t deadline_ns, PyObject **ret) {
    int r;

    while ((r = py_read(ref, ret)) == 0) {
        int64_t began = now_ns(), left = deadline_ns - began;
        uint8_t ready = 0;

        r = wait_ready(&((struct py_ref *)(void *)ref)->id, 1, 1,
                       deadline_ns == INT64_MAX ? -1 : left > 0 ? left : 0, CORE_FETCH, &ready);
        if (r < 0) note_interrupt(ref, began);
        if (r < 0 || (r == 0 && deadline_ns != INT64_MAX)) return r;
    }
    return r;
}

static PyObject *get_one(PyObject *ref, PyObject *timeout) {
    int64_t ns = timeout_ns(timeout);
    PyObject *value = NULL;
    int r;

    if (ns == -2 || py_ref_check(ref) < 0) return NULL;
    r = py_read(ref, &value);
    if (r == 0) r = read_by(ref, ns < 0 ? INT64_MAX : now_ns() + ns, &value);
    return r < 0 ? NULL : r == 0 ? raise_timeout(0, 1, timeout, ref) : value;
}

/* Fewer are ready than asked for: an error among them, or the time was over. */
static PyObject *not_all(PyObject **refs, const uint8_t *ready, uint32_t n, PyObject *timeout) {
    uint32_t done = 0, first = n;

    for (uint32_t i = 0; i < n; i++) {
        PyObject *value = NULL;

        if (!ready[i] && first == n) first = i;
        if (!ready[i]) continue;
        done++;
        if (py_read(refs[i], &value) < 0) return NULL;
        Py_XDECREF(value);
    }
    return raise_timeout(done, n, timeout, refs[first < n ? first : 0]);
}

/* Of refs that were waited for, one that is still missing. */
static PyObject *first_missing(PyObject **refs, const struct skate_id *ids, uint32_t n) {
    uint8_t copy[LIMIT_INLINE_VALUE] __attribute__((aligned(64)));

    for (uint32_t i = 0; py.core && i < n; i++) {
        struct core_view view;

        if (core_read(py.core, &ids[i], copy, &view) < 0) return refs[i];
        if (view.pin) core_unpin(py.core, view.pin);
    }
    return refs[0];
}

static PyObject *get_many(PyObject **refs, uint32_t n, PyObject *timeout) {
    int64_t ns = timeout_ns(timeout);
    struct skate_id *ids = malloc(n * sizeof *ids + n + 1);
    uint8_t *ready = (uint8_t *)(ids + n);
    PyObject *list = NULL;
    int64_t began = now_ns();
    int r = -1;

    if (!ids) return PyErr_NoMemory();
    for (uint32_t i = 0; i < n; i++) {
        if (ns == -2 || py_ref_check(refs[i]) < 0) goto out;
        ids[i] = ((struct py_ref *)(void *)refs[i])->id;
    }
    memset(ready, 0, n);
    if (n) r = wait_ready(ids, n, n, ns, CORE_FETCH | CORE_STOP_ON_ERROR, ready);
    if (n && r < 0) {
        note_interrupt(first_missing(refs, ids, n), began);
        goto out;
    }
    if (n && (uint32_t)r < n) {
        not_all(refs, ready, n, timeout);
        goto out;
    }
    list = PyList_New((Py_ssize_t)n);
    for (uint32_t i = 0; list && i < n; i++) {
        PyObject *value = NULL;

        r = py_read(refs[i], &value);
        if (r == 0 && py.core) core_ahead(py.core, ids + i + 1, n - i - 1);
        /* What is not here (it moved meanwhile, or lies in a file) is waited for again. */
        if (r == 0) r = read_by(refs[i], ns < 0 ? INT64_MAX : began + ns, &value);
        if (r == 0) raise_timeout(i, n, timeout, refs[i]);
        if (!value || PyList_SetItem(list, (Py_ssize_t)i, value) < 0) Py_CLEAR(list);
    }
out:
    free(ids);
    return list;
}

/* The items of a list, kept alive; *ret_n their number. Freed by drop_items. */
static PyObject **take_items(PyObject *list, uint32_t *ret_n) {
    Py_ssize_t n = PyList_Size(list);
    PyObject **items = malloc(((size_t)n + 1) * sizeof *items);

    if (!items) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        items[i] = PyList_GetItem(list, i);
        Py_INCREF(items[i]);
    }
    *ret_n = (uint32_t)n;
    return items;
}

static void drop_items(PyObject **items, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) Py_DECREF(items[i]);
    free(items);
}

static bool all_refs(const char *function, PyObject **items, uint32_t n, uint32_t first) {
    for (uint32_t i = 0; i < n; i++)
        if (!py_is_ref(items[i])) {
            PyErr_Format(PyExc_TypeError, "%s() takes a list of ObjectRef, item %u is %R", function,
                         first + i, items[i]);
            return false;
        }
    return true;
}

/* get(ref or list, timeout) */
PyObject *py_get(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    PyObject **refs, *out;
    uint32_t n;

    (void)module;
    if (count != 2) return PyErr_SetString(PyExc_TypeError, "get(refs, timeout)"), NULL;
    if (py_is_ref(args[0])) {
        if (!py.core && py_need_core() < 0) return NULL;
        return get_one(args[0], args[1]);
    }
    if (!PyList_Check(args[0])) {
        if (PyObject_HasAttrString(args[0], "_generator_ref")) return Py_NewRef(args[0]);
        PyErr_Format(PyExc_ValueError, "get() takes an ObjectRef or a list of them, not %R",
                     Py_TYPE(args[0]));
        return NULL;
    }
    if (py_need_core() < 0) return NULL;
    refs = take_items(args[0], &n);
    if (!refs) return NULL;
    out = all_refs("get", refs, n, 0) ? get_many(refs, n, args[1]) : NULL;
    drop_items(refs, n);
    return out;
}

/* get_writable(ref or list, timeout): arrays in the values may be written to */
PyObject *py_get_writable(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    bool before = py_decode_writable(true);
    PyObject *out = py_get(module, args, count);

    (void)py_decode_writable(before);
    return out;
}

/* ---- wait ---- */

/* Is an id there twice? 1 with ValueError, -1 without memory. */
static int same_twice(const struct skate_id *ids, uint32_t n) {
    uint32_t few[64] = {0}, size = 64, *cells = few, i;

    while (size < 2 * n) size *= 2;
    if (size > 64) cells = calloc(size, sizeof *cells);
    if (!cells) return PyErr_NoMemory(), -1;
    for (i = 0; i < n; i++) {
        uint32_t at = (uint32_t)id_hash(&ids[i]) & (size - 1);

        while (cells[at] && !id_equal(&ids[cells[at] - 1], &ids[i])) at = (at + 1) & (size - 1);
        if (cells[at]) break;
        cells[at] = i + 1;
    }
    if (cells != few) free(cells);
    if (i == n) return 0;
    PyErr_SetString(PyExc_ValueError, "wait() takes each ref once only");
    return 1;
}

static PyObject *split(PyObject **refs, const uint8_t *ready, uint32_t n, uint32_t most) {
    PyObject *yes = PyList_New(0), *no = PyList_New(0), *out = NULL;
    uint32_t taken = 0;
    int r = 0;

    for (uint32_t i = 0; yes && no && r == 0 && i < n; i++) {
        bool is_ready = ready[i] && taken < most;

        taken += is_ready;
        r = PyList_Append(is_ready ? yes : no, refs[i]);
    }
    if (yes && no && r == 0) out = PyTuple_Pack(2, yes, no);
    Py_XDECREF(yes);
    Py_XDECREF(no);
    return out;
}

/* The ids of a list of refs, none of them twice. NULL with an exception; else to be freed: n ids
 * and room for n bytes. */
static struct skate_id *list_ids(PyObject *list, uint32_t n) {
    struct skate_id *ids = malloc(n * sizeof *ids + n + 1);
    bool rising = true; /* as those made one after the other are: then none is there twice */

    if (!ids) return PyErr_NoMemory(), NULL;
    for (uint32_t i = 0; i < n; i++) {
        PyObject *ref = PyList_GetItem(list, (Py_ssize_t)i);

        if (!all_refs("wait", &ref, 1, i) || py_ref_check(ref) < 0) return free(ids), NULL;
        ids[i] = ((struct py_ref *)(void *)ref)->id;
        if (i && (ids[i].owner != ids[i - 1].owner || ids[i].seq <= ids[i - 1].seq))
            rising = false;
    }
    if (!rising && same_twice(ids, n)) return free(ids), NULL;
    return ids;
}

/* A few are taken out of a long list: the rest is a copy of it without them. */
static PyObject *take_few(PyObject *list, const uint8_t *ready, uint32_t n, uint32_t few) {
    PyObject *yes = PyList_New((Py_ssize_t)few), *no = PyList_GetSlice(list, 0, (Py_ssize_t)n);
    PyObject *out = NULL;
    int r = yes && no ? 0 : -1;

    for (uint32_t i = n, left = few; r == 0 && left > 0 && i-- > 0;)
        if (ready[i]) {
            r = PyList_SetItem(yes, (Py_ssize_t)--left, Py_NewRef(PyList_GetItem(list, i)));
            if (r == 0) r = PyList_SetSlice(no, (Py_ssize_t)i, (Py_ssize_t)i + 1, NULL);
        }
    if (r == 0) out = PyTuple_Pack(2, yes, no);
    Py_XDECREF(yes);
    Py_XDECREF(no);
    return out;
}

/* wait(list, num_returns, timeout, fetch_local); the wrapper has checked the numbers. */
PyObject *py_wait(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    struct skate_id *ids = NULL;
    PyObject **refs, *out = NULL;
    uint32_t n, need;
    unsigned fetch;
    uint8_t *ready;
    int64_t ns;
    int found;

    (void)module;
    if (count != 4 || !PyList_Check(args[0]))
        return PyErr_SetString(PyExc_TypeError, "wait(list, num_returns, timeout, fetch)"), NULL;
    if (py_need_core() < 0) return NULL;
    need = (uint32_t)PyLong_AsUnsignedLong(args[1]);
    ns = timeout_ns(args[2]);
    if (ns == -2 || PyErr_Occurred()) return NULL;
    fetch = PyObject_IsTrue(args[3]) ? CORE_FETCH : 0;
    n = (uint32_t)PyList_Size(args[0]);
    ids = list_ids(args[0], n);
    if (!ids) return NULL;
    ready = (uint8_t *)(ids + n);
    if (need <= FEW && core_peek(py.core, ids, n, need, fetch, ready) == need) {
        out = take_few(args[0], ready, n, need);
        free(ids);
        return out;
    }
    refs = take_items(args[0], &n); /* the list may change while we wait */
    if (!refs) return free(ids), NULL;
    memset(ready, 0, n);
    found = n ? wait_ready(ids, n, need, ns, fetch, ready) : 0;
    /* When all are asked for, the core looks no further than the first that is missing. */
    if (found >= 0 && (uint32_t)found < need && need == n && n > 1)
        found = wait_ready(ids, n, n - 1, 0, fetch, ready);
    if (found >= 0) out = split(refs, ready, n, need);
    free(ids);
    drop_items(refs, n);
    return out;
}

/* ---- put ---- */

PyObject *py_put(PyObject *module, PyObject *object) {
    struct skate_error err = {{0}};
    uint8_t scratch[PY_SCRATCH];
    struct skate_id id;
    struct py_value pv;
    uint32_t parts;
    int r;

    (void)module;
    if (py_need_core() < 0) return NULL;
    if (py_is_ref(object)) {
        PyErr_SetString(PyExc_TypeError, "put() of an ObjectRef is not allowed (its value is "
                                         "stored already); put it into a list if you mean the ref");
        return NULL;
    }
    py_value_init(&pv, scratch, sizeof scratch);
    if (py_encode(&pv, object) < 0) {
        py_value_release(&pv);
        return NULL;
    }
    if (pv.v.part_count > 1 && py_create_seal(object, &pv, &id)) {
        py_value_release(&pv);
        if (py.note_sites) py_note_site(&id, "put object");
        return py_ref_new(py.ref_type, &id, false);
    }
    do {
        struct core *c = py.core;

        if (!c) {
            r = -SKATE_ESHUTDOWN;
            break;
        }
        if (py_value_size(&pv) <= 65536) {
            r = core_put(c, &pv.v, &id, &err);
        } else {
            PyThreadState *save = py_leave();

            r = core_put(c, &pv.v, &id, &err);
            py_enter(save);
        }
        r = py_room(c, r, &err);
    } while (r == -SKATE_EINTR && PyErr_CheckSignals() == 0);
    parts = pv.v.part_count;
    py_value_release(&pv);
    if (r < 0) return py_fail(r, err.text);
    if (parts > 1) py_create_stored(object);
    if (py.note_sites) py_note_site(&id, "put object");
    return py_ref_new(py.ref_type, &id, false);
}


/* ---- why ---- */

/* why(list of refs, seconds, seconds waited or -1): the text of core_why. */
PyObject *py_why(PyObject *module, PyObject *args) {
    struct skate_id ids[16];
    struct core_why_ask ask = {.ids = ids};
    PyObject *list, *out = NULL;
    PyThreadState *save;
    double seconds, waited;
    struct core *c;
    uint32_t n = 0;
    char *text;
    int r;

    (void)module;
    if (!PyArg_ParseTuple(args, "Odd", &list, &seconds, &waited)) return NULL;
    if (!PyList_Check(list)) return PyErr_SetString(PyExc_TypeError, "why(list, seconds)"), NULL;
    for (Py_ssize_t i = 0; i < PyList_Size(list) && n < 16; i++) {
        PyObject *ref = PyList_GetItem(list, i);

        if (!py_is_ref(ref))
            return PyErr_SetString(PyExc_TypeError, "an ObjectRef is needed"), NULL;
        if (py_ref_check(ref) < 0) return NULL;
        ids[n++] = ((struct py_ref *)(void *)ref)->id;
    }
    if (!(c = py.core)) return py_fail(SKATE_ESHUTDOWN, NULL);
    text = malloc(CORE_WHY_BYTES);
    if (!text) return PyErr_NoMemory();
    save = py_leave();
    ask.count = n;
    ask.timeout_ns = (int64_t)(seconds * 1e9);
    ask.waited_ns = waited < 0 ? -1 : (int64_t)(waited * 1e9);
    r = core_why(c, &ask, text);
    py_enter(save);
    if (r == 0) out = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
    free(text);
    return r < 0 ? py_fail(r, NULL) : out;
}
