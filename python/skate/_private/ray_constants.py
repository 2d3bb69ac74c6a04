"""Constants that libraries take from Ray's inside."""

from __future__ import annotations

ID_SIZE = 28
RAY_ADDRESS_ENVIRONMENT_VARIABLE = "RAY_ADDRESS"
RAY_NAMESPACE_ENVIRONMENT_VARIABLE = "RAY_NAMESPACE"
RAY_RUNTIME_ENV_ENVIRONMENT_VARIABLE = "RAY_RUNTIME_ENV"
RAY_JOB_CONFIG_JSON_ENV_VAR = "RAY_JOB_CONFIG_JSON_ENV_VAR"
DEFAULT_MAX_RETRIES = DEFAULT_TASK_MAX_RETRIES = 3
DEFAULT_ACTOR_MAX_TASK_RETRIES = 0
DEFAULT_MAX_CONCURRENCY_ASYNC = 1000
MAXIMUM_ACTORS = 100000
RESOURCE_CONSTRAINT_PREFIX = "accelerator_type:"
DEFAULT_RESOURCES = {"CPU", "GPU", "memory", "object_store_memory"}
DEFAULT_PORT = 6379
DEFAULT_DASHBOARD_PORT = 8265
LOGGER_FORMAT = "%(asctime)s\t%(levelname)s %(filename)s:%(lineno)s -- %(message)s"
LOGGER_LEVEL = "info"


def env_bool(key: str, default: bool) -> bool:
    """An environment variable as a bool."""
    import os

    text = os.environ.get(key)
    return default if text is None else text.lower() in ("1", "true")


def env_integer(key: str, default: int) -> int:
    """An environment variable as an int."""
    import os

    text = os.environ.get(key, "")
    return int(text) if text.lstrip("-").isdigit() else default


def env_float(key: str, default: float) -> float:
    """An environment variable as a float."""
    import os

    try:
        return float(os.environ.get(key, ""))
    except ValueError:
        return default
