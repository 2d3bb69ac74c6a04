"""SampleBatch and MultiAgentBatch: experience as a dictionary of arrays with equally many rows.

A SampleBatch maps column names to numpy arrays (or nested dictionaries and tuples of them) whose
first axis counts steps. Batches of recurrent policies also have "seq_lens" and "state_in_i", with
one row a sequence. Nothing here knows of nets or environments.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

DEFAULT_POLICY_ID = "default_policy"


def _map(function: Callable[[Any], Any], value: Any) -> Any:
    """`function` on each array of a nested value."""
    if isinstance(value, Mapping):
        return {key: _map(function, inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return tuple(_map(function, inner) for inner in value)
    return function(value)


def _leaves(value: Any) -> Iterator[Any]:
    """The arrays of a nested value."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, tuple):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value


def _join(values: list[Any]) -> Any:
    """The rows of equal nests, one after the other."""
    first = values[0]
    if isinstance(first, Mapping):
        return {key: _join([value[key] for value in values]) for key in first}
    if isinstance(first, tuple):
        return tuple(_join([value[i] for value in values]) for i in range(len(first)))
    return np.concatenate([np.asarray(value) for value in values], axis=0)


def _take(value: Any, rows: Any) -> Any:
    """The given rows of a nested value."""
    return _map(lambda leaf: np.asarray(leaf)[rows], value)


def _as_column(value: Any) -> Any:
    return _map(lambda leaf: np.array(leaf) if isinstance(leaf, (list, int, float)) else leaf,
                value)


def attempt_count_timesteps(columns: Mapping[str, Any]) -> int:
    """Rows of the first column that counts steps; 0 for an empty batch."""
    lens = columns.get("seq_lens")
    if lens is not None and len(lens) > 0:
        return int(np.sum(np.asarray(lens)))
    for name, value in columns.items():
        if not SampleBatch.is_per_sequence(name) and name != "infos":
            for leaf in _leaves(value):
                if getattr(leaf, "ndim", 1) > 0 and hasattr(leaf, "__len__"):
                    return len(leaf)
    return 0


class SampleBatch(dict):  # type: ignore[type-arg]
    """Columns of experience of one policy."""

    OBS = "obs"
    CUR_OBS = "obs"
    NEXT_OBS = "new_obs"
    ACTIONS = "actions"
    REWARDS = "rewards"
    PREV_ACTIONS = "prev_actions"
    PREV_REWARDS = "prev_rewards"
    DONES = "dones"
    TERMINATEDS = "terminateds"
    TRUNCATEDS = "truncateds"
    INFOS = "infos"
    SEQ_LENS = "seq_lens"
    T = "t"
    EPS_ID = "eps_id"
    ENV_ID = "env_id"
    AGENT_INDEX = "agent_index"
    UNROLL_ID = "unroll_id"
    ACTION_DIST = "action_dist"
    ACTION_DIST_INPUTS = "action_dist_inputs"
    ACTION_PROB = "action_prob"
    ACTION_LOGP = "action_logp"
    VF_PREDS = "vf_preds"
    VALUES_BOOTSTRAPPED = "values_bootstrapped"
    RETURNS_TO_GO = "returns_to_go"
    ATTENTION_MASKS = "attention_masks"
    ADVANTAGES = "advantages"
    VALUE_TARGETS = "value_targets"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As dict(); lists become arrays. `_time_major`, `_max_seq_len`, `_zero_padded` and
        `_is_training` are kept as attributes.

        Raises:
            ValueError: two columns have different numbers of rows.
        """
        self.time_major = kwargs.pop("_time_major", None)
        self.max_seq_len = kwargs.pop("_max_seq_len", None)
        self.zero_padded = bool(kwargs.pop("_zero_padded", False))
        self.is_training = bool(kwargs.pop("_is_training", False))
        super().__init__()
        for name, value in dict(*args, **kwargs).items():
            super().__setitem__(name, value if name == self.INFOS else _as_column(value))
        lens = self.get(self.SEQ_LENS)
        if self.max_seq_len is None and lens is not None and len(lens):
            self.max_seq_len = int(np.max(np.asarray(lens)))

    @staticmethod
    def is_per_sequence(name: str) -> bool:
        """True for columns with one row a sequence instead of one a step."""
        return name == "seq_lens" or name.startswith("state_in_")

    @property
    def count(self) -> int:
        """Steps in the batch."""
        lens = self.get(self.SEQ_LENS)
        if self.zero_padded and lens is not None and self.max_seq_len:
            return len(lens) * int(self.max_seq_len)
        return attempt_count_timesteps(self)

    def __len__(self) -> int:
        return self.count

    def __bool__(self) -> bool:
        return bool(self.keys())

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return self._slice(key)
        if key == self.DONES and key not in self and self.TERMINATEDS in self:
            return self.is_done()
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value if key == self.INFOS else _as_column(value))

    def __repr__(self) -> str:
        return f"SampleBatch({self.count}: {list(self.keys())})"

    def is_done(self) -> Any:
        """Per row: the episode ends here, whatever the reason."""
        if self.TERMINATEDS not in self:
            return np.asarray(self[self.DONES]).astype(bool)
        done = np.asarray(self[self.TERMINATEDS]).astype(bool)
        cut = self.get(self.TRUNCATEDS)
        return done if cut is None else done | np.asarray(cut).astype(bool)

    def is_terminated_or_truncated(self) -> bool:
        """True if the last row ends its episode."""
        return bool(self.count and self.is_done()[-1])

    def is_single_trajectory(self) -> bool:
        """True if no row but the last ends an episode."""
        return not bool(np.any(self.is_done()[:-1]))

    def env_steps(self) -> int:
        """Steps of the environment: the rows."""
        return self.count

    agent_steps = env_steps

    def _same(self, columns: Mapping[str, Any]) -> SampleBatch:
        return SampleBatch(columns, _time_major=self.time_major, _is_training=self.is_training)

    def copy(self, shallow: bool = False) -> SampleBatch:
        """An independent batch; `shallow`: the arrays are shared."""
        same = self._same({
            name: value if shallow else _map(
                lambda leaf: leaf.copy() if hasattr(leaf, "copy") else leaf, value)
            for name, value in self.items()})
        same.zero_padded, same.max_seq_len = self.zero_padded, self.max_seq_len
        return same

    def columns(self, keys: Iterable[str]) -> list[Any]:
        """The named columns, in that order."""
        return [self[key] for key in keys]

    def rows(self) -> Iterator[dict[str, Any]]:
        """One dictionary a step."""
        lens = self.get(self.SEQ_LENS)
        owner = None if lens is None else np.repeat(np.arange(len(lens)), np.asarray(lens))
        for i in range(self.count):
            row: dict[str, Any] = {}
            for name, value in self.items():
                at = i if owner is None or not self.is_per_sequence(name) else int(owner[i])
                row[name] = _map(operator.itemgetter(at), value)
            yield row

    def shuffle(self) -> SampleBatch:
        """Shuffle the rows in place, all columns alike (whole sequences if there are any)."""
        lens = self.get(self.SEQ_LENS)
        if lens is None:
            order = np.random.permutation(self.count)
            for name, value in self.items():
                super().__setitem__(name, _take(value, order))
            return self
        sequences = np.random.permutation(len(lens))
        ends = np.cumsum(lens)
        order = np.concatenate([np.arange(ends[s] - lens[s], ends[s]) for s in sequences])
        for name, value in self.items():
            rows = sequences if self.is_per_sequence(name) else order
            super().__setitem__(name, _take(value, rows))
        return self

    def split_by_episode(self, key: str | None = None) -> list[SampleBatch]:
        """One batch an episode, by "eps_id" (or `key`) or else by the rows that end one.

        Raises:
            KeyError: there is neither an episode column nor a done column.
        """
        if key is not None and key not in self and key not in (self.DONES, self.TERMINATEDS):
            raise KeyError(f"the batch has no column {key!r} to split by; it has {list(self)}")
        total = self.count
        if total == 0:
            return []
        column = key if key is not None else self.EPS_ID if self.EPS_ID in self else None
        if column is not None and column not in (self.DONES, self.TERMINATEDS):
            ids = np.asarray(self[column])
            cuts = np.flatnonzero(ids[1:] != ids[:-1]) + 1
        elif self.DONES in self or self.TERMINATEDS in self:
            done = self.is_done() if column is None else np.asarray(self[column]).astype(bool)
            cuts = np.flatnonzero(done[:-1]) + 1
        else:
            raise KeyError("a batch is split into episodes by 'eps_id', 'terminateds' or 'dones'; "
                           f"this one has only {list(self)}")
        edges = [0, *(int(cut) for cut in cuts), total]
        return [self.slice(a, b) for a, b in zip(edges[:-1], edges[1:])]

    def _slice(self, key: slice) -> SampleBatch:
        start, stop, step = key.indices(self.count)
        if step != 1:
            raise ValueError(f"a SampleBatch is sliced with step 1, not {step}")
        return self.slice(start, max(start, stop))

    def slice(self, start: int, end: int, state_start: int | None = None,
              state_end: int | None = None) -> SampleBatch:
        """Rows start..end-1 (views). With sequences, the ones at the edges are cut."""
        lens = self.get(self.SEQ_LENS)
        if lens is None or not len(lens):
            return self._same({name: _map(lambda leaf: leaf[start:end], value)
                               for name, value in self.items()})
        lens = np.asarray(lens)
        ends = np.cumsum(lens)
        first = int(np.searchsorted(ends, start, side="right"))
        last = int(np.searchsorted(ends, end, side="left")) + 1 if end > start else first
        if state_start is not None and state_end is not None:
            first, last = state_start, state_end
        cut = np.minimum(ends[first:last], end) - np.maximum((ends - lens)[first:last], start)
        columns: dict[str, Any] = {}
        for name, value in self.items():
            if name == self.SEQ_LENS:
                columns[name] = cut.astype(lens.dtype)
            elif self.is_per_sequence(name):
                columns[name] = _map(lambda leaf: leaf[first:last], value)
            else:
                columns[name] = _map(lambda leaf: leaf[start:end], value)
        return self._same(columns)

    def timeslices(self, size: int | None = None, num_slices: int | None = None,
                   k: int | None = None) -> list[SampleBatch]:
        """Parts of `size` rows (`k`: its older name), the last may be shorter; or exactly
        `num_slices` parts of nearly equal size.

        Raises:
            ValueError: none or both of them are given.
        """
        size = size if size is not None else k
        if (size is None) == (num_slices is None):
            raise ValueError("timeslices() takes either size or num_slices")
        total = self.count
        if num_slices is not None:
            edges = [total * i // num_slices for i in range(num_slices + 1)]
        else:
            assert size is not None
            if size < 1:
                raise ValueError(f"timeslices() needs a size >= 1, got {size}")
            edges = [*range(0, total, size), total]
        return [self.slice(a, b) for a, b in zip(edges[:-1], edges[1:]) if b > a]

    @staticmethod
    def concat_samples(samples: list[SampleBatch]) -> Any:
        """See concat_samples() of this module."""
        return concat_samples(samples)

    def concat(self, other: SampleBatch) -> Any:
        """This batch's rows, then the other's."""
        return concat_samples([self, other])

    def size_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(np.asarray(leaf).nbytes for value in self.values() for leaf in _leaves(value))

    def to_device(self, device: Any = None, framework: str = "native") -> SampleBatch:
        """The batch itself: the engine reads it where it is."""
        return self

    def as_multi_agent(self, module_id: str | None = None) -> MultiAgentBatch:
        """The same experience as a batch of one policy."""
        return MultiAgentBatch({module_id or DEFAULT_POLICY_ID: self}, self.count)

    def compress(self, bulk: bool = False,
                 columns: Iterable[str] = frozenset(["obs", "new_obs"])) -> SampleBatch:
        """Pack columns in place as writers of offline data do (see utils.compression)."""
        from skate.rllib.utils.compression import pack

        for name in columns:
            if name in self:
                value = super().__getitem__(name)
                packed = pack(value) if bulk else np.array([pack(row) for row in value])
                super().__setitem__(name, packed)
        return self

    def decompress_if_needed(self, columns: Iterable[str] = frozenset(["obs", "new_obs"])
                             ) -> SampleBatch:
        """Undo compress(), in place."""
        from skate.rllib.utils.compression import is_compressed, unpack

        for name in columns:
            value = super().get(name)
            if is_compressed(value):
                super().__setitem__(name, unpack(value))
            elif value is not None and len(value) and is_compressed(value[0]):
                super().__setitem__(name, np.array([unpack(row) for row in value]))
        return self


class MultiAgentBatch:
    """Batches of several policies that come from the same environment steps."""

    def __init__(self, policy_batches: dict[str, SampleBatch], env_steps: int) -> None:
        for name, batch in policy_batches.items():
            if not isinstance(batch, SampleBatch):
                raise TypeError(f"policy_batches[{name!r}] must be a SampleBatch, got "
                                f"{type(batch).__name__}")
        self.policy_batches = policy_batches
        self.count = env_steps

    def env_steps(self) -> int:
        """Steps of the environment."""
        return self.count

    def agent_steps(self) -> int:
        """Rows of all policies."""
        return sum(batch.count for batch in self.policy_batches.values())

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, policy_id: str) -> SampleBatch:
        return self.policy_batches[policy_id]

    def __contains__(self, policy_id: object) -> bool:
        return policy_id in self.policy_batches

    def __repr__(self) -> str:
        return f"MultiAgentBatch({self.policy_batches}, env_steps={self.count})"

    def copy(self) -> MultiAgentBatch:
        """An independent batch."""
        return MultiAgentBatch({name: batch.copy() for name, batch in
                                self.policy_batches.items()}, self.count)

    def size_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(batch.size_bytes() for batch in self.policy_batches.values())

    def to_device(self, device: Any = None, framework: str = "native") -> MultiAgentBatch:
        """The batch itself."""
        return self

    def as_multi_agent(self) -> MultiAgentBatch:
        """The batch itself."""
        return self

    def compress(self, bulk: bool = False,
                 columns: Iterable[str] = frozenset(["obs", "new_obs"])) -> None:
        """Pack columns of each policy's batch, in place."""
        for batch in self.policy_batches.values():
            batch.compress(bulk, columns)

    def decompress_if_needed(self, columns: Iterable[str] = frozenset(["obs", "new_obs"])
                             ) -> MultiAgentBatch:
        """Undo compress(), in place."""
        for batch in self.policy_batches.values():
            batch.decompress_if_needed(columns)
        return self

    def timeslices(self, k: int) -> list[MultiAgentBatch]:
        """Parts of `k` environment steps each, by the columns "eps_id" and "t"."""
        rows = sorted((int(batch["eps_id"][i]), int(batch["t"][i]), name, i)
                      for name, batch in self.policy_batches.items() for i in range(batch.count))
        parts: list[MultiAgentBatch] = []
        picked: dict[str, list[int]] = {}
        steps: set[tuple[int, int]] = set()
        for episode, t, name, i in rows:
            if (episode, t) not in steps and len(steps) == k:
                parts.append(self._pick(picked, len(steps)))
                picked, steps = {}, set()
            steps.add((episode, t))
            picked.setdefault(name, []).append(i)
        if steps:
            parts.append(self._pick(picked, len(steps)))
        return parts

    def _pick(self, picked: dict[str, list[int]], steps: int) -> MultiAgentBatch:
        return MultiAgentBatch({
            name: SampleBatch({key: _take(value, at)
                               for key, value in self.policy_batches[name].items()})
            for name, at in picked.items()}, steps)

    @staticmethod
    def wrap_as_needed(policy_batches: dict[str, SampleBatch],
                       env_steps: int) -> SampleBatch | MultiAgentBatch:
        """The only policy's batch if that is the default policy, else a MultiAgentBatch."""
        if list(policy_batches) == [DEFAULT_POLICY_ID]:
            return policy_batches[DEFAULT_POLICY_ID]
        return MultiAgentBatch(policy_batches, env_steps)

    @staticmethod
    def concat_samples(samples: list[Any]) -> MultiAgentBatch:
        """See concat_samples() of this module."""
        made = concat_samples([sample.as_multi_agent() for sample in samples])
        assert isinstance(made, MultiAgentBatch)
        return made


SampleBatchType = SampleBatch | MultiAgentBatch


def concat_samples(samples: list[Any]) -> Any:
    """The rows of all batches in order; batches of several policies join policy by policy.

    Raises:
        KeyError: a batch misses a column that the first one has.
    """
    if any(isinstance(sample, MultiAgentBatch) for sample in samples):
        by_policy: dict[str, list[SampleBatch]] = {}
        for sample in samples:
            for name, batch in sample.as_multi_agent().policy_batches.items():
                by_policy.setdefault(name, []).append(batch)
        return MultiAgentBatch({name: concat_samples(batches)
                                for name, batches in by_policy.items()},
                               sum(sample.count for sample in samples))
    parts = [sample for sample in samples if sample.count > 0]
    if not parts:
        return SampleBatch()
    columns: dict[str, Any] = {}
    for name in parts[0]:
        missing = next((part for part in parts if name not in part), None)
        if missing is not None:
            raise KeyError(f"cannot concatenate: a batch has no column {name!r}; it has "
                           f"{list(missing)}")
        values = [part[name] for part in parts]
        if name == SampleBatch.INFOS and any(isinstance(value, list) for value in values):
            columns[name] = [info for value in values for info in value]
        else:
            columns[name] = _join(values)
    return SampleBatch(columns, _time_major=parts[0].time_major)


def convert_ma_batch_to_sample_batch(batch: Any) -> SampleBatch:
    """The batch of the only policy.

    Raises:
        ValueError: there are several policies.
    """
    if isinstance(batch, MultiAgentBatch):
        if len(batch.policy_batches) != 1:
            raise ValueError("the batch must be of one policy, it has "
                             f"{sorted(batch.policy_batches)}")
        return next(iter(batch.policy_batches.values()))
    if not isinstance(batch, SampleBatch):
        raise TypeError(f"expected a SampleBatch or MultiAgentBatch, got {type(batch).__name__}")
    return batch


__all__ = [
    "DEFAULT_POLICY_ID", "MultiAgentBatch", "SampleBatch", "SampleBatchType",
    "attempt_count_timesteps", "concat_samples", "convert_ma_batch_to_sample_batch",
]
