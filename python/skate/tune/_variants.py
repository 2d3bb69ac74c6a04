"""From a search space to configs: grids multiplied out, domains drawn, functions resolved.

Pure but for the random source. Each variant is a config with nothing left to draw, plus the
values that were chosen for it, by path: they name the trial's folder and fill the table.
"""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Iterator
from typing import Any

from skate.tune.error import TuneError
from skate.tune.sample import Domain, Function, NotYetResolved, is_grid

Path = tuple[Any, ...]


def find_unresolved(space: Any, path: Path = ()) -> dict[Path, Any]:
    """Every grid, domain and function in nested dictionaries and lists, by its path."""
    if isinstance(space, Domain) or is_grid(space):
        return {path: space}
    found: dict[Path, Any] = {}
    if isinstance(space, dict):
        for key, value in space.items():
            found.update(find_unresolved(value, (*path, key)))
    elif isinstance(space, (list, tuple)):
        for index, value in enumerate(space):
            found.update(find_unresolved(value, (*path, index)))
    elif callable(getattr(space, "to_dict", None)) and not path:
        found.update(find_unresolved(space.to_dict(), path))
    return found


def count_variants(space: dict[str, Any], num_samples: int) -> int:
    """How many trials generate_variants() makes."""
    total = num_samples
    for value in find_unresolved(space).values():
        if is_grid(value):
            total *= len(value["grid_search"])
    return total


def generate_variants(space: dict[str, Any], num_samples: int,
                      rng: random.Random | None = None) -> Iterator[
                          tuple[dict[str, Any], dict[Path, Any]]]:
    """(config, chosen values) of each trial; the first grid by path varies fastest."""
    source = rng or random
    for _ in range(num_samples):
        yield from _variants_of(space, {}, source)


def _variants_of(space: Any, chosen: dict[Path, Any], rng: Any) -> Iterator[
        tuple[dict[str, Any], dict[Path, Any]]]:
    unresolved = find_unresolved(space)
    if not unresolved:
        yield copy_space(space), chosen
        return
    order = sorted(unresolved, key=lambda path: [str(part) for part in path])
    grids = [path for path in order if is_grid(unresolved[path])]
    if grids:
        columns = [unresolved[path]["grid_search"] for path in reversed(grids)]
        for values in itertools.product(*columns):
            step = dict(zip(grids, reversed(values), strict=True))
            yield from _variants_of(_assign(space, step), {**chosen, **step}, rng)
        return
    step = {path: domain.draw(rng) for path, domain in unresolved.items()
            if not domain.is_function()}
    if not step:
        step = _resolve_functions(space, unresolved)
    yield from _variants_of(_assign(space, step), {**chosen, **step}, rng)


def _resolve_functions(space: dict[str, Any], functions: dict[Path, Function]) -> dict[Path, Any]:
    """The values of those functions that need nothing unknown; at least one."""
    step = {}
    for path, function in functions.items():
        try:
            step[path] = function.resolve(space)
        except NotYetResolved:
            continue
    if not step:
        names = ", ".join("/".join(map(str, path)) for path in functions)
        raise TuneError(f"the sample_from functions of {names} wait for one another's values")
    return step


def _assign(space: Any, values: dict[Path, Any]) -> Any:
    """The space with the values put in; only the containers on the way are copied."""
    result = copy_space(space)
    for path, value in values.items():
        node = result
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = value
    return result


def copy_space(space: Any) -> Any:
    """A copy of the containers; leaves are shared, as the user's objects may not be copyable."""
    if isinstance(space, dict):
        duplicate = copy.copy(space)
        for key, value in space.items():
            duplicate[key] = copy_space(value)
        return duplicate
    if isinstance(space, list):
        return [copy_space(value) for value in space]
    if isinstance(space, tuple) and type(space) is tuple:
        # A tuple that holds something to draw must become assignable.
        inner = [copy_space(value) for value in space]
        return inner if find_unresolved(space) else tuple(inner)
    return space


def parameter_name(path: Path) -> str:
    """The chosen value's name in the table."""
    return "/".join(str(part) for part in path)


def format_value(value: Any) -> str:
    """A chosen value, short enough for a folder's name."""
    if isinstance(value, float):
        text = f"{value:.4f}" if 1e-4 <= abs(value) < 1e16 and len(repr(value)) > 8 else repr(value)
        return text
    return str(value)


def experiment_tag(index: int, chosen: dict[Path, Any]) -> str:
    """'3_lr=0.01,gamma=0.9': the trial's number and what was chosen for it."""
    parts = [f"{path[-1]}={format_value(value)}"
             for path, value in sorted(chosen.items(), key=lambda item: str(item[0]))]
    return f"{index}_{','.join(parts)}" if parts else str(index)
