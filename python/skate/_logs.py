"""The driver's printer: lines of the workers, and notices of the runtime, on the terminal."""

from __future__ import annotations

import os
import sys
import threading
import time

from skate import _core, _dedup, _wire
from skate._init_config import switch

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

_OF_A_NODE = 3  # kind of a notice: lines of a raylet's log
_LEVELS = {0: "info", 1: "warning", 2: "error"}
BAR_MARK = "\x02skate-bar:"  # begins a line of experimental.tqdm_ray
bars: Any = None  # its manager, once there is a bar


class Printer:
    """One daemon thread that waits for frames that are meant for people."""

    def __init__(self, node_ip: str, log_to_driver: bool) -> None:
        self._node_ip = node_ip
        self._log_to_driver = log_to_driver
        self._stopping = False
        self._dedup = _dedup.Dedup()
        self._prefixed = not switch("DISABLE_WORKER_LOG_PREFIX", False)
        self._to_stderr = switch("LOG_TO_STDERR", False)
        for stream in (sys.stdout, sys.stderr):
            _lines_of(stream)
        self._thread = threading.Thread(target=self._loop, name="skate-printer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Print what is left, then end. The caller has said bye: nothing more comes."""
        self._stopping = True
        _core.event_wake()
        if self._thread is not threading.current_thread():
            self._thread.join(5.0)
        while _lines:  # the streams are as they were
            del _lines.popitem()[0].write

    def _loop(self) -> None:
        while True:
            stopping = self._stopping
            try:
                frame = _core.event(0.0 if stopping else 0.5)
                if frame is not None:
                    self._show(*_wire.parse(frame))
                    continue
                self._write_lines(
                    self._dedup.rest() if stopping else self._dedup.over(time.monotonic())
                )
                if stopping:
                    return
            except Exception:
                if self._stopping or not _core.epoch() or _core.alive() is not None:
                    self._write_lines(self._dedup.rest())
                    return

    def _show(self, name: str, fields: dict[str, Any]) -> None:
        if name == "log":
            if self._log_to_driver:
                self._print_lines(fields)
        elif name == "notice" and fields["kind"] == _OF_A_NODE:
            if self._log_to_driver:
                node = fields["name"]
                lines = fields["text"].splitlines()
                self._write_lines(self._dedup.lines(lines, f"({node}) ", (0, node), True))
        elif name == "notice":
            level = _LEVELS.get(fields["level"], "info")
            _write(sys.stderr, f"[skate] {level}: {fields['text']}\n")

    def _print_lines(self, fields: dict[str, Any]) -> None:
        where = f"pid={fields['pid']}"
        if fields["node_ip"] and fields["node_ip"] != self._node_ip:
            where += f", ip={fields['node_ip']}"
        who = f"{fields['name']} " if fields["name"] else ""
        prefix = f"({who}{where}) " if self._prefixed else ""
        text = fields["text"].decode("utf-8", "replace")
        lines = text.split("\n")
        if lines and not lines[-1]:
            lines.pop()
        if BAR_MARK in text:
            lines = _draw_bars(lines, fields["node_ip"])
        source = fields["pid"], fields["node_ip"]
        self._write_lines(self._dedup.lines(lines, prefix, source, bool(fields["is_err"])))

    def _write_lines(self, lines: list[tuple[str, bool]]) -> None:
        """In order; neighbours of one stream at once."""
        at = 0
        while at < len(lines):
            end, is_err = at, lines[at][1]
            while end < len(lines) and lines[end][1] == is_err:
                end += 1
            text = "".join(f"{line}\n" for line, _ in lines[at:end])
            _write(sys.stderr if is_err or self._to_stderr else sys.stdout, text)
            at = end


def _draw_bars(lines: list[str], ip: str) -> list[str]:
    """Draw what workers say of their progress; the other lines."""
    from skate.experimental import tqdm_ray

    for line in lines:
        if line.startswith(BAR_MARK):
            tqdm_ray.instance().process_line(line, ip)
    return [line for line in lines if not line.startswith(BAR_MARK)]


_PATIENCE = 1000  # looks of half a millisecond


class _Lines:
    """An unbuffered stream (PYTHONUNBUFFERED): print() writes its pieces one by one, and other
    threads run in between. Whoever writes says so first and then looks at the other, so that
    never both go on. The printer's patience has an end: a program may leave a line open."""

    def __init__(self, stream: Any) -> None:
        self.stream_write = stream.write
        self.open = False  # it is in the middle of a line
        self.busy = 0  # the process whose printer writes
        self.left_open = False  # by the program, and longer than a print() takes
        stream.write = self.write

    def write(self, text: str) -> Any:
        """What the program calls instead of the stream's."""
        self.open = bool(text) or self.open
        while self.busy and self.busy == os.getpid():  # a forked child has no printer
            time.sleep(0.0005)
        count = self.stream_write(text)
        if text[-1:] == "\n":
            self.open = self.left_open = False
        return count

    def print(self, text: str) -> None:
        """What the printer calls."""
        for _ in range(_PATIENCE):
            self.busy = os.getpid()
            if not self.open or self.left_open:
                break
            self.busy = 0
            time.sleep(0.0005)
        else:
            self.left_open = True
        try:
            self.stream_write(text)
        finally:
            self.busy = 0


_lines: dict[Any, _Lines] = {}  # unbuffered streams


def _lines_of(stream: Any) -> _Lines | None:
    if type(stream).__name__ != "TextIOWrapper" or not stream.write_through:
        return None
    if stream not in _lines:
        _lines[stream] = _Lines(stream)
    return _lines[stream]


def _let_finish(stream: Any) -> Any:
    """What to write with, so that it does not come into the middle of somebody's print().

    print() hands its pieces to the stream one by one. A buffered one written in C takes them
    without a thread switch; one in Python (notebooks) can be left inside its write().
    """
    lines = _lines_of(stream)
    if lines is not None:
        return lines.print
    if type(stream).__name__ == "TextIOWrapper":
        return stream.write
    me = threading.get_ident()
    for _ in range(40):
        frames = sys._current_frames()
        if not any(f.f_code.co_name == "write" for i, f in frames.items() if i != me):
            break
        time.sleep(0.0005)
    return stream.write


def _write(stream: Any, text: str) -> None:
    """To a stream that may be gone, closed, or not a file at all (notebooks)."""
    if stream is None or not text:
        return
    write = _let_finish(stream)
    if bars is not None:
        bars.hide_bars()
    try:
        write(text)
        stream.flush()
    except UnicodeEncodeError:
        write(text.encode("ascii", "backslashreplace").decode())
    except (OSError, ValueError):
        pass
    finally:
        if bars is not None:
            bars.unhide_bars()
