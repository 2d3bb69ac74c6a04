"""The exchange: an actor of the driver's job that holds the refs which Spark's tasks made or read.

A ref cannot lie in a row of Spark: between the end of the task that wrote an object and the driver
that reads the row nobody would hold it. So the task gives each ref to the exchange before its end,
and sends a ticket along in the row; the driver claims the refs of its tickets. The other way round
the driver lays refs down, and tasks borrow them by their number.

What a task wrote has to outlive Spark's Python worker. A worker that joined the driver's own job
hands its objects to the driver when it ends, as every process of a job does. One that joined as a
program of its own does not: its objects are copied, on their node, by an actor of the driver's job.

Names: `publish` puts refs under a name, which the format "objects" reads and writes. A version
that was replaced stays until the next one replaces it, for those who are reading it.
"""

from __future__ import annotations

import asyncio
import collections
import os
import secrets
import threading
import time
from dataclasses import dataclass
from typing import Any

from skate.util.spark._queues import MAX_SEEN, QueueMethods

SPACE = "_skate_spark"  # the namespace of the exchange
MAX_REFS = 1_000_000  # of all transfers and names together
COPIER_IDLE_S = 60.0  # after that the process of a node that copies is given up
MAX_OVER = 4096  # ended transfers that are remembered, so that late tasks are refused


LOST = (
    "a node was lost while Spark's rows were written to it: do it again (Spark has computed the "
    "rows, but the node that held them is gone)"
)


@dataclass(frozen=True)
class Block:
    """What is known of an object without reading it. ticket: its name at the exchange."""

    ticket: str
    rows: int
    bytes: int
    node: str


@dataclass(frozen=True)
class Link:
    """How a task of Spark reaches the exchange of the driver's job. Pickles; holds no secret."""

    address: str  # of the cluster
    name: str  # of the exchange
    job: str  # the driver's
    home: str  # the driver's node

    def join(self) -> Any:
        """The exchange, from inside Spark's Python worker, which is attached if need be."""
        import skate
        from skate import _core
        from skate.util.spark._attach import attach

        _core.carry(self.address, int.from_bytes(bytes.fromhex(self.job), "little"))
        attach(self.address)
        key = (_core.epoch(), self.name)
        found = _handles.get(key)
        if found is None:
            try:
                found = skate.get_actor(self.name, namespace=SPACE)
            except ValueError:
                raise RuntimeError(
                    "The program that these objects belong to has ended, or called shutdown(): its "
                    "objects went with it. Call to_refs() or from_refs() again in a living program."
                ) from None
            _handles.clear()
            _handles[key] = found
        return found

    def is_foreign(self) -> bool:
        """Is this process a program of its own in the cluster, not a part of the driver's job?"""
        import skate

        return bool(skate.get_runtime_context().get_job_id() != self.job)


_handles: dict[tuple[int, str], Any] = {}
_lock = threading.Lock()


def link() -> Link:
    """The exchange of this program, started if need be. RuntimeError: it is in no cluster."""
    import skate
    from skate import _api, _core

    if not skate.is_initialized():
        if not (os.environ.get("SKATE_ADDRESS") or os.environ.get("RAY_ADDRESS")):
            raise RuntimeError(
                "This program is in no cluster: call setup_ray_cluster() or skate.init() before "
                "data can go between Spark and objects."
            )
        skate.init()
    context = skate.get_runtime_context()
    made = Link(
        _api.info()["gcs_address"],
        f"data-{context.get_job_id()}",
        context.get_job_id(),
        context.get_node_id(),
    )
    with _lock:
        key = (_core.epoch(), made.name)
        if key not in _handles:
            handle = _start(made)
            _handles.clear()
            _handles[key] = handle
    return made


def exchange(of: Link) -> Any:
    """The actor, in the driver."""
    from skate import _core

    return _handles[(_core.epoch(), of.name)]


def forget_all() -> None:
    """Drop what lies at this program's exchange, if it has one: names, and DataFrames of refs."""
    from skate import _core

    with _lock:
        for (epoch, _), handle in _handles.items():
            if epoch == _core.epoch():
                handle.forget_all.remote()


def _start(of: Link) -> Any:
    import skate
    from skate.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    near = NodeAffinitySchedulingStrategy(of.home, soft=True)
    actor = skate.remote(Exchange).options(
        name=of.name, namespace=SPACE, num_cpus=0, get_if_exists=True, scheduling_strategy=near
    )
    return actor.remote()


class Copier:
    """An actor on a node: what it returns lies there, and belongs to the exchange.

    An actor and not a task, since a process that has imported pyarrow already copies at once.
    """

    def __init__(self) -> None:
        import pyarrow

        del pyarrow

    def copy(self, table: Any) -> tuple[Any, int]:
        """The same table as a new object; the second result tells that it is there."""
        return table, 1


def start_copier(node: str) -> Any:
    """One on that node."""
    import skate
    from skate.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return skate.remote(Copier).options(num_cpus=0, scheduling_strategy=there).remote()


class Exchange(QueueMethods):
    """The actor. Refs come in lists, since a ref as an argument would be read."""

    def __init__(self) -> None:
        super().__init__()
        self._running: dict[str, dict[str, tuple[Any, Any]]] = {}  # transfer: ticket: ref, done
        self._over: collections.OrderedDict[str, None] = collections.OrderedDict()
        self._laid: dict[str, list[Any]] = {}  # read by number
        self._named: dict[str, Publication] = {}
        self._published: collections.OrderedDict[str, int] = collections.OrderedDict()
        self._count = 0
        self._copiers: dict[str, tuple[Any, float]] = {}  # node: actor, when it was used
        self._asked: dict[tuple[str, int], asyncio.Future[dict[int, list[Any]]]] = {}
        self._queue: asyncio.Queue[tuple[str, int]] = asyncio.Queue()

    # ------------------------------------------------------------------ from Spark

    def keep(self, transfer: str, ticket: str, held: list[Any], target: str | None) -> bool:
        """Hold a ref that a task wrote. target: the node to copy it to, None: as it is.

        False: the transfer is over; nobody would ever ask for it.
        """
        if transfer in self._over:
            return False
        self._room(1)
        kept = self._running.setdefault(transfer, {})
        if ticket not in kept:
            self._count += 1
        if target is None:
            kept[ticket] = held[0], None
        else:
            pair: Any = self._copier(target).copy.options(num_returns=2).remote(held[0])
            kept[ticket] = pair[0], pair[1]
        return True

    def expect(self, target: str) -> None:
        """A task will soon write what is to be copied to that node."""
        self._copier(target)

    def _copier(self, node: str) -> Any:
        now = time.monotonic()
        found = self._copiers.get(node)
        actor = found[0] if found else start_copier(node)
        self._copiers[node] = actor, now
        if found is None:
            asyncio.get_running_loop().call_later(COPIER_IDLE_S, self._give_up, node)
        return actor

    def _give_up(self, node: str) -> None:
        """Drop the handle of an idle one, which ends it; or look again later."""
        found = self._copiers.get(node)
        if found is None:
            return
        left = found[1] + COPIER_IDLE_S - time.monotonic()
        if left <= 0:
            del self._copiers[node]
        else:
            asyncio.get_running_loop().call_later(left, self._give_up, node)

    def start_anew(self) -> None:
        """A copy failed: its actor may be dead, the next transfer takes others."""
        self._copiers.clear()

    def claim(
        self, transfer: str, tickets: list[str], over: bool = True
    ) -> list[tuple[Any, Any]]:
        """The refs of the tickets, each with the ref to wait for; the transfer is over then."""
        kept = self._running.get(transfer, {})
        missing = [ticket for ticket in tickets if ticket not in kept]
        if missing:
            raise KeyError(f"the exchange has no {missing[0]} of {transfer}: was it restarted?")
        found = [kept[ticket] for ticket in tickets]
        if over:
            self.end(transfer)
        else:
            self._count -= len(self._running.pop(transfer, ()))
        return found

    def end(self, transfer: str) -> None:
        """The transfer is over: what was not claimed is dropped, and late tasks are refused."""
        self._count -= len(self._running.pop(transfer, ()))
        self._over[transfer] = None
        while len(self._over) > MAX_OVER:
            self._over.popitem(last=False)

    # -------------------------------------------------------------------- to Spark

    def lay(self, name: str, refs: list[Any]) -> None:
        """Hold refs that tasks will read by their number."""
        self._room(len(refs))
        self._count += len(refs)
        self._laid[name] = refs

    def lend(self, name: str, number: int) -> list[Any]:
        """One of them, in a list. KeyError: they were released."""
        return [self._laid[name][number]]

    def all(self, name: str) -> list[Any]:
        """All of them."""
        return self._laid[name]

    def release(self, name: str) -> None:
        """They are not read any more. Unknown names are fine."""
        self._count -= len(self._laid.pop(name, ()))

    def forget_all(self) -> None:
        """Nobody reads any more: all that was laid down, and all names."""
        self._named.clear()
        for name in list(self._laid):
            self.release(name)

    # ----------------------------------------------------------------------- names

    def publish(self, name: str, what: Publication, refs: list[Any], append: bool) -> int:
        """Put refs under a name, in place of those or behind those that are there.

        The number of the version. what.once: the same batch of the same query is taken once.
        """
        old = self._named.get(name)
        seen = dict(old.seen or {}) if old else {}
        if what.once is not None:
            query, batch = what.once
            if old and seen.get(query, -1) >= batch:
                return old.version
            seen.pop(query, None)
            seen[query] = batch
            if len(seen) > MAX_SEEN:
                del seen[next(iter(seen))]  # the one longest silent
        blocks = list(what.blocks)
        if append and old:
            if old.schema != what.schema:
                raise ValueError(
                    f"{name!r} has other columns than what is appended: write it with "
                    "mode('overwrite'), or under another name."
                )
            refs = self._laid[old.laid] + refs
            blocks = old.blocks + blocks
        version = old.version + 1 if old else 1
        laid = f"{name}@{version}-{secrets.token_hex(8)}"  # a name may be withdrawn and come again
        made = Publication(
            what.schema, blocks, None, version, laid, seen, old.laid if old else ""
        )
        self.lay(made.laid, refs)
        self._named[name] = made
        if old:
            self.release(old.before)
        return version

    async def publish_claimed(
        self, name: str, what: Publication, transfer: str, append: bool
    ) -> int:
        """As publish(), of what the tasks of a transfer wrote; waits until the copies are there.

        May be asked twice: who asks may have lost the first answer with its node.
        """

        async def publish() -> int:
            if transfer in self._published:
                return self._published[transfer]
            version = await self._publish_claimed(name, what, transfer, append)
            self._published[transfer] = version
            while len(self._published) > MAX_OVER:
                self._published.popitem(last=False)
            return version

        return int(await self.one_at_a_time(transfer, publish))

    async def _publish_claimed(
        self, name: str, what: Publication, transfer: str, append: bool
    ) -> int:
        refs = await self.take_written(transfer, [block.ticket for block in what.blocks])
        return self.publish(name, what, refs, append)

    async def publish_written(self, name: str, what: Publication, transfer: str) -> int:
        """The same of a stream's batch (what.once), in the place of the last one."""

        async def publish() -> int:
            old = self._named.get(name)
            if old and what.once and (old.seen or {}).get(what.once[0], -1) >= what.once[1]:
                self.end(transfer)
                return old.version
            return await self._publish_claimed(name, what, transfer, False)

        return int(await self.one_at_a_time(transfer, publish))

    async def take_written(self, transfer: str, tickets: list[str]) -> list[Any]:
        """claim(), and wait until the copies are there. RuntimeError: a node was lost."""
        kept = self.claim(transfer, tickets)
        try:
            await asyncio.gather(*[done for _, done in kept if done is not None])
        except Exception as error:
            self.start_anew()
            raise RuntimeError(LOST) from error
        return [ref for ref, _ in kept]

    async def settled(self, transfer: str, tickets: list[str]) -> None:
        """Wait until the copies of what a task wrote are there. RuntimeError: a node was lost."""
        kept = self._running.get(transfer, {})
        try:
            await asyncio.gather(*[kept[t][1] for t in tickets if t in kept and kept[t][1]])
        except Exception as error:
            self.start_anew()
            raise RuntimeError(LOST) from error

    def forget(self, transfer: str, tickets: list[str]) -> None:
        """Drop what a task wrote that failed."""
        kept = self._running.get(transfer, {})
        self._count -= len([kept.pop(ticket) for ticket in tickets if ticket in kept])

    def end_attempts(self, transfer: str) -> None:
        """End a transfer, and others of its query and stream that are not being published."""
        of = transfer.rpartition("-")[0]
        for name in [name for name in self._running if name.rpartition("-")[0] == of]:
            if name not in self._ending:
                self.end(name)
        self.end(transfer)

    def describe(self, name: str) -> Publication | None:
        """What stands under a name now. None: nothing."""
        return self._named.get(name)

    def withdraw(self, name: str) -> bool:
        """Forget a name, and the refs under it. False: there is none."""
        found = self._named.pop(name, None)
        if found is None:
            return False
        self.release(found.laid)
        self.release(found.before)
        return True

    def names(self) -> list[str]:
        """All names."""
        return sorted(self._named)

    # ---------------------------------------------------------------- what was lost

    async def again(self, transfer: str, partition: int) -> dict[int, list[Any]]:
        """The refs of a partition that Spark computes again, by piece; waits for the driver."""
        key = (transfer, partition)
        if key not in self._asked:
            self._asked[key] = asyncio.get_running_loop().create_future()
            self._queue.put_nowait(key)
        return await asyncio.shield(self._asked[key])

    async def wanted(self, seconds: float) -> tuple[str, int] | None:
        """For the driver: the next partition that is to be computed again, if one is in time."""
        try:
            return await asyncio.wait_for(self._queue.get(), seconds)
        except TimeoutError:
            return None

    async def answer(
        self, transfer: str, partition: int, refs: dict[int, list[Any]], error: str
    ) -> None:
        """The driver's answer, to all who wait."""
        asked = self._asked.pop((transfer, partition), None)
        if asked is None:
            return
        if error:
            asked.set_exception(RuntimeError(error))
        else:
            asked.set_result(refs)

    def _room(self, more: int) -> None:
        if self._count + more > MAX_REFS:
            raise MemoryError(
                f"the exchange between Spark and objects holds {MAX_REFS} refs already: release() "
                "DataFrames that are not read any more, or write fewer, larger partitions."
            )


@dataclass(frozen=True)
class Publication:
    """What stands under a name. schema: of Arrow, serialised. once: (query, batch) of a stream."""

    schema: bytes
    blocks: list[Block]
    once: tuple[str, int] | None = None
    version: int = 0
    laid: str = ""
    seen: dict[str, int] | None = None
    before: str = ""  # the version before, which may still be read
