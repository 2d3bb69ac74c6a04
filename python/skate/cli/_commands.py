"""The group `skate`, and its commands stop, status and run."""

from __future__ import annotations

import collections
import os
import signal
import sys
import time
from typing import Any

import click

from skate import _core, _node
from skate.cli import _flags, _head


def _fail(text: str) -> Any:
    raise click.ClickException(text)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_core.version, prog_name="skate")
def skate() -> None:
    """Skate: tasks, actors and objects on one machine or many."""


# ------------------------------------------------------------------------------------------- stop


def _records(base: str) -> list[tuple[str, dict[str, Any]]]:
    """(path, record) of every daemon that `skate start` has left on this machine. (Nodes that a
    program has started, such as those of a cluster_utils.Cluster, are that program's.)"""
    out = []
    for folder in sorted(os.listdir(base)):
        if folder.startswith("cluster_"):
            for name in sorted(os.listdir(os.path.join(base, folder))):
                path = os.path.join(base, folder, name)
                record = _node._read_json(path) if name.endswith(".json") else None
                if record and record.get("by") == _node.BY_START:
                    out.append((path, record))
    return out


def _terminate(pids: list[int], seconds: float = 3.0, force: bool = False) -> None:
    """SIGTERM, and SIGKILL for those that do not end in time."""
    started = {pid: _node.start_time(pid) for pid in pids}

    def living() -> list[int]:
        return [p for p, t in started.items() if t and _node.start_time(p) == t]

    for number in (signal.SIGKILL,) if force else (signal.SIGTERM, signal.SIGKILL):
        for pid in living():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + seconds
        while living() and time.monotonic() < deadline:
            time.sleep(0.005)
        for pid in pids:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass


def _forget(addresses: list[str], pids: set[int]) -> None:
    base = _node.base_dir()
    for path, record in _records(base):
        if record.get("pid") in pids or record.get("address") in addresses:
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
    for folder in os.listdir(base):
        path = os.path.join(base, folder)
        if folder.startswith("cluster_") and not any(n.endswith(".json") for n in os.listdir(path)):
            _node.remove_tree(path)
    current = os.path.join(base, "current_cluster")
    try:
        with open(current, encoding="ascii") as file:
            if not os.path.isdir(_node.cluster_dir(base, file.read().strip())):
                os.unlink(current)
    except (OSError, ValueError):
        pass


@skate.command()
@click.option("--force", "-f", is_flag=True, help="Kill at once.")
@click.option("--grace-period", "-g", type=float, default=3.0, show_default=True,
              help="Seconds before a kill.")  # fmt: skip
def stop(force: bool, grace_period: float) -> None:
    """End all daemons of `skate start` on this machine."""
    try:
        base = _node.base_dir()
    except OSError as error:
        _fail(str(error))
    stopped = _stop_all(base, None, grace_period, force)
    click.echo(f"Stopped {stopped} daemon(s)." if stopped else "No Skate daemon was running.")


def lives(address: str) -> bool:
    """Does any daemon of this cluster run on this machine?"""
    found = [record for _, record in _records(_node.base_dir()) if record["address"] == address]
    return any(_node.is_alive(r) or ("socket" not in r and _head.pids(r)) for r in found)


def stop_cluster(address: str) -> int:
    """End the daemons of one cluster on this machine. How many there were."""
    return _stop_all(_node.base_dir(), address, 3.0, False)


def _stop_all(base: str, address: str | None, grace: float, force: bool) -> int:
    def found() -> list[dict[str, Any]]:
        return [r for _, r in _records(base) if address in (None, r.get("address"))]

    # Who starts nodes goes first; then the nodes, for one without a control store looks for it.
    makers = [r for r in found() if "autoscaler" in r and _node.is_alive(r)]
    _terminate([r["pid"] for r in makers], grace, force)
    records = found()
    living = [r for r in records if _node.is_alive(r)]
    living.sort(key=lambda r: "socket" not in r)
    ended = {r["pid"] for r in living}
    _terminate([r["pid"] for r in living], grace, force)
    for _ in range(5):  # a keeper and its server start each other again
        stores = [r for r in records if "socket" not in r and "autoscaler" not in r]
        rest = [pid for r in stores for pid in _head.pids(r)]
        if not rest:
            break
        ended |= set(rest[:1])  # a server and its keeper count as one
        _terminate(rest, grace, force)
    for record in records:
        session = record.get("session_dir", "")  # maybe in the --temp-dir of that start
        parent, name = os.path.split(session)
        if os.path.basename(parent) == os.path.basename(base) and name.startswith("session_"):
            _node.remove_tree(session)
    _forget([r.get("address", "") for r in records], {r.get("pid", 0) for r in records})
    return len(ended) + len(makers)


# ----------------------------------------------------------------------------------------- status

_IN_ORDER = "it ended: it was told to"  # by `skate stop` or the autoscaler: no failure
_MOST_FAILURES = 20
_MOST_NAMES = 4  # of who asks for the same
_MOST_DEMANDS = 200
_GROUP_STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


@skate.command()
@_flags.address_option
@click.option("--verbose", "-v", is_flag=True, help="Each node too.")
def status(address: str | None, verbose: bool) -> None:
    """Nodes and resources, and what waits for them."""
    from skate import _state

    asked = _state.Asked(30.0)
    try:
        with _state.attached(address):
            rows = [row for row in asked.node_rows() if not row["outpost"]]  # but drivers' machines
            waiting = _state.demands(asked)
    except (OSError, ValueError, RuntimeError) as error:
        _fail(str(error))
    living = [row for row in rows if row["state"] == 1]
    failed = [f" {row['name']}: {row['reason']}" for row in rows
              if row["state"] != 1 and not row["reason"].startswith(_IN_ORDER)]  # fmt: skip
    rule = "-" * 63
    lines = [f"======== Cluster status: {time.strftime('%Y-%m-%d %H:%M:%S')} ========",
             "Node status", rule, "Active:"]  # fmt: skip
    lines += [f" 1 {row['name']} ({row['ip']}, {row['hostname']})"
              + (f", {row['reason']}" if row["suspect"] else "") for row in living]  # fmt: skip
    lines += ["Pending:", " (no pending nodes)", "Recent failures:"]
    lines += failed[-_MOST_FAILURES:] or [" (no failures)"]
    lines += ["", "Resources", rule, "Total Usage:"]
    lines += _usage(living)
    lines += ["", "Total Demands:"]
    lines += _demands(waiting) or [" (no resource demands)"]
    if verbose:
        for row in living:
            lines += ["", f"Node {row['name']}:", *_usage([row])]
    click.echo("\n".join(lines))


def _demands(waiting: list[dict[str, Any]]) -> list[str]:
    """A line for each kind of demand, with the names of who asks, and why it can never be met."""
    bundles: dict[bytes, list[dict[str, Any]]] = {}
    kinds: dict[tuple[str, str, str], tuple[int, dict[str, None]]] = {}

    def add(what: str, row: dict[str, Any]) -> None:
        key = (what, row["labels"], row["reason"] if row["never"] else "")
        count, names = kinds.get(key, (0, {}))
        kinds[key] = (count + row["count"], names | ({row["name"]: None} if row["name"] else {}))

    for row in waiting:
        if row["kind"] == "bundle":
            bundles.setdefault(row["id"], []).append(row)
        else:
            add(f"{row['resources']}: {{}}+ pending tasks/actors", row)
    for rows in bundles.values():
        shapes = collections.Counter(str(row["resources"]) for row in rows)
        add(", ".join(f"{shape} * {n}" for shape, n in shapes.items())
            + f" ({_GROUP_STRATEGIES[rows[0]['strategy']]}): {{}}+ pending placement groups",
            rows[0])  # fmt: skip
    out = []
    for (what, _, why), (count, names) in kinds.items():
        some = ", ".join([*names][:_MOST_NAMES]) + (", ..." if len(names) > _MOST_NAMES else "")
        head, _, tail = what.rpartition("{}")
        out.append(f" {head}{count}{tail}" + (f" ({some})" if some else ""))
        if why:
            out.append(f"   {why}")
    more = len(out) - _MOST_DEMANDS
    return out[:_MOST_DEMANDS] + ([f" ... and {more} more lines"] if more > 0 else [])


def _usage(nodes: list[dict[str, Any]]) -> list[str]:
    """What these have together, and how much of it is in use."""
    from skate import _wire

    sums: dict[str, list[float]] = {}  # name -> [all, free]
    for row in nodes:
        for at, column in enumerate(("total", "available")):
            for name, amount in _wire.unpack_resources(row[column]).items():
                sums.setdefault(name, [0.0, 0.0])[at] += amount
    out = []
    for name, (all_, free) in sorted(sums.items()):
        if name.startswith("node:"):
            continue
        used = round(all_ - free, 4)
        if name in ("memory", "object_store_memory"):
            out.append(f" {used / 2**30:.2f}GiB/{all_ / 2**30:.2f}GiB {name}")
        else:
            out.append(f" {used}/{all_} {name}")
    return out


@skate.command(
    short_help="Run a program written for Ray, unchanged.",
    options_metavar="[-m MODULE | FILE] [ARG...]",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
def run() -> None:
    """Run a program written for Ray: skate run FILE [ARG...], or -m MODULE [ARG...].

    In it and in its workers, `import ray` means Skate.
    """
    from skate.cli import _run

    _run.run(sys.argv[2:])
