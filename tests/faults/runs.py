"""The fault runs: a cluster of machines of its own, work for it, and what befalls it.

Each function makes its cluster, works, breaks things, checks every result and gives back what it
measured. The tests run them shortly; `faults.py` (`make faults`) in full length. A run fails with
an AssertionError that says what was lost, wrong or too late to be called alive.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import disks
import ledger
from rig import Machine, Rig, until

import skate as ray
from skate import _node, exceptions

ALIVE_S = 30.0  # a node that is not alive so long after the last fault is dead for ever


def alive() -> set[str]:
    """The ids of the nodes that the cluster calls alive."""
    return {n["NodeID"] for n in ray.nodes() if n["Alive"]}


@contextlib.contextmanager
def beside(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """A thread of faults beside the block's work; its errors come out at the end of the block."""
    over = threading.Event()
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work(over)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if errors:
        raise errors[0]


def median(values: list[float]) -> float:
    """The middle one; 0 of none."""
    return sorted(values)[len(values) // 2] if values else 0.0


# ------------------------------------------------------------------------- nodes that come and go


class Churn:
    """Every so often one of the nodes is killed, and a new one is added."""

    def __init__(self, rig: Rig, nodes: list[Machine], every_s: float, seed: int) -> None:
        self.rig, self.nodes, self.every_s = rig, nodes, every_s
        self.dice = random.Random(seed)
        self.kills: list[tuple[str, float]] = []
        self.detected: list[float] = []

    def __call__(self, over: threading.Event) -> None:
        """One after the other, until it is over."""
        while not over.wait(self.every_s):
            machine = self.dice.choice(self.nodes)
            lost, when = machine.node_id, time.monotonic()
            self.rig.kill_raylet(machine)
            self.kills.append((lost, when))
            until(lambda lost=lost: lost not in alive(), f"node {lost[:8]} is called dead")
            self.detected.append(time.monotonic() - when)
            self.rig.add_node(machine)


def churn(path: Path, count: int, nodes: int = 8, task_s: float = 0.01, every_s: float = 2.0,
          seed: int = 1, least_kills: int = 1) -> dict[str, Any]:
    """Tasks over so many nodes, of which one is killed and one added again and again."""
    with Rig() as rig:
        rig.start(num_cpus=1)
        others = [rig.add_node() for _ in range(nodes - 1)]
        rig.connect()
        faults = Churn(rig, others, every_s, seed)
        begun = time.monotonic()
        echo = ledger.Echo.remote()
        with beside(faults):
            tasks = ledger.Tasks(path, count, task_s)
            while len(faults.kills) < least_kills or tasks.done() < count:
                number = random.randrange(1 << 30)
                said = ray.get(echo.say.remote(number), timeout=ledger.GET_S)
                assert said == ledger.answer(number)
                assert time.monotonic() - begun < ledger.GET_S + count * task_s * 2, (
                    f"{count - tasks.done()} of {count} tasks have no result"
                )
        seconds = time.monotonic() - begun
        tasks.check()
        wanted = {m.node_id for m in rig.machines.values()}
        until(lambda: alive() == wanted, "all nodes are alive", ALIVE_S)
        recovered = tasks.recoveries(faults.kills)
        runs = tasks.runs()
        return {
            "tasks": count, "nodes": nodes, "seconds": seconds, "kills": len(faults.kills),
            "run_again": sum(n - 1 for n in runs.values()),
            "used": len({line.node for line in tasks.lines()}),
            "detect_median_s": median(faults.detected), "detect_most_s": max(faults.detected),
            "recover_median_s": median(recovered), "recover_most_s": max(recovered, default=0.0),
        }  # fmt: skip


def power_cut(path: Path, count: int) -> dict[str, Any]:
    """A machine in the midst of its work is gone at once, without a word to anybody."""
    with Rig() as rig:
        rig.start(num_cpus=1)
        others = [rig.add_node() for _ in range(2)]
        rig.connect()
        tasks = ledger.Tasks(path, count, 0.2)
        until(lambda: any(li.node == others[0].node_id for li in tasks.lines()), "all nodes work")
        lost, when = others[0].node_id, time.monotonic()
        rig.switch_off(others[0])
        until(lambda: lost not in alive(), "it is called dead")
        noticed = time.monotonic() - when
        tasks.check()
        again = sum(n - 1 for n in tasks.runs().values())
        return {"noticed_s": noticed, "again": again,
                "recover_most_s": max(tasks.recoveries([(lost, when)]), default=0.0)}  # fmt: skip


# ------------------------------------------------------------------------------- bad networks


class Weather:
    """One kind of bad network, as a thread that makes it: cuts come and go, the rest stays."""

    KINDS = ("loss", "duplicates", "reordering", "jitter", "everything", "partition", "one-way")

    def __init__(self, rig: Rig, kind: str, seed: int, hold_s: float = 2.0) -> None:
        assert kind in self.KINDS, kind
        self.rig, self.kind, self.hold_s = rig, kind, hold_s
        self.dice = random.Random(seed)
        self.cuts = 0

    @property
    def needs_switch(self) -> bool:
        """Can a bridge not do it?"""
        return self.kind not in ("loss", "partition", "one-way")

    def __call__(self, over: threading.Event) -> None:
        net = self.rig.net
        if self.kind == "loss":
            net.loss(10)
        elif self.kind == "duplicates":
            net.shape(dup=10)
        elif self.kind == "reordering":
            net.shape(delay_ms=1, reorder=10)
        elif self.kind == "jitter":
            net.shape(delay_ms=100, jitter_ms=100)  # 0 to 200 ms each way
        elif self.kind == "everything":
            net.shape(delay_ms=20, jitter_ms=20, loss=10, dup=10, reorder=10)
        else:
            self.cut_and_heal(over)
            return
        over.wait()
        net.heal()

    def cut_and_heal(self, over: threading.Event) -> None:
        """Two machines do not hear each other, or one does not hear the other; then they do."""
        ports = sorted(self.rig.machines)
        while not over.wait(0.5):
            one, other = self.dice.sample(ports, 2)
            (self.rig.net.drop if self.kind == "one-way" else self.rig.net.cut)(one, other)
            self.cuts += 1
            over.wait(self.hold_s)
            self.rig.net.heal()


SWITCHED = ("duplicates", "reordering", "jitter", "everything")


def weather(path: Path, kind: str, seconds: float, seed: int = 1,
            size: int = 1 << 20) -> dict[str, Any]:
    """All kinds of work between four nodes, in a network that is bad all the time."""
    with Rig(switch=kind in SWITCHED, seed=seed) as rig:
        rig.start(num_cpus=1)
        for _ in range(3):
            rig.add_node(resources={"far": 1})
        rig.connect()
        ids = alive()
        counters = ledger.Calls([
            ledger.Counter.options(resources={"far": 1}, name=f"counter {i}").remote()
            for i in range(3)
        ])  # fmt: skip
        faults, objects, rounds, worked = Weather(rig, kind, seed), ledger.Objects(), 0, 0
        begun = time.monotonic()
        with beside(faults):
            while time.monotonic() - begun < seconds:
                tasks = ledger.Tasks(Path(f"{path}.{rounds}"), 100, 0.002)
                counters.more(50)
                objects.round(4, size)
                tasks.check()
                worked += tasks.count
                rounds += 1
        took = time.monotonic() - begun
        did = rig.net.stats() if rig.net.switch else {"cuts": faults.cuts}
        until(lambda: alive() == ids, f"all nodes alive after {kind}: {ids}", ALIVE_S)
        counters.check()
        named = [ray.get_actor(f"counter {i}") for i in range(3)]
        assert [n._actor_id for n in named] == [a._actor_id for a in counters.actors]
        return {"kind": kind, "seconds": took, "rounds": rounds, "tasks": worked,
                "calls": sum(counters.sent), "objects": objects.next, **did}  # fmt: skip


# ------------------------------------------------------------------------- nodes that are away

AWAY = ("unplugged", "deaf", "mute", "frozen")


def leave(rig: Rig, machine: Machine, how: str) -> Callable[[], None]:
    """A node is away in one of four ways; what ends that."""
    if how == "frozen":
        rig.pause(machine.pid)
        return lambda: rig.resume(machine.pid)
    for other in rig.machines:
        if other == machine.port:
            continue
        if how in ("unplugged", "deaf"):
            rig.net.drop(other, machine.port)
        if how in ("unplugged", "mute"):
            rig.net.drop(machine.port, other)
    return rig.net.heal


def away(path: Path, how: str, seconds: float, count: int = 300) -> dict[str, Any]:
    """A node is away for a time and comes back: the same one after a short time (less than the
    silence after which a node is called dead), a new one on the same machine after a long one."""
    with Rig() as rig:
        rig.start(num_cpus=1)
        others = [rig.add_node(resources={f"place {i}": 1}) for i in range(2)]
        rig.connect()
        ids = alive()
        calls = ledger.Calls([
            ledger.Counter.options(resources={f"place {i}": 1}).remote() for i in range(2)
        ])  # fmt: skip
        calls.more(50)
        tasks = ledger.Tasks(path, count, 0.01)
        until(lambda: {m.node_id for m in others} <= {li.node for li in tasks.lines()}, "all work")
        gone = time.monotonic()
        back = leave(rig, others[0], how)
        named_dead = False
        while time.monotonic() - gone < seconds:
            named_dead = named_dead or others[0].node_id not in alive()
            assert others[1].node_id in alive(), "the wrong node is called dead"
            time.sleep(0.02)
        healed = time.monotonic()
        back()
        until(lambda: len(alive()) == 3, "all machines have a living node", ALIVE_S)
        rejoined = time.monotonic() - healed
        tasks.check()
        same = alive() == ids
        if same:
            calls.more(50)
            calls.check()
        else:  # a new node does what the old one did
            number = random.randrange(1 << 30)
            echo = ledger.Echo.options(resources={"place 0": 1}).remote()
            assert ray.get(echo.say.remote(number), timeout=ledger.GET_S) == ledger.answer(number)
        fresh = ledger.Tasks(Path(f"{path}.after"), count, 0.01)
        fresh.check()
        assert alive() == ids or not same
        return {"how": how, "seconds": seconds, "called_dead": named_dead, "same": same,
                "rejoined_s": rejoined, "nodes_after": len({li.node for li in fresh.lines()})}


def head_raylet(path: Path, count: int = 300) -> dict[str, Any]:
    """The raylet beside the GCS is killed, with work and a driver on other nodes."""
    with Rig() as rig:
        head = rig.start(num_cpus=1)
        others = [rig.add_node(resources={f"place {i}": 1}) for i in range(2)]
        rig.connect(at=others[0])
        calls = ledger.Calls([
            ledger.Counter.options(resources={f"place {i}": 1}, name=f"counter {i}").remote()
            for i in range(2)
        ])  # fmt: skip
        calls.more(50)
        tasks = ledger.Tasks(path, count, 0.01)
        until(lambda: head.node_id in {li.node for li in tasks.lines()}, "the head works, too")
        lost, when = head.node_id, time.monotonic()
        rig.kill_raylet(head)
        until(lambda: lost not in alive(), "the head's node is called dead")
        noticed = time.monotonic() - when
        calls.more(50)
        tasks.check()
        rig.add_node(head)
        until(lambda: len(alive()) == 3, "all machines have a living node", ALIVE_S)
        calls.more(50)
        calls.check()
        assert ray.get_actor("counter 1")._actor_id == calls.actors[1]._actor_id
        after = ledger.Tasks(Path(f"{path}.after"), count, 0.01)
        after.check()
        return {"detect_s": noticed, "nodes_after": len({li.node for li in after.lines()}),
                "recover_s": max(tasks.recoveries([(lost, when)]), default=0.0)}  # fmt: skip


# ------------------------------------------------------------------------- a GCS that is killed


class Kills:
    """The GCS is killed and started again, at moments that nobody chose."""

    def __init__(self, rig: Rig, seed: int, most_s: float) -> None:
        self.rig, self.most_s = rig, most_s
        self.dice = random.Random(seed)
        self.gaps: list[float] = []

    def __call__(self, over: threading.Event) -> None:
        while not over.wait(self.dice.uniform(0, self.most_s)):
            when = time.monotonic()
            self.rig.kill_gcs()
            self.rig.start_gcs()
            alive()  # an answer from the new one
            self.gaps.append(time.monotonic() - when)


def gcs(path: Path, seconds: float, most_s: float = 1.0, seed: int = 1) -> dict[str, Any]:
    """All kinds of work between four nodes, while the GCS is killed again and again. What it has
    acknowledged is kept: names, actors; and nothing that runs is disturbed."""
    with Rig(log=True) as rig:
        rig.start(num_cpus=1)
        for _ in range(2):
            rig.add_node(resources={"far": 1})
        rig.connect()
        ids = alive()
        calls = ledger.Calls([
            ledger.Counter.options(resources={"far": 1}, name=f"counter {i}").remote()
            for i in range(2)
        ])  # fmt: skip
        kills, objects = Kills(rig, seed, most_s), ledger.Objects()
        born: list[tuple[str, int]] = []
        tasks: list[ledger.Tasks] = []
        begun = time.monotonic()
        with beside(kills):
            while time.monotonic() - begun < seconds or not kills.gaps:
                tasks.append(ledger.Tasks(Path(f"{path}.{len(tasks)}"), 100, 0.002))
                calls.more(50)
                name, number = f"echo {len(born)}", random.randrange(1 << 30)
                echo = ledger.Echo.options(name=name, lifetime="detached").remote()
                assert ray.get(echo.say.remote(number), timeout=ledger.GET_S
                               ) == ledger.answer(number)  # fmt: skip
                born.append((name, number))
                objects.round(2, 1 << 18)
                tasks[-1].check()
        took = time.monotonic() - begun
        calls.check()
        for name, number in born:  # acknowledged, so it is there
            said = ray.get(ray.get_actor(name).say.remote(number), timeout=ledger.GET_S)
            assert said == ledger.answer(number)
        again = sum(n - 1 for t in tasks for n in t.runs().values())
        assert not again, f"{again} tasks ran twice, although nothing but the GCS was killed"
        assert alive() == ids, "a node is lost, although nothing but the GCS was killed"
        return {"seconds": took, "kills": len(kills.gaps), "tasks": sum(t.count for t in tasks),
                "calls": sum(calls.sent), "actors": len(born), "objects": objects.next,
                "gap_median_s": median(kills.gaps), "gap_most_s": max(kills.gaps)}  # fmt: skip


def head_machine(path: Path, out_s: float = 2.0) -> dict[str, Any]:
    """The whole head is lost: GCS, raylet, network. Another machine takes over its address, with a
    copy of the log; until then what runs elsewhere goes on."""
    with Rig(log=True) as rig:
        head = rig.start(num_cpus=1)
        others = [rig.add_node(resources={"far": 1}) for _ in range(2)]
        rig.connect(at=others[0])
        calls = ledger.Calls([
            ledger.Counter.options(resources={"far": 0.6}, name=f"counter {i}").remote()
            for i in range(2)
        ])  # fmt: skip
        born = Register(resources={"far": 0.01})
        for _ in range(5):
            assert born.add()
        ledger.Tasks(Path(f"{path}.before"), 100, 0.002).check()
        kept = alive() - {head.node_id}
        rig.net.isolate(head.port)
        rig.kill_gcs()
        rig.kill_raylet(head)
        gone, said = time.monotonic(), 0
        while time.monotonic() - gone < out_s:
            calls.more(20)
            said += 20
        copy = rig.folder / "copy"
        copy.mkdir()
        for file in Path(rig.log).parent.glob("gcs.db*"):
            shutil.copy2(file, copy)
        rig.log = str(copy / "gcs.db")
        rig.net.heal()
        back = time.monotonic()
        rig.start_gcs()
        rig.add_node(head)
        until(lambda: alive() == kept | {head.node_id}, "the others have joined again", ALIVE_S)
        joined = time.monotonic() - back
        after = ledger.Tasks(Path(f"{path}.after"), 300, 0.01)
        after.check()
        calls.more(50)
        calls.check()
        assert ray.get_actor("counter 0")._actor_id == calls.actors[0]._actor_id
        born.check()
        return {"joined_s": joined, "calls_without_a_head": said,
                "nodes_after": len({line.node for line in after.lines()})}  # fmt: skip


# ------------------------------------------------------------------- disks under the GCS's log


class Register:
    """Named actors that outlive their driver: each is a change that the GCS must keep."""

    def __init__(self, **options: Any) -> None:
        """options: of each actor."""
        self.options = options
        self.numbers = itertools.count()
        self.kept: list[str] = []
        self.refused: list[str] = []  # what was said

    def add(self) -> bool:
        """One more. False: it was refused, in the way that is promised."""
        name = f"kept {next(self.numbers)}"
        try:
            ledger.Counter.options(name=name, lifetime="detached", **self.options).remote()
        except exceptions.RaySystemError as error:
            self.refused.append(str(error))
            return False
        self.kept.append(name)
        return True

    def check(self) -> None:
        """Each that was acknowledged is there, and works."""
        for name in self.kept:
            assert ray.get(ray.get_actor(name).add.remote(1), timeout=ledger.GET_S) == 1


def full_disk(path: Path, rounds: int = 1) -> dict[str, Any]:
    """The disk of the log is full for a time. A change that was on its way waits, others are
    refused with a reason, none is acknowledged and lost; what runs goes on, and with room all is
    well by itself."""
    with disks.SmallDisk(2 << 20) as disk, Rig(log=disk.folder) as rig:
        rig.start(num_cpus=1)
        rig.add_node(resources={"far": 1})
        rig.connect()
        ids, register, waits = alive(), Register(), []
        calls = ledger.Calls([ledger.Counter.options(resources={"far": 1}).remote()])
        for turn in range(rounds):
            assert register.add()
            disk.fill()

            def press(over: threading.Event) -> None:
                while not over.is_set() and register.add():
                    pass

            with beside(press):
                until(lambda: "cannot be written" in rig.gcs_says(), "the disk is full")
                assert not any([register.add() for _ in range(5)])
                calls.more(100)
                ledger.Tasks(Path(f"{path}.{turn}"), 100, 0.002).check()
                assert alive() == ids, "a node is lost, although only a disk was full"
                disk.empty()
                when = time.monotonic()
                until(register.add, "changes are kept again")
                waits.append(time.monotonic() - when)
            rig.kill_gcs()
            rig.start_gcs()
        register.check()
        calls.check()
        until(lambda: alive() == ids, "all nodes alive", ALIVE_S)
        assert all("full" in text for text in register.refused), register.refused
        return {"kept": len(register.kept), "refused": len(register.refused),
                "calls": sum(calls.sent), "again_most_s": max(waits)}  # fmt: skip


def slow_disk(path: Path, seconds: float, each_s: float = 0.5) -> dict[str, Any]:
    """Each read and write of the log takes long: changes wait for it, nothing else does, and no
    node is thought dead."""
    with Rig() as rig:
        disk = disks.SlowDisk(rig.folder / "slow")
        rig.gcs_around, rig.log = disk.around, str(disk.mount / "gcs.db")
        rig.start(num_cpus=1)
        rig.add_node(resources={"far": 1})
        rig.connect()
        ids, register, kept_s, rounds = alive(), Register(), [], 0
        calls = ledger.Calls([ledger.Counter.options(resources={"far": 1}).remote()])
        disk.slow(each_s)
        begun = time.monotonic()

        def register_more(over: threading.Event) -> None:
            while not over.is_set():
                when = time.monotonic()
                register.add()
                kept_s.append(time.monotonic() - when)

        with beside(register_more):
            while time.monotonic() - begun < seconds or not register.kept:
                calls.more(50)
                ledger.Tasks(Path(f"{path}.{rounds}"), 50, 0.002).check()
                rounds += 1
                assert alive() == ids, "a node is lost, although only a disk was slow"
        assert disk.met and not register.refused, register.refused
        disk.slow(0)
        register.check()
        calls.check()
        return {"seconds": time.monotonic() - begun, "rounds": rounds, "kept": len(register.kept),
                "kept_median_s": median(kept_s), "calls": sum(calls.sent)}  # fmt: skip


# --------------------------------------------------------------------------------- all of it


class Chaos:
    """One fault after the other. Two of these, of daemons and of the network, are all of it."""

    KINDS = ("gcs", "raylet", "freeze", "cut", "one-way", "unplug", "slow")

    def __init__(
        self, rig: Rig, nodes: list[Machine], kinds: tuple[str, ...], seed: int, most_s: float
    ) -> None:
        self.rig, self.nodes, self.kinds, self.most_s = rig, nodes, kinds, most_s
        self.dice = random.Random(seed)
        self.done: list[str] = []

    def __call__(self, over: threading.Event) -> None:
        while not over.wait(self.dice.uniform(0, 0.5)):
            kind = self.dice.choice(self.kinds)
            self.done.append(kind)
            undo = self.befall(kind)
            over.wait(self.dice.uniform(0, self.most_s))
            undo()

    def befall(self, kind: str) -> Callable[[], None]:
        """What ends it."""
        one, other = self.dice.sample(self.nodes, 2)
        net = self.rig.net
        if kind == "gcs":
            self.rig.kill_gcs()
            return self.rig.start_gcs
        if kind == "raylet":
            self.rig.kill_raylet(one)
            return lambda: self.add(one)
        if kind == "freeze":
            self.rig.pause(one.pid)
            return lambda: self.rig.resume(one.pid)
        if kind == "cut":
            net.cut(one.port, other.port)
        elif kind == "one-way":
            net.drop(one.port, other.port)
        elif kind == "unplug":
            net.isolate(one.port)
        else:
            net.loss(20)
        return net.heal


    def add(self, machine: Machine) -> None:
        """A new node on that machine, as soon as it finds a way to the GCS."""

        def try_it() -> bool:
            with contextlib.suppress(_node.StartError):
                self.rig.add_node(machine)
            return machine.node is not None

        until(try_it, "a new node starts")


def chaos(path: Path, seconds: float, seed: int = 1, most_s: float = 3.0) -> dict[str, Any]:
    """Everything befalls a cluster; afterwards everything is right, and every machine's node lives.
    Nodes that are called dead take their values and actors along: these are made again."""
    print(f"chaos: seed {seed}", flush=True)
    with Rig(log=True) as rig:
        rig.start(num_cpus=1)
        others = [rig.add_node() for _ in range(4)]
        rig.connect()
        faults = [Chaos(rig, others, Chaos.KINDS[i : i + n], seed + i, most_s)
                  for i, n in ((0, 3), (3, 4))]  # fmt: skip
        objects = ledger.Objects()
        echoes = [
            ledger.Echo.options(name=f"echo {i}", lifetime="detached",
                                scheduling_strategy="SPREAD").remote() for i in range(5)
        ]  # fmt: skip
        ray.get([e.say.remote(0) for e in echoes], timeout=ledger.GET_S)
        begun, rounds, said = time.monotonic(), 0, 0
        with beside(faults[0]), beside(faults[1]):
            while time.monotonic() - begun < seconds:
                tasks = ledger.Tasks(Path(f"{path}.{rounds}"), 100, 0.005)
                numbers = range(said, said + 50)
                replies = [echoes[n % 5].say.remote(n) for n in numbers]
                objects.round(4, 1 << 18)
                assert ray.get(replies, timeout=ledger.GET_S) == [
                    ledger.answer(n) for n in numbers]  # fmt: skip
                tasks.check()
                rounds, said = rounds + 1, said + 50
        took = time.monotonic() - begun
        until(lambda: len(alive()) == 5, "every machine has a living node", ALIVE_S)
        for number in range(5):
            named = ray.get_actor(f"echo {number}")
            assert named._actor_id == echoes[number]._actor_id
            assert ray.get(named.say.remote(number), timeout=ledger.GET_S) == ledger.answer(number)
        return {"seconds": took, "rounds": rounds, "calls": said, "objects": objects.next,
                } | {kind: f.done.count(kind) for f in faults for kind in f.kinds}  # fmt: skip
