"""The GPUs of a node: exactly those that Spark granted to its task. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def names(addresses: Sequence[str], environment: Mapping[str, str]) -> tuple[str, ...]:
    """What programs call the GPUs with these addresses, for CUDA_VISIBLE_DEVICES.

    Spark's addresses count within what the executor sees: if that has CUDA_VISIBLE_DEVICES itself,
    address 0 is the first name there. An address that is no such number is a name already.
    """
    visible = [v.strip() for v in environment.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    visible = [v for v in visible if v and v != "-1"]
    out = []
    for address in (a.strip() for a in addresses):
        if visible and address.isdigit():
            index = int(address)
            if index >= len(visible):
                raise ValueError(
                    f"Spark granted GPU {address}, but CUDA_VISIBLE_DEVICES of the executor names "
                    f"only {','.join(visible)}: its GPU discovery script must count within these"
                )
            out.append(visible[index])
        else:
            out.append(address)
    return tuple(out)


def of_executor(conf: Mapping[str, str]) -> int:
    """GPUs that Spark gives to an executor."""
    return _whole(conf.get("spark.executor.resource.gpu.amount", "0"))


def _whole(text: str) -> int:
    try:
        return max(0, int(float(text)))
    except ValueError:
        return 0


def offered(conf: Mapping[str, str], wanted_gpus: int) -> int | None:
    """How many of those granted a node offers; None: all. A part of one, which ordinary tasks get
    by spark.task.resource.gpu.amount below 1, is shared with other tasks: it is not offered."""
    if wanted_gpus:
        return wanted_gpus
    try:
        part = float(conf.get("spark.task.resource.gpu.amount", "0"))
    except ValueError:
        part = 0.0
    return 0 if 0 < part < 1 else None


def wanted(conf: Mapping[str, str], asked: int | None, cpus_asked: bool) -> int:
    """How many GPUs a node's task asks Spark for.

    asked: num_gpus_worker_node. Without any number a node is a whole executor, GPUs and all
    (RAY_ON_SPARK_WORKER_GPU_NUM in the executors' environment stands over Spark's own number).
    """
    if asked is not None:
        return asked
    if cpus_asked:
        return 0
    told = conf.get("spark.executorEnv.RAY_ON_SPARK_WORKER_GPU_NUM")
    return of_executor(conf) if told is None else _whole(told)
