"""What users of such systems suffer from most, as programs with a bound: hangs, orphans, leaks."""

from __future__ import annotations

import os
import signal
import time

import pytest
from e2e_help import kill, until

# A task that has started programs of its own, one of them in a session of its own.
PARENT = """
    import os, subprocess, sys, time
    import skate as ray

    ray.init(num_cpus=2)

    @ray.remote(max_retries=0)
    def start(seconds):
        subprocess.Popen(["sleep", "1111"])
        subprocess.Popen(["sleep", "2222"], start_new_session=True)
        subprocess.Popen(["sh", "-c", "sleep 3333; true"])
        print("started", os.getpid(), flush=True)
        time.sleep(seconds)

    ref = start.remote(1000)
    try:
        ray.get(ref)
    except ray.exceptions.WorkerCrashedError:
        print("crashed", flush=True)
        time.sleep(1000)
"""


def sleepers(site):
    return {word for word in ("1111", "2222", "3333") for p in site.called(f"sleep {word}")}


@pytest.mark.parametrize("who", ["driver", "ctrl-c", "raylet", "zygote"])
def test_no_orphans(site, who):
    """Whatever ends the session ends what its tasks have started, too."""
    program = site.python(PARENT)
    program.expect(r"started")
    until(lambda: len(sleepers(site)) == 3, 10, "three programs of the task")
    if who == "driver":
        program.signal(signal.SIGKILL)
    elif who == "ctrl-c":
        program.interrupt()
    elif who == "raylet":
        kill(site.raylets()[0].pid)
    else:
        kill(site.zygotes()[0].pid)
    if who in ("raylet", "zygote"):
        program.close()
    else:
        program.wait(10)
    site.assert_nothing_left()


def test_a_worker_takes_its_programs_along(site):
    program = site.python(PARENT)
    worker = int(program.expect(r"started (\d+)").group(1))
    until(lambda: len(sleepers(site)) == 3, 10, "three programs of the task")
    kill(worker)
    program.expect("crashed")
    until(lambda: sleepers(site) <= {"2222"}, 10, "the end of its process group")
    program.close()
    site.assert_nothing_left()


def test_cancel_of_a_sleep(site):
    """The whole program ends long before the sleep would."""
    began = time.monotonic()
    program = site.python("""
        import time
        import skate as ray

        ray.init(num_cpus=1)

        @ray.remote
        def sleeper():
            print("asleep", flush=True)
            time.sleep(1000)

        @ray.remote
        def parent():
            return ray.get(sleeper.remote())

        for ref in (sleeper.remote(), parent.remote()):
            ray.wait([ref], timeout=0.5)
            ray.cancel(ref)
            try:
                ray.get(ref)
            except ray.exceptions.TaskCancelledError as error:
                print("cancelled", error)
        print("cpus", ray.get(ray.remote(lambda: 1).remote()))
    """)
    program.succeeds(30)
    assert sum(line.startswith("cancelled") for line in program.out) == 2
    assert time.monotonic() - began < 25


def test_a_loop_does_not_leak(site):
    """Puts, tasks with large arguments and results, nested refs, errors: all is given back."""
    program = site.python("""
        import gc, os, re, time
        import skate as ray
        from skate import _core

        ray.init(num_cpus=2, object_store_memory=200 << 20)

        @ray.remote
        def grow(block, refs):
            if len(refs) > 2:
                raise ValueError("too many")
            return block + bytes(1000)

        @ray.remote
        class Keeper:
            def keep(self, refs):
                self.refs = refs

        keeper = Keeper.remote()

        def step(i):
            ref = ray.put(os.urandom(300_000))
            out = grow.remote(ref, [ref])
            nested = ray.put([ref, out])
            keeper.keep.remote([nested])
            failed = grow.remote(b"", [ref, ref, out])
            try:
                ray.get(failed)
            except ValueError:
                pass
            assert len(ray.get(out)) == 301_000

        def state():
            gc.collect()
            ray.get(keeper.keep.remote([]))
            stats = _core.stats()
            # its own memory: how much of the store it has touched depends on who was late
            own = re.search(r"RssAnon:\\s+(\\d+) kB", open("/proc/self/status").read())
            counts = stats["objects"], stats["tasks_pending"], stats["pins"]
            return counts, stats["arena_held"], int(own[1]) << 10

        for i in range(200):
            step(i)
        before = state()
        for i in range(1000):
            step(i)
        def settled(after):
            return all(a <= b for a, b in zip(after[0], before[0])) and after[1] < 16 << 20

        deadline = time.monotonic() + 20
        while not settled(after := state()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert settled(after), (before, after)
        assert after[2] - before[2] < 10 << 20, (before, after)
        print("flat")
    """)
    program.succeeds(90)
    program.expect("^flat$")


def test_forks_do_not_hang(site):
    """multiprocessing's fork in the driver and in a task: no lock of ours is left held in it."""
    program = site.python("""
        import multiprocessing, threading, time
        import skate as ray

        def work(x):
            return x * x

        def pools():
            for _ in range(3):
                with multiprocessing.get_context("fork").Pool(2) as pool:
                    assert pool.map(abs, range(-20, 0)) == list(range(20, 0, -1))
            return "fine"

        if __name__ == "__main__":
            ray.init(num_cpus=2)
            busy, over = ray.remote(work), threading.Event()

            def calls():
                while not over.is_set():
                    ray.get([busy.remote(i) for i in range(20)])

            thread = threading.Thread(target=calls, daemon=True)
            thread.start()
            task = ray.remote(pools).remote()
            print("driver", pools())
            print("task", ray.get(task, timeout=60))
            over.set()
            thread.join()
    """)
    program.succeeds(60)
    assert "driver fine" in program.out and "task fine" in program.out


def test_what_a_power_cut_left_is_removed(site):
    """All processes of a session killed at once leave its folder; the next start removes it."""
    dead = site.python("""
        import time
        import skate as ray
        ray.init(num_cpus=1)
        print("up", flush=True)
        time.sleep(1000)
    """)
    dead.expect("up")
    for number in (signal.SIGSTOP, signal.SIGKILL):  # nobody may clear up after another
        for process in site.processes():
            os.kill(process.pid, number)
    dead.wait(10)
    (folder,) = [path for path in site.files() if "/session_" in path and path.count("/") <= 4]
    young = site.python("import skate as ray; ray.init(num_cpus=1); ray.shutdown()").succeeds()
    assert folder in site.files(), young.text()  # it may be a session that starts just now
    os.utime(folder, (1, 1))
    site.python("import skate as ray; ray.init(num_cpus=1); ray.shutdown()").succeeds()
    assert folder not in site.files()


def test_a_cluster_says_why(site):
    """Cancel and deaths on another node, and the death of the node."""
    program = site.python("""
        import os, time
        import skate as ray
        from skate import exceptions
        from skate.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        node = cluster.add_node(num_cpus=1, resources={"far": 1})
        ray.init(address=cluster.address, log_to_driver=False)

        @ray.remote(resources={"far": 1}, max_retries=0)
        def far(path, how):
            print("the last line", flush=True)
            open(path, "w").close()
            if how == "die":
                os.kill(os.getpid(), 11)
            time.sleep(1000)

        def run(path, how, act):
            ref = far.remote(path, how)
            while how == "sleep" and not os.path.exists(path):
                time.sleep(0.01)
            act(ref)
            try:
                ray.get(ref, timeout=30)
            except exceptions.RayError as error:
                print(type(error).__name__, str(error).replace("\\n", " "), flush=True)

        run("a", "sleep", ray.cancel)
        run("b", "sleep", lambda ref: ray.cancel(ref, force=True))
        run("c", "die", lambda ref: None)
        run("d", "sleep", lambda ref: cluster.remove_node(node, allow_graceful=False))
        ray.shutdown()
        cluster.shutdown()
    """).succeeds(90)
    said = program.out
    assert said[0].startswith("RayTaskError(TaskCancelledError)"), program.text()
    assert said[1].startswith("TaskCancelledError"), program.text()
    assert said[2].startswith("WorkerCrashedError"), program.text()
    for words in ("SIGSEGV", "on node 2 (", "the last line"):
        assert words in said[2]
    assert said[3].startswith("NodeDiedError node 2 is lost"), program.text()
