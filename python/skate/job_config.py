"""JobConfig: what init() can be told about a job in one object."""

from __future__ import annotations

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

_LIFETIMES = ("detached", "non_detached")


class JobConfig:
    """Runtime environment, namespace and metadata of a job, and how long its actors live.

    jvm_options and code_search_path are for other languages: accepted, without a meaning here.
    """

    def __init__(
        self,
        jvm_options: list[str] | None = None,
        code_search_path: list[str] | None = None,
        runtime_env: dict[str, Any] | None = None,
        _client_job: bool = False,
        metadata: dict[str, str] | None = None,
        ray_namespace: str | None = None,
        default_actor_lifetime: str = "non_detached",
        _py_driver_sys_path: list[str] | None = None,
        **_ignored: Any,
    ) -> None:
        self.jvm_options = list(jvm_options or ())
        self.code_search_path = list(code_search_path or ())
        self.metadata = dict(metadata or {})
        self.ray_namespace = ray_namespace
        self._client_job = _client_job
        self.py_driver_sys_path = list(_py_driver_sys_path or ())
        self._default_actor_lifetime = "non_detached"
        self.runtime_env: dict[str, Any] = {}
        self.set_runtime_env(runtime_env)
        self.set_default_actor_lifetime(default_actor_lifetime)

    @property
    def default_actor_lifetime(self) -> str:
        """ "detached" or "non_detached"."""
        return self._default_actor_lifetime

    def set_metadata(self, key: str, value: str) -> None:
        """Say one more thing about the job."""
        self.metadata[key] = value

    def set_runtime_env(self, runtime_env: dict[str, Any] | None, validate: bool = False) -> None:
        """The job's runtime environment. TypeError or ValueError when validate is True."""
        env = {} if runtime_env is None else runtime_env
        if validate:
            from skate.runtime_env import RuntimeEnv

            env = RuntimeEnv(**env)
        self.runtime_env = env

    def set_ray_namespace(self, ray_namespace: str) -> None:
        """The namespace of the job's named actors."""
        self.ray_namespace = ray_namespace

    def set_default_actor_lifetime(self, default_actor_lifetime: str) -> None:
        """What `lifetime` actors have that say nothing. ValueError."""
        if default_actor_lifetime not in _LIFETIMES:
            raise ValueError(
                f"default_actor_lifetime is one of {', '.join(_LIFETIMES)}, not "
                f"{default_actor_lifetime!r}"
            )
        self._default_actor_lifetime = default_actor_lifetime

    @classmethod
    def from_json(cls, job_config_json: dict[str, Any]) -> JobConfig:
        """From a dict, as RAY_JOB_CONFIG_JSON_ENV_VAR holds one."""
        return cls(
            jvm_options=job_config_json.get("jvm_options"),
            code_search_path=job_config_json.get("code_search_path"),
            runtime_env=job_config_json.get("runtime_env"),
            metadata=job_config_json.get("metadata"),
            ray_namespace=job_config_json.get("ray_namespace"),
            default_actor_lifetime=job_config_json.get("default_actor_lifetime", "non_detached"),
        )

    def __repr__(self) -> str:
        return f"JobConfig(ray_namespace={self.ray_namespace!r}, metadata={self.metadata!r})"


__all__ = ["JobConfig"]
