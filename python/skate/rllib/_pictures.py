"""Atari environments: their names, and what a worker does to their observations.

ale-py's environments are known to Gymnasium once it has been told of them, which is done here when
one is first named. Pictures that nobody has changed are then made ready for a net, as the config
says (1.8's names):

  preprocessor_pref "deepmind" (the default)      env.wrappers.atari_wrappers.wrap_deepmind:
      model["dim"], model["framestack"] or model["num_framestacks"]; rewards by their sign unless
      clip_rewards says otherwise; episodes are reported as whole games with their own rewards
  preprocessor_pref "rllib"      the field of play, [dim][dim][3], or [1] with model["grayscale"];
      from -1 to 1 with model["zero_mean"], else from 0 to 1
  preprocessor_pref None         nothing

The 128 bytes of a game's memory (obs_type="ram") become numbers from -1 to 1, unless it is None.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from skate.rllib._errors import EnvError

NAMED = re.compile(r"(ale_py:)?(ALE/.+|[A-Z]\w*(-ram)?(NoFrameskip|Deterministic)-v\d+"
                   r"|[A-Z]\w*-ram-v\d+)")
MAY_BE = re.compile(r"[A-Z]\w*-v[04]")
SCREENS = ((210, 160, 3), (250, 160, 3), (230, 160, 3), (210, 160), (250, 160), (230, 160))
KEYS = ("dim", "framestack", "num_framestacks", "grayscale", "zero_mean")


def register(name: str) -> None:
    """Tell Gymnasium of ale-py's environments, if `name` is or may be one of them. EnvError: it is
    one, and ale-py is not installed."""
    import gymnasium

    named = NAMED.fullmatch(name) is not None
    if name in gymnasium.registry or not (named or MAY_BE.fullmatch(name)):
        return
    try:
        import ale_py
    except ImportError:
        if named:
            raise EnvError(f"env {name!r} is an Atari game: pip install 'gymnasium[atari]' "
                           "(ale-py is not installed)") from None
        return
    if "ALE/Pong-v5" not in gymnasium.registry:
        gymnasium.register_envs(ale_py)


def options(config: dict[str, Any]) -> dict[str, Any]:
    """What prepare() needs to know of a config; plain data."""
    return {"pref": config["preprocessor_pref"], **{key: config["model"][key] for key in KEYS}}


def check(config: dict[str, Any]) -> None:
    """ValueError for sizes that cannot be."""
    dim, count = config["model"]["dim"], config["model"]["num_framestacks"]
    if isinstance(dim, bool) or not isinstance(dim, int) or not 1 <= dim <= 4096:
        raise ValueError(f"dim must be an integer of 1 .. 4096 (in 'model'), got {dim!r}")
    if count != "auto" and (isinstance(count, bool) or not isinstance(count, int) or count < 0):
        raise ValueError("num_framestacks must be 'auto' or an integer >= 0 (in 'model'), got "
                         f"{count!r}")


def prepare(env: Any, opts: dict[str, Any] | None) -> Any:
    """The environment as the net sees it; the same object if it is no Atari environment, or if
    somebody has changed its observations."""
    if not opts or opts["pref"] is None or not hasattr(getattr(env, "unwrapped", None), "ale"):
        return env
    shape = getattr(env.observation_space, "shape", None)
    if env.observation_space != env.unwrapped.observation_space or (
            shape != (128,) and shape not in SCREENS):
        return env
    from skate.rllib.env.wrappers import atari_wrappers

    env = atari_wrappers.as_gymnasium(env)
    if shape == (128,):
        return _centred(env)
    if opts["pref"] == "rllib":
        return _field(env, opts)
    count = opts["num_framestacks"]
    return atari_wrappers.wrap_deepmind(
        env, opts["dim"], bool(opts["framestack"]) if count == "auto" else count)


def monitors(envs: Iterable[Any]) -> list[Any]:
    """The MonitorEnv of each environment that prepare() has made ready, else None."""
    return [_inside(env, "next_episode_results") for env in envs]


def new_game(env: Any) -> None:
    """Have the next reset() start a new game, not the next life."""
    found = _inside(env, "was_real_done")
    if found is not None:
        found.was_real_done = True


def _inside(env: Any, name: str) -> Any:
    while env is not None and not hasattr(type(env), name):
        fields = getattr(env, "__dict__", {})
        if name in fields:
            break
        env = fields.get("env")
    return env


def _centred(env: Any) -> Any:
    import gymnasium
    import numpy as np

    return gymnasium.wrappers.TransformObservation(
        env, lambda obs: (np.asarray(obs, np.float32) - 128.0) / 128.0,
        gymnasium.spaces.Box(-1.0, 1.0, (128,), np.float32))


def _field(env: Any, opts: dict[str, Any]) -> Any:
    """RLlib's own way: without the score above and what is below, in numbers."""
    import gymnasium
    import numpy as np

    from skate.rllib.env.wrappers.atari_wrappers import (
        NormalizedImageEnv,
        ScaledFloatFrame,
        WarpFrame,
    )

    high, *rest = env.observation_space.shape
    env = gymnasium.wrappers.TransformObservation(
        env, lambda obs: obs[25:-25],
        gymnasium.spaces.Box(0, 255, (high - 50, *rest), np.uint8))
    env = WarpFrame(env, opts["dim"], opts["grayscale"])
    return NormalizedImageEnv(env) if opts["zero_mean"] else ScaledFloatFrame(env)
