"""get(copy=True): arrays that may be written to, whose pages become this process's own."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

import skate
from skate.cross_language import plain, put
from skate.dag import InputNode

SIZES = [0, 1, 100, 8_191, 8_192, 100_000, 3_000_000]


@skate.remote
def ones(n):
    return np.ones(n)


@skate.remote(resources={"none of it": 1})
def never():
    pass


def test_written_to_and_the_stored_value_stays(session):
    for n in SIZES:
        for ref in (skate.put(np.ones(n)), ones.remote(n)):
            mine, other = skate.get(ref, copy=True), skate.get(ref, copy=True)
            shared = skate.get(ref)
            assert mine.flags.writeable and not shared.flags.writeable
            mine += 1
            if n:
                mine[-1] = 5
                assert mine.sum() == 2 * (n - 1) + 5
            assert other.sum() == shared.sum() == skate.get(ref).sum() == n


def test_every_form_of_a_value(session):
    """Values that are copied anyhow, results of tasks, and errors among them."""

    @skate.remote
    def several():
        yield np.ones(50_000)
        yield plain(np.ones(50_000))

    numbers = np.ones(50_000)
    values = [b"bytes" * 1000, [1, {"a": b"x" * 5000}], {1, 2}, "text", None]
    refs = [skate.put(value) for value in values]
    arrays = [put(numbers), skate.put([numbers]), *several.remote()]
    [*same, tensor, inside, item, other] = skate.get([*refs, *arrays], copy=True)
    assert same == values and skate.get([], copy=True) == []
    for array in (tensor, inside[0], item, other):
        array[5] = 7
        assert array.sum() == 50_006
    assert all(np.sum(value) == 50_000 for value in skate.get(arrays))
    with pytest.raises(skate.exceptions.GetTimeoutError):
        skate.get(never.remote(), timeout=0, copy=True)


def test_inside_of_a_task_and_of_what_it_was_given(session):
    @skate.remote
    def change(refs, view):
        mine = skate.get(refs, copy=True)
        for array in mine:
            array[0] = 5
        refused = not view.flags.writeable  # arguments are read-only
        return refused, [array.sum() for array in mine], mine[0]  # and is stored anew

    refs = [skate.put(np.zeros(n)) for n in (10, 100_000)]
    refused, sums, changed = skate.get(change.remote(refs, refs[1]))
    assert refused and sums == [5, 5] and changed[0] == 5
    assert [array.sum() for array in skate.get(refs)] == [0, 0]


def test_results_of_compiled_graphs(session):
    @skate.remote
    class Maker:
        def make(self, n):
            return np.zeros(n)

    with InputNode() as wanted:
        graph = Maker.remote().make.bind(wanted).experimental_compile()
    mine = skate.get(graph.execute(30_000), copy=True)
    [other] = skate.get([graph.execute(30_000)], copy=True)
    mine[0] = other[0] = 1
    assert not skate.get(graph.execute(30_000)).flags.writeable
    graph.teardown()


def test_threads_do_not_disturb_each_other(session):
    ref = skate.put(np.zeros(20_000))
    wrong = []

    def ask(copy):
        for _ in range(200):
            if skate.get(ref, copy=copy).flags.writeable != copy:
                wrong.append(copy)

    threads = [threading.Thread(target=ask, args=(i % 2 == 0,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_lists_of_refs_and_containers(session):
    refs = [skate.put({"a": np.zeros(50_000), "b": [np.zeros(10)]}) for _ in range(3)]
    for value in skate.get(refs, copy=True):
        value["a"][:] = 1
        value["b"][0][:] = 1
    assert all(value["a"].sum() == 0 for value in skate.get(refs))


def test_it_holds_the_value_it_is_a_view_of(session):
    ref = skate.put(np.full(1_000_000, 7.0))
    mine = skate.get(ref, copy=True)
    mine[0] = 1
    del ref
    gc.collect()
    for _ in range(20):  # the room would be used again
        skate.put(np.zeros(1_000_000))
    assert mine[0] == 1 and (mine[1:] == 7).all()


def test_it_outlives_the_session():
    skate.init(address="local", num_cpus=1)
    mine = skate.get(skate.put(np.full(500_000, 3.0)), copy=True)
    mine[:10] = 4
    skate.shutdown()
    skate.init(address="local", num_cpus=1)
    skate.put(np.zeros(2_000_000))
    assert mine[:10].sum() == 40 and (mine[10:] == 3).all()
    mine[:] = 9
    assert (mine == 9).all()
    skate.shutdown()


def test_writable_of_plain_bytes():
    from skate import _core

    for data in (b"", b"abc", bytearray(b"x" * 200_000)):
        memory = memoryview(_core.writable(data))
        assert not memory.readonly and bytes(memory) == bytes(data)
        if data:
            memory[0] = 1
            assert data[0] != 1
    with pytest.raises(TypeError):
        _core.writable(5)


def test_an_error_leaves_later_values_read_only(session):
    @skate.remote
    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError):
        skate.get(fail.remote(), copy=True)
    assert not skate.get(skate.put(np.zeros(10))).flags.writeable
