"""A typed program: test_typing.py checks it with mypy --strict and pyright, and runs it.

A line that ends in `# wrong` must be refused by both checkers, and no other line may be. Such lines
stand where they are never executed.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np

import skate as ray
from skate import ObjectRef, ObjectRefGenerator
from skate.cross_language import c_function, plain, put


@ray.remote
def text(x: int) -> str:
    return str(x)


@ray.remote(num_cpus=0.5, max_retries=0)
def scale(x: int, by: float = 1.0) -> float:
    return x * by


@ray.remote
def total(values: np.ndarray) -> int:
    return int(values.sum())


@ray.remote
def squares(n: int) -> Iterator[int]:
    for i in range(n):
        yield i * i


@ray.remote(num_cpus=0.5)
def halves(n: int) -> Generator[float, None, None]:
    for i in range(n):
        yield i / 2


class Counter:
    def __init__(self, start: int) -> None:
        self.n = start

    def add(self, k: int) -> int:
        self.n += k
        return self.n


RemoteCounter = ray.remote(Counter)


def main() -> None:
    first: ObjectRef[str] = text.remote(1)
    second: ObjectRef[float] = scale.remote(2, by=1.5)
    third: ObjectRef[float] = scale.options(name="three").remote(3)
    stored: ObjectRef[int] = ray.put(4)
    fourth: ObjectRef[str] = text.remote(stored)
    words: list[str] = ray.get([first, fourth])
    numbers: list[float] = ray.get([second, third], timeout=30)
    ready, rest = ray.wait([first, fourth], num_returns=2)
    ready_words: list[str] = ray.get(ready)
    summed: int = ray.get(total.remote(np.arange(10)))
    counter = RemoteCounter.remote(5)
    count: int = ray.get(counter.add.remote(1))
    stream: ObjectRefGenerator[int] = squares.remote(3)
    ready_streams, _ = ray.wait([stream])
    items: list[int] = [ray.get(ref) for ref in ready_streams[0]]
    fractions: list[float] = ray.get(list(halves.options(name="halves").remote(2)))
    assert (items, fractions) == ([0, 1, 4], [0.0, 0.5])
    add = c_function("libmine.so", "add").options(num_cpus=0.5)
    readable: ObjectRef[dict[str, int]] = put({"a": 1})
    copied: list[int] = plain([1, 2])
    assert "add" in repr(add) and ray.get(readable) == {"a": 1} and copied == [1, 2]
    print(words, numbers, ready_words, len(rest), summed, count)


def refused() -> None:
    text.remote("one")  # wrong
    text.remote()  # wrong
    text.remote(1, 2)  # wrong
    scale.remote(1, to=2.0)  # wrong
    text.remote(ray.put("one"))  # wrong
    number: int = ray.get(text.remote(1))  # wrong
    ref: ObjectRef[int] = text.remote(1)  # wrong
    RemoteCounter.add(1)  # wrong
    name: str = ray.get(next(squares.remote(1)))  # wrong
    c_function("libmine.so")  # wrong
    amount: ObjectRef[str] = put(1)  # wrong
    print(name, amount)
    print(number, ref)


if __name__ == "__main__":
    ray.init(num_cpus=2)
    main()
    ray.shutdown()
