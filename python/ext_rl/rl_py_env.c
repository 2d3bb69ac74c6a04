/* rl_py_env.c - skate._rl.Env: environments in C, N lanes at a time, and EnvRows: their arrays.
 *
 * A step of many lanes and random() run without the interpreter lock; the object refuses other
 * calls meanwhile. An EnvRows keeps its Env alive. Tests: tests/python/test_rl_env_door.py. */
#include <string.h>

#include "rl/env/rl_env_list.h"
#include "rl_py.h"

enum { LANES_UNLOCKED = 256 };  /* from here on a step gives up the lock */

struct rows_object {
    PyObject_HEAD
    PyObject *env;
    void *data;
    Py_ssize_t bytes;
};

static PyObject *env_type_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = { "name", "lanes", "seed", "config", "max_steps", "mode", NULL };
    struct rl_env_opts o = { .lanes = 1, .max_steps = -1 };
    struct skate_error err = { "" };
    unsigned long long seed = 0;
    struct env_object *self;
    int r, mode = RL_ENV_NEXT_STEP;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|IKzii:Env", names, &o.name, &o.lanes, &seed,
                                     &o.config, &o.max_steps, &mode))
        return NULL;
    if (mode < RL_ENV_NEXT_STEP || mode > RL_ENV_NEVER)
        return PyErr_Format(PyExc_ValueError, "mode: 0, 1 or 2, got %d", mode);
    o.seed = seed;
    o.mode = (enum rl_env_reset_mode)mode;
    self = (struct env_object *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self)
        return NULL;
    r = rl_env_open(&o, &self->env, &err);
    if (r < 0) {
        Py_DECREF(self);
        return rl_raise(r, &err, o.name);
    }
    return (PyObject *)self;
}

static void env_type_dealloc(PyObject *object) {
    rl_env_free(((struct env_object *)object)->env);
    rl_free_object(object);
}

struct rl_env *rl_env_of(PyObject *object) {
    struct env_object *self = (struct env_object *)object;

    if (!self->busy)
        return self->env;
    PyErr_SetString(PyExc_RuntimeError, "the environment is being stepped by another thread");
    return NULL;
}

static PyObject *numbers(const void *from, size_t n, int are_doubles) {
    PyObject *list;

    if (!from)
        return Py_NewRef(Py_None);
    list = PyList_New(0);
    for (size_t i = 0; list && i < n; i++) {
        PyObject *x = are_doubles ? PyFloat_FromDouble(((const double *)from)[i])
                                  : PyLong_FromLongLong(((const int64_t *)from)[i]);

        if (!x || PyList_Append(list, x) < 0)
            Py_CLEAR(list);
        Py_XDECREF(x);
    }
    return list;
}

static PyObject *space_dict(const struct skate_env_space *s) {
    static const char *const kinds[] = { "", "box", "discrete", "multi", "tuple" };
    static const char *const dtypes[] = { "", "float32", "float64", "int32", "int64", "uint8",
                                          "bool" };
    PyObject *shape = PyList_New(0), *result = NULL;
    size_t n = 1;

    for (uint32_t i = 0; shape && s->kind == SKATE_SPACE_BOX && i < s->ndim; i++) {
        PyObject *x = PyLong_FromUnsignedLong(s->shape[i]);

        n *= s->shape[i];
        if (!x || PyList_Append(shape, x) < 0)
            Py_CLEAR(shape);
        Py_XDECREF(x);
    }
    if (shape)
        result = Py_BuildValue("{s:s,s:s,s:O,s:L,s:L,s:N,s:d,s:d,s:N,s:N}", "kind",
                               kinds[s->kind], "dtype", dtypes[s->dtype], "shape", shape, "n",
                               (long long)s->n, "start", (long long)s->start, "sizes",
                               numbers(s->sizes, s->shape[0], 0), "low", s->low, "high", s->high,
                               "lows", numbers(s->lows, n, 1), "highs", numbers(s->highs, n, 1));
    Py_XDECREF(shape);
    return result;
}

PyDoc_STRVAR(info_doc, "info() -> dict: id, lanes, spaces, max_steps, agents, reward_threshold");
static PyObject *env_info(PyObject *object, PyObject *unused) {
    struct rl_env *e = rl_env_of(object);
    const struct skate_env_info *info;

    (void)unused;
    if (!e)
        return NULL;
    info = rl_env_info(e);
    return Py_BuildValue("{s:s,s:I,s:N,s:N,s:I,s:I,s:d}", "id", rl_env_id(e), "lanes",
                         rl_env_lanes(e), "obs", space_dict(&info->obs), "action",
                         space_dict(&info->action), "max_steps", info->max_steps, "agents",
                         info->agents, "reward_threshold", info->reward_threshold);
}

PyDoc_STRVAR(rows_doc, "rows(name) -> EnvRows, a buffer of bytes for numpy.frombuffer: obs, last,\n"
                       "action, reward (float64), terminated, truncated, turn (a byte each)");
static PyObject *env_rows(PyObject *object, PyObject *args) {
    struct rl_state *state = rl_state_of(Py_TYPE(object));
    struct rl_env *e = rl_env_of(object);
    const struct skate_env_rows *rows;
    struct rows_object *result;
    const char *name;
    allocfunc make;
    size_t lanes;

    if (!e || !state || !PyArg_ParseTuple(args, "s", &name))
        return NULL;
    make = (allocfunc)PyType_GetSlot(state->env_rows_type, Py_tp_alloc);
    rows = rl_env_rows(e);
    lanes = rl_env_lanes(e);
    const struct { const char *name; void *data; size_t bytes; } all[] = {
        { "obs", rows->obs, lanes * rl_env_obs_bytes(e) },
        { "last", rl_env_last(e), lanes * rl_env_obs_bytes(e) },
        { "action", rl_env_actions(e), lanes * rl_env_action_bytes(e) },
        { "reward", rows->reward, lanes * sizeof(double) },
        { "terminated", rows->terminated, lanes },
        { "truncated", rows->truncated, lanes },
        { "turn", rows->turn, lanes },
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (strcmp(all[i].name, name) != 0)
            continue;
        result = (struct rows_object *)make(state->env_rows_type, 0);
        if (!result)
            return NULL;
        result->env = Py_NewRef(object);
        result->data = all[i].data;
        result->bytes = (Py_ssize_t)all[i].bytes;
        return (PyObject *)result;
    }
    return PyErr_Format(PyExc_ValueError, "rows: no array is called '%s'", name);
}

/* A buffer of `bytes` bytes from None or an object; 1: there is one, 0: None, -1: exception. */
static int optional_bytes(PyObject *from, Py_buffer *view, size_t bytes, const char *what) {
    if (from == Py_None)
        return 0;
    return rl_buffer(from, view, 0, (Py_ssize_t)bytes, 0, what) < 0 ? -1 : 1;
}

PyDoc_STRVAR(reset_doc, "reset(mask=None, seeds=None): new episodes where the mask is not 0;\n"
                        "seeds is an array of uint64, one a lane");
static PyObject *env_reset(PyObject *object, PyObject *args) {
    PyObject *mask = Py_None, *seeds = Py_None;
    struct skate_error err = { "" };
    Py_buffer mask_view, seeds_view;
    struct rl_env *e = rl_env_of(object);
    int have_mask, have_seeds, r;

    if (!e || !PyArg_ParseTuple(args, "|OO", &mask, &seeds))
        return NULL;
    have_mask = optional_bytes(mask, &mask_view, rl_env_lanes(e), "mask");
    if (have_mask < 0)
        return NULL;
    have_seeds = optional_bytes(seeds, &seeds_view, rl_env_lanes(e) * sizeof(uint64_t), "seeds");
    if (have_seeds < 0) {
        if (have_mask)
            PyBuffer_Release(&mask_view);
        return NULL;
    }
    r = rl_env_reset(e, have_mask ? mask_view.buf : NULL, have_seeds ? seeds_view.buf : NULL, &err);
    if (have_mask)
        PyBuffer_Release(&mask_view);
    if (have_seeds)
        PyBuffer_Release(&seeds_view);
    return r < 0 ? rl_raise(r, &err, "reset") : Py_NewRef(Py_None);
}

PyDoc_STRVAR(step_doc, "step(): one step of every lane, with the actions in rows('action')");
static PyObject *env_step(PyObject *object, PyObject *unused) {
    struct env_object *self = (struct env_object *)object;
    struct skate_error err = { "" };
    struct rl_env *e = rl_env_of(object);
    int r;

    (void)unused;
    if (!e)
        return NULL;
    if (rl_env_lanes(e) < LANES_UNLOCKED) {
        r = rl_env_step(e, &err);
    } else {
        self->busy = 1;
        Py_BEGIN_ALLOW_THREADS
        r = rl_env_step(e, &err);
        Py_END_ALLOW_THREADS
        self->busy = 0;
    }
    return r < 0 ? rl_raise(r, &err, "step") : Py_NewRef(Py_None);
}

PyDoc_STRVAR(random_doc, "random(steps, seed=0) -> (steps of all lanes, episodes, sum of rewards)");
static PyObject *env_random(PyObject *object, PyObject *args) {
    struct env_object *self = (struct env_object *)object;
    struct skate_error err = { "" };
    struct rl_env_totals totals;
    struct rl_env *e = rl_env_of(object);
    unsigned long long steps, seed = 0;
    int r;

    if (!e || !PyArg_ParseTuple(args, "K|K", &steps, &seed))
        return NULL;
    self->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    r = rl_env_random(e, steps, seed, &totals, &err);
    Py_END_ALLOW_THREADS
    self->busy = 0;
    if (r < 0)
        return rl_raise(r, &err, "random");
    return Py_BuildValue("(KKd)", (unsigned long long)totals.steps,
                         (unsigned long long)totals.episodes, totals.reward);
}

PyDoc_STRVAR(mask_doc, "mask(lane, n) -> bytes: 1 for each allowed action; None: unknown");
static PyObject *env_mask(PyObject *object, PyObject *args) {
    struct rl_env *e = rl_env_of(object);
    PyObject *result;
    unsigned lane, n;
    int r;

    if (!e || !PyArg_ParseTuple(args, "II", &lane, &n))
        return NULL;
    result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)n);
    if (!result)
        return NULL;
    r = rl_env_mask(e, lane, (uint8_t *)PyBytes_AsString(result), n);
    if (r == 0)
        return result;
    Py_DECREF(result);
    return r == -SKATE_ENOENT ? Py_NewRef(Py_None)
                              : rl_raise(r, NULL, "mask: reset first; lane and n must be right");
}

PyDoc_STRVAR(render_doc, "render(lane) -> (columns, rows, bytes of RGB); None: it draws none");
static PyObject *env_render(PyObject *object, PyObject *args) {
    struct rl_env *e = rl_env_of(object);
    struct skate_error err = { "" };
    PyObject *picture;
    uint32_t size[2];
    unsigned lane;
    int r;

    if (!e || !PyArg_ParseTuple(args, "I", &lane))
        return NULL;
    r = rl_env_picture(e, lane, size, &err);
    if (r == -SKATE_ENOENT)
        return Py_NewRef(Py_None);
    if (r < 0)
        return rl_raise(r, &err, "render");
    picture = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size[0] * size[1] * 3);
    if (!picture)
        return NULL;
    r = rl_env_render(e, lane, (uint8_t *)PyBytes_AsString(picture), &err);
    if (r < 0) {
        Py_DECREF(picture);
        return rl_raise(r, &err, "render");
    }
    return Py_BuildValue("(IIN)", size[0], size[1], picture);
}

PyDoc_STRVAR(task_doc, "set_task(json): another task, from each lane's next reset on");
static PyObject *env_set_task(PyObject *object, PyObject *args) {
    struct rl_env *e = rl_env_of(object);
    struct skate_error err = { "" };
    const char *task;
    int r;

    if (!e || !PyArg_ParseTuple(args, "s", &task))
        return NULL;
    r = rl_env_set_task(e, task, &err);
    return r < 0 ? rl_raise(r, &err, "set_task") : Py_NewRef(Py_None);
}

PyDoc_STRVAR(save_doc, "save(lane) -> bytes: the lane's state, its random stream included");
static PyObject *env_save(PyObject *object, PyObject *args) {
    struct rl_env *e = rl_env_of(object);
    PyObject *result;
    unsigned lane;
    size_t n;
    int r;

    if (!e || !PyArg_ParseTuple(args, "I", &lane))
        return NULL;
    n = rl_env_state_bytes(e);
    result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)n);
    if (!result)
        return NULL;
    r = rl_env_save(e, lane, PyBytes_AsString(result), n);
    if (r < 0) {
        Py_DECREF(result);
        return rl_raise(r, NULL, "save: no such lane, or the environment cannot be saved");
    }
    return result;
}

PyDoc_STRVAR(load_doc, "load(lane, bytes): go on from what save() gave");
static PyObject *env_load(PyObject *object, PyObject *args) {
    struct rl_env *e = rl_env_of(object);
    const char *data;
    Py_ssize_t n;
    unsigned lane;
    int r;

    if (!e || !PyArg_ParseTuple(args, "Iy#", &lane, &data, &n))
        return NULL;
    r = rl_env_load(e, lane, data, (size_t)n);
    return r < 0 ? rl_raise(r, NULL, "load: not a state of this environment") : Py_NewRef(Py_None);
}

static PyMethodDef env_methods[] = {
    { "info", env_info, METH_NOARGS, info_doc },
    { "rows", env_rows, METH_VARARGS, rows_doc },
    { "reset", env_reset, METH_VARARGS, reset_doc },
    { "step", env_step, METH_NOARGS, step_doc },
    { "random", env_random, METH_VARARGS, random_doc },
    { "mask", env_mask, METH_VARARGS, mask_doc },
    { "render", env_render, METH_VARARGS, render_doc },
    { "set_task", env_set_task, METH_VARARGS, task_doc },
    { "save", env_save, METH_VARARGS, save_doc },
    { "load", env_load, METH_VARARGS, load_doc },
    { NULL, NULL, 0, NULL },
};

PyDoc_STRVAR(env_doc, "Env(name, lanes=1, seed=0, config=None, max_steps=-1, mode=0)\n"
                      "mode: 0 reset on the step after an end, 1 at once, 2 never");
static PyType_Slot env_slots[] = {
    { Py_tp_doc, (void *)env_doc },
    { Py_tp_new, (void *)env_type_new },
    { Py_tp_dealloc, (void *)env_type_dealloc },
    { Py_tp_methods, env_methods },
    { 0, NULL },
};

PyType_Spec rl_env_spec = {
    .name = "skate._rl.Env",
    .basicsize = sizeof(struct env_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = env_slots,
};

static void rows_type_dealloc(PyObject *object) {
    Py_CLEAR(((struct rows_object *)object)->env);
    rl_free_object(object);
}

static int rows_get_buffer(PyObject *object, Py_buffer *view, int flags) {
    struct rows_object *self = (struct rows_object *)object;

    return PyBuffer_FillInfo(view, object, self->data, self->bytes, 0, flags);
}

static PyType_Slot rows_slots[] = {
    { Py_tp_dealloc, (void *)rows_type_dealloc },
    { Py_bf_getbuffer, (void *)rows_get_buffer },
    { 0, NULL },
};

PyType_Spec rl_env_rows_spec = {
    .name = "skate._rl.EnvRows",
    .basicsize = sizeof(struct rows_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = rows_slots,
};

PyObject *rl_env_names_list(PyObject *module, PyObject *unused) {
    PyObject *list = PyList_New(0);

    (void)module;
    (void)unused;
    for (const struct rl_env_name *n = rl_env_names; list && n->name; n++) {
        PyObject *name = PyUnicode_FromString(n->name);

        if (!name || PyList_Append(list, name) < 0)
            Py_CLEAR(list);
        Py_XDECREF(name);
    }
    return list;
}
