"""The command line: `skate start`, `stop`, `status`, `run`."""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> None:
    """Entry point of the script `skate`. `run` is served without click: it starts programs."""
    args = sys.argv[1:] if argv is None else argv
    if args[:1] == ["run"] and len(args) > 1 and args[1] not in ("--help", "-h"):
        from skate.cli import _run

        _run.run(args[1:])
        return
    from skate.cli import (
        _commands,
        _init_script,
        _memory_command,
        _scale_commands,
        _start,
        _state_commands,
    )

    del _init_script, _memory_command, _scale_commands, _start, _state_commands  # registered
    _commands.skate.main(args=args, prog_name="skate")


__all__ = ["main"]
