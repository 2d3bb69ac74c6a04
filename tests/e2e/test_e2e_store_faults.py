"""Disks with faults under the object store: full, read-only, slow, hanging, damaged; and kill -9.

Full is a small tmpfs; the others are the disk of `bad_disk.py`, whose faults the programs switch on
and off themselves. Both are mounted in a namespace of the test's own (`unshare -rm`), so no rights
are needed where the machine lets users have such; otherwise a test says why it is skipped.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from e2e_help import Program, Site, kill, until

BAD_DISK = Path(__file__).with_name("bad_disk.py")
ON_TMPFS = 'mount -t tmpfs -o size=48m none "$0" && exec "$@"'
ABOUT_DISKS = re.compile(r"spill|disk|store", re.IGNORECASE)

# 2 MB objects in a store of 32 MB: 16 of them fill it.
BEGIN = """
import os, sys, threading, time
import numpy as np
import skate as ray
from skate.exceptions import GetTimeoutError, ObjectLostError, ObjectStoreFullError

folder, faults = sys.argv[1], sys.argv[2]
MB = 1 << 20

def begin(wait_s):
    ray.init(num_cpus=2, object_store_memory=32 * MB, object_spilling_directory=folder,
             _system_config={"store_wait_s": wait_s, "min_spilling_size": MB})

def make(number):
    values = np.arange(2 * MB // 8) + number
    values[::512] = -number
    return values

def put(refs, count):
    for _ in range(count):
        refs.append(ray.put(make(len(refs))))

def right(ref, number, timeout=60):
    assert (ray.get(ref, timeout=timeout) == make(number)).all(), f"wrong bytes in {number}"

def all_right(refs, first=0):
    for number, ref in enumerate(refs, first):
        right(ref, number)

def until(question, what):
    deadline = time.monotonic() + 40
    while not question():
        assert time.monotonic() < deadline, f"not within 40 s: {what}"
        time.sleep(0.01)

def fault(name, text=""):
    with open(os.path.join(faults, name), "w") as out:
        out.write(text)

def met(name):
    until(lambda: os.path.exists(os.path.join(faults, f"met.{name}")), f"{name} was met")

def mend(name):
    os.unlink(os.path.join(faults, name))

def refused(text):
    # A put must fail in the end: the store is full, and the disk takes nothing.
    kept = []
    try:
        put(kept, 40)
    except ObjectStoreFullError as error:
        assert text in str(error), error
        return kept
    sys.exit("40 puts into a full store without a disk")

@ray.remote
def double(x):
    return 2 * x

@ray.remote
def made(number):
    return make(number)
"""


@pytest.fixture()
def places(site: Site) -> tuple[str, str]:
    """The folders for spilled objects and for faults."""
    folder, faults = site.folder / "spill", site.folder / "faults"
    folder.mkdir()
    faults.mkdir()
    return str(folder), str(faults)


def wrapped(site: Site, source: str, places: tuple[str, str], wrap: list[str]) -> Program:
    """A program behind a command that mounts something first."""
    path = site.folder / f"program_{len(site.programs)}.py"
    path.write_text(BEGIN + source)
    return site.start(*wrap, sys.executable, str(path), *places)


def must_work(command: list[str]) -> None:
    """Skip when this place has no such mounts."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except OSError as error:
        pytest.skip(str(error))
    if done.returncode != 0:
        pytest.skip(f"cannot be mounted here: {done.stderr.strip()}")


def on_bad_disk(site: Site, source: str, places: tuple[str, str]) -> Program:
    wrap = ["unshare", "-rm", sys.executable, str(BAD_DISK), *places]
    must_work([*wrap, "true"])
    return wrapped(site, source, places, wrap)


def said_seldom(program: Program, began: float) -> None:
    """At most one line a second about what is wrong with the disk."""
    lines = [line for line in program.err if ABOUT_DISKS.search(line)]
    assert len(lines) <= 2 + time.monotonic() - began, program.text()


def ends_well(program: Program) -> None:
    began = time.monotonic()
    program.succeeds(55).expect("all right")
    said_seldom(program, began)


def test_the_disk_of_these_tests_is_a_disk(site, places):
    """Bytes come back, and each fault is the error that it should be."""
    program = on_bad_disk(site, """
path = os.path.join(folder, "a")
data = os.urandom(3 * MB)
with open(path, "wb") as out:
    out.write(data)
assert open(path, "rb").read() == data and os.listdir(folder) == ["a"]
for name, number, work in (("full", 28, lambda: open(path, "ab", 0).write(data)),
                           ("readonly", 30, lambda: os.unlink(path)),
                           ("unreadable", 5, lambda: open(path, "rb").read())):
    fault(name)
    try:
        work()
    except OSError as error:
        assert error.errno == number, error
    else:
        sys.exit(f"{name}: no error")
    met(name)
    mend(name)
fault("garbage")
assert open(path, "rb").read() != data
mend("garbage")
fault("hangs")
thread = threading.Thread(target=lambda: os.stat(path))
thread.start()
met("hangs")
assert thread.is_alive()
mend("hangs")
thread.join()
os.unlink(path)
assert os.listdir(folder) == []
print("all right")
""", places)
    program.succeeds(30).expect("all right")
    site.assert_nothing_left()


def test_a_full_disk_is_an_error_that_says_so_and_passes(site, places):
    wrap = ["unshare", "-rm", "sh", "-c", ON_TMPFS, places[0]]
    must_work([*wrap, "true"])
    program = wrapped(site, """
begin(1.0)
refs = []
try:
    put(refs, 100)
except ObjectStoreFullError as error:
    text = str(error)
else:
    sys.exit("never full")
assert len(refs) * 2 > 40, f"only {len(refs)} objects: nothing was spilled"
assert "No space left on device" in text or "disk" in text, text
print(text)
kept = refs[::3]
del refs
for step in range(3):  # there is room again, and again
    more = []
    put(more, 8)
    all_right(more)
    del more
for number, ref in enumerate(kept):
    right(ref, 3 * number)
print("all right")
""", places, wrap)
    ends_well(program)


def test_a_disk_that_takes_nothing_holds_puts_back_until_it_does(site, places):
    program = on_bad_disk(site, """
begin(300.0)
refs = []
put(refs, 24)
fault("readonly")
thread = threading.Thread(target=put, args=(refs, 24))
thread.start()
met("readonly")
assert ray.get([double.remote(i) for i in range(50)], timeout=40) == [2 * i for i in range(50)]
assert thread.is_alive(), "48 MB more went into a full store"
mend("readonly")
thread.join(40)
assert len(refs) == 48, len(refs)
all_right(refs)
print("all right")
""", places)
    ends_well(program)


@pytest.mark.parametrize(("name", "text"), [("readonly", "Read-only file system"),
                                            ("full", "No space left on device")])
def test_a_disk_that_takes_nothing_for_long_is_a_typed_error(site, places, name, text):
    program = on_bad_disk(site, f"""
begin(3.0)
refs = []
put(refs, 24)
fault("{name}")
del refs[20:]
kept = refused("{text}")
mend("{name}")
more = []
put(more, 24)
all_right(refs)
all_right(kept)
all_right(more)
print("all right")
""", places)
    ends_well(program)


def test_a_slow_disk_only_takes_time(site, places):
    program = on_bad_disk(site, """
begin(300.0)
fault("slow", "0.005")
refs = []
put(refs, 48)
assert ray.get([double.remote(i) for i in range(50)]) == [2 * i for i in range(50)]
all_right(refs)
met("slow")
print("all right")
""", places)
    ends_well(program)


def test_a_disk_that_hangs_holds_up_nobody_who_does_not_need_it(site, places):
    """Tasks, new workers, objects in memory go on; who needs the disk waits, with its timeout."""
    program = on_bad_disk(site, """
begin(300.0)
refs = []
put(refs, 32)
fault("hangs")
thread = threading.Thread(target=put, args=(refs, 24))
thread.start()
met("hangs")

@ray.remote
class Sum:
    def __init__(self):
        self.value = 0
    def add(self, x):
        self.value += x
        return self.value

total = Sum.options(num_cpus=0).remote()
assert ray.get([total.add.remote(1) for _ in range(100)], timeout=40)[-1] == 100
assert ray.get([double.remote(i) for i in range(100)], timeout=40) == [2 * i for i in range(100)]
assert thread.is_alive(), "48 MB more went into a full store"
try:
    ray.get(refs[0], timeout=0.3)
except GetTimeoutError:
    pass
else:
    sys.exit("the oldest object was not spilled")
mend("hangs")
thread.join(40)
assert len(refs) == 56, len(refs)
all_right(refs)
print("all right")
""", places)
    ends_well(program)


@pytest.mark.parametrize("name", ["unreadable", "garbage"])
def test_what_cannot_be_read_is_made_again_or_an_error(site, places, name):
    program = on_bad_disk(site, f"""
begin(60.0)
results = [made.remote(i) for i in range(4)]
ray.wait(results, num_returns=4)
refs = []
put(refs, 40)
fault("{name}")
try:
    wrong = (ray.get(refs[0], timeout=40) != make(0)).any()
except ObjectLostError as error:
    print("lost:", error)
else:
    sys.exit("wrong bytes" if wrong else "the oldest object was not spilled")
for number, ref in enumerate(results):
    right(ref, number)
met("{name}")
mend("{name}")
more = []
put(more, 24)
all_right(more)
print("all right")
""", places)
    ends_well(program)
    program.expect("lost: .")


# ------------------------------------------------------------------------------------- kill -9

SPILLING = BEGIN + """
begin(60.0)
refs = []

@ray.remote
def fill():
    own = []
    while True:
        own.append(ray.put(make(len(own))))
        del own[:-40]

if faults == "worker":
    put(refs, 8)
    ref = fill.options(max_retries=0).remote()
    try:
        ray.get(ref)
    except ray.exceptions.WorkerCrashedError:
        all_right(refs)
        print("all right")
else:
    while True:
        put(refs, 1)
        if len(refs) > 60:
            del refs[:30]
"""


def spilled(folder: Path) -> int:
    """Bytes in the files there."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def ours(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("whom", ["driver", "raylet", "worker", "zygote"])
def test_kill_9_while_objects_are_spilled(site: Site, places: tuple[str, str], whom: str) -> None:
    """No process is left, and nothing in the folder after the next start there."""
    folder = Path(places[0])
    program = site.python(SPILLING, str(folder), whom)
    until(lambda: spilled(folder) > 8 << 20 or program.popen.poll() is not None, 40, "spilling")
    assert program.popen.poll() is None, program.text()
    victims: dict[str, Any] = {
        "driver": lambda: [program.pid],
        "raylet": lambda: [p.pid for p in site.raylets()],
        "worker": lambda: [p.pid for p in site.workers()],
        "zygote": lambda: [p.pid for p in site.zygotes()],
    }
    for pid in victims[whom]():
        kill(pid)
    if whom == "worker":
        program.succeeds(50).expect("all right")
        assert ours(folder) == [], "an orderly end leaves nothing"
    if whom == "zygote":
        program.interrupt()
    program.wait(40)
    site.assert_nothing_left(10)
    again = site.python(BEGIN + "begin(60.0)\nput([], 1)\nprint(sorted(os.listdir(folder)))\n"
                        "ray.shutdown()\n", *places)
    again.succeeds(40)
    assert ours(folder) == []


def test_dead_sessions_of_others_are_cleared_away_and_living_ones_are_not(site, places):
    """Two sessions share a folder; one is killed; what the other one has there stays readable."""
    folder = Path(places[0])
    one = site.python(SPILLING, str(folder), "driver")
    until(lambda: spilled(folder) > 8 << 20 or one.popen.poll() is not None, 40, "spilling")
    other = site.python(BEGIN + """
begin(60.0)
refs = []
put(refs, 40)
print("spilled", flush=True)
until(lambda: os.path.exists(faults), "go")
all_right(refs)
print("all right")
""", str(folder), places[1] + "/go")
    other.expect("spilled", 40)
    kill(one.pid)
    one.wait(20)
    site.python(BEGIN + "begin(60.0)\n", *places).succeeds(40)
    Path(places[1], "go").touch()
    other.succeeds(40).expect("all right")
    assert ours(folder) == []
    shutil.rmtree(folder)
