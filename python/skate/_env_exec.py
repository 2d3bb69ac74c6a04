"""Workers that need an interpreter of their own: `py_executable`, and variables that a program
reads before its first line (LD_PRELOAD, PYTHONHASHSEED, ...).

The forked process looks at its first message without taking it, and becomes the other program with
the same socket: exec keeps the process id, so nobody else has to know.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

# Names in front of variables that work at a program's start only; PYTHONPATH does without.
EARLY = ("LD_", "PYTHON", "MALLOC_", "GLIBC_")
_LATE = ("PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONWARNINGS")
_SIGNS = (b"py_executable", *(name.encode() for name in EARLY))
_MARK = "SKATE_WORKER_ENV_SET"


def needs_exec(spec: dict[str, Any]) -> bool:
    """Does the environment ask for what only a new program can have?"""
    names = spec.get("env_vars") or ()
    return bool(spec.get("py_executable")) or any(
        name.startswith(EARLY) and name not in _LATE for name in names
    )


def maybe(fd: int) -> str | None:
    """Become another program when the worker's environment asks for one. Returns when it does not,
    or with the reason why it could not."""
    import _socket

    sock = _socket.socket(fileno=fd)
    try:
        data = _peek(sock)
    finally:
        sock.detach()
    if not any(sign in data for sign in _SIGNS):
        return None
    if len(data) < int.from_bytes(data[:4], "little"):
        return "the runtime_env is too large for an interpreter of its own: 30 KB is the most"
    spec, folder = _told(data)
    if not needs_exec(spec):
        return None
    return _become(fd, spec, folder)


def _peek(sock: Any) -> bytes:
    """The first message, which stays where it is. One that lies in the socket in several pieces (it
    is larger than 30 KB) is seen in part only."""
    import _socket

    for _ in range(100):
        data: bytes = sock.recv(1 << 18, _socket.MSG_PEEK)
        if not data or len(data) >= int.from_bytes(data[:4], "little"):
            break
        os.sched_yield()
    return data


def _told(frame: bytes) -> tuple[dict[str, Any], str]:
    """The worker's environment, and the node's folder for what environments make."""
    from skate import _core, _wire

    name, fields = _wire.parse(frame)
    if name != "welcome":
        return {}, ""
    folder = os.path.join(fields["session_dir"], "runtime_resources")
    if fields["env"]:
        return dict(_core.unpack(fields["env"])), folder
    config = _core.unpack(fields["config"]) if fields["config"] else {}
    return dict(config.get("runtime_env") or {}), folder


def _try_once(command: list[str], folder: str) -> str | None:
    """Can this interpreter be a worker? Asked once on a node. None, or the reason why not."""
    import fcntl
    import hashlib
    import subprocess

    name = hashlib.sha256("\0".join(command).encode()).hexdigest()[:32]
    path = os.path.join(folder, f"python_{name}")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as known:
        fcntl.flock(known, fcntl.LOCK_EX)
        known.seek(0)
        if known.read() == "good":
            return None
        try:
            done = subprocess.run(
                [*command, "check"], capture_output=True, text=True, timeout=60,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)
        if done.stdout.strip().endswith("good"):
            known.write("good")
            return None
        return f"it ended with status {done.returncode}. {done.stderr[-2000:]}".strip()


def _become(fd: int, spec: dict[str, Any], folder: str) -> str:
    import shlex
    import shutil

    from skate import _env_apply

    words = shlex.split(spec.get("py_executable") or "") or [sys.executable]
    _env_apply.set_variables(spec.get("env_vars") or {})
    program = shutil.which(words[0])
    if program is None:
        return f"py_executable: there is no program {words[0]!r} on this node"
    boot = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_env_boot.py")
    command = [program, *words[1:], boot]
    why = _try_once(command, folder) if spec.get("py_executable") else None
    if why is not None:
        return f"py_executable: {' '.join(words)} cannot run Skate's workers: {why}"
    os.environ[_MARK] = "1"
    os.set_inheritable(fd, True)
    try:
        os.execv(program, [*command, str(fd)])
    except OSError as error:
        del os.environ[_MARK]
        return f"py_executable: {program} cannot be run: {error}"


def was_set() -> bool:
    """Has this process its variables from before its start? True once."""
    return os.environ.pop(_MARK, None) is not None


def own_paths(config: dict[str, Any]) -> list[str]:
    """The job's path, for this interpreter: without the library of another one."""
    paths: list[str] = config.get("sys_path") or []
    others = [p + os.sep for p in config.get("prefixes") or () if p]
    if not others or sys.base_prefix + os.sep in others:
        return paths
    return [p for p in paths if not (p + os.sep).startswith(tuple(others))]
