"""Checkpoints of trainers: a description in JSON and plain files beside it.

The description is written last and names each file with its size and checksum, so that a folder
that was cut short, or whose files were mixed with another's, is told from a whole one before a
trainer changes anything.
"""

from __future__ import annotations

import json
import os
import zlib
from typing import Any

from skate.rllib._errors import CheckpointError

STATE_FILE = "algorithm_state.json"
STATE_VERSION = 2


def write(folder: str, state: dict[str, Any], files: dict[str, bytes]) -> None:
    """The files, then the description that vouches for them."""
    listed = {}
    for name, content in files.items():
        with open(os.path.join(folder, name), "wb") as out:
            out.write(content)
        listed[name] = {"bytes": len(content), "crc32": zlib.crc32(content)}
    text = json.dumps({**state, "version": STATE_VERSION, "files": listed})
    path = os.path.join(folder, STATE_FILE)
    with open(path + ".part", "w", encoding="utf-8") as out:
        out.write(text)
    os.replace(path + ".part", path)


def read(folder: str) -> dict[str, Any]:
    """The description in a checkpoint's folder. CheckpointError if it is none or damaged."""
    path = os.path.join(folder, STATE_FILE)
    try:
        with open(path, encoding="utf-8") as source:
            state = json.load(source)
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} holds no checkpoint of a trainer: no {STATE_FILE}") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(state, dict) or state.get("version") != STATE_VERSION:
        version = state.get("version") if isinstance(state, dict) else None
        raise CheckpointError(f"{path} has version {version!r}, not {STATE_VERSION}")
    if not isinstance(state.get("files"), dict):
        raise CheckpointError(f"{path} is damaged: it lists no files")
    return state


def read_files(folder: str, state: dict[str, Any]) -> dict[str, bytes]:
    """The files that `state` lists, each checked."""
    files = {}
    for name, about in state["files"].items():
        path = os.path.join(folder, os.path.basename(name))
        try:
            with open(path, "rb") as source:
                content = source.read()
        except OSError as error:
            raise CheckpointError(f"{path}, a part of the checkpoint, cannot be read: "
                                  f"{error.strerror}") from error
        if len(content) != about["bytes"]:
            raise CheckpointError(f"{path} is damaged: {len(content)} bytes of "
                                  f"{about['bytes']}")
        if zlib.crc32(content) != about["crc32"]:
            raise CheckpointError(f"{path} is damaged: its checksum is not the one noted")
        files[name] = content
    return files


def folder_of(checkpoint: Any) -> str:
    """The folder that a path, a file in it or a checkpoint object means."""
    path = os.path.expanduser(os.fspath(getattr(checkpoint, "path", checkpoint)))
    return path if os.path.isdir(path) else os.path.dirname(path)


def plain(value: Any) -> Any:
    """What JSON can hold of a config; the rest becomes None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return float(value) if hasattr(value, "__float__") else None
