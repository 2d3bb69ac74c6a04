"""Off-policy: sample a round of fragments, store it, learn from draws of the buffer.

As RLlib does: one round is rollout_fragment_length steps of every environment. After
`learning_starts` steps a round is followed by one update of train_batch_size rows or, with
'training_intensity' (rows learned from for each row sampled), by as many as that says. Rounds are
repeated until an iteration has 'timesteps_per_iteration' steps.

Keys that are read (all but the first have a default): train_batch_size, buffer_size or
replay_buffer_config {capacity, type, ...}, learning_starts, n_step, training_intensity,
prioritized_replay (+ _alpha, _beta, final_ .. _beta, _beta_annealing_timesteps, _eps),
target_network_update_freq (where the spec says target_by_plan), store_buffer_in_checkpoints.
"""

from __future__ import annotations

import io
from typing import Any

from skate.rllib import _metrics
from skate.rllib._errors import CheckpointError
from skate.rllib._plans import EnginePlan, Step
from skate.rllib._plans._batch import Batch
from skate.rllib.utils.schedules import PiecewiseSchedule

REPLAY_FILE = "replay.bin"
DELAYS_FILE = "delays.npz"
STORED_MAX = 64 << 20       # bytes of a buffer that goes into a checkpoint if not told otherwise


class ReplayPlan(EnginePlan):
    """SimpleQ, DQN, DDPG, TD3, SAC and their kin."""

    def build(self, about: dict[str, Any], workers: Any) -> None:
        """Engine, buffer, and the arrays that draws are copied into."""
        super().build(about, workers)
        self.opts = replay_options(self.config)
        self._fragment = int(self.config["rollout_fragment_length"])
        self._delays: dict[int, NStep] = {}
        self._owed = 0.0
        self._last: dict[str, float] = {}
        self._replay: Any = None
        self._layout: dict[str, tuple[tuple[int, ...], Any]] = {}
        self.counters.update(target_updates=0, last_target=0, updates=0)

    # ---- storing ----------------------------------------------------------------------------

    def stored(self) -> tuple[str, ...]:
        """The columns that are kept of what the sampler gives."""
        names = ("obs", "new_obs", "actions", "rewards", "terminateds", *self.spec.columns)
        return (*names, "discounts") if self.opts["n_step"] > 1 else names

    def store(self, worker: int, columns: dict[str, Any], ragged: bool = False) -> None:
        """Put a fragment of a worker into the buffer, n steps long where n_step says so."""
        import numpy as np

        if self.opts["n_step"] > 1 and ragged:
            columns = cut_short(columns, self.opts["n_step"], self.config["gamma"])
        elif self.opts["n_step"] > 1:
            columns = self._delay(worker).feed(columns)
        rows = len(columns["rewards"])
        if rows == 0:
            return
        names = self.stored()
        if self.obs_space.get("dtype") == "uint8":
            columns = {**columns, "obs": columns["obs"].astype(np.uint8),
                       "new_obs": columns["new_obs"].astype(np.uint8)}
        if self._replay is None:
            self._open({name: columns[name] for name in names})
        self._replay.add({name: np.ascontiguousarray(columns[name]) for name in names}, rows)

    def _delay(self, worker: int) -> NStep:
        if worker not in self._delays:
            self._delays[worker] = NStep(self.opts["n_step"], self.config["gamma"],
                                         int(self.config["num_envs_per_worker"]))
        return self._delays[worker]

    def _open(self, columns: dict[str, Any]) -> None:
        from skate import _rl

        self._layout = {name: (array.shape[1:], array.dtype) for name, array in columns.items()}
        widths = [(name, array.nbytes // len(array)) for name, array in columns.items()]
        self._replay = _rl.Replay(self.opts["capacity"], widths, self.opts["alpha"], self.seed)
        self._arrays(int(self.config["train_batch_size"]))

    def _arrays(self, n: int) -> None:
        """What a batch of n rows is gathered into."""
        import numpy as np

        self._rows = np.zeros(n, np.uint32)
        self._batch = {name: np.zeros((n, *shape), dtype)
                       for name, (shape, dtype) in self._layout.items()}
        self._learned = {name: array.astype(np.float32) if array.dtype == np.uint8 else array
                         for name, array in self._batch.items()}
        if self.opts["alpha"] > 0:
            self._learned["weights"] = np.ones(n, np.float32)
            self._learned["td_errors"] = np.zeros(n, np.float32)

    # ---- learning ---------------------------------------------------------------------------

    def draw(self) -> Batch:
        """A batch out of the buffer; its arrays are used again by the next."""
        self._replay.draw(self._beta(), self._rows, self._learned.get("weights"))
        for name, array in self._batch.items():
            self._replay.gather(name, self._rows, array)
            if self._learned[name] is not array:
                self._learned[name][:] = array
        return Batch(self._learned, len(self._rows), 1)

    def _beta(self) -> float:
        return self.opts["beta"](self.counters["sampled"])

    def update(self) -> None:
        """One draw and one learn(); new priorities; the target nets when it is time."""
        self.update_target()
        batch = self.draw()
        self._last = self.learn(batch)
        if self.opts["alpha"] > 0:
            errors = batch.columns["td_errors"]
            self._replay.update(self._rows, abs(errors) + self.opts["eps"])
        self.counters["trained"] += batch.rows
        self.counters["updates"] += 1

    def update_target(self) -> None:
        """Have the next learn() move the target nets, every target_network_update_freq steps."""
        if not self.spec.target_by_plan:
            return
        now = self.counters["sampled"]
        if now - self.counters["last_target"] >= self.config["target_network_update_freq"]:
            self.engine.set("update_target", 1.0)
            self.counters["last_target"] = now
            self.counters["target_updates"] += 1

    def updates_due(self, rows: int) -> int:
        """Updates that follow a round of `rows` rows."""
        if self.counters["sampled"] < self.opts["learning_starts"] or self._replay is None:
            return 0
        intensity = self.opts["intensity"]
        if not intensity:
            return 1
        self._owed += rows * intensity / self.config["train_batch_size"]
        due = int(self._owed)
        self._owed -= due
        return due

    def train_once(self) -> Step:
        """One round and the updates that belong to it."""
        rows, episodes = 0, _metrics.Episodes()
        parts: list[tuple[int, dict[str, Any]]] = []
        for worker, (columns, ended) in enumerate(self.collect(self._fragment)):
            rows += len(columns["rewards"])
            parts.append((worker, columns))
            episodes.extend(ended)
        self.watch.lap("sample")
        last = self.absorb(parts, rows, self._fragment)
        self.watch.lap("learn")
        return Step({_metrics.DEFAULT_POLICY: last} if last else {}, rows, episodes)

    def absorb(self, parts: list[tuple[int, dict[str, Any]]], steps: int, fragment: int
               ) -> dict[str, Any]:
        """Store all, then the updates that are due."""
        rows = 0
        for worker, columns in parts:
            rows += len(columns["rewards"])
            self.store(worker, columns, ragged=fragment == 0)
        self.counters["sampled"] += steps
        due = self.updates_due(rows)
        if due:
            self.schedules()
        for _ in range(due):
            self.update()
        return dict(self._last)

    def steps_per_train(self) -> tuple[int, int]:
        """One round: (steps to ask of each environment at once, steps of all that follow)."""
        return self._fragment, 1

    def info(self) -> dict[str, Any]:
        """RLlib's counters of target updates, and what the buffer holds."""
        held = min(int(self._replay.added), self.opts["capacity"]) if self._replay else 0
        return {"num_target_updates": self.counters["target_updates"],
                "last_target_update_ts": self.counters["last_target"],
                "replay_size": held}

    # ---- checkpoints ------------------------------------------------------------------------

    def save(self) -> dict[str, bytes]:
        """The engine, and the buffer: always, never, or if it is small (the default)."""
        files = super().save()
        wanted = self.config.get("store_buffer_in_checkpoints")
        if self._replay is not None and wanted is not False:
            block = self._replay.state()
            if wanted or len(block) <= STORED_MAX:
                files[REPLAY_FILE] = block
        if self._delays:
            import numpy as np

            out = io.BytesIO()
            np.savez(out, **{f"{worker}/{name}": array for worker, one in self._delays.items()
                             for name, array in one.kept.items()})
            files[DELAYS_FILE] = out.getvalue()
        return files

    def state_to_save(self) -> dict[str, Any]:
        """The buffer's layout and what is owed."""
        return {"owed": self._owed, "layout": {
            name: [list(shape), str(dtype)] for name, (shape, dtype) in self._layout.items()}}

    def load(self, files: dict[str, bytes], state: dict[str, Any]) -> None:
        """What save() gave; without the buffer sampling starts it anew."""
        import numpy as np

        layout = state["plan_state"]["layout"]
        if REPLAY_FILE in files and layout:
            replay, before = self._replay, self._layout
            self._open({name: np.zeros((1, *shape), dtype)
                        for name, (shape, dtype) in layout.items()})
            try:
                self._replay.set_state(files[REPLAY_FILE])
            except ValueError as error:
                self._replay, self._layout = replay, before
                raise CheckpointError(f"its {REPLAY_FILE} is of another buffer: {error}") from None
        super().load(files, state)
        self._delays = {}
        if DELAYS_FILE in files:
            with np.load(io.BytesIO(files[DELAYS_FILE])) as kept:
                for key in kept.files:
                    worker, _, name = key.partition("/")
                    self._delay(int(worker)).kept[name] = kept[key]

    def state_to_load(self, state: dict[str, Any]) -> None:
        """What state_to_save() gave."""
        self._owed = float(state["owed"])


class NStep:
    """Rows of one worker with the returns of n steps, handed out n - 1 steps later."""

    def __init__(self, n: int, gamma: float, lanes: int) -> None:
        self._n, self._gamma, self._lanes = n, gamma, lanes
        self.kept: dict[str, Any] = {}      # the last n - 1 steps, [steps, lanes, ...]

    def feed(self, columns: dict[str, Any]) -> dict[str, Any]:
        """A fragment in; the rows out whose next n steps are known or end an episode."""
        import numpy as np

        from skate import _rl

        lanes = self._lanes
        steps = len(columns["rewards"]) // lanes
        # [lanes, steps, ...] -> [steps, lanes, ...]
        grid = {name: array.reshape(lanes, steps, *array.shape[1:]).swapaxes(0, 1)
                for name, array in columns.items()}
        kept = self.kept
        if kept and self._goes_on(kept, grid):
            grid = {name: np.concatenate([kept[name], array]) for name, array in grid.items()}
        total = len(grid["rewards"])
        rewards = np.ascontiguousarray(grid["rewards"])
        ends = ((grid["terminateds"] + grid["truncateds"]) > 0).astype(np.uint8)
        returns, discounts = np.zeros_like(rewards), np.zeros_like(rewards)
        last = np.zeros(rewards.shape, np.uint32)
        _rl.nstep(rewards, np.ascontiguousarray(ends), lanes, self._n, self._gamma, returns,
                  discounts, last)
        out = max(0, total - (self._n - 1))
        self.kept = {name: array[out:].copy() for name, array in grid.items()}
        lane = np.arange(lanes)[None, :]
        grid = {**grid, "rewards": returns, "discounts": discounts,
                **{name: grid[name][last, lane]
                   for name in ("new_obs", "terminateds", "truncateds")}}
        return {name: np.ascontiguousarray(array[:out].swapaxes(0, 1)).reshape(
            lanes * out, *array.shape[2:]) for name, array in grid.items()}

    @staticmethod
    def _goes_on(kept: dict[str, Any], grid: dict[str, Any]) -> bool:
        """Whether the fragment follows what was kept (a worker may have been replaced)."""
        over = (kept["terminateds"][-1] + kept["truncateds"][-1]) > 0
        same = kept["eps_id"][-1] == grid["eps_id"][0]
        return bool((over | same).all())


def cut_short(columns: dict[str, Any], n: int, gamma: float) -> dict[str, Any]:
    """n-step rows of trajectories one after the other: those at a cut have fewer steps."""
    import numpy as np

    from skate import _rl

    rewards = np.ascontiguousarray(columns["rewards"])
    ends = ((columns["terminateds"] + columns["truncateds"] + columns["cuts"]) > 0)
    returns, discounts = np.zeros_like(rewards), np.zeros_like(rewards)
    last = np.zeros(rewards.shape, np.uint32)
    _rl.nstep(rewards, ends.astype(np.uint8), 1, n, gamma, returns, discounts, last)
    return {**columns, "rewards": returns, "discounts": discounts,
            **{name: np.ascontiguousarray(columns[name][last])
               for name in ("new_obs", "terminateds", "truncateds")}}


def replay_options(config: dict[str, Any]) -> dict[str, Any]:
    """The buffer's and the updates' settings from either era's keys."""
    buffer = config.get("replay_buffer_config") or {}

    def value(key: str, default: Any, *old: str) -> Any:
        """From replay_buffer_config, else from the config under one of its names."""
        if buffer.get(key) is not None:
            return buffer[key]
        for name in (key, *old):
            if config.get(name) is not None and config.get(name) != -1:
                return config[name]
        return default

    kind = str(buffer.get("type", "")).rpartition(".")[2]
    prioritized = config.get("prioritized_replay")
    if prioritized is None or kind:
        prioritized = "Prioritized" in kind
    first = float(value("beta", 0.4, "prioritized_replay_beta"))
    final = float(value("final_prioritized_replay_beta", first))
    after = int(value("prioritized_replay_beta_annealing_timesteps", 20_000))
    return {
        "capacity": int(value("capacity", 50_000, "buffer_size")),
        "learning_starts": int(value("learning_starts", 0,
                                     "num_steps_sampled_before_learning_starts")),
        "n_step": int(value("n_step", 1)),
        "intensity": config.get("training_intensity"),
        "alpha": float(value("alpha", 0.6, "prioritized_replay_alpha")) if prioritized else 0.0,
        "beta": PiecewiseSchedule([(0, first), (max(1, after), final)]),
        "eps": float(value("eps", 1e-6, "prioritized_replay_eps")),
    }


__all__ = ["NStep", "ReplayPlan", "replay_options"]
