"""contrib/RandomAgent."""

from __future__ import annotations

from typing import Any

from skate.rllib import _config
from skate.rllib._specs import Spec

DEFAULTS: dict[str, Any] = _config.with_common_config({
    "rollouts_per_iteration": 10,
    "num_workers": 0,
})


def options(config: dict[str, Any]) -> dict[str, Any]:
    """What src/rl/algo/algo_random.c reads."""
    return {"normalize_actions": bool(config["normalize_actions"])}


def checks(config: dict[str, Any]) -> None:
    """At least one episode."""
    count = config["rollouts_per_iteration"]
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"rollouts_per_iteration must be an integer >= 1, got {count!r}")


SPECS = [Spec("contrib/RandomAgent", DEFAULTS, "own:RandomPlan", "RandomAgent", options=options,
              columns=(), checks=checks)]
