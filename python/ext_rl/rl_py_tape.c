/* rl_py_tape.c - the tape's operations and nets by name, for tests against other libraries and
 * for measuring: tape_run() and net_fit(). Tests: tests/rl/test_tape.py. */
#include "rl_py.h"

#include <string.h>
#include <time.h>

#include "rl/nn/nets.h"
#include "rl/nn/optim.h"
#include "rl/nn/tape.h"

enum { VALUES_MAX = 256, OPERANDS_MAX = 6, NUMBERS_MAX = 8 };

struct call {                   /* one step of a program */
    struct tape *t;
    tvar v[OPERANDS_MAX];
    int i[NUMBERS_MAX];
    double f[NUMBERS_MAX];
    const int32_t *index;
    int n_index;
};

struct door_op {
    const char *name;
    int operands, ints, floats;
    tvar (*run)(const struct call *c);
};

#define OP(name, expression)                                                                   \
    static tvar run_##name(const struct call *c) {                                             \
        struct tape *t = c->t;                                                                 \
        const tvar *v = c->v;                                                                  \
        return expression;                                                                     \
    }

OP(matmul, t_matmul(t, v[0], v[1]))
OP(dense, t_dense(t, v[0], v[1], v[2], (enum tape_act)c->i[0]))
OP(rowmat, t_rowmat(t, v[0], v[1], c->i[0]))
OP(add, t_add(t, v[0], v[1]))
OP(sub, t_sub(t, v[0], v[1]))
OP(mul, t_mul(t, v[0], v[1]))
OP(div, t_div(t, v[0], v[1]))
OP(min, t_min(t, v[0], v[1]))
OP(max, t_max(t, v[0], v[1]))
OP(affine, t_affine(t, v[0], (float)c->f[0], (float)c->f[1]))
OP(act, t_act(t, v[0], (enum tape_act)c->i[0]))
OP(exp, t_exp(t, v[0]))
OP(log, t_log(t, v[0]))
OP(square, t_square(t, v[0]))
OP(sqrt, t_sqrt(t, v[0]))
OP(abs, t_abs(t, v[0]))
OP(clip, t_clip(t, v[0], (float)c->f[0], (float)c->f[1]))
OP(huber, t_huber(t, v[0], (float)c->f[0]))
OP(softmax, t_softmax(t, v[0], c->i[0]))
OP(log_softmax, t_log_softmax(t, v[0], c->i[0]))
OP(pick, c->n_index == tape_rows(t, v[0]) ? t_pick(t, v[0], c->index) : TAPE_BAD)
OP(pick_block, c->n_index == tape_rows(t, v[0]) ? t_pick_block(t, v[0], c->index, c->i[0])
                                                : TAPE_BAD)
OP(sum_cols, t_sum_cols(t, v[0]))
OP(max_cols, t_max_cols(t, v[0]))
OP(logsumexp, t_logsumexp(t, v[0]))
OP(sum_groups, t_sum_groups(t, v[0], c->i[0]))
OP(sum, t_sum(t, v[0]))
OP(mean, t_mean(t, v[0]))
OP(concat, t_concat(t, v[0], v[1]))
OP(stack, t_stack(t, v[0], v[1]))
OP(cols, t_cols(t, v[0], c->i[0], c->i[1]))
OP(rows, t_rows(t, v[0], c->i[0], c->i[1]))
OP(reshape, t_reshape(t, v[0], c->i[0], c->i[1]))
OP(repeat, t_repeat(t, v[0], c->i[0]))
OP(lookup, t_lookup(t, v[0], c->index, c->n_index))
OP(layer_norm, t_layer_norm(t, v[0], v[1], v[2]))
OP(lstm, t_lstm(t, v[0], v[1], v[2], v[3]))
OP(gru, t_gru(t, v[0], v[1], v[2], v[3], v[4], v[5]))

static tvar run_conv(const struct call *c) {
    const int *i = c->i;
    struct tape_conv conv = { i[0], i[1], i[2], i[3], i[4], i[5], i[6], (enum tape_act)i[7] };

    return t_conv(c->t, c->v[0], c->v[1], c->v[2], &conv);
}

#define ROW(name, operands, ints, floats) { #name, operands, ints, floats, run_##name }

static const struct door_op door_ops[] = {
    ROW(matmul, 2, 0, 0), ROW(dense, 3, 1, 0), ROW(rowmat, 2, 1, 0), ROW(add, 2, 0, 0),
    ROW(sub, 2, 0, 0), ROW(mul, 2, 0, 0), ROW(div, 2, 0, 0), ROW(min, 2, 0, 0),
    ROW(max, 2, 0, 0), ROW(affine, 1, 0, 2), ROW(act, 1, 1, 0), ROW(exp, 1, 0, 0),
    ROW(log, 1, 0, 0), ROW(square, 1, 0, 0), ROW(sqrt, 1, 0, 0), ROW(abs, 1, 0, 0),
    ROW(clip, 1, 0, 2), ROW(huber, 1, 0, 1), ROW(softmax, 1, 1, 0), ROW(log_softmax, 1, 1, 0),
    ROW(pick, 1, 0, 0), ROW(pick_block, 1, 1, 0), ROW(sum_cols, 1, 0, 0),
    ROW(max_cols, 1, 0, 0), ROW(logsumexp, 1, 0, 0), ROW(sum_groups, 1, 1, 0),
    ROW(sum, 1, 0, 0), ROW(mean, 1, 0, 0), ROW(concat, 2, 0, 0), ROW(stack, 2, 0, 0),
    ROW(cols, 1, 2, 0), ROW(rows, 1, 2, 0), ROW(reshape, 1, 2, 0), ROW(repeat, 1, 1, 0),
    ROW(lookup, 1, 0, 0), ROW(layer_norm, 3, 0, 0), ROW(lstm, 4, 0, 0), ROW(gru, 6, 0, 0),
    ROW(conv, 3, 8, 0),
};

static const struct door_op *op_named(const char *name) {
    for (size_t k = 0; k < sizeof door_ops / sizeof *door_ops; k++)
        if (strcmp(door_ops[k].name, name) == 0)
            return &door_ops[k];
    PyErr_Format(PyExc_ValueError, "tape_run: there is no operation '%s'", name);
    return NULL;
}

/* The numbers of a tuple, exactly `n`, into `ret` (ints) or `ret_f`. */
static int numbers(PyObject *tuple, int n, int *ret, double *ret_f) {
    if (!PyTuple_Check(tuple) || PyTuple_Size(tuple) != n) {
        PyErr_Format(PyExc_ValueError, "tape_run: expected a tuple of %d numbers", n);
        return -1;
    }
    for (int k = 0; k < n; k++) {
        PyObject *item = PyTuple_GetItem(tuple, k);     /* borrowed */

        if (ret)
            ret[k] = (int)PyLong_AsLong(item);
        else
            ret_f[k] = PyFloat_AsDouble(item);
        if (PyErr_Occurred())
            return -1;
    }
    return 0;
}

/* One step: (name, operands, integers, floats, index or None). */
static int run_step(struct tape *t, PyObject *step, tvar *values, int n) {
    PyObject *operands, *ints, *floats, *index;
    const struct door_op *op;
    struct call c = { .t = t };
    int which[OPERANDS_MAX], r = -1;
    Py_buffer view = { .obj = NULL };
    const char *name;

    if (!PyArg_ParseTuple(step, "sOOOO", &name, &operands, &ints, &floats, &index))
        return -1;
    op = op_named(name);
    if (!op || numbers(operands, op->operands, which, NULL) < 0 ||
        numbers(ints, op->ints, c.i, NULL) < 0 || numbers(floats, op->floats, NULL, c.f) < 0)
        return -1;
    for (int k = 0; k < op->operands; k++)
        c.v[k] = which[k] >= 0 && which[k] < n ? values[which[k]] : TAPE_BAD;
    if (index != Py_None) {
        if (rl_buffer(index, &view, 'i', -1, 0, "index") < 0)
            return -1;
        c.index = view.buf;
        c.n_index = (int)(view.len / 4);
    }
    values[n] = op->run(&c);
    if (values[n] == TAPE_BAD)
        PyErr_Format(PyExc_ValueError, "tape_run: %s", tape_error(t) ? tape_error_text(t) : name);
    else
        r = 0;
    if (view.obj)
        PyBuffer_Release(&view);
    return r;
}

static int add_leaf(struct tape *t, PyObject *leaf, tvar *ret) {
    PyObject *array;
    Py_buffer view;
    int rows, cols;

    if (!PyArg_ParseTuple(leaf, "Oii", &array, &rows, &cols))
        return -1;
    if (rows < 1 || cols < 1) {
        PyErr_SetString(PyExc_ValueError, "tape_run: a leaf has no rows or columns");
        return -1;
    }
    if (rl_buffer(array, &view, 'f', (Py_ssize_t)rows * cols, 0, "leaf") < 0)
        return -1;
    *ret = t_leaf(t, view.buf, rows, cols);
    PyBuffer_Release(&view);
    return *ret == TAPE_BAD ? PyErr_NoMemory(), -1 : 0;
}

/* (value of the last step, rows, columns, [gradient of each leaf]) as bytes of float32. */
static PyObject *run_result(struct tape *t, const tvar *values, int n_leaves, tvar last) {
    PyObject *grads = PyList_New(0), *result = NULL;
    Py_ssize_t size = (Py_ssize_t)tape_rows(t, last) * tape_cols(t, last) * 4;

    for (int k = 0; grads && k < n_leaves; k++) {
        const char *g = (const char *)tape_grad(t, values[k]);
        Py_ssize_t bytes = (Py_ssize_t)tape_rows(t, values[k]) * tape_cols(t, values[k]) * 4;
        PyObject *item = PyBytes_FromStringAndSize(g, g ? bytes : 0);

        if (!item || PyList_Append(grads, item) < 0)
            Py_CLEAR(grads);
        Py_XDECREF(item);
    }
    if (grads)
        result = Py_BuildValue("(y#iiO)", (const char *)tape_value(t, last), size,
                               tape_rows(t, last), tape_cols(t, last), grads);
    Py_XDECREF(grads);
    return result;
}

PyDoc_STRVAR(run_doc,
             "tape_run(leaves, steps) -> (value, rows, cols, gradients)\n--\n\n"
             "Run named operations on float32 leaves (array, rows, cols); differentiate the sum\n"
             "of the last one. A step is (name, operands, integers, floats, index or None); an\n"
             "operand is the number of a leaf or, after those, of a step.");

static PyObject *py_tape_run(PyObject *module, PyObject *args) {
    PyObject *leaves, *steps, *result = NULL;
    tvar values[VALUES_MAX];
    Py_ssize_t n_leaves, n_steps;
    struct tape *t;
    int n = 0;

    (void)module;
    if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &leaves, &PyList_Type, &steps))
        return NULL;
    n_leaves = PyList_Size(leaves);
    n_steps = PyList_Size(steps);
    if (n_leaves < 1 || n_steps < 1 || n_leaves + n_steps > VALUES_MAX)
        return PyErr_Format(PyExc_ValueError, "tape_run: from 1 to %d leaves and steps",
                            VALUES_MAX);
    t = tape_new();
    if (!t)
        return PyErr_NoMemory();
    for (Py_ssize_t k = 0; k < n_leaves; k++, n++)
        if (add_leaf(t, PyList_GetItem(leaves, k), &values[n]) < 0)
            goto out;
    for (Py_ssize_t k = 0; k < n_steps; k++, n++)
        if (run_step(t, PyList_GetItem(steps, k), values, n) < 0)
            goto out;
    if (tape_backward(t, t_sum(t, values[n - 1])) < 0)
        PyErr_Format(PyExc_ValueError, "tape_run: %s", tape_error_text(t));
    else
        result = run_result(t, values, (int)n_leaves, values[n - 1]);
out:
    tape_free(t);
    return result;
}

/* ---- a net that learns data ---- */

struct fit {
    struct tape *tape;
    struct params *p;
    struct net net;
    struct optim optim;
    const float *x, *y;
    int rows, steps;
    float *losses;
    double seconds;
};

static double seconds_now(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int fit_run(struct fit *f) {
    int in = f->net.opts.in, out = f->net.opts.out;
    double start = seconds_now();

    for (int s = 0; s < f->steps; s++) {
        struct tape *t = f->tape;
        tvar y, loss;

        tape_reset(t);
        y = net_apply(t, &f->net, t_data(t, f->x, f->rows, in), NULL, false, NULL);
        loss = t_mean(t, t_square(t, t_sub(t, y, t_data(t, f->y, f->rows, out))));
        if (tape_backward(t, loss) < 0 || optim_step(&f->optim) < 0)
            return -1;
        f->losses[s] = tape_scalar(t, loss);
    }
    f->seconds = seconds_now() - start;
    return 0;
}

static int fit_make(struct fit *f, const struct net_opts *o, float lr) {
    struct optim_opts opts;
    struct rl_rng rng;

    optim_opts_default(&opts);
    opts.lr = lr;
    rl_rng_init(&rng, 0, 0);
    f->tape = tape_new();
    f->p = params_new();
    if (!f->tape || !f->p)
        return -SKATE_ENOMEM;
    if (net_add(&f->net, f->p, "net", o) < 0 || params_seal(f->p, &rng) < 0)
        return -SKATE_EINVAL;
    return optim_init(&f->optim, f->p, &opts);
}

static int fit_opts(PyObject *sizes, struct net_opts *o) {
    Py_ssize_t n = PyTuple_Check(sizes) ? PyTuple_Size(sizes) : 0;
    int dims[NET_LAYERS_MAX + 2];

    if (n < 2 || n > NET_LAYERS_MAX + 2) {
        PyErr_Format(PyExc_ValueError, "net_fit: sizes is a tuple of 2 to %d numbers",
                     NET_LAYERS_MAX + 2);
        return -1;
    }
    if (numbers(sizes, (int)n, dims, NULL) < 0)
        return -1;
    o->in = dims[0];
    o->n_hiddens = (int)n - 2;
    memcpy(o->hiddens, dims + 1, (size_t)o->n_hiddens * sizeof(int));
    o->out = dims[n - 1];
    return 0;
}

PyDoc_STRVAR(fit_doc,
             "net_fit(sizes, act, x, y, weights, losses, lr) -> seconds\n--\n\n"
             "Fit a dense net to y by Adam on the mean square error: len(losses) steps of the\n"
             "whole batch. `weights` (kernel [in][out] and bias a layer, flat) is its start and\n"
             "gets its end; `losses` gets each step's loss.");

static PyObject *py_net_fit(PyObject *module, PyObject *args) {
    PyObject *sizes, *objects[4];
    Py_buffer views[4];
    struct fit f = { .steps = 0 };
    struct net_opts o;
    PyObject *result = NULL;
    int act, n_views = 0, r;
    double lr;

    (void)module;
    if (!PyArg_ParseTuple(args, "OiOOOOd", &sizes, &act, &objects[0], &objects[1], &objects[2],
                          &objects[3], &lr))
        return NULL;
    net_opts_default(&o);
    o.act = (enum tape_act)act;
    if (fit_opts(sizes, &o) < 0)
        return NULL;
    r = fit_make(&f, &o, (float)lr);
    if (r < 0) {
        rl_raise(r, NULL, "net_fit");
        goto out;
    }
    for (; n_views < 4; n_views++)
        if (rl_buffer(objects[n_views], &views[n_views], 'f',
                      n_views == 2 ? (Py_ssize_t)f.p->n : -1, n_views >= 2, "net_fit") < 0)
            goto out;
    f.rows = (int)(views[0].len / 4 / o.in);
    if (f.rows < 1 || views[0].len != (Py_ssize_t)f.rows * o.in * 4 ||
        views[1].len != (Py_ssize_t)f.rows * o.out * 4) {
        PyErr_SetString(PyExc_ValueError, "net_fit: x and y have rows of other sizes");
        goto out;
    }
    f.x = views[0].buf;
    f.y = views[1].buf;
    f.losses = views[3].buf;
    f.steps = (int)(views[3].len / 4);
    params_set(f.p, views[2].buf);
    Py_BEGIN_ALLOW_THREADS
    r = fit_run(&f);
    Py_END_ALLOW_THREADS
    params_get(f.p, views[2].buf);
    if (r < 0)
        PyErr_Format(PyExc_ValueError, "net_fit: %s", tape_error(f.tape)
                     ? tape_error_text(f.tape) : "a gradient is not finite");
    else
        result = PyFloat_FromDouble(f.seconds);
out:
    while (n_views > 0)
        PyBuffer_Release(&views[--n_views]);
    optim_release(&f.optim);
    params_free(f.p);
    tape_free(f.tape);
    return result;
}

PyMethodDef rl_tape_functions[] = {
    { "tape_run", py_tape_run, METH_VARARGS, run_doc },
    { "net_fit", py_net_fit, METH_VARARGS, fit_doc },
    { NULL, NULL, 0, NULL },
};
