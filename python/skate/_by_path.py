"""Functions and classes that another language names by their import path, in a worker."""

from __future__ import annotations

import importlib
import inspect

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any


def load(definition: list[Any]) -> Any:
    """The callable of a plain definition, ["python", "package.module.name"].

    Raises ModuleNotFoundError, AttributeError, TypeError (it cannot be called), or what the import
    of its module raises.
    """
    if len(definition) != 2 or definition[0] != "python" or not isinstance(definition[1], str):
        kind = definition[0] if definition else None
        raise TypeError(f"a worker of Python cannot run a definition of the kind {kind!r}")
    path = definition[1]
    found = _unwrapped(_find(path))
    if not callable(found):
        raise TypeError(f"{path!r} is {_kind(found)}, which cannot be called")
    if inspect.iscoroutinefunction(found) or inspect.isasyncgenfunction(found):
        raise TypeError(
            f"{path!r} is an async function, which cannot be a task: call asyncio.run() in a plain "
            "one, or make it a method of a class and that an actor"
        )
    return found


def _find(path: str) -> Any:
    parts = path.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ValueError(f"an import path looks like 'package.module.name', not {path!r}")
    if parts[0] == "__main__":
        raise ModuleNotFoundError(
            f"{path!r}: workers do not have the script of the program; put the function into a "
            "module that they can import",
            name="__main__",
        )
    for cut in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:cut])
        try:
            found: Any = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module is there, and imports one that is not
            if cut == 1:
                raise ModuleNotFoundError(
                    f"no module {error.name!r} for {path!r} in this worker; it looks in sys.path "
                    "of the program that submitted the task",
                    name=error.name,
                ) from None
            continue
        return _attribute(found, name, parts[cut:], path)
    raise AssertionError("unreachable")


def _attribute(found: Any, name: str, rest: list[str], path: str) -> Any:
    for part in rest:
        if not hasattr(found, part):
            raise AttributeError(f"{name!r} has no {part!r}, which {path!r} asks for")
        found = getattr(found, part)
        name += f".{part}"
    return found


def _unwrapped(found: Any) -> Any:
    """The plain function or class of one that is decorated with remote()."""
    from skate._actor import ActorClass
    from skate._remote import RemoteFunction

    if isinstance(found, RemoteFunction):
        return found._function
    return found._cls if isinstance(found, ActorClass) else found


def _kind(found: Any) -> str:
    return "a module" if inspect.ismodule(found) else f"of type {type(found).__name__}"
