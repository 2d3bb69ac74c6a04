"""Search spaces: grids, domains, functions, and the names made out of them."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from skate import tune
from skate.tune._variants import count_variants, experiment_tag, generate_variants


def configs(space, num_samples=1, seed=0):
    return [c for c, _ in generate_variants(space, num_samples, random.Random(seed))]


def test_grids_multiply_and_the_first_varies_fastest():
    space = {"a": tune.grid_search([1, 2]), "b": {"c": tune.grid_search(["x", "y"])}, "d": 5}
    assert configs(space) == [
        {"a": 1, "b": {"c": "x"}, "d": 5}, {"a": 2, "b": {"c": "x"}, "d": 5},
        {"a": 1, "b": {"c": "y"}, "d": 5}, {"a": 2, "b": {"c": "y"}, "d": 5}]
    assert count_variants(space, 3) == len(configs(space, 3)) == 12
    assert space["a"] == {"grid_search": [1, 2]}


def test_grid_inside_lists_and_nested_grids():
    assert configs({"layers": [tune.grid_search([1, 2]), 3]}) == [
        {"layers": [1, 3]}, {"layers": [2, 3]}]
    nested = {"x": tune.grid_search([{"y": tune.grid_search([1, 2])}, {"y": 3}])}
    assert [c["x"]["y"] for c in configs(nested)] == [1, 2, 3]


@pytest.mark.parametrize(("domain", "check"), [
    (tune.uniform(1, 2), lambda v: 1 <= v <= 2),
    (tune.quniform(0, 1, 0.25), lambda v: v in (0, 0.25, 0.5, 0.75, 1)),
    (tune.loguniform(1e-4, 1e-1), lambda v: 1e-4 <= v <= 1e-1),
    (tune.qloguniform(0.1, 10, 0.1), lambda v: abs(v * 10 - round(v * 10)) < 1e-9),
    (tune.randint(3, 6), lambda v: v in (3, 4, 5)),
    (tune.qrandint(0, 10, 5), lambda v: v in (0, 5, 10)),
    (tune.lograndint(1, 100), lambda v: isinstance(v, int) and 1 <= v < 100),
    (tune.choice(["a", "b"]), lambda v: v in ("a", "b")),
    (tune.randn(5, 0.1), lambda v: 3 < v < 7),
])
def test_domains_draw_inside_their_bounds(domain, check):
    values = [c["x"] for c in configs({"x": domain}, num_samples=200)]
    assert all(map(check, values))
    assert len(set(values)) > 1


def test_draws_repeat_with_the_seed():
    space = {"x": tune.uniform(0, 1), "y": tune.choice(range(100))}
    assert configs(space, 5, seed=7) == configs(space, 5, seed=7) != configs(space, 5, seed=8)


def test_functions_see_what_was_drawn_before():
    space = {
        "lr": tune.grid_search([1, 2]), "double": tune.sample_from(lambda spec: spec.config.lr * 2),
        "again": tune.sample_from(lambda config: config["double"] + 1),
        "fixed": tune.sample_from(lambda: 9)}
    assert configs(space) == [
        {"lr": 1, "double": 2, "again": 3, "fixed": 9},
        {"lr": 2, "double": 4, "again": 5, "fixed": 9}]


def test_functions_that_wait_for_each_other_are_an_error():
    space = {"a": tune.sample_from(lambda s: s.config.b), "b": tune.sample_from(lambda s: s["a"])}
    with pytest.raises(tune.TuneError, match="wait for one another"):
        configs(space)


@pytest.mark.parametrize("bad", [
    lambda: tune.loguniform(0, 1), lambda: tune.uniform(2, 1), lambda: tune.choice([]),
    lambda: tune.quniform(0, 1, 0.3), lambda: tune.grid_search("abc"), lambda: tune.uniform("a", 1),
])
def test_bad_domains_are_refused(bad):
    with pytest.raises((ValueError, TypeError)):
        bad()


def test_experiment_tag():
    assert experiment_tag(2, {("lr",): 0.001, ("model", "dim"): 8}) == "2_lr=0.001,dim=8"
    assert experiment_tag(0, {}) == "0"


def test_import_is_light():
    code = ("import sys, skate.tune; bad = {'numpy', 'pandas', 'tensorboardX', 'torch', "
            "'skate.rllib'} & set(sys.modules); sys.exit(str(bad) if bad else 0)")
    subprocess.run([sys.executable, "-c", code], check=True)
