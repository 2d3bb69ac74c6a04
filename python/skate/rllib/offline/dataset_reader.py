"""DatasetReader: train batches from tables: Parquet files, JSON lines of steps, or a Dataset.

A table has a row a step (columns obs, actions, rewards, terminateds or dones, new_obs, eps_id, ...)
or a row a batch (the columns "type" and lists). Parquet needs the package pyarrow.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from skate.rllib._errors import OfflineDataError
from skate.rllib.offline import _columns
from skate.rllib.offline.input_reader import InputReader
from skate.rllib.offline.io_context import IOContext
from skate.rllib.offline.json_reader import find_files
from skate.rllib.policy.sample_batch import (
    SampleBatch,
    concat_samples,
    convert_ma_batch_to_sample_batch,
)

FORMATS = ("json", "parquet")


def pyarrow_parquet() -> Any:
    """The module pyarrow.parquet.

    Raises:
        ImportError: the user does not have it; the text says what to do.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise ImportError("Parquet files need the package pyarrow: pip install pyarrow (or use "
                          "JSON lines, which need nothing)") from None
    return pyarrow.parquet


def read_parquet(paths: str | list[str]) -> SampleBatch:
    """All rows of Parquet files, in the order of the files' names.

    Raises:
        OfflineDataError: a damaged file, or columns that are no experience; it names the file.
    """
    parquet = pyarrow_parquet()
    parts = []
    for path in find_files(paths, (".parquet",)):
        where = _columns.Where(path)
        try:
            table = parquet.read_table(path)
        except (OSError, ValueError) as error:
            raise where.fail(f"not a Parquet file, or a damaged one: {str(error)[:200]}") from None
        parts.append(from_table(table, where))
    return _joined(parts)


def from_table(table: Any, where: _columns.Where) -> SampleBatch:
    """The steps of a pyarrow.Table."""
    if "item" in table.column_names and len(table.column_names) == 1:
        raise where.fail("whole episodes in one packed column are not read; write them with "
                         "output_write_episodes=False", "item")
    if "type" in table.column_names:
        return _rows_of_batches(table.to_pylist(), where)
    return _columns.sample_batch({name: _array(table.column(name), name, where)
                                  for name in table.column_names}, where)


def _array(column: Any, name: str, where: _columns.Where) -> Any:
    """A column as one array [rows][...]."""
    if column.null_count:
        raise where.fail(f"{column.null_count} of {len(column)} rows are missing (null)", name)
    chunk, shape = column.combine_chunks(), [len(column)]
    if hasattr(chunk, "chunks"):
        chunk = chunk.chunk(0) if chunk.num_chunks else []
    while hasattr(chunk, "flatten") and "list" in str(getattr(chunk, "type", ""))[:16]:
        rows, chunk = len(chunk), chunk.flatten()
        if rows == 0 or len(chunk) % rows:
            return column.to_pylist()
        shape.append(len(chunk) // rows)
    if len(shape) > 1 and not _equal_lists(column, shape[1]):
        raise where.fail("the rows are of different lengths", name)
    if not hasattr(chunk, "to_numpy"):
        return column.to_pylist()
    return chunk.to_numpy(zero_copy_only=False).reshape(shape)


def _equal_lists(column: Any, length: int) -> bool:
    import pyarrow.compute

    return bool(pyarrow.compute.all(pyarrow.compute.equal(
        pyarrow.compute.list_value_length(column), length)).as_py())


def _rows_of_batches(rows: Iterable[dict[str, Any]], where: _columns.Where) -> SampleBatch:
    return _joined([convert_ma_batch_to_sample_batch(_columns.to_batch(
        {key: value for key, value in row.items() if value is not None}, where)) for row in rows])


def _joined(parts: list[SampleBatch]) -> SampleBatch:
    made = concat_samples(parts)
    assert isinstance(made, SampleBatch)
    return made


def from_rows(rows: Iterable[dict[str, Any]], where: _columns.Where | None = None) -> SampleBatch:
    """The steps (or batches) that a sequence of dictionaries describes."""
    where = where or _columns.Where()
    listed = list(rows)
    if not listed:
        return SampleBatch()
    if "type" in listed[0]:
        return _rows_of_batches(listed, where)
    names = list(listed[0])
    for i, row in enumerate(listed):
        if list(row) != names and set(row) != set(names):
            raise where.fail(f"row {i} has the columns {sorted(row)}, the first one {names}")
    return _columns.sample_batch({name: [row[name] for row in listed] for name in names}, where)


def read_json_rows(paths: str | list[str]) -> SampleBatch:
    """JSON lines of steps or of batches, all rows."""
    parts = []
    for path in find_files(paths, (".json", ".jsonl")):
        rows = []
        with open(path, "rb") as source:
            for number, line in enumerate(source, 1):
                try:
                    rows.append(json.loads(line))
                except (ValueError, RecursionError) as error:
                    raise OfflineDataError(f"not a line of JSON: {error}", path, number) from None
        parts.append(from_rows(rows, _columns.Where(path)))
    return _joined(parts)


def read_dataset(config: dict[str, Any]) -> SampleBatch:
    """The data that config["input_config"] names: {"format", "paths"} or {"loader_fn"}.

    Raises:
        ValueError: neither or both of them, or an unknown format.
    """
    extra = config.get("input_config") or {}
    kind, loader = extra.get("format"), extra.get("loader_fn")
    paths = extra.get("paths", extra.get("path"))
    if kind is not None and kind not in FORMATS:
        raise ValueError(f"input_config['format'] must be one of {FORMATS}, got {kind!r}")
    if loader is not None and (kind or paths):
        raise ValueError("input_config has either 'loader_fn' or 'format' and 'paths', not both")
    if loader is not None:
        return from_dataset(loader())
    if not kind or not paths:
        raise ValueError("input='dataset' needs input_config={'format': 'parquet' or 'json', "
                         "'paths': ...} or {'loader_fn': a function that gives a dataset}")
    return read_parquet(paths) if kind == "parquet" else read_json_rows(paths)


def from_dataset(data: Any) -> SampleBatch:
    """A SampleBatch, a pyarrow.Table, a dictionary of columns, a Dataset or rows."""
    if isinstance(data, SampleBatch):
        return data
    if hasattr(data, "column_names") and hasattr(data, "combine_chunks"):
        return from_table(data, _columns.Where())
    if isinstance(data, dict):
        return _columns.sample_batch(data, _columns.Where())
    for method in ("iter_rows", "take_all"):
        if hasattr(data, method):
            return from_rows(getattr(data, method)())
    return from_rows(data)


def get_dataset_and_shards(config: Any, num_workers: int = 0,
                           ) -> tuple[SampleBatch, list[SampleBatch | None]]:
    """The data of a config, and a part of it for each worker (with workers the first is None)."""
    plain = config.to_dict() if hasattr(config, "to_dict") else config
    data = read_dataset(plain)
    if num_workers == 0:
        return data, [data]
    return data, [None, *data.timeslices(num_slices=num_workers)]


class DatasetReader(InputReader):
    """next() gives train_batch_size steps (its share of them on a worker), shuffled anew in
    each pass over the data."""

    def __init__(self, ds: Any, ioctx: IOContext | None = None) -> None:
        """`ds`: anything from_dataset() takes."""
        self._ioctx = ioctx or IOContext()
        self._data = from_dataset(ds)
        self.count = self._data.count
        if self.count == 0:
            raise OfflineDataError("the data set has no rows")
        config = self._ioctx.config
        workers = int(config.get("num_workers", config.get("num_env_runners", 0)) or 0)
        self.batch_size = max(1, math.ceil(config.get("train_batch_size", 1) / max(1, workers)))
        self._random = np.random.default_rng(config.get("seed"))
        self._order = np.zeros(0, np.int64)

    def next(self) -> SampleBatch:
        """The next batch_size rows."""
        while len(self._order) < self.batch_size:
            self._order = np.concatenate([self._order, self._random.permutation(self.count)])
        rows, self._order = self._order[:self.batch_size], self._order[self.batch_size:]
        pick: Callable[[Any], Any] = lambda leaf: leaf[rows]  # noqa: E731
        return SampleBatch({name: _pick(value, pick) for name, value in self._data.items()
                            if name != SampleBatch.INFOS})


def _pick(value: Any, pick: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {key: _pick(inner, pick) for key, inner in value.items()}
    if isinstance(value, tuple):
        return tuple(_pick(inner, pick) for inner in value)
    return pick(value)


def write_parquet(batch: SampleBatch, path: str) -> None:
    """A Parquet file with a row a step; the file appears whole or not at all."""
    parquet = pyarrow_parquet()
    import pyarrow

    arrays = {}
    for name, value in batch.items():
        if name == SampleBatch.INFOS:
            continue
        if isinstance(value, (dict, tuple)):
            raise OfflineDataError("a nested column cannot be written as Parquet; flatten it or "
                                   "write JSON lines", path, column=name)
        array = np.ascontiguousarray(value)
        column = pyarrow.array(array.reshape(-1))
        for width in reversed(array.shape[1:]):
            column = pyarrow.FixedSizeListArray.from_arrays(column, width)
        arrays[name] = column
    parquet.write_table(pyarrow.table(arrays), path + ".part")
    os.replace(path + ".part", path)


__all__ = ["DatasetReader", "from_dataset", "get_dataset_and_shards", "read_dataset",
           "read_parquet", "write_parquet"]
