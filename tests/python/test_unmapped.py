"""A session that has ended leaves nothing mapped but what somebody still looks at."""

from __future__ import annotations

import gc

import numpy as np

import skate

MB = 1 << 20


def mapped() -> list[tuple[int, int, str]]:
    """(from, to, name) of this process's memory."""
    rows = []
    with open("/proc/self/maps", encoding="utf-8") as lines:
        for line in lines:
            place, *rest = line.split(None, 5)
            start, end = (int(x, 16) for x in place.split("-"))
            rows.append((start, end, rest[4].strip() if len(rest) > 4 else ""))
    return rows


def arenas() -> int:
    """Bytes of stores that are mapped."""
    return sum(end - start for start, end, name in mapped() if "skate-arena" in name)


def at(address: int) -> bool:
    """Whether something is mapped there."""
    return any(start <= address < end for start, end, _ in mapped())


def test_sessions_leave_no_store_behind():
    before = arenas()
    for _ in range(3):
        skate.init(address="local", num_cpus=1)
        array = skate.get(skate.put(np.arange(MB)))
        assert arenas() > before
        del array
        gc.collect()
        skate.shutdown()
        assert arenas() == before


def test_what_is_looked_at_stays_until_it_is_dropped():
    skate.init(address="local", num_cpus=1)
    before = arenas()
    sent = [np.arange(MB) + i for i in range(3)] + [np.full(20_000, i) for i in range(8)]
    refs = [skate.put(array) for array in sent]
    big, *_, last = kept = [skate.get(ref) for ref in refs]
    twin = skate.get(refs[0])[5:]
    skate.shutdown()
    assert arenas() < before
    for got, array in zip(kept, sent, strict=True):
        assert np.array_equal(got, array)
    address = big.ctypes.data + 4 * MB
    del kept, big, got, _
    gc.collect()
    assert at(address) and np.array_equal(twin, sent[0][5:]) and last[9] == 7
    del twin
    gc.collect()
    assert not at(address), "its pages are given back"
    assert np.array_equal(last, sent[-1])
