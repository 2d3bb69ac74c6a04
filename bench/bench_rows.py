"""The lines of the bench's table, in its order: what each is called, its unit, its floor, its bar.

A bar is the ratio to Ray that we hold ourselves to; a limit is a bound on Skate's own number. The
rule of a row says how it is to stand to its floor: "sync" rows are within three times of the round
trips of two C processes that sleep in turn (beside it stands what two spinning ones reach), "async"
rows reach 40 % of what bare Python does without a runtime, "disk" rows 80 % of what dd does with
direct I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

SYNC_FACTOR = 3.0
SHARES = {"async": 0.4, "disk": 0.8}
# Groups that take most of a minute on Ray: so many pairs are enough.
PAIRS_MOST = {"spill": 3, "sort": 2, "nodes": 3, "broadcast": 1}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    text: str
    group: str
    unit: str
    less_is_better: bool = False
    floor: str = ""
    rule: str = ""
    bar: float = 0.0
    limit: float | None = None


FLOORS = {
    "spin": "round trips/s of two C processes by a ring, spinning",
    "futex": "the same, sleeping by futex",
    "pipeline": "messages/s of C through a ring",
    "pycall": "calls/s of bare Python: pickle, pipe, call, pickle back",
    "asyncio": "tasks/s of bare asyncio: create_task, gather",
    "memcpy": "GB/s of memcpy, warm memory",
    "fork": "forks/s of a small C process",
    "exec": "fork + exec/s",
    "disk_write": "GB/s that dd writes with direct I/O",
    "disk_read": "GB/s that dd reads with direct I/O",
}


def _calls(name: str, text: str, group: str, rule: str, bar: float) -> Row:
    floor = {"sync": "futex", "async": "pycall"}[rule]
    return Row(name, text, group, "/s", floor=floor, rule=rule, bar=bar)


def _and_dict(row: Row) -> tuple[Row, Row]:
    """A row, and the same with a dict as argument."""
    return row, replace(row, name=f"{row.name}_dict", text="  the same, a dict as argument")


ROWS: tuple[Row, ...] = (
    Row("import_to_first_result", "import to first result", "start", "s", True, bar=45),
    Row("shutdown", "shutdown", "start", "s", True),
    *_and_dict(_calls("tasks_sync", "tasks, one at a time", "tasks", "sync", 60)),
    _calls("tasks_async", "tasks, 1,000 at a time", "tasks", "async", 120),
    _calls("tasks_async_args", "  the same, two numbers as arguments", "tasks", "async", 100),
    _calls("tasks_async_dict", "  the same, a dict as argument", "tasks", "async", 100),
    _calls("tasks_chain_100", "chain of 100 dependent tasks", "tasks", "sync", 100),
    _calls("tasks_tree_255", "tree of 255 dependent tasks", "tasks", "sync", 100),
    Row("wait_1000", "1,000 tasks, wait one by one", "tasks", "/s", floor="pycall", bar=50),
    *_and_dict(_calls("actor_sync", "actor calls, one at a time", "calls", "sync", 30)),
    *_and_dict(_calls("actor_async", "actor calls, pipelined", "calls", "async", 50)),
    *_and_dict(_calls("actor_async_1_to_4", "actor calls, 1 to 4", "calls", "async", 50)),
    *_and_dict(_calls("actor_n_to_n", "actor calls, 4 to 4", "calls", "async", 50)),
    *_and_dict(Row("async_actor", "calls of an async actor", "calls", "/s", floor="asyncio",
                   rule="async", bar=40)),
    Row("put_small", "put of small values", "objects", "/s", bar=300),
    Row("put_small_dict", "put of small dicts", "objects", "/s", bar=300),
    Row("get_small", "get of small values", "objects", "/s", bar=100),
    Row("get_small_dict", "get of small dicts", "objects", "/s", bar=100),
    Row("get_10k_refs", "get of an object that holds 10,000 refs", "objects", "/s", bar=50),
    Row("put_100mb", "put of 100 MB", "objects", "GB/s", floor="memcpy"),
    Row("actors_started", "actors started", "actors", "/s", floor="fork", bar=100),
    Row("idle_worker_mb", "private memory, idle worker", "idle", "MB", True, bar=15),
    Row("idle_actor_mb", "private memory, idle actor", "idle", "MB", True, bar=15),
    Row("idle_cpu", "whole stack idle, % of a core", "idle", "%", True, limit=0.5),
    Row("submit_100k", "submit 100,000 tasks", "queue", "/s", bar=30),
    Row("queued_100k_mb", "  memory of the driver meanwhile", "queue", "MB", True, bar=10),
    Row("drain_100k", "  drained", "queue", "/s", bar=100),
    Row("spill_write", "4 GB put into a full store of 512 MB", "spill", "GB/s", floor="disk_write",
        rule="disk", bar=1),
    Row("spill_read", "  read again", "spill", "GB/s", floor="disk_read", rule="disk", bar=1),
    Row("sort_5x", "sort of 1.25 GB in a store of 256 MB", "sort", "s", True, bar=1),
    Row("nodes_actor_sync", "to another node: actor calls, one at a time", "nodes", "/s",
        floor="futex", bar=10),
    Row("nodes_actor_async", "  actor calls, pipelined", "nodes", "/s", floor="pycall", bar=20),
    Row("nodes_tasks_async", "  tasks, 1,000 at a time", "nodes", "/s", floor="pycall", bar=20),
    Row("nodes_pull", "  200 MB fetched, the first", "nodes", "GB/s", floor="memcpy", bar=5),
    Row("nodes_pull_again", "  200 MB fetched, the next ones", "nodes", "GB/s", floor="memcpy"),
    Row("nodes_pull_sent", "  200 MB fetched as between machines, encrypted", "nodes", "GB/s",
        floor="memcpy"),
    Row("broadcast_s", "1 GB to eight nodes of this machine", "broadcast", "s", True),
    Row("broadcast_single_s", "  to one at a time, the slower of two", "broadcast", "s", True),
    Row("broadcast_of_single", "  at once, in times of that", "broadcast", "x", True, limit=1.3),
    Row("broadcast_of_slowest", "  at once, in times of the slowest copy of it", "broadcast", "x",
        True, limit=1.3),
)

# Skate alone, once: what one node holds, each with its time and memory. A group is one process.
# Memory: of the driver for queued tasks, private memory of the whole session for the others.
SCALE: tuple[Row, ...] = (
    *(
        Row(f"scale_queue_{n}_{what}", text.format(label), f"scale_queue_{n}", unit, unit != "/s")
        for n, label in ((1_000, "1,000"), (10_000, "10,000"), (100_000, "100,000"),
                         (1_000_000, "1,000,000"))
        for what, text, unit in (("s", "{} queued tasks: submitted in", "s"),
                                 ("mb", "  memory of the driver", "MB"),
                                 ("drain_s", "  drained in", "s"))
    ),
    Row("scale_actors_s", "2,000 live Python actors: created and called in", "scale_actors", "s",
        True),
    Row("scale_actors_mb", "  memory of all processes", "scale_actors", "MB", True),
    Row("scale_arguments_s", "a task with 10,000 refs as arguments", "scale_arguments", "s", True),
    Row("scale_arguments_mb", "  memory of all processes", "scale_arguments", "MB", True),
    Row("scale_returns_s", "a task with 3,000 returns", "scale_returns", "s", True),
    Row("scale_returns_mb", "  memory of all processes", "scale_returns", "MB", True),
    Row("scale_recursion_s", "recursion 1,000 tasks deep", "scale_recursion", "s", True),
    Row("scale_recursion_mb", "  memory of all processes", "scale_recursion", "MB", True),
    Row("scale_get_s", "10,000 refs in one get", "scale_get", "s", True),
    Row("scale_get_mb", "  memory of all processes", "scale_get", "MB", True),
    Row("scale_small_rate", "1,000,000 live objects of 100 bytes: put", "scale_small_objects",
        "/s"),
    Row("scale_small_flat", "  rate of the last 20,000, % of the first", "scale_small_objects", "%",
        limit=80),
    Row("scale_small_bytes", "  memory beside each", "scale_small_objects", "bytes", True,
        limit=200),
    Row("scale_first_put", "first put of 100 MB in a fresh process", "scale_large_objects", "GB/s"),
    Row("scale_first_read", "  first read, in a fresh worker", "scale_large_objects", "GB/s"),
    Row("scale_put_share", "  put again, % of a memcpy to warm shared memory",
        "scale_large_objects", "%", limit=90),
    Row("scale_view_us", "  get of it, beyond that of a number", "scale_large_objects", "us", True,
        limit=5),
    Row("scale_seal_ms", "create_buffer and put of 1 GB, beyond filling it", "scale_large_objects",
        "ms", True, limit=1),
)

# Of programs in bench/native (see its README); what they print beyond these gets a line, too.
NATIVE: tuple[Row, ...] = (
    Row("native_task_futex", "C task, round trip, sleeping", "native", "us", True, limit=15),
    Row("native_task_spin", "C task, round trip, spinning", "native", "us", True, limit=3),
    Row("native_task_pipelined", "C tasks, pipelined", "native", "/s", limit=2e6),
    Row("native_actors_created", "C actors in one process, created", "native", "/s", limit=1e6),
    Row("native_actor_calls", "  called, batched", "native", "/s", limit=5e6),
    Row("native_actors_million_s", "1,000,000 C actors: created in", "native", "s", True),
    Row("native_actors_million_mb", "  memory", "native", "MB", True),
    *(
        row
        for mix, text in (("mid", "random objects of 2 KB to 64 KB"), ("wide", "2 KB to 4 MB"),
                          ("small", "mostly 2 KB to 8 KB"))
        for row in (
            Row(f"heap_waste_{mix}", f"store's allocator, {text}: waste", "native", "%", True,
                limit=15),
            Row(f"heap_p50_{mix}", "  alloc, seal and free: median", "native", "us", True),
            Row(f"heap_p99_{mix}", "  99th percentile", "native", "us", True),
            Row(f"heap_lends_{mix}", "  allocations that needed an extent", "native", "%", True),
        )
    ),
)

ALL = (*ROWS, *SCALE, *NATIVE)


def groups_of(rows: tuple[Row, ...] | list[Row]) -> list[str]:
    """The groups of some rows, in order."""
    return list(dict.fromkeys(row.group for row in rows))


def part(value: float, whole: float) -> str:
    """How a number stands to another one: 1/3.2, or 2.5x."""
    return f"{value / whole:.2g}x" if value >= whole else f"1/{whole / value:.2g}"


def floor_verdict(row: Row, value: float, floor: float) -> tuple[bool, str] | None:
    """Is it near enough to its floor? With the words; None when the row has no rule."""
    if row.rule == "sync":
        return value * SYNC_FACTOR >= floor, part(value, floor)
    if row.rule in SHARES:
        return value >= SHARES[row.rule] * floor, f"{100 * value / floor:.0f} %"
    return None
