/* rl_py_policy.c - skate._rl.Policy: the two nets, their weights, inference.
 * Interpreter lock held throughout (calls are microseconds). Tests: tests/rl/test_engine.py. */
#include <string.h>

#include "rl_py.h"

static struct policy *checked(PyObject *self) {
    return rl_policy_of(self, rl_state_of(Py_TYPE(self)));
}

static int read_hiddens(PyObject *sequence, struct policy_opts *o) {
    Py_ssize_t n = PySequence_Size(sequence);

    if (n < 0)
        return -1;
    if (n > MLP_LAYERS_MAX - 1) {
        PyErr_Format(PyExc_ValueError, "hiddens: at most %d layers", MLP_LAYERS_MAX - 1);
        return -1;
    }
    o->n_hiddens = (int)n;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PySequence_GetItem(sequence, i);
        long width = item ? PyLong_AsLong(item) : -1;

        Py_XDECREF(item);
        if (width == -1 && PyErr_Occurred())
            return -1;
        if (width < 1 || width > MLP_DIM_MAX) {
            PyErr_Format(PyExc_ValueError, "hiddens: layer %zd has width %ld", i, width);
            return -1;
        }
        o->hiddens[i] = (int)width;
    }
    return 0;
}

static int read_activation(const char *name, enum kern_act *act) {
    if (strcmp(name, "tanh") == 0)
        *act = KERN_TANH;
    else if (strcmp(name, "relu") == 0)
        *act = KERN_RELU;
    else if (strcmp(name, "linear") == 0)
        *act = KERN_LINEAR;
    else {
        PyErr_Format(PyExc_ValueError, "activation must be tanh, relu or linear, not '%s'", name);
        return -1;
    }
    return 0;
}

static PyObject *policy_type_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = { "obs_dim", "n_actions", "hiddens", "activation", "seed", NULL };
    struct policy_opts o = { .n_hiddens = 2, .hiddens = { 256, 256 } };
    const char *activation = "tanh";
    unsigned long long seed = 0;
    PyObject *hiddens = NULL;
    struct policy_object *self;
    allocfunc alloc;
    int r;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "ii|OsK:Policy", names, &o.obs_dim,
                                     &o.n_actions, &hiddens, &activation, &seed))
        return NULL;
    if ((hiddens && read_hiddens(hiddens, &o) < 0) || read_activation(activation, &o.act) < 0)
        return NULL;
    o.seed = seed;
    alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    self = (struct policy_object *)alloc(type, 0);
    if (!self)
        return NULL;
    r = policy_new(&o, &self->policy);
    if (r < 0) {
        Py_DECREF(self);
        return rl_raise(r, NULL, "Policy: sizes must be 1..65536");
    }
    return (PyObject *)self;
}

static void policy_type_dealloc(PyObject *self) {
    policy_free(((struct policy_object *)self)->policy);
    rl_free_object(self);
}

PyDoc_STRVAR(get_weights_doc, "get_weights(out): write the flat float32 vector of n_weights");
static PyObject *policy_get(PyObject *self, PyObject *out) {
    struct policy *p = checked(self);
    Py_buffer view;

    if (!p || rl_buffer(out, &view, 'f', (Py_ssize_t)policy_n_weights(p), 1, "weights") < 0)
        return NULL;
    policy_get_weights(p, view.buf);
    PyBuffer_Release(&view);
    return Py_NewRef(Py_None);
}

PyDoc_STRVAR(set_weights_doc, "set_weights(flat, version=0)");
static PyObject *policy_set(PyObject *self, PyObject *args) {
    struct policy *p = checked(self);
    unsigned long long version = 0;
    PyObject *flat;
    Py_buffer view;

    if (!p || !PyArg_ParseTuple(args, "O|K", &flat, &version))
        return NULL;
    if (rl_buffer(flat, &view, 'f', (Py_ssize_t)policy_n_weights(p), 0, "weights") < 0)
        return NULL;
    policy_set_weights(p, view.buf);
    p->version = version;
    PyBuffer_Release(&view);
    return Py_NewRef(Py_None);
}

PyDoc_STRVAR(seed_doc, "seed(n): restart the stream that draws actions");
static PyObject *policy_seed(PyObject *self, PyObject *number) {
    struct policy *p = checked(self);
    unsigned long long seed;

    if (!p)
        return NULL;
    seed = PyLong_AsUnsignedLongLongMask(number);
    if (PyErr_Occurred())
        return NULL;
    rl_rng_init(&p->rng, seed, 2);
    return Py_NewRef(Py_None);
}

/* Buffers of one call of compute_actions; an absent one has obj == NULL. */
struct acting {
    Py_buffer obs, logits, actions, logp, values;
};

static void acting_release(struct acting *a) {
    Py_buffer *views[] = { &a->obs, &a->logits, &a->actions, &a->logp, &a->values };

    for (int i = 0; i < 5; i++)
        if (views[i]->obj)
            PyBuffer_Release(views[i]);
}

static int optional(PyObject *object, Py_buffer *view, Py_ssize_t n, const char *what) {
    return object == Py_None ? 0 : rl_buffer(object, view, 'f', n, 1, what);
}

PyDoc_STRVAR(compute_doc,
             "compute_actions(obs, logits, actions, logp=None, values=None, explore=True)\n"
             "obs float32 [n][obs_dim]; logits [n][n_actions], actions int32 [n], logp and\n"
             "values float32 [n] are written.");
static PyObject *policy_compute(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = { "obs", "logits", "actions", "logp", "values", "explore", NULL };
    PyObject *obs, *logits, *actions, *logp = Py_None, *values = Py_None, *result = NULL;
    struct policy *p = checked(self);
    struct acting a = { 0 };
    Py_ssize_t n, width;
    int explore = 1, r;

    if (!p || !PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|OOp", names, &obs, &logits,
                                           &actions, &logp, &values, &explore))
        return NULL;
    width = p->opts.n_actions;
    if (rl_buffer(actions, &a.actions, 'i', -1, 1, "actions") < 0)
        return NULL;
    n = a.actions.len / (Py_ssize_t)sizeof(int32_t);
    if (rl_buffer(obs, &a.obs, 'f', n * p->opts.obs_dim, 0, "obs") < 0 ||
        rl_buffer(logits, &a.logits, 'f', n * width, 1, "logits") < 0 ||
        optional(logp, &a.logp, n, "logp") < 0 || optional(values, &a.values, n, "values") < 0)
        goto done;
    policy_logits(p, a.obs.buf, (size_t)n, a.logits.buf);
    if (a.values.obj)
        policy_values(p, a.obs.buf, (size_t)n, a.values.buf);
    r = policy_choose(p, a.logits.buf, (size_t)n, explore, a.actions.buf, a.logp.buf);
    if (r == -SKATE_EINVAL)
        PyErr_SetString(PyExc_FloatingPointError, "the policy's outputs are not finite");
    else if (r < 0)
        rl_raise(r, NULL, "compute_actions");
    else
        result = Py_NewRef(Py_None);
done:
    acting_release(&a);
    return result;
}

static PyObject *get_n_weights(PyObject *self, void *unused) {
    (void)unused;
    return PyLong_FromSize_t(policy_n_weights(((struct policy_object *)self)->policy));
}

static PyObject *get_version(PyObject *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(((struct policy_object *)self)->policy->version);
}

static PyObject *get_obs_dim(PyObject *self, void *unused) {
    (void)unused;
    return PyLong_FromLong(((struct policy_object *)self)->policy->opts.obs_dim);
}

static PyObject *get_n_actions(PyObject *self, void *unused) {
    (void)unused;
    return PyLong_FromLong(((struct policy_object *)self)->policy->opts.n_actions);
}

static PyGetSetDef policy_getset[] = {
    { "n_weights", get_n_weights, NULL, "floats in the flat weight vector", NULL },
    { "version", get_version, NULL, "updates that made these weights", NULL },
    { "obs_dim", get_obs_dim, NULL, "floats in an observation", NULL },
    { "n_actions", get_n_actions, NULL, "number of actions", NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

static PyMethodDef policy_methods[] = {
    { "get_weights", policy_get, METH_O, get_weights_doc },
    { "set_weights", policy_set, METH_VARARGS, set_weights_doc },
    { "seed", policy_seed, METH_O, seed_doc },
    { "compute_actions", (PyCFunction)(void (*)(void))policy_compute,
      METH_VARARGS | METH_KEYWORDS, compute_doc },
    { NULL, NULL, 0, NULL },
};

PyDoc_STRVAR(policy_doc,
             "Policy(obs_dim, n_actions, hiddens=(256, 256), activation='tanh', seed=0)");
static PyType_Slot policy_slots[] = {
    { Py_tp_doc, (void *)policy_doc },
    { Py_tp_new, (void *)policy_type_new },
    { Py_tp_dealloc, (void *)policy_type_dealloc },
    { Py_tp_methods, policy_methods },
    { Py_tp_getset, policy_getset },
    { 0, NULL },
};

PyType_Spec rl_policy_spec = {
    .name = "skate._rl.Policy",
    .basicsize = sizeof(struct policy_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = policy_slots,
};
