"""From parsed offline data to checked batches, whatever file it came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from skate.rllib._errors import OfflineDataError
from skate.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from skate.rllib.utils.compression import CompressionError, unpack_if_needed

# The newer era's names in files -> ours.
RENAMED = {"next_obs": "new_obs", "eps_ids": "eps_id"}


class Where:
    """A place in a file, for errors."""

    def __init__(self, path: str = "", line: int = 0) -> None:
        self.path, self.line = path, line

    def fail(self, why: str, column: str = "") -> OfflineDataError:
        """The error to raise."""
        return OfflineDataError(why, self.path, self.line, column)


def to_batch(record: Any, where: Where) -> SampleBatch | MultiAgentBatch:
    """The batch that one JSON record describes.

    Raises:
        OfflineDataError: no batch, or a column that cannot be one.
    """
    if not isinstance(record, dict):
        raise where.fail(f"a batch is a JSON object, not {type(record).__name__}")
    kind = record.get("type")
    if kind == "SampleBatch":
        return sample_batch({k: v for k, v in record.items() if k != "type"}, where)
    if kind != "MultiAgentBatch":
        raise where.fail("the field 'type' must be 'SampleBatch' or 'MultiAgentBatch', got "
                         f"{str(kind)[:40]!r}")
    policies, count = record.get("policy_batches"), record.get("count")
    if not isinstance(policies, dict) or not policies:
        raise where.fail("a MultiAgentBatch needs 'policy_batches', an object of batches")
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise where.fail(f"a MultiAgentBatch needs 'count', a number of steps; got {count!r}")
    for name, columns in policies.items():
        if not isinstance(columns, dict):
            raise where.fail(f"the batch of policy {name!r} is no object of columns")
    return MultiAgentBatch({name: sample_batch(columns, where)
                            for name, columns in policies.items()}, count)


def sample_batch(columns: Mapping[str, Any], where: Where) -> SampleBatch:
    """Columns as arrays of equally many rows, with the names of both eras for an episode's end."""
    made: dict[str, Any] = {}
    for given, value in columns.items():
        name = RENAMED.get(given, given)
        if name == "count" and isinstance(value, int):
            continue
        made[name] = _column(name, value, where)
    batch = SampleBatch({name: made[name] for name in made})
    _add_ends(batch)
    _check_rows(batch, where)
    return batch


def _column(name: str, value: Any, where: Where) -> Any:
    try:
        value = unpack_if_needed(value)
    except CompressionError as error:
        raise where.fail(f"packed data cannot be unpacked: {error}", name) from None
    if isinstance(value, dict) and name != SampleBatch.INFOS:
        return {key: _column(f"{name}.{key}", inner, where) for key, inner in value.items()}
    if isinstance(value, tuple):
        return tuple(_column(f"{name}.{i}", inner, where) for i, inner in enumerate(value))
    if name == SampleBatch.INFOS:
        return value
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise where.fail(f"the rows are of different shapes: {str(error)[:120]}", name) from None
    if array.ndim == 0:
        raise where.fail(f"a column is a list with one entry a step, got {str(value)[:60]!r}",
                         name)
    if array.dtype.kind not in "biufc" and array.size and name in CHECKED:
        raise where.fail(f"a column of numbers is needed, got {_example(array)!r}", name)
    return array


CHECKED = frozenset({"obs", "new_obs", "actions", "rewards", "dones", "terminateds",
                     "truncateds", "action_prob", "action_logp", "vf_preds", "advantages"})


def _example(array: Any) -> str:
    return str(array.reshape(-1)[0])[:40]


def _add_ends(batch: SampleBatch) -> None:
    if "terminateds" in batch:
        batch["terminateds"] = np.asarray(batch["terminateds"]).astype(bool)
        if "truncateds" in batch:
            batch["truncateds"] = np.asarray(batch["truncateds"]).astype(bool)
        else:
            batch["truncateds"] = np.zeros_like(batch["terminateds"])
        batch["dones"] = batch["terminateds"] | batch["truncateds"]
    elif "dones" in batch:
        batch["dones"] = np.asarray(batch["dones"]).astype(bool)
        batch["terminateds"] = batch["dones"].copy()
        batch["truncateds"] = np.zeros_like(batch["dones"])


def _check_rows(batch: SampleBatch, where: Where) -> None:
    rows = batch.count
    lens = batch.get("seq_lens")
    first = next((name for name in batch if not batch.is_per_sequence(name)), "")
    for name, value in batch.items():
        expected = len(lens) if batch.is_per_sequence(name) and lens is not None else rows
        stack = [value]
        while stack:
            leaf = stack.pop()
            if isinstance(leaf, (dict, tuple)):
                stack += leaf.values() if isinstance(leaf, dict) else leaf
            elif hasattr(leaf, "__len__") and len(leaf) != expected:
                raise where.fail(f"{len(leaf)} rows, where {first or name!r} has {expected}", name)


def need(batch: SampleBatch, names: tuple[str, ...], where: Where, what: str) -> None:
    """Raise unless `batch` has the columns that `what` needs."""
    for name in names:
        if name not in batch:
            raise where.fail(f"missing, and {what} needs it; the data has {sorted(batch)}", name)
