"""The base class of hooks, where programs for Ray look for it."""

from skate.util.spark._hook import RayOnSparkStartHook

__all__ = ["RayOnSparkStartHook"]
