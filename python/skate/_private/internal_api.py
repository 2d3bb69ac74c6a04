"""What libraries take from Ray's module of this name."""

from __future__ import annotations


def global_gc() -> None:
    """Collect the garbage of this process. Workers collect their own when they are idle."""
    import gc

    gc.collect()
