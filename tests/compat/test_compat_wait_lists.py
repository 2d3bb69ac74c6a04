"""wait() on long and odd lists: what it takes out, in which order, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from compat_target import ray


def parted(all_refs: list[Any], number: int, timeout: float) -> list[Any]:
    """The ready ones of wait(), which leaves the others in their order."""
    ready, rest = ray.wait(all_refs, num_returns=number, timeout=timeout)
    assert len(ready) <= number
    assert len(set(ready)) == len(ready)
    assert rest == [one for one in all_refs if one not in ready]
    return ready


def test_the_rest_keeps_its_order(cluster: Any) -> None:
    refs = [ray.put(i) for i in range(40)]
    for number in (1, 3, 39, 40):
        ready = parted(refs, number, 20)
        assert len(ready) == number
        assert set(ready) <= set(refs)


def test_ready_ones_out_of_the_middle(cluster: Any) -> None:
    @ray.remote(num_cpus=0, resources={"never_there": 1})
    def never() -> None:
        pass

    pending = [never.remote() for _ in range(30)]
    there = [ray.put(i) for i in range(4)]
    mixed = [*pending[:10], there[2], *pending[10:20], there[0], there[3], *pending[20:], there[1]]
    ready = parted(mixed, 3, 20)
    assert len(ready) == 3
    assert set(ready) <= set(there)
    assert set(parted(mixed, 20, 0.2)) == set(there)
    for one in pending:
        ray.cancel(one)


def test_the_same_ref_twice_is_refused(cluster: Any) -> None:
    refs = [ray.put(i) for i in range(100)]
    for twice in ([refs[0], refs[0]], [*refs, refs[50]], [*reversed(refs), refs[99]]):
        with pytest.raises(ValueError):
            ray.wait(twice, num_returns=1, timeout=20)
    assert len(parted(refs[::-1], 2, 20)) == 2


def test_one_by_one_until_none_is_left(cluster: Any) -> None:
    @ray.remote
    def double(x: int) -> int:
        return 2 * x

    refs = [double.remote(i) for i in range(300)]
    seen = []
    while refs:
        ready, refs = ray.wait(refs)
        assert len(ready) == 1
        seen += ray.get(ready)
    assert sorted(seen) == [2 * i for i in range(300)]


def test_what_is_no_ref_is_named(cluster: Any) -> None:
    refs: list[Any] = [ray.put(i) for i in range(5)]
    with pytest.raises(TypeError):
        ray.wait([*refs, 7], timeout=20)
