/* rl_py_mod.c - the module skate._rl: its types, free functions, buffers and errors.
 * Interpreter lock held throughout; nothing blocks. Tests: tests/rl/. */
#include <string.h>

#include "rl/gae.h"
#include "rl/picture.h"
#include "rl_py.h"

int rl_buffer(PyObject *object, Py_buffer *view, char format, Py_ssize_t n, int writable,
              const char *what) {
    int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    const char *f;
    Py_ssize_t have;

    if (PyObject_GetBuffer(object, view, flags) < 0)
        return -1;
    f = view->format ? view->format : "B";
    if (*f == '@' || *f == '=' || *f == '<')
        f++;
    have = format ? view->len / (view->itemsize > 0 ? view->itemsize : 1) : view->len;
    if (format && (f[0] != format || f[1] != '\0')) {
        PyErr_Format(PyExc_ValueError, "%s: expected items of type '%c', got '%s'", what, format,
                     f);
    } else if (n >= 0 && have != n) {
        PyErr_Format(PyExc_ValueError, "%s: expected %zd items, got %zd", what, n, have);
    } else {
        return 0;
    }
    PyBuffer_Release(view);
    return -1;
}

PyObject *rl_raise(int code, const struct skate_error *err, const char *what) {
    const char *text = err && err->text[0] ? err->text : skate_strerror(code);

    if (code == -SKATE_ENOMEM)
        return PyErr_NoMemory();
    if (code == -SKATE_EFORKED || code == -SKATE_ESYS)
        PyErr_Format(PyExc_RuntimeError, "%s: %s", what, text);
    else
        PyErr_Format(PyExc_ValueError, "%s: %s", what, text);
    return NULL;
}

struct rl_state *rl_state_of(PyTypeObject *type) {
    return PyType_GetModuleState(type);
}

void rl_free_object(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    release(self);
    Py_DECREF(type);
}

struct policy *rl_policy_of(PyObject *object, struct rl_state *state) {
    struct policy_object *p = (struct policy_object *)object;

    if (!state || !PyObject_TypeCheck(object, state->policy_type)) {
        PyErr_SetString(PyExc_TypeError, "expected a skate._rl.Policy");
        return NULL;
    }
    if (p->busy) {
        PyErr_SetString(PyExc_RuntimeError, "the policy is in use by a learner or a rollout");
        return NULL;
    }
    return p->policy;
}

static int shape_from(PyObject *args, struct frag_shape *shape) {
    unsigned steps, envs, obs_dim, n_inputs;

    if (!PyArg_ParseTuple(args, "IIII", &steps, &envs, &obs_dim, &n_inputs))
        return -1;
    *shape = (struct frag_shape){ steps, envs, obs_dim, n_inputs };
    return 0;
}

PyDoc_STRVAR(frag_bytes_doc, "frag_bytes(steps, envs, obs_dim, n_inputs) -> bytes of a fragment");
static PyObject *mod_frag_bytes(PyObject *module, PyObject *args) {
    struct frag_shape shape;
    uint64_t n;

    (void)module;
    if (shape_from(args, &shape) < 0)
        return NULL;
    n = frag_bytes(&shape);
    if (n == 0)
        return rl_raise(-SKATE_EINVAL, NULL, "fragment shape");
    return PyLong_FromUnsignedLongLong(n);
}

static PyObject *field_tuple(const struct frag_field *f) {
    static const char *const names[] = { "float32", "float64", "int32", "uint8" };

    return Py_BuildValue("(ssIKK)", f->name, names[f->dtype], f->columns,
                         (unsigned long long)f->offset, (unsigned long long)f->bytes);
}

PyDoc_STRVAR(frag_open_doc,
             "frag_open(buffer) -> dict: the checked header; 'fields' is a list of\n"
             "(name, dtype, columns, offset, bytes). Raises ValueError.");
static PyObject *mod_frag_open(PyObject *module, PyObject *object) {
    PyObject *result = NULL, *fields = NULL;
    Py_buffer view;
    struct frag f;
    int r;

    (void)module;
    if (rl_buffer(object, &view, 0, -1, 0, "fragment") < 0)
        return NULL;
    r = frag_open(view.buf, (size_t)view.len, &f);
    if (r < 0) {
        PyBuffer_Release(&view);
        return rl_raise(r, NULL, "not a fragment");
    }
    fields = PyList_New(0);
    for (int i = 0; fields && i < FRAG_FIELDS; i++) {
        PyObject *t = field_tuple(&f.header->fields[i]);

        if (!t || PyList_Append(fields, t) < 0)
            Py_CLEAR(fields);
        Py_XDECREF(t);
    }
    if (fields)
        result = Py_BuildValue(
            "{s:I,s:I,s:I,s:I,s:I,s:I,s:K,s:O}", "steps", f.header->shape.steps, "envs",
            f.header->shape.envs, "obs_dim", f.header->shape.obs_dim, "n_inputs",
            f.header->shape.n_inputs, "episodes", f.header->episodes, "worker",
            f.header->worker, "policy_version", (unsigned long long)f.header->policy_version,
            "fields", fields);
    Py_XDECREF(fields);
    PyBuffer_Release(&view);
    return result;
}

PyDoc_STRVAR(gae_doc, "gae(reward, value, boot, flags, gamma, lambda_, advantage, target)\n"
                      "One environment's column; the last two float32 arrays are written.");
static PyObject *mod_gae(PyObject *module, PyObject *args) {
    static const char *const names[] = { "reward", "value", "boot", "flags", "advantage",
                                         "target" };
    static const char formats[] = "fffBff";
    PyObject *objects[6], *result = NULL;
    Py_buffer views[6];
    int got = 0;
    float gamma, lambda;

    (void)module;
    if (!PyArg_ParseTuple(args, "OOOOffOO", &objects[0], &objects[1], &objects[2], &objects[3],
                          &gamma, &lambda, &objects[4], &objects[5]))
        return NULL;
    for (; got < 6; got++)
        if (rl_buffer(objects[got], &views[got], formats[got],
                      got ? views[0].len / views[0].itemsize : -1, got >= 4, names[got]) < 0)
            break;
    if (got == 6) {
        struct gae_column c = { views[0].buf, views[1].buf, views[2].buf, views[3].buf,
                                (size_t)(views[0].len / views[0].itemsize), 1 };

        gae_column(&c, gamma, lambda, views[4].buf, views[5].buf);
        result = Py_NewRef(Py_None);
    }
    while (got > 0)
        PyBuffer_Release(&views[--got]);
    return result;
}

PyDoc_STRVAR(picture_doc,
             "resize(picture, size, to, to_size, grey)\n"
             "uint8 [h][w][c] of size (h, w, c) into uint8 [h][w][c, or 1 if grey] of (h, w).");
static PyObject *mod_resize(PyObject *module, PyObject *args) {
    struct picture_job j = { 0 };
    PyObject *from, *to, *result = NULL;
    Py_buffer views[2];
    int grey, r;

    (void)module;
    if (!PyArg_ParseTuple(args, "O(iii)O(ii)p:resize", &from, &j.height, &j.width, &j.channels, &to,
                          &j.to_height, &j.to_width, &grey))
        return NULL;
    if (rl_buffer(from, &views[0], 'B', (Py_ssize_t)j.height * j.width * j.channels, 0,
                  "picture") < 0)
        return NULL;
    j.grey = grey != 0;
    if (rl_buffer(to, &views[1], 'B',
                  (Py_ssize_t)j.to_height * j.to_width * (j.grey ? 1 : j.channels), 1, "to") == 0) {
        j.from = views[0].buf;
        j.to = views[1].buf;
        r = picture_resize(&j);
        result = r < 0 ? rl_raise(r, NULL, "resize") : Py_NewRef(Py_None);
        PyBuffer_Release(&views[1]);
    }
    PyBuffer_Release(&views[0]);
    return result;
}

PyDoc_STRVAR(kernels_doc, "kernels() -> (elementwise instruction set, has generated products)");
static PyObject *mod_kernels(PyObject *module, PyObject *unused) {
    struct gemm_plan plan = { .m = 16, .n = 4, .k = 4, .lda = 16, .ldb = 4, .ldc = 16 };
    int r = gemm_plan_init(&plan);

    (void)module;
    (void)unused;
    return Py_BuildValue("(sO)", kern_get()->name,
                         r == 0 && plan.kernel ? Py_True : Py_False);
}

static PyMethodDef mod_methods[] = {
    { "frag_bytes", mod_frag_bytes, METH_VARARGS, frag_bytes_doc },
    { "frag_open", mod_frag_open, METH_O, frag_open_doc },
    { "gae", mod_gae, METH_VARARGS, gae_doc },
    { "algo_names", rl_algo_names, METH_NOARGS, "algo_names() -> the names that Algo() takes" },
    { "kernels", mod_kernels, METH_NOARGS, kernels_doc },
    { "resize", mod_resize, METH_VARARGS, picture_doc },
    { "env_names", rl_env_names_list, METH_NOARGS, "env_names() -> the built-in environments" },
    { NULL, NULL, 0, NULL },
};

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec) {
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);

    if (type && PyModule_AddType(module, type) < 0)
        Py_CLEAR(type);
    return type;
}

/* Types that no other type has to know. */
static int add_replay(PyObject *module) {
    PyTypeObject *replay = add_type(module, &rl_replay_spec);
    PyTypeObject *episodes = add_type(module, &rl_episodes_spec);
    int r = replay && episodes ? PyModule_AddFunctions(module, rl_replay_functions) : -1;

    Py_XDECREF((PyObject *)replay);
    Py_XDECREF((PyObject *)episodes);
    return r;
}

static int add_own(PyObject *module) {
    PyType_Spec *const specs[] = { &rl_evo_spec, &rl_tree_spec, &rl_search_spec };

    for (int i = 0; i < 3; i++) {
        PyTypeObject *type = add_type(module, specs[i]);

        if (!type)
            return -1;
        Py_DECREF(type);
    }
    return 0;
}

static int mod_exec(PyObject *module) {
    struct rl_state *state = PyModule_GetState(module);

    state->algo_type = add_type(module, &rl_algo_spec);
    state->policy_type = add_type(module, &rl_policy_spec);
    state->rollout_type = add_type(module, &rl_rollout_spec);
    state->learner_type = add_type(module, &rl_learner_spec);
    state->env_type = add_type(module, &rl_env_spec);
    state->env_rows_type = add_type(module, &rl_env_rows_spec);
    state->rollout_env_type = add_type(module, &rl_rollout_env_spec);
    if (!state->policy_type || !state->rollout_type || !state->learner_type || !state->env_type ||
        !state->env_rows_type || !state->rollout_env_type || !state->algo_type)
        return -1;
    if (add_replay(module) < 0 || add_own(module) < 0 ||
        PyModule_AddFunctions(module, rl_tape_functions) < 0)
        return -1;
    if (PyModule_AddIntConstant(module, "TERMINATED", GAE_TERMINATED) < 0 ||
        PyModule_AddIntConstant(module, "TRUNCATED", GAE_TRUNCATED) < 0 ||
        PyModule_AddIntConstant(module, "CUT", GAE_CUT) < 0)
        return -1;
    return 0;
}

static int mod_traverse(PyObject *module, visitproc visit, void *arg) {
    struct rl_state *state = PyModule_GetState(module);

    Py_VISIT(state->policy_type);
    Py_VISIT(state->rollout_type);
    Py_VISIT(state->learner_type);
    Py_VISIT(state->env_type);
    Py_VISIT(state->env_rows_type);
    Py_VISIT(state->rollout_env_type);
    Py_VISIT(state->algo_type);
    return 0;
}

static int mod_clear(PyObject *module) {
    struct rl_state *state = PyModule_GetState(module);

    Py_CLEAR(state->policy_type);
    Py_CLEAR(state->rollout_type);
    Py_CLEAR(state->learner_type);
    Py_CLEAR(state->env_type);
    Py_CLEAR(state->env_rows_type);
    Py_CLEAR(state->rollout_env_type);
    Py_CLEAR(state->algo_type);
    return 0;
}

static PyModuleDef_Slot mod_slots[] = {
    { Py_mod_exec, (void *)mod_exec },
    { 0, NULL },
};

static struct PyModuleDef mod_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "skate._rl",
    .m_doc = "The RL engine: policies, rollouts into fragments, PPO's learner.",
    .m_size = sizeof(struct rl_state),
    .m_methods = mod_methods,
    .m_slots = mod_slots,
    .m_traverse = mod_traverse,
    .m_clear = mod_clear,
};

PyMODINIT_FUNC PyInit__rl(void);
PyMODINIT_FUNC PyInit__rl(void) {
    return PyModuleDef_Init(&mod_def);
}
