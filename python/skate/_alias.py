"""`import ray` meaning Skate: for programs run by `skate run`, and for their workers only."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

_ALIASES = {"ray": "skate", "raydp": "skate.raydp"}
RAY_VERSION = "2.60.0"  # whose API this is


class _AliasFinder:
    """Finds ray and ray.x as the modules skate and skate.x; raydp as skate.raydp."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        first = name.partition(".")[0]
        if first not in _ALIASES:
            return None
        from importlib import import_module
        from importlib.machinery import ModuleSpec

        real = _ALIASES[first] + name[len(first) :]
        try:
            module = import_module(real)
        except ModuleNotFoundError as error:
            if error.name and real.startswith(error.name):
                return None
            raise
        spec = ModuleSpec(name, _AliasLoader(module, module.__spec__), origin=real)
        if hasattr(module, "__path__"):
            spec.submodule_search_locations = []
        return spec


class _AliasLoader:
    def __init__(self, module: Any, spec: Any) -> None:
        self._module = module
        self._spec = spec

    def create_module(self, spec: Any) -> Any:
        return self._module

    def exec_module(self, module: Any) -> None:
        module.__spec__ = self._spec  # the import system has put the alias's there


def is_installed() -> bool:
    """Does `import ray` mean Skate here?"""
    return any(isinstance(finder, _AliasFinder) for finder in sys.meta_path)


def install() -> None:
    """From now on `import ray` means Skate in this process and in its job's workers.

    Programs and libraries choose by Ray's version what to call, so that `__version__` is that one.
    """
    if not is_installed():
        import skate

        sys.meta_path.insert(0, _AliasFinder())  # type: ignore[arg-type]
        skate.__version__ = RAY_VERSION
