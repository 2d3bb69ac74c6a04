"""kill -9 of the control store of a `skate start --head`, again and again, under load.

usage: gcs_kills.py [KILLS]      (1000; about 4 minutes)

While threads put values, make named actors and run tasks, the server is killed at random
moments and its keeper starts it again on the same log. Checked: every change that was acknowledged
is there, a task and an actor that run all the time notice nothing. Measured: the gap, from the kill
to the acknowledgement of a change that is asked for right after it.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

GAP_S = 60.0  # longer is a failure
ACTORS = 6  # at a time


class Head:
    """A cluster of one node in a folder of its own."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gk", dir="/tmp"))
        self.env = {**os.environ, "SKATE_TMPDIR": str(self.folder)}
        text = self.skate("start", "--head", "--port=0", "--num-cpus=4",
                          "--node-ip-address=127.0.0.1")  # fmt: skip
        found = re.search(r"127\.0\.0\.1:\d+", text)
        assert found, text
        self.address = found[0]

    def skate(self, *args: str) -> str:
        command = [str(Path(sys.executable).with_name("skate")), *args]
        return subprocess.run(command, env=self.env, check=True, capture_output=True, text=True,
                              timeout=60).stdout  # fmt: skip

    def pids(self) -> list[int]:
        """Of the keeper and of the server."""
        path = next(self.folder.glob("skate-*/session_*/gcs.pids"))
        return [int(word) for word in path.read_text().split()]

    def close(self) -> None:
        try:
            self.skate("stop")
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


class Load:
    """What goes on meanwhile; each change is noted when it was acknowledged."""

    def __init__(self, ray: Any, folder: Path) -> None:
        from skate.experimental import internal_kv

        self.ray, self.kv, self.folder = ray, internal_kv, folder
        self.values: dict[str, bytes] = {}
        self.names: list[str] = []
        self.tasks = 0
        self.made = 0
        self.ended = threading.Event()
        self.failed: list[BaseException] = []

        @ray.remote(num_cpus=0)
        class Steady:
            def __init__(self) -> None:
                self.calls = 0

            def call(self) -> tuple[int, int]:
                self.calls += 1
                return os.getpid(), self.calls

        @ray.remote(num_cpus=1, max_retries=0)
        def through(started: str, stop: str) -> int:
            with open(started, "a") as file:
                file.write("started\n")
            while not os.path.exists(stop):
                time.sleep(0.05)
            return os.getpid()

        @ray.remote
        def square(x: int) -> int:
            return x * x

        self.actor_class, self.square = Steady, square
        self.steady = Steady.options(name="steady", lifetime="detached").remote()
        self.pid, self.calls = ray.get(self.steady.call.remote())
        self.long = through.remote(str(folder / "started"), str(folder / "stop"))
        turns = (self._put, self._actor, self._work)
        self.threads = [threading.Thread(target=self._turns, args=(t,)) for t in turns]
        for thread in self.threads:
            thread.start()

    def _turns(self, turn: Callable[[int], None]) -> None:
        try:
            i = 0
            while not self.ended.is_set():
                turn(i)
                i += 1
        except BaseException as error:
            self.failed.append(error)

    def _put(self, i: int) -> None:
        key, value = f"v{i % 500}", f"{i}".encode() * (1 + i % 50)
        self.values.pop(key, None)  # in doubt until it is acknowledged
        self.kv._internal_kv_put(key, value, overwrite=True)
        self.values[key] = value
        time.sleep(0.002)

    def _actor(self, i: int) -> None:
        name = f"a{i}"
        actor = self.actor_class.options(name=name, lifetime="detached").remote()
        self.ray.get(actor.call.remote(), timeout=GAP_S)
        self.names.append(name)
        self.made += 1
        if len(self.names) > ACTORS:
            self.ray.kill(self.ray.get_actor(self.names.pop(0)))
        time.sleep(0.05)

    def _work(self, i: int) -> None:
        got = self.ray.get([self.square.remote(x) for x in range(20)], timeout=GAP_S)
        assert got == [x * x for x in range(20)]
        self.tasks += 20
        time.sleep(0.01)

    def check_running(self) -> None:
        """The actor is the same, and has lost no call; nothing has failed."""
        assert not self.failed, self.failed
        pid, calls = self.ray.get(self.steady.call.remote(), timeout=GAP_S)
        assert (pid, calls) == (self.pid, self.calls + 1), (pid, calls, self.pid, self.calls)
        self.calls = calls

    def check_kept(self) -> None:
        """All that was acknowledged; call it after stop()."""
        lost = [k for k, v in self.values.items() if self.kv._internal_kv_get(k) != v]
        assert not lost, f"{len(lost)} values are lost: {lost[:5]}"
        for name in self.names:
            self.ray.get(self.ray.get_actor(name).call.remote(), timeout=GAP_S)

    def stop(self) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join(2 * GAP_S)
        assert not self.failed, self.failed
        (self.folder / "stop").touch()
        self.ray.get(self.long, timeout=GAP_S)
        assert (self.folder / "started").read_text() == "started\n"


def kills(count: int, seed: int = 1) -> dict[str, Any]:
    """Kill it so often. What was done, and how long the gaps were."""
    import skate as ray
    from skate.experimental import internal_kv

    chance, gaps = random.Random(seed), []
    head = Head()
    os.environ["SKATE_TMPDIR"] = str(head.folder)
    try:
        ray.init(address=head.address, namespace="kills", log_to_driver=False)
        load = Load(ray, head.folder)
        for i in range(count):
            time.sleep(chance.random() * 0.1)
            server, began = head.pids()[1], time.monotonic()
            os.kill(server, signal.SIGKILL)
            internal_kv._internal_kv_put(f"kill{i}", b"1")
            gaps.append(time.monotonic() - began)
            load.check_running()
            while head.pids()[1] == server:
                assert time.monotonic() - began < GAP_S
                time.sleep(0.001)
        load.stop()
        load.check_kept()
        put = sum(internal_kv._internal_kv_exists(f"kill{i}") for i in range(count))
        assert put == count, f"{count - put} acknowledged values are lost"
        return {"kills": count, "lost": 0, "tasks": load.tasks, "actors": load.made,
                "gap_median_ms": round(statistics.median(gaps) * 1e3),
                "gap_p99_ms": round(sorted(gaps)[int(len(gaps) * 0.99)] * 1e3),
                "gap_max_ms": round(max(gaps) * 1e3)}  # fmt: skip
    finally:
        ray.shutdown()
        del os.environ["SKATE_TMPDIR"]
        head.close()


if __name__ == "__main__":
    print(json.dumps(kills(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)))
