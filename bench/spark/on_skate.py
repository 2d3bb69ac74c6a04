"""How long Spark takes to start and to stop on a cluster of Skate.

    python bench/spark/on_skate.py [--repeat N] [--executors N]

Prints a table: for each step the median, least and most seconds of N rounds, and the machine's load
meanwhile. "actors" is until all Workers are registered at the Master, "session" until init_spark()
returns, "first job" until 4 tasks have run, which Spark begins when all executors are there.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import skate
from skate.util.spark import _hosted_session, init_spark, stop_spark
from skate.util.spark._local import JVM

STEPS = ("actors", "session", "first job", "stop", "CPUs free again")


def once(executors: int) -> list[float]:
    """The seconds of each step."""
    marks = [time.perf_counter()]
    real = _hosted_session.Hosted._open

    def opens(self: _hosted_session.Hosted, url: str) -> object:
        marks.append(time.perf_counter())
        return real(self, url)

    _hosted_session.Hosted._open = opens  # type: ignore[method-assign]
    try:
        spark = init_spark("bench", executors, 1, "512m", configs={
            "spark.ui.enabled": False, "spark.ui.showConsoleProgress": False,
            "spark.driver.extraJavaOptions": JVM, "spark.executor.extraJavaOptions": JVM,
        })  # fmt: skip
    finally:
        _hosted_session.Hosted._open = real  # type: ignore[method-assign]
    marks.append(time.perf_counter())
    assert spark.range(0, 1000, 1, 4).selectExpr("sum(id)").first()[0] == 499_500
    marks.append(time.perf_counter())
    stop_spark()
    marks.append(time.perf_counter())
    while skate.available_resources().get("CPU", 0) < executors:
        time.sleep(0.005)  # asks until they are back
    marks.append(time.perf_counter())
    start, actors, session, job, stopped, free = marks
    return [actors - start, session - start, job - start, stopped - job, free - job]


def main() -> None:
    """Rounds, then the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--executors", type=int, default=2)
    args = parser.parse_args()
    skate.init(num_cpus=args.executors)
    loads = [os.getloadavg()[0]]
    rounds = []
    for _ in range(max(1, args.repeat)):
        rounds.append(once(args.executors))
        loads.append(os.getloadavg()[0])
    skate.shutdown()
    print(f"{'step':<18}{'median s':>10}{'least':>8}{'most':>8}")
    for name, seconds in zip(STEPS, zip(*rounds, strict=True), strict=True):
        middle = statistics.median(seconds)
        print(f"{name:<18}{middle:>10.2f}{min(seconds):>8.2f}{max(seconds):>8.2f}")
    print(f"{len(rounds)} rounds, {args.executors} executors, load {min(loads):.1f} to "
          f"{max(loads):.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
