"""torch tensors as values: their memory travels like an array's, without a copy at the receiver.

A tensor has no read-only form, so that its memory at the receiver is a private view of the stored
bytes (`_core.writable`): who writes to it gets pages of his own. Imported by _serialize when it
meets a tensor, that is, when torch is there.
"""

from __future__ import annotations

import ctypes
import pickle
from typing import Any

import torch

from skate import _core


def reduce(obj: Any) -> tuple[Any, ...] | None:
    """How to pickle a tensor of the CPU, or its storage; None: torch knows better."""
    if type(obj) is torch.UntypedStorage:
        return _reduce_storage(obj)
    if type(obj) is not torch.Tensor or obj.device.type != "cpu" or obj.layout != torch.strided:
        return None
    odd = obj.is_quantized or obj.is_nested or obj.is_conj() or obj.is_neg() or obj.__dict__
    if odd or obj.grad_fn is not None or obj._backward_hooks:
        return None
    storage = obj.untyped_storage()
    if storage.device.type != "cpu":
        return None
    place = (obj.storage_offset(), tuple(obj.size()), obj.stride())
    return rebuild_tensor, (storage, obj.dtype, *place, obj.requires_grad)


def _reduce_storage(storage: Any) -> tuple[Any, ...] | None:
    if storage.device.type != "cpu":
        return None
    size = storage.nbytes()
    if size == 0:
        return torch.UntypedStorage, (0,)
    memory = (ctypes.c_char * size).from_address(storage.data_ptr())
    memory.owner = storage  # type: ignore[attr-defined]  # it lives as long as somebody reads it
    return rebuild_storage, (pickle.PickleBuffer(memory),)


def rebuild_storage(memory: Any) -> Any:
    """At the receiver."""
    return torch.frombuffer(_core.writable(memory), dtype=torch.uint8).untyped_storage()


def rebuild_tensor(
    storage: Any, dtype: Any, offset: int, size: Any, stride: Any, requires_grad: bool
) -> Any:
    """At the receiver."""
    tensor = torch.empty(0, dtype=dtype)
    tensor.set_(storage, offset, size, stride)
    return tensor.requires_grad_() if requires_grad else tensor
