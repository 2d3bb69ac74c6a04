"""to_refs(recover=True): what is lost with its node is computed again by Spark.

Each block is the result of a task `hold`, whose first run takes the object that Spark's task wrote.
When the result is lost, Skate runs that task again, as any task (lineage); the object is gone then,
and `hold` asks the exchange for it. A thread of the driver hears of it, has Spark run that one
partition again, and answers. So get() of a lost block takes longer, and that is all.
"""

from __future__ import annotations

import collections
import threading
from typing import Any

from skate.util.spark import _blocks, _exchange
from skate.util.spark._exchange import Block, Link
from skate.util.spark._transfer import Refs, blocks_of, empty

MAX_TRANSFERS = 1000  # the newest so many can be computed again
LISTEN_S = 30.0

_plans: collections.OrderedDict[str, Any] = collections.OrderedDict()  # transfer: RDD of its rows
_listeners: dict[tuple[int, str], threading.Thread] = {}
_lock = threading.Lock()


def to_refs(df: Any, writing: _blocks.Writing, schema: Any) -> Refs:
    """As _transfer.to_refs(); writing.home says where the blocks lie."""
    from skate.exceptions import NotSupportedError

    if not hasattr(df, "_jdf"):
        raise NotSupportedError(
            "to_refs(recover=True) needs a session that is not of Spark Connect: Connect cannot "
            "run one partition again. Leave recover out, and call to_refs() again after a loss."
        )
    link = writing.link
    exchange = _exchange.exchange(link)
    home = link.home if writing.home else None
    writing = _blocks.Writing(link, writing.transfer, writing.block_bytes, raw=True)

    def write(batches: Any) -> Any:
        from skate.util.spark import _blocks

        yield from _blocks.write_rows(writing, batches)

    plan = df.mapInArrow(write, _blocks.ROWS_DDL).rdd
    try:
        rows = plan.collect()
        blocks = blocks_of(rows)  # sorts the rows
        if not blocks:
            return Refs(*empty(schema))
        _remember(writing.transfer, plan)
        _listen(link)
        return Refs(_held(exchange, writing, rows, home), schema, _placed(blocks, home))
    except BaseException:
        exchange.end.remote(writing.transfer)
        raise


def _placed(blocks: list[Block], home: str | None) -> list[Block]:
    return [Block("", b.rows, b.bytes, home or b.node) for b in blocks]


def _held(exchange: Any, writing: _blocks.Writing, rows: list[Any], home: str | None) -> list[Any]:
    """The results of `hold` for the rows, when all are there; then the first objects may go."""
    import skate
    from skate.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    transfer = writing.transfer
    tickets = [row["ticket"] for row in rows]
    first = skate.get(exchange.claim.remote(transfer, tickets, False))
    skate.get(exchange.lay.remote(transfer, [ref for ref, _ in first]))
    del first
    hold_task = skate.remote(hold)
    made: list[Any] = []  # pairs of refs
    for number, row in enumerate(rows):
        there = NodeAffinitySchedulingStrategy(home or row["node"], soft=True)
        task = hold_task.options(
            num_cpus=0, num_returns=2, max_retries=-1, scheduling_strategy=there
        )
        made.append(task.remote(writing.link, transfer, number, (row["partition"], row["piece"])))
    skate.get([done for _, done in made])
    skate.get(exchange.release.remote(transfer))
    return [ref for ref, _ in made]


def hold(link: Link, transfer: str, number: int, place: tuple[int, int]) -> tuple[Any, int]:
    """A Skate task: the block, as it was written first, or computed again."""
    import skate

    exchange = skate.get_actor(link.name, namespace=_exchange.SPACE)
    partition, piece = place
    try:
        [ref] = skate.get(exchange.lend.remote(transfer, number))
        return skate.get(ref), 1
    except (KeyError, skate.exceptions.ObjectLostError):
        pass
    found = skate.get(exchange.again.remote(transfer, partition))
    if piece not in found:
        raise RuntimeError(
            f"partition {partition} of the DataFrame was computed again and has fewer rows than "
            "before: what it is made of has changed, or is random."
        )
    return skate.get(found[piece][0]), 1


# -------------------------------------------------------------------------- the driver's thread


def _remember(transfer: str, plan: Any) -> None:
    with _lock:
        _plans[transfer] = plan
        while len(_plans) > MAX_TRANSFERS:
            _plans.popitem(last=False)


def _listen(link: Link) -> None:
    """One thread for each session, which ends with it."""
    from skate import _core

    key = (_core.epoch(), link.name)
    with _lock:
        found = _listeners.get(key)
        if found is None or not found.is_alive():
            _listeners.clear()
            _listeners[key] = threading.Thread(
                target=_answer, args=(_exchange.exchange(link), key[0]), daemon=True,
                name="skate-spark-recover",
            )  # fmt: skip
            _listeners[key].start()


def _answer(exchange: Any, epoch: int) -> None:
    import skate
    from skate import _core

    while _core.epoch() == epoch:
        try:
            wanted = skate.get(exchange.wanted.remote(LISTEN_S))
        except Exception:
            return  # the session is over
        if wanted is None:
            continue
        transfer, partition = wanted
        try:
            refs, error = _again(exchange, transfer, partition), ""
        except Exception as failed:
            refs, error = {}, (
                f"partition {partition} of a DataFrame was lost with its node and cannot be "
                f"computed again, since Spark could not: {_short(failed)}"
            )
        exchange.answer.remote(transfer, partition, refs, error)


def _again(exchange: Any, transfer: str, partition: int) -> dict[int, list[Any]]:
    """Have Spark run the partition; its refs by the number of the piece."""
    import skate

    with _lock:
        plan = _plans.get(transfer)
    if plan is None:
        raise RuntimeError(f"more than {MAX_TRANSFERS} DataFrames went to objects since")
    if plan.ctx._jsc is None:
        raise RuntimeError("its session was stopped")
    rows = plan.ctx.runJob(plan, list, [partition])
    claimed = skate.get(exchange.claim.remote(transfer, [row["ticket"] for row in rows], False))
    return {row["piece"]: [ref] for row, (ref, _) in zip(rows, claimed, strict=True)}


def _short(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
