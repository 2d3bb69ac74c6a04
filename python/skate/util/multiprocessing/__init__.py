"""`multiprocessing.Pool` whose processes are actors, anywhere in the cluster."""

from __future__ import annotations

from multiprocessing import JoinableQueue, TimeoutError

from skate.util.multiprocessing.pool import Pool

__all__ = ["JoinableQueue", "Pool", "TimeoutError"]
