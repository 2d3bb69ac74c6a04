"""What libraries take from Ray's module of this name."""

from __future__ import annotations


def memory_summary(
    address: str | None = None, group_by: str = "NODE_ADDRESS", sort_by: str = "OBJECT_SIZE",
    units: str = "B", line_wrap: bool = True, stats_only: bool = False,
    num_entries: int | None = None,
) -> str:  # fmt: skip
    """The text that `skate memory` prints, about the session or the cluster at `address`.

    line_wrap: for a terminal, in lines no wider than it; False: one line for each reference.
    Raises ConnectionError without a cluster,
    ValueError for an unknown group_by, sort_by or units.
    """
    import shutil

    from skate import _memory, _memory_text, _state

    width = shutil.get_terminal_size((0, 0)).columns if line_wrap else 0
    options = _memory_text.Options(group_by, sort_by, units, stats_only, num_entries, False, width)
    rows, most = options.rows()
    try:
        found = _memory.look(address, 10.0, rows, _memory.OLD_S, most)
    except _state.Unreachable as error:
        raise ConnectionError(str(error)) from error
    return _memory_text.text(found, options)


def global_gc() -> None:
    """Collect the garbage of this process. Workers collect their own when they are idle."""
    import gc

    gc.collect()
