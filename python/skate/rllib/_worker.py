"""RolloutWorker: steps real environments with the C policy and returns fragments.

The same class is the trainer's local worker (num_workers=0) and the body of a rollout actor. A
fragment is one numpy array of bytes (see src/rl/frag.h), filled in place while stepping, so that
it travels through the object store as one buffer.
"""

from __future__ import annotations

import os
import time
from typing import Any, NoReturn

from skate.rllib import _env, _multi, _native, _spaces, _vector
from skate.rllib._errors import EnvAnswerError, EnvError

SEED_STRIDE = 1_000_003


class RolloutWorker:
    """`num_envs` environments, a policy and a recorder."""

    def __init__(self, spec: dict[str, Any]) -> None:
        """`spec` is what WorkerSet.worker_spec() makes: plain data but for 'env'.

        The environments are made at the first call, so that what goes wrong there reaches the
        caller as its own exception and not as the death of an actor.
        """
        self._spec = spec
        self._index: int = spec["index"]
        self._envs: list[Any] = []
        self._native: _native.Lanes | None = None
        self._lanes: Any = None
        self.obs_space: dict[str, Any] = {}
        self.action_space: dict[str, Any] = {}
        self.agents: dict[str, Any] | None = None       # of a multi-agent environment
        self._flatten: Any = None
        self._policy: Any = None
        self._rollout: Any = None
        self._buffer: Any = None
        self._timing = [0.0, 0]

    def _open(self) -> None:
        """Make the environments, once."""
        if self._envs or self._native is not None:
            return
        from skate.tune.registry import _global_registry

        spec = self._spec
        _global_registry.install_entries(spec["registry"])
        os.environ.update({k: str(v) for k, v in spec["environ"].items()})
        self._native = _native.open_lanes(spec)
        envs = [] if self._native is not None else self._make_all()
        first: Any = envs[0] if envs else self._native
        if _multi.is_multi_agent(first):
            self.obs_space = self.action_space = {"kind": "multi_agent", "size": 0}
            self.agents = _multi.agent_spaces(first)
            self._envs = envs
            return
        self.obs_space = _spaces.describe(first.observation_space)
        self.action_space = _spaces.describe_actions(first.action_space)
        if not _spaces.is_plain(self.obs_space):
            self._flatten = _spaces.flattener(self.obs_space)
        self._envs = envs

    def _make_all(self) -> list[Any]:
        count = self._spec["num_envs"]
        first = self._make(0)
        if _vector.is_vector(first):
            return _vector.lanes(first, count)      # type: ignore[return-value]
        return [first, *(self._make(i) for i in range(1, count))]

    def set_tasks(self, function: Any, result: dict[str, Any]) -> None:
        """env_task_fn: the task of each environment that takes tasks, where it has changed."""
        self._open()
        spec = self._spec
        for i, env in enumerate(self._envs):
            while not hasattr(env, "set_task") and hasattr(env, "env"):
                env = env.env
            env = env if hasattr(env, "set_task") else getattr(env, "unwrapped", env)
            if not hasattr(env, "set_task"):
                raise EnvError(f"env_task_fn is given, but env {spec['env']!r} has no set_task() "
                               "(see TaskSettableEnv)")
            context = _env.EnvContext(spec["env_config"], self._index, i, spec["num_workers"])
            task = function(result, env, context)
            if not hasattr(env, "get_task") or env.get_task() != task:
                env.set_task(task)

    def _make(self, number: int, native: bool = True) -> Any:
        spec = self._spec
        stream = self._index * 4096 + spec["generation"]
        context = _env.EnvContext(spec["env_config"], self._index, number, spec["num_workers"],
                                  spec["num_envs"],
                                  (spec["seed"] * SEED_STRIDE + stream * 64) & 0x7FFFFFFF)
        return _env.make_env(spec["env"], context, spec["horizon"],
                             native and spec.get("native_env", "auto"), spec.get("pictures"))

    def describe(self) -> dict[str, Any]:
        """Spaces as plain data, and who this is."""
        self._open()
        return {"obs_space": self.obs_space, "action_space": self.action_space,
                "agents": self.agents, "pid": os.getpid(),
                "vector": bool(self._envs) and isinstance(self._envs[0], _vector.VectorLane)}

    def observation_space(self) -> tuple[Any, Any]:
        """The environment's own space objects."""
        self._open()
        env = self._envs[0] if self._envs else None
        if env is None or isinstance(env, _native.LaneEnv):
            env = self._make(0, native=False)
        return env.observation_space, env.action_space

    def _start(self) -> None:
        """Policy, recorder and first observations; on the first call of sample()."""
        import numpy as np

        from skate import _rl

        self._open()
        spec = self._spec
        policy = _rl.Policy(self.obs_space["size"], self.action_space["size"],
                            spec["hiddens"], spec["activation"], seed=spec["seed"])
        stream = self._index * 4096 + spec["generation"]
        policy.seed(spec["seed"] * SEED_STRIDE + stream)
        steps, cut, n = spec["steps"], spec["cut"], spec["num_envs"]
        self._rollout = _rl.Rollout(policy, steps, n, cut)
        size = _rl.frag_bytes(steps, n, self.obs_space["size"], self.action_space["size"])
        self._buffer = np.zeros(size, np.uint8)
        seeds = [(spec["seed"] * SEED_STRIDE + stream * 64 + i) & 0x7FFFFFFF for i in range(n)]
        if self._native is not None:
            self._lanes = _rl.RolloutEnv(self._rollout, self._native.engine)
        try:
            self._reset(seeds)
        except BaseException as error:
            self._raise(error)
        self._policy = policy

    def _reset(self, seeds: list[int] | None = None) -> None:
        """New episodes everywhere."""
        if self._lanes is not None:
            import numpy as np

            self._lanes.reset(None if seeds is None else np.array(seeds, np.uint64))
        for i, env in enumerate(self._envs):
            self._rollout.set_obs(i, self._row(_env.first_obs(env, seeds[i] if seeds else None)))

    def _row(self, obs: Any) -> Any:
        """An observation as the engine takes it."""
        if self._flatten is not None:
            return self._flatten(obs)
        import numpy as np

        row = np.asarray(obs)
        if row.dtype.char not in "fd" or not row.flags.c_contiguous:
            row = np.ascontiguousarray(row, np.float32)
        return row

    def sample(self, weights: Any, version: int) -> Any:
        """Act with `weights` for one fragment and return it as an array of bytes."""
        if self._policy is None:
            self._start()
        self._policy.set_weights(weights, version)
        started = time.perf_counter()
        self._rollout.begin(self._buffer, self._index)
        try:
            self._fill()
        except BaseException as error:
            try:
                self._raise(error)
            finally:
                self._rollout.reset()
                self._reset()
        self._rollout.finish()
        self._timing[0] += time.perf_counter() - started
        self._timing[1] += self._spec["steps"]
        return self._buffer

    def _raise(self, error: BaseException) -> NoReturn:
        """Raise `error`, under its own name if it is the environment's fault."""
        bad = self._rollout.bad()
        if bad is None and self._lanes is not None and isinstance(error, ValueError):
            raise EnvError(str(error)) from None
        if bad is None:
            raise error
        field, number, step, column, value = bad
        where = f" (number {column})" if field == "observation" else ""
        raise EnvAnswerError(
            f"{field}{where} of env {self._spec['env']!r}, environment {number} of worker "
            f"{self._index}, is {value:g} at step {step} of its episode: observations and rewards "
            "must be finite", field, number, step) from None

    def _fill(self) -> None:
        if self._lanes is not None:
            self._lanes.run()
        elif len(self._envs) == 1 and self._flatten is None:
            self._fill_one()
        else:
            self._fill_many()

    def _fill_one(self) -> None:
        """The common case without a spare call: one environment, plain observations."""
        rollout = self._rollout
        act, take, step = rollout.act, rollout.take, self._envs[0].step
        choices = _spaces.choices(self.action_space)
        for _ in range(self._spec["steps"]):
            answer = step(choices[act()])
            try:
                over = take(0, answer)
            except (TypeError, ValueError):
                over = self._record(0, answer)
            if over:
                self._first_step(0)

    def _fill_many(self) -> None:
        rollout, choices = self._rollout, _spaces.choices(self.action_space)
        act, take, restart = rollout.act, rollout.take, self._first_step
        steps = [(i, env.step) for i, env in enumerate(self._envs)]
        plain, many = self._flatten is None, len(steps) > 1
        for _ in range(self._spec["steps"]):
            actions = act() if many else (act(),)
            for (i, step), action in zip(steps, actions):
                answer = step(choices[action])
                try:
                    over = take(i, answer) if plain else self._record(i, answer)
                except (TypeError, ValueError):
                    over = self._record(i, answer)
                if over:
                    restart(i)

    def _record(self, number: int, answer: Any) -> bool:
        """An answer of any form; whether the episode is over."""
        obs, reward, terminated, truncated, _info = _env.five(answer)
        self._rollout.step(number, self._row(obs), reward, terminated, truncated)
        return bool(terminated or truncated)

    def _first_step(self, number: int) -> None:
        self._rollout.set_obs(number, self._row(_env.first_obs(self._envs[number])))

    def step_ms(self) -> float:
        """Mean milliseconds of one step of all environments, acting included."""
        seconds, steps = self._timing
        return 1000.0 * seconds / steps if steps else 0.0

    def stop(self) -> None:
        """Close the environments."""
        for env in self._envs:
            _env.close_env(env)
        self._envs = []
        self._lanes = self._native = None
