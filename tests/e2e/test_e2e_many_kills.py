"""Workers killed all the time: no task is lost, none hangs, none runs more often than promised.

The suite runs a reduced size. The full one, 10,000 tasks for each promise and a kill -9 every
200 ms: `SKATE_MANY_KILLS=10000 pytest tests/e2e/test_e2e_many_kills.py -s`.
"""

from __future__ import annotations

import os

import pytest

FULL = int(os.environ.get("SKATE_MANY_KILLS", "0"))
TASKS = FULL or 500
EVERY_S = 0.2 if FULL else 0.08
PATIENCE_S = 900.0 if FULL else 90.0

PROGRAM = """
    import collections, os, random, sys, threading, time

    import skate as ray
    from skate import exceptions

    what, count, every, path = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    patience = float(sys.argv[5])
    dice = random.Random(7)
    ray.init(num_cpus=2, log_to_driver=False)

    def run(i, path):
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, b"%d\\n" % i)
        os.close(fd)
        time.sleep(0.001 * (1 + i % 8))
        return i * i

    @ray.remote
    def parent():
        return os.getppid()

    @ray.remote(max_restarts=-1)
    class Runner:
        def run(self, i, path):
            return run(i, path)

    zygote = ray.get(parent.remote())
    children = f"/proc/{zygote}/task/{zygote}/children"
    over, kills = threading.Event(), 0

    def kill():
        global kills
        while not over.wait(every):
            pids = [int(pid) for pid in open(children).read().split()]
            if pids:
                try:
                    os.kill(dice.choice(pids), 9)
                    kills += 1
                except ProcessLookupError:
                    pass

    task = ray.remote(run)
    begun = time.monotonic()
    killer = threading.Thread(target=kill)
    killer.start()
    if what == "calls":
        actors = [Runner.options(num_cpus=0.5).remote() for _ in range(3)]
        refs = []
        for i in range(count):
            refs.append(actors[i % 3].run.remote(i, path))
            if i % 50 == 49:
                ray.wait(refs, num_returns=len(refs) - 25, timeout=patience)
    else:
        task = task.options(**({} if what == "default" else {"max_retries": int(what)}))
        refs = [task.remote(i, path) for i in range(count)]
    outcomes = collections.Counter()
    failed = set()
    for i, ref in enumerate(refs):
        try:
            assert ray.get(ref, timeout=patience) == i * i, i
            outcomes["value"] += 1
        except (exceptions.WorkerCrashedError, exceptions.RayActorError) as error:
            assert not isinstance(error, exceptions.ActorDiedError), error
            outcomes[type(error).__name__] += 1
            failed.add(i)
    seconds = time.monotonic() - begun
    over.set()
    killer.join()
    runs = collections.Counter(int(line) for line in open(path))
    most = max(runs.values())
    print(f"{what}: {dict(outcomes)}, {kills} kills, {seconds:.1f} s, most runs {most}", flush=True)
    assert sum(outcomes.values()) == count
    assert kills >= 3
    lost = [i for i in range(count) if i not in failed and not runs[i]]
    assert not lost, lost
    if what == "-1":
        assert not failed
    elif what == "default":
        assert most <= 4
        assert all(runs[i] == 4 for i in failed), [runs[i] for i in failed]
    else:
        assert most == 1, [i for i in runs if runs[i] > 1]
    print("right", flush=True)
"""


@pytest.mark.timeout(PATIENCE_S + 60)
@pytest.mark.parametrize("what", ["-1", "default", "0", "calls"])
def test_promises_hold(site, tmp_path, what):
    program = site.python(
        PROGRAM, what, str(TASKS), str(EVERY_S), str(tmp_path / "runs"), str(PATIENCE_S)
    )
    program.succeeds(PATIENCE_S)
    program.expect("^right$")
    if FULL:
        print(program.out[-2])
