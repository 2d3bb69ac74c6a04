/* py_array.h - arrays between Python and the store: numpy ones as tensors. */
#ifndef SKATE_PY_ARRAY_H
#define SKATE_PY_ARRAY_H

#include "py.h"

/* As a TENSOR: 0; 1 when it is no such array; -1 with an exception. */
int py_array_encode(struct py_value *pv, PyObject *o);
/* The array of a tensor's bytes, which are those of the object `bytes`. NULL without an exception:
 * skate._plain knows more. */
PyObject *py_array_decode(const uint8_t *p, uint64_t size, PyObject *bytes);
PyObject *py_arrays(PyObject *module, PyObject *on); /* arrays(False): all are pickled */

#endif
