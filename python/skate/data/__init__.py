"""Datasets: tables in pieces, each an object; what a program on Spark needs of Ray Data.

Names are Ray's. What is not here says so, and what to use meanwhile. See docs/spark/data.md.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from skate.data._dataset import Dataset, MaterializedDataset, Schema
    from skate.data._make import (
        from_arrow,
        from_arrow_refs,
        from_pandas,
        from_pandas_refs,
        from_spark,
        read_delta,
    )

__all__ = [  # noqa: RUF022
    "Dataset",
    "MaterializedDataset",
    "Schema",
    "from_arrow",
    "from_arrow_refs",
    "from_pandas",
    "from_pandas_refs",
    "from_spark",
    "read_delta",
]
_DATASET = ("Dataset", "MaterializedDataset", "Schema")


def __getattr__(name: str) -> object:
    import importlib

    if name in _DATASET:
        return getattr(importlib.import_module("skate.data._dataset"), name)
    if name in __all__:
        return getattr(importlib.import_module("skate.data._make"), name)
    if name.startswith("_"):
        raise AttributeError(f"module 'skate.data' has no attribute {name!r}")
    from skate._absent import refuse_module

    return refuse_module(f"data.{name}")
