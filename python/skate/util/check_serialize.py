"""Why can this not be sent? inspect_serializability() looks for the part that cannot be pickled."""

from __future__ import annotations

import inspect
from typing import Any


class FailureTuple:
    """A part that cannot be pickled, where it was found, and what holds it."""

    def __init__(self, obj: Any, path: tuple[str, ...], parent: Any) -> None:
        self.obj = obj
        self.path = path
        self.parent = parent

    @property
    def name(self) -> str:
        """The last step of the path."""
        return self.path[-1] if self.path else "unknown"

    def __repr__(self) -> str:
        path = " -> ".join(self.path)
        return f"FailTuple({self.name} [path={path}, obj={self.obj!r}, parent={self.parent!r}])"


def _error_of(obj: Any) -> Exception | None:
    from skate import _serialize

    try:
        _serialize.dumps(obj, [])
    except Exception as error:
        return error
    return None


def _parts(obj: Any) -> list[tuple[str, Any]]:
    """What an object is made of, with names."""
    function = getattr(obj, "_function", None) or getattr(obj, "_cls", None)
    if function is not None and type(obj).__module__.startswith("skate."):
        return [(getattr(function, "__name__", "function"), function)]
    if inspect.isfunction(obj):
        closure = inspect.getclosurevars(obj)
        return [*closure.nonlocals.items(), *closure.globals.items()]
    if inspect.ismethod(obj):
        return [("self", obj.__self__)]
    if isinstance(obj, dict):
        return [(str(key), value) for key, value in obj.items()]
    if isinstance(obj, (list, tuple, set, frozenset)):
        return [(f"[{i}]", value) for i, value in enumerate(obj)]
    if isinstance(obj, type):
        return [(n, v) for n, v in vars(obj).items() if inspect.isfunction(v)]
    try:
        return list(vars(obj).items())
    except TypeError:
        return []


_MEANWHILE = (
    "Make such things where they are used (in the function, in the actor's __init__), leave "
    "them out with __getstate__, or say how to send them with util.register_serializer()."
)


class _Search:
    def __init__(self, stream: Any, most: int | None = None) -> None:
        self.stream = stream
        self.most = most  # parts looked at
        self.found: list[FailureTuple] = []
        self.seen: set[int] = set()

    def say(self, text: str) -> None:
        if self.stream is not None:
            print(text, file=self.stream)

    def look(self, obj: Any, path: tuple[str, ...], parent: Any, depth: int) -> bool:
        """Is it fit to be sent? If not, say which part is to blame."""
        error = _error_of(obj)
        if error is None:
            return True
        indent = "    " * len(path)
        self.say(f"{indent}cannot be pickled: {error}")
        if id(obj) in self.seen:
            return False
        self.seen.add(id(obj))
        to_blame = False
        for name, part in _parts(obj)[: self.most] if depth > 0 else ():
            if _error_of(part) is not None:
                self.say(f"{indent}  because of {name!r}, {part!r:.200}")
                self.look(part, (*path, name), obj, depth - 1)
                to_blame = True
        if not to_blame:
            self.found.append(FailureTuple(obj, path, parent))
        return False


def inspect_serializability(
    base_obj: Any, name: str | None = None, depth: int = 3, print_file: Any | None = None
) -> tuple[bool, set[FailureTuple]]:
    """Can base_obj be sent, and if not, which of its parts are to blame?

    name: what to call it in the report. depth: how deep to look. print_file: where the report goes,
    sys.stdout when None. Returns (True, empty set) or (False, the parts).
    """
    import sys

    search = _Search(print_file or sys.stdout)
    search.say(f"Can {name or repr(base_obj)} be sent to another process?")
    path = (name,) if name else ()
    if search.look(base_obj, path, None, depth):
        search.say("Yes.")
        return True, set()
    for failure in search.found:
        search.say(f"No: {failure}")
    search.say(_MEANWHILE)
    return False, set(search.found)


def refusal(what: str, obj: Any, error: TypeError) -> TypeError:
    """The error for something that cannot be pickled: which part of it, and what to do. To be
    raised from cause()."""
    search = _Search(None, 1000)
    try:
        search.look(obj, (), None, 3)
    except Exception:  # somebody's __reduce__ or repr
        search.found.clear()
    parts = [f"{' -> '.join(f.path)} ({_kind(f.obj)})" for f in search.found if f.path]
    because = f"; because of {', '.join(parts[:3])}" if parts else ""
    return TypeError(f"Could not serialize {what}: {error}{because}. {_MEANWHILE}")


def _kind(obj: Any) -> str:
    return f"{type(obj).__module__}.{type(obj).__qualname__}".removeprefix("builtins.")


def cause(error: BaseException) -> BaseException | None:
    """The error, if its traceback has a line that is neither ours nor cloudpickle's."""
    trace = error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "").partition(".")[0]
        if module not in ("skate", "cloudpickle"):
            return error
        trace = trace.tb_next
    return None
