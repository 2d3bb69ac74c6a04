"""The commands of `skate` but `run`, which is in _run.py."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

import click

from skate import _core, _labels, _node, _store_config

DEFAULT_PORT = 6379

# Flags of `ray start` that have no meaning here: accepted, with one notice.
_FLAGS_WITH_VALUE = (
    "object-manager-port", "node-manager-port", "min-worker-port", "max-worker-port",
    "worker-port-list", "ray-client-server-port", "include-dashboard", "dashboard-host",
    "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port",
    "runtime-env-agent-port", "metrics-export-port", "plasma-directory",
    "autoscaling-config", "redis-password",
    "redis-username", "include-log-monitor", "system-reserved-cpu", "system-reserved-memory",
    "cgroup-path", "log-style", "log-color",
)  # fmt: skip
_FLAGS_ALONE = (
    "disable-usage-stats", "enable-resource-isolation", "verbose", "no-redirect-output",
    "no-monitor",
)  # fmt: skip


def _fail(text: str) -> Any:
    raise click.ClickException(text)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_core.version, prog_name="skate")
def skate() -> None:
    """Skate: tasks, actors and objects on one machine or many."""


def _ignored(function: Any) -> Any:
    for name in _FLAGS_WITH_VALUE:
        function = click.option(f"--{name}", hidden=True, expose_value=True, default=None)(function)
    for name in _FLAGS_ALONE:
        function = click.option(f"--{name}", hidden=True, is_flag=True)(function)
    return function


@skate.command()
@click.option("--head", is_flag=True, help="Start a cluster: its control store and first node.")
@click.option("--address", help="host:port of the cluster that this node joins.")
@click.option("--port", type=int, default=None, help="Port of the control store (6379; 0: any).")
@click.option("--num-cpus", type=float, help="CPUs of this node.")
@click.option("--num-gpus", type=float, help="GPUs of this node.")
@click.option("--resources", help='Other resources, as JSON: {"name": amount}.')
@click.option("--labels", help="Labels of this node: name=value,...")
@click.option("--memory", type=float, help="Bytes of memory that tasks may ask for.")
@click.option("--object-store-memory", type=float, help="Bytes of the object store.")
@click.option("--block", is_flag=True, help="Stay, and end the daemons with this command.")
@click.option("--temp-dir", help="Folder for the session's files.")
@click.option("--object-spilling-directory", help="Folder or URI for objects beyond the store.")
@click.option("--system-config", help='Settings of the node, as JSON: {"name": value}.')
@click.option("--node-ip-address", help="Address of this node for the others.")
@click.option("--node-name", help="Name of this node.")
@click.option("--cluster-key-file", help="File with the key of the cluster to join.")
@_ignored
def start(head: bool, address: str | None, **options: Any) -> None:
    """Start a cluster here (--head), or join one (--address)."""
    if head == bool(address):
        _fail("give either --head or --address=host:port")
    useless = [
        name for name in (*_FLAGS_WITH_VALUE, *_FLAGS_ALONE) if options[name.replace("-", "_")]
    ]
    if useless:
        names = ", ".join("--" + name for name in useless)
        click.echo(f"skate: without a meaning here, ignored: {names}", err=True)
    try:
        node = _start_node(head, address, options)
    except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:
        plain = isinstance(error, OSError) and error.strerror and not error.filename
        _fail(error.strerror if plain else str(error))  # type: ignore[union-attr]
    if options["block"]:
        _block(node)


def _start_node(head: bool, address: str | None, options: dict[str, Any]) -> _node.Node:
    resources = _json_of("--resources", options["resources"])
    labels = _labels.parse_node_labels(options["labels"] or "")
    store = options["object_store_memory"]
    if store is not None and store < 1 << 20:
        raise ValueError(f"--object-store-memory must be at least 1 MiB, it is {store:.0f}")
    if store is not None:
        _node.check_store(store)
    store_bytes = _node.default_store_bytes() if store is None else int(store)
    base = _node.base_dir(options["temp_dir"])
    ip = options["node_ip_address"] or _own_ip(address)
    offered = _node.node_resources(
        ip, head, options["num_cpus"], options["num_gpus"], options["memory"], store_bytes,
        resources,
    )  # fmt: skip
    more = _store_config.settings(
        options["object_spilling_directory"], _json_of("--system-config", options["system_config"])
    )
    key, gcs_address = (_node.new_key(), "") if head else _find_cluster(base, address, options)
    node = _node.Node(_node.new_session_dir(options["temp_dir"]), key)
    lasting = not options["block"]
    try:
        if head:
            port = DEFAULT_PORT if options["port"] is None else options["port"]
            _start_gcs(node, ip, port, lasting)
        else:
            node.gcs_address = gcs_address
        node.start_raylet(ip, offered, store_bytes, labels, options["node_name"] or "", head,
                          lasting, more=more)  # fmt: skip
        assert node.raylet is not None
        node.raylet.wait_ready()
        if head:
            _node.record_cluster(base, node)
        _node.record_node(base, node.gcs_address, node.socket_path, node.raylet.pid,
                          node.session_dir)  # fmt: skip
    except BaseException:
        _terminate([d.pid for d in (node.raylet, node.gcs) if d is not None])
        _node.remove_tree(node.session_dir)
        raise
    _say_started(node, head, base)
    return node


def _start_gcs(node: _node.Node, ip: str, port: int, lasting: bool) -> None:
    try:
        node.start_gcs(ip, port, lasting)
    except _node.StartError as error:
        raise RuntimeError(f"cannot start a cluster at {ip}:{port}: {error}") from None


def _own_ip(address: str | None) -> str:
    if address and address.startswith(("127.", "localhost:")):
        return "127.0.0.1"
    return _node.own_ip()


def _json_of(flag: str, text: str | None) -> dict[str, Any] | None:
    if not text:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{flag} is not JSON ({error}): {text}") from None
    if not isinstance(found, dict):
        raise ValueError(f'{flag} must be like {{"name": 1}}, not {text}')
    return found


def _find_cluster(base: str, address: str | None, options: dict[str, Any]) -> tuple[str, str]:
    """The key and the address of the cluster to join."""
    assert address
    found = _node.current_cluster(base) if address == "auto" else _node.resolve(address)
    if found is None:
        raise ConnectionError("no Skate cluster runs on this machine")
    if options["cluster_key_file"]:
        os.environ["SKATE_CLUSTER_KEY_FILE"] = options["cluster_key_file"]
    kind = _node.probe(found)
    if kind != "skate":
        what = "a real Ray cluster" if kind in ("ray", "redis") else "not a Skate cluster"
        raise ConnectionError(f"what listens at {address} is {what}")
    key = _node.read_key(base, found)
    if key is None:
        raise ConnectionError(
            f"the key of the cluster {found} is not on this machine: copy the file "
            f"{_node.cluster_dir(base, found)}/key of the head node, and name the copy with "
            "--cluster-key-file"
        )
    return key, found


def _say_started(node: _node.Node, head: bool, base: str) -> None:
    address = node.gcs_address
    if not head:
        click.echo(f"This node has joined the Skate cluster {address}.")
        return
    key = f"{_node.cluster_dir(base, address)}/key"
    click.echo(f"A Skate cluster has been started at {address}.")
    click.echo(f"  join it from here:          skate start --address={address}")
    click.echo("  from another machine:       the same, with --cluster-key-file=COPY, a copy of")
    click.echo(f"                              {key}")
    click.echo(f'  use it in Python:           skate.init(address="{address}")')
    click.echo("  stop it:                    skate stop")


def _block(node: _node.Node) -> None:
    """Until a signal comes or a daemon ends; then end the others."""
    daemons = [d for d in (node.gcs, node.raylet) if d is not None]

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        while all(_node.start_time(d.pid) for d in daemons):
            time.sleep(0.2)
        click.echo("skate: a daemon has ended", err=True)
    except KeyboardInterrupt:
        pass
    node.stop()
    _forget([node.gcs_address], {d.pid for d in daemons})


# ------------------------------------------------------------------------------------------- stop


def _records(base: str) -> list[tuple[str, dict[str, Any]]]:
    """(path, record) of every daemon that `skate start` has left on this machine."""
    out = []
    for folder in sorted(os.listdir(base)):
        if folder.startswith("cluster_"):
            for name in sorted(os.listdir(os.path.join(base, folder))):
                path = os.path.join(base, folder, name)
                record = _node._read_json(path) if name.endswith(".json") else None
                if record:
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
@click.option("--grace-period", "-g", type=float, default=3.0, help="Seconds before a kill.")
def stop(force: bool, grace_period: float) -> None:
    """End every daemon that `skate start` has left on this machine."""
    try:
        base = _node.base_dir()
    except OSError as error:
        _fail(str(error))
    records = _records(base)
    living = [r for _, r in records if _node.is_alive(r)]
    # Nodes first: a node without a control store would try to find it again.
    living.sort(key=lambda r: "socket" not in r)
    _terminate([r["pid"] for r in living], grace_period, force)
    for _, record in records:
        session = record.get("session_dir", "")
        if os.path.dirname(session) == base and os.path.basename(session).startswith("session_"):
            _node.remove_tree(session)
    _forget([r.get("address", "") for _, r in records], {r.get("pid", 0) for _, r in records})
    click.echo(f"Stopped {len(living)} daemon(s)." if living else "No Skate daemon was running.")


# ----------------------------------------------------------------------------------------- status


@skate.command()
@click.option("--address", envvar=["SKATE_ADDRESS", "RAY_ADDRESS"], help="host:port")
@click.option("--verbose", "-v", is_flag=True, help="Each node too.")
def status(address: str | None, verbose: bool) -> None:
    """Nodes and resources of the cluster, and what waits for them."""
    from skate import _api, _state, _wire

    asked = _state.Asked(30.0)
    try:
        with _state.attached(address):
            rows, waiting = asked.node_rows(), _state.demands(asked)
            total, free = _api._sum_resources("total"), _api._sum_resources("available")
    except (OSError, ValueError, RuntimeError, _state.Unreachable) as error:
        _fail(str(error))
    living = [row for row in rows if row["state"] == 1]
    dead = [row for row in rows if row["state"] != 1]
    rule = "-" * 63
    lines = [f"======== Cluster status: {time.strftime('%Y-%m-%d %H:%M:%S')} ========",
             "Node status", rule, "Active:"]  # fmt: skip
    lines += [f" 1 {row['name']} ({row['ip']}, {row['hostname']})" for row in living]
    lines += ["Pending:", " (no pending nodes)", "Recent failures:"]
    lines += [f" {row['name']}: {row['reason']}" for row in dead] or [" (no failures)"]
    lines += ["", "Resources", rule, "Total Usage:"]
    lines += _usage(total, free)
    lines += ["", "Total Demands:"]
    lines += _demands(waiting) or [" (no resource demands)"]
    if verbose:
        for row in living:
            lines += ["", f"Node {row['name']}:"]
            lines += _usage(_wire.unpack_resources(row["total"]),
                            _wire.unpack_resources(row["available"]))  # fmt: skip
    click.echo("\n".join(lines))


def _demands(waiting: list[dict[str, Any]]) -> list[str]:
    """A line for each kind of demand, and its reason when it can never be met."""
    out = []
    for row in waiting[:100]:
        out.append(f" {row['resources']}: {row['count']}+ pending tasks/actors ({row['name']})")
        if row["never"]:
            out.append(f"   {row['reason']}")
    return out + ([f" ... and {len(waiting) - 100} more"] if len(waiting) > 100 else [])


def _usage(total: dict[str, float], free: dict[str, float]) -> list[str]:
    out = []
    for name in sorted(total):
        if name.startswith("node:"):
            continue
        used, all_ = total[name] - free.get(name, 0.0), total[name]
        if name in ("memory", "object_store_memory"):
            out.append(f" {used / 2**30:.2f}GiB/{all_ / 2**30:.2f}GiB {name}")
        else:
            out.append(f" {used}/{all_} {name}")
    return out


@skate.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def run() -> None:
    """Run a program written for Ray: skate run FILE [ARG...], or -m MODULE [ARG...].

    In it and in its workers, `import ray` means Skate.
    """
    from skate.cli import _run

    _run.run(sys.argv[2:])
