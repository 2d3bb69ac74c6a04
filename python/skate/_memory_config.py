"""What protects a node's memory: what init(), `skate start` and the environment say, checked.

Each key is looked for in _system_config, then in SKATE_<key>, then in RAY_<key>. Those of KEYS are
the node's, settings of its raylet; those of RETRY_KEYS the program's, for its driver and workers.
"""

from __future__ import annotations

from skate._init_config import variable

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

# Smallest and largest; None: a switch.
KEYS: dict[str, tuple[float, float] | None] = {
    "memory_monitor_refresh_ms": (0, 3_600_000), "memory_usage_threshold": (0.0, 1.0),
    "min_memory_free_bytes": (-1, 1 << 62), "memory_limit_bytes": (0, 1 << 62),
    "idle_worker_killing_memory_threshold_bytes": (0, 1 << 62), "enforce_task_memory": None,
}  # fmt: skip
RETRY_KEYS = {"task_oom_retries": (-1, 1 << 30), "task_oom_retry_delay_base_ms": (0, 3_600_000)}
_DELAY_MS = 1000
_UNSIGNED_MOST = (1 << 64) - 1  # how Ray's settings may write -1


def settings(system: Any = None) -> list[tuple[str, Any]]:
    """Keys and values for the line that a raylet reads at its start. system: the argument
    _system_config. ValueError or TypeError for what cannot be meant."""
    out: list[tuple[str, Any]] = []
    for key, bounds in KEYS.items():
        value = _told(system, key)
        if value is None:
            continue
        number = _switch(key, value) if bounds is None else _number(key, value, *bounds)
        if number >= 0:  # min_memory_free_bytes=-1 is the default
            out.append((key, number))
    return out


def health(system: Any = None) -> list[tuple[str, Any]]:
    """The same for the control store: after how much silence a node is dead."""
    value = _told(system, "health_check_timeout_ms")
    if value is None:
        return []
    return [("heartbeat_ms", _number("health_check_timeout_ms", value, 1000, 86_400_000))]


def retries(system: Any = None) -> dict[str, int]:
    """What is said of trying again what was ended for want of memory, for the job's processes."""
    out = {}
    for key, bounds in RETRY_KEYS.items():
        value = _told(system, key)
        if value is not None:
            out[key] = int(_number(key, value, *bounds))
    return out


def take_on(config: dict[str, Any]) -> None:
    """Let this process, which is connected, do as the job's settings say."""
    if any(key in config for key in RETRY_KEYS):
        from skate import _core

        _core.memory_retries(
            config.get("task_oom_retries", -1),
            config.get("task_oom_retry_delay_base_ms", _DELAY_MS),
        )


def _told(system: Any, key: str) -> Any:
    if system is not None and not isinstance(system, dict):
        raise TypeError(f"_system_config must be a dict, not {system!r}")
    given = (system or {}).get(key)
    return variable(key) if given is None else given


def _switch(key: str, value: Any) -> int:
    if str(value).lower() in ("0", "false", "1", "true"):
        return int(str(value).lower() in ("1", "true"))
    raise ValueError(f"{key} is true or false, not {value!r}")


def _number(key: str, value: Any, low: float, high: float) -> float | int:
    part = isinstance(low, float)
    try:
        number = float(value) if part else _whole(value)
    except (TypeError, ValueError, OverflowError):
        number = low - 1
    if low == -1 and number == _UNSIGNED_MOST:
        number = -1
    if isinstance(value, bool) or not low <= number <= high:
        what = f"a number from {low:g} to {high:g}" if part else f"a whole number of at least {low}"
        raise ValueError(f"{key} is {what}, not {value!r}")
    return number


def _whole(value: Any) -> int:
    if isinstance(value, float) and value != int(value):
        raise ValueError
    return int(value)
