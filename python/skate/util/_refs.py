"""Results as they come: as_completed and map_unordered."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import skate


def as_completed(
    refs: list[Any], *, chunk_size: int = 10, yield_obj_refs: bool = False, **kwargs: Any
) -> Iterator[Any]:
    """The values of the refs as they become ready; raises the error of the first failed one.

    chunk_size: up to so many are waited for together; a small one gives results earlier, a large
    one more of them in a time. yield_obj_refs: the refs instead of their values. kwargs: wait()'s.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, it is {chunk_size}")
    rest = refs
    left = len(rest)
    while left:
        ready, rest = skate.wait(rest, num_returns=min(chunk_size, left), **kwargs)
        left = len(rest)
        yield from ready if yield_obj_refs else skate.get(ready)


def map_unordered(
    fn: Any,
    items: Iterable[Any],
    *,
    backpressure_size: int | None = 100,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
    **kwargs: Any,
) -> Iterator[Any]:
    """fn.remote(item) for each item, results as they come.

    fn: a remote function or a method of an actor. backpressure_size: at most so many calls are
    under way, None for no bound; items is read as results are taken. The rest as in as_completed.
    """
    if backpressure_size is not None and backpressure_size <= 0:
        raise ValueError(f"backpressure_size must be positive, it is {backpressure_size}")
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, it is {chunk_size}")
    source = iter(items)
    rest = [fn.remote(item) for item in itertools.islice(source, backpressure_size)]
    while rest:
        ready, rest = skate.wait(rest, num_returns=min(chunk_size, len(rest)), **kwargs)
        yield from ready if yield_obj_refs else skate.get(ready)
        rest.extend(fn.remote(item) for item in itertools.islice(source, len(ready)))
