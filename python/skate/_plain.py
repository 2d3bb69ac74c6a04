"""Values in the forms that every language reads: tensors and Arrow tables (docs/cross_language.md).

A tensor is a header {u32 dtype, u32 ndim, i64 shape[ndim]}, zeros up to a multiple of 64, and its
elements in C order; a table is an Arrow IPC stream. skate._core calls lay_out(), tensor() and
arrow(); numpy, pyarrow and torch are imported only when such a value is there.
"""

from __future__ import annotations

import struct
import sys

from skate import _core

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

TENSOR, ARROW = 4, 5  # src/wire/frame.h
_DIMS_MAX = 16
_SMALL = 1 << 62

# enum skate_dtype, as numpy spells them. bfloat16 is of the package ml_dtypes.
_DTYPES = (
    "", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "?", "c8", "c16",
    "bfloat16",
)  # fmt: skip
_BF16 = 15
_NUMBERS = {name: number for number, name in enumerate(_DTYPES) if name}


class Laid(tuple):  # type: ignore[type-arg]
    """(format, header, data) of an array or a table; stored and sent as such. data: bytes, or a
    list of what they are put together from."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        kind, header, data = self  # it is inside of something that is pickled
        return _unlaid, (kind, header, b"".join(data if type(data) is list else (data,)))


def _unlaid(kind: int, header: bytes, data: bytes) -> Any:
    return tensor(header + data) if kind == TENSOR else arrow(data)


_core.laid(Laid)

# --------------------------------------------------------------------------- objects to their form




def lay_out(obj: Any) -> Laid | list[Any] | None:
    """How a result travels to another language: an array or table as its format, header and
    bytes, [the plain value] of what is nearly plain (a numpy scalar), None for everything else."""
    made = form(obj)
    if made is not None:
        return made
    try:
        return [simple(obj, "the result")]
    except TypeError:
        return None


def form(obj: Any) -> Laid | None:
    """(format, header, bytes) of an array or a table; None for everything else."""
    kind = type(obj)
    module = kind.__module__.partition(".")[0]
    if module == "numpy":
        return _lay_out_array(obj)
    if module == "torch":
        return _lay_out_torch(obj)
    if module in ("pyarrow", "polars"):
        return _lay_out_table(obj)
    return None


def simple(obj: Any, where: str, depth: int = 40) -> Any:
    """A copy that is made of plain values only. TypeError that names the place of what is not."""
    kind = type(obj)
    if obj is None or kind in _SIMPLE or isinstance(obj, _core.ObjectRef):
        return obj
    if kind.__module__ == "skate._actor" and hasattr(obj, "_actor_id"):
        return obj._actor_id  # a handle; it arrives as one
    if depth == 0:
        raise TypeError(f"{where} is nested too deeply")
    if isinstance(obj, int):
        number = obj if kind is int else int(obj)
        if not -(1 << 63) <= number < 1 << 63:
            raise TypeError(f"{where} is an int of more than 64 bits, which C has not")
        return number
    if isinstance(obj, str):
        return _text(obj, where)
    if isinstance(obj, (float, bytes)):
        return float(obj) if isinstance(obj, float) else bytes(obj)
    if isinstance(obj, (bytearray, memoryview)):
        return bytes(obj)
    if isinstance(obj, (list, tuple)):
        items = [simple(item, f"{where}[{i}]", depth - 1) for i, item in enumerate(obj)]
        return items if isinstance(obj, list) else tuple(items)
    if isinstance(obj, dict):
        return {
            _key(key, where): simple(value, f"{where}[{key!r}]", depth - 1)
            for key, value in obj.items()
        }
    if _is_numpy_scalar(obj):
        return simple(obj.item(), where, depth - 1)
    raise TypeError(f"{where} is of type {kind.__module__}.{kind.__qualname__}{_hint(obj)}")


def _is_numpy_scalar(obj: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(obj, numpy.generic) and (
        obj.dtype.kind in "biuf" and obj.dtype.itemsize <= 8
    )


_SIMPLE = frozenset((bool, float, bytes))


def _text(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TypeError(f"{where} is a text that UTF-8 has not: {error}") from None
    return text if type(text) is str else str.__str__(text)


def _key(key: Any, where: str) -> Any:
    if not isinstance(key, (str, int, bytes)):
        raise TypeError(f"a key of {where} is of type {type(key).__name__}, not str, int or bytes")
    return simple(key, f"a key of {where}")


def _hint(obj: Any) -> str:
    if form(obj) is not None:
        return ": give it as an argument of its own, or the ref that cross_language.put() makes"
    return (
        ", which another language cannot read: give plain values (None, bool, int, float, str, "
        "bytes, lists, tuples, dicts, refs), an array, or a pyarrow table"
    )




def _header(number: int, shape: tuple[int, ...]) -> bytes:
    head = struct.pack(f"<II{len(shape)}q", number, len(shape), *shape)
    return head.ljust((len(head) + 63) & ~63, b"\0")


def _lay_out_array(array: Any) -> Laid | None:
    import numpy

    if type(array) is not numpy.ndarray or array.ndim > _DIMS_MAX:
        return None
    dtype = array.dtype
    name = "bfloat16" if dtype.name == "bfloat16" else dtype.newbyteorder("<").str.lstrip("<|")
    number = _NUMBERS.get("?" if name == "b1" else name)
    if number is None or (dtype.kind not in "biufc" and number != _BF16):
        return None
    header = _header(number, array.shape)
    if not dtype.isnative:
        array = array.astype(dtype.newbyteorder("="))
    flat = numpy.ascontiguousarray(array).reshape(-1)
    return Laid((TENSOR, header, flat.view(numpy.uint8) if flat.size else b""))


def _lay_out_torch(tensor: Any) -> Laid | None:
    torch = sys.modules["torch"]
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
        return None
    if tensor.is_quantized or tensor.dim() > _DIMS_MAX:
        return None
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    if tensor.dtype == torch.bfloat16:
        data = tensor.reshape(-1).view(torch.uint8).numpy() if tensor.numel() else b""
        return Laid((TENSOR, _header(_BF16, tuple(tensor.shape)), data))
    try:
        return _lay_out_array(tensor.numpy())
    except TypeError:  # an element type that numpy has not
        return None


def _lay_out_table(table: Any) -> Laid | None:
    try:
        from skate import _arrow
    except ImportError:  # polars alone is there
        return None
    return _arrow.plain_form(table)


# --------------------------------------------------------------------------- and back


def tensor(data: Any) -> Any:
    """A numpy array that reads the bytes where they lie; read-only unless they are writable.

    ImportError when numpy is not installed, ValueError when the bytes are no tensor.
    """
    view = memoryview(data)
    if len(view) < 8:
        raise ValueError("a malformed tensor: it is cut off")
    number, ndim = struct.unpack_from("<II", view)
    if not 0 < number < len(_DTYPES) or ndim > _DIMS_MAX or len(view) < 8 + 8 * ndim:
        raise ValueError(f"a malformed tensor: element type {number}, {ndim} dimensions")
    shape = struct.unpack_from(f"<{ndim}q", view, 8)
    start = (8 + 8 * ndim + 63) & ~63
    numpy = need("numpy", "a tensor")
    dtype = numpy.dtype(_bfloat16() if number == _BF16 else _DTYPES[number])
    count = _elements(shape)
    if len(view) < start or count * dtype.itemsize != len(view) - start:
        raise ValueError(f"a malformed tensor: shape {shape} in {len(view)} bytes")
    if count == 0:
        return numpy.empty(shape, dtype)
    return numpy.frombuffer(data, numpy.uint8, -1, start).view(dtype).reshape(shape)


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for length in shape:
        count *= length
        if length < 0 or count > _SMALL:
            raise ValueError(f"a malformed tensor: shape {shape}")
    return count


def _bfloat16() -> Any:
    return need("ml_dtypes", "a tensor of bfloat16").bfloat16


def arrow(data: Any) -> Any:
    """A pyarrow.Table whose columns lie where the bytes do, or what else the stream was made of
    (_arrow.read); without pyarrow an object with __arrow_c_stream__."""
    try:
        from skate import _arrow
    except ImportError:
        return _core.arrow_stream(data)
    return _arrow.read(data)


def need(module: str, what: str) -> Any:
    """The module. ImportError that says what it is needed for."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"the value is {what}, which is read with {module}: install {module} ({error})",
            name=module,
        ) from error
