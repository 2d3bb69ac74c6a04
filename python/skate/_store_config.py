"""How a node's object store spills and waits: what init(), `skate start` and the environment say,
checked, as settings of its raylet; with those of _memory_config.

Each key of KEYS is looked for in _system_config, then in SKATE_<key>, then in RAY_<key>. The
argument object_spilling_directory stands over all of them.
"""

from __future__ import annotations

import os

from skate import _memory_config
from skate._init_config import variable

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

KEYS = (
    "object_spilling_config", "object_spilling_directory", "automatic_object_spilling_enabled",
    "object_spilling_threshold", "min_spilling_size", "max_spilling_file_size_bytes",
    "max_fused_object_count", "store_wait_s", "store_span_bytes", "share_memory_between_raylets",
)  # fmt: skip
_REMOTE_TYPES = ("smart_open", "fsspec", "ray_storage")
_MOST_TARGETS = 16
_MOST_TEXT = 64 << 10  # of the settings' line
_MOST_PATH = 360


def settings(directory: Any = None, system: Any = None) -> list[tuple[str, Any]]:
    """Keys and values for the line that a raylet reads at its start.

    directory: the argument object_spilling_directory, a folder, a URI of fsspec, or a list of
    them. system: the argument _system_config. Folders are made, and tried. ValueError or TypeError
    for what cannot be meant, OSError for a folder that cannot be written, ModuleNotFoundError when
    a URI needs a package that is not there.
    """
    told = _told(system)
    out: list[tuple[str, Any]] = []
    on = _switch(told, "automatic_object_spilling_enabled")
    targets, options, name = _targets(directory, told)
    if on is False:
        out.append(("spill", ""))
    elif targets:
        out += _spill_lines(targets, options, name)
    out += [
        (key, value)
        for key, value in (
            ("spill_threshold", _number(told, "object_spilling_threshold", 0.0, 1.0)),
            ("spill_min_bytes", _whole(told, "min_spilling_size", 0)),
            ("spill_file_bytes", _file_bytes(told)),
            ("store_wait_s", _number(told, "store_wait_s", 0.0, 1e9)),
            ("span", _whole(told, "store_span_bytes", 0)),
        )
        if value is not None
    ]
    if _switch(told, "share_memory_between_raylets") is False:
        out.append(("no_near", "1"))
    _whole(told, "max_fused_object_count", 1)  # files are as large as they should be
    return out + _memory_config.settings(system)


def of_node(given: Any) -> list[str]:
    """Those of a node's keys that a _system_config has."""
    keys = (*KEYS, *_memory_config.KEYS)
    return [key for key in keys if isinstance(given, dict) and key in given]


def _told(system: Any) -> dict[str, Any]:
    if system is not None and not isinstance(system, dict):
        raise TypeError(f"_system_config must be a dict, not {system!r}")
    found = {key: variable(key) for key in KEYS}
    told = {key: text for key, text in found.items() if text is not None}
    given = system or {}
    told |= {key: given[key] for key in KEYS if given.get(key) is not None}
    return told


# ------------------------------------------------------------------------------------ where to


def _targets(directory: Any, told: dict[str, Any]) -> tuple[list[str], str, str]:
    """Folders or URIs (none: the default), options for fsspec as JSON, who said it."""
    for given, name in (
        (directory, "object_spilling_directory"),
        (told.get("object_spilling_directory"), "object_spilling_directory"),
    ):
        if given is not None and given != "":
            return _several(given, name), "", name
    config = told.get("object_spilling_config")
    if config in (None, "", {}):
        return [], "", ""
    return _of_config(config)


def _of_config(config: Any) -> tuple[list[str], str, str]:
    """Ray's forms: {"type": "filesystem", "params": {"directory_path": ...}} and
    {"type": "smart_open", "params": {"uri": ...}}, as JSON or as a dict."""
    import json

    name = "object_spilling_config"
    if isinstance(config, str):
        try:
            config = json.loads(config)
        except ValueError as error:
            raise ValueError(f"{name} is no JSON: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("params", {}), dict):
        raise ValueError(
            f'{name} is like {{"type": "filesystem", "params": {{"directory_path": "/dir"}}}} or '
            f'{{"type": "smart_open", "params": {{"uri": "s3://bucket/path"}}}}, not {config!r}'
        )
    kind, params = config.get("type"), config.get("params", {})
    if kind == "filesystem":
        key = "directory_path"
    elif kind in _REMOTE_TYPES:
        key = "uri"
    else:
        known = ", ".join(("filesystem", *_REMOTE_TYPES))
        raise ValueError(f"Unknown external storage type: {kind!r} in {name}; known are {known}")
    if not params.get(key):
        raise ValueError(f"{name} of type {kind!r} needs {key!r} in its params")
    options = params.get("storage_options") or params.get("override_transport_params") or {}
    if not isinstance(options, dict):
        raise ValueError(f"storage_options in {name} is a dict, not {type(options).__name__}")
    try:
        text = json.dumps(options) if options else ""
    except TypeError as error:
        raise ValueError(f"storage_options in {name} cannot be JSON: {error}") from None
    return _several(params[key], name), text, name


def _several(given: Any, name: str) -> list[str]:
    items = list(given) if isinstance(given, (list, tuple)) else [given]
    out = []
    for item in items:
        path = os.fspath(item) if isinstance(item, (str, os.PathLike)) else item
        if not isinstance(path, str) or not path.strip():
            raise TypeError(f"{name} names folders or URIs as str, not {item!r}")
        if path not in out:
            out.append(path)
    if not 0 < len(out) <= _MOST_TARGETS:
        raise ValueError(f"{name} names 1 to {_MOST_TARGETS} folders or URIs, not {len(out)}")
    return out


def _spill_lines(targets: list[str], options: str, name: str) -> list[tuple[str, Any]]:
    remote = ["://" in t for t in targets]
    if all(remote):
        from skate import _spill_uri

        for uri in targets:
            _spill_uri.check(uri, name)
        _spill_uri.try_out(targets, options, name)
        out: list[tuple[str, Any]] = [("spill", " ".join(targets)), ("spill_remote", 1)]
        if options:
            out.append(("spill_options", options))
    elif any(remote):
        raise ValueError(f"{name} names either folders or URIs, not both")
    else:
        out = [("spill", ":".join([_folder(t, name) for t in targets]))]
    if sum(len(str(value).encode()) for _, value in out) > _MOST_TEXT:
        raise ValueError(f"{name} is longer than {_MOST_TEXT} bytes")
    return out


def _folder(path: str, name: str) -> str:
    """An absolute folder that this process can write to."""
    path = os.path.abspath(os.path.expanduser(path))
    if any(c in path for c in ":\t\n\0"):
        raise ValueError(f"{name}: the path of a folder has no colon, tab or newline: {path!r}")
    if len(os.fsencode(path)) > _MOST_PATH:
        raise ValueError(f"{name}: the path of a folder has at most {_MOST_PATH} bytes: {path!r}")
    probe = os.path.join(path, f".skate-probe-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        os.unlink(probe)
    except OSError as error:
        text = f"{name}: cannot spill objects to the folder {path}: {error.strerror}"
        raise type(error)(text) from None
    return path


# ------------------------------------------------------------------------------------- numbers


def _switch(told: dict[str, Any], key: str) -> bool | None:
    value = told.get(key)
    if value is None:
        return None
    if str(value).lower() in ("0", "false", "1", "true"):
        return str(value).lower() in ("1", "true")
    raise ValueError(f"{key} is true or false, not {value!r}")


def _number(told: dict[str, Any], key: str, low: float, high: float) -> float | None:
    return _parsed(told, key, float, low, high)


def _whole(told: dict[str, Any], key: str, low: int) -> int | None:
    found = _parsed(told, key, _int, low, 1 << 62)
    return None if found is None else int(found)


def _file_bytes(told: dict[str, Any]) -> int | None:
    """-1 means in Ray: as large as they come."""
    found = _whole(told, "max_spilling_file_size_bytes", -1)
    return None if found == -1 else found


def _int(value: Any) -> int:
    if isinstance(value, float) and value != int(value):
        raise ValueError
    return int(value)


def _parsed(
    told: dict[str, Any], key: str, read: Callable[[Any], float], low: float, high: float
) -> float | None:
    value = told.get(key)
    if value is None:
        return None
    try:
        number = read(value) if not isinstance(value, bool) else -2
    except (TypeError, ValueError, OverflowError):
        number = -2
    if not low <= number <= high:
        what = f"from {low:g} to {high:g}" if high < 1e9 else f"of at least {low:g}"
        raise ValueError(f"{key} is a number {what}, not {value!r}")
    return number
