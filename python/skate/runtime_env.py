"""RuntimeEnv and RuntimeEnvConfig: what the workers of a job, task or actor need around them.

Both are dicts, checked when made; a plain dict does as well wherever they are accepted.
"""

from __future__ import annotations

from skate import _env_check

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any


class RuntimeEnvConfig(dict):  # type: ignore[type-arg]
    """How an environment is set up: how long that may take (-1: no limit), and when it begins."""

    known_fields = frozenset(("setup_timeout_seconds", "eager_install", "log_files"))

    def __init__(
        self,
        setup_timeout_seconds: int = _env_check.SETUP_TIMEOUT_S,
        eager_install: bool = True,
        log_files: list[str] | None = None,
    ) -> None:
        super().__init__(
            _env_check.config({
                "setup_timeout_seconds": setup_timeout_seconds,
                "eager_install": eager_install,
                "log_files": log_files,
            })
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """A plain dict."""
        return dict(self)

    @classmethod
    def default_config(cls) -> RuntimeEnvConfig:
        """With all defaults."""
        return cls()


class RuntimeEnv(dict):  # type: ignore[type-arg]
    """A runtime environment. TypeError or ValueError when a field cannot be what is given."""

    known_fields = frozenset(_env_check.FIELDS)

    def __init__(
        self,
        *,
        py_modules: list[Any] | None = None,
        working_dir: str | None = None,
        pip: Any = None,
        uv: Any = None,
        conda: Any = None,
        container: dict[str, Any] | None = None,
        env_vars: dict[str, str] | None = None,
        worker_process_setup_hook: Any = None,
        config: Any = None,
        image_uri: str | None = None,
        py_executable: str | None = None,
        _validate: bool = True,
        **more: Any,
    ) -> None:
        given = {
            "py_modules": py_modules, "working_dir": working_dir, "pip": pip, "uv": uv,
            "conda": conda, "container": container, "env_vars": env_vars,
            "worker_process_setup_hook": worker_process_setup_hook, "config": config,
            "image_uri": image_uri, "py_executable": py_executable, **more,
        }  # fmt: skip
        env = {name: value for name, value in given.items() if value is not None}
        if _validate:
            _check_paths(env)
            env = _env_check.check(env)
        super().__init__(env)

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, _env_check.check_field(key, value))

    def set(self, name: str, value: Any) -> None:
        """The same as env[name] = value."""
        self[name] = value

    def get(self, name: str, default: Any = None) -> Any:
        """As of a dict."""
        return super().get(name, default)

    def update(self, *others: Any, **more: Any) -> None:
        """As of a dict; each value is checked."""
        for name, value in dict(*others, **more).items():
            self[name] = value

    def to_dict(self) -> dict[str, Any]:
        """A plain dict."""
        return {name: dict(v) if isinstance(v, dict) else v for name, v in self.items()}

    def serialize(self) -> str:
        """As JSON."""
        import json

        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def deserialize(cls, text: str) -> RuntimeEnv:
        """From JSON."""
        import json

        return cls(_validate=False, **json.loads(text))

    def env_vars(self) -> dict[str, str]:
        """The environment variables."""
        return dict(super().get("env_vars") or {})

    def working_dir(self) -> str:
        """The working directory, or ""."""
        return str(super().get("working_dir") or "")

    def py_modules(self) -> list[Any]:
        """The modules."""
        return list(super().get("py_modules") or ())

    def has_working_dir(self) -> bool:
        """Is there one?"""
        return bool(super().get("working_dir"))

    def has_pip(self) -> bool:
        """Are there packages for pip?"""
        return bool(super().get("pip"))

    def has_uv(self) -> bool:
        """Are there packages for uv?"""
        return bool(super().get("uv"))

    def has_conda(self) -> bool:
        """Is there a conda environment?"""
        return bool(super().get("conda"))

    def pip_config(self) -> dict[str, Any]:
        """What was said about pip."""
        return dict(super().get("pip") or {})

    def uv_config(self) -> dict[str, Any]:
        """What was said about uv."""
        return dict(super().get("uv") or {})

    def py_executable(self) -> str | None:
        """The interpreter, or None."""
        return super().get("py_executable")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (dict(self),)

    def copy(self) -> RuntimeEnv:
        """Another one like this."""
        return _rebuild(dict(self))


def _rebuild(fields: dict[str, Any]) -> RuntimeEnv:
    return RuntimeEnv(_validate=False, **fields)


def _check_paths(env: dict[str, Any]) -> None:
    """A path that is given to RuntimeEnv() must exist there and then."""
    import os

    folder = env.get("working_dir")
    if isinstance(folder, str) and not _env_check.is_uri(folder) and not os.path.exists(folder):
        raise ValueError(f"{folder} is not a valid path")


def mpi_init() -> None:
    """Workers that are an MPI job are not in Skate: NotSupportedError."""
    from skate import _absent

    _absent.refuse("a worker that is an MPI job", "start mpirun with subprocess in a task")


__all__ = ["RuntimeEnv", "RuntimeEnvConfig"]
