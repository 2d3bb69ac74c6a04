"""`ray.util.register_serializer`: how values of a class are sent."""

from __future__ import annotations

import importlib
import threading

import pytest
from compat_target import ray

util = importlib.import_module(f"{ray.__name__}.util")

pytestmark = pytest.mark.row("9.serializers")


class Held:
    def __init__(self, value):
        self.value = value
        self.lock = threading.Lock()


class Derived(Held):
    pass


@pytest.fixture()
def registered(cluster):
    util.register_serializer(
        Held, serializer=lambda held: held.value, deserializer=lambda value: Held(value)
    )
    yield
    util.deregister_serializer(Held)


@ray.remote
def value_of(held):
    return held.value


@ray.remote
def make(value):
    return Held(value)


@ray.remote
class Maker:
    def register(self):
        util.register_serializer(
            Held, serializer=lambda held: held.value, deserializer=lambda value: Held(-value)
        )

    def make(self, value):
        return [Held(value)]


def test_values_travel(registered):
    assert ray.get(ray.put(Held(3))).value == 3
    assert ray.get(ray.put({"a": [Held(4)]}))["a"][0].value == 4
    assert ray.get(value_of.remote(Held(5))) == 5
    assert ray.get(value_of.remote(held=Held(6))) == 6
    closed_over = Held(7)
    assert ray.get(ray.remote(lambda: closed_over.value).remote()) == 7


def test_each_process_says_for_itself(registered):
    with pytest.raises(TypeError):
        ray.get(make.remote(1))
    maker = Maker.remote()
    ray.get(maker.register.remote())
    assert ray.get(maker.make.remote(8))[0].value == -8


def test_the_last_registration_counts(registered):
    util.register_serializer(
        Held, serializer=lambda held: held.value, deserializer=lambda value: Held(10 * value)
    )
    assert ray.get(ray.put(Held(3))).value == 30


def test_subclasses_are_not_meant(registered):
    with pytest.raises(TypeError):
        ray.put(Derived(1))


def test_deregistering(registered):
    util.deregister_serializer(Held)
    with pytest.raises(TypeError):
        ray.put(Held(1))
    util.deregister_serializer(Held)
    util.deregister_serializer(int)


def test_arguments(cluster):
    with pytest.raises(TypeError):
        util.register_serializer(Held)


def test_a_class_that_pickle_knows(cluster):
    import numpy as np

    class Plain:
        def __init__(self, text):
            self.text = text

    for cls, value, check in (
        (Plain, Plain("a"), lambda got: got.text == "A"),
        (np.ndarray, np.arange(3), lambda got: got == "[0 1 2]"),
    ):
        util.register_serializer(
            cls,
            serializer=lambda obj: obj.text if hasattr(obj, "text") else str(obj),
            deserializer=lambda text: text if "[" in text else Plain(text.upper()),
        )
        try:
            assert check(ray.get(ray.put(value)))
        finally:
            util.deregister_serializer(cls)
