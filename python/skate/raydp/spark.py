"""DataFrames of Spark and datasets, under RayDP's names. See docs/spark/data.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skate.util.spark._transfer import from_refs, to_refs

__all__ = [
    "from_spark_recoverable",
    "ray_dataset_to_spark_dataframe",
    "spark_dataframe_to_ray_dataset",
]


def from_spark_recoverable(
    df: Any, storage_level: Any = None, parallelism: int | None = None
) -> Any:
    """A dataset of a DataFrame; a block that is lost is computed again while Spark runs.

    storage_level: taken without effect, nothing is cached in Spark. parallelism: of the blocks.
    """
    from skate.data import _make

    del storage_level
    return _make.of_transfer(to_refs(_in_parts(df, parallelism), recover=True))


def spark_dataframe_to_ray_dataset(
    df: Any, parallelism: int | None = None, owner: Any = None, use_batch: bool = True
) -> Any:
    """skate.data.from_spark(). owner, use_batch: taken without effect, the driver owns the data."""
    from skate.data import _make

    del owner, use_batch
    return _make.of_transfer(to_refs(_in_parts(df, parallelism)))


def ray_dataset_to_spark_dataframe(
    spark: Any, arrow_schema: Any, blocks: Sequence[Any], locations: Sequence[Any] | None = None
) -> Any:
    """skate.util.spark.from_refs(). locations: not needed."""
    del locations
    return from_refs(spark, list(blocks), arrow_schema)


def _in_parts(df: Any, parallelism: int | None) -> Any:
    if parallelism is None:
        return df
    if isinstance(parallelism, bool) or not isinstance(parallelism, int) or parallelism < 1:
        raise ValueError(f"parallelism must be an int > 0, not {parallelism!r}")
    return df.repartition(parallelism)
