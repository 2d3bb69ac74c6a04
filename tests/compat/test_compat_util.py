"""Small helpers of `ray.util`: as_completed, map_unordered, names, log_once, inspection."""

from __future__ import annotations

import importlib
import io
import re
import threading

import pytest
from compat_target import ON_RAY, ray

util = importlib.import_module(f"{ray.__name__}.util")


@ray.remote
def square(x):
    if x == 5:
        raise ValueError("five")
    return x * x


@ray.remote(num_cpus=0)
class Doubler:
    def double(self, x):
        return 2 * x


@pytest.mark.row("9.as_completed")
def test_as_completed(cluster):
    refs = [square.remote(i) for i in range(4)]
    assert sorted(util.as_completed(refs)) == [0, 1, 4, 9]
    assert set(util.as_completed(refs, yield_obj_refs=True)) == set(refs)
    for size in (1, 3, 100):
        assert sorted(util.as_completed(refs, chunk_size=size)) == [0, 1, 4, 9]
    assert list(util.as_completed([])) == []
    assert list(util.as_completed(refs[:1], timeout=30)) == [0]


@pytest.mark.row("9.as_completed")
def test_as_completed_does_not_wait_for_the_last(cluster):
    never = square.options(resources={"gold": 99}).remote(1)
    results = util.as_completed([square.remote(2), never], chunk_size=1)
    assert next(results) == 4


@pytest.mark.row("9.as_completed")
def test_what_as_completed_refuses(cluster):
    with pytest.raises(ValueError):
        list(util.as_completed([square.remote(1)], chunk_size=0))
    with pytest.raises(ValueError, match="five"):
        list(util.as_completed([square.remote(5)]))
    for bad in (5, [1], (square.remote(1),)):
        with pytest.raises(TypeError):
            list(util.as_completed(bad))
    ref = square.remote(1)
    with pytest.raises(ValueError):
        list(util.as_completed([ref, ref]))


@pytest.mark.row("9.as_completed")
def test_map_unordered(cluster):
    assert sorted(util.map_unordered(square, range(4))) == [0, 1, 4, 9]
    assert sorted(util.map_unordered(Doubler.remote().double, range(3))) == [0, 2, 4]
    assert list(util.map_unordered(square, [])) == []
    assert sorted(util.map_unordered(square, range(4), backpressure_size=None)) == [0, 1, 4, 9]
    assert sorted(util.map_unordered(square, range(4), backpressure_size=2)) == [0, 1, 4, 9]
    (ref,) = util.map_unordered(square, [3], yield_obj_refs=True)
    assert ray.get(ref) == 9
    with pytest.raises(ValueError, match="five"):
        list(util.map_unordered(square, [5]))
    with pytest.raises(ValueError):
        list(util.map_unordered(square, [1], backpressure_size=0))
    with pytest.raises(AttributeError):
        list(util.map_unordered(lambda x: x, [1]))


@pytest.mark.row("9.as_completed")
def test_map_unordered_reads_its_items_lazily(cluster):
    read = []

    def items():
        for i in range(10_000):
            read.append(i)
            yield 1

    results = util.map_unordered(square, items(), backpressure_size=10)
    assert next(results) == 1
    assert len(read) <= 20


@pytest.mark.row("9.named_actors")
def test_list_named_actors(cluster, eventually):
    here = Doubler.options(name="listed").remote()
    there = Doubler.options(name="listed", namespace="elsewhere").remote()
    nameless = Doubler.remote()
    assert util.list_named_actors() == ["listed"]
    everywhere = util.list_named_actors(all_namespaces=True)
    own = ray.get_runtime_context().namespace
    assert sorted(everywhere, key=lambda row: row["namespace"] == own) == [
        {"name": "listed", "namespace": "elsewhere"}, {"name": "listed", "namespace": own},
    ]
    assert ray.get(nameless.double.remote(1)) == 2
    ray.kill(here)
    eventually(lambda: util.list_named_actors() == [])
    del there


@pytest.mark.row("9.small")
def test_node_ip_address(cluster):
    address = util.get_node_ip_address()
    assert re.fullmatch(r"[0-9.]+|[0-9a-f:]+", address)
    assert address in {node["NodeManagerAddress"] for node in ray.nodes()}


@pytest.mark.row("9.small")
def test_log_once(cluster):
    @ray.remote
    def say():
        log = importlib.import_module(util.__name__)
        first = log.log_once("a"), log.log_once("a"), log.log_once("b")
        log.disable_log_once_globally()
        log.enable_periodic_logging()
        return first, log.log_once("c")

    assert ray.get(say.remote()) == ((True, False, True), False)


lock = threading.Lock()


class Holder:
    def __init__(self):
        self.number = 1
        self.lock = lock


@pytest.mark.row("9.inspect")
def test_inspect_serializability(cluster, capsys):
    assert util.inspect_serializability(1) == (True, set())
    assert util.inspect_serializability(square) == (True, set())

    def uses_the_lock():
        return lock

    report = io.StringIO()
    fine, (failure,) = util.inspect_serializability(uses_the_lock, name="mine", print_file=report)
    assert not fine
    assert failure.obj is lock
    assert failure.parent is uses_the_lock
    assert "mine -> lock" in repr(failure)
    assert "lock" in report.getvalue()

    fine, (failure,) = util.inspect_serializability(Holder())
    assert not fine and failure.obj is lock
    assert "lock" in capsys.readouterr().out

    fine, (failure,) = util.inspect_serializability(uses_the_lock, depth=0)
    assert not fine and failure.obj is uses_the_lock


@pytest.mark.row("9.inspect")
def test_inspect_looks_into_what_is_nested(cluster):
    nested = Holder()
    nested.lock = Holder()
    fine, failures = util.inspect_serializability(nested)
    assert not fine
    assert [failure.obj for failure in failures] == [lock]
    if not ON_RAY:  # Ray blames the list, not what is in it
        fine, (failure,) = util.inspect_serializability({"a": [1, lock]})
        assert not fine and failure.obj is lock


@pytest.mark.row("9.small")
def test_annotations_change_nothing():
    marks = importlib.import_module(f"{util.__name__}.annotations")

    @marks.PublicAPI
    def plain(x):
        return x + 1

    @marks.DeveloperAPI
    class Kept:
        x = 1

    @marks.PublicAPI(stability="beta")
    @marks.Deprecated
    def both(x):
        return x

    @marks.Deprecated(message="use another", warning=True)
    def old(x):
        return x * 2

    assert plain(1) == 2 and Kept().x == 1 and both(3) == 3
    with pytest.warns(marks.RayDeprecationWarning, match="use another"):
        assert old(2) == 4
