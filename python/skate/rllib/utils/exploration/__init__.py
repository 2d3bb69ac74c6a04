"""Exploration: how a worker's actions differ from the best known ones, under RLlib's names.

config['exploration_config'] = {'type': name or class, keyword: value}. Most of it is done by the
engine's act(); a class says with which epsilon and noise to call it, or changes the actions after.
"""

from __future__ import annotations

import difflib
import math
from typing import Any

from skate.rllib.utils.schedules import LinearSchedule, PiecewiseSchedule, Schedule, schedule_of


class Exploration:
    """Base: act as the engine's own distribution says. One object a worker."""

    # True: needs an engine whose weights are not the trainer's own (it changes them).
    needs_own_engine = False

    def __init__(self, *, action_space: dict[str, Any], worker_index: int = 0,
                 num_workers: int = 0, seed: int = 0, normalized: bool = False,
                 random_timesteps: int = 0, framework: Any = None) -> None:
        import numpy as np

        self.action_space = action_space
        self.worker_index, self.num_workers = worker_index, num_workers
        self.random_timesteps = random_timesteps
        self._random = np.random.default_rng(seed & 0xFFFFFFFFFFFFFFFF)
        if action_space["kind"] == "box":
            low, high = (np.array(action_space[name], np.float32) for name in ("low", "high"))
            if normalized and np.isfinite(low).all() and np.isfinite(high).all():
                low, high = -np.ones_like(low), np.ones_like(high)
            self.low, self.high = low, high

    def act(self, engine: Any, n: int, columns: dict[str, Any], explore: bool,
            timestep: int) -> None:
        """Fill the arrays of `columns` ('actions', ...) for the n rows of columns['obs']."""
        engine.act(n, columns, explore=explore)
        self.after(n, columns, explore, timestep)

    def after(self, n: int, columns: dict[str, Any], explore: bool, timestep: int) -> None:
        """The first random_timesteps steps are random."""
        if explore and timestep < self.random_timesteps:
            columns["actions"][:] = self.random_actions(n)

    def random_actions(self, n: int) -> Any:
        """Uniform actions; normal ones where a box has no bounds."""
        import numpy as np

        space, draw = self.action_space, self._random
        if space["kind"] == "discrete":
            return draw.integers(0, space["size"], n).astype(np.int32)
        if space["kind"] == "multi":
            return draw.integers(0, space["sizes"], (n, space["size"])).astype(np.int32)
        inside = np.isfinite(self.low) & np.isfinite(self.high)
        low, high = np.where(inside, self.low, -1.0), np.where(inside, self.high, 1.0)
        drawn = draw.uniform(low, high, (n, space["size"]))
        return np.where(inside, drawn, draw.normal(size=drawn.shape)).astype(np.float32)

    def on_episode_start(self, engine: Any, i: int) -> None:
        """Environment i was reset."""

    def on_weights(self, engine: Any, weights: Any) -> None:
        """The worker's engine got weights from the trainer's."""

    def get_state(self) -> dict[str, float]:
        """Numbers to show."""
        return {}


class StochasticSampling(Exploration):
    """Draw from the policy's distribution."""


class Random(Exploration):
    """Uniform random actions while exploring."""

    def after(self, n: int, columns: dict[str, Any], explore: bool, timestep: int) -> None:
        """Replace them all."""
        if explore:
            columns["actions"][:] = self.random_actions(n)


class EpsilonGreedy(Exploration):
    """A random action with a probability that falls from initial_epsilon to final_epsilon in
    epsilon_timesteps steps, or follows epsilon_schedule."""

    def __init__(self, *, initial_epsilon: float = 1.0, final_epsilon: float = 0.05,
                 epsilon_timesteps: int = 100_000, warmup_timesteps: int = 0,
                 epsilon_schedule: Any = None, **common: Any) -> None:
        super().__init__(**common)
        self.epsilon_schedule: Schedule = (
            schedule_of(epsilon_schedule) if epsilon_schedule is not None else
            PiecewiseSchedule([(0, initial_epsilon), (warmup_timesteps, initial_epsilon),
                               (warmup_timesteps + max(1, epsilon_timesteps), final_epsilon)]))
        self.last_epsilon = self.epsilon_schedule(0)

    def act(self, engine: Any, n: int, columns: dict[str, Any], explore: bool,
            timestep: int) -> None:
        """By the engine."""
        self.last_epsilon = self.epsilon_schedule(timestep)
        engine.act(n, columns, explore=explore, epsilon=self.last_epsilon if explore else 0.0)
        self.after(n, columns, explore, timestep)

    def get_state(self) -> dict[str, float]:
        """{'cur_epsilon'}."""
        return {"cur_epsilon": self.last_epsilon}


def worker_share(worker_index: int, num_workers: int) -> float | None:
    """Ape-X's constant of each worker, 0.4 ** (1 + 7 i / (N - 1)); None in the trainer."""
    if worker_index <= 0 or num_workers <= 0:
        return None
    # RLlib counts its workers from 1 and divides by N - 1, so that the last exceeds 8
    exponent = 1.0 + worker_index / (num_workers - 1) * 7.0 if num_workers > 1 else 1.0
    return float(0.4 ** exponent)


class PerWorkerEpsilonGreedy(EpsilonGreedy):
    """A constant epsilon, another in each worker (Ape-X); without workers, EpsilonGreedy's."""

    def __init__(self, *, worker_index: int = 0, num_workers: int = 0, **common: Any) -> None:
        share = worker_share(worker_index, num_workers)
        if share is not None:
            common["epsilon_schedule"] = share
        super().__init__(worker_index=worker_index, num_workers=num_workers, **common)


class GaussianNoise(Exploration):
    """Normal noise of deviation stddev * scale added to the actions; random ones at first."""

    def __init__(self, *, random_timesteps: int = 1000, stddev: float = 0.1,
                 initial_scale: float = 1.0, final_scale: float = 0.02,
                 scale_timesteps: int = 10_000, scale_schedule: Any = None,
                 **common: Any) -> None:
        super().__init__(random_timesteps=random_timesteps, **common)
        self.stddev = stddev
        self.scale_schedule: Schedule = (
            schedule_of(scale_schedule) if scale_schedule is not None else
            LinearSchedule(max(1, scale_timesteps), final_scale, None, initial_scale))
        self.last_scale = self.scale_schedule(0)

    def _scale(self, timestep: int) -> float:
        self.last_scale = self.scale_schedule(max(0, timestep - self.random_timesteps))
        return self.last_scale

    def act(self, engine: Any, n: int, columns: dict[str, Any], explore: bool,
            timestep: int) -> None:
        """By the engine."""
        noise = self.stddev * self._scale(timestep) if explore else 0.0
        engine.act(n, columns, explore=explore, noise=noise)
        self.after(n, columns, explore, timestep)

    def get_state(self) -> dict[str, float]:
        """{'cur_scale'}."""
        return {"cur_scale": self.last_scale}


class PerWorkerGaussianNoise(GaussianNoise):
    """A constant scale, another in each worker (Ape-X for DDPG)."""

    def __init__(self, *, worker_index: int = 0, num_workers: int = 0, **common: Any) -> None:
        share = worker_share(worker_index, num_workers)
        if share is not None:
            common["scale_schedule"] = share
        super().__init__(worker_index=worker_index, num_workers=num_workers, **common)


class OrnsteinUhlenbeckNoise(GaussianNoise):
    """Noise that wanders: x += theta * (0 - x) + sigma * N(0, 1), times base scale and range."""

    def __init__(self, *, ou_theta: float = 0.15, ou_sigma: float = 0.2,
                 ou_base_scale: float = 0.1, **common: Any) -> None:
        super().__init__(**common)
        self.theta, self.sigma, self.base_scale = ou_theta, ou_sigma, ou_base_scale
        self._x: Any = None

    def act(self, engine: Any, n: int, columns: dict[str, Any], explore: bool,
            timestep: int) -> None:
        """The best actions, noise added here."""
        import numpy as np

        engine.act(n, columns, explore=False)
        if explore:
            actions = columns["actions"]
            if self._x is None or self._x.shape != actions.shape:
                self._x = np.zeros(actions.shape, np.float32)
            self._x += -self.theta * self._x + self.sigma * self._random.normal(
                size=actions.shape).astype(np.float32)
            span = np.where(np.isfinite(self.high - self.low), self.high - self.low, 1.0)
            actions += (self._scale(timestep) * self.base_scale * span).astype(
                np.float32) * self._x
            np.clip(actions, self.low, self.high, out=actions)
        self.after(n, columns, explore, timestep)

    def on_episode_start(self, engine: Any, i: int) -> None:
        """The walk of environment i starts anew."""
        if self._x is not None and i < len(self._x):
            self._x[i] = 0.0


class PerWorkerOrnsteinUhlenbeckNoise(OrnsteinUhlenbeckNoise):
    """A constant scale, another in each worker (APEX_DDPG)."""

    def __init__(self, *, worker_index: int = 0, num_workers: int = 0, **common: Any) -> None:
        share = worker_share(worker_index, num_workers)
        if share is not None:
            common["scale_schedule"] = share
        super().__init__(worker_index=worker_index, num_workers=num_workers, **common)


class SoftQ(Exploration):
    """Actions drawn by softmax(Q / temperature)."""

    def __init__(self, *, temperature: float = 1.0, **common: Any) -> None:
        super().__init__(**common)
        if common["action_space"]["kind"] != "discrete":
            raise ValueError("SoftQ explores Discrete actions only")
        if not temperature > 0:
            raise ValueError(f"temperature must be > 0, got {temperature!r}")
        self.temperature = temperature

    def act(self, engine: Any, n: int, columns: dict[str, Any], explore: bool,
            timestep: int) -> None:
        """Gumbel's trick over the engine's Q-values."""
        import numpy as np

        own = columns if "inputs" in columns else {
            **columns, "inputs": np.zeros((n, int(engine.n_inputs)), np.float32)}
        engine.act(n, own, explore=False)
        if explore:
            q = own["inputs"].reshape(n, self.action_space["size"], -1).mean(axis=2)
            noise = self._random.gumbel(size=q.shape)
            columns["actions"][:] = np.argmax(q / self.temperature + noise, axis=1)
        self.after(n, columns, explore, timestep)


class ParameterNoise(Exploration):
    """Normal noise on the weights that act, drawn anew at each episode's start; its deviation
    grows or shrinks by 1 % until the noisy policy is as far from the true one as epsilon-greedy
    with `epsilon` would be (Plappert et al. 2018). Discrete actions; random ones at first."""

    needs_own_engine = True

    def __init__(self, *, initial_stddev: float = 1.0, random_timesteps: int = 10_000,
                 sub_exploration: Any = None, epsilon: float = 0.05, **common: Any) -> None:
        super().__init__(random_timesteps=random_timesteps, **common)
        if common["action_space"]["kind"] != "discrete":
            raise ValueError("ParameterNoise explores Discrete actions only")
        if not initial_stddev > 0:
            raise ValueError(f"initial_stddev must be > 0, got {initial_stddev!r}")
        self.stddev = initial_stddev
        n = int(common["action_space"]["size"])
        self.delta = -math.log(1.0 - epsilon + epsilon / n)
        self._noise: Any = None
        self._true: Any = None

    def on_weights(self, engine: Any, weights: Any) -> None:
        """New weights from the trainer."""
        self._true = weights

    def on_episode_start(self, engine: Any, i: int) -> None:
        """Another draw."""
        self._noise = None

    def act(self, engine: Any, n: int, columns: dict[str, Any], explore: bool,
            timestep: int) -> None:
        """The best actions of the noisy weights."""
        import numpy as np

        if self._true is None:
            self._true = np.empty(engine.n_weights, np.float32)
            engine.get_weights(self._true)
        if explore:
            fresh = self._noise is None
            if fresh:
                self._noise = self._random.normal(size=self._true.shape).astype(np.float32)
            if fresh:
                self._adapt(engine, n, columns)
            engine.set_weights(self._true + np.float32(self.stddev) * self._noise)
        else:
            engine.set_weights(self._true)
        engine.act(n, columns, explore=False)
        self.after(n, columns, explore, timestep)

    def _adapt(self, engine: Any, n: int, columns: dict[str, Any]) -> None:
        """Compare the two policies where the worker is now."""
        import numpy as np

        said = []
        for weights in (self._true, self._true + np.float32(self.stddev) * self._noise):
            engine.set_weights(weights)
            own = {**columns, "inputs": np.zeros((n, int(engine.n_inputs)), np.float32)}
            engine.act(n, own, explore=False)
            q = own["inputs"].reshape(n, self.action_space["size"], -1).mean(axis=2)
            e = np.exp(q - q.max(axis=1, keepdims=True))
            said.append(e / e.sum(axis=1, keepdims=True))
        far = float((said[0] * np.log((said[0] + 1e-6) / (said[1] + 1e-6))).sum(axis=1).mean())
        self.stddev *= 1.01 if far <= self.delta else 1.0 / 1.01

    def get_state(self) -> dict[str, float]:
        """{'cur_stddev'}."""
        return {"cur_stddev": self.stddev}


def needs_own_engine(config: dict[str, Any]) -> bool:
    """Whether an exploration_config changes the weights that act."""
    kind = config.get("type")
    kind = TYPES.get(kind.rpartition(".")[2]) if isinstance(kind, str) else kind
    return bool(getattr(kind, "needs_own_engine", False))


def make_exploration(config: dict[str, Any], action_space: dict[str, Any], worker_index: int,
                     num_workers: int, seed: int, normalized: bool = False) -> Exploration:
    """The object that an exploration_config names. ValueError for an unknown type or keyword."""
    keywords = {key: value for key, value in config.items() if key != "type"}
    kind = config.get("type") or "StochasticSampling"
    if isinstance(kind, str):
        name = kind.rpartition(".")[2]
        if name not in TYPES:
            near = difflib.get_close_matches(name, TYPES, n=1)
            raise ValueError(f"there is no exploration {kind!r}"
                             + (f"; did you mean {near[0]!r}?" if near else "")
                             + f" There are: {', '.join(TYPES)}")
        kind = TYPES[name]
    try:
        return kind(action_space=action_space, worker_index=worker_index,   # type: ignore
                    num_workers=num_workers, seed=seed, normalized=normalized, **keywords)
    except TypeError as error:
        raise ValueError(f"exploration_config of {kind.__name__}: {error}") from error


TYPES: dict[str, type[Exploration]] = {cls.__name__: cls for cls in (
    EpsilonGreedy, PerWorkerEpsilonGreedy, GaussianNoise, PerWorkerGaussianNoise,
    OrnsteinUhlenbeckNoise, ParameterNoise, PerWorkerOrnsteinUhlenbeckNoise, Random, SoftQ,
    StochasticSampling)}
# The bandits' own ways are the engine's.
TYPES.update(UCB=StochasticSampling, ThompsonSampling=StochasticSampling)

__all__ = ["EpsilonGreedy", "Exploration", "GaussianNoise", "OrnsteinUhlenbeckNoise",
           "ParameterNoise", "PerWorkerEpsilonGreedy", "PerWorkerGaussianNoise",
           "PerWorkerOrnsteinUhlenbeckNoise", "Random", "SoftQ", "StochasticSampling",
           "make_exploration"]
