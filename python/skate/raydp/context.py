"""Where RayDP has init_spark() and stop_spark()."""

from __future__ import annotations

from skate.util.spark._hosted_session import init_spark, stop_spark

__all__ = ["init_spark", "stop_spark"]
