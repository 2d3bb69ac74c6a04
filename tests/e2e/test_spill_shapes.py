"""Programs that need more memory than the store has: generated ones, a shuffle, a sort.

Each shape is a random walk (its number is its seed) over what programs do with objects: put them,
make them in tasks, streams and actors, read them in the driver, in tasks and inside of tasks, hold
on to views of them, forget them. Whatever it does, each step ends with the right bytes or with
ObjectStoreFullError, soon. Calm shapes, which never pin much at a time, end with the right bytes.
"""

from __future__ import annotations

import random

import numpy as np
import pytest

import skate as ray
from skate.exceptions import ObjectStoreFullError

MB = 1 << 20
STEP_S = 45  # by then a step has ended, or hangs
CALM_WAIT_S, PINNED_WAIT_S = 30, 0.7
# Store in MB, are there many pins, shapes.
SESSIONS = [(40, False, 12), (64, False, 8), (80, False, 6), (40, True, 14), (56, True, 8),
            (80, True, 8)]  # fmt: skip
SHAPES = [(mb, pinned, n) for mb, pinned, count in SESSIONS for n in range(count)]


def pattern(seed, size):
    """Bytes that no other seed has, at any place."""
    words = np.arange(size // 8 + 1, dtype=np.uint64)
    words += np.uint64(seed << 32)
    words *= np.uint64(0x9E3779B97F4A7C15)
    return words.view(np.uint8)[:size]


def wrong(value, seed, size):
    """What is not as it was made, in words; "" when all is."""
    if isinstance(value, dict):
        value = value["data"] if value.get("seed") == seed else b""
    found = np.frombuffer(value, np.uint8)
    if found.size != size:
        return f"object {seed} has {found.size} bytes, not {size}"
    same = found == pattern(seed, size)
    return "" if same.all() else f"object {seed} of {size} bytes differs at {int(same.argmin())}"


def value_of(seed, size):
    if seed % 5 == 0:
        return pattern(seed, size).tobytes()
    if seed % 5 == 1:
        return {"seed": seed, "data": pattern(seed, size)}
    return pattern(seed, size)


@ray.remote
def make(seed, size):
    return value_of(seed, size)


@ray.remote
def put_inside(wanted):
    return [ray.put(value_of(seed, size)) for seed, size in wanted]


@ray.remote(num_returns="streaming")
def stream(wanted):
    for seed, size in wanted:
        yield value_of(seed, size)


@ray.remote
def check(seed, size, value):
    return wrong(value, seed, size)


@ray.remote
def check_inside(wanted, refs):
    return "".join(wrong(v, *w) for v, w in zip(ray.get(refs, timeout=STEP_S), wanted))


@ray.remote(num_cpus=0)
class Keeper:
    """Holds refs and views, in a process of its own."""

    def __init__(self):
        self.views = {}

    def make(self, seed, size):
        return ray.put(value_of(seed, size))

    def pin(self, seed, size, refs):
        self.views[seed] = ray.get(refs[0], timeout=STEP_S)
        return wrong(self.views[seed], seed, size)

    def unpin(self):
        views, self.views = self.views, {}
        return len(views)


class Shape:
    """One walk."""

    def __init__(self, store, pinned, number):
        self.store, self.pinned = store, pinned
        self.rng = random.Random(number * 1000 + store // MB + pinned)
        self.live = {}  # seed -> (size, ref)
        self.views = {}  # seed -> (size, array)
        self.keeper = None
        self.kept = 0  # bytes of its views
        self.next = (number + 1) * 1000
        self.full = 0
        self.steps = []  # for whoever has to find out
        self.large = pinned and number % 4 == 1

    def size(self):
        most = 0.3 if self.pinned else 0.12
        if self.large and self.rng.random() < 0.1:
            return int(self.store * self.rng.uniform(0.8, 1.5))
        return int(3000 * (most * self.store / 3000) ** self.rng.random())

    def names(self, count):
        out = []
        for _ in range(count):
            self.next += 1
            out.append((self.next, self.size()))
        return out

    def some(self, count):
        seeds = self.rng.sample(sorted(self.live), min(count, len(self.live)))
        return [(seed, self.live[seed][0]) for seed in seeds]

    def run(self):
        made, target = 0, self.store * self.rng.uniform(1.2, 2.2)
        steps = [self.put, self.tasks, self.inside, self.streamed, self.by_actor, self.read,
                 self.read_tasks, self.read_inside, self.drop, self.hold, self.hold_far,
                 self.release]  # fmt: skip
        weights = [self.rng.randint(1, 6) for _ in steps]
        if self.pinned:
            weights[-3] += 4
            weights[-2] += 2
        while made < target:
            before = self.next
            self.step(self.rng.choices(steps, weights)[0])
            made += sum(self.live[s][0] for s in range(before + 1, self.next + 1) if s in self.live)
            made += self.store // 50  # steps that make nothing come to an end, too
        if self.pinned:
            self.step(self.release)
        for seed in list(self.live):
            self.step(lambda seed=seed: self.read([(seed, self.live[seed][0])]))
        for seed, (size, view) in self.views.items():
            assert not wrong(view, seed, size), self.steps

    def step(self, what):
        self.steps.append(getattr(what, "__name__", "read"))
        try:
            what()
        except ObjectStoreFullError as error:
            assert self.pinned, (self.steps, error)
            assert "object store" in str(error), error
            self.full += 1
            self.steps.append("full")
            self.release()

    def add(self, wanted, refs):
        for (seed, size), ref in zip(wanted, refs):
            self.live[seed] = (size, ref)

    def right(self, words):
        assert not "".join(words), (self.steps, words)

    # What makes objects.

    def put(self):
        for seed, size in self.names(self.rng.randint(1, 6)):
            self.live[seed] = (size, ray.put(value_of(seed, size)))

    def tasks(self):
        wanted = self.names(self.rng.randint(1, 8))
        self.add(wanted, [make.remote(*w) for w in wanted])

    def inside(self):
        wanted = self.names(self.rng.randint(1, 4))
        self.add(wanted, ray.get(put_inside.remote(wanted), timeout=STEP_S))

    def streamed(self):
        wanted = self.names(self.rng.randint(1, 6))
        refs = list(stream.remote(wanted))
        if len(refs) < len(wanted) or self.pinned:
            try:
                ray.get(refs[-1], timeout=STEP_S)  # what ended it early
            finally:
                self.add(wanted, refs[:-1])
        self.add(wanted, refs)

    def by_actor(self):
        if self.keeper is None:
            self.keeper = Keeper.remote()
        [(seed, size)] = self.names(1)
        self.live[seed] = (size, ray.get(self.keeper.make.remote(seed, size), timeout=STEP_S))

    # What reads them.

    def read(self, wanted=None):
        for seed, size in wanted or self.some(4):
            try:
                value = ray.get(self.live[seed][1], timeout=STEP_S)
            except ObjectStoreFullError:
                del self.live[seed]  # it was not made, or there is no room to look at it now
                raise
            self.right([wrong(value, seed, size)])

    def read_tasks(self):
        refs = [check.remote(s, n, self.live[s][1]) for s, n in self.some(6)]
        self.right(ray.get(refs, timeout=STEP_S))

    def read_inside(self):
        wanted = self.some(3)
        refs = [self.live[seed][1] for seed, _ in wanted]
        self.right([ray.get(check_inside.remote(wanted, refs), timeout=STEP_S)])

    # What keeps them in memory, and what does not.

    def room_to_hold(self, size):
        held = self.kept + sum(n for n, _ in self.views.values())
        return held + size <= self.store * (2 if self.pinned else 0.15)

    def hold(self):
        for seed, size in self.some(3 if self.pinned else 1):
            if self.room_to_hold(size):
                self.views[seed] = (size, ray.get(self.live[seed][1], timeout=STEP_S))

    def hold_far(self):
        for seed, size in self.some(1):
            if self.room_to_hold(size):
                if self.keeper is None:
                    self.keeper = Keeper.remote()
                self.kept += size
                ref = self.keeper.pin.remote(seed, size, [self.live[seed][1]])
                self.right([ray.get(ref, timeout=STEP_S)])

    def release(self):
        for seed, (size, view) in self.views.items():
            assert not wrong(view, seed, size), self.steps
        self.views.clear()
        if self.keeper is not None:
            ray.get(self.keeper.unpin.remote(), timeout=STEP_S)
        self.kept = 0

    def drop(self):
        for seed, _ in self.some(self.rng.randint(1, 6)):
            del self.live[seed]


@pytest.fixture
def store(request):
    """A session with a store of this size; kept for the next shape that wants the same."""
    mb, pinned = request.param
    if _now.get("store") != request.param or not ray.is_initialized():
        ray.shutdown()
        wait = PINNED_WAIT_S if pinned else CALM_WAIT_S
        ray.init(num_cpus=2, object_store_memory=mb * MB, _system_config={"store_wait_s": wait})
        _now["store"] = request.param
    return mb * MB


_now = {}


@pytest.mark.parametrize(
    ("store", "pinned", "number"),
    [pytest.param((mb, pinned), pinned, n, id=f"{mb}MB-{'pinned' if pinned else 'calm'}-{n}")
     for mb, pinned, n in SHAPES],
    indirect=["store"],
)  # fmt: skip
def test_shape(store, pinned, number):
    _now.clear()  # after a failure: a new session
    shape = Shape(store, pinned, number)
    shape.run()
    if shape.keeper is not None:
        ray.kill(shape.keeper)
    _now["store"] = (store // MB, pinned)


def test_there_are_enough_shapes():
    assert len(SHAPES) >= 50


# ------------------------------------------------------------------ five times the store's capacity

BLOCKS, WORDS = 40, 640 * 1024  # 40 blocks of 5 MB: 200 MB; the store has 40


def block(i):
    return np.random.default_rng(i).integers(0, 1 << 63, WORDS, dtype=np.uint64)


def facts(words):
    """Count, sum and exclusive or: the same for any order."""
    return words.size, int(words.sum(dtype=np.uint64)), int(np.bitwise_xor.reduce(words))


def together(many):
    count = total = odd = 0
    for n, s, x in many:
        count, total, odd = count + n, (total + s) % (1 << 64), odd ^ x
    return count, total, odd


@ray.remote
def make_block(i):
    return block(i)


@ray.remote(num_returns=BLOCKS)
def shuffle_map(words):
    return tuple(words[i::BLOCKS].copy() for i in range(BLOCKS))


@ray.remote
def shuffle_reduce(i, *parts):
    rng = np.random.default_rng(i)
    return rng.permutation(np.concatenate(parts))


@ray.remote(num_returns=BLOCKS)
def sort_map(words):
    bounds = np.arange(1, BLOCKS, dtype=np.uint64) * np.uint64((1 << 63) // BLOCKS)
    words = np.sort(words)
    return tuple(p.copy() for p in np.split(words, np.searchsorted(words, bounds)))


@ray.remote
def sort_reduce(_, *parts):
    return np.sort(np.concatenate(parts))


@ray.remote
def look(words):
    return facts(words), bool((words[:-1] <= words[1:]).all()), int(words[0]), int(words[-1])


@pytest.fixture
def small_store():
    ray.shutdown()
    ray.init(num_cpus=2, object_store_memory=40 * MB)
    yield
    ray.shutdown()


@pytest.mark.parametrize(
    ("mapper", "reducer", "sorts"),
    [(shuffle_map, shuffle_reduce, False), (sort_map, sort_reduce, True)],
    ids=["shuffle", "sort"],
)
def test_five_times_the_capacity(small_store, mapper, reducer, sorts):
    blocks = [make_block.remote(i) for i in range(BLOCKS)]
    parts = [mapper.remote(b) for b in blocks]
    out = [reducer.remote(i, *(p[i] for p in parts)) for i in range(BLOCKS)]
    seen = ray.get([look.remote(o) for o in out], timeout=50)
    assert together(f for f, _, _, _ in seen) == together(facts(block(i)) for i in range(BLOCKS))
    if sorts:
        assert all(ordered for _, ordered, _, _ in seen)
        assert all(a[3] <= b[2] for a, b in zip(seen, seen[1:]))
    # All of it is still there, and as it was: 600 MB were made.
    assert all((ray.get(b, timeout=50) == block(i)).all() for i, b in enumerate(blocks))
