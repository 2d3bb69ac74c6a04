"""RayDP's names for Spark on Skate: `import skate.raydp as raydp`, or `import raydp` under
`skate run`. See docs/spark/spark_on_skate.md.
"""

from __future__ import annotations

from skate._absent import AbsentModuleError, AbsentNameError
from skate.util.spark._hosted_session import init_spark, stop_spark

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["init_spark", "stop_spark"]
__version__ = "1.6.5"  # whose names these are

# name -> what it is in RayDP, and what to do without it
_ABSENT = {
    "create_mpi_job": ("MPI jobs", "mpirun in an actor of its own, or skate.util.collective"),
    "estimator": ("estimators", "raydp.spark.from_spark_recoverable(df), and train in actors"),
    "mpi": ("MPI jobs", "mpirun in an actor of its own, or skate.util.collective"),
    "tf": ("the TensorFlow estimator", "skate.data.from_spark(df), and train in actors on "
           "iter_batches()"),
    "torch": ("the PyTorch estimator", "skate.data.from_spark(df), and train in actors on "
              "iter_batches()"),
    "xgboost": ("the XGBoost estimator", "skate.data.from_spark(df), and train in actors on "
                "to_pandas()"),
}  # fmt: skip


def _words(name: str) -> str:
    what, instead = _ABSENT[name]
    return f"raydp.{name} ({what}) is not in Skate. Meanwhile: {instead}."


def _refuse_module(name: str) -> NoReturn:
    """Called by the module of that name while it is imported."""
    error = AbsentModuleError(_words(name))
    error.name = f"skate.raydp.{name}"
    raise error


def __getattr__(name: str) -> object:
    import importlib

    if name in ("context", "spark", "utils"):
        return importlib.import_module(f"skate.raydp.{name}")
    if name in _ABSENT:
        raise AbsentNameError(_words(name))
    raise AttributeError(f"module 'skate.raydp' has no attribute {name!r}")
