"""The fields of a runtime environment, and what each may hold."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar.xz", ".whl", ".jar")
_WORKING_DIR_ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar.xz")
SETUP_TIMEOUT_S = 600
_CONFIG = {"setup_timeout_seconds": SETUP_TIMEOUT_S, "eager_install": True, "log_files": []}


def is_uri(text: str) -> bool:
    """Does it name something elsewhere, "scheme://...", and not a path of this machine?"""
    scheme, mark, _ = text.partition("://")
    return bool(mark) and scheme.replace("+", "").isalnum()


def _kind(value: Any) -> str:
    return f"{type(value)}"


def _env_vars(value: Any) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise TypeError(
            f"runtime_env['env_vars'] must be of type dict[str, str], got {_kind(value)}"
        )
    for key, text in value.items():
        if not isinstance(key, str):
            raise TypeError(f"runtime_env['env_vars']: the name {key!r} is of type {_kind(key)}")
        if not isinstance(text, str):
            raise TypeError(
                f"runtime_env['env_vars'][{key!r}] must be a str, but {text!r} is of type "
                f"{_kind(text)}"
            )
        if "\0" in key + text or "=" in key or not key:
            raise ValueError(f"runtime_env['env_vars']: {key!r} cannot be an environment variable")
    return dict(value)


def _working_dir(value: Any) -> str:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise TypeError(f"runtime_env['working_dir'] must be a str, got {_kind(value)}")
    if is_uri(value) and not value.endswith(_WORKING_DIR_ARCHIVES):
        raise ValueError(
            f"runtime_env['working_dir'] is the URI {value!r}, which is none of: "
            f"{', '.join(_WORKING_DIR_ARCHIVES)}"
        )
    return value


def _py_modules(value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(
            f"runtime_env['py_modules'] must be a list of paths or modules, got {_kind(value)}"
        )
    out: list[Any] = []
    for item in value:
        if isinstance(item, os.PathLike):
            item = os.fspath(item)
        if not isinstance(item, str) and not hasattr(item, "__path__") and not _file_of(item):
            raise TypeError(
                f"an item of runtime_env['py_modules'] must be a path or a module, got "
                f"{_kind(item)}"
            )
        if isinstance(item, str) and not is_uri(item) and not os.path.exists(item):
            raise ValueError(f"{item} in runtime_env['py_modules'] is not a valid path")
        out.append(item)
    return out


def _file_of(module: Any) -> str | None:
    return getattr(module, "__file__", None) if type(module).__name__ == "module" else None


def _strings(name: str, value: Any) -> list[str]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
        raise TypeError(f"runtime_env[{name!r}] must be of type list[str], got {_kind(value)}")
    return list(value)


def read_requirements(path: str) -> list[str]:
    """The lines of a requirements file, those of files that it names by -r too."""
    if not os.path.isfile(path):
        raise ValueError(f"{path} is not a valid file of requirements")
    out: list[str] = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            line = line.split(" #")[0].strip()
            if line.startswith(("-r ", "--requirement ")):
                out += read_requirements(os.path.join(os.path.dirname(path), line.split()[1]))
            elif line and not line.startswith("#"):
                out.append(line)
    return out


def _installer(name: str, known: dict[str, Any]) -> Callable[[Any], dict[str, Any]]:
    """pip and uv: a list, a file, or a dict with packages and more."""

    def check(value: Any) -> dict[str, Any]:
        out: dict[str, Any] = {"packages": [], f"{name}_check": False}
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if isinstance(value, str):
            out["packages"] = read_requirements(value)
        elif isinstance(value, (list, tuple)):
            out["packages"] = _strings(name, value)
        elif isinstance(value, dict):
            unknown = set(value) - set(known) - {"packages"}
            if unknown:
                raise ValueError(
                    f"runtime_env[{name!r}] has only the fields packages, {', '.join(known)}, not "
                    f"{', '.join(sorted(map(str, unknown)))}"
                )
            if "packages" not in value:
                raise ValueError(f"runtime_env[{name!r}] must include the field packages")
            packages = value["packages"]
            out["packages"] = (
                read_requirements(packages)
                if isinstance(packages, str)
                else _strings(f"{name}.packages", packages)
            )
            for field, kind in known.items():
                given = value.get(field)
                if given is None:
                    continue
                if not isinstance(given, kind):
                    raise TypeError(
                        f"runtime_env[{name!r}][{field!r}] must be of type {kind.__name__}, got "
                        f"{_kind(given)}"
                    )
                out[field] = _strings(f"{name}.{field}", given) if kind is list else given
        else:
            raise TypeError(
                f"runtime_env[{name!r}] must be of type str, list[str] or dict, got {_kind(value)}"
            )
        seen: dict[str, None] = dict.fromkeys(out["packages"])
        out["packages"] = list(seen)
        return out

    return check


def _conda(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, (str, dict)):
        raise TypeError(f"runtime_env['conda'] must be of type str or dict, got {_kind(value)}")
    return value


def config(value: Any) -> dict[str, Any]:
    """The `config` field, or the arguments of RuntimeEnvConfig, with defaults."""
    if not isinstance(value, dict):
        raise TypeError(
            f"runtime_env['config'] must be of type dict or RuntimeEnvConfig, got {_kind(value)}"
        )
    out = {**_CONFIG, "log_files": []}
    for name in _CONFIG:
        if value.get(name) is not None:
            out[name] = value[name]
    seconds = out["setup_timeout_seconds"]
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        raise TypeError(f"setup_timeout_seconds must be of type int, got {_kind(seconds)}")
    if seconds < 1 and seconds != -1:
        raise ValueError(f"setup_timeout_seconds must be positive, or -1 (no limit), not {seconds}")
    if not isinstance(out["eager_install"], bool):
        raise TypeError(f"eager_install must be a bool, got {_kind(out['eager_install'])}")
    out["log_files"] = _strings("config.log_files", out["log_files"])
    return out


def _hook(value: Any) -> Any:
    if not callable(value) and not isinstance(value, str):
        raise TypeError(
            "runtime_env['worker_process_setup_hook'] must be a callable or a str "
            f'"module.function", got {_kind(value)}'
        )
    if isinstance(value, str) and not all(part.isidentifier() for part in value.split(".")):
        raise ValueError(
            f'runtime_env[\'worker_process_setup_hook\'] must name a "module.function", not '
            f"{value!r}"
        )
    return value


def _text(name: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError(f"runtime_env[{name!r}] must be a str, got {_kind(value)}")
        return value

    return check


def _as_is(value: Any) -> Any:
    return value


FIELDS: dict[str, Callable[[Any], Any]] = {
    "env_vars": _env_vars,
    "working_dir": _working_dir,
    "py_modules": _py_modules,
    "excludes": lambda value: _strings("excludes", value),
    "pip": _installer("pip", {"pip_check": bool, "pip_version": str, "pip_install_options": list}),
    "uv": _installer("uv", {"uv_check": bool, "uv_version": str, "uv_pip_install_options": list}),
    "conda": _conda,
    "py_executable": _text("py_executable"),
    "worker_process_setup_hook": _hook,
    "config": config,
    "image_uri": _text("image_uri"),
    "container": _as_is,
    "java_jars": lambda value: _strings("java_jars", value),
    "_nsight": _as_is,
    "nsight": _as_is,
    "rocprof_sys": _as_is,
    "_rocprof_sys": _as_is,
    "_ray_commit": _as_is,
    "_inject_current_ray": _as_is,
}


def check_field(name: str, value: Any) -> Any:
    """One field's value, in its full form. TypeError or ValueError."""
    judge = FIELDS.get(name)
    return judge(value) if judge is not None else value


def check(env: dict[str, Any]) -> dict[str, Any]:
    """All fields in their full form; fields that are None are left out."""
    out = {}
    for name, value in env.items():
        if not isinstance(name, str):
            raise TypeError(f"a field of runtime_env is named by a str, not {name!r}")
        if value is None:
            continue
        value = check_field(name, value)
        if value is not None:
            out[name] = value
    together(out)
    return out


def together(env: dict[str, Any]) -> None:
    """ValueError for fields that exclude each other."""
    several = [name for name in ("pip", "uv", "conda") if env.get(name)]
    if len(several) > 1:
        raise ValueError(
            f"the fields {' and '.join(several)} of runtime_env cannot be given at the same time"
        )
    image = env.get("image_uri") or env.get("container")
    others = set(env) - {"image_uri", "container", "env_vars", "config", "_ray_commit"}
    if image and others:
        raise ValueError(
            "image_uri and container of runtime_env cannot be used together with "
            f"{', '.join(sorted(others))}"
        )


def unknown_fields(env: dict[str, Any]) -> list[str]:
    """Fields that mean nothing: for a warning."""
    return [name for name in env if name not in FIELDS]


def local_path(env: dict[str, Any]) -> str | None:
    """A path of this machine in working_dir or py_modules, which only a job may give."""
    for item in (env.get("working_dir"), *(env.get("py_modules") or ())):
        if item is None or (isinstance(item, str) and is_uri(item)):
            continue
        return item if isinstance(item, str) else getattr(item, "__name__", str(item))
    return None
