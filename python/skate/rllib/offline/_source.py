"""From config["input"] to what the engine learns from: checked columns, whole or as a stream.

Files and data sets are read once and kept (only the columns that learning needs), so that every
row is drawn alike; a mix, or a reader of the user's own, is asked for batch after batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from skate.rllib import _spaces
from skate.rllib._errors import OfflineDataError
from skate.rllib.offline import _columns, dataset_reader
from skate.rllib.offline.io_context import IOContext
from skate.rllib.offline.json_reader import find_files, read_file
from skate.rllib.offline.mixed_input import MixedInput
from skate.rllib.offline.shuffled_input import ShuffledInput
from skate.rllib.policy.sample_batch import (
    SampleBatch,
    concat_samples,
    convert_ma_batch_to_sample_batch,
)

KEPT = frozenset({"obs", "new_obs", "actions", "rewards", "terminateds", "truncateds", "eps_id",
                  "t", "action_prob", "action_logp", "advantages", "value_targets"})


def load(config: dict[str, Any]) -> SampleBatch | None:
    """All data of config["input"], or None if it is a stream (open_stream() has it).

    Raises:
        OfflineDataError, FileNotFoundError: what is wrong with the data.
    """
    given = config["input"]
    if given == "dataset":
        return _kept(dataset_reader.read_dataset(config), config)
    if isinstance(given, (SampleBatch, list, tuple, str)):
        if isinstance(given, SampleBatch):
            return _kept(given, config)
        if isinstance(given, str) and given.startswith("d4rl"):
            raise OfflineDataError("data of D4RL is read from files: save it as Parquet or JSON "
                                   "lines and name them as input", given)
        parts = [part for path in find_files(list(given) if isinstance(given, tuple) else given,
                                             (".parquet", ".json", ".jsonl", ".zip"))
                 for part in _read(path, config)]
        try:
            made = concat_samples(parts)
        except KeyError as error:
            raise OfflineDataError(str(error.args[0]), str(given)) from None
        if made.count == 0:
            raise OfflineDataError("there is no step in the data", str(given))
        assert isinstance(made, SampleBatch)
        return made
    return None


def _read(path: str, config: dict[str, Any]) -> list[SampleBatch]:
    if path.endswith(".parquet"):
        return [_kept(dataset_reader.read_parquet(path), config)]
    if _lines_of_steps(path):
        return [_kept(dataset_reader.read_json_rows(path), config)]
    return [_kept(_single(batch, path), config) for batch in read_file(path)]


def _lines_of_steps(path: str) -> bool:
    """Whether the first line of a JSON file is a step and not a batch."""
    import json

    if path.endswith(".zip"):
        return False
    with open(path, "rb") as source:
        try:
            first = json.loads(source.readline() or b"{}")
        except (ValueError, RecursionError):
            return False
    return isinstance(first, dict) and "type" not in first and "actions" in first


def _single(batch: Any, where: str) -> SampleBatch:
    try:
        return convert_ma_batch_to_sample_batch(batch)
    except ValueError as error:
        raise OfflineDataError(f"{error}; this trainer has one", where) from None


def _kept(batch: SampleBatch, config: dict[str, Any]) -> SampleBatch:
    """The columns that learning needs, under our names."""
    schema = {theirs: ours for ours, theirs in (config.get("input_read_schema") or {}).items()}
    named = {_columns.RENAMED.get(schema.get(name, name), schema.get(name, name)): value
             for name, value in batch.items()}
    made = SampleBatch({name: value for name, value in named.items() if name in KEPT})
    if "terminateds" not in made and "dones" in named:
        made["terminateds"] = np.asarray(named["dones"]).astype(bool)
    return made


def open_stream(config: dict[str, Any], log_dir: str | None = None) -> Any:
    """The reader of a mix of sources, or of a function that gives one.

    Raises:
        TypeError: config["input"] is nothing of the kind.
    """
    given, context = config["input"], IOContext(log_dir, config)
    if isinstance(given, dict):
        reader: Any = MixedInput(given, context)
    elif isinstance(given, Callable):  # type: ignore[arg-type]
        reader = given(context)
    else:
        reader = given
    if not hasattr(reader, "next"):
        raise TypeError("input must be 'sampler', 'dataset', files, {source: share} or a function "
                        f"of an IOContext that gives an InputReader; it is {given!r}")
    if config["shuffle_buffer_size"]:
        reader = ShuffledInput(reader, config["shuffle_buffer_size"], config["seed"])
    return reader


# ---- columns for the engine ---------------------------------------------------------------------

class Converter:
    """SampleBatches of raw data -> columns as the engine takes them, checked."""

    def __init__(self, config: dict[str, Any], obs_space: dict[str, Any],
                 action_space: dict[str, Any]) -> None:
        self._obs, self._actions = obs_space, action_space
        self._flatten = _spaces.flattener(obs_space)
        self._scale = (action_space["kind"] == "box" and bool(config["normalize_actions"])
                       and not config["actions_in_input_normalized"]
                       and _spaces.bounded(action_space))

    def columns(self, batch: SampleBatch, names: tuple[str, ...], what: str) -> dict[str, Any]:
        """The named columns of a batch.

        Raises:
            OfflineDataError: one is missing, of another shape, not finite, outside its space.
        """
        where = _columns.Where()
        _columns.need(batch, names, where, what)
        found: dict[str, Any] = {}
        for name in names:
            if name in ("obs", "new_obs"):
                found[name] = self._observations(name, batch[name], batch.count)
            elif name == "actions":
                found[name] = self._acted(batch[name], batch.count)
            else:
                found[name] = np.ascontiguousarray(batch[name], np.float32).reshape(-1)
            if found[name].dtype == np.float32 and not np.isfinite(found[name]).all():
                bad = int(np.flatnonzero(~np.isfinite(
                    found[name].reshape(batch.count, -1)).all(axis=1))[0])
                raise where.fail(f"row {bad} has a number that is not finite", name)
        return found

    def _observations(self, name: str, value: Any, rows: int) -> Any:
        size = self._obs["size"]
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            flat = value.reshape(rows, -1)
            if flat.shape[1] == size and self._obs["kind"] in ("box", "tuple", "dict"):
                return np.ascontiguousarray(flat, np.float32)
            if flat.shape[1] == size and value.dtype.kind == "f":
                return np.ascontiguousarray(flat, np.float32)       # one-hot already
        try:
            if isinstance(value, dict):
                return np.stack([self._flatten({key: part[i] for key, part in value.items()})
                                 for i in range(rows)])
            return np.stack([self._flatten(row) for row in value])
        except (ValueError, TypeError, IndexError, KeyError) as error:
            shape = getattr(value, "shape", (rows,))
            raise OfflineDataError(f"rows of shape {tuple(shape[1:])} do not fit the observation "
                                   f"space, which has {size} numbers ({error})",
                                   column=name) from None

    def _acted(self, value: Any, rows: int) -> Any:
        space, array = self._actions, np.asarray(value)
        if space["kind"] == "box":
            flat = np.ascontiguousarray(array.reshape(rows, -1), np.float32)
            if flat.shape[1] != space["size"]:
                raise OfflineDataError(f"{flat.shape[1]} numbers an action, the action space has "
                                       f"{space['size']}", column="actions")
            if self._scale:
                low, high = (np.array(space[key], np.float32) for key in ("low", "high"))
                flat = np.asarray(2.0 * (flat - low) / (high - low) - 1.0, np.float32)
            return flat
        parts = 1 if space["kind"] == "discrete" else space["size"]
        start = space["start"] if space["kind"] == "discrete" else np.array(space["starts"])
        top = space["size"] if space["kind"] == "discrete" else np.array(space["sizes"])
        found = array.reshape(rows, -1)
        if found.shape[1] != parts or array.dtype.kind not in "biuf":
            raise OfflineDataError(f"{found.shape[1]} numbers an action, the action space has "
                                   f"{parts}", column="actions")
        index = found.astype(np.int64) - start
        bad = np.flatnonzero(((index < 0) | (index >= top) | (found != found.astype(np.int64)))
                             .any(axis=1))
        if len(bad):
            raise OfflineDataError(f"row {int(bad[0])} has the action {found[bad[0]].tolist()}, "
                                   f"the action space is {space}", column="actions")
        index = np.ascontiguousarray(index, np.int32)
        return index[:, 0].copy() if space["kind"] == "discrete" else index


def ends_of(batch: SampleBatch) -> tuple[Any, Any]:
    """(terminated, last row of a segment) of each row. A segment is an episode, or what there is
    of it: it ends where the episode ends, where another begins, where steps are missing."""
    rows = batch.count
    done = (np.asarray(batch["terminateds"]).astype(bool) if "terminateds" in batch
            else np.zeros(rows, bool))
    last = done.copy()
    if "truncateds" in batch:
        last |= np.asarray(batch["truncateds"]).astype(bool)
    if "eps_id" in batch:
        ids = np.asarray(batch["eps_id"])
        last[:-1] |= ids[1:] != ids[:-1]
    if "t" in batch:
        t = np.asarray(batch["t"]).astype(np.int64)
        last[:-1] |= t[1:] != t[:-1] + 1
    if rows:
        last[-1] = True
    return done, last


def returns_of(rewards: Any, done: Any, last: Any, gamma: float) -> tuple[Any, Any, Any]:
    """(discounted rewards to the segment's end, the row of that end or -1 if it terminated there,
    gamma to the power of the steps to the value beyond it), each row."""
    rows = len(rewards)
    total, tail, factor = np.zeros(rows), np.full(rows, -1, np.int64), np.zeros(rows)
    value, end, power = 0.0, -1, 1.0
    for i in range(rows - 1, -1, -1):
        if last[i]:
            value, end, power = 0.0, (-1 if done[i] else i), 1.0
        value = float(rewards[i]) + gamma * value
        power *= gamma
        total[i], tail[i], factor[i] = value, end, power
    return total, tail, factor
