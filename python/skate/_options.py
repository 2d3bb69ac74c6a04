"""Options of tasks, actors and methods: names, types and bounds, as Ray judges them."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

Check = "Callable[[str, Any], None]"
_MAX_RETURNS = 65534
_MOST_RESOURCES = 28  # a demand has 32: CPU, GPU, memory and the accelerator, too


def _number(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {value!r}")
    if not value >= 0:
        raise ValueError(f"{name} must not be negative, it is {value!r}")
    if value > 1e14:
        raise ValueError(f"{name} is not an amount: {value!r}")
    if abs(value * 10000 - round(value * 10000)) > 1e-6:
        raise ValueError(f"{name} has steps of 0.0001; {value!r} is finer")


def _gpus(name: str, value: Any) -> None:
    _number(name, value)
    if value is not None and value > 1 and value != int(value):
        raise ValueError(f"{name} above 1 must be whole, it is {value!r}")


def _resources(name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, dict):
        raise TypeError(f"{name} must be a dict of names and amounts, not {value!r}")
    if len(value) > _MOST_RESOURCES:
        raise ValueError(f"{name} has at most {_MOST_RESOURCES} names, these are {len(value)}")
    for key, amount in value.items():
        if not isinstance(key, str):
            raise TypeError(f"the name of a resource must be a str, not {key!r}")
        if key in ("CPU", "GPU"):
            raise ValueError(f"use num_{key.lower()}s instead of {key!r} in {name}")
        if not key or len(key.encode()) > 63:
            raise ValueError(f"the name of a resource has 1 to 63 bytes: {key!r}")
        if amount is None:
            raise TypeError(f"{name}[{key!r}] must be a number, not None")
        _number(f"{name}[{key!r}]", amount)


def _count(least: int) -> Check:
    def check(name: str, value: Any) -> None:
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be an int, not {value!r}")
        if value < least:
            raise ValueError(f"{name} must be at least {least}, it is {value}")

    return check


def _returns(name: str, value: Any) -> None:
    if value in ("streaming", "dynamic"):
        return
    if isinstance(value, str):
        raise ValueError(f"{name} must be an int, 'streaming' or 'dynamic', not {value!r}")
    _count(0)(name, value)
    if value is not None and value > _MAX_RETURNS:
        raise ValueError(f"{name} is at most {_MAX_RETURNS}, it is {value}")


def _groups(name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, dict):
        raise TypeError(f"{name} must be a dict of names and limits, not {value!r}")
    if len(value) > 254:
        raise ValueError(f"{name} has at most 254 groups, not {len(value)}")
    for group, limit in value.items():
        if not isinstance(group, str):
            raise TypeError(f"the name of a concurrency group must be a str, not {group!r}")
        if limit is None:
            raise TypeError(f"{name}[{group!r}] must be an int, not None")
        _count(1)(f"{name}[{group!r}]", limit)


def _unread(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if value == 0:
        raise ValueError(
            f"{name} must not be 0: with 1 the generator pauses after each item until it is "
            "taken, with -1 it never pauses"
        )


def _per_yield(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be positive, it is {value}")


def _text(name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {value!r}")
    if not value:
        raise ValueError(f"{name} must not be empty")


def _task_name(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {value!r}")


def _flag(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, not {value!r}")


def _retry_exceptions(name: str, value: Any) -> None:
    if value is None or isinstance(value, bool):
        return
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{name} must be a bool or a list of exception classes, not {value!r}")
    for kind in value:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise ValueError(f"{name} holds {kind!r}, which is not an exception class")


def _lifetime(name: str, value: Any) -> None:
    if value not in (None, "detached", "non_detached"):
        raise ValueError(f"{name} is None, 'detached' or 'non_detached', not {value!r}")


def _strategy(name: str, value: Any) -> None:
    if value is not None and value != "DEFAULT":
        from skate import _place

        _place.check_strategy(name, value)


def _group(name: str, value: Any) -> None:
    if value is not None and value != "default":
        from skate import _place

        _place.check_group(name, value)


def _label_selector(name: str, value: Any) -> None:
    if value is not None:
        from skate import _labels

        _labels.check_selector(name, value)


def _fallback(name: str, value: Any) -> None:
    if value is not None:
        from skate import _labels

        _labels.check_fallback(name, value)


def _any(name: str, value: Any) -> None:
    pass


def _runtime_env(name: str, value: Any) -> None:
    from skate import _runtime_env

    _runtime_env.check_option(name, value)


_COMMON: dict[str, Check] = {
    "num_cpus": _number,
    "num_gpus": _gpus,
    "resources": _resources,
    "memory": _number,
    "accelerator_type": _task_name,
    "name": _task_name,
    "scheduling_strategy": _strategy,
    "placement_group": _group,
    "placement_group_bundle_index": _count(-1),
    "placement_group_capture_child_tasks": _flag,
    "runtime_env": _runtime_env,
    "label_selector": _label_selector,
    "fallback_strategy": _fallback,
    "enable_task_events": _any,
    "_labels": _any,
    "_metadata": _any,
}
TASK: dict[str, Check] = {
    **_COMMON,
    "num_returns": _returns,
    "max_retries": _count(-1),
    "retry_exceptions": _retry_exceptions,
    "max_calls": _count(0),
    "_generator_backpressure_num_objects": _unread,
    "_num_objects_per_yield": _per_yield,
}
ACTOR: dict[str, Check] = {
    **_COMMON,
    "object_store_memory": _number,
    "name": _text,
    "namespace": _text,
    "lifetime": _lifetime,
    "get_if_exists": _flag,
    "max_restarts": _count(-1),
    "max_task_retries": _count(-1),
    "max_concurrency": _count(1),
    "max_pending_calls": _count(-1),
    "concurrency_groups": _groups,
    "allow_out_of_order_execution": _flag,
    "enable_tensor_transport": _any,
    "_actor_generator_backpressure_num_objects": _any,
}
METHOD: dict[str, Check] = {
    "name": _task_name,
    "num_returns": _returns,
    "max_task_retries": _count(-1),
    "retry_exceptions": _retry_exceptions,
    "concurrency_group": _any,
    "enable_task_events": _any,
    "tensor_transport": _any,
    "_generator_backpressure_num_objects": _unread,
    "_num_objects_per_yield": _per_yield,
}


def suggestion(name: str, known: Any) -> str:
    """" (did you mean 'num_cpus'?)" for a slip of the keyboard, else ""."""
    import difflib

    near = difflib.get_close_matches(name, [n for n in known if not n.startswith("_")], 1, 0.75)
    return f" (did you mean {near[0]!r}?)" if near else ""


def check(table: dict[str, Check], what: str, options: dict[str, Any]) -> None:
    """ValueError for an unknown option, TypeError or ValueError for a bad value."""
    for name, value in options.items():
        judge = table.get(name)
        if judge is None:
            raise ValueError(
                f"{what} has no option {name!r}{suggestion(name, table)}; there are: "
                f"{', '.join(sorted(n for n in table if not n.startswith('_')))}"
            )
        judge(name, value)
    if options.get("placement_group") is not None:
        from skate import _place

        _place.check_together(options)
    if table is ACTOR and options.get("get_if_exists") and not options.get("name"):
        raise ValueError("get_if_exists needs the option name")


def amounts(options: dict[str, Any], cpus: float) -> dict[str, float]:
    """The resources that a task or actor asks for; `cpus` when it does not say."""
    out: dict[str, float] = {}
    given = options.get("num_cpus")
    out["CPU"] = float(cpus if given is None else given)
    out["GPU"] = float(options.get("num_gpus") or 0)
    out["memory"] = float(options.get("memory") or 0)
    if options.get("accelerator_type"):
        out[f"accelerator_type:{options['accelerator_type']}"] = 0.001
    for name, amount in (options.get("resources") or {}).items():
        out[name] = float(amount)
    return {name: amount for name, amount in out.items() if amount}


def default_retries() -> int:
    """How often a task is run again after its worker died, when it does not say."""
    for name in ("SKATE_TASK_MAX_RETRIES", "RAY_TASK_MAX_RETRIES"):
        if name in os.environ:
            return int(os.environ[name])
    return 3


def max_calls(options: dict[str, Any]) -> int:
    """After how many runs the worker ends; 0: never. A GPU's memory is free only then."""
    given = options.get("max_calls")
    if given is None:
        return 1 if (options.get("num_gpus") or 0) > 0 else 0
    return int(given)
