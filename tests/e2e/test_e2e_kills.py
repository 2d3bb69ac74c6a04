"""kill -9 of every kind of process: the work ends right, or an error says why; nothing is left."""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import time

import pytest
from e2e_help import EXAMPLES, GONE_S, Site, kill, until

GRAPH = [sys.executable, str(EXAMPLES / "task_graph.py"), "--megabytes", "20", "--blocks", "12",
         "--step-seconds", "0.12"]
TREE = [sys.executable, str(EXAMPLES / "actor_tree.py"), "--numbers", "20000", "--increments", "8",
        "--rounds", "12", "--examples", "2000", "--features", "10", "--step-seconds", "0.05"]

# A driver with tasks in progress, actors, small and large objects.
BUSY = """
    import os, time
    import numpy as np
    import skate as ray

    ray.init(num_cpus=2)

    @ray.remote
    class Holder:
        def __init__(self, x):
            self.x = x
        def pid(self):
            return os.getpid()

    @ray.remote
    def nap(x):
        time.sleep(0.05)
        return x

    refs = [ray.put(np.ones(500_000)) for _ in range(4)]
    actors = [Holder.remote(refs[0]) for _ in range(2)]
    pids = ray.get([a.pid.remote() for a in actors])
    ray.get(nap.remote(refs[1]))
    queue = [nap.remote(i) for i in range(2000)]
    print("busy", *pids, flush=True)
    try:
        ray.get(queue)
        time.sleep(60)
    except ray.exceptions.RayError as error:
        print("error", type(error).__name__, error, flush=True)
"""


def kill_random_worker(site: Site, generator: random.Random) -> int:
    """One worker of the session, any that still lives; its pid."""

    def try_one() -> int:
        workers = site.workers()
        try:
            victim = generator.choice(workers).pid if workers else 0
            if victim:
                kill(victim)
            return victim
        except ProcessLookupError:
            return 0

    return until(try_one, 10, "a worker to kill")


def kill_all_workers(site: Site) -> None:
    """Every worker that lives now."""
    for worker in site.workers():
        with contextlib.suppress(ProcessLookupError):
            kill(worker.pid)


# ------------------------------------------------------------------------------ worker: program 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_program_1_survives_the_death_of_workers(site, seed):
    generator = random.Random(seed)
    program = site.start(*GRAPH)
    program.expect(r"\[2/4\]")
    until(site.workers, 10, "workers")
    for _ in range(2):
        pause = time.monotonic() + generator.uniform(0.05, 0.3)
        until(lambda: time.monotonic() > pause, 2, "the chosen moment")  # noqa: B023
        if program.popen.poll() is None:
            kill_random_worker(site, generator)
    program.succeeds(40)
    program.expect("checked: equals numpy")
    site.assert_nothing_left()


def test_program_1_survives_the_death_of_the_zygote(site):
    program = site.start(*GRAPH)
    program.expect(r"blocks done")
    [zygote] = site.zygotes()
    kill(zygote.pid)
    program.succeeds(40)
    program.expect("checked: equals numpy")


def test_killed_while_it_runs_a_task_is_run_again(site):
    program = site.python(
        """
        import os, sys, time
        import skate as ray
        ray.init(num_cpus=1)

        @ray.remote
        def slow(path):
            with open(path, "a") as log:
                log.write("x")
            print("running", os.getpid(), flush=True)
            deadline = time.monotonic() + 30
            while not os.path.exists(path + ".go") and time.monotonic() < deadline:
                time.sleep(0.01)
            return os.getpid()

        print("result", ray.get(slow.remote(sys.argv[1])), flush=True)
        """,
        str(site.folder / "log"),
    )
    victim = int(program.expect(r"running (\d+)")[1])
    kill(victim)
    until(lambda: (site.folder / "log").read_text() == "xx", 10, "a second run")
    (site.folder / "log.go").touch()
    assert int(program.expect(r"result (\d+)")[1]) != victim
    program.succeeds()


def test_no_retries_left_is_an_error_that_names_the_signal(site):
    program = site.python(
        """
        import os, time
        import skate as ray
        ray.init(num_cpus=1)

        @ray.remote(max_retries=0)
        def slow():
            print("running", os.getpid(), flush=True)
            time.sleep(60)

        try:
            ray.get(slow.remote())
        except ray.exceptions.WorkerCrashedError as error:
            print("error", str(error).replace("\\n", " "), flush=True)
        print("still usable", ray.get(ray.remote(lambda: 5).remote()), flush=True)
        """
    )
    kill(int(program.expect(r"running (\d+)")[1]))
    began = time.monotonic()
    line = program.expect(r"error .*", 1.0)[0]
    assert time.monotonic() - began < 1.0
    assert "SIGKILL" in line
    program.expect("still usable 5")
    program.succeeds()


# ------------------------------------------------------------------------------ worker: program 2


@pytest.mark.parametrize("phase", [r"\[0/3\]", r"\[1/3\]", r"\[2/3\]", r"round +3"],
                         ids=["counter", "tree", "server", "rounds"])
def test_program_2_survives_the_death_of_workers(site, phase):
    program = site.start(*TREE)
    program.expect(phase)
    kill_random_worker(site, random.Random(phase))
    program.succeeds(40)
    program.expect("all checked")


def test_program_2_survives_the_death_of_all_workers(site):
    program = site.start(*TREE)
    program.expect(r"round +3")
    kill_all_workers(site)
    program.succeeds(40)
    program.expect("all checked")


def test_program_2_survives_the_death_of_the_zygote(site):
    program = site.start(*TREE)
    program.expect(r"round +3")
    kill(site.zygotes()[0].pid)
    program.succeeds(40)
    program.expect("all checked")


def test_program_2_without_restarts_fails_at_once(site):
    program = site.start(*TREE, "--restarts", "0")
    program.expect(r"round +3")
    began = time.monotonic()
    kill_all_workers(site)
    assert program.wait(10) != 0
    assert time.monotonic() - began < 2.0
    text = program.text()
    assert "ActorDiedError" in text and "SIGKILL" in text


def test_a_dead_actor_is_named_within_a_second(site):
    program = site.python(
        """
        import os, time
        import skate as ray
        ray.init(num_cpus=1)

        @ray.remote
        class Stuck:
            def wait(self):
                print("waiting", os.getpid(), flush=True)
                time.sleep(60)

        actor = Stuck.remote()
        try:
            ray.get(actor.wait.remote())
        except ray.exceptions.ActorDiedError as error:
            print("error", actor._actor_id.hex() in str(error) or error.actor_id,
                  str(error).replace("\\n", " "), flush=True)
        """
    )
    kill(int(program.expect(r"waiting (\d+)")[1]))
    line = program.expect(r"error .*", 1.0)[0]
    assert "SIGKILL" in line
    program.succeeds()


def test_the_owner_of_an_object_dies(site):
    program = site.python(
        """
        import os, time
        import numpy as np
        import skate as ray
        ray.init(num_cpus=1)

        @ray.remote
        class Maker:
            def make(self):
                return [ray.put(np.ones(300_000)), ray.put(np.ones(200_000)), ray.put("small")]
            def pid(self):
                return os.getpid()

        maker = Maker.remote()
        mapped, large, small = ray.get(maker.make.remote())
        view = ray.get(mapped)
        print("made", ray.get(maker.pid.remote()), flush=True)
        try:
            ray.get(maker.pid.options(name="wait").remote())
            while True:
                ray.get(maker.pid.remote())
        except ray.exceptions.ActorDiedError:
            pass
        deadline = time.monotonic() + 4  # longer than what nobody holds is kept
        while time.monotonic() < deadline:
            assert ray.get(large, timeout=10).sum() == 200_000
            assert ray.get(small, timeout=10) == "small"
        print("view", view.sum(), flush=True)
        """
    )
    kill(int(program.expect(r"made (\d+)")[1]))
    program.expect(r"view 300000")
    program.succeeds()


# ------------------------------------------------------------------- zygote, driver, raylet, GCS


def test_the_zygote_dies_and_comes_back(site):
    program = site.python(
        """
        import os, sys, time
        import skate as ray
        ray.init(num_cpus=2)

        @ray.remote
        def who():
            time.sleep(0.01)
            return os.getpid(), os.getppid()

        first = ray.get(who.remote())[1]
        print("zygote", first, flush=True)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            seen = {parent for _, parent in ray.get([who.remote() for _ in range(4)])}
            if seen and first not in seen:
                print("new zygote", flush=True)
                break
        """
    )
    kill(int(program.expect(r"zygote (\d+)")[1]))
    program.expect("new zygote", 10)
    program.succeeds()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_the_driver_is_killed(site, number):
    program = site.python(BUSY)
    program.expect("busy")
    assert len(site.processes()) > 3
    program.signal(number)
    program.wait(5)
    site.assert_nothing_left(GONE_S)


def test_the_driver_is_killed_right_after_init(site):
    program = site.python("import skate as ray\nray.init(num_cpus=2)\nprint('up', flush=True)\n"
                          "import time; time.sleep(60)\n")
    program.expect("up")
    program.signal(signal.SIGKILL)
    program.wait(5)
    site.assert_nothing_left(GONE_S)


def test_the_driver_is_killed_during_init(site):
    for delay in (0.02, 0.05, 0.08, 0.12, 0.2):
        program = site.python("import skate as ray\nray.init(num_cpus=2)\n"
                              "import time; time.sleep(60)\n")
        moment = time.monotonic() + delay
        until(lambda: time.monotonic() > moment, 2, "the chosen moment")  # noqa: B023
        program.signal(signal.SIGKILL)
        program.wait(5)
        site.assert_nothing_left(GONE_S)


def test_the_driver_exits_without_shutdown(site):
    program = site.python(BUSY.replace("ray.get(queue)", "os._exit(3)"))
    assert program.wait(30) == 3
    site.assert_nothing_left(GONE_S)


@pytest.mark.parametrize("daemon", ["skate-raylet", "skate-gcs"])
def test_a_daemon_is_killed(site, daemon):
    program = site.python(BUSY)
    program.expect("busy")
    [process] = site.called(daemon)
    kill(process.pid)
    began = time.monotonic()
    said = program.expect(r"error \w+ (.*)", 3.0)[1]
    assert "SIGSEGV" not in said  # the other daemon ends in order
    site.assert_nothing_left(max(0.1, GONE_S - (time.monotonic() - began)))
    program.succeeds(10)


def test_kill_everything_but_the_driver(site):
    program = site.python(BUSY)
    program.expect("busy")
    for process in site.processes():
        if process.pid != program.pid:
            with contextlib.suppress(ProcessLookupError):
                kill(process.pid)
    program.expect(r"error \w+", 3.0)
    site.assert_nothing_left(GONE_S)
    program.succeeds(10)


def test_a_second_session_after_the_raylet_was_killed(site):
    program = site.python(
        """
        import os, sys, time
        import skate as ray
        echo = ray.remote(lambda x: x)
        for i in range(2):
            ray.init(num_cpus=1)
            print("session", i, ray.get(echo.remote(i)), flush=True)
            if i == 0:
                try:
                    while True:
                        ray.get(echo.remote(1))
                except ray.exceptions.RayError as error:
                    print("error", type(error).__name__, flush=True)
            ray.shutdown()
        """
    )
    program.expect("session 0 0")
    kill(site.raylets()[0].pid)
    program.expect("error")
    program.expect("session 1 1")
    program.succeeds()
