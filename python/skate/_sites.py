"""Where refs are made, for SKATE_record_ref_creation_sites=1: the line of the user's code."""

from __future__ import annotations

import os
import sys

_INSIDE = ("<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>")  # of a function, for people
_OWN = os.path.dirname(__file__) + os.sep


def here(what: str) -> str:
    """"(put object) | file:function:line" of who called into this package. Called from C.

    Arguments of a task are read when nobody has called yet: "(deserialize task arg) | its name".
    """
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OWN):
        frame = frame.f_back
    if frame.f_back is None:
        from skate.runtime_context import get_runtime_context

        task = get_runtime_context().get_task_name()
        if task:
            return f"({what} task arg) | {task}"
    line, file, inside = frame.f_lineno, frame.f_code.co_filename, frame
    while inside.f_code.co_name in _INSIDE and inside.f_back is not None:
        inside = inside.f_back
    return f"({what}) | {file[-70:]}:{inside.f_code.co_name}:{line}"
