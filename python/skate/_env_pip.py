"""Python packages of a runtime environment: `pip` and `uv`.

One virtual environment for each content, built once on a node by the first worker that needs it;
the others wait for it. It sees the node's own packages, and what it installs stands before them. A
worker does not change its interpreter: the environment's packages come first on its path, so it
starts as quickly as any other once they are there.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import time

from skate._env_apply import SetupError, session_dir

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

_FAILED_FOR_S = 10.0  # those who waited for a build that failed do not all try again
_LOG_TAIL = 6000
# The installer ends with the worker that started it.
_GUARD = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"
)


def use(spec: dict[str, Any]) -> None:
    """Let this process import what `pip` or `uv` asks for. SetupError with the build's log."""
    import hashlib

    from skate import _runtime_env

    tool = "pip" if spec.get("pip") else "uv"
    wanted = {"tool": tool, "what": spec[tool], "python": sys.version, "at": sys.executable}
    name = f"{tool}_{hashlib.sha256(_runtime_env.pack(wanted)).hexdigest()[:32]}"
    home = os.path.join(session_dir(), name)
    if not os.path.exists(os.path.join(home, ".done")):
        _build_once(home, tool, spec)
    _activate(home)


def _build_once(home: str, tool: str, spec: dict[str, Any]) -> None:
    os.makedirs(session_dir(), mode=0o700, exist_ok=True)
    with open(f"{home}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(os.path.join(home, ".done")):
            return
        failed = f"{home}.failed"
        if os.path.exists(failed) and time.time() - os.stat(failed).st_mtime < _FAILED_FOR_S:
            with open(failed, encoding="utf-8") as file:
                raise SetupError(file.read())
        try:
            _Build(home, tool, spec).run()
        except SetupError as error:
            shutil.rmtree(home, ignore_errors=True)
            with open(failed, "w", encoding="utf-8") as file:
                file.write(str(error))
            raise
        with open(os.path.join(home, ".done"), "w"):
            pass


class _Build:
    """The steps that make one virtual environment, with one log and one deadline."""

    def __init__(self, home: str, tool: str, spec: dict[str, Any]) -> None:
        self.home, self.tool, self.what = home, tool, spec[tool]
        seconds = (spec.get("config") or {}).get("setup_timeout_seconds", 600)
        self.seconds = seconds
        self.deadline = time.monotonic() + seconds if seconds > 0 else None
        self.log = f"{home}.log"
        self.python = os.path.join(home, "bin", "python")

    def run(self) -> None:
        """All steps. SetupError."""
        shutil.rmtree(self.home, ignore_errors=True)
        with open(self.log, "w"):
            pass
        self.step([sys.executable, "-m", "venv", "--system-site-packages", "--without-pip",
                   self.home])  # fmt: skip
        self.see_parent()
        requirements = os.path.join(self.home, "requirements.txt")
        with open(requirements, "w", encoding="utf-8") as file:
            file.write("\n".join(self.what["packages"]) + "\n")
        if self.tool == "pip":
            self.with_pip(requirements)
        else:
            self.with_uv(requirements)

    def see_parent(self) -> None:
        """What the node's interpreter can import, be it a virtual environment itself."""
        import site

        own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        parents = [p for p in [own, *site.getsitepackages()] if os.path.isdir(p)]
        with open(os.path.join(site_packages(self.home), "_skate_parent.pth"), "w") as file:
            file.write("\n".join(dict.fromkeys(parents)) + "\n")

    def with_pip(self, requirements: str) -> None:
        """Install by the node's pip, or the one that the user wants."""
        pip = [self.python, "-m", "pip"]
        usual = ["--disable-pip-version-check", "--no-input"]
        if not self.has("pip"):
            self.step([self.python, "-m", "ensurepip"])
        if self.what.get("pip_version"):
            self.step([*pip, "install", *usual, f"pip{self.what['pip_version']}"])
        options = self.what.get("pip_install_options")
        options = usual if options is None else [*options, "--no-input"]
        self.step([*pip, "install", *options, "-r", requirements])
        if self.what.get("pip_check"):
            self.step([*pip, "check", "--disable-pip-version-check"])

    def with_uv(self, requirements: str) -> None:
        """Install by uv: the one of this machine, or one that pip brings."""
        found = shutil.which("uv")
        version = self.what.get("uv_version")
        uv = [found] if found and not version else [self.python, "-m", "uv"]
        if not found or version:
            if not self.has("pip"):
                self.step([self.python, "-m", "ensurepip"])
            if version or not self.has("uv"):
                self.step([self.python, "-m", "pip", "install", "--disable-pip-version-check",
                           "--no-input", f"uv{version or ''}"])  # fmt: skip
        options = self.what.get("uv_pip_install_options") or []
        self.step([*uv, "pip", "install", "--python", self.python, *options, "-r", requirements])
        if self.what.get("uv_check"):
            self.step([*uv, "pip", "check", "--python", self.python])

    def has(self, module: str) -> bool:
        """Can the new environment import it?"""
        code = f"import importlib.util as u; raise SystemExit(u.find_spec({module!r}) is None)"
        return self.call([self.python, "-c", code]) == 0

    def step(self, command: list[str]) -> None:
        """Run it; SetupError when it fails or the time is over."""
        status = self.call(command)
        if status:
            raise SetupError(
                f"{_words(command)} failed with status {status}. Its log:\n{self.tail()}"
            )

    def call(self, command: list[str]) -> int:
        """Its status. Its output goes to the log."""
        import subprocess

        env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
        env["VIRTUAL_ENV"] = self.home
        with open(self.log, "a") as log:
            child = subprocess.Popen(
                [sys.executable, "-S", "-c", _GUARD, *command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True,
            )  # fmt: skip
            try:
                left = None if self.deadline is None else self.deadline - time.monotonic()
                return child.wait(left)
            except subprocess.TimeoutExpired:
                raise SetupError(
                    f"{_words(command)} was not done within setup_timeout_seconds="
                    f"{self.seconds}. Its log so far:\n{self.tail()}"
                ) from None
            finally:
                if child.poll() is None:
                    _end_group(child)

    def tail(self) -> str:
        """The end of the log."""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            text = file.read()
        return text if len(text) <= _LOG_TAIL else "...\n" + text[-_LOG_TAIL:]


def _end_group(child: Any) -> None:
    import signal

    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()


def _words(command: list[str]) -> str:
    at = 2 if command[1:2] == ["-m"] else 0
    return " ".join([os.path.basename(command[at]), *command[at + 1 :]])


def site_packages(home: str) -> str:
    """Where its packages lie."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return os.path.join(home, "lib", version, "site-packages")


def _activate(home: str) -> None:
    """Its packages first; what the zygote has imported and it replaces is imported anew."""
    import importlib
    import site

    packages = site_packages(home)
    site.addsitedir(packages)
    sys.path.remove(packages)
    inside = (sys.prefix + os.sep, sys.base_prefix + os.sep)
    at = next((i for i, p in enumerate(sys.path) if p.startswith(inside)), len(sys.path))
    sys.path.insert(at, packages)
    for entry in os.listdir(packages):
        name = entry.removesuffix(".py").partition(".")[0]
        module = sys.modules.get(name)
        if module is None or name in ("skate", "__pycache__") or entry.endswith("-info"):
            continue
        if not (getattr(module, "__file__", None) or packages).startswith(packages):
            for other in [n for n in sys.modules if n == name or n.startswith(f"{name}.")]:
                del sys.modules[other]
    importlib.invalidate_caches()
    os.environ["VIRTUAL_ENV"] = home
    os.environ["PATH"] = os.pathsep.join(
        filter(None, [os.path.join(home, "bin"), os.environ.get("PATH", "")])
    )
    sys.executable = os.path.join(home, "bin", "python")
    sys.prefix = sys.exec_prefix = home
