"""pandas programs with Modin, whose engine is Ray."""

import os

import modin.config
import modin.pandas as pd
import numpy as np
import pandas
import ray

ray.init(num_cpus=2)
modin.config.Engine.put("ray")
rng = np.random.default_rng(0)
plain = pandas.DataFrame(
    {"k": rng.integers(0, 10, 5000), "a": rng.random(5000), "b": rng.random(5000)}
)
frame = pd.DataFrame(plain)
assert type(frame._query_compiler._modin_frame).__name__ == "PandasOnRayDataframe"


def same(got, wanted):
    check = getattr(pandas.testing, f"assert_{type(wanted).__name__.lower()}_equal".replace(
        "dataframe", "frame"))  # fmt: skip
    check(got._to_pandas(), wanted)


wanted = {"a": "sum", "b": "mean"}
same(frame.groupby("k").agg(wanted), plain.groupby("k").agg(wanted))
same(frame.sort_values("a").head(10), plain.sort_values("a").head(10))
same(frame.merge(frame.head(20), on="k").head(50), plain.merge(plain.head(20), on="k").head(50))
same(frame.apply(lambda row: row.a + row.b, axis=1), plain.apply(lambda row: row.a + row.b, axis=1))
assert np.isclose((frame.a * 2 + frame.b).sum(), (plain.a * 2 + plain.b).sum())
plain.to_csv("frame.csv", index=False)
same(pd.read_csv("frame.csv"), pandas.read_csv("frame.csv"))
frame.to_parquet("frame.parquet")
same(pd.read_parquet("frame.parquet"), plain)
os.unlink("frame.csv")
print("modin: fine")
