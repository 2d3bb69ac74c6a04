"""What values become on their way: pandas, pyarrow, numpy, slots, exceptions of all kinds."""

from __future__ import annotations

import dataclasses
import enum
import threading

import numpy as np
import pytest
from compat_target import ON_RAY, exceptions, ray

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote
def echo(x):
    return x


@ray.remote
def raise_it(make):
    raise make()


def both_ways(value):
    """Through put, and through an argument and a result."""
    yield ray.get(ray.put(value))
    yield ray.get(echo.remote(value))


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: float
    data: np.ndarray


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a, b):
        self.a, self.b = a, b


@pytest.mark.row("14.copies")
def test_data_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"n": np.arange(50_000), "f": np.arange(50_000) / 3, "c": ["a", "b"] * 25_000}
    )
    for got in both_ways(frame):
        pandas.testing.assert_frame_equal(got, frame)
        assert not got["n"].to_numpy().flags.writeable
    one, two = ray.get(ref := ray.put(frame)), ray.get(ref)
    assert np.shares_memory(one["f"].to_numpy(), two["f"].to_numpy())
    assert one["n"].sum() == frame["n"].sum()
    changed = one.assign(n=one["n"] + 1)
    assert changed["n"].iloc[0] == 1 and two["n"].iloc[0] == 0


@pytest.mark.row("14.copies")
def test_tables():
    arrow = pytest.importorskip("pyarrow")
    if ON_RAY and not hasattr(arrow, "table"):
        pytest.skip("pyarrow is not whole")
    table = arrow.table({"n": np.arange(50_000), "s": ["x", None] * 25_000})
    for got in both_ways(table):
        assert got.equals(table)
    buffers = [got.column("n").chunk(0).buffers()[1] for got in ray.get([ray.put(table)] * 2)]
    assert not buffers[0].is_mutable
    assert buffers[0].address == buffers[1].address or ON_RAY


@pytest.mark.row("14.copies")
def test_object_arrays_may_be_written_to():
    for got in both_ways(np.array([1, "two", None], dtype=object)):
        got[0] = "mine"
        assert list(got) == ["mine", "two", None]
    for got in both_ways(np.array(["a", "bc"])):
        assert list(got) == ["a", "bc"]


@pytest.mark.row("14.copies")
def test_kinds_of_arrays():
    for array in (
        np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1), np.asfortranarray(np.eye(100)),
        np.arange(1000)[::7], np.zeros((0, 3)), np.array(5.0), np.ma.masked_equal([1, 2, 3], 2),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array(["2020-01-01"], dtype="M8[D]"),
    ):
        for got in both_ways({"a": [array]}):
            got = got["a"][0]
            assert got.dtype == array.dtype and got.shape == array.shape
            assert np.array_equal(got, array)


@pytest.mark.row("14.copies")
def test_aliasing_inside_of_a_value():
    inner, array = [1], np.zeros(10_000)
    for got in both_ways([inner, inner, array, array, {"again": inner}]):
        assert got[2] is got[3]
        if not ON_RAY:  # it keeps the aliasing of what is pickled, not of plain lists
            assert got[0] is got[1] is got[4]["again"]
    if not ON_RAY:
        loop: list = []
        loop.append(loop)
        got = ray.get(ray.put(loop))
        assert got[0] is got


@pytest.mark.row("14.copies")
def test_classes_of_the_program():
    for got in both_ways([Colour.RED, Point(1.0, np.arange(5))]):
        assert got[0] is Colour.RED
        assert got[1].x == 1.0 and got[1].data.sum() == 10


@pytest.mark.row("14.copies")
def test_slots():
    for got in both_ways(Slotted(1, [2])):
        assert (got.a, got.b) == (1, [2])
        with pytest.raises(AttributeError):
            got.c = 3


def with_lock():
    error = ValueError("locked")
    error.lock = threading.Lock()
    return error


class TwoArguments(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")
        self.a, self.b = a, b


@pytest.mark.row("14.unpicklable")
def test_an_exception_that_cannot_be_pickled():
    with pytest.raises(exceptions.RayTaskError, match="locked") as caught:
        ray.get(raise_it.remote(with_lock))
    assert not isinstance(caught.value, ValueError)
    assert isinstance(caught.value.cause, exceptions.RayError)
    assert "locked" in str(caught.value.cause)


@pytest.mark.row("14.unpicklable")
def test_an_exception_that_cannot_be_rebuilt():
    make = lambda: TwoArguments(1, 2)  # noqa: E731
    if ON_RAY:
        with pytest.raises(exceptions.RayError, match="1 and 2"):
            ray.get(raise_it.remote(make))
        return
    with pytest.raises(TwoArguments) as caught:  # it is rebuilt from its parts
        ray.get(raise_it.remote(make))
    assert caught.value.a == 1 and "1 and 2" in str(caught.value)


@pytest.mark.row("14.unpicklable")
def test_exception_groups():
    def make():
        return ExceptionGroup("several", [ValueError("one"), TypeError("two")])

    try:
        ray.get(raise_it.remote(make))
        pytest.fail("nothing was raised")
    except* ValueError as group:
        assert "one" in str(group.exceptions[0])
    except* TypeError as group:
        assert "two" in str(group.exceptions[0])


@pytest.mark.row("14.unpicklable")
def test_a_chain_of_exceptions():
    def make():
        try:
            raise KeyError("first")
        except KeyError as error:
            second = ValueError("second")
            second.__cause__ = error
            return second

    with pytest.raises(ValueError, match="second") as caught:
        ray.get(raise_it.remote(make))
    assert "first" in str(caught.value)
