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

#include "rl/env/rl_env.h"
#include "rl/learner.h"
#include "rl/algo/algo.h"
#include "rl/rl_policy.h"
#include "rl/rollout.h"

struct rl_state {
    PyTypeObject *policy_type, *rollout_type, *learner_type, *env_type, *env_rows_type,
        *rollout_env_type, *algo_type;
};

struct policy_object {
    PyObject_HEAD
    struct policy *policy;
    int busy;                   /* a learner or rollout uses it without the interpreter lock */
};

struct rollout_object {
    PyObject_HEAD
    struct rollout *rollout;
    PyObject *policy;
    Py_buffer buffer;           /* the fragment being filled; obj == NULL: none */
};

struct env_object {
    PyObject_HEAD
    struct rl_env *env;
    int busy;                   /* it is being stepped without the interpreter lock */
};

struct algo_object {
    PyObject_HEAD
    struct algo *algo;
    int busy;                   /* it is at work without the interpreter lock */
};

extern PyType_Spec rl_evo_spec, rl_tree_spec, rl_search_spec;     /* rl_py_own.c */
extern PyType_Spec rl_policy_spec, rl_rollout_spec, rl_learner_spec, rl_env_spec, rl_env_rows_spec,
    rl_rollout_env_spec;

/* rl_py_replay.c */
extern PyType_Spec rl_replay_spec, rl_episodes_spec;
extern PyMethodDef rl_replay_functions[];
extern PyMethodDef rl_tape_functions[];         /* rl_py_tape.c */
extern PyType_Spec rl_algo_spec;      /* rl_py_algo.c */

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

/* The algorithm of an Algo object, or NULL with an exception (wrong type, at work). */
struct algo *rl_algo_of(PyObject *object, struct rl_state *state);

/* What is inside, or NULL with an exception: another thread uses it. */
struct rollout *rl_rollout_of(PyObject *object);
struct rl_env *rl_env_of(PyObject *object);

/* env_names() -> list: the built-in environments (rl_py_env.c). */
PyObject *rl_env_names_list(PyObject *module, PyObject *unused);
/* algo_names() -> the engine's algorithms (rl_py_algo.c). */
PyObject *rl_algo_names(PyObject *module, PyObject *unused);

/* Free an instance of a heap type. */
void rl_free_object(PyObject *self);

#endif
