"""`skate run`: a program written for Ray, unchanged, with `import ray` meaning Skate."""

from __future__ import annotations

import os
import sys
from types import ModuleType, TracebackType
from typing import NoReturn

from skate import _alias

_USAGE = "usage: skate run FILE [ARG...]\n       skate run -m MODULE [ARG...]"


def run(args: list[str]) -> None:
    """Become that program."""
    if args[:1] == ["--"]:
        args = args[1:]
    if args[:1] == ["-m"]:
        if len(args) < 2:
            _refuse(f"-m needs the name of a module\n{_USAGE}")
        _run_module(args[1], args[2:])
    elif not args or args[0].startswith("-"):
        _refuse(f"there is no option {args[0]!r}\n{_USAGE}" if args else _USAGE)
    else:
        _run_file(args[0], args[1:])


def _refuse(text: str) -> NoReturn:
    print(f"skate run: {text}", file=sys.stderr)
    raise SystemExit(2)


def _fresh_main() -> ModuleType:
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main
    return main


def _run_file(path: str, args: list[str]) -> None:
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        _refuse(f"cannot read {path}: {error.strerror}")
    sys.argv = [path, *args]
    folder = os.path.dirname(os.path.realpath(path))
    if sys.path and sys.path[0] in ("", os.getcwd(), os.path.dirname(os.path.abspath(__file__))):
        sys.path[0] = folder
    else:
        sys.path.insert(0, folder)
    _alias.install()
    main = _fresh_main()
    main.__file__ = path
    main.__dict__["__cached__"] = None
    try:
        exec(compile(source, path, "exec"), main.__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        _report(error)


def _run_module(name: str, args: list[str]) -> None:
    import runpy

    here = os.getcwd()
    if sys.path and sys.path[0] in ("", os.path.dirname(os.path.abspath(__file__))):
        sys.path[0] = here
    elif here not in sys.path[:1]:
        sys.path.insert(0, here)
    sys.argv = [name, *args]
    _alias.install()
    _fresh_main()
    try:
        runpy._run_module_as_main(name)  # what `python -m` itself calls
    except SystemExit:
        raise
    except BaseException as error:
        _report(error)


def _report(error: BaseException) -> NoReturn:
    """The program's own traceback, without our frames."""
    trace: TracebackType | None = error.__traceback__
    own = (__file__, "<frozen runpy>")
    while trace is not None and trace.tb_frame.f_code.co_filename in own:
        trace = trace.tb_next
    sys.excepthook(type(error), error.with_traceback(trace), trace)
    raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else 1)
