"""Lines that many workers print alike are shown once, with a count.

Only exact repeats count as repeats, and only those of other processes than the first: what one
process prints again is its own business, and lines that differ in a number differ. A line is shown
when it comes first; what repeats it within the window is counted, and told when that is over.
"""

from __future__ import annotations

import time

from skate._init_config import switch, variable

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

WINDOW_S = 5.0
MOST = 10_000  # lines remembered; the oldest go, and are told
_HINT = (
    " (Skate shows equal lines of several workers once. Set SKATE_DEDUP_LOGS=0 to see each of them)"
)


class _Seen:
    """A line that was shown."""

    __slots__ = ("until", "source", "count", "prefix")

    def __init__(self, until: float, source: Any) -> None:
        self.until = until
        self.source: Any = source
        self.count = 0  # repeats that were not shown
        self.prefix = ""  # of the last of them


class Dedup:
    """The lines of the last seconds. Not for several threads at once."""

    def __init__(self) -> None:
        """ValueError when a variable of the environment has no meaning."""
        import re

        self.on = switch("DEDUP_LOGS", True)
        window = variable("DEDUP_LOGS_AGG_WINDOW_S")
        self.window = float(window) if window else WINDOW_S
        allow, skip = variable("DEDUP_LOGS_ALLOW_REGEX"), variable("DEDUP_LOGS_SKIP_REGEX")
        self.allow = re.compile(allow) if allow else None  # always shown
        self.skip = re.compile(skip) if skip else None  # never shown
        self.seen: dict[tuple[str, bool], _Seen] = {}
        self.hinted = False

    def lines(
        self, lines: list[str], prefix: str, source: Any, is_err: bool
    ) -> list[tuple[str, bool]]:
        """What to show now, as (text, is it of stderr), of what a process has printed."""
        if not self.on:
            return [(prefix + line, is_err) for line in lines]
        now = time.monotonic()
        out = self.over(now)
        for line in lines:
            if self.skip is not None and self.skip.search(line):
                continue
            if not line.strip() or (self.allow is not None and self.allow.search(line)):
                out.append((prefix + line, is_err))
                continue
            key = line, is_err
            seen = self.seen.get(key)
            if seen is None:
                self.seen[key] = _Seen(now + self.window, source)
                out.append((prefix + line, is_err))
                if len(self.seen) > MOST:
                    oldest = next(iter(self.seen))
                    out += self.tell(oldest, self.seen.pop(oldest))
            elif seen.source == source and not seen.count:
                out.append((prefix + line, is_err))
            else:
                seen.count += 1
                seen.prefix = prefix
        return out

    def over(self, now: float) -> list[tuple[str, bool]]:
        """What is to be told of lines whose time is over."""
        out: list[tuple[str, bool]] = []
        while self.seen:
            key = next(iter(self.seen))  # in order of their first showing
            if self.seen[key].until > now:
                break
            out += self.tell(key, self.seen.pop(key))
        return out

    def rest(self) -> list[tuple[str, bool]]:
        """At the end: all that was held back."""
        return self.over(float("inf"))

    def tell(self, key: tuple[str, bool], seen: _Seen) -> list[tuple[str, bool]]:
        """The last of the repeats, with how many they are."""
        line, is_err = key
        if not seen.count:
            return []
        if seen.count == 1:
            return [(seen.prefix + line, is_err)]
        hint, self.hinted = ("" if self.hinted else _HINT), True
        return [(f"{seen.prefix}{line} [repeated {seen.count}x across cluster]{hint}", is_err)]
