/* rl_py_algo.c - skate._rl.Algo: any algorithm of the engine by name: acts, learns, keeps state.
 *
 * learn(), gradient() and apply() give the interpreter lock away; `busy` keeps other threads from
 * the object meanwhile. Options and spaces come as dictionaries and are copied, columns as buffers
 * that are used during the call. Tests: tests/rl/test_algo.py. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "rl/algo/algo.h"
#include "rl_py.h"

/* ---- what a constructor is given, as plain C ---- */

enum { OPTIONS_MAX = 128, NUMBERS_MAX = 4096 };

struct given {
    struct algo_setup setup;
    struct algo_option options[OPTIONS_MAX];
    double numbers[NUMBERS_MAX];
    int n_numbers;
    PyObject *keep;             /* list: bytes of keys and texts */
    float *floats;              /* bounds of both spaces */
    int *sizes;
    int n_floats, n_sizes, room_floats, room_sizes;
};

/* The text of a str, kept until the list dies. NULL with an exception. */
static const char *text_of(struct given *g, PyObject *object) {
    PyObject *bytes = PyUnicode_AsUTF8String(object);
    const char *text = NULL;

    if (bytes && PyList_Append(g->keep, bytes) == 0)
        text = PyBytes_AsString(bytes);
    Py_XDECREF(bytes);
    return text;
}

static int number_of(struct given *g, PyObject *object, const char *what) {
    double x = PyFloat_AsDouble(object);

    if (PyErr_Occurred())
        return -1;
    if (isnan(x)) {
        PyErr_Format(PyExc_ValueError, "%s: not a number (NaN)", what);
        return -1;
    }
    if (g->n_numbers == NUMBERS_MAX) {
        PyErr_Format(PyExc_ValueError, "%s: more than %d numbers in all options", what,
                     NUMBERS_MAX);
        return -1;
    }
    g->numbers[g->n_numbers++] = x;
    return 0;
}

static int option_of(struct given *g, PyObject *key, PyObject *value) {
    struct algo_option *o = &g->options[g->setup.n_options];
    Py_ssize_t n;

    if (g->setup.n_options == OPTIONS_MAX) {
        PyErr_Format(PyExc_ValueError, "more than %d options", OPTIONS_MAX);
        return -1;
    }
    *o = (struct algo_option){ .key = text_of(g, key), .list = g->numbers + g->n_numbers };
    if (!o->key)
        return -1;
    g->setup.n_options++;
    if (PyUnicode_Check(value)) {
        o->text = text_of(g, value);
        return o->text ? 0 : -1;
    }
    if (!PyList_Check(value) && !PyTuple_Check(value)) {
        o->n = 1;
        return number_of(g, value, o->key);
    }
    o->is_list = true;
    n = PySequence_Size(value);
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PySequence_GetItem(value, i);
        int r = item ? number_of(g, item, o->key) : -1;

        Py_XDECREF(item);
        if (r < 0)
            return -1;
        o->n++;
    }
    return 0;
}

static int options_of(struct given *g, PyObject *dict) {
    PyObject *key, *value;
    Py_ssize_t at = 0;

    if (dict == Py_None)
        return 0;
    while (PyDict_Next(dict, &at, &key, &value))
        if (option_of(g, key, value) < 0)
            return -1;
    return 0;
}

/* Up to `max` integers of a list under `key`; how many (0 if it is missing), or -1. */
static int ints_of(PyObject *dict, const char *key, int *ret, int max) {
    PyObject *list = PyDict_GetItemString(dict, key);
    Py_ssize_t n = list && list != Py_None ? PySequence_Size(list) : 0;

    if (n > max) {
        PyErr_Format(PyExc_ValueError, "%s: more than %d numbers", key, max);
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PySequence_GetItem(list, i);
        long x = item ? PyLong_AsLong(item) : -1;

        Py_XDECREF(item);
        if (PyErr_Occurred())
            return -1;
        if (x < 0 || x > INT32_MAX) {
            PyErr_Format(PyExc_ValueError, "%s: %ld is out of range", key, x);
            return -1;
        }
        ret[i] = (int)x;
    }
    return (int)n;
}

static const float *bounds_of(struct given *g, PyObject *dict, const char *key, int size) {
    PyObject *list = PyDict_GetItemString(dict, key);
    float *ret = g->floats + g->n_floats;

    if (!list || list == Py_None)
        return NULL;
    if (PySequence_Size(list) != size) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_ValueError, "a space's '%s' has not %d numbers", key, size);
        return NULL;
    }
    for (int i = 0; i < size; i++) {
        PyObject *item = PySequence_GetItem(list, i);
        double x = item ? PyFloat_AsDouble(item) : 0.0;

        Py_XDECREF(item);
        if (PyErr_Occurred())
            return NULL;
        ret[i] = (float)x;
    }
    g->n_floats += size;
    return ret;
}

static int box_of(struct given *g, PyObject *dict, struct algo_space *s) {
    int shape[8], n = ints_of(dict, "shape", shape, 8);

    if (n < 0)
        return -1;
    s->kind = ALGO_BOX;
    if (n == 3)
        memcpy(s->image, shape, sizeof s->image);
    s->low = bounds_of(g, dict, "low", s->size);
    if (!PyErr_Occurred())
        s->high = bounds_of(g, dict, "high", s->size);
    return PyErr_Occurred() ? -1 : 0;
}

static int space_of(struct given *g, PyObject *dict, struct algo_space *s, const char *what) {
    PyObject *kind = PyDict_GetItemString(dict, "kind");
    PyObject *size = PyDict_GetItemString(dict, "size");
    const char *name = kind && PyUnicode_Check(kind) ? text_of(g, kind) : "";

    if (!name)
        return -1;
    if (strcmp(name, "multi") == 0) {
        s->kind = ALGO_MULTI;
        s->sizes = g->sizes + g->n_sizes;
        s->size = ints_of(dict, "sizes", g->sizes + g->n_sizes, g->room_sizes - g->n_sizes);
        g->n_sizes += s->size > 0 ? s->size : 0;
        return s->size < 0 ? -1 : 0;
    }
    s->size = size ? (int)PyLong_AsLong(size) : 0;
    if (PyErr_Occurred())
        return -1;
    if (strcmp(name, "discrete") == 0) {
        s->kind = ALGO_DISCRETE;
        return 0;
    }
    if (strcmp(name, "box") == 0)
        return box_of(g, dict, s);
    PyErr_Format(PyExc_ValueError, "%s: its kind must be 'discrete', 'box' or 'multi'", what);
    return -1;
}

/* Items of the lists in both spaces: bounds on what space_of() may write. */
static int room_of(struct given *g, PyObject *const *spaces) {
    static const char *const lists[] = { "low", "high", "sizes" };
    Py_ssize_t n[3] = { 0 };

    for (int i = 0; i < 6; i++) {
        PyObject *list = PyDict_GetItemString(spaces[i / 3], lists[i % 3]);
        Py_ssize_t more = list && list != Py_None ? PySequence_Size(list) : 0;

        if (more < 0 || more > INT32_MAX / 8) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "a space is too large");
            return -1;
        }
        n[i % 3] += more;
    }
    g->room_floats = (int)(n[0] + n[1]);
    g->room_sizes = (int)n[2];
    g->floats = PyMem_Calloc((size_t)g->room_floats + 1, sizeof(float));
    g->sizes = PyMem_Calloc((size_t)g->room_sizes + 1, sizeof(int));
    if (!g->floats || !g->sizes) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static void given_free(struct given *g) {
    if (!g)
        return;
    Py_XDECREF(g->keep);
    PyMem_Free(g->floats);
    PyMem_Free(g->sizes);
    PyMem_Free(g);
}

static struct given *given_new(PyObject *obs, PyObject *action, PyObject *options,
                               unsigned long long seed) {
    struct given *g = PyMem_Calloc(1, sizeof *g);

    if (!g) {
        PyErr_NoMemory();
        return NULL;
    }
    g->keep = PyList_New(0);
    g->setup.options = g->options;
    g->setup.seed = seed;
    if (!g->keep || room_of(g, (PyObject *const[]){ obs, action }) < 0 ||
        space_of(g, obs, &g->setup.obs, "observation space") < 0 ||
        space_of(g, action, &g->setup.action, "action space") < 0 ||
        options_of(g, options) < 0) {
        given_free(g);
        return NULL;
    }
    return g;
}

static PyObject *algo_type_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = { "name", "obs_space", "action_space", "options", "seed", NULL };
    struct skate_error err = { .text = "" };
    PyObject *obs, *action, *options = Py_None;
    unsigned long long seed = 0;
    struct algo_object *self;
    struct algo *algo = NULL;
    struct given *g;
    const char *name;
    int r;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sOO|OK:Algo", names, &name, &obs, &action,
                                     &options, &seed))
        return NULL;
    if (!PyDict_Check(obs) || !PyDict_Check(action) ||
        (options != Py_None && !PyDict_Check(options))) {
        PyErr_SetString(PyExc_TypeError, "Algo: spaces and options must be dictionaries");
        return NULL;
    }
    g = given_new(obs, action, options, seed);
    if (!g)
        return NULL;
    r = algo_new(name, &g->setup, &algo, &err);
    given_free(g);
    if (r < 0)
        return rl_raise(r, &err, name);
    self = (struct algo_object *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (self)
        self->algo = algo;
    else
        algo_free(algo);
    return (PyObject *)self;
}

static void algo_type_dealloc(PyObject *object) {
    algo_free(((struct algo_object *)object)->algo);
    rl_free_object(object);
}

/* ---- calls ---- */

/* Raise for a failed call; returns NULL. */
static PyObject *raise_for(struct algo_object *self, int code, const struct skate_error *err) {
    if (!algo_diverged(err))
        return rl_raise(code, err, self->algo->api->name);
    PyErr_Format(PyExc_FloatingPointError, "%s: %s", self->algo->api->name, err->text);
    return NULL;
}

struct algo *rl_algo_of(PyObject *object, struct rl_state *state) {
    struct algo_object *self = (struct algo_object *)object;

    if (!state || !PyObject_TypeCheck(object, state->algo_type)) {
        PyErr_SetString(PyExc_TypeError, "expected a skate._rl.Algo");
        return NULL;
    }
    if (!self->busy)
        return self->algo;
    PyErr_SetString(PyExc_RuntimeError, "the algorithm is at work in another thread");
    return NULL;
}

static int enter(struct algo_object *self) {
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "the algorithm is at work in another thread");
        return -1;
    }
    self->busy = 1;
    return 0;
}

struct columns {
    int n;
    Py_buffer views[ALGO_COLS_MAX];
    PyObject *names[ALGO_COLS_MAX];
    struct algo_col cols[ALGO_COLS_MAX];
};

static void columns_release(struct columns *c) {
    for (int i = 0; i < c->n; i++) {
        PyBuffer_Release(&c->views[i]);
        Py_XDECREF(c->names[i]);
    }
    c->n = 0;
}

static int column_of(struct columns *c, PyObject *key, PyObject *value) {
    static const char formats[] = "fiB";
    Py_buffer *view = &c->views[c->n];
    const char *f, *kind, *name;
    PyObject *bytes;

    if (c->n == ALGO_COLS_MAX) {
        PyErr_Format(PyExc_ValueError, "more than %d columns", ALGO_COLS_MAX);
        return -1;
    }
    bytes = PyUnicode_AsUTF8String(key);
    if (!bytes)
        return -1;
    name = PyBytes_AsString(bytes);
    if (PyObject_GetBuffer(value, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "%s: not a contiguous array", name);
        Py_DECREF(bytes);
        return -1;
    }
    f = view->format ? view->format : "B";
    if (*f == '@' || *f == '=' || *f == '<')
        f++;
    kind = f[0] && !f[1] ? strchr(formats, *f) : NULL;
    if (!kind || view->ndim < 1 || view->shape[0] < 1 || view->shape[0] > INT32_MAX ||
        view->len / view->itemsize / view->shape[0] > INT32_MAX) {
        PyErr_Format(PyExc_ValueError, kind ? "%s: an array without rows"
                     : "%s: must be float32, int32 or uint8, not '%s'", name, f);
        PyBuffer_Release(view);
        Py_DECREF(bytes);
        return -1;
    }
    c->cols[c->n] = (struct algo_col){
        name, (enum algo_dtype)(kind - formats),
        (int)(view->len / view->itemsize / view->shape[0]), (int)view->shape[0], view->buf,
        !view->readonly };
    c->names[c->n++] = bytes;
    return 0;
}

static int columns_of(struct columns *c, PyObject *dict) {
    PyObject *key, *value;
    Py_ssize_t at = 0;

    c->n = 0;
    if (!PyDict_Check(dict)) {
        PyErr_SetString(PyExc_TypeError, "columns must be a dictionary of arrays");
        return -1;
    }
    while (PyDict_Next(dict, &at, &key, &value))
        if (column_of(c, key, value) < 0) {
            columns_release(c);
            return -1;
        }
    return 0;
}

/* A column of act() by name: NULL if it is not there; *bad if it does not fit. */
static void *act_column(struct columns *c, const char *name, const int *want, int writable,
                        int *bad) {
    for (int i = 0; i < c->n; i++) {
        const struct algo_col *col = &c->cols[i];

        if (strcmp(col->name, name) != 0)
            continue;
        if ((int)col->dtype == want[0] && col->rows == want[1] && col->width == want[2] &&
            (!writable || col->writable)) {
            ((struct algo_col *)(uintptr_t)col)->name = "";   /* taken */
            return col->p;
        }
        PyErr_Format(PyExc_ValueError, "%s: expected a%s %s array of %d x %d, got %d x %d", name,
                     writable ? " writable" : "", want[0] == ALGO_F32 ? "float32" : "int32",
                     want[1], want[2], col->rows, col->width);
        *bad = 1;
        return NULL;
    }
    return NULL;
}

static int act_io(struct algo *a, struct columns *c, struct algo_act *io) {
    int n = io->n, bad = 0;
    int parts = a->action.kind == ALGO_DISCRETE ? 1 : a->action.size;
    int kind = a->action.kind == ALGO_BOX ? ALGO_F32 : ALGO_I32;

    io->obs = act_column(c, "obs", (int[]){ ALGO_F32, n, a->obs.size }, 0, &bad);
    io->mask = act_column(c, "mask", (int[]){ ALGO_F32, n, a->action.size }, 0, &bad);
    io->state = act_column(c, "state", (int[]){ ALGO_F32, n, a->state_size }, 1, &bad);
    io->actions = act_column(c, "actions", (int[]){ kind, n, parts }, 1, &bad);
    io->logp = act_column(c, "logp", (int[]){ ALGO_F32, n, 1 }, 1, &bad);
    io->vf = act_column(c, "vf", (int[]){ ALGO_F32, n, 1 }, 1, &bad);
    io->inputs = act_column(c, "inputs", (int[]){ ALGO_F32, n, a->n_inputs }, 1, &bad);
    for (int i = 0; !bad && i < c->n; i++)
        if (c->cols[i].name[0]) {
            PyErr_Format(PyExc_ValueError, "act has no column '%s'", c->cols[i].name);
            bad = 1;
        }
    return bad ? -1 : 0;
}

PyDoc_STRVAR(act_doc, "act(n, cols, explore=True, epsilon=0.0, noise=0.0)\n"
                      "Reads cols['obs'], writes cols['actions'] and, if there, 'logp', 'vf', "
                      "'inputs', 'state'.");
static PyObject *algo_py_act(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = { "n", "cols", "explore", "epsilon", "noise", NULL };
    struct algo_object *self = (struct algo_object *)object;
    struct skate_error err = { .text = "" };
    struct algo_act io = { 0 };
    struct columns c;
    PyObject *dict;
    int explore = 1, r;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iO|pff:act", names, &io.n, &dict, &explore,
                                     &io.epsilon, &io.noise) ||
        columns_of(&c, dict) < 0)
        return NULL;
    io.explore = explore != 0;
    if (act_io(self->algo, &c, &io) < 0 || enter(self) < 0) {
        columns_release(&c);
        return NULL;
    }
    r = algo_act(self->algo, &io, &err);
    self->busy = 0;
    columns_release(&c);
    return r < 0 ? raise_for(self, r, &err) : Py_NewRef(Py_None);
}

static PyObject *stats_dict(const struct algo_stats *st) {
    PyObject *dict = PyDict_New();

    for (int i = 0; dict && i < st->n; i++) {
        PyObject *x = PyFloat_FromDouble(st->values[i]);

        if (!x || PyDict_SetItemString(dict, st->names[i], x) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(x);
    }
    return dict;
}

/* learn() if `flat` is NULL, else gradient(). */
static PyObject *work(struct algo_object *self, const int *shape, PyObject *dict, float *flat) {
    struct algo_batch b = { .rows = shape[0], .steps = shape[1] };
    struct skate_error err = { .text = "" };
    struct algo_stats st = { 0 };
    struct columns c;
    int r;

    if (columns_of(&c, dict) < 0)
        return NULL;
    if (enter(self) < 0) {
        columns_release(&c);
        return NULL;
    }
    b.n_cols = c.n;
    memcpy(b.cols, c.cols, sizeof b.cols);
    Py_BEGIN_ALLOW_THREADS
    r = flat ? algo_gradient(self->algo, &b, flat, &st, &err)
             : algo_learn(self->algo, &b, &st, &err);
    Py_END_ALLOW_THREADS
    self->busy = 0;
    columns_release(&c);
    return r < 0 ? raise_for(self, r, &err) : stats_dict(&st);
}

PyDoc_STRVAR(learn_doc, "learn(rows, steps, cols) -> dict: one update; steps > 1: sequences");
static PyObject *algo_py_learn(PyObject *object, PyObject *args) {
    PyObject *dict;
    int shape[2];

    if (!PyArg_ParseTuple(args, "iiO:learn", &shape[0], &shape[1], &dict))
        return NULL;
    return work((struct algo_object *)object, shape, dict, NULL);
}

PyDoc_STRVAR(gradient_doc, "gradient(rows, steps, cols, out) -> dict: of the loss, no step made");
static PyObject *algo_py_gradient(PyObject *object, PyObject *args) {
    struct algo_object *self = (struct algo_object *)object;
    PyObject *dict, *out, *result;
    Py_buffer view;
    int shape[2];

    if (!PyArg_ParseTuple(args, "iiOO:gradient", &shape[0], &shape[1], &dict, &out) ||
        rl_buffer(out, &view, 'f', (Py_ssize_t)algo_n_gradient(self->algo), 1, "gradient") < 0)
        return NULL;
    result = work(self, shape, dict, view.buf);
    PyBuffer_Release(&view);
    return result;
}

PyDoc_STRVAR(apply_doc, "apply(flat): one step of the optimisers by a gradient");
static PyObject *algo_py_apply(PyObject *object, PyObject *flat) {
    struct algo_object *self = (struct algo_object *)object;
    struct skate_error err = { .text = "" };
    Py_buffer view;
    int r;

    if (rl_buffer(flat, &view, 'f', (Py_ssize_t)algo_n_gradient(self->algo), 0, "gradient") < 0)
        return NULL;
    if (enter(self) < 0) {
        PyBuffer_Release(&view);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    r = algo_apply(self->algo, view.buf, &err);
    Py_END_ALLOW_THREADS
    self->busy = 0;
    PyBuffer_Release(&view);
    return r < 0 ? raise_for(self, r, &err) : Py_NewRef(Py_None);
}

PyDoc_STRVAR(set_doc, "set(name, value): a learning rate or coefficient, between updates");
static PyObject *algo_py_set(PyObject *object, PyObject *args) {
    struct algo_object *self = (struct algo_object *)object;
    struct skate_error err = { .text = "" };
    const char *name;
    double value;
    int r;

    if (!PyArg_ParseTuple(args, "sd:set", &name, &value) || enter(self) < 0)
        return NULL;
    r = algo_set(self->algo, name, value, &err);
    self->busy = 0;
    return r < 0 ? raise_for(self, r, &err) : Py_NewRef(Py_None);
}

PyDoc_STRVAR(get_weights_doc, "get_weights(out): what workers need to act, flat float32");
static PyObject *algo_py_get_weights(PyObject *object, PyObject *out) {
    struct algo_object *self = (struct algo_object *)object;
    Py_buffer view;

    if (rl_buffer(out, &view, 'f', (Py_ssize_t)algo_n_weights(self->algo), 1, "weights") < 0)
        return NULL;
    if (enter(self) < 0) {
        PyBuffer_Release(&view);
        return NULL;
    }
    algo_get_weights(self->algo, view.buf);
    self->busy = 0;
    PyBuffer_Release(&view);
    return Py_NewRef(Py_None);
}

PyDoc_STRVAR(set_weights_doc, "set_weights(flat, version=0)");
static PyObject *algo_py_set_weights(PyObject *object, PyObject *args) {
    struct algo_object *self = (struct algo_object *)object;
    unsigned long long version = 0;
    PyObject *flat;
    Py_buffer view;

    if (!PyArg_ParseTuple(args, "O|K:set_weights", &flat, &version) ||
        rl_buffer(flat, &view, 'f', (Py_ssize_t)algo_n_weights(self->algo), 0, "weights") < 0)
        return NULL;
    if (enter(self) < 0) {
        PyBuffer_Release(&view);
        return NULL;
    }
    algo_set_weights(self->algo, view.buf, version);
    self->busy = 0;
    PyBuffer_Release(&view);
    return Py_NewRef(Py_None);
}

PyDoc_STRVAR(state_doc, "state() -> bytes: everything, for a checkpoint");
static PyObject *algo_py_state(PyObject *object, PyObject *unused) {
    struct algo_object *self = (struct algo_object *)object;
    PyObject *bytes;

    (void)unused;
    if (enter(self) < 0)
        return NULL;
    bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)algo_state_bytes(self->algo));
    if (bytes)
        algo_get_state(self->algo, PyBytes_AsString(bytes));
    self->busy = 0;
    return bytes;
}

PyDoc_STRVAR(set_state_doc, "set_state(bytes): what state() of such an algorithm gave");
static PyObject *algo_py_set_state(PyObject *object, PyObject *block) {
    struct algo_object *self = (struct algo_object *)object;
    Py_buffer view;
    int r;

    if (rl_buffer(block, &view, 0, -1, 0, "state") < 0)
        return NULL;
    if (enter(self) < 0) {
        PyBuffer_Release(&view);
        return NULL;
    }
    r = algo_set_state(self->algo, view.buf, (size_t)view.len);
    self->busy = 0;
    PyBuffer_Release(&view);
    return r < 0 ? rl_raise(r, NULL, "not the state of such an algorithm") : Py_NewRef(Py_None);
}

PyDoc_STRVAR(names_doc, "weight_names() -> [(name, rows, cols)] of the flat weights, in order");
static PyObject *algo_py_weight_names(PyObject *object, PyObject *unused) {
    const struct algo *a = ((struct algo_object *)object)->algo;
    PyObject *list = PyList_New(0);

    (void)unused;
    for (int i = 0; list && i < a->n_acting; i++)
        for (int k = 0; list && k < a->params[i]->n_tensors; k++) {
            const struct param_tensor *t = &a->params[i]->tensors[k];
            PyObject *item = Py_BuildValue("(sii)", t->name, t->rows, t->cols);

            if (!item || PyList_Append(list, item) < 0)
                Py_CLEAR(list);
            Py_XDECREF(item);
        }
    return list;
}

#define GETTER(field, expression) \
    static PyObject *get_##field(PyObject *object, void *unused) { \
        const struct algo *a = ((struct algo_object *)object)->algo; \
\
        (void)unused; \
        return PyLong_FromUnsignedLongLong((unsigned long long)(expression)); \
    }
GETTER(n_weights, algo_n_weights(a))
GETTER(n_gradient, algo_n_gradient(a))
GETTER(version, a->version)
GETTER(state_size, a->state_size)
GETTER(n_inputs, a->n_inputs)

static PyGetSetDef algo_getset[] = {
    { "n_weights", get_n_weights, NULL, "floats of get_weights()", NULL },
    { "n_gradient", get_n_gradient, NULL, "floats of gradient()", NULL },
    { "version", get_version, NULL, "updates so far", NULL },
    { "state_size", get_state_size, NULL, "floats of a recurrent state; 0: none", NULL },
    { "n_inputs", get_n_inputs, NULL, "floats of an action distribution", NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

#define WITH_KEYWORDS(f) (PyCFunction)(void (*)(void))(f)
static PyMethodDef algo_methods[] = {
    { "act", WITH_KEYWORDS(algo_py_act), METH_VARARGS | METH_KEYWORDS, act_doc },
    { "learn", algo_py_learn, METH_VARARGS, learn_doc },
    { "gradient", algo_py_gradient, METH_VARARGS, gradient_doc },
    { "apply", algo_py_apply, METH_O, apply_doc },
    { "set", algo_py_set, METH_VARARGS, set_doc },
    { "get_weights", algo_py_get_weights, METH_O, get_weights_doc },
    { "set_weights", algo_py_set_weights, METH_VARARGS, set_weights_doc },
    { "state", algo_py_state, METH_NOARGS, state_doc },
    { "set_state", algo_py_set_state, METH_O, set_state_doc },
    { "weight_names", algo_py_weight_names, METH_NOARGS, names_doc },
    { NULL, NULL, 0, NULL },
};

PyDoc_STRVAR(algo_doc, "Algo(name, obs_space, action_space, options=None, seed=0)");
static PyType_Slot algo_slots[] = {
    { Py_tp_doc, (void *)algo_doc },
    { Py_tp_new, (void *)algo_type_new },
    { Py_tp_dealloc, (void *)algo_type_dealloc },
    { Py_tp_methods, algo_methods },
    { Py_tp_getset, algo_getset },
    { 0, NULL },
};

PyType_Spec rl_algo_spec = {
    .name = "skate._rl.Algo",
    .basicsize = sizeof(struct algo_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = algo_slots,
};

PyObject *rl_algo_names(PyObject *module, PyObject *unused) {
    PyObject *list = PyList_New(0);
    const struct algo_api *api;

    (void)module;
    (void)unused;
    for (int i = 0; list && (api = algo_nth(i)); i++) {
        PyObject *name = PyUnicode_FromString(api->name);

        if (!name || PyList_Append(list, name) < 0)
            Py_CLEAR(list);
        Py_XDECREF(name);
    }
    return list;
}
