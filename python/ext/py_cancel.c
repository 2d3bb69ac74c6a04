/* py_cancel.c - cancel(), and how the running task is interrupted.
 *
 * The core sends the main thread a signal of its own; the interpreter runs on_interrupt() there,
 * between two bytecodes or out of a sleep. It raises KeyboardInterrupt only while the code of the
 * task that is meant runs: never in the runtime's code, never in the next task. */
#include "py.h"

#include "core/cancel.h"

/* cancel(ref, force, recursive) */
PyObject *py_cancel(PyObject *module, PyObject *args) {
    int force, recursive, r;
    PyObject *ref;

    (void)module;
    if (!PyArg_ParseTuple(args, "Opp", &ref, &force, &recursive)) return NULL;
    if (!py_is_ref(ref)) return PyErr_SetString(PyExc_TypeError, "an ObjectRef is needed"), NULL;
    if (py_need_core() < 0 || py_ref_check(ref) < 0) return NULL;
    r = core_cancel(py.core, &((struct py_ref *)(void *)ref)->id,
                    (force ? CORE_CANCEL_FORCE : 0u) | (recursive ? CORE_CANCEL_CHILDREN : 0u));
    if (r == -SKATE_EINVAL)
        return py_fail(r, "force=True is not supported for calls of actors: cancel() without it, "
                          "or kill() the actor");
    if (r < 0) return py_fail(r, NULL);
    Py_RETURN_NONE;
}

int py_cancel_calls(void) {
    PyObject *hook = py_hook(HOOK_CANCEL), *r;
    struct skate_id task;
    uint8_t b[24];

    while (py.core && core_cancel_next(py.core, &task)) {
        if (!hook) return -1;
        py_task_bytes(&task, b);
        r = PyObject_CallFunction(hook, "y#", (char *)b, (Py_ssize_t)24);
        if (!r) return -1;
        Py_DECREF(r);
    }
    return 0;
}

/* Was the task that runs now cancelled? */
PyObject *py_cancelled(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyBool_FromLong(py.core && core_cancelled(py.core));
}

/* interruptible(number): on_interrupt() is the handler of this signal now. */
PyObject *py_interruptible(PyObject *module, PyObject *number) {
    long n = PyLong_AsLong(number);

    (void)module;
    if (n == -1 && PyErr_Occurred()) return NULL;
    if (!py.core) return py_fail(SKATE_ESHUTDOWN, NULL);
    core_interrupt_signal(py.core, (int)n);
    Py_RETURN_NONE;
}

/* on_interrupt(number, frame): the handler. */
PyObject *py_on_interrupt(PyObject *module, PyObject *args) {
    (void)module;
    (void)args;
    if (py.in_task && py.core && core_interrupt_take(py.core)) {
        PyErr_SetString(PyExc_KeyboardInterrupt, "the task was cancelled");
        return NULL;
    }
    Py_RETURN_NONE;
}
