"""What a checkpoint keeps of a worker: its environments, episodes under way, random streams.

With it a run that is restored goes on exactly as the one that was saved. Environments in C are
saved by the engine; those in Python are pickled, and where that cannot be (or takes more than
BYTES_MAX) the worker starts new episodes instead.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

BYTES_MAX = 16 << 20
# What a Sampler's loop has besides its environments and its engine.
FIELDS = ("_obs", "_state", "_episode", "_steps", "_sums", "_episodes", "_kept", "_live",
          "_timing")


def keep(worker: Any) -> bytes:
    """The state of a Sampler; b"" if it cannot be kept."""
    try:
        block = pickle.dumps(_state_of(worker))
    except Exception:           # an environment that cannot be pickled: any exception there is
        return b""
    return block if len(block) <= BYTES_MAX else b""


def _state_of(worker: Any) -> dict[str, Any]:
    state: dict[str, Any] = {}
    if worker._rollout is not None:
        state["rollout"] = worker._rollout.state()
        if worker._lanes is not None:
            engine = worker._native.engine
            state["lanes"] = [engine.save(i) for i in range(worker._spec["num_envs"])]
    if worker._row_of is not None or worker._many is not None:
        state["loop"] = {name: getattr(worker, name) for name in FIELDS}
        if worker._explorer is not None:
            state["explorer"] = vars(worker._explorer)
        if worker._many is not None:
            state["many"] = worker._many.keep()
        elif not worker._shared and hasattr(worker._engine, "state"):
            state["engine"] = worker._engine.state()
    if state and worker._envs:
        state["envs"] = _dump([_kept_env(env) for env in worker._envs])
    return state


def _kept_env(env: Any) -> Any:
    """An environment as it is kept. ValueError: pickled, it would forget where it is (its class
    keeps its arguments only, as Gymnasium's EzPickle does: Atari, MuJoCo, Box2D)."""
    if hasattr(getattr(env, "unwrapped", env), "_ezpickle_args"):
        raise ValueError("the environment's pickle has no state")
    return ("lane", env._engine.save(0)) if type(env).__name__ == "LaneEnv" else ("own", env)


def _dump(value: Any) -> bytes:
    """By cloudpickle: environments are often classes of a script."""
    import cloudpickle

    out = io.BytesIO()
    cloudpickle.dump(value, out)
    return out.getvalue()


def go_on(worker: Any, block: bytes) -> None:
    """Have a Sampler go on where keep() was called. ValueError: of another worker."""
    try:
        state = pickle.loads(block)
    except Exception as error:
        raise ValueError(f"a worker's state cannot be read: {error}") from error
    if "rollout" in state:
        if worker._policy is None:
            worker._start()
        if ("lanes" in state) != (worker._lanes is not None):
            raise ValueError("a worker's state is of another kind of environment")
        for i, lane in enumerate(state.get("lanes", ())):
            worker._native.engine.load(i, lane)
        worker._rollout.reset()
        worker._rollout.set_state(state["rollout"])
    if "loop" in state:
        worker._begin()
        if worker._filter is not None:
            worker._filter.flush()      # what it noted of resets that never were
        for name, value in state["loop"].items():
            setattr(worker, name, value)
        worker._arrays = {}         # act() writes into the state that was there
        if worker._explorer is not None:
            vars(worker._explorer).update(state.get("explorer", {}))
        if worker._many is not None:
            worker._many.go_on(state["many"])
        if "engine" in state:
            worker._engine.set_state(state["engine"])
    if "envs" in state:
        _replace_envs(worker, state["envs"])


def keep_envs(envs: list[Any]) -> bytes:
    """Environments alone; b"" if they cannot be kept."""
    try:
        block = _dump([_kept_env(env) for env in envs]) if envs else b""
    except Exception:           # as in keep()
        return b""
    return block if len(block) <= BYTES_MAX else b""


def take_envs(envs: list[Any], block: bytes) -> list[Any]:
    """What keep_envs() gave, in the place of `envs`. ValueError: of another number of them."""
    from skate.rllib import _env

    kept = pickle.loads(block)
    if len(kept) != len(envs):
        raise ValueError(f"a worker's state is of {len(kept)} environments, it has {len(envs)}")
    taken = []
    for old, (kind, env) in zip(envs, kept):
        if kind == "lane":
            old._engine.load(0, env)
            taken.append(old)
        else:
            _env.close_env(old)
            taken.append(env)
    return taken


def _replace_envs(worker: Any, block: bytes) -> None:
    worker._envs = take_envs(worker._envs, block)
    if worker._monitors:
        worker._watch_games()
