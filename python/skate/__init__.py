"""Skate: Ray's API on a C core. `import skate as ray`.

Names only; what is heavy is imported when it is first used.
"""

from __future__ import annotations

from skate._core import ActorID, ObjectRef
from skate._ids import (
    ActorClassID,
    ClusterID,
    FunctionID,
    JobID,
    NodeID,
    ObjectID,
    PlacementGroupID,
    TaskID,
    UniqueID,
    WorkerID,
)

from skate import exceptions  # isort: skip
from skate._actor import method
from skate._api import (
    LOCAL_MODE,
    SCRIPT_MODE,
    WORKER_MODE,
    RayContext,
    available_resources,
    cancel,
    cluster_resources,
    get_actor,
    get_gpu_ids,
    init,
    is_initialized,
    kill,
    nodes,
    shutdown,
    timeline,
)
from skate._generator import DynamicObjectRefGenerator
from skate._why import why
from skate.runtime_context import get_runtime_context

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

    from skate._create import create_buffer, ndarray
    from skate._typed import ObjectRefGenerator, get, put, remote, wait
else:
    from skate._api import get, put, wait
    from skate._generator import ObjectRefGenerator
    from skate._remote import remote

RESTORE_WORKER_MODE, SPILL_WORKER_MODE = 3, 4


class Language:
    """The languages of Ray's workers; Skate's run Python, or C (skate.cross_language)."""

    PYTHON, JAVA, CPP = "PYTHON", "JAVA", "CPP"


__version__ = "0.1.0"
__commit__ = "skate"

_LAZY = (
    "actor", "air", "cloudpickle", "raydp", "remote_function", "rllib", "runtime_context",
    "runtime_env", "train", "tune",
    "types", "util",
    "cross_language",
    "dag", "data", "experimental", "job_config", "client_builder", "_private", "cluster_utils",
)  # fmt: skip

# Names that live elsewhere, imported when first asked for.
_ELSEWHERE = {
    "create_buffer": "_create", "ndarray": "_create",
    "ClientBuilder": "client_builder", "client": "client_builder",
    "LoggingConfig": "_logging_config",
    "worker": "_private.worker", "state": "_private.state",
    "ray_constants": "_private.ray_constants", "services": "_private.services",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    import importlib

    if name in _LAZY:
        return importlib.import_module(f"skate.{name}")
    if name in _ELSEWHERE:
        module = importlib.import_module(f"skate.{_ELSEWHERE[name]}")
        return module if _ELSEWHERE[name].endswith(f".{name}") else getattr(module, name)
    if not name.startswith("_"):
        absent = importlib.import_module("skate._absent")
        if name in absent.PARTS:
            raise absent.name_error(name, name)
    raise AttributeError(f"module 'skate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_ELSEWHERE})


__all__ = [
    "ActorClassID", "ActorID", "ClusterID", "DynamicObjectRefGenerator", "FunctionID", "JobID",
    "LOCAL_MODE", "Language", "NodeID", "ObjectID", "ObjectRef", "ObjectRefGenerator",
    "PlacementGroupID", "RESTORE_WORKER_MODE", "RayContext", "SCRIPT_MODE", "SPILL_WORKER_MODE",
    "TaskID", "UniqueID", "WORKER_MODE", "WorkerID", "__commit__", "__version__",
    "available_resources", "cancel",
    "cluster_resources", "create_buffer", "exceptions", "get", "get_actor", "get_gpu_ids",
    "get_runtime_context",
    "init", "is_initialized", "kill", "method", "ndarray", "nodes", "put", "remote", "shutdown",
    "timeline", "wait", "why",
]  # fmt: skip
