"""Promises of the documents that no other file proves: retries, silence, bounded logs."""

from __future__ import annotations

import pytest

# Every 100th of many short calls kills its process: what lay unstarted behind it pays nothing.
KILLERS = """
    import os, sys
    import skate as ray
    from skate import exceptions

    ray.init(num_cpus=1, log_to_driver=False)

    def work(i):
        if i % 100 == 99:
            os.kill(os.getpid(), 9)
        return i

    @ray.remote(max_restarts=-1)
    class Worker:
        def work(self, i):
            return work(i)

    call = Worker.remote().work if sys.argv[1] == "calls" else ray.remote(max_retries=0)(work)
    ray.get([call.remote(0) for _ in range(300)])  # known to be short: many lie with one worker
    refs = [call.remote(i) for i in range(1000)]
    paid = []
    for i, ref in enumerate(refs):
        try:
            assert ray.get(ref) == i
        except (exceptions.WorkerCrashedError, exceptions.ActorUnavailableError):
            paid.append(i)
    assert paid == list(range(99, 1000, 100)), paid
    print("right")
"""

QUIET = """
    import asyncio
    import skate as ray
    from skate.util.placement_group import placement_group, remove_placement_group

    @ray.remote
    def square(x):
        return x * x

    @ray.remote
    def stream(n):
        yield from range(n)

    @ray.remote
    class Echo:
        async def say(self, x):
            await asyncio.sleep(0)
            return x

        async def stream(self, n):
            for i in range(n):
                yield i

    @ray.remote
    class Leaver:
        def leave(self):
            ray.actor.exit_actor()

    ray.init(num_cpus=2)
    assert ray.get([square.remote(i) for i in range(100)])[9] == 81
    assert [ray.get(ref) for ref in stream.remote(3)] == [0, 1, 2]
    echo = Echo.remote()
    assert ray.get([echo.say.remote(i) for i in range(100)]) == list(range(100))
    assert [ray.get(ref) for ref in echo.stream.remote(3)] == [0, 1, 2]
    group = placement_group([{"CPU": 1}])
    ray.get(group.ready())
    remove_placement_group(group)
    leaver = Leaver.remote()
    try:
        ray.get(leaver.leave.remote())
    except ray.exceptions.ActorDiedError:
        pass
    ray.kill(echo)
    left = [stream.remote(1000), square.remote(3), ray.put(bytes(1 << 20)), Echo.remote()]

    async def main():
        return await square.remote(4)

    assert asyncio.run(main()) == 16
"""
ENDS = {
    "falls off the end": "",
    "shutdown": "ray.shutdown()",
    "exit": "raise SystemExit(0)",
    "again": "ray.shutdown(); ray.init(num_cpus=1); ray.get(square.remote(1))",
}


@pytest.mark.parametrize("what", ["tasks", "calls"])
def test_what_has_not_started_uses_up_no_retry(site, what):
    program = site.python(KILLERS, what).succeeds(60)
    assert program.out == ["right"] and not program.err


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_printed_that_the_program_did_not_print(site, end):
    program = site.python(QUIET + "\n    " + ENDS[end]).succeeds()
    assert program.out == [] and program.err == [], program.text()


@pytest.mark.parametrize("older", [0, 2])
def test_the_files_of_what_workers_print_are_bounded(site, older):
    """A megabyte of prints, of which files of 50 kB are kept; the driver sees all of it."""
    program = site.python(
        """
        import glob, os, time
        import skate as ray

        folder = os.path.join(ray.init(num_cpus=1).address_info["session_dir"], "logs")

        @ray.remote
        def talk(n):
            for i in range(n):
                print(f"{i:099d}")
            return os.getpid()

        pid = ray.get(talk.remote(10_000))
        while not glob.glob(f"{folder}/worker-{pid}.out"):
            time.sleep(0.01)

        def kept():
            names = sorted(glob.glob(f"{folder}/worker-{pid}.out*"), reverse=True)
            return [(os.path.basename(name), open(name).read()) for name in names]

        older, deadline = int(os.environ["SKATE_ROTATION_BACKUP_COUNT"]), time.monotonic() + 20
        while older and not kept()[-1][1].endswith("9999\\n") and time.monotonic() < deadline:
            time.sleep(0.01)
        files = kept()
        names = [name.partition(".")[2] for name, _ in files]
        assert names == ["out.2", "out.1", "out"][2 - older:], names
        assert all(0 < len(text) <= 50_000 for _, text in files), [len(t) for _, t in files]
        numbers = [int(line) for _, text in files for line in text.splitlines()]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert numbers[-1] == 9999 if older else numbers[0] == 0
        """,
        env={"RAY_ROTATION_MAX_BYTES": "50000", "SKATE_ROTATION_BACKUP_COUNT": str(older)},
    )
    program.succeeds()
    assert [int(line.rpartition(" ")[2]) for line in program.out] == list(range(10_000))


def test_the_files_of_ended_workers_are_bounded(site):
    """The newest 512 stay, whatever number of workers have printed and ended."""
    site.python("""
        import glob, os, time
        import skate as ray

        folder = os.path.join(
            ray.init(num_cpus=2, log_to_driver=False).address_info["session_dir"], "logs")

        @ray.remote(max_calls=1)
        def talk(i):
            print(i)

        ray.get([talk.remote(i) for i in range(700)])
        deadline = time.monotonic() + 20
        while not 500 < (count := len(glob.glob(f"{folder}/worker-*"))) <= 512 + 3:  # some live
            assert time.monotonic() < deadline, count
            time.sleep(0.01)
        """).succeeds(60)
