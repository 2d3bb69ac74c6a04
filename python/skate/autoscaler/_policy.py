"""Which nodes to start and to end: rules without clock, file or network.

Demand is packed, the largest first, onto what is free now and on what is on its way; what does not
fit opens new nodes, each of the type that its bundles fill best. The rules and their names are
those of https://docs.ray.io/en/latest/cluster/key-concepts.html#autoscaling.
"""

from __future__ import annotations

from dataclasses import dataclass, field

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from skate.autoscaler._config import Config, NodeType

_AT_ONCE = 5  # as many may be on their way whatever upscaling_speed says
_BIT = 1e-9


@dataclass
class Node:
    """A node of the cluster."""

    id: str
    type: str | None  # None: not one that the autoscaler started, it never ends it
    total: dict[str, float]
    free: dict[str, float]
    labels: dict[str, str] = field(default_factory=dict)
    idle_s: float = 0.0


@dataclass(frozen=True)
class Want:
    """Resources that something waits for, on one node."""

    resources: dict[str, float]
    labels: dict[str, str] = field(default_factory=dict)
    apart: str = ""  # bundles of one group with the same text go to different nodes


@dataclass
class State:
    """All that the rules look at."""

    nodes: list[Node]
    starting: dict[str, int]  # type -> how many were started and have not joined
    waiting: list[Want]
    requested: list[Want]  # of request_resources()


@dataclass
class Plan:
    """What is to be done."""

    start: dict[str, int] = field(default_factory=dict)
    end: list[str] = field(default_factory=list)
    never: list[Want] = field(default_factory=list)  # no type of node can hold these


@dataclass
class _Room:
    """A node's room while it is being packed."""

    free: dict[str, float]
    labels: dict[str, str]
    node: str = ""  # its id; "": it is on its way
    taken: bool = False
    groups: set[str] = field(default_factory=set)

    def take(self, want: Want) -> bool:
        if not _holds(self.free, want.resources) or (want.apart and want.apart in self.groups):
            return False
        if any(self.labels.get(k) != v for k, v in want.labels.items()):
            return False
        for name, amount in want.resources.items():
            self.free[name] = self.free.get(name, 0.0) - amount
        if want.apart:
            self.groups.add(want.apart)
        self.taken = True
        return True


def _holds(have: dict[str, float], want: dict[str, float]) -> bool:
    return all(have.get(name, 0.0) + _BIT >= amount for name, amount in want.items() if amount)


def _size(want: Want) -> tuple[int, float]:
    return len(want.resources), sum(want.resources.values())


def _pack(wants: list[Want], rooms: list[_Room]) -> list[Want]:
    """Put what fits; the rest back."""
    return [w for w in sorted(wants, key=_size, reverse=True)
            if not any(room.take(w) for room in rooms)]  # fmt: skip


def _worth(kind: NodeType, wants: list[Want]) -> tuple[bool, float, float]:
    """How well a node of that type would be used. A GPU is not spent on what needs none."""
    room = _Room(dict(kind.resources), kind.labels)
    taken = [w for w in sorted(wants, key=_size, reverse=True) if room.take(w)]
    if not taken:
        return (False, -1.0, 0.0)
    wasteful = bool(kind.resources.get("GPU")) and not any(w.resources.get("GPU") for w in taken)
    used = [1 - room.free[name] / amount for name, amount in kind.resources.items() if amount]
    return (not wasteful, min(used) if used else 0.0, sum(used) / (len(used) or 1))


class _Planner:
    """One decision."""

    def __init__(self, config: Config, state: State) -> None:
        self.config, self.state, self.plan = config, state, Plan()
        self.count = {name: state.starting.get(name, 0) for name in config.types}
        for node in state.nodes:
            if node.type in self.count:
                self.count[node.type] += 1
        self.most = self._most_new()

    def _most_new(self) -> int:
        """How many more may be on their way: upscaling_speed times what is there."""
        there = sum(1 for n in self.state.nodes if n.type)
        under_way = sum(self.state.starting.values())
        return max(_AT_ONCE, round(self.config.upscaling_speed * there)) - under_way

    def may_start(self, name: str) -> bool:
        workers = sum(self.count.values())
        return (self.count[name] < self.config.types[name].max_workers
                and workers < self.config.max_workers and self.most > 0)  # fmt: skip

    def start(self, name: str) -> None:
        self.count[name] += 1
        self.most -= 1
        self.plan.start[name] = self.plan.start.get(name, 0) + 1

    def rooms(self, whole: bool) -> list[_Room]:
        """Of all nodes, those on their way too. whole: as if nothing ran there."""
        rooms = [_Room(dict(n.total if whole else n.free), n.labels, n.id)
                 for n in self.state.nodes]  # fmt: skip
        for source in (self.state.starting, self.plan.start):
            for name, count in source.items():
                kind = self.config.types.get(name)
                if kind:
                    rooms += [_Room(dict(kind.resources), kind.labels) for _ in range(count)]
        return rooms

    def grow(self, wants: list[Want], rooms: list[_Room]) -> None:
        """Start nodes until all fits, or nothing more may be started."""
        left = _pack(wants, rooms)
        for want in list(left):
            if not any(_Room(dict(k.resources), k.labels).take(want)
                       for k in self.config.types.values()):  # fmt: skip
                left.remove(want)
                self.plan.never.append(want)
        while left:
            ranked = [(_worth(kind, left), name) for name, kind in self.config.types.items()
                      if self.may_start(name)]  # fmt: skip
            ranked = [entry for entry in ranked if entry[0][1] >= 0]
            if not ranked:
                return
            name = max(ranked)[1]
            self.start(name)
            kind = self.config.types[name]
            left = _pack(left, [_Room(dict(kind.resources), kind.labels)])

    def shrink(self, needed: set[str]) -> None:
        """End what has been idle long enough, is above the least, and is not requested. needed:
        nodes on which something that waits has room. (The others may be in its way: they count
        as workers.)"""
        kept = list(self.state.nodes)
        for node in sorted(self.state.nodes, key=lambda n: -n.idle_s):
            kind = self.config.types.get(node.type or "")
            if kind is None or node.idle_s < self.config.idle_timeout_s or node.id in needed:
                continue
            if self.count[kind.name] <= kind.min_workers:
                continue
            others = [n for n in kept if n is not node]
            if _pack(self.state.requested, [_Room(dict(n.total), n.labels) for n in others]):
                continue
            kept = others
            self.count[kind.name] -= 1
            self.plan.end.append(node.id)


def decide(config: Config, state: State) -> Plan:
    """Which nodes to start, by type, which to end, and what can never be met."""
    planner = _Planner(config, state)
    for name, kind in config.types.items():
        while planner.count[name] < kind.min_workers and planner.may_start(name):
            planner.start(name)
    planner.grow(state.requested, planner.rooms(whole=True))
    rooms = planner.rooms(whole=False)
    planner.grow(state.waiting, rooms)
    if not planner.plan.start and not state.starting:
        planner.shrink({room.node for room in rooms if room.taken})
    return planner.plan
