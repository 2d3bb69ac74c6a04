"""Queues of the exchange: batches of refs in order, from Spark's streams to tasks and back.

A batch is taken once for each (query, number) that its writer gives it, whatever is tried again;
it stays until a reader said that it is done with it. A full queue holds its writers back. Runs in
the exchange's actor, on its loop; knows refs only as things to hold.
"""

from __future__ import annotations

import asyncio
import collections
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skate.util.spark._exchange import Block

MAX_QUEUES = 10_000
MAX_SEEN = 4096  # queries whose last batch a queue or name remembers; the longest silent goes


@dataclass(frozen=True)
class Bounds:
    """When a queue is full, and how long a writer waits then before it fails."""

    batches: int = 64
    bytes: int = 1 << 30
    seconds: float = 300.0


@dataclass(frozen=True)
class Batch:
    """A batch of a queue. schema: of Arrow, serialised. once: (query, number) of its writer."""

    schema: bytes
    blocks: list[Block]
    once: tuple[str, int] | None = None
    number: int = -1  # its place in the queue, from 0

    @property
    def bytes(self) -> int:
        """What its blocks take; blocks of unknown size count as nothing."""
        return sum(max(0, block.bytes) for block in self.blocks)


class Queue:
    """One queue: what it holds, what it has seen, and who waits for a change."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.uid = secrets.token_hex(8)  # tells it from another one of the same name
        self.held: collections.deque[tuple[Batch, list[Any]]] = collections.deque()
        self.first = 0  # the number of the first that is held, or will be
        self.bytes = 0
        self.ended = self.gone = False
        self.reader: str | None = None
        self.schema: bytes | None = None
        self.seen: collections.OrderedDict[str, int] = collections.OrderedDict()
        self.changed = asyncio.Condition()

    @property
    def next(self) -> int:
        """The number of the next batch."""
        return self.first + len(self.held)

    def is_full(self, bounds: Bounds) -> bool:
        """Is there no room for one more? An empty one has room for a batch of any size."""
        return bool(self.held) and (
            len(self.held) >= bounds.batches or self.bytes >= bounds.bytes
        )

    def was_seen(self, once: tuple[str, int] | None) -> bool:
        """Was this batch, or a later one of its query, taken before?"""
        return once is not None and self.seen.get(once[0], -1) >= once[1]

    def put(self, batch: Batch, refs: list[Any]) -> None:
        """Take it; ValueError: its columns are not those of the queue."""
        if self.schema is not None and batch.schema != self.schema:
            raise ValueError(
                f"the stream {self.name!r} has other columns than this batch: write it under "
                f"another name, or forget the old one first: drop_stream({self.name!r})."
            )
        self.schema = batch.schema
        if batch.once is not None:
            self.seen[batch.once[0]] = batch.once[1]
            self.seen.move_to_end(batch.once[0])
            while len(self.seen) > MAX_SEEN:
                self.seen.popitem(last=False)
        self.ended = False
        if not refs:
            return
        kept = Batch(batch.schema, batch.blocks, batch.once, self.next)
        self.held.append((kept, refs))
        self.bytes += kept.bytes

    def drop(self, end: int) -> int:
        """Forget the batches before the number `end`; how many refs that were."""
        count = 0
        while self.held and self.first < end:
            batch, refs = self.held.popleft()
            self.bytes -= batch.bytes
            self.first += 1
            count += len(refs)
        return count

    def at(self, number: int) -> tuple[Batch, list[Any]] | None:
        """The batch of this number. None: it was dropped, or is not there yet."""
        place = number - self.first
        return self.held[place] if 0 <= place < len(self.held) else None

    async def until(self, ready: Callable[[], bool], seconds: float) -> bool:
        """Wait for it; False: not in time."""
        if ready():
            return True
        async with self.changed:
            try:
                await asyncio.wait_for(self.changed.wait_for(ready), seconds)
            except TimeoutError:
                return False
            return True

    async def tell(self) -> None:
        """Wake all who wait."""
        async with self.changed:
            self.changed.notify_all()


FULL = (
    "the stream {name!r} is full ({batches} batches, {bytes} bytes) and nobody has read any for "
    "{seconds:g} s: read it (read_stream({name!r}), or a query), or raise the limit that holds it "
    "back: maxBatches ({limits.batches}), maxBytes ({limits.bytes}), timeout."
)
TAKEN = "another read_stream({!r}) has begun: a stream has one reader, the last one"
DROPPED = (
    "the stream {!r} was dropped (drop_stream) while this waited for it, or was not done with it"
)
STALE = (
    "batch {start} of the stream {name!r} is not there any more: it was dropped with the stream, "
    "or when another reader was done with it; or this checkpoint is of an earlier program, whose "
    "objects ended with it. Start with another checkpointLocation."
)


def transfer_of(query: str, stream: str, nonce: str) -> str:
    """The name of an attempt to write a query's batch into a stream; another has another nonce."""
    return f"s-{len(query)}:{query}:{stream}-{nonce}"


class QueueMethods:
    """The exchange's methods about queues. Refs come in lists, as everywhere in the exchange."""

    _count: int

    def __init__(self) -> None:
        self._queues: dict[str, Queue] = {}
        self._ending: dict[str, asyncio.Future[Any]] = {}  # transfers that are being published

    def _room(self, more: int) -> None:
        raise NotImplementedError

    async def take_written(self, transfer: str, tickets: list[str]) -> list[Any]:
        """The refs that tasks of a transfer wrote, when they are there to stay."""
        raise NotImplementedError

    def end_attempts(self, transfer: str) -> None:
        """End a transfer, and others of its query and stream that are not being published."""
        raise NotImplementedError

    def _queue_of(self, name: str) -> Queue:
        found = self._queues.get(name)
        if found is None:
            if len(self._queues) >= MAX_QUEUES:
                raise MemoryError(
                    f"there are {MAX_QUEUES} streams already: drop_stream() those that are done"
                )
            found = self._queues[name] = Queue(name)
        return found

    # ------------------------------------------------------------------------------- to it

    async def push(self, name: str, batch: Batch, refs: list[Any], bounds: Bounds) -> bool:
        """Put a batch at the end, when there is room. False: it was taken before.

        TimeoutError: no room in bounds.seconds.
        """
        queue = self._queue_of(name)

        def ready() -> bool:
            return queue.gone or queue.was_seen(batch.once) or not queue.is_full(bounds)

        if not await queue.until(ready, bounds.seconds):
            raise TimeoutError(
                FULL.format(name=name, batches=len(queue.held), bytes=queue.bytes,
                            seconds=bounds.seconds, limits=bounds)
            )  # fmt: skip
        if queue.gone:
            raise RuntimeError(DROPPED.format(name))
        if queue.was_seen(batch.once):
            return False
        self._room(len(refs))
        queue.put(batch, refs)
        self._count += len(refs)
        await queue.tell()
        return True

    async def push_written(self, name: str, batch: Batch, transfer: str, bounds: Bounds) -> bool:
        """As push(), of what the tasks of a transfer wrote; the transfer is over then.

        May be asked twice: who asks may have lost the first answer with its node.
        """
        return bool(
            await self.one_at_a_time(
                transfer, lambda: self._push_written(name, batch, transfer, bounds)
            )
        )

    async def one_at_a_time(self, transfer: str, start: Callable[[], Any]) -> Any:
        """What start() gives; of the one that runs for this transfer, when one does."""
        running = self._ending.get(transfer)
        if running is None:
            running = self._ending[transfer] = asyncio.ensure_future(start())
            running.add_done_callback(lambda _: self._ending.pop(transfer, None))
        return await asyncio.shield(running)

    async def _push_written(
        self, name: str, batch: Batch, transfer: str, bounds: Bounds
    ) -> bool:
        queue = self._queue_of(name)
        try:
            if queue.was_seen(batch.once):
                return False
            refs = await self.take_written(transfer, [block.ticket for block in batch.blocks])
            return await self.push(name, batch, refs, bounds)
        finally:
            self.end_attempts(transfer)  # what attempts of this query left that nobody committed

    def was_taken(self, name: str, once: tuple[str, int]) -> bool:
        """Did the queue take this batch before?"""
        found = self._queues.get(name)
        return found is not None and found.was_seen(once)

    async def end_queue(self, name: str) -> None:
        """Readers stop behind what is there now. A later batch opens it again."""
        queue = self._queue_of(name)
        queue.ended = True
        await queue.tell()

    async def drop_queue(self, name: str) -> bool:
        """Forget a queue and what it holds. False: there is none."""
        queue = self._queues.pop(name, None)
        if queue is None:
            return False
        queue.gone = True
        self._count -= queue.drop(queue.next)
        await queue.tell()
        return True

    def queues(self) -> list[str]:
        """All names."""
        return sorted(self._queues)

    # ----------------------------------------------------------------------------- from it

    def read_queue(self, name: str, reader: str) -> int:
        """A reader takes the queue over from the last one; the number of its first batch."""
        queue = self._queue_of(name)
        queue.reader = reader
        return queue.first

    async def pull(
        self, name: str, reader: str, number: int, seconds: float
    ) -> tuple[str, Batch | None, list[Any]]:
        """("batch", it, refs) of that number; "end", "wait" after so many seconds.

        All batches before it are done, and dropped.
        """
        queue = self._queue_read_by(name, reader)
        await self.done(name, reader, number)

        def ready() -> bool:
            return (
                queue.gone or queue.ended or queue.reader != reader or queue.at(number) is not None
            )

        in_time = await queue.until(ready, seconds)
        self._check_reader(queue, reader)
        found = queue.at(number)
        if found is not None:
            return "batch", found[0], found[1]
        return ("end" if in_time else "wait"), None, []

    async def done(self, name: str, reader: str, end: int) -> None:
        """The reader is done with the batches before that number."""
        queue = self._queue_read_by(name, reader)
        self._count -= queue.drop(end)
        await queue.tell()

    def _queue_read_by(self, name: str, reader: str) -> Queue:
        """RuntimeError: the queue was dropped (and maybe made anew), or has another reader."""
        queue = self._queues.get(name)
        if queue is None or queue.reader is None:
            raise RuntimeError(DROPPED.format(name))
        self._check_reader(queue, reader)
        return queue

    def _check_reader(self, queue: Queue, reader: str) -> None:
        if queue.gone:
            raise RuntimeError(DROPPED.format(queue.name))
        if queue.reader != reader:
            raise RuntimeError(TAKEN.format(queue.name))

    # ------------------------------------------------------------------ of Spark's source

    def queue_state(self, name: str) -> tuple[str, int, int, bytes | None]:
        """Its identity, the number of the first and of the next batch, and the schema."""
        queue = self._queue_of(name)
        return queue.uid, queue.first, queue.next, queue.schema

    def queue_blocks(self, name: str, uid: str, start: int, end: int) -> list[tuple[int, int]]:
        """(batch, block) of the batches from start to before end. KeyError: they were dropped."""
        found = [(n, self._held(name, uid, n)) for n in range(start, end)]
        return [(n, i) for n, (_, refs) in found for i in range(len(refs))]

    def queue_block(self, name: str, uid: str, number: int, block: int) -> list[Any]:
        """One ref, in a list. KeyError: the batch was dropped."""
        return [self._held(name, uid, number)[1][block]]

    def _held(self, name: str, uid: str, number: int) -> tuple[Batch, list[Any]]:
        queue = self._queues.get(name)
        found = queue.at(number) if queue is not None and queue.uid == uid else None
        if found is None:
            raise KeyError(f"batch {number} of {name!r}")
        return found

    async def queue_drop(self, name: str, uid: str, end: int) -> None:
        """A query is done with the batches before that number. Others' queues are left alone."""
        queue = self._queues.get(name)
        if queue is not None and queue.uid == uid:
            self._count -= queue.drop(end)
            await queue.tell()
