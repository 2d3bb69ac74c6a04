"""Real programs under test: started, watched, killed, and checked to leave nothing behind.

Every program runs with a temp folder and an environment mark of its own; whatever carries the mark
belongs to its session. All waiting is done by `until`: ask again, up to a deadline.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples"
MARK = "SKATE_E2E"
GONE_S = 2.0  # what a killed session may take to vanish
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def contents(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Each file below with its bytes, also while some are being removed."""
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in names):
            try:
                if path.is_file():
                    yield path, path.read_bytes()
            except FileNotFoundError:
                continue


def until(question: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true answer; an AssertionError naming `what` when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.005)


def eventually(question: Callable[[], Any], seconds: float = 30.0) -> Any:
    """The first true answer; the last one, whatever it is, when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer or time.monotonic() > deadline:
            return answer
        time.sleep(0.005)


@dataclass(frozen=True)
class Process:
    """One living process of a session, as /proc shows it."""

    pid: int
    parent: int
    command: str


def living(mark: str) -> list[Process]:
    """Every process that carries this mark and is not a zombie."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if wanted not in (entry / "environ").read_bytes().split(b"\0"):
                continue
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state not in "ZX":
            found.append(Process(int(entry.name), int(parent), command.strip()))
    return found


class Site:
    """A temp folder and a mark: the place where one session, or one cluster, lives."""

    def __init__(self) -> None:
        # Short: a Unix socket's path has room for 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="e", dir="/tmp"))
        self.mark = uuid.uuid4().hex
        self.programs: list[Program] = []

    def environment(self, extra: dict[str, str] | None = None) -> dict[str, str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SKATE_"))}
        env |= {
            MARK: self.mark,
            "TMPDIR": str(self.folder),
            "SKATE_TMPDIR": str(self.folder),
            "PYTHONUNBUFFERED": "1",
            "HOME": str(self.folder),
        }
        # The run's own mark too: the module's leak check must see what we start.
        if "SKATE_TEST_RUN" in os.environ:
            env["SKATE_TEST_RUN"] = os.environ["SKATE_TEST_RUN"]
        return env | (extra or {})

    def start(self, *command: str, env: dict[str, str] | None = None, cwd: str | None = None,
              ) -> Program:
        program = Program(self, list(command), self.environment(env), cwd)
        self.programs.append(program)
        return program

    def python(self, source: str, *args: str, **kw: Any) -> Program:
        """Run a program text as a script file (so that it has a __main__ like any program)."""
        path = self.folder / f"program_{len(self.programs)}.py"
        path.write_text(textwrap.dedent(source))
        return self.start(sys.executable, str(path), *args, **kw)

    def skate(self, *args: str, **kw: Any) -> Program:
        """The command line tool, as installed beside this interpreter."""
        return self.start(str(Path(sys.executable).with_name("skate")), *args, **kw)

    def processes(self) -> list[Process]:
        return living(self.mark)

    def called(self, word: str) -> list[Process]:
        """Processes whose command line holds this word."""
        return [p for p in self.processes() if word in p.command]

    def raylets(self) -> list[Process]:
        return self.called("skate-raylet")

    def zygotes(self) -> list[Process]:
        """Children of the raylets."""
        raylets = {p.pid for p in self.raylets()}
        return [p for p in self.processes() if p.parent in raylets]

    def workers(self) -> list[Process]:
        """Children of the zygotes."""
        zygotes = {p.pid for p in self.zygotes()}
        return [p for p in self.processes() if p.parent in zygotes]

    def files(self) -> list[str]:
        """What a session left in its temp folder or in shared memory."""
        base = self.folder / f"skate-{os.getuid()}"
        left = []
        for folder, folders, names in os.walk(base):  # silent about what vanishes meanwhile
            left += [os.path.join(folder, name) for name in names]
            left += [os.path.join(folder, name) for name in folders if name.startswith("session_")]
        return sorted(left) + [str(p) for p in Path("/dev/shm").glob("skate*")]

    def left(self) -> list[str]:
        drivers = {p.popen.pid for p in self.programs if p.popen.poll() is None}
        return [str(p) for p in self.processes() if p.pid not in drivers] + self.files()

    def assert_nothing_left(self, seconds: float = GONE_S) -> None:
        deadline = time.monotonic() + seconds
        left = self.left()
        while left and time.monotonic() < deadline:
            time.sleep(0.01)
            left = self.left()
        assert not left, f"left after {seconds} s:\n  " + "\n  ".join(left)

    def close(self) -> None:
        """End whatever is left, by force."""
        for program in self.programs:
            program.close()
        for process in self.processes():
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        shutil.rmtree(self.folder, ignore_errors=True)


class Program:
    """A process whose two output streams are read, line by line, as they come."""

    def __init__(
        self, site: Site, command: list[str], env: dict[str, str], cwd: str | None
    ) -> None:
        self.site = site
        self.out: list[str] = []
        self.err: list[str] = []
        self.popen = subprocess.Popen(
            command, env=env, cwd=cwd or str(site.folder), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
            start_new_session=True,
        )
        self.readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self.popen.stdout, self.out), (self.popen.stderr, self.err))
        ]
        for reader in self.readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, lines: list[str]) -> None:
        for line in stream:
            lines.append(COLOUR.sub("", line.rstrip("\n")))

    @property
    def pid(self) -> int:
        return self.popen.pid

    def text(self) -> str:
        """All that was said so far, for messages."""
        return "\n".join(["--- stdout", *self.out, "--- stderr", *self.err])

    def expect(self, pattern: str, seconds: float = 20.0, stream: str = "out") -> re.Match[str]:
        """The first line of a stream that matches; fails at once when the program has ended."""
        expression = re.compile(pattern)

        def look() -> re.Match[str] | None:
            for line in list(getattr(self, stream)):
                found = expression.search(line)
                if found:
                    return found
            return None

        def answer() -> Any:
            ended = self.popen.poll() is not None
            if ended:
                for reader in self.readers:
                    reader.join(2)
            found = look()
            if not found and ended:
                raise AssertionError(
                    f"ended ({self.popen.returncode}) without {pattern!r}\n{self.text()}"
                )
            return found

        try:
            return until(answer, seconds, f"a line of std{stream} like {pattern!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text()}") from None

    def wait(self, seconds: float = 30.0) -> int:
        """Exit status; its output is complete then."""
        try:
            status = self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {seconds} s\n{self.text()}") from None
        for reader in self.readers:
            reader.join(2)
        return status

    def succeeds(self, seconds: float = 30.0) -> Program:
        status = self.wait(seconds)
        assert status == 0, f"exit status {status}\n{self.text()}"
        return self

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def interrupt(self) -> None:
        """Ctrl-C: the terminal sends SIGINT to the whole foreground group."""
        os.killpg(self.pid, signal.SIGINT)

    def close(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait(5)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
