"""Programs of many shapes that use one to four times what the object store holds: all end, rightly.

A shape is drawn from its number: who makes the objects, how large they are, who reads them in which
order, how many views are held meanwhile, whether refs are dropped. A program runs several shapes in
one session, so what one leaves behind would be in the way of the next.
"""

from __future__ import annotations

import pytest

PROGRAMS, SHAPES = 6, 10  # and so many in each

PROGRAM = """
import random, sys
import numpy as np
import skate as ray

KB, MB = 1 << 10, 1 << 20
STORE = 24 * MB
first, count = int(sys.argv[1]), int(sys.argv[2])

def make(number, size):
    return np.arange(size // 8) * (number % 1000 + 1)

def wrong(value, number, size):
    return value.nbytes != size // 8 * 8 or (value != make(number, size)).any()

@ray.remote
def one(number, size):
    return make(number, size)

@ray.remote
def several(items):
    made = [make(*item) for item in items]
    return made if len(made) > 1 else made[0]

@ray.remote
def many_puts(items):
    return [ray.put(make(*item)) for item in items]

@ray.remote
def wrong_ones(items, *values):
    return sum(bool(wrong(value, *item)) for item, value in zip(items, values))

@ray.remote
def wrong_inside(items, refs):
    return sum(bool(wrong(ray.get(ref), *item)) for item, ref in zip(items, refs))

@ray.remote
class Keeper:
    def __init__(self):
        self.kept = []
    def make(self, items):
        refs = [ray.put(make(*item)) for item in items]
        self.kept += refs
        return refs
    def wrong(self, items, *values):
        return sum(bool(wrong(value, *item)) for item, value in zip(items, values))
    def drop(self):
        self.kept.clear()

def groups(items, most):
    # Objects that are used together: a quarter of the store at most, as two tasks run at a time.
    out, room = [], 0
    for item in items:
        if not out or len(out[-1]) >= most or room + item[1] > STORE // 4:
            out.append([])
            room = 0
        out[-1].append(item)
        room += item[1]
    return out

def produced(draw, items, keeper):
    how = draw.choice(["put", "task", "returns", "puts", "actor"])
    if how == "put":
        return how, [ray.put(make(*item)) for item in items]
    if how == "task":
        return how, [one.remote(*item) for item in items]
    refs = []
    for group in groups(items, draw.choice([2, 5, 20])):
        if how == "returns":
            made = several.options(num_returns=len(group)).remote(group)
            refs += made if len(group) > 1 else [made]
        elif how == "puts":
            refs += ray.get(many_puts.remote(group))
        else:
            refs += ray.get(keeper.make.remote(group))
    return how, refs

def consumed(draw, items, refs, keeper):
    how = draw.choice(["in order", "at random", "again", "wait", "arguments", "inside", "actor"])
    places = list(range(len(items)))
    if how in ("in order", "at random", "again"):
        if how == "at random":
            draw.shuffle(places)
        for place in places + (places[::-1] if how == "again" else []):
            assert not wrong(ray.get(refs[place], timeout=60), *items[place])
    elif how == "wait":
        by_ref, left = dict(zip(refs, items)), list(refs)
        while left:
            ready, left = ray.wait(left, num_returns=min(3, len(left)), timeout=60)
            assert ready
            for ref in ready:
                assert not wrong(ray.get(ref, timeout=60), *by_ref[ref])
    else:
        answers, begun = [], 0
        for group in groups(items, draw.choice([1, 4, 12])):
            its = refs[begun : begun + len(group)]
            begun += len(group)
            if how == "inside":
                answers.append(wrong_inside.remote(group, its))
            else:
                work = keeper.wrong if how == "actor" else wrong_ones
                answers.append(work.remote(group, *its))
        assert sum(ray.get(answers, timeout=60)) == 0
    return how

def run(number):
    draw = random.Random(number)
    size = draw.choice([3 * KB, 40 * KB, 300 * KB, MB, 3 * MB])
    total, items = draw.uniform(1, 4) * STORE, []
    while sum(item[1] for item in items) < total and len(items) < 2000:
        mixed = draw.random() < 0.2
        items.append((draw.randrange(10**6), draw.randrange(2 * KB, 2 * MB) if mixed else size))
    keeper = Keeper.options(num_cpus=0).remote()
    by, refs = produced(draw, items, keeper)
    views, room = [], draw.choice([0, 0, 0.2, 0.4]) * STORE
    for place in draw.sample(range(len(items)), len(items)):
        if items[place][1] > room:
            break
        room -= items[place][1]
        views.append((place, ray.get(refs[place], timeout=60)))
    if draw.random() < 0.5:
        ray.get(keeper.drop.remote())
    then = consumed(draw, items, refs, keeper)
    if draw.random() < 0.3:
        del refs[::2]
        more = [ray.put(make(*item)) for item in items[::2]]
        for ref, item in zip(more, items[::2]):
            assert not wrong(ray.get(ref, timeout=60), *item)
    for place, view in views:
        assert not wrong(view, *items[place])
    print(f"shape {number}: {len(items)} objects, {total / STORE:.1f} x the store, {by}, {then}, "
          f"{len(views)} held", flush=True)

ray.init(num_cpus=2, object_store_memory=STORE, object_spilling_directory=sys.argv[3])
for number in range(first, first + count):
    print(f"begun {number}", flush=True)
    run(number)
ray.shutdown()
print("all right")
"""


@pytest.mark.parametrize("program", range(PROGRAMS))
def test_every_shape_ends(site, program):
    folder = site.folder / "spill"
    run = site.python(PROGRAM, str(program * SHAPES), str(SHAPES), str(folder))
    run.succeeds(58).expect("all right")
    assert sum(line.startswith("shape ") for line in run.out) == SHAPES
    assert not any(folder.iterdir())
