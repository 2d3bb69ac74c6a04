"""Small helpers that libraries take from Ray's inside."""

from __future__ import annotations

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any


def get_system_memory(*_paths: Any) -> int:
    """Bytes of memory that this machine, or its control group, has."""
    from skate import _node

    return _node.machine_memory()


def get_num_cpus(*_options: Any, **_more: Any) -> int:
    """CPUs that this process may use."""
    from skate import _node

    return _node.default_cpus()


def binary_to_hex(identifier: bytes) -> str:
    """Bytes as hexadecimal text."""
    return identifier.hex()


def hex_to_binary(text: str) -> bytes:
    """The other way."""
    return bytes.fromhex(text)


def get_user_temp_dir() -> str:
    """Where the sessions' folders are made."""
    from skate import _node

    return _node.base_dir()


def get_ray_temp_dir() -> str:
    """The same."""
    return get_user_temp_dir()


def load_class(path: str) -> Any:
    """What a dotted path names."""
    import importlib

    module, _, name = path.rpartition(".")
    if not module:
        raise ValueError(f"{path!r} must be a module and a name, with a dot between")
    return getattr(importlib.import_module(module), name)


def is_in_test() -> bool:
    """No."""
    return False
