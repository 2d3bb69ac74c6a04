"""Arguments are judged as Python itself judges them."""

from __future__ import annotations

import functools
import inspect

import pytest

from skate import _signature


def plain(a, b=2, *, c=3):
    pass


def star(a, *rest, **more):
    pass


def only(a, /, b, *, c):
    pass


def nothing():
    pass


@functools.wraps(only)
def wrapped(*args, **kwargs):
    pass


CALLS = [
    ((), {}), ((1,), {}), ((1, 2), {}), ((1, 2, 3), {}), ((), {"a": 1}), ((1,), {"a": 1}),
    ((1,), {"b": 1}), ((1,), {"c": 1}), ((1,), {"d": 1}), ((1, 2), {"c": 1}), ((1, 2), {"b": 1}),
    ((), {"a": 1, "b": 2, "c": 3}), ((1,), {"b": 2, "c": 3}),
]  # fmt: skip


@pytest.mark.parametrize("args, kwargs", CALLS)
@pytest.mark.parametrize("function", [plain, star, only, nothing, wrapped])
def test_like_inspect(function, args, kwargs):
    arity = _signature.Arity(*_signature.arity(function).fields())
    try:
        inspect.signature(function).bind(*args, **kwargs)
        fits = True
    except TypeError:
        fits = False
    least, most = arity.limits()
    if not kwargs and least <= len(args) <= most:
        assert fits
    try:
        arity.check("f()", len(args), tuple(kwargs))
        assert fits
    except TypeError as error:
        assert not fits and "f()" in str(error)


def test_methods_and_constructors():
    class A:
        def __init__(self, x, y=1):
            pass

        def m(self, z):
            pass

    class B:
        pass

    assert _signature.constructor_arity(A).limits() == (1, 2)
    assert _signature.constructor_arity(B).limits() == (0, 0)
    assert _signature.arity(A.m, 1).limits() == (1, 1)


def test_builtins_are_not_judged():
    assert _signature.arity(dict).limits()[1] >= 1
    assert _signature.arity(print).limits()[0] == 0
