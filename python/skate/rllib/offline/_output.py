"""config["output"]: what a trainer's workers sampled, to a writer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from skate.rllib.offline.dataset_writer import DatasetWriter
from skate.rllib.offline.io_context import IOContext
from skate.rllib.offline.json_writer import JsonWriter
from skate.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch, concat_samples

LEAST_ROWS = 100    # of one write(): algorithms that sample step by step would write a line a step
# The sampler's names -> RLlib's.
NAMES = {"logp": "action_logp", "inputs": "action_dist_inputs", "vf": "vf_preds"}


def open_writer(config: dict[str, Any], log_dir: str | None) -> Any:
    """The writer of config["output"]: a folder, "logdir", "dataset" or a function of an IOContext.

    Raises:
        ValueError, TypeError: it is none of them.
    """
    given, context = config["output"], IOContext(log_dir, config)
    if given == "dataset":
        return DatasetWriter(context, config["output_compress_columns"])
    if isinstance(given, Callable):  # type: ignore[arg-type]
        writer = given(context)
        if not hasattr(writer, "write"):
            raise TypeError(f"the function in 'output' must give an OutputWriter, not {writer!r}")
        return writer
    if not isinstance(given, str):
        raise TypeError("output must be a folder, 'logdir', 'dataset' or a function of an "
                        f"IOContext, it is {given!r}")
    return JsonWriter(context.log_dir if given == "logdir" else given, context,
                      max_file_size=config["output_max_file_size"],
                      compress_columns=config["output_compress_columns"])


class Recorder:
    """Turns what workers return into SampleBatches and writes them."""

    def __init__(self, config: dict[str, Any], action_space: dict[str, Any] | None,
                 log_dir: str | None = None) -> None:
        self.writer = open_writer(config, log_dir)
        self._start = (action_space or {}).get("start", 0)
        self._unroll = 0
        self._waiting: list[Any] = []
        self._episodes: dict[tuple[int, int], tuple[int, int]] = {}
        self._next_episode = 0

    def columns(self, columns: dict[str, Any]) -> None:
        """Write the columns of one Sampler.collect(), or {policy: columns} of several."""
        if "rewards" in columns:
            self._waiting.append(self._batch(columns))
        elif columns:
            batches = {name: self._batch(part) for name, part in columns.items()}
            seen = {step for batch in batches.values()
                    for step in zip(batch["eps_id"].tolist(), batch["t"].tolist())}
            self._waiting.append(MultiAgentBatch(batches, len(seen)))
        self._unroll += 1
        if sum(batch.count for batch in self._waiting) >= LEAST_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            joined = self._waiting if len(self._waiting) == 1 else [concat_samples(self._waiting)]
            self._waiting = []
            self.writer.write(joined[0])

    def _batch(self, columns: dict[str, Any]) -> SampleBatch:
        rows = len(columns["rewards"])
        batch = {NAMES.get(name, name): value for name, value in columns.items()
                 if name not in ("cuts", "state_in")}
        batch["actions"] = batch["actions"] + self._start if self._start else batch["actions"]
        for name in ("terminateds", "truncateds"):
            batch[name] = np.asarray(batch[name]) != 0
        if "action_logp" in batch:
            batch["action_prob"] = np.exp(batch["action_logp"])
        batch["agent_index"] = np.zeros(rows, np.int64)
        batch["unroll_id"] = np.full(rows, self._unroll)
        return SampleBatch(batch)

    def fragment(self, array: Any) -> None:
        """Write one fragment of PPO's recorder (it keeps no observation after an episode's end,
        so that there is no "new_obs")."""
        from skate.rllib._fragment import Fragment

        fragment = Fragment(array)
        fields = fragment.fields
        for env in range(fragment.envs):
            ends = (fragment.terminated | fragment.truncated)[:, env]
            episode, t = self._episodes.get((fragment.worker, env), (-1, 0))
            ids, steps = np.zeros(fragment.steps, np.int64), np.zeros(fragment.steps, np.int64)
            for i in range(fragment.steps):
                if episode < 0:
                    episode, t = self._next_episode, 0
                    self._next_episode += 1
                ids[i], steps[i] = episode, t
                t += 1
                if ends[i]:
                    episode = -1
            self._episodes[fragment.worker, env] = (episode, t)
            self.columns({
                "obs": fields["obs"][:, env], "actions": fields["action"][:, env],
                "rewards": fields["reward"][:, env], "terminateds": fragment.terminated[:, env],
                "truncateds": fragment.truncated[:, env], "eps_id": ids, "t": steps,
                "logp": fields["logp"][:, env], "inputs": fields["inputs"][:, env],
                "vf": fields["value"][:, env]})

    def close(self) -> None:
        """Finish the files."""
        self._flush()
        if hasattr(self.writer, "close"):
            self.writer.close()
