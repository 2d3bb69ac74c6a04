"""The runtime under measurement, and what every row of the bench needs of it.

A row file is run in a fresh process by child.py, once with target "ray" and once with "skate"; it
may use nothing but what this file gives it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

CPUS = 2


def record(number: int) -> dict[str, Any]:
    """A small dict, another one for each number."""
    return {"number": number, "name": "a row of the bench", "weight": number / 4}


class Target:
    """One of the two runtimes, imported late so that its import can be timed."""

    def __init__(self, name: str, temp_dir: str, seconds: float) -> None:
        self.name = name
        self.temp_dir = temp_dir
        self.seconds = seconds  # how long a row should run, at least
        self.ray: Any = None

    def load(self) -> Any:
        """Import the runtime."""
        if self.name == "ray":
            os.environ.setdefault("RAY_AUTH_MODE", "disabled")
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            import ray
        else:
            import skate as ray
        self.ray = ray
        return ray

    def init(self, **more: Any) -> None:
        """Start a cluster of its own, with the same options for both."""
        options: dict[str, Any] = {"num_cpus": CPUS, "log_to_driver": False, **more}
        if self.name == "ray":
            options |= {"address": "local", "include_dashboard": False, "logging_level": "error",
                        "_temp_dir": self.temp_dir}
        self.ray.init(**options)

    def rate(self, step: Callable[[], int]) -> float:
        """Operations a second: `step` does some and says how many; repeated until time is up.

        The first step is a warm-up and is not counted.
        """
        step()
        began = time.perf_counter()
        done = 0
        while True:
            done += step()
            spent = time.perf_counter() - began
            if spent >= self.seconds:
                return done / spent


Row = Callable[[Target], Iterator[tuple[str, float]]]
