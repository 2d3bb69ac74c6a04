"""Everything at once: graphs of tasks, actors, generators, cancelled and killed at random.

Each ref ends, with its value or an error that says why; nothing stays in the tables. By hand for
longer: `SKATE_STORM_SECONDS=60 SKATE_STORM_SEED=5 pytest tests/e2e/test_e2e_cancel_storm.py`.
"""

from __future__ import annotations

import os

import pytest

SECONDS = float(os.environ.get("SKATE_STORM_SECONDS", "4"))
SEED = int(os.environ.get("SKATE_STORM_SEED", "1"))

PROGRAM = """
    import asyncio, collections, os, random, sys, threading, time

    import skate as ray
    from skate import _core, exceptions

    seconds, dice = float(sys.argv[1]), random.Random(int(sys.argv[2]))
    ray.init(num_cpus=3, log_to_driver=False)

    @ray.remote
    def work(ms, *deps):
        end = time.monotonic() + ms / 1000
        while time.monotonic() < end:
            time.sleep(0.001)
        return ms

    @ray.remote
    def sleep(ms, *deps):
        time.sleep(ms / 1000)
        return ms

    @ray.remote(max_retries=0)
    def fail(ms, *deps):
        raise ValueError(ms)

    @ray.remote(num_cpus=0)
    def nest(ms, *deps):
        return sum(ray.get([sleep.remote(ms), work.remote(ms), sleep.remote(ms)]))

    @ray.remote
    def stream(ms, *deps):
        for i in range(5):
            time.sleep(ms / 5000)
            yield i

    @ray.remote(max_restarts=-1)
    class Sync:
        def work(self, ms, *deps):
            time.sleep(ms / 1000)
            return ms

    @ray.remote(max_restarts=-1)
    class Async:
        async def work(self, ms, *deps):
            await asyncio.sleep(ms / 1000)
            return ms
        async def nest(self, ms, *deps):
            return await sleep.options(num_cpus=0).remote(ms)

    @ray.remote(num_cpus=0)
    def zygote():
        return os.getppid()

    parent = ray.get(zygote.remote())
    sync, asynchronous = Sync.remote(), Async.remote()
    kinds = [work, work, sleep, sleep, fail, nest, sync.work, sync.work, asynchronous.work,
             asynchronous.nest]
    typed = (exceptions.TaskCancelledError, exceptions.WorkerCrashedError, ValueError,
             exceptions.RayActorError, exceptions.OwnerDiedError, exceptions.ObjectLostError)
    outcomes, over = collections.Counter(), threading.Event()

    def kill():
        while not over.wait(0.15):
            try:
                with open(f"/proc/{parent}/task/{parent}/children") as file:
                    os.kill(int(random.choice(file.read().split())), 9)
            except (OSError, IndexError):
                pass

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        refs = []
        for _ in range(60):
            deps = dice.sample(refs, min(len(refs), dice.randrange(3)))
            ms = dice.choice((0, 0, 1, 3, 20, 60))
            if dice.random() < 0.05:
                for item in stream.remote(ms, *deps) if dice.random() < 0.5 else ():
                    refs.append(item)
                continue
            refs.append(dice.choice(kinds).remote(ms, *deps))
            if dice.random() < 0.4:
                victim = dice.choice(refs)
                try:
                    ray.cancel(victim, force=dice.random() < 0.3, recursive=dice.random() < 0.7)
                except ValueError:
                    ray.cancel(victim)
        for ref in refs:
            try:
                ray.get(ref, timeout=60)
                outcomes["value"] += 1
            except typed as error:
                outcomes[type(error).__name__] += 1
    over.set()
    killer.join()
    print(dict(outcomes), flush=True)
    del refs, ref, deps, victim
    for _ in range(1000):
        if _core.stats()["tasks_pending"] <= 2:  # the constructors of the actors
            break
        time.sleep(0.01)
    print("left", _core.stats()["tasks_pending"], flush=True)
    assert _core.stats()["tasks_pending"] <= 2
    print("right", flush=True)
"""


@pytest.mark.timeout(SECONDS + 180)
def test_storm(site):
    program = site.python(PROGRAM, str(SECONDS), str(SEED))
    program.succeeds(SECONDS + 120)
    program.expect("^right$")
