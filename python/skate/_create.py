"""Memory that already lies in the object store: create_buffer() and ndarray()."""

from __future__ import annotations

import operator

from skate import _core

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any


def create_buffer(nbytes: int) -> _core.StoreBuffer:
    """Memory of `nbytes` bytes to write into (memoryview, readinto, numpy.frombuffer), which put()
    then stores as it lies, without a copy: from then on nobody can write to it, and get() gives a
    read-only memoryview of it, in any process. What is in it at first is left over, not zeros.

    One that is dropped before it was put gives its memory back. ValueError for a negative size,
    ObjectStoreFullError when the object store has no room.
    """
    try:
        size = operator.index(nbytes)
    except TypeError:
        raise TypeError(
            f"create_buffer() takes a number of bytes, not {type(nbytes).__name__}"
        ) from None
    if size < 0:
        raise ValueError(f"a buffer cannot have {size} bytes")
    return _make(size, 0)


def ndarray(shape: int | tuple[int, ...], dtype: Any = float) -> Any:
    """A numpy array, in C order, whose memory lies in the object store: fill it, and put() stores
    it as it lies, without a copy. What is in it at first is left over, as of numpy.empty().

    put() of this very array seals it (from then on it is read-only, and so is every view of it);
    put() of a view or slice copies, as for any array. TypeError for a dtype of Python objects,
    ValueError for a negative shape, ObjectStoreFullError when the object store has no room,
    ImportError without numpy.
    """
    try:
        import numpy
    except ImportError as error:
        raise ImportError(
            "ndarray() makes a numpy array: install numpy, or use create_buffer()",
            name="numpy",
        ) from error
    kind = numpy.dtype(dtype)
    if kind.hasobject:
        raise TypeError(f"ndarray() cannot keep Python objects in shared memory: dtype {kind}")
    try:
        sizes = tuple(operator.index(n) for n in shape)  # type: ignore[union-attr]
    except TypeError:
        sizes = (operator.index(shape),)  # type: ignore[arg-type]
    size = kind.itemsize
    for n in sizes:
        if n < 0:
            raise ValueError(f"an array cannot have the shape {sizes}")
        size *= n
    plain = kind.kind in "biufc" and kind.isnative and kind.itemsize <= 16
    buffer = _make(size, (8 + 8 * len(sizes) + 63) & ~63 if plain else 0)
    array = numpy.ndarray(sizes, kind, buffer)
    buffer._made(array)
    return array


def _make(size: int, head: int) -> _core.StoreBuffer:
    if size >= 1 << 46:
        from skate import exceptions

        raise exceptions.ObjectStoreFullError(f"no object store has room for {size} bytes")
    return _core.create_buffer(size, head)
