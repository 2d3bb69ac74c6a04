"""Offline: learn from recorded steps; no environment is stepped unless input is "sampler".

BC and MARWIL want whole episodes (MARWIL's returns; where an episode was cut off, the critic's
value of what came next is added), CQL and IQL want transitions. One train_once() is
dataset_num_iters_per_learner updates of train_batch_size rows drawn at random, or one pass over
the data where that is None.
"""

from __future__ import annotations

import logging
from typing import Any

from skate.rllib import _config, _env, _metrics, _pictures, _spaces
from skate.rllib._errors import OfflineDataError
from skate.rllib._plans import EnginePlan, Step
from skate.rllib._plans._batch import Batch
from skate.rllib._sampler import concat

logger = logging.getLogger(__name__)

COLUMNS = {"BC": ("obs", "actions"), "MARWIL": ("obs", "actions", "rewards"),
           "CQL": ("obs", "actions", "rewards", "new_obs", "terminateds"),
           "IQL": ("obs", "actions", "rewards", "new_obs", "terminateds")}


class OfflinePlan(EnginePlan):
    """BC, MARWIL, CQL, IQL."""

    def __init__(self, spec: Any, config: dict[str, Any], seed: int) -> None:
        super().__init__(spec, config, seed)
        online = config["input"] == "sampler"
        self.needs_workers = online
        given = config["observation_space"] is not None and config["action_space"] is not None
        self.needs_env = online or config["env"] is not None or not given
        self._data: dict[str, Any] = {}     # columns of all rows there are
        self._rows = 0
        self._returns: tuple[Any, Any, Any] | None = None
        self._own: tuple[Any, Any] | None = None    # the spaces' own objects
        self._online: dict[str, Any] = {}   # all columns of input="sampler"

    def check(self) -> None:
        """The environment or the spaces, and whether the files are there."""
        super().check()
        given = self.config["input"]
        if isinstance(given, (str, list, tuple)) and given not in ("sampler", "dataset") and not (
                isinstance(given, str) and given.startswith("d4rl")):
            from skate.rllib.offline.json_reader import find_files

            find_files(list(given) if isinstance(given, tuple) else given,
                       (".parquet", ".json", ".jsonl", ".zip"))

    def describe(self, workers: Any) -> dict[str, Any]:
        """The spaces of the config, or of an environment that is made to be asked."""
        if workers is not None:
            return super().describe(workers)
        config = self.config
        own = (config["observation_space"], config["action_space"])
        if own[0] is None or own[1] is None:
            env = _env.make_env(config["env"], _env.EnvContext(config["env_config"]),
                                config["horizon"], pictures=_pictures.options(config))
            own = (env.observation_space, env.action_space)
            _env.close_env(env)
        self._own = own
        return {"obs_space": _spaces.describe(own[0]),
                "action_space": _spaces.describe_actions(own[1])}

    def spaces(self) -> tuple[Any, Any]:
        """The environment's own, or the config's."""
        return super().spaces() if self._own is None else self._own

    def build(self, about: dict[str, Any], workers: Any) -> None:
        """Engine and policy, and the data."""
        import numpy as np

        super().build(about, workers)
        from skate.rllib.offline import _source

        self._random = np.random.default_rng(self.seed)
        self._convert = _source.Converter(self.config, self.obs_space, self.action_space)
        self._wanted = COLUMNS[self.spec.name]
        self._stream: Any = None
        self._whole: Any = None
        self._estimated = 0
        if self.needs_workers:
            return
        self._whole = _source.load(self.config)
        if self._whole is None:
            self._stream = _source.open_stream(self.config, self.log_dir)
        else:
            self._take(self._whole)

    def _take(self, batch: Any) -> None:
        """Learn from this batch of recorded steps."""
        from skate.rllib.offline import _source

        if "terminateds" in self._wanted and "terminateds" not in batch:
            raise OfflineDataError(f"{self.spec.name} needs to know where episodes end",
                                   column="terminateds")
        wanted = self._wanted
        if self._weighs and "new_obs" in batch:
            wanted = (*wanted, "new_obs")
        self._data = self._convert.columns(batch, wanted, self.spec.name)
        self._rows = batch.count
        if self._weighs and self.config["postprocess_inputs"]:
            done, last = _source.ends_of(batch)
            self._returns = _source.returns_of(self._data["rewards"], done, last,
                                               self.config["gamma"])
        elif self._weighs:
            name = "value_targets" if "value_targets" in batch else "advantages"
            self._data["value_targets"] = self._convert.columns(batch, (name,), "MARWIL with "
                                                                "postprocess_inputs=False")[name]

    @property
    def _weighs(self) -> bool:
        return "beta" in self.config and self.config["beta"] > 0 and self.spec.name != "IQL"

    def train_once(self) -> Step:
        """Sample or read, then the updates."""
        episodes, sampled = _metrics.Episodes(), 0
        if self.needs_workers:
            sampled = self._sample(episodes)
        elif self._stream is not None:
            self._take(self._read())
        self.watch.lap("sample")
        self.schedules()
        size = self.config["train_batch_size"]
        times = self.config["dataset_num_iters_per_learner"]
        if times is None:
            times = 1 if self._stream is not None else -(-self._rows // size)
        stats: dict[str, Any] = {}
        for _ in range(times):
            stats = self.learn(self._draw(size))
            self.counters["trained"] += size
            if not self.needs_workers:
                sampled += size
        self.watch.lap("learn")
        self.counters["sampled"] += sampled
        return Step({_metrics.DEFAULT_POLICY: stats}, sampled, episodes)

    def _draw(self, size: int) -> Batch:
        """`size` rows at random (all of a stream's batch, if it has no more)."""
        import numpy as np

        if self._stream is not None and self._rows <= size:
            rows = np.arange(self._rows)
        else:
            rows = self._random.integers(0, self._rows, size)
        columns = {name: np.ascontiguousarray(self._data[name][rows]) for name in
                   (*self._wanted, *(["value_targets"] if "value_targets" in self._data else []))}
        if self._returns is not None:
            columns["value_targets"] = self._targets(rows)
        return Batch(columns, len(rows), 1)

    def _targets(self, rows: Any) -> Any:
        """Returns, with the critic's value beyond an episode that was cut off."""
        import numpy as np

        assert self._returns is not None
        total, tail, factor = (part[rows] for part in self._returns)
        cut = np.flatnonzero(tail >= 0)
        if len(cut) and "new_obs" in self._data:
            ends, which = np.unique(tail[cut], return_inverse=True)
            values = np.zeros(len(ends), np.float32)
            self.engine.act(len(ends), {
                "obs": np.ascontiguousarray(self._data["new_obs"][ends]),
                "actions": _spaces.action_rows(self.action_space, len(ends)), "vf": values},
                explore=False)
            total = total.copy()
            total[cut] += factor[cut] * values[which]
        return total.astype(np.float32)

    def _read(self) -> Any:
        """train_batch_size rows (or a little more) of the stream."""
        from skate.rllib.policy.sample_batch import concat_samples, convert_ma_batch_to_sample_batch

        parts, rows = [], 0
        while rows < self.config["train_batch_size"]:
            parts.append(convert_ma_batch_to_sample_batch(self._stream.next()))
            if parts[-1].count == 0:
                raise OfflineDataError(f"{type(self._stream).__name__}.next() gave an empty batch")
            rows += parts[-1].count
        self._whole = concat_samples(parts)
        return self._whole

    def _sample(self, episodes: _metrics.Episodes) -> int:
        """Steps of the workers' environments, into a buffer of the last replay_buffer_size."""
        from skate.rllib.policy.sample_batch import SampleBatch

        found = self.collect(_config.fragment_steps(self.config)[0])
        for _columns, ended in found:
            episodes.extend(ended)
        new = concat([columns for columns, _ended in found])
        kept = {name: array[-self.config["replay_buffer_size"]:]
                for name, array in self._online.items()}
        self._online = concat([kept, new]) if kept else new
        batch = SampleBatch(self._online)
        self._data = {name: self._online[name] for name in (*self._wanted, "new_obs")}
        self._rows = batch.count
        if self._weighs:
            from skate.rllib.offline import _source

            done, last = _source.ends_of(batch)
            self._returns = _source.returns_of(self._data["rewards"], done, last,
                                               self.config["gamma"])
        return len(new["rewards"])

    # ---- estimates --------------------------------------------------------------------------

    def off_policy(self) -> dict[str, Any]:
        """The estimates of input_evaluation and off_policy_estimation_methods, on the next
        episodes of the data."""
        from skate.rllib.offline import _estimates

        methods = _estimates.methods(self.config)
        if not methods or self._whole is None:
            return {}
        if "action_prob" not in self._whole:
            if not self._estimated:
                logger.warning("the data has no column 'action_prob': the policy's value is not "
                               "estimated from it (input_evaluation=[] is without this warning)")
            self._estimated += 1
            return {}
        batch, self._estimated = _estimates.next_episodes(
            self._whole, self._estimated, self.config["train_batch_size"])
        return _estimates.estimate(methods, self.policy, self.config, batch)

    def state_to_save(self) -> dict[str, Any]:
        """Where the draws are."""
        return {"random": self._random.bit_generator.state}

    def state_to_load(self, state: dict[str, Any]) -> None:
        """What state_to_save() gave."""
        self._random.bit_generator.state = state["random"]
