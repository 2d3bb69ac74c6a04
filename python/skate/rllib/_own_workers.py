"""Workers of the algorithms that sample for themselves: evolution, bandits, tree search.

Each is a RolloutWorker by its environments (made at the first call, in Python or in C) with a way
of its own to use them. What a worker answers depends on its arguments only, seeds included, never
on which worker it is: the same seed trains the same for any number of workers.
"""

from __future__ import annotations

import json
from typing import Any

from skate.rllib import _engine, _env, _multi, _native, _spaces
from skate.rllib._errors import EnvAnswerError
from skate.rllib._sampler import Sampler
from skate.rllib._worker import RolloutWorker


def flat_boards(space: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """An image's space as a row of numbers, where there are no convolutions for its size."""
    shape = space.get("shape") or []
    known = len(shape) == 3 and shape[0] == shape[1] and shape[0] in (84, 64, 42, 10)
    if space["kind"] != "box" or len(shape) != 3 or known or "conv_filters" in options:
        return space
    return {**space, "shape": [space["size"]]}


def unmasked(obs: Any) -> tuple[Any, Any]:
    """(observation, mask or None) of what an environment gives."""
    if isinstance(obs, dict) and "action_mask" in obs and "obs" in obs:
        return obs["obs"], obs["action_mask"]
    return obs, None


class OwnWorker(RolloutWorker):
    """A RolloutWorker with an engine of its own and one environment."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__({**spec, "num_envs": 1})
        self._job: dict[str, Any] = {}
        self._engine: Any = None
        self._one: Any = None       # a lane in C that nobody resets but us

    def configure(self, job: dict[str, Any], engine: Any = None) -> None:
        """What _engine.job_of() made. The trainer's own engine is never shared: its weights are
        changed here."""
        self._job = job

    def shares(self, engine: Any) -> bool:
        """Never."""
        return False

    def _ready(self) -> None:
        """Environment and engine, once."""
        if self._engine is not None:
            return
        self._open()
        self._one = _own_lane(self._spec)
        self._engine = _engine.make(
            self._job["engine"], self._job["options"],
            flat_boards(self.obs_space, self._job["options"]), self.action_space, 0)
        self._row_of = _spaces.flattener(self.obs_space)
        self._decode = _spaces.decoder(self.action_space, self._job["normalize_actions"],
                                       self._job["clip_actions"])

    def _obs_row(self, obs: Any) -> Any:
        """An observation as a row of the engine."""
        return self._row_of(obs)


def _own_lane(spec: dict[str, Any]) -> Any:
    """One lane in C of the worker's environment that never resets itself, or None."""
    from skate import _rl

    config, horizon = spec["env_config"], spec["horizon"]
    if spec.get("native_env", "auto") is False or not isinstance(spec["env"], str):
        return None
    name = _native._engine_name(spec["env"])
    if name is None or not _native._is_plain(config):
        return None
    text = json.dumps(config) if config else None
    try:
        lane = _rl.Env(name, 1, 0, text, -1, 2)
        info = lane.info()
        if info["action"]["kind"] == "box" and info["action"]["dtype"] != "float32":
            return None
        own = info["max_steps"]
        if horizon is not None and (own == 0 or horizon < own):
            lane = _rl.Env(name, 1, 0, text, horizon, 2)
    except ValueError:
        return None             # the environment in Python says what is wrong
    return lane


class EvolutionWorker(OwnWorker):
    """Plays perturbed policies (skate._rl.Evo)."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        self._evo: Any = None

    def rollouts(self, weights: Any, tasks: list[tuple[int, int, int, int]],
                 rules: dict[str, Any]) -> dict[str, Any]:
        """One row a task (position, seed +, seed -, seed of an evaluation or -1): both returns,
        sums of the rewards' signs and lengths, the counts of the observations, and the return and
        length of the evaluation (NaN, 0 without one)."""
        import numpy as np

        from skate import _rl

        self._ready()
        if self._evo is None:
            self._evo = _rl.Evo(self._engine, rules["noise_seed"])
        evo, n = self._evo, len(tasks)
        evo.weights(weights)
        out: dict[str, Any] = {
            "returns": np.zeros((n, 2), np.float32), "signs": np.zeros((n, 2), np.float32),
            "lengths": np.zeros((n, 2), np.int64), "evaluations": np.full((n, 2), np.nan),
            "counts": np.zeros((n, 1 + 2 * self.obs_space["size"]), np.float32)}
        for i, (position, plus, minus, evaluation) in enumerate(tasks):
            for k, seed in enumerate((plus, minus)):
                evo.start(position, rules["noise_stdev"] * (1 - 2 * k), seed)
                out["returns"][i, k], out["signs"][i, k], out["lengths"][i, k] = self._play(
                    seed, rules, rules["action_noise_std"])
            evo.counts(out["counts"][i])
            if evaluation >= 0:
                evo.start(0, 0.0, evaluation)
                total, _signs, length = self._play(evaluation, {**rules, "offset": 0.0}, 0.0)
                out["evaluations"][i] = total, length
                evo.counts(np.empty_like(out["counts"][i]))     # not part of the step
        return out

    def _play(self, seed: int, rules: dict[str, Any], noise: float) -> tuple[float, float, int]:
        """(return, signs, length) of one episode with the weights of the last start()."""
        explore = self._job["explore"]
        if self._one is not None:
            played: tuple[float, float, int] = self._evo.play(
                self._one, seed, 0, rules["offset"], explore, noise,
                self._job["normalize_actions"])
            return played
        env, offset = self._envs[0], abs(rules["offset"])
        action = _spaces.action_rows(self.action_space, 1)
        chosen = action[0] if action.ndim > 1 else action
        obs = _env.first_obs(env, seed & 0x7FFFFFFF)
        total = signs = 0.0
        length, done = 0, False
        while not done:
            try:
                self._evo.act(self._obs_row(obs), chosen, explore, noise)
            except ValueError as error:
                raise EnvAnswerError(f"acting on an observation ('obs') failed: {error}") from error
            obs, reward, terminated, truncated, _info = _env.five(
                env.step(self._decode(action[0])))
            reward = float(reward) - offset
            if not -1e300 < reward < 1e300:
                raise EnvAnswerError("the environment gave a reward that is not finite: "
                                   f"{reward}")
            total += reward
            signs += (reward > 0) - (reward < 0)
            length += 1
            done = bool(terminated or truncated)
        return total, signs, length


class _Regrets:
    """An environment that adds up what its info calls 'regret'."""

    def __init__(self, env: Any) -> None:
        self.env = env
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self.total: float | None = None

    def reset(self, **kwargs: Any) -> Any:
        """The environment's."""
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> Any:
        """The environment's; notes the regret."""
        answer = self.env.step(action)
        info = answer[-1]
        if isinstance(info, dict) and "regret" in info:
            self.total = (self.total or 0.0) + float(info["regret"])
        return answer

    def close(self) -> None:
        """Close the environment inside."""
        _env.close_env(self.env)


class BanditWorker(Sampler):
    """A Sampler over Python's environments that knows their regret."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__({**spec, "native_env": False})

    def _make(self, number: int, native: bool = False) -> Any:
        made = super()._make(number, native)
        return made if _multi.is_multi_agent(made) else _Regrets(made)

    def regret(self) -> float | None:
        """The sum of 'regret' in all infos so far, None if there was none."""
        known = [env.total for env in self._envs if env.total is not None]
        return sum(known) if known else None
