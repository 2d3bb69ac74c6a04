"""What init() was told in several places, as one: its arguments, a JobConfig, the environment."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any


FORWARD = "SKATE_FORWARD_ENV"  # names, by commas: variables that workers of this program get, too


def variable(name: str) -> str | None:
    """SKATE_<name>, else RAY_<name>, else None; empty ones count as absent."""
    return os.environ.get(f"SKATE_{name}") or os.environ.get(f"RAY_{name}") or None


def switch(name: str, default: bool) -> bool:
    """A variable that is 0 or 1. ValueError for anything else."""
    text = variable(name)
    if text is None:
        return default
    if text.lower() in ("0", "false", "1", "true"):
        return text.lower() in ("1", "true")
    raise ValueError(f"the environment variable SKATE_{name} (RAY_{name}) is 0 or 1, not {text!r}")


def merge(
    job_config: Any, runtime_env: dict[str, Any] | None, namespace: str | None
) -> dict[str, Any]:
    """Runtime environment, namespace, metadata, lifetime of actors. The arguments of init() stand
    over its job_config, and that over the environment's."""
    out: dict[str, Any] = {
        "runtime_env": runtime_env, "namespace": namespace, "metadata": {}, "actor_lifetime": "",
    }  # fmt: skip
    if job_config is not None or variable("JOB_CONFIG_JSON_ENV_VAR"):
        _take(out, job_config)
    if out["runtime_env"] is None and variable("RUNTIME_ENV"):
        out["runtime_env"] = _json("RUNTIME_ENV")
    out["namespace"] = out["namespace"] or variable("NAMESPACE")
    if os.environ.get(FORWARD):  # no runtime environment: lists show these
        names = [name for name in os.environ[FORWARD].split(",") if name in os.environ]
        out["forwarded"] = {name: os.environ[name] for name in names}
    return out


def _take(out: dict[str, Any], given: Any) -> None:
    from skate.job_config import JobConfig

    if given is not None and not isinstance(given, JobConfig):
        raise TypeError(f"job_config must be a JobConfig, not {given!r}")
    submitted = _json("JOB_CONFIG_JSON_ENV_VAR")
    configs = [c for c in (given, JobConfig.from_json(submitted) if submitted else None) if c]
    for config in configs:
        if config.runtime_env:
            out["runtime_env"] = _over(out["runtime_env"], config.runtime_env)
        out["namespace"] = out["namespace"] or config.ray_namespace
        out["metadata"] = {**config.metadata, **out["metadata"]}
        if config.default_actor_lifetime == "detached":
            out["actor_lifetime"] = "detached"


def _over(own: dict[str, Any] | None, base: dict[str, Any]) -> dict[str, Any]:
    """init()'s environment over that of the job. A field that both have must be the same."""
    if not own:
        return base
    for name in set(own) & set(base) - {"env_vars"}:
        if own[name] != base[name]:
            raise ValueError(
                f"runtime_env[{name!r}] is given to init() and in the job's settings, and differs"
            )
    out = {**base, **own}
    if own.get("env_vars") and base.get("env_vars"):
        out["env_vars"] = {**base["env_vars"], **own["env_vars"]}
    return out


def _json(name: str) -> dict[str, Any]:
    text = variable(name)
    if not text:
        return {}
    import json

    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"the environment variable SKATE_{name} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"the environment variable SKATE_{name} is a JSON object, not {text!r}")
    return found


def logging_of(config: Any, level: Any, template: str | None) -> dict[str, Any] | None:
    """What drivers and workers do about logging, or None; done here for this process."""
    from_env = variable("LOGGING_CONFIG_ENCODING") is not None
    level = level if level is not None else variable("LOGGER_LEVEL")
    if config is None and not from_env and level is None and template is None:
        return None
    from skate import _logging_config

    plain: dict[str, Any] = {"level": level, "format": template, "root": None}
    if config is not None or from_env:
        if config is None:
            config = _logging_config.LoggingConfig()
        if not isinstance(config, _logging_config.LoggingConfig):
            raise TypeError(f"logging_config must be a LoggingConfig, not {config!r}")
        plain["root"] = config.plain()
    _logging_config.take_on(plain)
    return plain
