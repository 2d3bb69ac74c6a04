/* rl_py_rollout.c - skate._rl.Rollout: the recorder that a worker's step loop calls.
 *
 * Two calls per environment step, so the argument paths here are the hot path of sampling: no
 * keyword parsing, float32 and float64 observations are read by the buffer protocol.
 * Interpreter lock held throughout. Tests: tests/rl/test_engine.py. */
#include <string.h>

#include "rl/gae.h"
#include "rl_py.h"

static PyObject *rollout_type_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = { "policy", "steps", "envs", "cut", NULL };
    unsigned steps, envs = 1, cut = 0;
    struct rollout_object *self;
    struct frag_shape shape;
    struct policy *p;
    PyObject *policy;
    int r;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OI|II:Rollout", names, &policy, &steps,
                                     &envs, &cut))
        return NULL;
    p = rl_policy_of(policy, rl_state_of(type));
    if (!p)
        return NULL;
    self = (struct rollout_object *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self)
        return NULL;
    self->policy = Py_NewRef(policy);
    shape = (struct frag_shape){ steps, envs, (uint32_t)p->opts.obs_dim,
                                 (uint32_t)p->opts.n_actions };
    r = rollout_new(p, &shape, cut, &self->rollout);
    if (r < 0) {
        Py_DECREF(self);
        return rl_raise(r, NULL, "Rollout: steps and envs out of range");
    }
    return (PyObject *)self;
}

static void drop_buffer(struct rollout_object *self) {
    if (self->buffer.obj)
        PyBuffer_Release(&self->buffer);
    self->buffer.obj = NULL;
}

static void rollout_type_dealloc(PyObject *object) {
    struct rollout_object *self = (struct rollout_object *)object;

    drop_buffer(self);
    rollout_free(self->rollout);
    Py_CLEAR(self->policy);
    rl_free_object(object);
}

struct rollout *rl_rollout_of(PyObject *object) {
    struct rollout_object *self = (struct rollout_object *)object;

    if (!((struct policy_object *)self->policy)->busy)
        return self->rollout;
    PyErr_SetString(PyExc_RuntimeError, "the policy is in use by a learner or a rollout");
    return NULL;
}

/* Whether a call may run: nobody else uses the policy, and the buffer is still held (a begin()
 * that failed has dropped it, and the engine would write into what was freed). */
static int is_ready(struct rollout_object *self, const char *what) {
    if (!rl_rollout_of((PyObject *)self))
        return 0;
    if (self->buffer.obj)
        return 1;
    PyErr_Format(PyExc_ValueError, "%s: no fragment begun", what);
    return 0;
}

/* Raise for what rollout_bad() says. */
static PyObject *raise_bad(const struct rollout_bad *bad) {
    char value[32];

    PyOS_snprintf(value, sizeof value, "%g", bad->value);
    return PyErr_Format(PyExc_FloatingPointError, "%s of environment %u is %s at step %d of its "
                        "episode", bad->field, bad->env, value, bad->step);
}

/* Copy one observation to where the engine reads it. Only float32 and float64 come here; the
 * caller flattens and converts all others. */
static int copy_obs(struct rollout_object *self, uint32_t env, PyObject *obs) {
    uint32_t n = rollout_shape(self->rollout)->obs_dim;
    float *to = rollout_obs(self->rollout, env);
    Py_buffer view;
    const char *f;

    if (PyObject_GetBuffer(obs, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0)
        return -1;
    f = view.format ? view.format : "B";
    if (strcmp(f, "f") == 0 && view.len == (Py_ssize_t)(n * sizeof(float))) {
        memcpy(to, view.buf, n * sizeof(float));
    } else if (strcmp(f, "d") == 0 && view.len == (Py_ssize_t)(n * sizeof(double))) {
        const double *from = view.buf;

        for (uint32_t i = 0; i < n; i++)
            to[i] = (float)from[i];
    } else {
        PyErr_Format(PyExc_ValueError, "observation: expected %u float32 or float64, got %zd "
                     "bytes of type '%s'", n, view.len, f);
        PyBuffer_Release(&view);
        return -1;
    }
    PyBuffer_Release(&view);
    return 0;
}

static int read_env(struct rollout_object *self, PyObject *number, uint32_t *env) {
    long i = PyLong_AsLong(number);

    if (i == -1 && PyErr_Occurred())
        return -1;
    if (i < 0 || (uint32_t)i >= rollout_shape(self->rollout)->envs) {
        PyErr_Format(PyExc_IndexError, "environment %ld", i);
        return -1;
    }
    *env = (uint32_t)i;
    return 0;
}

PyDoc_STRVAR(begin_doc, "begin(buffer, worker=0): start filling a fragment");
static PyObject *rollout_py_begin(PyObject *object, PyObject *args) {
    struct rollout_object *self = (struct rollout_object *)object;
    unsigned worker = 0;
    PyObject *buffer;
    int r;

    if (!PyArg_ParseTuple(args, "O|I", &buffer, &worker) || !rl_rollout_of(object))
        return NULL;
    drop_buffer(self);
    if (rl_buffer(buffer, &self->buffer, 0, -1, 1, "fragment") < 0) {
        self->buffer.obj = NULL;
        return NULL;
    }
    r = rollout_begin(self->rollout, self->buffer.buf, (size_t)self->buffer.len, worker);
    if (r < 0) {
        drop_buffer(self);
        return rl_raise(r, NULL, "begin: the buffer is too small or not aligned to 8 bytes");
    }
    return Py_NewRef(Py_None);
}

PyDoc_STRVAR(set_obs_doc, "set_obs(env, obs): the first observation of an episode");
static PyObject *rollout_py_set_obs(PyObject *object, PyObject *const *args, Py_ssize_t n) {
    struct rollout_object *self = (struct rollout_object *)object;
    uint32_t env;

    if (n != 2) {
        PyErr_SetString(PyExc_TypeError, "set_obs(env, obs)");
        return NULL;
    }
    if (!rl_rollout_of(object) || read_env(self, args[0], &env) < 0 ||
        copy_obs(self, env, args[1]) < 0)
        return NULL;
    if (rollout_check(self->rollout, env) < 0)
        return raise_bad(rollout_bad(self->rollout));
    return Py_NewRef(Py_None);
}

PyDoc_STRVAR(act_doc, "act() -> int with one environment, else a tuple of ints");
static PyObject *rollout_py_act(PyObject *object, PyObject *unused) {
    struct rollout_object *self = (struct rollout_object *)object;
    const int32_t *actions;
    PyObject *result;
    uint32_t n;
    int r;

    (void)unused;
    if (!is_ready(self, "act"))
        return NULL;
    r = rollout_act(self->rollout, &actions);
    if (r < 0) {
        if (!rollout_is_full(self->rollout))
            PyErr_SetString(PyExc_FloatingPointError,
                            "the policy's outputs are not finite, or act() was called twice");
        else
            PyErr_SetString(PyExc_ValueError, "act: the fragment is full");
        return NULL;
    }
    n = rollout_shape(self->rollout)->envs;
    if (n == 1)
        return PyLong_FromLong(actions[0]);
    result = PyTuple_New(n);
    for (uint32_t i = 0; result && i < n; i++) {
        PyObject *item = PyLong_FromLong(actions[i]);

        if (!item || PyTuple_SetItem(result, i, item) < 0)
            Py_CLEAR(result);
    }
    return result;
}

/* Whether the episode is over; -1 with an exception. */
static int record(struct rollout_object *self, PyObject *number, PyObject *obs,
                  PyObject *reward_given, PyObject *over, PyObject *cut) {
    int terminated, truncated, r;
    double reward;
    uint32_t env;

    if (!is_ready(self, "step") || read_env(self, number, &env) < 0 ||
        copy_obs(self, env, obs) < 0)
        return -1;
    reward = PyFloat_AsDouble(reward_given);
    if (reward == -1.0 && PyErr_Occurred())
        return -1;
    terminated = PyObject_IsTrue(over);
    truncated = PyObject_IsTrue(cut);
    if (terminated < 0 || truncated < 0)
        return -1;
    r = rollout_step(self->rollout, env, reward,
                     (uint8_t)((terminated ? GAE_TERMINATED : 0) |
                               (truncated ? GAE_TRUNCATED : 0)));
    if (r < 0 && rollout_bad(self->rollout))
        raise_bad(rollout_bad(self->rollout));
    else if (r < 0)
        rl_raise(r, NULL, "step: act() first, then each environment in order");
    return r < 0 ? -1 : terminated || truncated;
}

PyDoc_STRVAR(step_doc, "step(env, obs, reward, terminated, truncated): record the answer");
static PyObject *rollout_py_step(PyObject *object, PyObject *const *args, Py_ssize_t n) {
    if (n != 5) {
        PyErr_SetString(PyExc_TypeError, "step(env, obs, reward, terminated, truncated)");
        return NULL;
    }
    if (record((struct rollout_object *)object, args[0], args[1], args[2], args[3], args[4]) < 0)
        return NULL;
    return Py_NewRef(Py_None);
}

PyDoc_STRVAR(take_doc, "take(env, answer) -> whether the episode is over: record what Gymnasium's\n"
                       "step() gave. TypeError or ValueError, and nothing recorded: no tuple of\n"
                       "five, or the observation is no row of floats");
static PyObject *rollout_py_take(PyObject *object, PyObject *const *args, Py_ssize_t n) {
    int over;

    if (n != 2 || !PyTuple_Check(args[1]) || PyTuple_Size(args[1]) != 5) {
        PyErr_SetString(PyExc_TypeError, "take(env, (obs, reward, terminated, truncated, info))");
        return NULL;
    }
    over = record((struct rollout_object *)object, args[0], PyTuple_GetItem(args[1], 0),
                  PyTuple_GetItem(args[1], 1), PyTuple_GetItem(args[1], 2),
                  PyTuple_GetItem(args[1], 3));
    return over < 0 ? NULL : Py_NewRef(over ? Py_True : Py_False);
}

PyDoc_STRVAR(finish_doc, "finish(): fill in the values; the buffer is then a complete fragment");
static PyObject *rollout_py_finish(PyObject *object, PyObject *unused) {
    struct rollout_object *self = (struct rollout_object *)object;
    int r;

    (void)unused;
    if (!is_ready(self, "finish"))
        return NULL;
    r = rollout_finish(self->rollout);
    if (r < 0)
        return rl_raise(r, NULL, "finish: the fragment is not full");
    drop_buffer(self);
    return Py_NewRef(Py_None);
}

PyDoc_STRVAR(reset_doc, "reset(): forget unfinished episodes and the fragment in progress");
static PyObject *rollout_py_reset(PyObject *object, PyObject *unused) {
    struct rollout_object *self = (struct rollout_object *)object;

    (void)unused;
    if (!rl_rollout_of(object))
        return NULL;
    rollout_reset(self->rollout);
    drop_buffer(self);
    return Py_NewRef(Py_None);
}

PyDoc_STRVAR(bad_doc, "bad() -> None, or what was not finite since begin() or reset(): (field,\n"
                      "environment, step of the episode, column, value)");
static PyObject *rollout_py_bad(PyObject *object, PyObject *unused) {
    const struct rollout_bad *bad = rollout_bad(((struct rollout_object *)object)->rollout);

    (void)unused;
    if (!bad)
        return Py_NewRef(Py_None);
    return Py_BuildValue("(sIiId)", bad->field, bad->env, bad->step, bad->column, bad->value);
}

PyDoc_STRVAR(state_doc, "state() -> bytes: between fragments, for checkpoints");
static PyObject *rollout_py_state(PyObject *object, PyObject *unused) {
    struct rollout *r = rl_rollout_of(object);
    PyObject *bytes;

    (void)unused;
    if (!r)
        return NULL;
    bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)rollout_state_bytes(r));
    if (bytes)
        rollout_get_state(r, PyBytes_AsString(bytes));
    return bytes;
}

PyDoc_STRVAR(set_state_doc, "set_state(bytes): go on from state()");
static PyObject *rollout_py_set_state(PyObject *object, PyObject *block) {
    struct rollout *r = rl_rollout_of(object);
    Py_buffer view;
    int e;

    if (!r || rl_buffer(block, &view, 0, -1, 0, "state") < 0)
        return NULL;
    e = rollout_set_state(r, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return e < 0 ? rl_raise(e, NULL, "not the state of such a rollout, or one is under way")
                 : Py_NewRef(Py_None);
}

static PyMethodDef rollout_methods[] = {
    { "begin", rollout_py_begin, METH_VARARGS, begin_doc },
    { "set_obs", (PyCFunction)(void (*)(void))rollout_py_set_obs, METH_FASTCALL, set_obs_doc },
    { "act", rollout_py_act, METH_NOARGS, act_doc },
    { "step", (PyCFunction)(void (*)(void))rollout_py_step, METH_FASTCALL, step_doc },
    { "take", (PyCFunction)(void (*)(void))rollout_py_take, METH_FASTCALL, take_doc },
    { "finish", rollout_py_finish, METH_NOARGS, finish_doc },
    { "reset", rollout_py_reset, METH_NOARGS, reset_doc },
    { "bad", rollout_py_bad, METH_NOARGS, bad_doc },
    { "state", rollout_py_state, METH_NOARGS, state_doc },
    { "set_state", rollout_py_set_state, METH_O, set_state_doc },
    { NULL, NULL, 0, NULL },
};

PyDoc_STRVAR(rollout_doc, "Rollout(policy, steps, envs=1, cut=0)");
static PyType_Slot rollout_slots[] = {
    { Py_tp_doc, (void *)rollout_doc },
    { Py_tp_new, (void *)rollout_type_new },
    { Py_tp_dealloc, (void *)rollout_type_dealloc },
    { Py_tp_methods, rollout_methods },
    { 0, NULL },
};

PyType_Spec rl_rollout_spec = {
    .name = "skate._rl.Rollout",
    .basicsize = sizeof(struct rollout_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = rollout_slots,
};
