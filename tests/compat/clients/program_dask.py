"""Dask's arrays and data frames on the cluster."""

import dask
import dask.array
import dask.dataframe
import pandas
import ray
from ray.util.dask import RayDaskCallback, enable_dask_on_ray, ray_dask_get

ray.init(num_cpus=2)


class Count(RayDaskCallback):
    submitted = 0

    def _ray_postsubmit(self, task, key, deps, object_ref):
        Count.submitted += 1


x = dask.array.random.default_rng(0).random((1000, 1000), chunks=(250, 500))
with Count():
    near = (x - x.mean(axis=0)).std().compute(scheduler=ray_dask_get)
assert abs(near - 0.2887) < 0.01
assert Count.submitted > 8

plain = pandas.DataFrame({"k": [i % 7 for i in range(1000)], "v": range(1000)})
split = dask.dataframe.from_pandas(plain, npartitions=5)
with enable_dask_on_ray():
    sums = split.groupby("k").v.sum().compute()
    joined = split.merge(split[split.v < 10], on="k").compute()
    ordered = split.sort_values("v", ascending=False).head(3)
assert sums.to_dict() == plain.groupby("k").v.sum().to_dict()
assert len(joined) == len(plain.merge(plain[plain.v < 10], on="k"))
assert list(ordered.v) == [999, 998, 997]
print("dask: fine")
