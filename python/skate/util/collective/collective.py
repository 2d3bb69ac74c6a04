"""The operations. What the ranks give meets in one async actor for each group, as refs.

Every operation of a group has a number, the same on all ranks, which therefore must call the same
operations in the same order. Who waits longer than the group's timeout for the others gets a
RuntimeError that names the ranks that did not come.
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

import skate
from skate.util.collective.types import ReduceOp

_SPACE = "skate.collective"
_SLICED = 1 << 20  # bytes: from here on each rank reduces a slice of its own
_APPLY = {
    ReduceOp.SUM: np.add,
    ReduceOp.PRODUCT: np.multiply,
    ReduceOp.MIN: np.minimum,
    ReduceOp.MAX: np.maximum,
}


class _Meeting:
    """Where the ranks of a group meet: what they give is refs, in lists so that they stay refs."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._given: dict[Any, dict[int, Any]] = {}
        self._taken: dict[Any, int] = {}
        self._events: dict[Any, asyncio.Event] = {}
        self._ranks: dict[str, int] = {}  # of create_collective_group: actor -> rank

    async def world(self) -> int:
        return self.size

    async def set_ranks(self, ranks: dict[str, int]) -> None:
        self._ranks = ranks

    async def rank_of(self, actor: str) -> int | None:
        return self._ranks.get(actor)

    async def exchange(
        self, key: Any, rank: int, given: Any, wanted: int, takers: int, timeout: float
    ) -> dict[int, Any]:
        """Give something; all that was given when `wanted` ranks have, forgotten after `takers`."""
        there = self._given.setdefault(key, {})
        event = self._events.setdefault(key, asyncio.Event())
        if given is not None:
            if rank in there:
                raise RuntimeError(f"rank {rank} takes part twice in operation {key}")
            there[rank] = given
        if len(there) >= wanted:
            event.set()
        try:
            await asyncio.wait_for(event.wait(), timeout)
        except TimeoutError:
            missing = sorted(set(range(self.size)) - set(there))
            raise RuntimeError(
                f"rank {rank} has waited {timeout} s in operation {key}; not there: ranks {missing}"
            ) from None
        self._taken[key] = self._taken.get(key, 0) + 1
        if self._taken[key] == takers:
            for table in (self._given, self._taken, self._events):
                table.pop(key, None)
        return there


class _Group:
    """A group as one rank sees it."""

    def __init__(self, name: str, size: int, rank: int, meeting: Any, timeout: float) -> None:
        self.name = name
        self.size = size
        self.rank = rank
        self.meeting = meeting
        self.timeout = timeout
        self._count = 0
        self._letters: dict[tuple[int, int], int] = {}
        self._kept: list[Any] = []  # what was given last: others may still read it

    def exchange(self, given: Any) -> list[Any]:
        """What all ranks give, by rank."""
        self._count += 1
        ref = skate.put(given)
        there = skate.get(self.meeting.exchange.remote(
            ("all", self._count), self.rank, [ref], self.size, self.size, self.timeout
        ))  # fmt: skip
        self._kept = [*self._kept[-1:], ref]
        return [there[rank][0] for rank in range(self.size)]

    def letter(self, other: int, given: Any) -> Any:
        """To another rank, or (given is None) from it."""
        pair = (self.rank, other) if given is not None else (other, self.rank)
        number = self._letters[pair] = self._letters.get(pair, 0) + 1
        box = None
        if given is not None:
            self._kept = [*self._kept[-8:], ref := skate.put(given)]
            box = [ref]
        there = skate.get(self.meeting.exchange.remote(
            ("pair", *pair, number), self.rank, box, 1, 2, self.timeout
        ))  # fmt: skip
        return None if given is not None else skate.get(there[other][0])


_groups: dict[str, _Group] = {}


def _check_backend(backend: Any) -> None:
    name = str(getattr(backend, "value", backend)).upper()
    if name == "NCCL":
        from skate.exceptions import NotSupportedError

        raise NotSupportedError(
            "the backend NCCL is not in Skate yet. Meanwhile: backend='gloo' works on arrays and "
            "tensors of the CPU; torch.distributed in actors does GPUs"
        )
    if name not in ("GLOO", "TORCH_GLOO"):
        raise ValueError(f"the backend is 'gloo', not {backend!r}")


def _check_sizes(world_size: Any, ranks: list[Any]) -> None:
    if not isinstance(world_size, int) or world_size < 1:
        raise RuntimeError(f"world_size must be a positive int, not {world_size!r}")
    for rank in ranks:
        if not isinstance(rank, int) or not 0 <= rank < world_size:
            raise RuntimeError(f"a rank is from 0 to {world_size - 1}, not {rank!r}")


def _meeting(name: str, world_size: int) -> Any:
    options = {"name": f"group:{name}", "namespace": _SPACE, "get_if_exists": True, "num_cpus": 0}
    made = skate.remote(_Meeting).options(**options).remote(world_size)
    size = skate.get(made.world.remote())
    if size != world_size:
        raise RuntimeError(f"the group {name!r} was made with world_size {size}, not {world_size}")
    return made


def init_collective_group(
    world_size: int,
    rank: int,
    backend: Any = "gloo",
    group_name: str = "default",
    gloo_timeout: int = 30000,
) -> None:
    """Take part in a group from now on, in this process. All ranks call it, in any order.

    gloo_timeout: milliseconds that an operation waits for the other ranks.
    """
    _check_backend(backend)
    if not group_name:
        raise ValueError("group_name must not be empty")
    _check_sizes(world_size, [rank])
    if group_name in _groups:
        raise RuntimeError(f"this process is in the group {group_name!r} already")
    meeting = _meeting(group_name, world_size)
    _groups[group_name] = _Group(group_name, world_size, rank, meeting, gloo_timeout / 1000)


def create_collective_group(
    actors: list[Any],
    world_size: int,
    ranks: list[int],
    backend: Any = "gloo",
    group_name: str = "default",
    gloo_timeout: int = 30000,
) -> None:
    """Make a group of actors from outside; each joins it at its first operation."""
    _check_backend(backend)
    _check_sizes(world_size, ranks)
    if len(actors) != world_size or len(ranks) != len(actors):
        raise RuntimeError(f"{len(actors)} actors and {len(ranks)} ranks for {world_size} places")
    if len(set(ranks)) != len(ranks) or len(set(actors)) != len(actors):
        raise RuntimeError("each actor has one rank, each rank one actor")
    meeting = _meeting(group_name, world_size)
    by_actor = {actor._actor_id.hex(): rank for actor, rank in zip(actors, ranks, strict=True)}
    skate.get(meeting.set_ranks.remote(by_actor))
    _made[group_name] = meeting


_made: dict[str, Any] = {}  # keeps groups that were made from outside


def is_group_initialized(group_name: str = "default") -> bool:
    """Is this process in the group?"""
    return group_name in _groups


def _group(name: str) -> _Group:
    if name not in _groups:
        _join(name)
    return _groups[name]


def _join(name: str) -> None:
    """A group that was made from outside."""
    own = skate.get_runtime_context().get_actor_id()
    try:
        meeting = skate.get_actor(f"group:{name}", _SPACE) if own else None
    except ValueError:
        meeting = None
    rank = skate.get(meeting.rank_of.remote(own)) if meeting is not None else None
    if meeting is None or rank is None:
        raise RuntimeError(
            f"this process is not in the group {name!r}: call init_collective_group() first"
        )
    size = skate.get(meeting.world.remote())
    _groups[name] = _Group(name, size, rank, meeting, 30.0)


def get_rank(group_name: str = "default") -> int:
    """The rank of this process, -1 when it is not in the group."""
    try:
        return _group(group_name).rank
    except RuntimeError:
        return -1


def get_collective_group_size(group_name: str = "default") -> int:
    """How many ranks the group has, -1 when this process is not in it."""
    try:
        return _group(group_name).size
    except RuntimeError:
        return -1


def destroy_collective_group(group_name: str = "default") -> None:
    """Take part no more; the group ends with its last process."""
    _groups.pop(group_name, None)
    _made.pop(group_name, None)


def gloo_available() -> bool:
    """Are there operations on the CPU? Yes."""
    return True


def nccl_available() -> bool:
    """Is there NCCL? No."""
    return False


# ------------------------------------------------------------------------------ operations


def _array(tensor: Any) -> np.ndarray[Any, Any]:
    """The numbers of an array or tensor of the CPU, not copied."""
    if isinstance(tensor, np.ndarray):
        return tensor
    if type(tensor).__module__.partition(".")[0] == "torch" and hasattr(tensor, "detach"):
        return np.asarray(tensor.detach().numpy())
    raise RuntimeError(f"a numpy array or a torch tensor of the CPU is needed, not {type(tensor)}")


def _target(tensor: Any) -> np.ndarray[Any, Any]:
    array = _array(tensor)
    if not array.flags.writeable:
        raise RuntimeError("the result goes into the array, which is read-only: copy() it first")
    return array


def _reduced(parts: list[Any], op: ReduceOp) -> np.ndarray[Any, Any]:
    first = parts[0]
    for part in parts[1:]:
        if part.shape != first.shape or part.dtype != first.dtype:
            raise RuntimeError(
                f"the ranks give different arrays: {first.dtype}{list(first.shape)} and "
                f"{part.dtype}{list(part.shape)}"
            )
    out = np.array(first)
    for part in parts[1:]:
        _APPLY[op](out, part, out=out)
    return out


def allreduce(tensor: Any, group_name: str = "default", op: ReduceOp = ReduceOp.SUM) -> None:
    """Every rank's tensor becomes the reduction of all."""
    group, target = _group(group_name), _target(tensor)
    refs = group.exchange(np.ascontiguousarray(target))
    if target.nbytes < _SLICED or group.size == 1:
        target[...] = _reduced(skate.get(refs), op)
        return
    flat = [part.reshape(-1) for part in skate.get(refs)]
    if len({part.size for part in flat}) > 1:
        raise RuntimeError(f"the ranks give arrays of {[part.size for part in flat]} numbers")
    bounds = [flat[0].size * i // group.size for i in range(group.size + 1)]
    low, high = bounds[group.rank], bounds[group.rank + 1]
    own = _reduced([part[low:high] for part in flat], op)
    slices = skate.get(group.exchange(own))
    target[...] = np.concatenate(slices).reshape(target.shape)


def reduce(
    tensor: Any, dst_rank: int = 0, group_name: str = "default", op: ReduceOp = ReduceOp.SUM
) -> None:
    """The tensor of dst_rank becomes the reduction of all; the others keep theirs."""
    group = _group(group_name)
    _check_sizes(group.size, [dst_rank])
    refs = group.exchange(np.ascontiguousarray(_array(tensor)))
    if group.rank == dst_rank:
        _target(tensor)[...] = _reduced(skate.get(refs), op)


def broadcast(tensor: Any, src_rank: int = 0, group_name: str = "default") -> None:
    """Every rank's tensor becomes that of src_rank."""
    group = _group(group_name)
    _check_sizes(group.size, [src_rank])
    mine = group.rank == src_rank
    target = _array(tensor) if mine else _target(tensor)
    refs = group.exchange(np.ascontiguousarray(target) if mine else None)
    if not mine:
        target[...] = skate.get(refs[src_rank])


def allgather(tensor_list: list[Any], tensor: Any, group_name: str = "default") -> None:
    """tensor_list[i] becomes the tensor of rank i."""
    group = _group(group_name)
    if not isinstance(tensor_list, list) or len(tensor_list) != group.size:
        raise RuntimeError(f"tensor_list must be a list of {group.size} tensors")
    parts = skate.get(group.exchange(np.ascontiguousarray(_array(tensor))))
    for target, part in zip(tensor_list, parts, strict=True):
        _target(target)[...] = part


def reducescatter(
    tensor: Any, tensor_list: list[Any], group_name: str = "default", op: ReduceOp = ReduceOp.SUM
) -> None:
    """tensor becomes the reduction of what all ranks have at their tensor_list[own rank]."""
    group = _group(group_name)
    if not isinstance(tensor_list, list) or len(tensor_list) != group.size:
        raise RuntimeError(f"tensor_list must be a list of {group.size} tensors")
    given = [skate.put(np.ascontiguousarray(_array(part))) for part in tensor_list]
    rows = skate.get(group.exchange(given))
    _target(tensor)[...] = _reduced(skate.get([row[group.rank] for row in rows]), op)


def send(tensor: Any, dst_rank: int, group_name: str = "default") -> None:
    """To one rank, which calls recv()."""
    group = _group(group_name)
    _check_other(group, dst_rank)
    group.letter(dst_rank, np.ascontiguousarray(_array(tensor)))


def recv(tensor: Any, src_rank: int, group_name: str = "default") -> None:
    """The tensor becomes what src_rank sends."""
    group = _group(group_name)
    _check_other(group, src_rank)
    _target(tensor)[...] = group.letter(src_rank, None)


def _check_other(group: _Group, rank: int) -> None:
    _check_sizes(group.size, [rank])
    if rank == group.rank:
        raise RuntimeError(f"rank {rank} cannot send to itself")


def barrier(group_name: str = "default") -> None:
    """Until all ranks have come here."""
    _group(group_name).exchange(None)
