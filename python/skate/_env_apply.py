"""The worker's side of a runtime environment: variables, folders, packages, the setup hook.

Both parts run once, before the first task, in the main thread; the core thread serves the process's
channels meanwhile. `install` waits for the first task when `eager_install` is off. What goes wrong
becomes a RuntimeEnvSetupError for every task that comes.
"""

from __future__ import annotations

import os
import sys

from skate import _core

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any


class SetupError(Exception):
    """The environment cannot be made; its text is for the user."""


def set_variables(variables: dict[str, str]) -> None:
    """Set them in order; ${NAME} and $NAME stand for what is set so far, else for nothing."""
    import re

    for name, text in variables.items():
        if "$" in text:
            text = re.sub(
                r"\$(?:\{(\w+)\}|(\w+))",
                lambda match: os.environ.get(match[1] or match[2], ""),
                text,
            )
        os.environ[name] = text
        if name == "PYTHONPATH":
            for path in reversed([p for p in text.split(os.pathsep) if p]):
                if path not in sys.path:
                    sys.path.insert(0, path)


def prepare(spec: dict[str, Any], trouble: str | None, is_set: bool) -> None:
    """The quick part: variables (unless they are set) and folders. SetupError, for trouble too."""
    if trouble is not None:
        raise SetupError(trouble)
    for name in ("conda", "image_uri", "container", "java_jars"):
        if spec.get(name):
            raise SetupError(
                f"this worker cannot have runtime_env[{name!r}]={spec[name]!r}: Skate starts "
                "workers as processes of the node's own Python; use pip, uv, py_modules or "
                "working_dir"
            )
    if spec.get("env_vars") and not is_set:
        set_variables(spec["env_vars"])
    if spec.get("working_dir") or spec.get("py_modules"):
        from skate import _env_packages

        _env_packages.use(spec)


def install(spec: dict[str, Any]) -> None:
    """The part that may take long: packages, then the hook. SetupError."""
    if spec.get("pip") or spec.get("uv"):
        from skate import _env_pip

        _env_pip.use(spec)
    if spec.get("worker_process_setup_hook"):
        _run_hook(spec["worker_process_setup_hook"], spec.get("_hook"))


def _run_hook(name: str, pickled: bytes | None) -> None:
    try:
        if pickled:
            import cloudpickle

            hook = cloudpickle.loads(pickled)
        else:
            import importlib

            module, _, function = name.rpartition(".")
            hook = getattr(importlib.import_module(module), function)
        hook()
    except BaseException as error:
        from skate import _serialize

        raise SetupError(
            f"the worker_process_setup_hook {name} failed:\n{_serialize.traceback_text(error)}"
        ) from None


def session_dir() -> str:
    """Where what is made for this node lies; it goes with the session."""
    return os.path.join(_core.info()["session_dir"], "runtime_resources")
