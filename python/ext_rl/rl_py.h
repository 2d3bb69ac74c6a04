/* rl_py.h - what the files of skate._rl share: types, module state, buffer helpers.
 *
 * All functions here need the interpreter lock. Tests: tests/rl/. */
#ifndef SKATE_EXT_RL_RL_PY_H
#define SKATE_EXT_RL_RL_PY_H

#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#include <Python.h>

#include "rl/learner.h"
#include "rl/rl_policy.h"
#include "rl/rollout.h"

struct rl_state {
    PyTypeObject *policy_type, *rollout_type, *learner_type;
};

struct policy_object {
    PyObject_HEAD
    struct policy *policy;
    int busy;                   /* a learner is changing it without the interpreter lock */
};

extern PyType_Spec rl_policy_spec, rl_rollout_spec, rl_learner_spec;

/* The module's state, from one of its types. */
struct rl_state *rl_state_of(PyTypeObject *type);

/* `what` as a contiguous buffer of exactly `n` items of struct-format `format` ('f', 'i', ...);
 * format 0 takes any bytes, n then counts bytes, and n < 0 takes any length. 0 or -1 with an
 * exception; PyBuffer_Release() on success. */
int rl_buffer(PyObject *object, Py_buffer *view, char format, Py_ssize_t n, int writable,
              const char *what);

/* Raise for a SKATE_E* code; returns NULL. `err` may be NULL. */
PyObject *rl_raise(int code, const struct skate_error *err, const char *what);

/* The policy of a Policy object, or NULL with an exception (wrong type, busy). */
struct policy *rl_policy_of(PyObject *object, struct rl_state *state);

/* Free an instance of a heap type. */
void rl_free_object(PyObject *self);

#endif
