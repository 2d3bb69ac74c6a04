"""What init_spark() was asked for: checked, and put into Spark's and Skate's terms.

Pure: no process, no cluster. `order()` takes the arguments; the rest says what daemons and the
session are given, and whether the cluster has room.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LEAST_MB = 450  # of an executor: below that Spark itself refuses to start
STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
_UNITS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_EXECUTOR = "spark.ray.raydp_spark_executor.actor.resource."
_MASTER = "spark.ray.raydp_spark_master.actor.resource."
_ARGUMENTS = {
    "spark.app.name": "app_name",
    "spark.executor.instances": "num_executors",
    "spark.executor.cores": "executor_cores",
    "spark.executor.memory": "executor_memory",
}
_OURS = ("spark.master", "spark.cores.max", "spark.authenticate", "spark.authenticate.secret",
         "spark.authenticate.secret.file", "spark.authenticate.secret.driver.file",
         "spark.authenticate.secret.executor.file", "spark.deploy.recoveryMode",
         "spark.deploy.recoveryDirectory", "spark.master.rest.enabled")  # fmt: skip


@dataclass(frozen=True)
class Order:
    """The arguments of init_spark(), checked. memory_mb: of each executor. notes: for the user."""

    app_name: str
    executors: int
    cores: int
    memory_mb: int
    hive: bool = False
    tolerant: bool = True
    strategy: str = "SPREAD"
    group: Any = None
    bundles: tuple[int, ...] = ()  # of a given group: the bundle of each executor
    conf: Mapping[str, str] = field(default_factory=dict)
    executor_holds: Mapping[str, float] = field(default_factory=dict)  # resources of its actor
    master_holds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def dynamic(self) -> bool:
        """Does Spark decide how many executors there are?"""
        return self.conf.get("spark.dynamicAllocation.enabled", "false").lower() == "true"

    @property
    def shuffle_service(self) -> bool:
        """Are shuffle files served by Workers, and not by executors?"""
        return self.conf.get("spark.shuffle.service.enabled", "false").lower() == "true"


def order(
    app_name: Any,
    num_executors: Any,
    executor_cores: Any,
    executor_memory: Any,
    *,
    enable_hive: bool = False,
    fault_tolerant_mode: bool = True,
    strategy: Any = None,
    group: Any = None,
    indexes: Any = None,
    configs: Any = None,
) -> Order:
    """TypeError or ValueError for what cannot be."""
    if not isinstance(app_name, str):
        raise TypeError(f"app_name must be a str, not {app_name!r}")
    executors = _count("num_executors", num_executors)
    cores = _count("executor_cores", executor_cores)
    memory = memory_bytes("executor_memory", executor_memory)
    memory_mb = memory >> 20
    if memory_mb < LEAST_MB:
        raise ValueError(
            f"executor_memory is {executor_memory!r}, {memory_mb} MB: Spark needs {LEAST_MB} MB "
            'for an executor, say "512m". A number without unit is bytes.'
        )
    if strategy is not None and strategy not in STRATEGIES:
        raise ValueError(
            f"placement_group_strategy must be one of {', '.join(STRATEGIES)}, not {strategy!r}"
        )
    if strategy is not None and group is not None:
        raise ValueError(
            "placement_group_strategy is for the group that init_spark() makes: give it or "
            "placement_group, not both"
        )
    given = {"app_name": app_name, "num_executors": executors, "executor_cores": cores,
             "executor_memory": memory}  # fmt: skip
    conf, holds, notes = sort_configs(configs, given)
    executor_holds = {"CPU": float(cores), "memory": float(memory), **holds[0]}
    made = Order(
        app_name, executors, cores, memory_mb, bool(enable_hive), bool(fault_tolerant_mode),
        strategy or "SPREAD", group, (), conf,
        {name: amount for name, amount in executor_holds.items() if amount}, holds[1],
        (*notes, *_dynamic_note(conf, executors)),
    )  # fmt: skip
    if group is None:
        if indexes is not None:
            raise ValueError("placement_group_bundle_indexes needs a placement_group")
        return made
    bundles, executor_holds = in_group(made, group.bundle_specs, indexes, "memory" in holds[0])
    return _with(made, bundles=bundles, executor_holds=executor_holds)


def _with(made: Order, **changed: Any) -> Order:
    import dataclasses

    return dataclasses.replace(made, **changed)


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be 1 or more, it is {value}")
    return value


def memory_bytes(name: str, value: Any) -> int:
    """512 MB as "512m", "512M", "512 MB", "0.5g", or the number of bytes. ValueError, TypeError."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f'{name} must be a str as "1g", or a number of bytes, not {value!r}')
    if isinstance(value, int):
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?\s*", value.lower())
    if not found:
        raise ValueError(f'{name} must be as "1g", "500M" or a number of bytes, it is {value!r}')
    return int(float(found[1]) * (1 << _UNITS[found[2]]))


# ------------------------------------------------------------------------------------- configs


def sort_configs(
    configs: Any, arguments: Mapping[str, Any]
) -> tuple[dict[str, str], tuple[dict[str, float], dict[str, float]], list[str]]:
    """Spark's settings, the resources that actors of executors and of the Master hold, and notes.

    No key is dropped: what is neither is a ValueError, and RayDP's own without a meaning here are
    named in the notes.
    """
    if configs is None:
        return {}, ({}, {}), []
    if not isinstance(configs, Mapping):
        raise TypeError(f"configs must be a dict of Spark's settings, not {configs!r}")
    conf: dict[str, str] = {}
    executor: dict[str, float] = {}
    master: dict[str, float] = {}
    without: list[str] = []
    paths = ""
    for key, value in configs.items():
        if not isinstance(key, str):
            raise TypeError(f"the keys of configs are str, not {key!r}")
        text = _text(key, value)
        if key.startswith(_EXECUTOR):
            _hold(executor, key, key[len(_EXECUTOR) :], value)
        elif key.startswith(_MASTER):
            _hold(master, key, key[len(_MASTER) :], value)
        elif key in ("raydp.executor.extraClassPath", "spark.ray.raydp.executor.extraClassPath"):
            paths = text
        elif key.startswith(("spark.ray.", "raydp.")):
            without.append(key)
        elif key in _ARGUMENTS:
            _check_same(key, text, arguments[_ARGUMENTS[key]])
        elif key in _OURS:
            raise ValueError(f"configs may not have {key}: init_spark() sets it itself")
        elif key.startswith("spark."):
            conf[key] = text
        else:
            raise ValueError(f"{key!r} in configs is no setting of Spark: those begin with spark.")
    if paths:
        own = conf.get("spark.executor.extraClassPath")
        conf["spark.executor.extraClassPath"] = f"{paths}:{own}" if own else paths
    notes = [f"without effect here: {', '.join(without)}"] if without else []
    return conf, (executor, master), notes


def _text(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise TypeError(f"the value of {key} in configs must be a str, a number or a bool: {value!r}")


def _hold(into: dict[str, float], key: str, name: str, value: Any) -> None:
    known = {"cpu": "CPU", "gpu": "GPU", "memory": "memory"}
    resource = known.get(name.lower(), name)
    try:
        amount = float(memory_bytes(key, value) if resource == "memory" else float(value))
    except (TypeError, ValueError):
        raise ValueError(f"{key} must be an amount of a resource, it is {value!r}") from None
    if not resource or not 0 <= amount < 1e15:
        raise ValueError(f"{key} must be an amount of a resource, it is {value!r}")
    into[resource] = amount


def _check_same(key: str, text: str, argument: Any) -> None:
    name = _ARGUMENTS[key]
    mine = memory_bytes(key, text) if name == "executor_memory" else text
    if str(mine) != str(argument):
        raise ValueError(f"{key} is {text} in configs, and {name} is {argument}: give it once")


def _dynamic_note(conf: Mapping[str, str], executors: int) -> list[str]:
    most = conf.get("spark.dynamicAllocation.maxExecutors", "")
    if most.isdigit() and int(most) > executors:
        return [
            f"spark.dynamicAllocation.maxExecutors is {most}, but only num_executors={executors} "
            "can run at once: each has its bundle of the placement group from the beginning"
        ]
    return []


# ----------------------------------------------------------------------------------- placement


def in_group(
    made: Order, specs: Sequence[Mapping[str, float]], indexes: Any, memory_asked: bool
) -> tuple[tuple[int, ...], dict[str, float]]:
    """The bundle of each executor in a given group, in turn, and what its actor holds there.

    Memory is held when the bundles have it. ValueError: a bundle is too small, or is none.
    """
    chosen = list(range(len(specs))) if indexes is None else list(indexes)
    for index in chosen:
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(specs):
            raise ValueError(
                f"placement_group_bundle_indexes has {index!r}; the group has the bundles 0 to "
                f"{len(specs) - 1}"
            )
    if not chosen:
        raise ValueError("placement_group_bundle_indexes is empty: leave it out for all bundles")
    holds = dict(made.executor_holds)
    if not memory_asked and not all(specs[index].get("memory") for index in chosen):
        holds.pop("memory", None)
    bundles = tuple(chosen[i % len(chosen)] for i in range(made.executors))
    for index in sorted(set(bundles)):
        count = bundles.count(index)
        for name, amount in holds.items():
            have = specs[index].get(name, 0.0)
            if have + 1e-9 < amount * count:
                raise ValueError(
                    f"bundle {index} of the placement group has {have:g} {name}; "
                    f"{count} executor{'s' if count > 1 else ''} of {amount:g} {name} "
                    f"cannot run there: ask for fewer or smaller ones, or give larger bundles"
                )
    return bundles, holds


def room(nodes: Sequence[Mapping[str, float]], bundle: Mapping[str, float], strategy: str) -> int:
    """How many such bundles these nodes have room for, each node given by its resources."""
    fits = [
        min(int((node.get(name, 0.0) + 1e-9) / amount) for name, amount in bundle.items())
        for node in nodes
    ]
    if strategy == "STRICT_PACK":
        return max(fits, default=0)
    if strategy == "STRICT_SPREAD":
        return sum(1 for fit in fits if fit)
    return sum(fits)


def words(resources: Mapping[str, float]) -> str:
    """Resources for people: "2 CPU, 1.0 GB memory"."""
    return ", ".join(
        f"{amount / (1 << 30):.1f} GB {name}" if name == "memory" else f"{amount:g} {name}"
        for name, amount in sorted(resources.items())
    )


def no_room(wanted: Order, fit: int) -> str:
    """What is said when the nodes that there are can never hold the executors."""
    return (
        f"this cluster has room for {fit} of {wanted.executors} executors of "
        f"{words(wanted.executor_holds)} ({wanted.strategy}), also when nothing else runs: ask "
        "for fewer or smaller ones (num_executors, executor_cores, executor_memory), or add nodes. "
        "To wait for nodes that come later, make a placement group, wait() for it, and give it as "
        "placement_group."
    )


def waiting(wanted: Order, fit: int, holders: Sequence[str]) -> str:
    """What is said while the placement group waits. holders: who has resources now."""
    who = f" Now held by: {'; '.join(holders)}." if holders else ""
    return (
        f"waits for resources: there is room for {fit} of {wanted.executors} executors of "
        f"{words(wanted.executor_holds)} ({wanted.strategy}).{who}"
    )


# ------------------------------------------------------------------------------ settings, files


def session_conf(wanted: Order, ip: str, shuffle_port: int) -> dict[str, str]:
    """The settings of the session; those of `configs` stand over what is only a default here."""
    conf = {
        "spark.driver.host": ip,
        "spark.driver.bindAddress": ip,
        "spark.ui.port": "0",
        **({} if wanted.dynamic else {"spark.scheduler.minRegisteredResourcesRatio": "1.0"}),
        **wanted.conf,
        "spark.executor.cores": str(wanted.cores),
        "spark.executor.memory": f"{wanted.memory_mb}m",
        "spark.cores.max": str(wanted.executors * wanted.cores),
        "spark.authenticate": "true",
    }
    if not wanted.dynamic:
        conf["spark.executor.instances"] = str(wanted.executors)
    if wanted.shuffle_service:
        conf.setdefault("spark.shuffle.service.port", str(shuffle_port))
    return conf


def daemon_conf(conf: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """The settings of a Master or Worker: those of the session, and its own."""
    return {
        **conf,
        "spark.ui.killEnabled": "false",  # its pages have no password
        "spark.master.rest.enabled": "false",  # knows no secret
        **own,
    }


def properties(conf: Mapping[str, str]) -> str:
    """A file of java.util.Properties with these settings."""
    return "".join(f"{_escaped(key)}={_escaped(value)}\n" for key, value in sorted(conf.items()))


def _escaped(text: str) -> str:
    out = "".join(
        "\\" + {"\n": "n", "\r": "r", "\t": "t", "\f": "f"}.get(char, char)
        if char in "\\=:#!\n\r\t\f "
        else char if " " < char < "\x7f" else "".join(f"\\u{unit:04x}" for unit in _utf16(char))
        for char in text
    )  # fmt: skip
    return out


def _utf16(char: str) -> list[int]:
    data = char.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]
