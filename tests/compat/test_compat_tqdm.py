"""`ray.experimental.tqdm_ray`: progress bars in any process."""

from __future__ import annotations

import importlib

import pytest
from compat_target import ray

tqdm_ray = importlib.import_module(f"{ray.__name__}.experimental.tqdm_ray")

pytestmark = pytest.mark.row("9.locations")


def count(n):
    bar = tqdm_ray.tqdm(total=n, desc="counting", unit="steps", position=1)
    for _ in range(n):
        bar.update(1)
    bar.set_description("done")
    bar.refresh()
    seen = bar.n, bar.total
    bar.close()
    return seen, list(tqdm_ray.tqdm(range(3)))


def test_bars_count(cluster):
    assert ray.get(ray.remote(count).remote(5)) == ((5, 5), [0, 1, 2])


def test_safe_print(cluster, capsys):
    tqdm_ray.safe_print("a", 1, sep="-")
    assert capsys.readouterr().out == "a-1\n"
