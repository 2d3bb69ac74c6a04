"""The wheel: one for all Pythons, installed alone into an empty environment, on a small machine.

The small machine is this one with a private /dev/shm of 64 MB, a memory limit of 1 GB where control
groups can be made, and 1,024 descriptors.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GROUPS = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
LIMIT = 1 << 30


def pythons() -> list[str]:
    """Every CPython from 3.11 on that starts: on the PATH, or kept by pyenv."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {}
    for minor in range(11, 16):
        name = f"python3.{minor}"
        for path in (shutil.which(name), *map(str, sorted(kept.glob(f"*/bin/{name}")))):
            if path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
                found.setdefault(name, path)
    return list(found.values()) or [sys.executable]


PROGRAM = """
import resource
import sys
import skate as ray

assert not [m for m in sys.modules if m.split(".")[0] in ("numpy", "torch", "ssl", "asyncio")]
ray.init(num_cpus=2)

@ray.remote
def square(x):
    return x * x

@ray.remote
class Counter:
    def __init__(self):
        self.n = 0
    def add(self, k):
        self.n += len(k)
        return self.n

assert ray.get([square.remote(i) for i in range(2000)]) == [i * i for i in range(2000)]
big = ray.put(b"x" * 100_000_000)
counters = [Counter.remote() for _ in range(20)]
for c in counters[:4]:  # each has a copy of its own while it adds
    assert ray.get(c.add.remote(big)) == 100_000_000
assert ray.get([c.add.remote(b"abc") for c in counters[4:]]) == [3] * 16
store = ray.cluster_resources()["object_store_memory"]
assert store < float(sys.argv[1]), store
print("fine", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
ray.shutdown()
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "-w",
         str(folder), str(ROOT)],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = list(folder.glob("*.whl"))
    assert len(found) == 1
    return found[0]


@pytest.fixture(scope="module")
def memory_group() -> Iterator[Path | None]:
    """A control group of 1 GB, or None where none can be made."""
    for base in GROUPS:
        limit = "memory.limit_in_bytes" if base.name == "memory" else "memory.max"
        group = base / f"skate-wheel-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(LIMIT))
        except OSError:
            group.rmdir()
            continue
        yield group
        group.rmdir()
        return
    yield None


@pytest.mark.timeout(480)
def test_one_wheel_with_two_dependencies(wheel):
    assert "-cp311-abi3-linux" in wheel.name or "-cp311-abi3-manylinux" in wheel.name
    assert wheel.stat().st_size < 10 << 20  # with TLS, SQLite and symbols in the daemons
    with zipfile.ZipFile(wheel) as z:
        (name,) = [n for n in z.namelist() if n.endswith("METADATA")]
        text = z.read(name).decode()
        names = [n for n in z.namelist() if not n.startswith("skate/lib/")]  # libskate is of C
        libraries = [n for n in names if n.endswith(".so") and "abi3" not in n]
    needs = [line for line in text.splitlines() if line.startswith("Requires-Dist")]
    always = {line.split()[1].split(">")[0] for line in needs if "extra ==" not in line}
    assert always == {"click", "cloudpickle"}
    assert not libraries  # nothing is tied to one Python


@pytest.mark.timeout(480)
@pytest.mark.parametrize("python", pythons(), ids=os.path.basename)
def test_an_empty_environment_on_a_small_machine(wheel, memory_group, tmp_path, python):
    subprocess.run([python, "-m", "venv", str(tmp_path / "env")], check=True)
    inside = str(tmp_path / "env/bin/python")
    done = subprocess.run([inside, "-m", "pip", "install", "-q", str(wheel)],
                          capture_output=True, text=True, check=False)  # fmt: skip
    if "No matching distribution found for c" in done.stderr:
        pytest.skip("no package index to take click and cloudpickle from")
    assert done.returncode == 0, done.stderr
    (tmp_path / "program.py").write_text(PROGRAM)
    steps = "ulimit -n 1024\n"
    if memory_group is not None:
        steps += f"echo $$ > {memory_group}/cgroup.procs\n"
    private = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    if private.returncode == 0:
        steps += "mount -t tmpfs -o size=64m tmpfs /dev/shm\n"
    limit = LIMIT if memory_group is not None else 1 << 60
    steps += f"exec {inside} {tmp_path}/program.py {limit // 3}\n"
    shell = ["unshare", "-m", "bash", "-ec"] if private.returncode == 0 else ["bash", "-ec"]
    done = subprocess.run([*shell, steps], capture_output=True, text=True, timeout=120,
                          cwd=tmp_path, check=False)  # fmt: skip
    assert done.stdout == "fine 1024\n", (done.returncode, done.stdout, done.stderr)
    assert done.stderr == ""
