"""Runtime environments on nodes that cannot see the driver's files; what is left after a kill."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import pytest
from e2e_help import eventually

import skate as ray


def test_a_folder_reaches_another_node(cluster, tmp_path):
    node = cluster.add_node(num_cpus=1, resources={"far": 1})
    work = tmp_path / "work"
    (work / "deep").mkdir(parents=True)
    (work / "module_far.py").write_text("VALUE = 3\n")
    (work / "deep" / "run.sh").write_text("exit 0\n")
    (work / "deep" / "run.sh").chmod(0o755)
    blob = os.urandom(3 << 20)  # several pieces
    (work / "blob.bin").write_bytes(blob)
    ray.init(address=cluster.address, runtime_env={"working_dir": str(work)})
    assert eventually(lambda: ray.cluster_resources()["CPU"] == 2)

    @ray.remote
    def look():
        import module_far

        data = pathlib.Path("blob.bin").read_bytes()
        return os.getcwd(), module_far.VALUE, data, os.access("deep/run.sh", os.X_OK)

    far = look.options(resources={"far": 1}, num_cpus=0)
    there, value, data, runs = ray.get(far.remote(), timeout=30)
    here = ray.get(look.remote(), timeout=30)[0]
    assert value == 3 and data == blob and runs
    assert here != there and os.path.basename(here) == os.path.basename(there)
    assert os.path.dirname(node.socket_path) in there

    env = {"env_vars": {"WHERE": "far"}}

    @ray.remote(resources={"far": 1}, num_cpus=0, runtime_env=env)
    class Far:
        def where(self):
            return os.environ["WHERE"], os.getcwd()

    assert ray.get(Far.remote().where.remote(), timeout=30) == ("far", there)


@pytest.fixture
def session():
    ray.init(address="local", num_cpus=2)
    yield
    ray.shutdown()


def test_workers_that_die_before_they_run_anything(session):
    """The task is told, instead of being sent to one such worker after the other."""

    def die():
        os._exit(3)

    @ray.remote(max_retries=-1)
    def never():
        return 1

    env = {"worker_process_setup_hook": die}
    with pytest.raises(ray.exceptions.WorkerCrashedError, match="in a row died before"):
        ray.get([never.options(runtime_env=env).remote() for _ in range(3)], timeout=30)
    assert ray.get(never.remote(), timeout=30) == 1


def test_nothing_is_left_of_a_killed_driver(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "x.py").write_text("")
    env = {"working_dir": str(tmp_path / "work")}
    source = textwrap.dedent(f"""
        import skate as ray
        ray.init(address="local", num_cpus=1, runtime_env={env!r})
        import time
        @ray.remote
        def f():
            import x, os
            return os.getcwd()
        print(ray.get(f.remote()), flush=True)
        time.sleep(600)
    """)
    driver = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    folder = driver.stdout.readline().strip()
    assert os.path.isdir(folder)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    session = os.path.dirname(os.path.dirname(folder))
    assert eventually(lambda: not os.path.exists(session))
