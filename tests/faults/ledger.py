"""Work whose results can be checked to the last one, for runs in which things break.

Every piece of work has an id of its own, and its right answer follows from the id. A task says in
the ledger, a file that belongs to the test and not to the cluster, that it began and that it
ended: `B id pid node time` and `E id pid node time`, time as CLOCK_MONOTONIC shows it to all
processes of this machine. So it is known what ran where when a node was lost, when each of these
has run again, and how often anything ran at all.
"""

from __future__ import annotations

import collections
import hashlib
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

import skate as ray

GET_S = 120.0
_files: dict[str, int] = {}


def answer(number: int) -> int:
    """What the work with this id must give."""
    return int.from_bytes(hashlib.blake2b(b"%d" % number, digest_size=8).digest())


def data(number: int, size: int) -> np.ndarray:
    """The bytes of the object with this id."""
    return np.random.default_rng(number).integers(0, 256, size, np.uint8)


def digest(array: np.ndarray) -> str:
    """What two equal objects have in common."""
    return hashlib.blake2b(memoryview(array), digest_size=16).hexdigest()


def note(path: str, kind: str, number: int) -> None:
    """A line in the ledger. One write(2) at the end of the file: lines never mix."""
    if path not in _files:
        _files[path] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    node = ray.get_runtime_context().get_node_id()
    line = f"{kind} {number} {os.getpid()} {node} {time.monotonic():.6f}\n"
    os.write(_files[path], line.encode())


@ray.remote(max_retries=-1)
def work(number: int, seconds: float, path: str) -> int:
    """A task: it lasts for a time and gives its answer."""
    note(path, "B", number)
    time.sleep(seconds)
    result = answer(number)
    note(path, "E", number)
    return result


@ray.remote(max_retries=-1)
def make(number: int, size: int) -> np.ndarray:
    """A task whose result is an object."""
    return data(number, size)


@ray.remote(max_retries=-1)
def look(array: np.ndarray) -> str:
    """Reads an object, from whatever node it lies on."""
    return digest(array)


@ray.remote(num_cpus=0)
class Counter:
    """Counts, and remembers each id it was told: twice, or out of order, would show."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.born = f"{os.getpid()}-{time.monotonic_ns()}"

    def add(self, number: int) -> int:
        """Adds one; the count so far."""
        self.seen.append(number)
        return len(self.seen)

    def report(self) -> tuple[str, list[int]]:
        """Which incarnation this is, and all ids in the order in which they came."""
        return self.born, self.seen


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class Echo:
    """An actor that comes back wherever there is room."""

    def say(self, number: int) -> int:
        """The answer to this id."""
        return answer(number)


class Tasks:
    """A lot of `work`, submitted at once, checked one by one."""

    def __init__(self, path: Path, count: int, seconds: float, spread: bool = False) -> None:
        """path: the ledger, which does not exist yet."""
        self.path = str(path)
        self.count = count
        task = work.options(scheduling_strategy="SPREAD") if spread else work
        # Not all equally long: nodes are lost in the midst of things.
        self.refs = [task.remote(i, seconds * (0.5 + i % 11 / 10), self.path)
                     for i in range(count)]  # fmt: skip

    def done(self) -> int:
        """How many have a result by now, as far as one look at them tells."""
        return len(ray.wait(self.refs, num_returns=self.count, timeout=0, fetch_local=False)[0])

    def check(self, patience: float = GET_S) -> None:
        """Every task has its one right result. patience: for each further result."""
        left = dict(enumerate(self.refs))
        wrong = []
        for number in list(left):
            got = ray.get(left.pop(number), timeout=patience)
            if got != answer(number):
                wrong.append((number, got))
        assert not wrong, f"wrong results: {wrong[:10]}"
        ended = {line.number for line in self.lines() if line.kind == "E"}
        missing = set(range(self.count)) - ended
        assert not missing, f"results of tasks that never ended: {sorted(missing)[:10]}"

    def lines(self) -> list[Line]:
        """The ledger so far."""
        try:
            with open(self.path, encoding="ascii") as file:
                rows = [line.split() for line in file if line.endswith("\n")]
        except FileNotFoundError:
            return []
        return [Line(r[0], int(r[1]), int(r[2]), r[3], float(r[4])) for r in rows]

    def runs(self) -> collections.Counter[int]:
        """How often each task began."""
        return collections.Counter(line.number for line in self.lines() if line.kind == "B")

    def recoveries(self, kills: list[tuple[str, float]]) -> list[float]:
        """For each (node, time) at which a node was killed: the seconds until all that ran there
        had begun again; kills that hit nothing are left out."""
        begun: dict[int, list[Line]] = collections.defaultdict(list)
        ended: set[tuple[int, int]] = set()
        for line in self.lines():
            if line.kind == "B":
                begun[line.number].append(line)
            else:
                ended.add((line.number, line.pid))
        out = []
        for node, when in kills:
            waits = []
            for number, lines in begun.items():
                cut = [a for a in lines if a.node == node and (number, a.pid) not in ended]
                if cut:
                    waits += [min(b.when for b in lines if b.when > when) - when
                              ] if any(b.when > when for b in lines) else []  # fmt: skip
            if waits:
                out.append(max(waits))
        return out


class Line(collections.namedtuple("Line", "kind number pid node when")):
    """A line of the ledger."""


class Calls:
    """Actors that count, each called in order with ids of its own."""

    def __init__(self, actors: list[Any]) -> None:
        self.actors = actors
        self.sent = [0] * len(actors)
        self.born = [b for b, _ in ray.get([a.report.remote() for a in actors], timeout=GET_S)]

    def more(self, count: int, patience: float = GET_S) -> None:
        """So many calls to each, and their answers."""
        refs = [[a.add.remote(s + i) for i in range(count)]
                for a, s in zip(self.actors, self.sent)]  # fmt: skip
        for number, replies in enumerate(refs):
            got = ray.get(replies, timeout=patience)
            first = self.sent[number]
            assert got == list(range(first + 1, first + count + 1)), (number, got[:5])
            self.sent[number] += count

    def check(self) -> None:
        """Each is the one that it was, and has counted each call once, in order."""
        for number, actor in enumerate(self.actors):
            born, seen = ray.get(actor.report.remote(), timeout=GET_S)
            assert born == self.born[number], "an actor has been replaced"
            assert seen == list(range(self.sent[number])), (number, len(seen), self.sent[number])


class Objects:
    """Objects made anywhere and read anywhere."""

    def __init__(self) -> None:
        self.next = 0

    def round(self, count: int, size: int, patience: float = GET_S) -> None:
        """So many objects by tasks and by put, each read here and by a task elsewhere."""
        numbers = range(self.next, self.next + count)
        self.next += count
        refs = [make.options(scheduling_strategy="SPREAD").remote(n, size) if n % 2
                else ray.put(data(n, size)) for n in numbers]  # fmt: skip
        right = [digest(data(n, size)) for n in numbers]
        looks = [look.options(scheduling_strategy="SPREAD").remote(r) for r in refs]
        assert ray.get(looks, timeout=patience) == right
        assert [digest(a) for a in ray.get(refs, timeout=patience)] == right
