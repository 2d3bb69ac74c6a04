"""A walk-forward back-test for each of several series with groupBy().applyInPandas(), fanned out.

One series is long, eight are short. At each step of a series ("origin") three candidate models are
trained on what lies before it, the one that has done best of late forecasts the next value, and all
three are scored by what really came. Spark gives a whole series to one task: the long one keeps one
core busy after all others have ended. With fan_out() the fits of an origin are items of their own,
on the workers of all nodes; the choice, which needs the origins in order, stays in the UDF.

    python examples/spark/walk_forward.py --help
"""

from __future__ import annotations

from functools import partial
from typing import Any

import both_ways
import numpy as np
import pandas as pd

FIRST = 40  # the first origin: there must be something to learn from
LAGS = (6, 12, 24)  # a candidate for each
MEMORY = 10  # origins by which candidates are judged


def forecasts(origin: int, y: np.ndarray) -> list[float]:
    """What each candidate, trained on y[:origin], says of y[origin]."""
    from sklearn.linear_model import ElasticNet

    out = []
    for lags in LAGS:
        windows = np.lib.stride_tricks.sliding_window_view(y[:origin], lags)
        model = ElasticNet(alpha=0.01, l1_ratio=0.5, max_iter=2000, tol=1e-6)
        model.fit(windows[:-1], y[lags:origin])
        out.append(float(model.predict(windows[-1:])[0]))
    return out


def choose(said: list[list[float]], y: np.ndarray) -> list[float]:
    """At each origin the forecast of the candidate with the least error of late."""
    out = []
    for k, candidates in enumerate(said):
        past = range(max(0, k - MEMORY), k)
        errors = [sum((said[p][c] - y[FIRST + p]) ** 2 for p in past) for c in range(len(LAGS))]
        out.append(candidates[int(np.argmin(errors))])
    return out


def make_query(table: Any, cluster: Any) -> Any:
    """The back-test of a series twice: origin after origin, and with fan_out()."""

    def plain(series: pd.DataFrame) -> pd.DataFrame:
        y = series.sort_values("t")["y"].to_numpy().copy()
        return answer(series, y, [forecasts(origin, y) for origin in range(FIRST, len(y))])

    def fanned(series: pd.DataFrame) -> pd.DataFrame:
        from skate.util.spark import attach, fan_out

        attach(cluster)
        y = series.sort_values("t")["y"].to_numpy().copy()
        return answer(series, y, fan_out(forecasts, range(FIRST, len(y)), broadcast=(y,)))

    def answer(series: pd.DataFrame, y: np.ndarray, said: list[list[float]]) -> pd.DataFrame:
        name, origins = series["series"].iloc[0], np.arange(FIRST, len(y))
        return pd.DataFrame({"series": name, "t": origins, "forecast": choose(said, y)})

    groups = table.groupBy("series")
    shape = "series long, t long, forecast double"
    return lambda fan: groups.applyInPandas(fanned if fan else plain, shape)


def make_table(long: int, short: int, seed: int, spark: Any) -> Any:
    """Series with a season, a trend and noise: number 0 is long."""
    rng = np.random.default_rng(seed)
    parts = []
    for number in range(9):
        length = FIRST + (long if number == 0 else short)
        t = np.arange(length)
        y = np.sin(t * 2 * np.pi / 12 + number) + 0.01 * t + 0.3 * rng.standard_normal(length)
        parts.append(pd.DataFrame({"series": number, "t": t, "y": y}))
    return spark.createDataFrame(pd.concat(parts)).cache()


def main() -> None:
    parser = both_ways.parser(__doc__)
    parser.add_argument("--long", type=int, default=240, help="origins of the long series")
    parser.add_argument("--short", type=int, default=15, help="origins of each short series")
    args = parser.parse_args()
    if args.long < 1 or args.short < 1:
        parser.error("--long and --short must be at least 1")
    both_ways.check(parser, args)
    fits = (args.long + 8 * args.short) * len(LAGS)
    both_ways.run(
        args,
        partial(make_table, args.long, args.short, args.seed),
        make_query,
        f"fits         {fits} by each UDF, for {args.long + 8 * args.short} origins",
    )


if __name__ == "__main__":
    main()
