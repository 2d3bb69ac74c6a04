"""JsonWriter: batches as JSON lines, in files that RLlib 1.8 and later read."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from typing import IO, Any

import numpy as np

from skate.rllib.offline.io_context import IOContext
from skate.rllib.offline.output_writer import OutputWriter
from skate.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from skate.rllib.utils.compression import compression_supported, pack


class JsonWriter(OutputWriter):
    """Writes one batch a line; a file that has reached `max_file_size` is followed by another.

    Columns in `compress_columns` are packed when lz4 or pyarrow is installed, else they are lists.
    Each line is in the file when write() returns.
    """

    def __init__(self, path: str, ioctx: IOContext | None = None,
                 max_file_size: int = 64 * 1024 * 1024,
                 compress_columns: Iterable[str] = frozenset(["obs", "new_obs"])) -> None:
        """`path`: the folder of the files; it is made if it is not there.

        Raises:
            ValueError: an address of another machine, or a size below 1.
        """
        text = os.fspath(path)
        if "://" in text and not text.startswith("file://"):
            raise ValueError(f"offline output goes to a folder of this machine, not to {text!r}")
        if max_file_size < 1:
            raise ValueError(f"max_file_size must be >= 1, got {max_file_size}")
        self.ioctx = ioctx or IOContext()
        self.path = os.path.abspath(os.path.expanduser(text.removeprefix("file://")))
        os.makedirs(self.path, exist_ok=True)
        self.max_file_size = max_file_size
        self.compress_columns = frozenset(compress_columns)
        self.file_index = 0
        self.bytes_written = 0
        self._file: IO[str] | None = None

    def write(self, sample_batch: Any) -> None:
        """Append one SampleBatch or MultiAgentBatch."""
        line = to_json(sample_batch, self.compress_columns)
        out = self._current()
        out.write(line + "\n")
        out.flush()
        self.bytes_written += len(line) + 1

    def close(self) -> None:
        """Close the file; the next write() opens another."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _current(self) -> IO[str]:
        if self._file is not None and self.bytes_written < self.max_file_size:
            return self._file
        self.close()
        now = time.strftime("%Y-%m-%d_%H-%M-%S")
        while self._file is None:
            name = f"output-{now}_worker-{self.ioctx.worker_index}_{self.file_index}.json"
            self.file_index += 1
            try:
                self._file = open(os.path.join(self.path, name), "x", encoding="utf-8")
            except FileExistsError:     # another writer of the same index in this second
                continue
        self.bytes_written = 0
        return self._file


def to_json(batch: Any, compress_columns: Iterable[str] = ()) -> str:
    """One line of JSON for a batch."""
    packed = frozenset(compress_columns) if compression_supported() else frozenset()
    if isinstance(batch, MultiAgentBatch):
        return _dump({"type": "MultiAgentBatch", "count": int(batch.count), "policy_batches": {
            name: _columns_of(inner, packed) for name, inner in batch.policy_batches.items()}})
    if not isinstance(batch, SampleBatch):
        raise TypeError(f"expected a SampleBatch or MultiAgentBatch, got {type(batch).__name__}")
    return _dump({"type": "SampleBatch", **_columns_of(batch, packed)})


def _columns_of(batch: SampleBatch, packed: frozenset[str]) -> dict[str, Any]:
    out = {name: pack(value) if name in packed else _plain(value)
           for name, value in batch.items()}
    if "dones" not in out and "terminateds" in out:     # what 1.8 reads
        out["dones"] = batch.is_done().tolist()
    return out


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist()) if value.dtype == object else value.tolist()
    return value.item() if isinstance(value, np.generic) else value


def _dump(record: dict[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":"), default=str)


__all__ = ["JsonWriter", "to_json"]
