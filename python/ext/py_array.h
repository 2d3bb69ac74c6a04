/* py_array.h - arrays between Python and the store: numpy ones as tensors; memory that is written
 * to before it is put. */
#ifndef SKATE_PY_ARRAY_H
#define SKATE_PY_ARRAY_H

#include "py.h"

/* As a TENSOR: 0; 1 when it is no such array; -1 with an exception. */
int py_array_encode(struct py_value *pv, PyObject *o);
/* The array of a tensor's bytes, which are those of the object `bytes`. NULL without an exception:
 * skate._plain knows more. */
PyObject *py_array_decode(const uint8_t *p, uint64_t size, PyObject *bytes);
PyObject *py_arrays(PyObject *module, PyObject *on); /* arrays(False): all are pickled */

/* ---- py_create.c ---- */

int py_create_init(PyObject *module);
PyObject *py_create_buffer(PyObject *module, PyObject *args);
/* Is this object, whose encoded form is pv, a buffer of the store as a whole? Then it is sealed (or
 * was), and *ret is its id with a local ref. False: it is to be copied. */
bool py_create_seal(PyObject *o, const struct py_value *pv, struct skate_id *ret);
/* The object was stored by a copy. */
void py_create_stored(PyObject *o);
/* Before the session ends: bytes that somebody looks at become this process's own. */
void py_creates_keep(struct core *c);

#endif
