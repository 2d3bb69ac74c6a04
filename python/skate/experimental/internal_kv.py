"""Small named values of the cluster: any process of it reads and writes them.

Keys and values are str or bytes; values come back as bytes. A namespace keeps the keys of one
library apart from another's. All values of a cluster together have 64 MB, a key 1,000 bytes.
"""

from __future__ import annotations

import struct

from skate import _api, _core, _serialize, _wire

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any


def _bytes(what: str, value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, bytes):
        raise AssertionError(f"the {what} must be str or bytes, not {value!r}")
    return value


def _full_key(key: Any, namespace: Any) -> str:
    """The name that the cluster keeps: text in which each byte of the key is one character."""
    space = "" if namespace is None else _bytes("namespace", namespace).decode("latin-1")
    return f"kv:{len(space)}:{space}:" + _bytes("key", key).decode("latin-1")


def _ask(name: str, **fields: Any) -> dict[str, Any]:
    _api.info()  # says so when there is no session
    return _api._call(_wire.GCS, name, **fields)[1]


def _internal_kv_initialized() -> bool:
    """Is there a session in this process?"""
    return bool(_core.epoch())


def _internal_kv_get(key: str | bytes, *, namespace: str | bytes | None = None) -> bytes | None:
    """The value of a key, or None."""
    found = _ask("kv_get", key=_full_key(key, namespace))
    if found["status"] == -_serialize.ENOENT:
        return None
    if found["status"] < 0:
        raise _serialize.core_error(-found["status"], found.get("reason", ""))
    return bytes(found["value"])


def _internal_kv_exists(key: str | bytes, *, namespace: str | bytes | None = None) -> bool:
    """Is there a value of that key?"""
    return _internal_kv_get(key, namespace=namespace) is not None


def _internal_kv_put(
    key: str | bytes,
    value: str | bytes,
    overwrite: bool = True,
    *,
    namespace: str | bytes | None = None,
) -> bool:
    """Store a value; with overwrite=False an older one stays. Returns whether there was one.

    ObjectStoreFullError when the cluster's 64 MB of named values are used up.
    """
    name, data = _full_key(key, namespace), _bytes("value", value)
    answer = _ask("kv_put", key=name, value=data, overwrite=0)
    if answer["status"] == -_serialize.EEXIST:
        if not overwrite:
            return True
        answer = _ask("kv_put", key=name, value=data, overwrite=1)
        if answer["status"] == 0:
            return True
    if answer["status"] < 0:
        raise _serialize.core_error(-answer["status"], answer["reason"])
    return False


def _internal_kv_del(
    key: str | bytes, *, del_by_prefix: bool = False, namespace: str | bytes | None = None
) -> int:
    """Delete a key, or all that begin so. Returns how many there were."""
    fields = {"key": _full_key(key, namespace), "prefix": int(del_by_prefix)}
    return int(_ask("kv_del", **fields)["status"])


def _internal_kv_list(
    prefix: str | bytes, *, namespace: str | bytes | None = None
) -> list[bytes]:
    """The keys that begin so, in no order."""
    skip = len(_full_key("", namespace).encode())
    answer = _ask("kv_list", prefix=_full_key(prefix, namespace))
    if answer["status"] < 0:
        raise _serialize.core_error(-answer["status"], "there are too many keys for one answer")
    out, data, at = [], answer["keys"], 0
    while at + 4 <= len(data):
        (length,) = struct.unpack_from("<I", data, at)
        out.append(data[at + 4 + skip : at + 4 + length].decode().encode("latin-1"))
        at += 4 + length
    return out


def _internal_kv_reset() -> None:
    """Nothing is kept here that would have to be forgotten."""
