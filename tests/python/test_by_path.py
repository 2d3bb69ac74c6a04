"""Python functions and classes that another language names by their import path."""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa
import pytest

import skate
from skate._cross import CActorClass, CFunction

MODULE = """
import collections
import numpy as np
import pyarrow as pa
import skate

Pair = collections.namedtuple("Pair", "a b")

def pair(a, b=2):
    return Pair(a, b)

def fortran(n):
    return np.ones((n, 2), order="F")

def table(**columns):
    return pa.table(columns)

def several():
    return np.float32(1), np.asfortranarray(np.ones((2, 3))), {1}

@skate.remote
def decorated(x):
    return type(x).__name__

def each(n):
    for i in range(n):
        yield np.int64(i)

def fail(kind):
    raise {"value": ValueError, "key": KeyError}[kind]("no such luck")

async def later():
    return 1

class Counter:
    def __init__(self, start=0):
        if start < 0:
            raise ValueError("start")
        self.n = start

    def add(self, n):
        self.n += n
        return np.int64(self.n)

    def total(self):
        return np.asfortranarray(np.full((2, 2), self.n))

    class Inner:
        @staticmethod
        def where():
            return "inside"

NUMBER = 3
"""


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    folder = tmp_path_factory.mktemp("by_path")
    (folder / "shop").mkdir()
    (folder / "shop" / "__init__.py").write_text("")
    (folder / "shop" / "stock.py").write_text(MODULE)
    (folder / "shop" / "broken.py").write_text("import not_there_at_all\n")
    sys.path.insert(0, str(folder))
    skate.init(address="local", num_cpus=2)
    yield skate
    skate.shutdown()
    sys.path.remove(str(folder))


def named(path, **options):
    """The function of that path, as another language would call it."""
    function = CFunction(["python", path], {}, b"")
    return function.options(**options) if options else function


def test_results_have_plain_forms(ray):
    pair = ray.get(named("shop.stock.pair").remote(1))
    assert pair == (1, 2) and type(pair) is tuple  # a pickle would keep the class
    assert ray.get(named("shop.stock.pair").remote(1, b=[3])) == (1, [3])
    array = ray.get(named("shop.stock.fortran").remote(3))
    assert array.shape == (3, 2) and array.flags.c_contiguous  # a pickle would keep the order
    assert ray.get(named("shop.stock.table").remote(a=[1, 2])) == pa.table({"a": [1, 2]})
    assert type(ray.get(named("math.hypot").remote(3, 4))) is float
    one, two, three = ray.get(named("shop.stock.several", num_returns=3).remote())
    assert type(one) is float and two.flags.c_contiguous and three == {1}


def test_generators(ray):
    values = ray.get(named("shop.stock.each", num_returns=3).remote(3))
    assert values == [0, 1, 2] and {type(v) for v in values} == {int}


def test_other_tasks_of_the_same_worker_keep_their_forms(ray):
    @ray.remote
    def fortran():
        return np.ones((3, 2), order="F")

    for _ in range(3):
        refs = [fortran.remote(), named("shop.stock.fortran").remote(3), fortran.remote()]
        kinds = [array.flags.c_contiguous for array in ray.get(refs)]
        assert kinds == [False, True, False]


def test_what_a_path_may_name(ray):
    assert ray.get(named("shop.stock.decorated").remote(b"")) == "bytes"
    assert ray.get(named("shop.stock.Counter.Inner.where").remote()) == "inside"
    assert ray.get(named("collections.OrderedDict").remote([["a", 1]])) == {"a": 1}


def test_arrays_and_tables_as_arguments(ray):
    array = np.arange(10_000).reshape(100, 100)
    assert ray.get(named("numpy.trace").remote(array)) == np.trace(array)
    assert ray.get(named("builtins.len").remote(pa.table({"a": [1, 2, 3]}))) == 3
    assert ray.get(named("shop.stock.decorated").remote(array[0])) == "ndarray"
    assert ray.get(named("builtins.max").remote(named("math.sqrt").remote(16), 3)) == 4.0


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("nowhere.at_all.f", ModuleNotFoundError, "no module 'nowhere'"),
        ("shop.nothing.f", AttributeError, "'shop' has no 'nothing'"),
        ("shop.stock.nothing", AttributeError, "'shop.stock' has no 'nothing'"),
        ("shop.stock.NUMBER", TypeError, "of type int, which cannot be called"),
        ("shop.stock", TypeError, "a module, which cannot be called"),
        ("shop.broken.f", ModuleNotFoundError, "not_there_at_all"),
        ("shop.stock.later", TypeError, "async function"),
        ("__main__.f", ModuleNotFoundError, "workers do not have the script"),
        ("f", ValueError, "package.module.name"),
        ("shop.stock.pair()", ValueError, "package.module.name"),
    ],
)
def test_what_cannot_be_found(ray, path, kind, words):
    with pytest.raises(kind, match=words):
        ray.get(named(path).remote())


def test_a_definition_of_another_language(ray):
    with pytest.raises(TypeError, match="cannot run a definition of the kind 'c'"):
        ray.get(CFunction(["c", "libx.so", "f"], {}, b"").remote())


def test_exceptions(ray):
    with pytest.raises(ValueError, match="no such luck"):
        ray.get(named("shop.stock.fail").remote("value"))
    with pytest.raises(KeyError):
        ray.get(named("shop.stock.fail").remote("key"))


def test_actors(ray):
    counter = CActorClass(["python", "shop.stock.Counter"], {}, b"").remote(5)
    assert type(ray.get(counter.add.remote(np.int8(2)))) is int
    array = ray.get(counter.total.remote())
    assert array.tolist() == [[7, 7], [7, 7]] and array.flags.c_contiguous
    with pytest.raises(AttributeError, match="no attribute 'subtract'"):
        ray.get(counter.subtract.remote(1))
    with pytest.raises(TypeError, match="argument 0 of Counter.add.. is of type"):
        counter.add.remote(object())
    with pytest.raises(ray.exceptions.ActorDiedError, match="start"):
        ray.get(CActorClass(["python", "shop.stock.Counter"], {}, b"").remote(-1).add.remote(1))
    with pytest.raises(ray.exceptions.ActorDiedError, match="made of a class"):
        ray.get(CActorClass(["python", "shop.stock.pair"], {}, b"").remote(1).add.remote(1))


def test_named_actors(ray):
    kind = CActorClass(["python", "shop.stock.Counter"], {}, b"")
    made = kind.options(name="till").remote()
    assert ray.get(made.add.remote(3)) == 3
    found = ray.get_actor("till")
    assert ray.get(found.add.remote(1)) == 4 and found == made
    assert ray.get(kind.options(name="till", get_if_exists=True).remote().add.remote(1)) == 5

    @ray.remote
    def use(handle):
        return ray.get(handle.add.remote(10))

    assert ray.get(use.remote(made)) == 15
