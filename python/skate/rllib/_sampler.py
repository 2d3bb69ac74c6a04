"""Sampler: steps environments with any algorithm of the C engine and returns columns.

All environments of the worker act in one call; what it says is written straight into the arrays
of the fragment. The rows of collect() are one environment after the other, each in order of time:

  obs, new_obs        f32 [rows, obs size], or uint8 where observations are bytes; new_obs of an
                      episode's last step is its last observation, not that of the reset
  actions             as the engine gave them (see _spaces.action_rows)
  rewards, terminateds, truncateds        f32 [rows]
  logp, vf, inputs    what act() said, if the spec asks for them
  cuts                f32 [rows], 1 at the fragment's end, unless an episode ends there
  eps_id              i64 [rows], different for each episode of all workers
  t                   i32 [rows], the step in its episode
  state_in            f32 [rows, state size] of a recurrent net, before the step
"""

from __future__ import annotations

import time
from typing import Any

from skate.rllib import _engine, _env, _keep, _metrics, _pictures, _spaces, _vector
from skate.rllib._callbacks import STEP_HOOKS, CallbackList, MetricsLogger
from skate.rllib._episode import AGENT, Episode
from skate.rllib._errors import EnvAnswerError
from skate.rllib._filter import MeanStdFilter, RunningStat, make_filter
from skate.rllib._multi import MultiPart
from skate.rllib._worker import SEED_STRIDE, RolloutWorker
from skate.rllib.utils.exploration import Exploration, make_exploration, needs_own_engine

EPISODES_MAX = 1 << 44      # eps_id = worker * EPISODES_MAX + generation * 2**32 + number


class Sampler(RolloutWorker):
    """A RolloutWorker that can do both: fragments of PPO's recorder, columns for the others."""

    def __init__(self, spec: dict[str, Any]) -> None:
        if spec["framework"] == "tf":
            from skate.rllib import _tf  # noqa: F401 (TensorFlow is quiet when a model brings it)
        super().__init__(spec)
        self._job: dict[str, Any] = {}
        self._engine: Any = None
        self._shared = False
        self._explorer: Exploration | None = None
        self._row_of: Any = None
        self._decode: Any = None
        self._obs: list[Any] = []           # the next observation of each environment, as a row
        self._state: Any = None
        self._episode: list[int] = []
        self._steps: list[int] = []
        self._sums: list[float] = []
        self._monitors: list[Any] = []      # of Atari: who counts whole games, else None
        self._clip: Any = None
        self._bytes = False                 # observations are bytes, and kept as such
        self._episodes = spec["generation"] << 32
        self._arrays: dict[str, Any] = {}
        self._acts: list[dict[str, Any]] = []
        self._ended = _metrics.Episodes()
        self._kept: list[dict[str, Any]] = []
        self._filter: MeanStdFilter | None = None
        self._hooks: CallbackList | None = None     # None: no hook of a step is overridden
        self._callbacks = CallbackList(None)
        self._logger = MetricsLogger()
        self._live: list[Episode] = []
        self._many: MultiPart | None = None         # the loop of a multi-agent environment

    # ---- what callbacks see of a worker ------------------------------------------------------

    @property
    def worker_index(self) -> int:
        """0: the trainer's own; workers count from 1."""
        return self._index

    @property
    def env(self) -> Any:
        """The first environment."""
        return self._envs[0] if self._envs else None

    def get_sub_environments(self) -> list[Any]:
        """All environments."""
        return list(self._envs)

    def foreach_env(self, function: Any) -> list[Any]:
        """The function's results for each environment."""
        self._begin()
        return [function(env) for env in self._envs]

    # ---- set-up -----------------------------------------------------------------------------

    def configure(self, job: dict[str, Any], engine: Any = None) -> None:
        """What _engine.job_of() made; a local worker shares the trainer's own engine."""
        self._many = None
        self._job = job
        if "exploration" in job and needs_own_engine(job["exploration"]):
            engine = None
        self._engine, self._shared = engine, engine is not None

    def shares(self, engine: Any) -> bool:
        """Whether this worker acts with that very object."""
        return self._engine is engine

    def keep(self) -> bytes:
        """For a checkpoint (see _keep)."""
        return _keep.keep(self)

    def go_on(self, block: bytes) -> None:
        """What keep() gave; b"" starts new episodes."""
        if block:
            _keep.go_on(self, block)

    def _begin(self) -> None:
        """Engine and first observations, on the first call of collect()."""
        if self._row_of is not None or self._many is not None:
            return
        self._open()
        job, spec = self._job, self._spec
        if not self._envs:
            self._envs = self._make_all()
        self._callbacks = CallbackList(job.get("callbacks"))
        self._hooks = self._callbacks if self._callbacks.has(*STEP_HOOKS) else None
        self._tell_of_envs()
        self._live = [Episode(0, i) for i in range(len(self._envs))]
        if self.agents is not None:
            self._many = MultiPart(self, job, self._engine if self._shared else None)
            return
        self._filter = make_filter(job.get("observation_filter"), self.obs_space["size"])
        stream = self._index * 4096 + spec["generation"]
        if not self._shared:
            seed = (spec["seed"] * SEED_STRIDE + stream) & 0x7FFFFFFFFFFFFFFF
            self._engine = _engine.make(job["engine"], job["options"], self.obs_space,
                                        self.action_space, seed)
        self._explorer = make_exploration(job["exploration"], self.action_space, self._index,
                                          spec["num_workers"], spec["seed"] * SEED_STRIDE + stream,
                                          job["normalize_actions"])
        self._decode = _spaces.decoder(self.action_space, job["normalize_actions"],
                                       job["clip_actions"])
        self._watch_games()
        n = len(self._envs)
        self._obs, self._episode = [None] * n, [0] * n
        self._steps, self._sums = [0] * n, [0.0] * n
        import numpy as np

        self._state = np.zeros((n, int(self._engine.state_size)), np.float32)
        flatten, filtered = _spaces.flattener(self.obs_space), self._filter
        learns = not job.get("evaluation")
        self._row_of = flatten if filtered is None else (
            lambda obs: filtered(flatten(obs), learns))
        for i in range(n):
            seed = (spec["seed"] * SEED_STRIDE + stream * 64 + i) & 0x7FFFFFFF
            self._restart(i, seed)

    def _watch_games(self) -> None:
        """Who counts the games of Atari; with them rewards are clipped unless told otherwise."""
        self._monitors = _pictures.monitors(self._envs)
        self._clip = self._job["clip_rewards"]
        if self._clip is None and any(self._monitors):
            self._clip = True

    def _tell_of_envs(self) -> None:
        spec = self._spec
        for i, env in enumerate(self._envs):
            context = _env.EnvContext(spec["env_config"], self._index, i, spec["num_workers"])
            self._callbacks.call("on_sub_environment_created", worker=self, sub_environment=env,
                                 env_context=context, env_index=i)
            self._callbacks.call("on_environment_created", env_runner=self, env=env,
                                 env_context=context, metrics_logger=self._logger)

    def _restart(self, i: int, seed: int | None = None) -> None:
        """Start an episode in environment i."""
        self._episode[i] = self._index * EPISODES_MAX + self._episodes
        self._episodes += 1
        self.new_episode(i, self._episode[i])
        obs = _env.first_obs(self._envs[i], seed)
        if seed is not None:                # the first of all
            self._bytes = (self._filter is None and self.obs_space.get("dtype") == "uint8"
                           and str(getattr(obs, "dtype", "")) == "uint8")
        self._obs[i] = self._row_of(obs)
        self._steps[i], self._sums[i] = 0, 0.0
        self._state[i] = 0.0
        if self._explorer is not None:
            self._explorer.on_episode_start(self._engine, i)
        if self._hooks is not None:
            self._live[i].begin(AGENT, obs)
            self.hook("on_episode_start", i)

    def new_episode(self, i: int, number: int) -> None:
        """What callbacks see of the episode that starts in environment i."""
        if self._hooks is not None:
            self._live[i] = Episode(number, i)
            self.hook("on_episode_created", i)

    def hook(self, hook: str, i: int) -> None:
        """Call a hook of environment i's episode."""
        if self._hooks is None:
            return
        env = self._envs[i]
        self._callbacks.call(hook, worker=self, base_env=self, policies={}, rl_module=None,
                             episode=self._live[i], env_index=i, env_runner=self, env=env,
                             metrics_logger=self._logger)

    def _told(self, i: int, action: Any, answer: Any) -> None:
        """The hooks of a step, and of the end of an episode."""
        obs, reward, terminated, truncated, info = answer
        episode = self._live[i]
        episode.step(AGENT, action, float(reward), obs, info)
        episode.length += 1
        episode.is_terminated, episode.is_truncated = bool(terminated), bool(truncated)
        episode.is_done = episode.is_terminated or episode.is_truncated
        self.hook("on_episode_step", i)
        if episode.is_done:
            self.hook("on_episode_end", i)
            self._ended.note(episode.custom_metrics, episode.hist_data)

    def _layout(self, steps: int) -> None:
        """Arrays [steps, environments, ...] and, for each step, what act() writes into."""
        import numpy as np

        n, size = len(self._envs), self.obs_space["size"]
        seen = np.uint8 if self._bytes else np.float32
        if self._arrays and len(self._arrays["rewards"]) == steps:
            return
        a: dict[str, Any] = {
            "obs": np.zeros((steps, n, size), seen),
            "new_obs": np.zeros((steps, n, size), seen),
            "actions": _spaces.action_rows(self.action_space, steps, n),
            "rewards": np.zeros((steps, n), np.float32),
            "ends": np.zeros((steps, n), np.uint8),
            "eps_id": np.zeros((steps, n), np.int64),
            "t": np.zeros((steps, n), np.int32),
        }
        for name in self._job["columns"]:
            a[name] = np.zeros((steps, n, int(self._engine.n_inputs)) if name == "inputs"
                               else (steps, n), np.float32)
        acts = ["obs", "actions", *self._job["columns"]]
        if self._state.shape[1]:
            a["state_in"] = np.zeros((steps, *self._state.shape), np.float32)
        self._arrays = a
        self._acts = [{name: a[name][t] for name in acts} for t in range(steps)]
        if self._bytes:
            now = np.zeros((n, size), np.float32)
            for columns in self._acts:
                columns["obs"] = now
        if self._state.shape[1]:
            for columns in self._acts:
                columns["state"] = self._state

    def collect(self, weights: Any, version: int, steps: int, timestep: int,
                explore: bool | None = None, known: RunningStat | None = None
                ) -> tuple[dict[str, Any], _metrics.Episodes]:
        """`steps` steps of each environment: (columns, the episodes that ended).

        `weights` None: those there are. `timestep` is the trainer's count of steps, for the
        schedules of exploration, `known` what the trainer's filter knows. With batch_mode
        'complete_episodes', the rows of whole episodes only, `steps` or more of them.
        """
        self._begin()
        if self._many is not None:
            return self._collect_many(weights, version, steps, timestep, explore)
        if weights is not None:
            self._engine.set_weights(weights, version)
            self._explorer.on_weights(self._engine, weights)    # type: ignore[union-attr]
        if known is not None and self._filter is not None:
            self._filter.sync(known)
        explore = self._job["explore"] if explore is None else explore
        started = time.perf_counter()
        self._layout(steps)
        self._ended = _metrics.Episodes()
        try:
            if self._job["batch_mode"] == "complete_episodes":
                columns = self._whole_episodes(steps, timestep, explore)
            else:
                columns = self._fragment(steps, timestep, explore)
        except BaseException:
            self._kept = []
            for i in range(len(self._envs)):
                self._restart(i)
            raise
        self._timing[0] += time.perf_counter() - started
        self._timing[1] += steps
        self._finished(columns)
        return columns, self._ended

    def gradient(self, weights: Any, version: int, steps: int, timestep: int, known: Any,
                 max_seq_len: int) -> tuple[Any, dict[str, Any], int, _metrics.Episodes]:
        """collect(), and the gradient of the loss on it by the worker's own engine: (the gradient,
        its statistics, rows, episodes that ended)."""
        import numpy as np

        from skate.rllib._plans._batch import floats, for_engine

        columns, ended = self.collect(weights, version, steps, timestep, None, known)
        whole = self._job["batch_mode"] == "complete_episodes"
        batch = for_engine(self._engine, columns, max_seq_len, 1 if whole else steps)
        flat = np.empty(self._engine.n_gradient, np.float32)
        stats = self._engine.gradient(batch.rows, batch.steps, floats(batch.columns), flat)
        return flat, stats, len(columns["rewards"]), ended

    def learn_together(self, told: dict[str, Any]) -> tuple[Any, ...]:
        """An iteration of this worker among others that learn (_plans/decentralised.py)."""
        from skate.rllib._plans.decentralised import learn_together

        self._begin()
        return learn_together(self, self._engine, told)

    def _collect_many(self, weights: Any, version: int, steps: int, timestep: int,
                      explore: bool | None) -> tuple[dict[str, Any], _metrics.Episodes]:
        """collect() of a multi-agent environment: {policy: columns}."""
        assert self._many is not None
        if weights is not None:
            self._many.set_weights(weights, version)
        started = time.perf_counter()
        columns, self._ended = self._many.collect(
            steps, timestep, self._job["explore"] if explore is None else explore)
        self._timing[0] += time.perf_counter() - started
        self._timing[1] += steps
        self._finished(columns)
        return columns, self._ended

    def _finished(self, columns: dict[str, Any]) -> None:
        """The hooks of a whole fragment; what is told besides the columns."""
        if self._callbacks.objects:
            told = {"worker": self, "env_runner": self, "metrics_logger": self._logger}
            self._callbacks.call("on_postprocess_trajectory", **told, episode=None, agent_id=AGENT,
                                 policy_id=_metrics.DEFAULT_POLICY, policies={},
                                 postprocessed_batch=columns, original_batches={})
            self._callbacks.call("on_sample_end", **told, samples=columns)
            self._ended.logged = self._logger.take()
        if self._filter is not None:
            self._ended.noted = self._filter.flush()

    def play(self, weights: Any, version: int, amount: int, unit: str, explore: bool,
             known: RunningStat | None = None) -> _metrics.Episodes:
        """For evaluation: `amount` whole episodes, or the episodes of `amount` steps, from fresh
        resets; observations do not change the filter."""
        fresh = self._row_of is None and self._many is None
        self._begin()
        if not fresh:
            for i in range(len(self._envs)):
                _pictures.new_game(self._envs[i])
                if self._many is None:
                    self._restart(i)
                else:
                    self._many.restart(i)
        played, steps = _metrics.Episodes(), 0
        while (len(played.rewards) if unit == "episodes" else steps) < amount:
            _columns, ended = self.collect(weights, version, 20, 0, explore, known)
            weights = None
            steps += 20 * len(self._envs)
            played.extend(ended)
        if unit == "episodes":
            played.keep(amount)
        played.noted = None
        return played

    def _fragment(self, steps: int, timestep: int, explore: bool) -> dict[str, Any]:
        import numpy as np

        a, envs, explorer = self._arrays, self._envs, self._explorer
        assert explorer is not None
        together = len(envs) * max(1, self._spec["num_workers"])
        together_in = envs if isinstance(envs[0], _vector.VectorLane) else None
        for t in range(steps):
            columns = self._acts[t]
            obs = columns["obs"]
            for i, row in enumerate(self._obs):
                obs[i] = row
            if self._bytes:
                a["obs"][t] = obs
            if "state_in" in a:
                a["state_in"][t] = self._state
            self._act(columns, explorer, explore, timestep + t * together)
            actions = columns["actions"]
            if together_in is not None:
                given = [self._decode(action) for action in actions]
                for i, answer in enumerate(_vector.step(together_in, given)):
                    self._note(t, i, given[i], answer)
                continue
            for i, env in enumerate(envs):
                action = self._decode(actions[i])
                self._note(t, i, action, _env.five(env.step(action)))
        a["ends"][-1] |= ((a["ends"][-1] == 0) * 4).astype(np.uint8)
        return self._finish()

    def _act(self, columns: dict[str, Any], explorer: Exploration, explore: bool,
             timestep: int) -> None:
        import numpy as np

        try:
            explorer.act(self._engine, len(self._envs), columns, explore, timestep)
        except ValueError as error:
            if np.isfinite(columns["obs"]).all():
                raise
            raise self._bad("observation", columns["obs"]) from error

    def _note(self, t: int, i: int, action: Any, answer: Any) -> None:
        """What environment i answered to the action of step t."""
        a = self._arrays
        obs, reward, terminated, truncated, _info = answer
        row = self._row_of(obs)
        a["new_obs"][t, i] = row
        a["rewards"][t, i] = reward
        a["eps_id"][t, i] = self._episode[i]
        a["t"][t, i] = self._steps[i]
        a["ends"][t, i] = 1 if terminated else 2 if truncated else 0
        self._steps[i] += 1
        self._sums[i] += float(reward)
        if self._hooks is not None:
            self._told(i, action, answer)
        if terminated or truncated:
            self._count(i)
            self._restart(i)
        else:
            self._obs[i] = row

    def _count(self, i: int) -> None:
        """The episode of environment i is over; of Atari, the games that are."""
        games = [(self._sums[i], self._steps[i])]
        if self._monitors[i] is not None:
            games = self._monitors[i].next_episode_results()
        for reward, length in games:
            self._ended.rewards.append(reward)
            self._ended.lengths.append(length)

    def _finish(self) -> dict[str, Any]:
        """The fragment's columns, one environment after the other (copies)."""
        import numpy as np

        a = self._arrays
        columns = {name: np.ascontiguousarray(array.swapaxes(0, 1)).reshape(
            array.shape[0] * array.shape[1], *array.shape[2:]) if array.shape[1] > 1
            else array[:, 0].copy() for name, array in a.items()}
        for field, name in (("reward", "rewards"), ("observation", "new_obs")):
            if not np.isfinite(columns[name]).all():
                raise self._bad(field, a[name].swapaxes(0, 1), a["t"])
        clip = self._clip
        if clip:
            np.clip(np.sign(columns["rewards"]) if clip is True else columns["rewards"],
                    -float(clip), float(clip), out=columns["rewards"])
        self._flags(columns)
        return columns

    def _bad(self, field: str, array: Any, t: Any = None) -> EnvAnswerError:
        """The error for the first number of [environments, ...] that is not finite."""
        import numpy as np

        where = np.argwhere(~np.isfinite(array))[0]
        number = int(where[0])
        step = self._steps[number] if t is None else int(t[where[1], number])
        return EnvAnswerError(
            f"{field} of env {self._spec['env']!r}, environment {number} of worker "
            f"{self._index}, is {array[tuple(where)]:g} at step {step} of its episode: "
            "observations and rewards must be finite", field, number, step)

    @staticmethod
    def _flags(columns: dict[str, Any]) -> None:
        import numpy as np

        ends = columns.pop("ends")
        for name, flag in (("terminateds", 1), ("truncateds", 2), ("cuts", 4)):
            columns[name] = (ends == flag).astype(np.float32)

    def _whole_episodes(self, steps: int, timestep: int, explore: bool) -> dict[str, Any]:
        """Fragments until there are `steps` rows of episodes that ended; what is left of the
        others waits for the next call."""
        import numpy as np

        n = len(self._envs)
        waiting: list[list[dict[str, Any]]] = [[] for _ in range(n)]
        if self._kept:
            waiting = [[kept] if len(kept["t"]) else [] for kept in self._kept]
        whole: list[dict[str, Any]] = []
        rows = 0
        while rows < steps:
            columns = self._fragment(steps, timestep + rows, explore)
            for i in range(n):
                waiting[i].append({k: v[i * steps:(i + 1) * steps] for k, v in columns.items()})
                joined = concat(waiting[i])
                last = np.nonzero(joined["terminateds"] + joined["truncateds"])[0]
                end = int(last[-1]) + 1 if len(last) else 0
                if end:
                    whole.append({k: v[:end] for k, v in joined.items()})
                    rows += end
                waiting[i] = [{k: v[end:] for k, v in joined.items()}]
        self._kept = [concat(parts) for parts in waiting]
        joined = concat(whole)
        joined["cuts"] = np.zeros(rows, np.float32)     # fragments ended within episodes
        return joined


def concat(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Columns one after the other."""
    import numpy as np

    if len(parts) == 1:
        return dict(parts[0])
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
