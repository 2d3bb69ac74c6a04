/* py_stream.h - generators: the type Stream, and sending what one yields. Rules: py.h. */
#ifndef SKATE_PY_STREAM_H
#define SKATE_PY_STREAM_H

#include "py.h"

int py_stream_init(PyObject *module);
/* What `.remote()` of a generator gives; the counts of the handle and of result 1 pass over. */
PyObject *py_stream_new(const struct skate_id *task);
/* Send what the generator yields and finish the job: 0, or -1 with an exception and an open job. */
int py_yield_all(struct core_job *job, PyObject *generator);
/* For a generator that somebody else runs: send an item (1: core_yield_wait() must allow the next
 * one), and finish the job, with the exception that is set, if one is, as the last item. */
int py_yield_one(struct core_job *job, PyObject *item, struct skate_id *ret_id);
int py_yield_stop(struct core_job *job);
/* The same for a task with a fixed number of results, which takes the first n items. */
int py_yield_fixed(struct core_job *job, PyObject *generator);

/* py_worker.c: does a caller in another language read the results of the job? */
bool py_answers_plainly(const struct core_job *job);

#endif
