/* rl_py_rollout_env.c - skate._rl.RolloutEnv: a Rollout and an Env driven together, in C alone.
 *
 * run() works without the interpreter lock; rollout, environment and policy refuse other calls
 * meanwhile. Every SLICE steps it looks for signals. Tests: tests/rl/test_native_env.py. */
#include "rl/rollout_env.h"
#include "rl_py.h"

enum { SLICE_ROWS = 65536 };

struct rollout_env_object {
    PyObject_HEAD
    struct rollout_env *x;
    struct rollout_object *rollout;
    struct env_object *env;
};

static PyObject *type_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    struct rl_state *state = rl_state_of(type);
    struct skate_error err = { "" };
    struct rollout_env_object *self;
    PyObject *rollout, *env;
    int r;

    if (kwargs || !state)
        return PyErr_Format(PyExc_TypeError, "RolloutEnv(rollout, env)");
    if (!PyArg_ParseTuple(args, "O!O!:RolloutEnv", state->rollout_type, &rollout, state->env_type,
                          &env))
        return NULL;
    if (!rl_rollout_of(rollout) || !rl_env_of(env))
        return NULL;
    self = (struct rollout_env_object *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self)
        return NULL;
    self->rollout = (struct rollout_object *)Py_NewRef(rollout);
    self->env = (struct env_object *)Py_NewRef(env);
    r = rollout_env_new(self->rollout->rollout, self->env->env, &self->x, &err);
    if (r < 0) {
        Py_DECREF(self);
        return rl_raise(r, &err, "RolloutEnv");
    }
    return (PyObject *)self;
}

static void type_dealloc(PyObject *object) {
    struct rollout_env_object *self = (struct rollout_env_object *)object;

    rollout_env_free(self->x);
    Py_CLEAR(self->rollout);
    Py_CLEAR(self->env);
    rl_free_object(object);
}

/* Whether nobody else uses any of the three. */
static int is_free(struct rollout_env_object *self) {
    return rl_rollout_of((PyObject *)self->rollout) && rl_env_of((PyObject *)self->env);
}

PyDoc_STRVAR(reset_doc, "reset(seeds=None): new episodes everywhere; seeds: an array of uint64");
static PyObject *rollout_env_py_reset(PyObject *object, PyObject *args) {
    struct rollout_env_object *self = (struct rollout_env_object *)object;
    struct skate_error err = { "" };
    PyObject *seeds = Py_None;
    Py_buffer view;
    int r;

    if (!PyArg_ParseTuple(args, "|O", &seeds) || !is_free(self))
        return NULL;
    if (seeds == Py_None) {
        r = rollout_env_reset(self->x, NULL, &err);
    } else {
        Py_ssize_t bytes = (Py_ssize_t)(rl_env_lanes(self->env->env) * sizeof(uint64_t));

        if (rl_buffer(seeds, &view, 0, bytes, 0, "seeds") < 0)
            return NULL;
        r = rollout_env_reset(self->x, view.buf, &err);
        PyBuffer_Release(&view);
    }
    return r < 0 ? rl_raise(r, &err, "reset") : Py_NewRef(Py_None);
}

PyDoc_STRVAR(run_doc, "run(): step until the fragment that was begun is full");
static PyObject *rollout_env_py_run(PyObject *object, PyObject *unused) {
    struct rollout_env_object *self = (struct rollout_env_object *)object;
    struct policy_object *policy = (struct policy_object *)self->rollout->policy;
    struct rollout *rollout = self->rollout->rollout;
    uint32_t slice = SLICE_ROWS / rl_env_lanes(self->env->env) + 1;
    struct skate_error err = { "" };
    int r = 0;

    (void)unused;
    if (!is_free(self))
        return NULL;
    if (!self->rollout->buffer.obj)
        return rl_raise(-SKATE_EINVAL, NULL, "run: no fragment begun");
    while (r == 0 && !rollout_is_full(rollout)) {
        policy->busy = self->env->busy = 1;
        Py_BEGIN_ALLOW_THREADS
        r = rollout_env_run(self->x, slice, &err);
        Py_END_ALLOW_THREADS
        policy->busy = self->env->busy = 0;
        if (PyErr_CheckSignals() < 0)
            return NULL;
    }
    if (r == 0)
        return Py_NewRef(Py_None);
    if (err.text[0])
        return rl_raise(r, &err, "run");
    PyErr_SetString(PyExc_FloatingPointError, "the policy's outputs are not finite");
    return NULL;
}

static PyMethodDef methods[] = {
    { "reset", rollout_env_py_reset, METH_VARARGS, reset_doc },
    { "run", rollout_env_py_run, METH_NOARGS, run_doc },
    { NULL, NULL, 0, NULL },
};

PyDoc_STRVAR(type_doc, "RolloutEnv(rollout, env): env: as many lanes, mode 1");
static PyType_Slot slots[] = {
    { Py_tp_doc, (void *)type_doc },
    { Py_tp_new, (void *)type_new },
    { Py_tp_dealloc, (void *)type_dealloc },
    { Py_tp_methods, methods },
    { 0, NULL },
};

PyType_Spec rl_rollout_env_spec = {
    .name = "skate._rl.RolloutEnv",
    .basicsize = sizeof(struct rollout_env_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
