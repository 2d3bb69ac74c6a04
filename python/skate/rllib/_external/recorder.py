"""Recorder: episodes that others drive, step by step, become the columns that plans learn from.

An episode is a row that waits for what follows it (the reward, the next observation) and the rows
that are complete. Threads of any number drive episodes of their own; one lock is around it all. At
most as many complete rows wait as the trainer takes at once: who has more waits until it took them.
So what is learned from was done with the weights of this update or of the one before.
"""

from __future__ import annotations

import collections
import threading
import uuid
from dataclasses import dataclass, field
from typing import Any

from skate.rllib import _engine, _metrics, _spaces
from skate.rllib.utils.exploration import make_exploration

OPEN_EPISODES_MAX = 65536
WAIT_S = 0.5                    # how long a wait lasts before it looks for an end of all


class ExternalClosedError(RuntimeError):
    """The trainer that episodes are recorded for has stopped."""


@dataclass
class Episode:
    """`waiting` is the row of the last action; `rows` are complete ones, in order of time."""

    number: int
    training: bool
    state: Any
    waiting: dict[str, Any] | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    steps: int = 0
    total: float = 0.0


class Recorder:
    """Acts with an engine of its own for episodes that are named by strings."""

    def __init__(self, job: dict[str, Any], obs_space: dict[str, Any],
                 action_space: dict[str, Any], seed: int, room: int = 1) -> None:
        self.job = job
        self.obs_space, self.action_space = obs_space, action_space
        self._engine = _engine.make(job["engine"], job["options"], obs_space, action_space, seed)
        self._explorer = make_exploration(job["exploration"], action_space, 0, 0, seed,
                                          job["normalize_actions"])
        self._flatten = _spaces.flattener(obs_space)
        self._decode = _spaces.decoder(action_space, job["normalize_actions"],
                                       job["clip_actions"])
        self._changed = threading.Condition()
        self._open: dict[str, Episode] = {}
        self._done: collections.deque[list[dict[str, Any]]] = collections.deque()
        self._count, self._room = 0, room
        self._ended = _metrics.Episodes()
        self._numbers = 0
        self._closed = False
        self.timestep = 0
        self.error: BaseException | None = None

    # ---- who drives episodes ----------------------------------------------------------------

    def start_episode(self, episode_id: str | None = None, training_enabled: bool = True) -> str:
        """A new episode; its name, made up if none is given. ValueError: it is there already."""
        import numpy as np

        with self._changed:
            self._check()
            name = uuid.uuid4().hex if episode_id is None else str(episode_id)
            if name in self._open:
                raise ValueError(f"episode {name!r} has been started already")
            if len(self._open) >= OPEN_EPISODES_MAX:
                raise ValueError(f"{OPEN_EPISODES_MAX} episodes are open: end some first")
            state = np.zeros((1, int(self._engine.state_size)), np.float32)
            self._open[name] = Episode(self._numbers, bool(training_enabled), state)
            self._numbers += 1
            return name

    def get_action(self, episode_id: str, observation: Any) -> Any:
        """The action for the next observation, as the environment takes it."""
        return self.get_flat_action(episode_id, self._flatten(observation))

    def get_flat_action(self, episode_id: str, row: Any) -> Any:
        """The same for an observation that is a row of float32 already."""
        with self._changed:
            return self._decode(self._act(self._episode(episode_id), row)[0])

    def log_action(self, episode_id: str, observation: Any, action: Any,
                   flat: bool = False) -> None:
        """What was done instead of asking: `action` as the environment took it."""
        encoded = _encode(action, self.action_space)
        row = observation if flat else self._flatten(observation)
        with self._changed:
            self._act(self._episode(episode_id), row, encoded)

    def log_returns(self, episode_id: str, reward: float) -> None:
        """A reward for the last action; several add up. ValueError: not finite."""
        import math

        reward = float(reward)
        if not math.isfinite(reward):
            raise ValueError(f"a reward must be a finite number, got {reward}")
        with self._changed:
            episode = self._episode(episode_id)
            episode.total += reward
            if episode.waiting is not None:
                episode.waiting["rewards"] += reward

    def end_episode(self, episode_id: str, observation: Any, flat: bool = False) -> None:
        """The episode is over, with its last observation."""
        row = _finite(observation if flat else self._flatten(observation))
        with self._changed:
            episode = self._episode(episode_id)
            self._complete(episode, row, True)
            del self._open[episode_id]
            self._ended.rewards.append(episode.total)
            self._ended.lengths.append(episode.steps)
            if episode.rows:
                self._done.append(episode.rows)
            self._changed.notify_all()

    def feed(self, chunks: list[list[dict[str, Any]]], rewards: list[float],
             lengths: list[int]) -> None:
        """Rows that another recorder made (take())."""
        with self._changed:
            self._check()
            self._wait_for_room()
            self._done.extend(chunks)
            self._count += sum(len(rows) for rows in chunks)
            self._ended.rewards += rewards
            self._ended.lengths += lengths
            self._changed.notify_all()

    def _episode(self, name: str) -> Episode:
        self._check()
        if name not in self._open:
            raise ValueError(f"there is no open episode {name!r}: call start_episode() first")
        return self._open[name]

    def _check(self) -> None:
        if self._closed:
            raise ExternalClosedError("the trainer has stopped")

    @property
    def count(self) -> int:
        """Complete rows that wait."""
        return self._count

    def check_columns(self, columns: dict[str, Any], rows: int) -> None:
        """Raise ValueError unless these are `rows` rows that take() could have made here."""
        import numpy as np

        wanted = {"obs": self.obs_space["size"], "new_obs": self.obs_space["size"],
                  "rewards": None, "terminateds": None, "truncateds": None, "cuts": None,
                  "t": None, "eps_id": None, **{name: None for name in self.job["columns"]}}
        if "inputs" in wanted:
            wanted["inputs"] = int(self._engine.n_inputs)
        if int(self._engine.state_size):
            wanted["state_in"] = int(self._engine.state_size)
        actions = _spaces.action_rows(self.action_space, rows)
        if set(columns) != {*wanted, "actions"}:
            raise ValueError(f"columns {sorted(columns)}, not {sorted({*wanted, 'actions'})}")
        for name, width in wanted.items():
            shape = (rows,) if width is None else (rows, width)
            if columns[name].shape != shape or not np.isfinite(columns[name]).all():
                raise ValueError(f"column {name!r} must be finite numbers {shape}, it is "
                                 f"{columns[name].shape}")
        given = columns["actions"]
        if given.shape != actions.shape or given.dtype != actions.dtype:
            raise ValueError(f"column 'actions' is {given.dtype} {given.shape}, not "
                             f"{actions.dtype} {actions.shape}")
        if self.action_space["kind"] == "discrete" and rows and not (
                (given >= 0) & (given < self.action_space["size"])).all():
            raise ValueError("column 'actions' has numbers outside of its space")

    def _wait_for_room(self) -> None:
        while self._count >= self._room:
            self._changed.wait(WAIT_S)
            self._check()

    def _act(self, episode: Episode, row: Any, action: Any = None) -> Any:
        """Complete the row before, and begin the next; the action's row."""
        import numpy as np

        _finite(row)
        self._wait_for_room()
        self._complete(episode, row, False)
        columns: dict[str, Any] = {
            "obs": row.reshape(1, -1), "actions": _spaces.action_rows(self.action_space, 1)}
        for name in self.job["columns"]:
            columns[name] = np.zeros((1, int(self._engine.n_inputs)) if name == "inputs" else 1,
                                     np.float32)
        waiting: dict[str, Any] = {}
        if episode.state.shape[1]:
            waiting["state_in"] = episode.state[0].copy()
            columns["state"] = episode.state
        self._explorer.act(self._engine, 1, columns, bool(self.job["explore"]), self.timestep)
        columns.pop("state", None)
        if action is not None:
            columns["actions"][0] = action
            if "logp" in columns:
                columns["logp"][0] = 0.0        # nobody knows how likely it was
        waiting.update({name: array[0].copy() for name, array in columns.items()})
        waiting.update(rewards=0.0, t=episode.steps, eps_id=episode.number)
        episode.waiting = waiting
        episode.steps += 1
        return columns["actions"]

    def _complete(self, episode: Episode, new_obs: Any, over: bool) -> None:
        row, episode.waiting = episode.waiting, None
        if row is None or not episode.training:
            return
        row["new_obs"] = new_obs
        row["terminateds"], row["truncateds"], row["cuts"] = float(over), 0.0, 0.0
        episode.rows.append(row)
        self._count += 1
        self._changed.notify_all()

    # ---- the trainer ------------------------------------------------------------------------

    def set_weights(self, flat: Any, version: int) -> None:
        """Act with these from now on."""
        with self._changed:
            self._engine.set_weights(flat, version)

    def take(self, rows: int, wait: bool = True) -> tuple[list[list[dict[str, Any]]], Any]:
        """(`rows` complete rows or, without `wait`, at most so many; the episodes that ended).

        Each list is of one episode in order of time, its last row cut off where the episode goes
        on. Raises what broke the side that drives."""
        with self._changed:
            if wait and rows != self._room:
                self._room = rows
                self._changed.notify_all()
            while wait and self._count < rows:
                if self.error is not None:
                    raise self.error
                self._check()
                self._changed.wait(WAIT_S)
            taken: list[list[dict[str, Any]]] = []
            left = min(rows, self._count)
            while left and self._done:
                first = self._done[0]
                taken.append(first[:left])
                del first[:left]
                if not first:
                    self._done.popleft()
                left -= len(taken[-1])
            for episode in self._open.values():
                if left and episode.rows:
                    taken.append(episode.rows[:left])
                    del episode.rows[:left]
                    left -= len(taken[-1])
            for part in taken:
                last = part[-1]
                if not last["terminateds"] and not last["truncateds"]:
                    last["cuts"] = 1.0
            self._count -= sum(len(part) for part in taken)
            ended, self._ended = self._ended, _metrics.Episodes()
            self._changed.notify_all()
        return taken, ended

    def fail(self, error: BaseException) -> None:
        """The side that drives has broken: take() raises this."""
        with self._changed:
            self.error = error
            self._changed.notify_all()

    def close(self) -> None:
        """Everybody who calls or waits gets ExternalClosedError."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _finite(row: Any) -> Any:
    import numpy as np

    if not np.isfinite(row).all():
        raise ValueError("an observation must be finite numbers")
    return row


def stacked(parts: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Rows as columns, with the names and dtypes of the Sampler's."""
    import numpy as np

    rows = [row for part in parts for row in part]
    types = {"t": np.int32, "eps_id": np.int64}
    made: dict[str, Any] = {}
    for name in rows[0]:
        array = np.array([row[name] for row in rows])
        made[name] = np.ascontiguousarray(
            array, types.get(name, array.dtype if name == "actions" else np.float32))
    return made


def _encode(action: Any, space: dict[str, Any]) -> Any:
    """An environment's action as the engine has it. Boxes are taken in the engine's units."""
    import numpy as np

    if space["kind"] == "discrete":
        number = int(action) - space["start"]
        if not 0 <= number < space["size"]:
            raise ValueError(f"action {action!r} is outside of its space")
        return number
    row = np.asarray(action).reshape(-1)
    if row.size != space["size"]:
        raise ValueError(f"an action of {row.size} numbers, its space has {space['size']}")
    return row - np.array(space["starts"]) if space["kind"] == "multi" else row
