/* rl_py_replay.c - skate._rl.Replay and Episodes, nstep() and sequences().
 * Interpreter lock held throughout; nothing blocks. Tests: tests/rl/test_replay.py. */
#include <string.h>

#include "rl/replay/episodes.h"
#include "rl/replay/nstep.h"
#include "rl/replay/replay.h"
#include "rl/replay/seq.h"
#include "rl_py.h"

struct replay_object {
    PyObject_HEAD
    struct replay *replay;
    struct replay_opts opts;
};

struct episodes_object {
    PyObject_HEAD
    struct episodes *episodes;
};

/* columns: a sequence of (name, bytes of a row). */
static int read_columns(PyObject *list, struct replay_opts *o) {
    Py_ssize_t n = PySequence_Size(list);

    if (n < 0)
        return -1;
    if (n < 1 || n > REPLAY_COLS_MAX) {
        PyErr_Format(PyExc_ValueError, "columns: expected 1 to %d, got %zd", REPLAY_COLS_MAX, n);
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PySequence_GetItem(list, i);
        const char *name;
        unsigned bytes;

        if (!item || !PyArg_ParseTuple(item, "sI:columns", &name, &bytes)) {
            Py_XDECREF(item);
            return -1;
        }
        if (strlen(name) >= REPLAY_NAME_BYTES || bytes == 0) {
            PyErr_Format(PyExc_ValueError, "column '%s': the name has to be shorter than %d bytes "
                         "and a row at least 1 byte", name, REPLAY_NAME_BYTES);
            Py_DECREF(item);
            return -1;
        }
        memcpy(o->cols[i].name, name, strlen(name) + 1);
        o->cols[i].bytes = bytes;
        Py_DECREF(item);
    }
    o->n_cols = (int)n;
    return 0;
}

static PyObject *replay_type_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = { "capacity", "columns", "alpha", "seed", NULL };
    struct replay_opts o = { .alpha = 0.0 };
    unsigned long long capacity, seed = 0;
    struct replay_object *self;
    PyObject *columns;
    int r;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "KO|dK:Replay", names, &capacity, &columns,
                                     &o.alpha, &seed) ||
        read_columns(columns, &o) < 0)
        return NULL;
    o.capacity = capacity;
    o.seed = seed;
    self = (struct replay_object *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self)
        return NULL;
    self->opts = o;
    r = replay_new(&o, &self->replay);
    if (r < 0) {
        Py_DECREF(self);
        return rl_raise(r, NULL, "Replay: capacity has to be 1 to 2**31 and alpha 0 to 4");
    }
    return (PyObject *)self;
}

static void replay_type_dealloc(PyObject *object) {
    replay_free(((struct replay_object *)object)->replay);
    rl_free_object(object);
}

static void release(Py_buffer *views, int n) {
    while (n > 0)
        PyBuffer_Release(&views[--n]);
}

PyDoc_STRVAR(replay_add_doc,
             "add(columns, rows, priorities=None): store `rows` rows of each column, arrays of a\n"
             "dict; priorities are float32, one a row. Raises ValueError.");
static PyObject *replay_py_add(PyObject *object, PyObject *args) {
    struct replay_object *self = (struct replay_object *)object;
    PyObject *columns, *priorities = Py_None, *result = NULL;
    const void *pointers[REPLAY_COLS_MAX];
    Py_buffer views[REPLAY_COLS_MAX + 1];
    unsigned rows;
    int got = 0, r;

    if (!PyArg_ParseTuple(args, "O!I|O:add", &PyDict_Type, &columns, &rows, &priorities))
        return NULL;
    for (; got < self->opts.n_cols; got++) {
        const char *name = self->opts.cols[got].name;
        PyObject *array = PyDict_GetItemString(columns, name);

        if (!array) {
            PyErr_Format(PyExc_ValueError, "add: column '%s' is missing", name);
            goto out;
        }
        if (rl_buffer(array, &views[got], 0, (Py_ssize_t)rows * self->opts.cols[got].bytes, 0,
                      name) < 0)
            goto out;
        pointers[got] = views[got].buf;
    }
    if (priorities != Py_None) {
        if (rl_buffer(priorities, &views[got], 'f', rows, 0, "priorities") < 0)
            goto out;
        got++;
    }
    r = replay_add(self->replay, pointers, rows,
                   priorities == Py_None ? NULL : views[got - 1].buf);
    result = r < 0 ? rl_raise(r, NULL, "add: priorities have to be finite and above 0")
                   : Py_NewRef(Py_None);
out:
    release(views, got);
    return result;
}

PyDoc_STRVAR(replay_draw_doc,
             "draw(beta, rows, weights=None): fill `rows` (uint32) with row numbers, and\n"
             "`weights` (float32) with their importance weights. ValueError: empty.");
static PyObject *replay_py_draw(PyObject *object, PyObject *args) {
    struct replay_object *self = (struct replay_object *)object;
    PyObject *rows, *weights = Py_None;
    Py_buffer views[2];
    int got = 1, r;
    double beta;

    if (!PyArg_ParseTuple(args, "dO|O:draw", &beta, &rows, &weights) ||
        rl_buffer(rows, &views[0], 'I', -1, 1, "rows") < 0)
        return NULL;
    if (weights != Py_None) {
        if (rl_buffer(weights, &views[1], 'f', views[0].len / 4, 1, "weights") < 0) {
            release(views, 1);
            return NULL;
        }
        got = 2;
    }
    r = replay_draw(self->replay, (uint32_t)(views[0].len / 4), beta, views[0].buf,
                    got == 2 ? views[1].buf : NULL);
    release(views, got);
    if (r < 0)
        return rl_raise(r, NULL, "draw: the buffer is empty, or beta is not in 0 to 16");
    return Py_NewRef(Py_None);
}

PyDoc_STRVAR(replay_gather_doc, "gather(column, rows, out): copy rows of a column into `out`");
static PyObject *replay_py_gather(PyObject *object, PyObject *args) {
    struct replay_object *self = (struct replay_object *)object;
    PyObject *rows, *out, *result = NULL;
    Py_buffer views[2];
    int col = 0, r;
    const char *name;
    Py_ssize_t n;

    if (!PyArg_ParseTuple(args, "sOO:gather", &name, &rows, &out))
        return NULL;
    while (col < self->opts.n_cols && strcmp(self->opts.cols[col].name, name) != 0)
        col++;
    if (col == self->opts.n_cols)
        return PyErr_Format(PyExc_KeyError, "no column '%s'", name);
    if (rl_buffer(rows, &views[0], 'I', -1, 0, "rows") < 0)
        return NULL;
    n = views[0].len / 4;
    if (rl_buffer(out, &views[1], 0, n * self->opts.cols[col].bytes, 1, name) == 0) {
        r = replay_gather(self->replay, col, views[0].buf, (uint32_t)n, views[1].buf);
        result = r < 0 ? rl_raise(r, NULL, "gather: a row that is not there")
                       : Py_NewRef(Py_None);
        PyBuffer_Release(&views[1]);
    }
    PyBuffer_Release(&views[0]);
    return result;
}

PyDoc_STRVAR(replay_update_doc, "update(rows, priorities): new priorities (float32) of rows");
static PyObject *replay_py_update(PyObject *object, PyObject *args) {
    struct replay_object *self = (struct replay_object *)object;
    PyObject *rows, *priorities, *result = NULL;
    Py_buffer views[2];
    int r;

    if (!PyArg_ParseTuple(args, "OO:update", &rows, &priorities) ||
        rl_buffer(rows, &views[0], 'I', -1, 0, "rows") < 0)
        return NULL;
    if (rl_buffer(priorities, &views[1], 'f', views[0].len / 4, 0, "priorities") == 0) {
        r = replay_update(self->replay, views[0].buf, views[1].buf,
                          (uint32_t)(views[0].len / 4));
        result = r < 0 ? rl_raise(r, NULL, "update: a row that is not there, or a priority that "
                                  "is not finite and above 0")
                       : Py_NewRef(Py_None);
        PyBuffer_Release(&views[1]);
    }
    PyBuffer_Release(&views[0]);
    return result;
}

PyDoc_STRVAR(replay_age_doc, "age(row) -> rows added since; 0 is the newest. IndexError");
static PyObject *replay_py_age(PyObject *object, PyObject *number) {
    unsigned long row = PyLong_AsUnsignedLong(number);
    uint64_t age;

    if (row == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    age = row > UINT32_MAX ? UINT64_MAX
                           : replay_age(((struct replay_object *)object)->replay, (uint32_t)row);
    if (age == UINT64_MAX)
        return PyErr_Format(PyExc_IndexError, "no row %lu", row);
    return PyLong_FromUnsignedLongLong(age);
}

PyDoc_STRVAR(replay_state_doc, "state() -> bytes: everything, for checkpoints");
static PyObject *replay_py_state(PyObject *object, PyObject *unused) {
    struct replay *r = ((struct replay_object *)object)->replay;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)replay_state_bytes(r));

    (void)unused;
    if (bytes)
        replay_get_state(r, PyBytes_AsString(bytes));
    return bytes;
}

PyDoc_STRVAR(replay_set_state_doc, "set_state(bytes): go on from state(); ValueError: another "
                                   "layout, or damaged");
static PyObject *replay_py_set_state(PyObject *object, PyObject *block) {
    Py_buffer view;
    int r;

    if (rl_buffer(block, &view, 0, -1, 0, "state") < 0)
        return NULL;
    r = replay_set_state(((struct replay_object *)object)->replay, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    if (r < 0)
        return rl_raise(r, NULL, "set_state: the state of another buffer, or a damaged one");
    return Py_NewRef(Py_None);
}

static PyObject *replay_get_size(PyObject *object, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(replay_size(((struct replay_object *)object)->replay));
}

static PyObject *replay_get_added(PyObject *object, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(replay_added(((struct replay_object *)object)->replay));
}

static PyMethodDef replay_methods[] = {
    { "add", replay_py_add, METH_VARARGS, replay_add_doc },
    { "draw", replay_py_draw, METH_VARARGS, replay_draw_doc },
    { "gather", replay_py_gather, METH_VARARGS, replay_gather_doc },
    { "update", replay_py_update, METH_VARARGS, replay_update_doc },
    { "age", replay_py_age, METH_O, replay_age_doc },
    { "state", replay_py_state, METH_NOARGS, replay_state_doc },
    { "set_state", replay_py_set_state, METH_O, replay_set_state_doc },
    { NULL, NULL, 0, NULL },
};

static PyGetSetDef replay_getset[] = {
    { "size", replay_get_size, NULL, "rows in the buffer", NULL },
    { "added", replay_get_added, NULL, "rows ever added", NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

PyDoc_STRVAR(replay_doc, "Replay(capacity, columns, alpha=0.0, seed=0)\n\n"
                         "A ring of rows; columns is a list of (name, bytes of a row), alpha the\n"
                         "power of the priorities, 0 for uniform draws.");
static PyType_Slot replay_slots[] = {
    { Py_tp_doc, (void *)replay_doc },
    { Py_tp_new, (void *)replay_type_new },
    { Py_tp_dealloc, (void *)replay_type_dealloc },
    { Py_tp_methods, replay_methods },
    { Py_tp_getset, replay_getset },
    { 0, NULL },
};

PyType_Spec rl_replay_spec = {
    .name = "skate._rl.Replay",
    .basicsize = sizeof(struct replay_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = replay_slots,
};

static PyObject *episodes_type_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = { "capacity", "seed", NULL };
    unsigned long long capacity, seed = 0;
    struct episodes_object *self;
    int r;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "K|K:Episodes", names, &capacity, &seed))
        return NULL;
    self = (struct episodes_object *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self)
        return NULL;
    r = episodes_new(capacity, seed, &self->episodes);
    if (r < 0) {
        Py_DECREF(self);
        return rl_raise(r, NULL, "Episodes: capacity has to be 1 to 2**31");
    }
    return (PyObject *)self;
}

static void episodes_type_dealloc(PyObject *object) {
    episodes_free(((struct episodes_object *)object)->episodes);
    rl_free_object(object);
}

PyDoc_STRVAR(episodes_add_doc, "add(length): the ring's next `length` rows are an episode");
static PyObject *episodes_py_add(PyObject *object, PyObject *number) {
    unsigned long length = PyLong_AsUnsignedLong(number);
    int r;

    if (length == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    r = length > UINT32_MAX
            ? -SKATE_EINVAL
            : episodes_add(((struct episodes_object *)object)->episodes, (uint32_t)length);
    if (r < 0)
        return rl_raise(r, NULL, "add: an episode has 1 step or more, and no more than the ring");
    return Py_NewRef(Py_None);
}

/* Two uint32 arrays of one length, both written. */
static int two_arrays(PyObject *a, PyObject *b, Py_buffer views[2], const char *second) {
    if (rl_buffer(a, &views[0], 'I', -1, 1, "rows") < 0)
        return -1;
    if (rl_buffer(b, &views[1], 'I', views[0].len / 4, 1, second) < 0) {
        release(views, 1);
        return -1;
    }
    return 0;
}

PyDoc_STRVAR(episodes_draw_doc, "draw(rows, lengths): episodes, uniformly: first row and length");
static PyObject *episodes_py_draw(PyObject *object, PyObject *args) {
    PyObject *rows, *lengths;
    Py_buffer views[2];
    int r;

    if (!PyArg_ParseTuple(args, "OO:draw", &rows, &lengths) ||
        two_arrays(rows, lengths, views, "lengths") < 0)
        return NULL;
    r = episodes_draw(((struct episodes_object *)object)->episodes,
                      (uint32_t)(views[0].len / 4), views[0].buf, views[1].buf);
    release(views, 2);
    if (r < 0)
        return rl_raise(r, NULL, "draw: there is no whole episode");
    return Py_NewRef(Py_None);
}

PyDoc_STRVAR(episodes_hindsight_doc,
             "hindsight(share, rows, goals): steps, uniformly; with probability `share` the row\n"
             "of a later step of the episode to take the goal from, else 2**32 - 1.");
static PyObject *episodes_py_hindsight(PyObject *object, PyObject *args) {
    PyObject *rows, *goals;
    Py_buffer views[2];
    double share;
    int r;

    if (!PyArg_ParseTuple(args, "dOO:hindsight", &share, &rows, &goals) ||
        two_arrays(rows, goals, views, "goals") < 0)
        return NULL;
    r = episodes_hindsight(((struct episodes_object *)object)->episodes,
                           (uint32_t)(views[0].len / 4), share, views[0].buf, views[1].buf);
    release(views, 2);
    if (r < 0)
        return rl_raise(r, NULL, "hindsight: there is no whole episode, or share is not 0 to 1");
    return Py_NewRef(Py_None);
}

static PyObject *episodes_get_count(PyObject *object, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLong(
        episodes_count(((struct episodes_object *)object)->episodes));
}

static PyObject *episodes_get_steps(PyObject *object, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(
        episodes_steps(((struct episodes_object *)object)->episodes));
}

static PyMethodDef episodes_methods[] = {
    { "add", episodes_py_add, METH_O, episodes_add_doc },
    { "draw", episodes_py_draw, METH_VARARGS, episodes_draw_doc },
    { "hindsight", episodes_py_hindsight, METH_VARARGS, episodes_hindsight_doc },
    { NULL, NULL, 0, NULL },
};

static PyGetSetDef episodes_getset[] = {
    { "count", episodes_get_count, NULL, "whole episodes", NULL },
    { "steps", episodes_get_steps, NULL, "steps of all of them", NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

PyDoc_STRVAR(episodes_doc, "Episodes(capacity, seed=0): which rows of a Replay are one episode");
static PyType_Slot episodes_slots[] = {
    { Py_tp_doc, (void *)episodes_doc },
    { Py_tp_new, (void *)episodes_type_new },
    { Py_tp_dealloc, (void *)episodes_type_dealloc },
    { Py_tp_methods, episodes_methods },
    { Py_tp_getset, episodes_getset },
    { 0, NULL },
};

PyType_Spec rl_episodes_spec = {
    .name = "skate._rl.Episodes",
    .basicsize = sizeof(struct episodes_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = episodes_slots,
};

PyDoc_STRVAR(nstep_doc,
             "nstep(rewards, ends, lanes, n, gamma, returns, discounts, last)\n"
             "Arrays [steps][lanes]; ends is uint8; the last three are written: float32, float32\n"
             "and uint32 (the step of the lane at which the return stops).");
static PyObject *replay_nstep(PyObject *module, PyObject *args) {
    static const char *const names[] = { "rewards", "ends", "returns", "discounts", "last" };
    static const char formats[] = "fBffI";
    PyObject *objects[5], *result = NULL;
    Py_buffer v[5];
    unsigned lanes;
    int got = 0, n;
    float gamma;

    (void)module;
    if (!PyArg_ParseTuple(args, "OOIifOOO:nstep", &objects[0], &objects[1], &lanes, &n, &gamma,
                          &objects[2], &objects[3], &objects[4]))
        return NULL;
    for (; got < 5; got++)
        if (rl_buffer(objects[got], &v[got], formats[got],
                      got ? v[0].len / v[0].itemsize : -1, got >= 2, names[got]) < 0)
            goto out;
    if (lanes == 0 || n < 1 || v[0].len / 4 % lanes != 0) {
        PyErr_SetString(PyExc_ValueError, "nstep: n and lanes have to be 1 or more, and the rows "
                                          "a multiple of lanes");
        goto out;
    }
    for (unsigned lane = 0; lane < lanes; lane++) {
        struct nstep_lane l = { .rewards = (float *)v[0].buf + lane,
                                .ends = (uint8_t *)v[1].buf + lane,
                                .steps = (size_t)v[0].len / 4 / lanes,
                                .stride = lanes,
                                .returns = (float *)v[2].buf + lane,
                                .discounts = (float *)v[3].buf + lane,
                                .last = (uint32_t *)v[4].buf + lane };

        nstep_lane(&l, n, gamma);
    }
    result = Py_NewRef(Py_None);
out:
    release(v, got);
    return result;
}

PyDoc_STRVAR(sequences_doc,
             "sequences(ends, length, burn_in) -> bytes of int32 [sequences][length]: the step of\n"
             "each place of each sequence of one lane, -1 for padding.");
static PyObject *replay_sequences(PyObject *module, PyObject *args) {
    struct seq_lane lane = { .stride = 1 };
    PyObject *ends, *result;
    Py_buffer view;
    size_t n;

    (void)module;
    if (!PyArg_ParseTuple(args, "OII:sequences", &ends, &lane.length, &lane.burn_in) ||
        rl_buffer(ends, &view, 'B', -1, 0, "ends") < 0)
        return NULL;
    lane.ends = view.buf;
    lane.steps = (size_t)view.len;
    if (lane.length == 0 || lane.length > 1u << 20 || lane.burn_in >= lane.length ||
        lane.steps > INT32_MAX) {
        PyBuffer_Release(&view);
        PyErr_SetString(PyExc_ValueError, "sequences: length has to be 1 to 2**20, and burn_in "
                                          "below it");
        return NULL;
    }
    n = seq_cut(&lane, NULL, 0);
    result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(n * lane.length * sizeof(int32_t)));
    if (result)
        seq_cut(&lane, (int32_t *)(void *)PyBytes_AsString(result), n);
    PyBuffer_Release(&view);
    return result;
}

PyMethodDef rl_replay_functions[] = {
    { "nstep", replay_nstep, METH_VARARGS, nstep_doc },
    { "sequences", replay_sequences, METH_VARARGS, sequences_doc },
    { NULL, NULL, 0, NULL },
};
