"""Where refs are made, for RAY_record_ref_creation_sites=1: the line of the user's code."""

from __future__ import annotations

import os
import sys

_OWN = os.path.dirname(__file__) + os.sep


def here(what: str) -> str:
    """"(put object) | file:function:line" of who called into this package. Called from C."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OWN):
        frame = frame.f_back
    code = frame.f_code
    return f"({what}) | {code.co_filename[-70:]}:{code.co_name}:{frame.f_lineno}"
