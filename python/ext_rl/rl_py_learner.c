/* rl_py_learner.c - skate._rl.Learner: updates without the interpreter lock, gradients, state.
 *
 * update() gives the lock away for its whole length; `busy` on the learner and on the policy keeps
 * other threads from touching either meanwhile. Tests: tests/rl/test_engine.py. */
#include <string.h>

#include "rl_py.h"

struct learner_object {
    PyObject_HEAD
    struct learner *learner;
    PyObject *policy;
    int busy;
};

static PyObject *learner_type_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = { "policy", "gamma", "lambda_", "lr", "clip", "vf_clip", "vf_coeff",
                             "entropy_coeff", "kl_coeff", "kl_target", "grad_clip",
                             "minibatch", "epochs", "threads", "seed", "beta1", "beta2",
                             "adam_eps", "vf_clip_loss", "kl_last", "shuffle", "wrap", NULL };
    struct learner_object *self;
    struct learner_opts o;
    unsigned long long seed = 0;
    struct policy *p;
    PyObject *policy;
    int r, clip_loss, kl_last, shuffle, wrap;

    learner_opts_default(&o);
    clip_loss = o.vf_clip_loss;
    kl_last = o.kl_last;
    shuffle = o.shuffle;
    wrap = o.wrap;
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "O|$ffffffffffiiiKfffpppp:Learner", names, &policy, &o.gamma, &o.lambda,
            &o.lr, &o.clip, &o.vf_clip, &o.vf_coeff, &o.entropy_coeff, &o.kl_coeff,
            &o.kl_target, &o.grad_clip, &o.minibatch, &o.epochs, &o.threads, &seed, &o.beta1,
            &o.beta2, &o.adam_eps, &clip_loss, &kl_last, &shuffle, &wrap))
        return NULL;
    o.vf_clip_loss = clip_loss;
    o.kl_last = kl_last;
    o.shuffle = shuffle;
    o.wrap = wrap;
    p = rl_policy_of(policy, rl_state_of(type));
    if (!p)
        return NULL;
    o.seed = seed;
    self = (struct learner_object *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self)
        return NULL;
    self->policy = Py_NewRef(policy);
    r = learner_new(p, &o, &self->learner);
    if (r < 0) {
        Py_DECREF(self);
        return rl_raise(r, NULL, "Learner: an option is out of range");
    }
    return (PyObject *)self;
}

static void learner_type_dealloc(PyObject *object) {
    struct learner_object *self = (struct learner_object *)object;

    learner_free(self->learner);
    Py_CLEAR(self->policy);
    rl_free_object(object);
}

static int enter(struct learner_object *self) {
    struct policy_object *p = (struct policy_object *)self->policy;

    if (self->busy || p->busy) {
        PyErr_SetString(PyExc_RuntimeError, "the learner or its policy is at work already");
        return -1;
    }
    self->busy = p->busy = 1;
    return 0;
}

static void leave(struct learner_object *self) {
    self->busy = ((struct policy_object *)self->policy)->busy = 0;
}

/* The buffers of a list of fragments, opened and checked. */
struct batch {
    Py_ssize_t n;
    Py_buffer *views;
    struct frag *frags;
};

static void batch_release(struct batch *b) {
    for (Py_ssize_t i = 0; i < b->n; i++)
        PyBuffer_Release(&b->views[i]);
    PyMem_Free(b->views);
    PyMem_Free(b->frags);
}

static int batch_open(struct batch *b, PyObject *list) {
    Py_ssize_t n = PySequence_Size(list);

    *b = (struct batch){ 0 };
    if (n < 0)
        return -1;
    b->views = PyMem_Calloc((size_t)n + 1, sizeof *b->views);
    b->frags = PyMem_Calloc((size_t)n + 1, sizeof *b->frags);
    if (!b->views || !b->frags) {
        PyErr_NoMemory();
        goto fail;
    }
    while (b->n < n) {
        PyObject *item = PySequence_GetItem(list, b->n);
        int r = item ? rl_buffer(item, &b->views[b->n], 0, -1, 0, "fragment") : -1;

        Py_XDECREF(item);   /* the view keeps the object alive */
        if (r < 0)
            goto fail;
        b->n++;
        r = frag_open(b->views[b->n - 1].buf, (size_t)b->views[b->n - 1].len,
                      &b->frags[b->n - 1]);
        if (r < 0) {
            PyErr_Format(PyExc_ValueError, "item %zd is not a fragment", b->n - 1);
            goto fail;
        }
    }
    return 0;
fail:
    batch_release(b);
    return -1;
}

static PyObject *stats_dict(const struct learner_stats *s) {
    return Py_BuildValue(
        "{s:d,s:d,s:d,s:d,s:d,s:d,s:d,s:d,s:d,s:d,s:K,s:K,s:d}", "total_loss", s->total_loss,
        "policy_loss", s->policy_loss, "vf_loss", s->vf_loss, "vf_explained_var",
        s->vf_explained_var, "kl", s->kl, "entropy", s->entropy, "cur_kl_coeff",
        s->cur_kl_coeff, "cur_lr", s->cur_lr, "advantage_mean", s->advantage_mean,
        "advantage_std", s->advantage_std, "samples", (unsigned long long)s->samples,
        "minibatches", (unsigned long long)s->minibatches, "seconds", s->seconds);
}

/* Both entries: flat is NULL for an update, else where the gradient goes. */
static PyObject *work(struct learner_object *self, PyObject *list, float *flat) {
    struct learner_stats stats = { 0 };
    struct skate_error err = { .text = "" };
    struct batch b;
    int r;

    if (batch_open(&b, list) < 0)
        return NULL;
    if (enter(self) < 0) {
        batch_release(&b);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    r = flat ? learner_gradient(self->learner, b.frags, (size_t)b.n, flat, &stats, &err)
             : learner_update(self->learner, b.frags, (size_t)b.n, &stats, &err);
    Py_END_ALLOW_THREADS
    leave(self);
    batch_release(&b);
    if (r < 0 && stats.minibatches > 0) {   /* the update ran and ended in numbers of no use */
        PyErr_SetString(PyExc_FloatingPointError, err.text);
        return NULL;
    }
    return r < 0 ? rl_raise(r, &err, "update") : stats_dict(&stats);
}

PyDoc_STRVAR(update_doc, "update(fragments) -> dict: all epochs over one train batch");
static PyObject *learner_py_update(PyObject *object, PyObject *list) {
    return work((struct learner_object *)object, list, NULL);
}

PyDoc_STRVAR(gradient_doc, "gradient(fragments, out) -> dict: one minibatch, nothing changed");
static PyObject *learner_py_gradient(PyObject *object, PyObject *args) {
    struct learner_object *self = (struct learner_object *)object;
    PyObject *list, *out, *result;
    Py_buffer view;
    size_t n = policy_n_weights(((struct policy_object *)self->policy)->policy);

    if (!PyArg_ParseTuple(args, "OO", &list, &out) ||
        rl_buffer(out, &view, 'f', (Py_ssize_t)n, 1, "gradient") < 0)
        return NULL;
    result = work(self, list, view.buf);
    PyBuffer_Release(&view);
    return result;
}

PyDoc_STRVAR(set_doc, "set(lr=, entropy_coeff=, kl_coeff=): change options between updates");
static PyObject *learner_py_set(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = { "lr", "entropy_coeff", "kl_coeff", NULL };
    struct learner_object *self = (struct learner_object *)object;
    struct learner_opts *o = learner_opts(self->learner);
    float lr = o->lr, entropy_coeff = o->entropy_coeff, kl_coeff = o->kl_coeff;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$fff:set", names, &lr, &entropy_coeff,
                                     &kl_coeff))
        return NULL;
    if (!(lr >= 0.0f) || !(kl_coeff >= 0.0f) || self->busy) {
        PyErr_SetString(PyExc_ValueError, "lr and kl_coeff must be >= 0, the learner idle");
        return NULL;
    }
    o->lr = lr;
    o->entropy_coeff = entropy_coeff;
    o->kl_coeff = kl_coeff;
    return Py_NewRef(Py_None);
}

PyDoc_STRVAR(get_state_doc, "get_state() -> bytes: the optimiser, for checkpoints");
static PyObject *learner_py_get_state(PyObject *object, PyObject *unused) {
    struct learner_object *self = (struct learner_object *)object;
    size_t n = learner_state_bytes(self->learner);
    PyObject *bytes;

    (void)unused;
    if (enter(self) < 0)
        return NULL;
    bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)n);
    if (bytes)
        learner_get_state(self->learner, PyBytes_AsString(bytes));
    leave(self);
    return bytes;
}

PyDoc_STRVAR(set_state_doc, "set_state(bytes): what get_state() of such a learner gave");
static PyObject *learner_py_set_state(PyObject *object, PyObject *block) {
    struct learner_object *self = (struct learner_object *)object;
    Py_buffer view;
    int r;

    if (rl_buffer(block, &view, 0, -1, 0, "state") < 0)
        return NULL;
    if (enter(self) < 0) {
        PyBuffer_Release(&view);
        return NULL;
    }
    r = learner_set_state(self->learner, view.buf, (size_t)view.len);
    leave(self);
    PyBuffer_Release(&view);
    return r < 0 ? rl_raise(r, NULL, "not the state of a learner of this shape")
                 : Py_NewRef(Py_None);
}

static PyMethodDef learner_methods[] = {
    { "update", learner_py_update, METH_O, update_doc },
    { "gradient", learner_py_gradient, METH_VARARGS, gradient_doc },
    { "set", (PyCFunction)(void (*)(void))learner_py_set, METH_VARARGS | METH_KEYWORDS,
      set_doc },
    { "get_state", learner_py_get_state, METH_NOARGS, get_state_doc },
    { "set_state", learner_py_set_state, METH_O, set_state_doc },
    { NULL, NULL, 0, NULL },
};

PyDoc_STRVAR(learner_doc, "Learner(policy, *, gamma, lambda_, lr, ..., threads=1, seed=0)");
static PyType_Slot learner_slots[] = {
    { Py_tp_doc, (void *)learner_doc },
    { Py_tp_new, (void *)learner_type_new },
    { Py_tp_dealloc, (void *)learner_type_dealloc },
    { Py_tp_methods, learner_methods },
    { 0, NULL },
};

PyType_Spec rl_learner_spec = {
    .name = "skate._rl.Learner",
    .basicsize = sizeof(struct learner_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = learner_slots,
};
