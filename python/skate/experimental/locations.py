"""Where the bytes of objects lie."""

from __future__ import annotations

from typing import Any

from skate import _api, _core


def get_object_locations(
    obj_refs: list[Any], timeout_ms: int = -1
) -> dict[Any, dict[str, Any]]:
    """ref -> {"node_ids": [hex], "object_size": bytes or None, "did_spill": bool}.

    did_spill: some of its bytes on this node are in a spill file, and not in memory, now.
    For a ref of another process's object its owner is asked, at most timeout_ms; an object that is
    not there yet has no nodes and no size.
    """
    refs = _checked(obj_refs)
    unknown = [ref for ref in dict.fromkeys(refs) if not _core.locate(ref)[0]]
    if unknown:  # asks the owners; those that are not ready stay unknown
        seconds = 0.2 if timeout_ms < 0 else timeout_ms / 1000
        _api.wait(unknown, num_returns=len(unknown), timeout=min(seconds, 0.2), fetch_local=False)
    return _places(refs)


def get_local_object_locations(obj_refs: list[Any]) -> dict[Any, dict[str, Any]]:
    """The same, of what this process knows by itself."""
    return _places(_checked(obj_refs))


def _checked(obj_refs: Any) -> list[Any]:
    refs = list(obj_refs)
    for ref in refs:
        if not isinstance(ref, _core.ObjectRef):
            raise TypeError(f"the locations of an ObjectRef were asked for, not of {ref!r}")
    return refs


def _places(refs: list[Any]) -> dict[Any, dict[str, Any]]:
    if not refs:
        return {}
    here = _api.info()
    rows = _api._node_rows()
    names = {row["node"]: (row["node_id"] + bytes(12)).hex() for row in rows}
    out = {}
    for ref in refs:
        ready, copied, node, size, spilled = _core.locate(ref)
        nodes = [names[node]] if ready and node in names else []
        if copied:
            nodes.append((here["node_id"] + bytes(12)).hex())
        out[ref] = {
            "node_ids": nodes, "object_size": size if ready else None, "did_spill": spilled,
        }  # fmt: skip
    return out
