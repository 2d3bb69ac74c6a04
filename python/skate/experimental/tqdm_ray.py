"""Progress bars that work in any process: workers say how far they are, the driver draws.

A worker says it in a marked line of its stdout, which reaches the driver like any other line (so
there is nothing to see with log_to_driver=False). On a terminal the bars stay below what is
printed; elsewhere a line is written for every tenth and at the end. At most 100 bars are drawn;
beyond, the one that was silent longest goes.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from skate import _api, _logs

MARK = _logs.BAR_MARK
_MOST_BARS = 100
_FLUSH_S = 0.1
_WIDTH = 20


def safe_print(*args: Any, **kwargs: Any) -> None:
    """print() that leaves the bars whole."""
    manager = _manager
    if manager is None:
        print(*args, **kwargs)
        return
    manager.hide_bars()
    try:
        print(*args, **kwargs)
    finally:
        manager.unhide_bars()


class tqdm:  # noqa: N801
    """As tqdm's, in any task, actor or driver: `for x in tqdm(items, desc="reading"): ...`."""

    def __init__(
        self,
        iterable: Iterable[Any] | None = None,
        desc: str | None = None,
        total: int | None = None,
        unit: str | None = None,
        position: int | None = None,
        flush_interval_s: float | None = None,
    ) -> None:
        if total is None and iterable is not None and hasattr(iterable, "__len__"):
            total = len(iterable)
        self._iterable = iterable
        self._pause = _FLUSH_S if flush_interval_s is None else flush_interval_s
        self._said_at = 0.0
        self._state: dict[str, Any] = {
            "id": os.urandom(8).hex(), "pid": os.getpid(), "desc": desc or "", "n": 0,
            "total": total, "unit": unit or "it", "position": position or 0, "closed": False,
        }  # fmt: skip
        self.refresh()

    @property
    def n(self) -> int:
        """How far it is."""
        return int(self._state["n"])

    @property
    def total(self) -> int | None:
        """How far it goes; None when nobody knows."""
        total = self._state["total"]
        return None if total is None else int(total)

    @total.setter
    def total(self, total: int | None) -> None:
        self._state["total"] = total

    def set_description(self, desc: str) -> None:
        """The words before the bar."""
        self._state["desc"] = desc
        self._say(False)

    def update(self, n: int = 1) -> None:
        """So much further."""
        self._state["n"] += n
        self._say(False)

    def refresh(self) -> None:
        """Show it now."""
        self._say(True)

    def close(self) -> None:
        """It is over."""
        if not self._state["closed"]:
            self._state["closed"] = True
            self._say(True)

    def _say(self, now: bool) -> None:
        moment = time.monotonic()
        if not now and moment - self._said_at < self._pause:
            return
        self._said_at = moment
        if _api._session.printer is not None or not _api.is_initialized():
            instance().process_state_update(dict(self._state))
        else:
            sys.stdout.write(f"{MARK}{json.dumps(self._state)}\n")

    def __iter__(self) -> Iterator[Any]:
        if self._iterable is None:
            raise ValueError("this bar was made without an iterable: call update()")
        try:
            for item in self._iterable:
                yield item
                self.update()
        finally:
            self.close()

    def __enter__(self) -> tqdm:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Bar:
    """A bar as the driver knows it."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.begun = time.monotonic()
        self.tenth = -1

    def text(self) -> str:
        state = self.state
        n, total = state["n"], state["total"]
        seconds = time.monotonic() - self.begun
        rate = f"{n / seconds:.1f} {state['unit']}/s" if seconds > 0.05 and n else ""
        head = f"{state['desc']}: " if state["desc"] else ""
        head = f"(pid={state['pid']}) {head}" if state["pid"] != os.getpid() else head
        if not total:
            return f"{head}{n} {state['unit']} [{seconds:.0f} s, {rate}]"
        done = min(_WIDTH, _WIDTH * n // total)
        bar = "#" * done + " " * (_WIDTH - done)
        return f"{head}{100 * n // total:3d}%|{bar}| {n}/{total} [{seconds:.0f} s, {rate}]"


class BarManager:
    """The bars of all processes, drawn on the driver's stderr."""

    def __init__(self, stream: Any = None) -> None:
        self._stream = stream
        self._bars: dict[tuple[Any, ...], _Bar] = {}
        self._drawn = 0  # lines of the terminal that are bars
        self._hidden = 0
        self._lock = threading.RLock()

    def _out(self) -> Any:
        return self._stream if self._stream is not None else sys.stderr

    def _is_terminal(self) -> bool:
        try:
            return bool(self._out().isatty())
        except (AttributeError, ValueError):
            return False

    def process_state_update(self, state: dict[str, Any]) -> None:
        """What a process says of one of its bars."""
        with self._lock:
            key = (state.get("ip"), state["pid"], state["id"])
            bar = self._bars.pop(key, None) or _Bar()
            bar.state = state
            self._bars[key] = bar  # the last one is who spoke last
            if len(self._bars) > _MOST_BARS:
                del self._bars[next(iter(self._bars))]
            if self._is_terminal():
                self._erase()
                if state["closed"]:
                    self._write(bar.text() + "\n")
                self._forget_closed()
                self._draw()
            else:
                self._say_tenth(bar)
                self._forget_closed()

    def process_line(self, line: str, ip: str) -> None:
        """The same as a marked line of a worker's stdout; not of ours: left out."""
        try:
            state = json.loads(line[len(MARK) :])
            checked = {
                "id": str(state["id"]), "pid": int(state["pid"]), "desc": str(state["desc"])[:200],
                "n": int(state["n"]), "unit": str(state["unit"])[:20], "ip": ip,
                "total": None if state["total"] is None else int(state["total"]),
                "position": int(state["position"]), "closed": bool(state["closed"]),
            }  # fmt: skip
        except (ValueError, KeyError, TypeError):
            return
        self.process_state_update(checked)

    def _say_tenth(self, bar: _Bar) -> None:
        total = bar.state["total"]
        tenth = 10 * bar.state["n"] // total if total else 0
        if tenth != bar.tenth or bar.state["closed"]:
            bar.tenth = tenth
            self._write(bar.text() + "\n")

    def _forget_closed(self) -> None:
        for key in [key for key, bar in self._bars.items() if bar.state["closed"]]:
            del self._bars[key]

    def hide_bars(self) -> None:
        """Before something is printed."""
        with self._lock:
            self._hidden += 1
            self._erase()

    def unhide_bars(self) -> None:
        """After it."""
        with self._lock:
            self._hidden -= 1
            if self._is_terminal():
                self._draw()

    def _erase(self) -> None:
        if self._drawn:
            self._write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0

    def _draw(self) -> None:
        if self._hidden:
            return
        bars = sorted(self._bars.values(), key=lambda bar: (bar.state["position"], bar.begun))
        self._write("".join(bar.text() + "\n" for bar in bars))
        self._drawn = len(bars)

    def _write(self, text: str) -> None:
        if not text:
            return
        try:
            self._out().write(text)
            self._out().flush()
        except (OSError, ValueError, AttributeError):
            pass


_manager: BarManager | None = None


def instance() -> BarManager:
    """The bars of this process; of the driver, all of them."""
    global _manager
    if _manager is None:
        _manager = BarManager()
        _logs.bars = _manager
    return _manager
