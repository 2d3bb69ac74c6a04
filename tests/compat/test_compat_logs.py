"""What workers print, on the driver: equal lines once, switches, nothing lost."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap

import pytest
from compat_target import ON_RAY, TARGET

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = """
    import time
    from compat_target import ON_RAY, ray, start
    start({options})
    @ray.remote(max_calls=1)
    def say(i):
        print("the very same line")
        print("item", "abcdef"[i], "of ours")
        return i
    @ray.remote
    def again():
        for _ in range(3):
            print("said by one alone")
    ray.get([say.remote(i) for i in range(5)])
    ray.get(again.remote())
    {wait}
    ray.shutdown()
"""
WAIT = "time.sleep(14 if ON_RAY else 0)"


def output(options: str = "", wait: str = WAIT, **variables: str) -> list[str]:
    """The lines of the program's stdout and stderr, without colours."""
    env = dict(os.environ, SKATE_COMPAT_TARGET=TARGET, PYTHONUNBUFFERED="1", **variables)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [HERE, env.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM).format(options=options, wait=wait)],
        env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr).splitlines()


def having(lines: list[str], text: str) -> list[str]:
    return [line for line in lines if text in line]


@pytest.mark.row("14.logs", "12.logs")
def test_equal_lines_of_several_workers_are_shown_once():
    lines = output(RAY_DEDUP_LOGS_AGG_WINDOW_S="12")
    same = having(lines, "the very same line")
    assert len(same) == 2
    assert re.search(r"\(say pid=\d+\) the very same line$", same[0])
    assert "[repeated 4x across cluster]" in same[1]
    for letter in "abcde":  # other lines are other lines
        assert having(lines, f"item {letter} of ours")
    assert len(having(lines, "said by one alone")) == 3


@pytest.mark.row("12.logs", "14.logs")
def test_each_line_when_it_is_off():
    lines = output(wait="time.sleep(2 if ON_RAY else 0)", RAY_DEDUP_LOGS="0")
    assert len(having(lines, "the very same line")) == 5
    assert not having(lines, "repeated")


@pytest.mark.row("12.logs")
def test_lines_that_are_always_or_never_shown():
    lines = output(
        RAY_DEDUP_LOGS_AGG_WINDOW_S="12",
        RAY_DEDUP_LOGS_ALLOW_REGEX="very same",
        RAY_DEDUP_LOGS_SKIP_REGEX="by one alone",
    )
    assert len(having(lines, "the very same line")) == 5
    assert not having(lines, "said by one alone")


@pytest.mark.row("14.logs", "12.logs")
@pytest.mark.parametrize(
    ("options", "variables"),
    [("log_to_driver=False", {}), ("", {"RAY_LOG_TO_DRIVER": "0"})],
)
def test_none_of_it(options, variables):
    if ON_RAY and variables:
        pytest.skip("Ray reads it in `ray start` only")
    assert not having(output(options, **variables), "the very same line")


@pytest.mark.row("14.logs")
def test_lines_that_differ_in_a_number():
    if ON_RAY:
        pytest.skip("Ray takes lines for equal that differ in numbers only")
    source = PROGRAM.replace('print("item", "abcdef"[i], "of ours")', 'print("loss", i / 7)')
    env = dict(os.environ, SKATE_COMPAT_TARGET=TARGET)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [HERE, env.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source).format(options="", wait="")],
        env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    found = re.findall(r"loss (\S+)", done.stdout)
    assert sorted(found) == sorted(str(i / 7) for i in range(5))


@pytest.mark.row("12.logs")
def test_without_prefixes():
    if ON_RAY:
        pytest.skip("kept by Ray for its own terminal output")
    lines = output(SKATE_DISABLE_WORKER_LOG_PREFIX="1", SKATE_DEDUP_LOGS="0")
    assert lines.count("the very same line") == 5


@pytest.mark.row("12.logs")
def test_the_name_of_skate_wins():
    if ON_RAY:
        pytest.skip("of Skate")
    lines = output(SKATE_DEDUP_LOGS="0", RAY_DEDUP_LOGS="1")
    assert len(having(lines, "the very same line")) == 5


@pytest.mark.row("12.logs")
def test_the_level_of_rays_logger():
    source = """
        import logging
        from compat_target import ray, start
        start(logging_level=logging.ERROR, log_to_driver=False)
        print(logging.getLogger("ray").level)
        ray.shutdown()
    """
    env = dict(os.environ, SKATE_COMPAT_TARGET=TARGET)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [HERE, env.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)], env=env, capture_output=True, text=True
    )
    assert done.stdout.split()[-1] == "40", done.stderr
