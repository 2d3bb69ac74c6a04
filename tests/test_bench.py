"""The bench's own judgement: ratios, bars, noise, the load of others; the chart; one row runs."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "bench"), str(ROOT / "tools")]

import bench_rows as rows  # noqa: E402
import compare  # noqa: E402  (all from bench/ and tools/)
import load  # noqa: E402
import plot  # noqa: E402
import readme_numbers  # noqa: E402
import run  # noqa: E402
import table  # noqa: E402

TASKS = next(row for row in rows.ROWS if row.name == "tasks_sync")
IDLE = next(row for row in rows.ROWS if row.name == "idle_cpu")
START = next(row for row in rows.ROWS if row.name == "import_to_first_result")


def pair(name: str, ray: float, skate: float, foreign: float = 0.0) -> run.Pair:
    return run.Pair({"ray": {name: ray}, "skate": {name: skate}}, foreign)


def test_names_are_unique_and_groups_known():
    names = [row.name for row in rows.ALL]
    assert len(names) == len(set(names))
    assert all(row.floor in rows.FLOORS for row in rows.ALL if row.floor)


def test_a_row_is_the_median_of_the_ratios_within_pairs():
    pairs = [pair("tasks_sync", 10, 700), pair("tasks_sync", 20, 1000), pair("tasks_sync", 5, 450)]
    found = run.summarise(TASKS, pairs, {"futex": 3000.0, "spin": 6000.0})
    assert (found["ratio"], found["ratio_min"], found["ratio_max"]) == (70, 50, 90)
    assert found["bar_met"] is True
    assert found["floor_met"] is False and found["floor_text"] == "1/4.3"
    less = [pair("import_to_first_result", 4.0, 0.1)]
    assert run.summarise(START, less, {})["ratio"] == 40
    assert run.summarise(START, less, {})["bar_met"] is False


def test_a_disturbed_pair_does_not_count():
    pairs = [pair("tasks_sync", 10, 700), pair("tasks_sync", 10, 20, foreign=0.31)]
    found = run.summarise(TASKS, pairs, {})
    assert (found["ratio"], found["pairs"], found["void"]) == (70, 1, 1)
    only_void = run.summarise(TASKS, pairs[1:], {})
    assert only_void["all_void"] and table.pairs_cell(only_void) == "ALL 1 VOID"


def test_a_row_of_the_disk_is_judged_by_the_disk():
    row = next(row for row in rows.ROWS if row.name == "spill_write")
    found = run.summarise(row, [pair("spill_write", 0.5, 1.7)], {"disk_write": 2.0})
    assert found["bar_met"] is True and found["floor_met"] is True
    assert readme_numbers.bar_of(found) == "80 % of the disk"
    found = run.summarise(row, [pair("spill_write", 0.5, 1.5)], {"disk_write": 2.0})
    assert found["floor_met"] is False and found["floor_text"] == "75 %"
    assert readme_numbers.bar_of(found) == "80 % of the disk (missed)"
    assert "disk_write 2: 75 %, MISSED" in table.floor_cell(found)


def test_a_group_may_bring_its_floor_and_run_less_often(monkeypatch):
    calls = []

    def child(target: str, group: str, seconds: float) -> dict[str, float]:
        calls.append((target, group))
        return {"spill_write": 1.0, "disk_write": 2.0} if group == "spill" else {"shutdown": 0.1}

    monkeypatch.setattr(run, "run_child", child)
    monkeypatch.setattr(run.Bench, "measure_floor", lambda self: None)
    bench = run.Bench(0.1, 1.0, 1e9)
    args = run.argparse.Namespace(pairs=5, minutes=1.0)
    wanted = [row for row in rows.ROWS if row.name in ("shutdown", "spill_write")]
    run.measure(bench, args, ["ray", "skate"], wanted, [])
    assert len(bench.pairs["start"]) == 5 and calls.count(("ray", "start")) == 5
    assert len(bench.pairs["spill"]) == rows.PAIRS_MOST["spill"] < 5
    assert bench.floors["disk_write"] == [2.0] * 2 * rows.PAIRS_MOST["spill"]
    assert bench.pairs["spill"][0].values["skate"] == {"spill_write": 1.0}


def test_a_bound_is_judged_without_ray():
    quiet, loud = (run.summarise(IDLE, [run.Pair({"skate": {"idle_cpu": value}})], {})
                   for value in (0.2, 0.7))
    assert quiet["limit_met"] is True and loud["limit_met"] is False
    assert table.goal(loud) == "<= 0.5% MISSED"


@pytest.mark.parametrize(("ratios", "fell"), [
    ([0.80, 0.81, 0.82, 0.79, 0.80, 0.83, 0.80], True),
    ([0.96, 0.97, 0.98, 0.96, 0.97, 0.96, 0.97], False),  # within five per cent
    ([0.50, 1.30, 0.80, 1.20, 0.85, 0.60, 1.10], False),  # noise
    ([1.01, 0.99, 1.00, 1.02, 0.98, 1.00, 0.99], False),
])
def test_a_row_falls_by_more_than_its_noise(ratios: list[float], fell: bool):
    assert compare.judge(ratios).fell is fell
    assert not compare.judge(ratios).rose


def test_the_comparison_fails_with_a_fallen_row():
    pairs = [{"old": {"tasks_sync": 100.0 + i}, "new": {"tasks_sync": 70.0 + i}} for i in range(5)]
    lines, status = compare.report([TASKS], pairs)
    assert status == 1 and "FELL" in lines[-1]
    lines, status = compare.report([TASKS], [{"old": p["old"], "new": p["old"]} for p in pairs])
    assert status == 0 and "FELL" not in lines[-1]
    lines, status = compare.report([TASKS], [{"old": {}, "new": {}}] * 5)
    assert status == 2 and "0 of 5 pairs" in lines[-1]


BURN = "import sys,time\nend=time.process_time()+0.6\nwhile time.process_time()<end: pass\n"


def test_what_others_use_is_seen_and_ours_is_not(monkeypatch):
    """A process that burns CPU counts unless it is below the bench (here: unless below us)."""
    monkeypatch.setattr(load, "stolen", lambda: 0)
    before = load.processes()
    child = subprocess.Popen([sys.executable, "-c", BURN + "print(1, flush=True)\ntime.sleep(99)"],
                             stdout=subprocess.PIPE)
    try:
        child.stdout.readline()
        after = load.processes()
        assert child.pid not in before and child.pid in load.descendants(after, load.os.getpid())
        used = after[child.pid][1] / load.TICKS
        assert 0.5 <= used < 5
        # Seen from another root it is somebody else's.
        assert load.foreign_ticks(child.pid) > 0
        assert child.pid not in load.descendants(after, child.pid + 1_000_000_000)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    ticks = iter([1000, 1000 + load.TICKS])
    monkeypatch.setattr(load, "foreign_ticks", lambda root: next(ticks))
    with load.CpuLoad() as others:
        pass
    assert others.cores > 1  # a second of CPU in next to no time


def results() -> dict:
    queues = [
        {"row": f"scale_queue_{n}_{what}", "unit": unit, "skate": n * share}
        for n in (1_000, 10_000, 100_000, 1_000_000)
        for what, unit, share in (("s", "s", 1e-6), ("mb", "MB", 8e-4), ("drain_s", "s", 1.1e-6))
    ]
    return {"scale": queues, "rows": [], "native": [], "machine": {
        "cores": 2, "cpu": "a", "memory_gb": 8.0, "python": "3", "commit": "c", "load": [0.1],
        "load_after": [0.2], "foreign": 0.0}}


def test_the_chart_shows_linear_growth_as_such():
    points = plot.points_of(results())
    assert plot.slope(points["s"]) == pytest.approx(1.0)
    root = ElementTree.fromstring(plot.chart(results()))
    circles = root.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 12
    assert all(0 < float(c.get("cx")) < plot.WIDTH and 0 < float(c.get("cy")) < plot.HEIGHT
               for c in circles)
    with pytest.raises(ValueError, match="no-scale"):
        plot.chart({"scale": []})


def test_the_numbers_of_scale_are_told():
    text = readme_numbers.scale(results())
    assert "| 1,000,000 queued tasks: submitted in | 1.00 s |" in text
    assert "with the power 1.00" in text


def test_native_programs_may_print_rows_of_their_own():
    printed = {"native_task_spin": (2.5, "us"), "something_else": (7.0, "/s")}
    found = {r["row"]: r for r in table.native_results(list(rows.NATIVE), printed)}
    assert found["native_task_spin"]["limit_met"] is True
    assert found["native_actor_calls"]["skate"] is None
    assert found["something_else"]["skate"] == 7.0


def test_a_row_is_measured_and_written(tmp_path):
    out = tmp_path / "r.json"
    command = [sys.executable, str(ROOT / "bench" / "run.py"), "--skip-ray", "--pairs", "1",
               "--seconds", "0.01", "--minutes", "0.001", "--json", str(out)]
    done = subprocess.run([*command, "--rows", "shutdown,scale_returns_s"], capture_output=True,
                          text=True, timeout=55)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["rows"][0]["skate"] > 0 and found["scale"][0]["skate"] > 0
    assert found["machine"]["versions"]["skate"]
    assert "shutdown" in done.stdout
    command += ["--rows", "nothing"]
    bad = subprocess.run(command, capture_output=True, text=True, timeout=55)
    assert bad.returncode == 2 and "unknown rows: nothing" in bad.stderr
