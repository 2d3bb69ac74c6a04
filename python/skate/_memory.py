"""Who holds the memory: objects, what they add up to, what may be leaked, the nodes' stores.

Each process answers for what it holds from its core thread, whatever its Python does; each raylet
for the store of its node. Nothing is kept for it anywhere. Every object is counted; rows are those
of the largest.
"""

from __future__ import annotations

import time

from skate import _core, _state, _wire

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

GROUPS = 1024  # of one process
OLD_S = 60.0
_NODE_BITS = 32
_TYPES = (
    "UNKNOWN_STATUS", "LOCAL_REFERENCE", "PINNED_IN_MEMORY", "USED_BY_PENDING_TASK",
    "CAPTURED_IN_OBJECT", "ACTOR_HANDLE",
)  # fmt: skip
_PLACES = (
    "pending", "inline", "in memory", "other node", "pulled copy", "dropped", "partly spilled",
    "spilled", "lost",
)  # fmt: skip
_HELD = ("", "refs", "views", "other process")
LIVE, DEAD, COPIES, KEPT = range(4)  # kinds of holders in store_stats
_ACTOR, _REST, _ACTOR_WORK = 5, 255, 3


class Memory:
    """One look at what is held everywhere. Made inside of _state.attached()."""

    def __init__(
        self, asked: _state.Asked, rows: int, old_s: float | None = OLD_S, only: bytes = b"",
    ) -> None:  # fmt: skip
        """rows: how many of each process at most; old_s: None: nothing counts as old; only: the
        raw id of the one object that rows are about (there are no sums then)."""
        self._asked = asked
        self.nodes = {row["node"]: row for row in asked.node_rows() if row["state"] == 1}
        self.ids = asked.node_ids()
        self.processes = {p["proc"]: p for p in asked.processes()}
        frame = _wire.build(
            "memory_req", obj=only or bytes(16), rows=rows, groups=GROUPS,
            old_ns=-1 if old_s is None else int(old_s * 1e9),
        )  # fmt: skip
        living = [p["proc"] for p in self.processes.values() if p["state"] == 1]
        self.answers = asked.ask_all(living, frame)
        self.rows_most = rows

    def pid(self, process: int) -> int:
        """0: it is gone."""
        return int(self.processes[process]["pid"]) if process in self.processes else 0

    def ip(self, process: int) -> str:
        """Of its node."""
        node = self.nodes.get(process >> _NODE_BITS)
        return str(node["ip"]) if node else ""

    def is_idle(self, process: int) -> bool:
        """A worker, no actor, that has no task now."""
        row, answer = self.processes.get(process), self.answers.get(process)
        if row is None or answer is None:
            return False
        return row["role"] == 1 and row["work"] != _ACTOR_WORK and not answer["tasks"]

    def _kind(self, process: int) -> str:
        return "WORKER" if self.processes[process]["role"] == 1 else "DRIVER"

    def site(self, text: str) -> str:
        """What is said of a line that may not be known."""
        return text or ("unknown" if self.sites_known() else "disabled")

    def sites_known(self) -> bool:
        """Does any process note where its refs are made?"""
        if not hasattr(self, "_sites"):
            self._sites = any(
                part["site"] for a in self.answers.values()
                for key in ("groups_frames", "frames") for part in a[key]
            )  # fmt: skip
        return self._sites

    def total(self) -> int:
        """How many rows there are if none is cut."""
        return sum(answer["objects"] for answer in self.answers.values())

    def rows(self) -> list[dict[str, Any]]:
        """A dict for each object in each process that has it, the largest first."""
        from skate import _why

        known = {row["obj"]: row for a in self.answers.values() for row in a["frames"]
                 if row["owned"]}  # fmt: skip
        out = []
        for process, answer in self.answers.items():
            job = self.processes[process]["job"]
            for row in answer["frames"]:
                owner = int.from_bytes(row["obj"][:8], "little")
                own = known.get(row["obj"], row)
                if not row["where"]:  # it has the ref only: where the bytes are its owner knows
                    row = {**row, **{k: own[k] for k in ("where", "holder", "status")}}
                at = row["holder"] >> _NODE_BITS
                out.append({
                    "object_id": _why.border_hex(row["obj"], job),
                    "object_size": row["size"] if row["state"] in (2, 3) else -1,
                    "task_status": _state._TASK_STATES.get(row["status"], "NIL"),
                    "attempt_number": 1,
                    "reference_type": _name(_TYPES, row["type"]),
                    "call_site": self.site(row["site"] or own["site"]),
                    "type": self._kind(process),
                    "pid": self.pid(process),
                    "ip": self.ip(process),
                    "owner_pid": self.pid(owner),
                    "node_id": self.ids.get(at) if at else None,
                    "where": _name(_PLACES, row["where"]) if row["type"] != _ACTOR else "-",
                    "age_s": own["age_ns"] / 1e9 if own["age_ns"] >= 0 else None,
                    "local_refs": row["local"],
                    "pins": row["pinned"],
                    "used_by_tasks": row["used"],
                    "running_here": row["running"] > 0,
                    "captured_in": row["captured"],
                    "borrower_pids": [self.pid(p) for p in row["borrowers"]],
                })  # fmt: skip
        out.sort(key=lambda row: -row["object_size"])
        return out

    def groups(self) -> list[dict[str, Any]]:
        """Sums over all objects, also those without a row: by process, line, type and status."""
        out = []
        for process, answer in self.answers.items():
            for group in answer["groups_frames"]:
                rest = group["type"] == _REST
                out.append({
                    "call_site": "(rest)" if rest else self.site(group["site"]),
                    "process": process,
                    "reference_type": "REST" if rest else _name(_TYPES, group["type"]),
                    "task_status": _state._TASK_STATES.get(group["status"], "NIL"),
                    "pid": self.pid(process), "ip": self.ip(process),
                    "type": self._kind(process), "count": group["count"],
                    "bytes": group["bytes"], "bytes_in_store": group["arena"],
                    "owned": bool(group["owned"]),
                })  # fmt: skip
        return out

    def leaks(self) -> list[dict[str, Any]]:
        """What is old and kept by refs, views or other processes alone; the largest first."""
        sums: dict[tuple[Any, ...], dict[str, Any]] = {}
        for process, answer in self.answers.items():
            for group in answer["groups_frames"]:
                if not group["old"] or group["type"] == _REST:
                    continue
                holder = group["holder"] or process
                key = (process, holder, group["site"], group["old"])
                row = sums.setdefault(key, {
                    "count": 0, "bytes": 0, "oldest_s": 0.0, "held_by": _name(_HELD, group["old"]),
                    "pid": self.pid(holder), "owner_pid": self.pid(process), "ip": self.ip(holder),
                    "idle_worker": self.is_idle(holder), "call_site": self.site(group["site"]),
                })  # fmt: skip
                row["count"] += group["count"]
                row["bytes"] += group["bytes"]
                row["oldest_s"] = max(row["oldest_s"], group["oldest_ns"] / 1e9)
        return sorted(sums.values(), key=lambda row: (-row["bytes"], -row["count"]))

    def stores(self) -> list[dict[str, Any]]:
        """The object store of each node: see node_stats(); None for what did not answer."""
        answers = node_stats(self._asked)
        held: dict[int, list[int]] = {}  # process -> objects, their bytes
        for answer in self.answers.values():
            numbers = answer["holders"]
            for process, count, size in zip(*[iter(numbers)] * 3, strict=False):
                entry = held.setdefault(process, [0, 0])
                entry[0] += count
                entry[1] += size
        out = []
        for node, stats in answers.items():
            if stats is None:
                continue
            row = dict(stats)
            row["processes"] = [self._store_process(*h, held) for h in row.pop("holders")]
            row["processes"].sort(key=lambda p: -p["bytes"])
            here = [e for p, e in held.items() if p >> _NODE_BITS == node]
            row["objects"] = sum(e[0] for e in here)
            row["object_bytes"] = sum(e[1] for e in here)
            row["spare"] = sum(p["spare"] for p in row["processes"])
            row["unexplained"] = sum(p["unexplained"] for p in row["processes"])
            out.append(row)
        return out

    def _store_process(
        self, process: int, size: int, kind: int, held: dict[int, list[int]],
    ) -> dict[str, Any]:  # fmt: skip
        count, objects = held.get(process, [0, 0])
        answer = self.answers.get(process)
        if kind == COPIES:
            count, objects = 0, size
        known = kind != LIVE or answer is not None
        return {
            "pid": self.pid(process), "what": _name(("process", "dead", "copies", "kept"), kind),
            "bytes": size, "objects": count, "object_bytes": objects,
            "spare": answer["spare"] if answer else 0, "answered": known,
            "unexplained": max(0, size - objects - (answer["spare"] if answer else 0)),
        }  # fmt: skip


def _name(names: tuple[str, ...], number: int) -> str:
    return names[number] if number < len(names) else f"UNKNOWN_{number}"


def node_stats(asked: _state.Asked) -> dict[int, dict[str, Any] | None]:
    """Number of a node -> what its raylet says of its store, with who has how much of it."""
    living = {row["node"]: row for row in asked.node_rows() if row["state"] == 1}
    found = asked.ask_all([n << _NODE_BITS for n in living], _wire.build("store_stats_req"))
    out: dict[int, dict[str, Any] | None] = {}
    for node, row in living.items():
        stats = found.get(node << _NODE_BITS)
        if stats is None:
            out[node] = None
            continue
        numbers = stats["holders"]
        out[node] = {
            "node": node, "node_id": (row["node_id"] + bytes(12)).hex(), "ip": row["ip"],
            "is_head": bool(row["is_head"]), **stats,
            "holders": list(zip(*[iter(numbers)] * 3, strict=False)),
        }  # fmt: skip
    return out


def node_holds(asked: _state.Asked, node: int) -> bool:
    """Does this node have objects that somebody still needs? An unanswered question counts."""
    stats = node_stats(asked).get(node)
    if stats is None or stats["spilled"] or stats["kept"] or stats["held"] or stats["in_files"]:
        return True
    here = [p["proc"] for p in asked.ask(node << _NODE_BITS, _state.PROCESSES) if p["proc"]]
    answers = asked.ask_all(here, _wire.build("memory_req", rows=0, groups=0, old_ns=0))
    return any(answers.get(p) is None or answers[p]["held"] > answers[p]["spare"] for p in here)


def sums(asked: _state.Asked) -> list[dict[str, Any]]:
    """groups() alone."""
    return Memory(asked, 0, None).groups()


def look(
    address: str | None, timeout: float, rows: int, old_s: float | None, most: int,
) -> dict[str, Any]:  # fmt: skip
    """All of it as plain values, as `skate memory --format json` prints it.

    rows: of each process at most; most: of all together.
    """
    asked = _state.Asked(timeout)
    with _state.attached(address):
        memory = Memory(asked, rows, old_s)
        found = memory.rows()[:most]
        return {
            "time": time.time(), "objects": found, "total": memory.total(),
            "rows_left_out": memory.total() - len(found),
            "groups": memory.groups(), "leaks": memory.leaks(), "leaks_after_s": old_s,
            "nodes": memory.stores(), "call_sites": memory.sites_known(),
            "silent": asked.silent_pids(),
        }  # fmt: skip


def store_families() -> list[tuple[str, str, str, list[tuple[dict[str, str], float]]]]:
    """The stores' numbers for Prometheus: name, kind, help, (tags, value) of each node."""
    if not _core.epoch():
        return []
    nodes = [row for row in node_stats(_state.Asked(10.0)).values() if row]

    def family(
        name: str, kind: str, text: str, *series: tuple[dict[str, str], str]
    ) -> tuple[str, str, str, list[tuple[dict[str, str], float]]]:
        return name, kind, text, [
            ({**tags, "NodeAddress": row["ip"], "NodeId": row["node_id"]}, float(row[key]))
            for row in nodes for tags, key in series
        ]  # fmt: skip

    for row in nodes:
        row["available"] = max(0, row["budget"] - row["resident"])
        for verb in ("spill", "restore"):
            done = {"spill": "spilled", "restore": "restored"}[verb]
            seconds = row[f"{verb}_ns"] / 1e9
            row[f"{verb}_mb_s"] = row[f"{done}_bytes"] / 2**20 / seconds if seconds else 0.0
    return [
        family("object_store_memory", "gauge", "Bytes of objects, by where they are.",
               ({"Location": "IN_MEMORY"}, "resident"), ({"Location": "SPILLED"}, "spilled"),
               ({"Location": "MMAP_DISK"}, "in_files")),
        family("object_store_used_memory", "gauge", "Bytes of the store's memory in use.",
               ({}, "resident")),
        family("object_store_available_memory", "gauge", "Bytes of the store that are free.",
               ({}, "available")),
        family("object_store_fallback_memory", "gauge", "Bytes mapped from files for want of room.",
               ({}, "in_files")),
        family("spill_manager_objects_bytes", "gauge", "Bytes of objects by state.",
               ({"State": "Pinned"}, "pinned"), ({"State": "Spilled"}, "spilled")),
        family("spill_manager_request_total", "counter", "Pieces written and read back.",
               ({"Type": "Spilled"}, "spills"), ({"Type": "Restored"}, "restores"),
               ({"Type": "Failed"}, "failures")),
        family("spill_manager_throughput_mb", "gauge", "MB a second while it writes or reads.",
               ({"Type": "Spilled"}, "spill_mb_s"), ({"Type": "Restored"}, "restore_mb_s")),
        family("object_store_copies_bytes", "gauge", "Bytes of other nodes' objects here.",
               ({"State": "All"}, "copies_bytes"), ({"State": "Unused"}, "unused_copies_bytes")),
        family("object_store_evictions_total", "counter", "Unused copies dropped for room.",
               ({}, "evictions")),
        family("object_store_waiting_requests", "gauge", "Requests for room that wait.",
               ({}, "waiting")),
    ]  # fmt: skip
