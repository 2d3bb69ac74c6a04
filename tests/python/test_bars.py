"""experimental.tqdm_ray: workers say how far they are, the driver draws."""

from __future__ import annotations

import io
import subprocess
import sys

import skate
from skate.experimental import tqdm_ray

PROGRAM = """
import skate as ray
from skate.experimental import tqdm_ray

ray.init(address="local", num_cpus=2)

@ray.remote
def work(name, n):
    print("between", name)
    for _ in tqdm_ray.tqdm(range(n), desc=name):
        pass
    return n

assert ray.get([work.remote("first", 10), work.remote("second", 20)]) == [10, 20]
ray.shutdown()
"""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def state(n, **more):
    return {"id": "a", "pid": 1, "desc": "d", "n": n, "total": 10, "unit": "it", "position": 0,
            "closed": False, **more}  # fmt: skip


def test_bars_of_workers_reach_the_driver(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "first: 100%" in done.stderr and "10/10" in done.stderr
    assert "second: 100%" in done.stderr and "20/20" in done.stderr
    assert "between first" in done.stdout
    assert "skate-bar" not in done.stdout + done.stderr


def test_on_a_terminal_bars_stay_below_what_is_printed():
    out = Terminal()
    manager = tqdm_ray.BarManager(out)
    manager.process_state_update(state(3))
    assert " 30%|######              | 3/10" in out.getvalue()
    manager.hide_bars()
    assert out.getvalue().endswith("\x1b[1A\x1b[J")
    out.write("a line\n")
    manager.unhide_bars()
    assert "3/10" in out.getvalue().rpartition("a line\n")[2]
    manager.process_state_update(state(10, closed=True))
    out.truncate(0)
    manager.hide_bars()
    assert out.getvalue() == ""  # a closed bar is a line like any other


def test_elsewhere_a_line_for_every_tenth():
    out = io.StringIO()
    manager = tqdm_ray.BarManager(out)
    for n in range(101):
        manager.process_state_update(state(n, total=100))
    manager.process_state_update(state(100, total=100, closed=True))
    lines = out.getvalue().splitlines()
    assert len(lines) == 12
    assert "100/100" in lines[-1] and "\x1b" not in out.getvalue()


def test_hostile_lines_and_many_bars():
    out = io.StringIO()
    manager = tqdm_ray.BarManager(out)
    for text in ("", "{", "[]", "5", '{"id": 1}', '{"id": null, "pid": "x"}'):
        manager.process_line(tqdm_ray.MARK + text, "1.2.3.4")
    assert out.getvalue() == ""
    for i in range(500):
        manager.process_state_update(state(1, id=str(i)))
    assert len(manager._bars) == 100


def test_a_bar_of_the_driver(capsys):
    assert not skate.is_initialized()
    bar = tqdm_ray.tqdm(total=3, desc="here", flush_interval_s=0)
    bar.update()
    bar.update(2)
    assert bar.n == bar.total == 3
    bar.close()
    bar.close()
    tqdm_ray.safe_print("plain")
    shown = capsys.readouterr()
    assert "here: 100%" in shown.err and "3/3" in shown.err
    assert shown.out == "plain\n"
    assert list(tqdm_ray.tqdm([1, 2])) == [1, 2]
