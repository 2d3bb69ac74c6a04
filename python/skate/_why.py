"""`why(ref)`: what a ref waits for, along the whole chain; also the text of GetTimeoutError."""

from __future__ import annotations

from skate import _core
from skate._generator import ObjectRefGenerator

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

_KINDS = ("ref", "task", "run", "lease", "actor", "start")
_ENDS = ("waits", "goes on", "ready", "never", "unknown")
_ERROR_BYTES = 4000  # of the chain in an exception's text


class Step:
    """One thing in a chain: what it is, where, and in words why it is not done.

    kind: "ref", "task" (at its owner), "run" (at its worker), "lease" (a demand for a worker, at
    the raylet), "actor" (at the control store), "start" (of an actor). state: "waits", "goes on",
    "ready", "never" (no node can ever meet the demand) or "unknown".
    """

    __slots__ = ("depth", "kind", "state", "node", "process", "pid", "id", "text")

    def __init__(self, fields: list[str]) -> None:
        depth, end, kind, node, process, pid = map(int, fields[:6])
        self.depth = depth
        self.kind = _KINDS[kind]
        self.state = _ENDS[end]
        self.node = node
        self.process = process
        self.pid = pid
        self.id = bytes.fromhex(fields[6])
        self.text = fields[7]

    def __str__(self) -> str:
        label = ""
        if self.kind == "ref":
            label = f"ObjectRef({border_hex(self.id)}): "
        elif self.kind == "lease":
            label = "the demand: "
        return f"{'  ' * (self.depth - 1)}{label}{self.text}"

    def __repr__(self) -> str:
        return f"Step({self.kind}, {self.state}, {self.text!r})"


class Chain:
    """What refs wait for. str() of it is for people; `steps` is for programs."""

    __slots__ = ("steps", "deadlock", "impossible", "complete")

    def __init__(self, text: str) -> None:
        *lines, last = text.rstrip("\n").split("\n")
        self.steps = [Step(line.split("\t", 7)) for line in lines]
        verdict, _, broken = last.lstrip("=").partition("\t")
        self.deadlock = verdict == "1"
        self.impossible = verdict == "2"
        self.complete = broken == "0"

    def __str__(self) -> str:
        out = "\n".join(map(str, self.steps))
        if self.deadlock:
            out += "\nThis is a deadlock: the chain comes back to where it was. It will not end."
        elif self.impossible:
            out += "\nThis cannot end: no node of the cluster can ever meet the demand."
        return out

    def __repr__(self) -> str:
        return f"<Chain of {len(self.steps)} steps>\n{self}"


def border_hex(raw: bytes, job: int | None = None) -> str:
    """The hexadecimal text by which a program knows a ref: ObjectRef.hex()."""
    sequence = int.from_bytes(raw[8:], "little")
    job = _core.info()["job"] if job is None else job
    task = raw[:8] + (sequence & ~0xFFFF).to_bytes(8, "little") + bytes(4)
    return (task + job.to_bytes(4, "little") + (sequence & 0xFFFF).to_bytes(4, "little")).hex()


def raw_of(text: str) -> bytes:
    """The other way; an id that no object has when it is none."""
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(data) != 28:
        return b"\xff" * 16
    sequence = int.from_bytes(data[8:16], "little") & ~0xFFFF
    return data[:8] + (sequence | int.from_bytes(data[24:26], "little")).to_bytes(8, "little")


def why(object_refs: Any, *, timeout: float = 2.0) -> Chain:
    """Why is this ref, or each of these refs, not ready?

    Args: a ref, a generator or a list of them (the first 16 are looked at); timeout: seconds for
    asking the processes along the chain, which answer even while their Python code is busy.
    Returns: a Chain. `print(ray.why(ref))` shows which task makes it, in which state it is, where,
    what it waits for and who holds that; `.deadlock` and `.impossible` say that it will never end.
    Raises: TypeError when it is not a ref.
    """
    refs = object_refs if isinstance(object_refs, list) else [object_refs]
    refs = [ref.completed() if type(ref) is ObjectRefGenerator else ref for ref in refs]
    for ref in refs:
        if type(ref) is not _core.ObjectRef:
            raise TypeError(f"why() takes an ObjectRef or a list of them, not {ref!r}")
    from skate import _api

    _api.info()
    return Chain(_core.why(refs, float(timeout), -1.0))


def for_error(ref: Any, waited_s: float) -> str:
    """The chain as the end of an error's text; "" when there is nothing to say. Never raises."""
    try:
        # Who polls with a short timeout wants no questions asked all over the cluster.
        ask_s = 0.0 if waited_s < 0.05 else min(1.0, 0.1 + waited_s / 4)
        chain = Chain(_core.why([ref], ask_s, min(waited_s, 1e9)))
        text = str(chain)
    except Exception:
        return ""
    if len(text) > _ERROR_BYTES:
        text = text[:_ERROR_BYTES].rpartition("\n")[0] + "\n..."
    return f". What it waits for:\n{text}" if text else ""


def note(error: BaseException, ref: Any, waited_s: float) -> None:
    """Add to an exception that ended a wait what it was waiting for. Called from C."""
    error.add_note(f"get() was interrupted after {waited_s:.1f} s{for_error(ref, waited_s)}")
