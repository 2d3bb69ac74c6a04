"""Runtime environments on the side that asks for them: merged, packed, given to the core.

An environment is a dict of plain values, packed with its keys in order: equal bytes are the same
environment to the core, which keeps its workers apart from all others. Empty bytes are the job's
own. Children inherit what the process that submits them has; a call's own fields stand over it.
"""

from __future__ import annotations

from skate import _core, _env_check

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

MAX_BYTES = 200_000
HOOK = "worker_process_setup_hook"
_PICKLED_HOOK = "_hook"  # beside the hook's name: its pickle


class _Here:
    """The environment of this process: what its children inherit."""

    def __init__(self) -> None:
        self.spec: dict[str, Any] = {}  # of this process
        self.packed = b""  # of this process; empty: the job's
        self.job_packed = b""  # of the job
        self.cache: dict[bytes, bytes] = {}


here = _Here()


def be_driver(spec: dict[str, Any]) -> None:
    """This process drives a job whose environment this is."""
    here.spec, here.packed, here.job_packed = spec, b"", pack(spec)
    here.cache.clear()


def be_worker(job: dict[str, Any], packed: bytes) -> dict[str, Any]:
    """This process is a worker; packed as it came from the raylet. Its environment."""
    here.spec = _core.unpack(packed) if packed else job
    here.packed, here.job_packed = packed, pack(job)
    return here.spec


def pack(spec: dict[str, Any]) -> bytes:
    """The one form of an environment. ValueError when it is too large to travel with a call."""
    if not spec:
        return b""
    data: bytes = _core.pack(_in_order(spec))
    if len(data) > MAX_BYTES:
        raise ValueError(
            f"the runtime_env has {len(data)} bytes, the most is {MAX_BYTES}: put files into "
            "working_dir, and data into objects"
        )
    return data


def _in_order(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _in_order(value[name]) for name in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [_in_order(item) for item in value]
    return value


def merge(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`own` over `base`: env_vars name by name, every other field as a whole."""
    out = {**base, **own}
    if "env_vars" in base and "env_vars" in own:
        out["env_vars"] = {**base["env_vars"], **own["env_vars"]}
    if HOOK in own and _PICKLED_HOOK not in own:
        out.pop(_PICKLED_HOOK, None)
    for name in ("pip", "uv", "conda"):
        if name in own:
            for other in {"pip", "uv", "conda"} - {name}:
                if other not in own:
                    out.pop(other, None)
    _env_check.together(out)
    return out


def plain(env: dict[str, Any]) -> dict[str, Any]:
    """A checked environment in values that travel: a hook that is a callable is pickled."""
    out = dict(env)
    out.pop("_ray_commit", None)
    hook = out.get(HOOK)
    if hook is not None and not isinstance(hook, str):
        import cloudpickle

        out[HOOK] = f"{getattr(hook, '__module__', '?')}.{getattr(hook, '__qualname__', '?')}"
        try:
            out[_PICKLED_HOOK] = cloudpickle.dumps(hook)
        except Exception as error:
            raise TypeError(f"the {HOOK} {out[HOOK]} cannot be pickled: {error}") from error
    return out


def warn_unknown(env: dict[str, Any]) -> None:
    """Fields that mean nothing are left alone, as Ray does, but not in silence."""
    unknown = _env_check.unknown_fields(env)
    if unknown:
        import sys

        from skate import _options

        hints = [f"{n!r}{_options.suggestion(n, _env_check.FIELDS)}" for n in unknown]
        print(
            f"[skate] warning: runtime_env: {', '.join(hints)} is no field of it, ignoring",
            file=sys.stderr,
        )


def check_option(name: str, value: Any) -> None:
    """The option runtime_env of a task or actor. TypeError or ValueError."""
    if value is None:
        return
    if not isinstance(value, dict):
        raise TypeError(f"{name} must be a dict or a RuntimeEnv, not {value!r}")
    path = _env_check.local_path(value)
    if path is not None:
        raise ValueError(
            f"{path} is not a valid URI: folders and modules of this machine can be given for "
            "the whole job only, in init(runtime_env=...)"
        )
    _env_check.check(value)


def for_call(option: dict[str, Any] | None) -> bytes:
    """What goes to the core for a call with this option: b"" when it is the job's own."""
    if not option:
        return here.packed
    warn_unknown(option)
    packed = pack(merge(here.spec, plain(_env_check.check(option))))
    return b"" if packed == here.job_packed else packed


def visible(spec: dict[str, Any]) -> dict[str, Any]:
    """What a program sees of an environment."""
    return {name: value for name, value in spec.items() if name != _PICKLED_HOOK}
