"""`skate start`: the daemons of a cluster's head, or of a node that joins one."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import socket
import time
from typing import Any

import click

from skate import _cluster_key, _labels, _node, _store_config, _tls
from skate.cli import _await_head, _commands, _flags, _head, _interfaces

DEFAULT_PORT = 6379


@_commands.skate.command(cls=_flags.GroupedCommand,
                         short_help="Start a cluster here, or a node that joins one.")  # fmt: skip
@_flags.start_flags
def start(head: bool, address: str | None, **options: Any) -> None:
    """Start a cluster here (--head), or a node that joins one (--address).

    The flags are those of `ray start`; one without a meaning here is accepted and named.
    """
    if head == bool(address):
        _commands._fail(
            "give either --head, to start a cluster, or --address=host:port, to join one"
        )
    if head and options["wait"] is not None:
        _commands._fail("--wait is for --address: a head waits for nobody")
    notice = _flags.notice(options)
    if notice:
        click.echo(notice, err=True)
    if options["redis_password"]:
        _cluster_key.hide_argument(options["redis_password"])
    if options["tls"]:
        os.environ[_tls.VARIABLE] = "1"
    if options["redis_address"]:
        if not head:
            _commands._fail("--redis-address is the head's: join it with --address")
        options["of_redis"], options["redis_password"] = options["redis_password"], None
    elif options["redis_username"]:
        _commands._fail("--redis-username goes with --redis-address")
    try:
        scale = _autoscaling(head, options["autoscaling_config"])
        node = _start_node(head, address, options, scale)
    except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:
        _commands._fail(str(error))
    if options["block"]:
        _block(node)


def _autoscaling(head: bool, path: str | None) -> dict[str, Any] | None:
    if not path:
        return None
    from skate.autoscaler import _config

    if not head:
        raise ValueError("--autoscaling-config is for --head: one autoscaler serves a cluster")
    found = _config.load(path)
    _config.check(found)
    return found


def _start_autoscaler(base: str, node: _node.Node, scale: dict[str, Any], lasting: bool) -> None:
    from skate.autoscaler import _start as autoscaler

    log = os.path.join(node.session_dir, "logs", "autoscaler.err")
    node.autoscaler = made = autoscaler.start(
        node.gcs_address, node.key, scale, lasting, log
    )
    autoscaler.record(base, node.gcs_address, str(scale.get("cluster_name", "default")), made.pid)


def _start_node(
    head: bool, address: str | None, options: dict[str, Any], scale: dict[str, Any] | None = None
) -> _node.Node:
    base = _node.base_dir()  # records lie there, wherever the session's files do
    found = None if head else _find_cluster(base, address, options["wait"])
    ip = _node_ip(options["node_ip_address"], found)
    system = _json_of("--system-config", options["system_config"])
    offer = _offer(ip, head, options, system)
    port = _head_port(ip, options) if head else _node.split_address(str(found))[1]
    kept = _head.plan(base, f"{ip}:{port}", options) if head else None
    key = _key(base, found, port, options, kept.key if kept else None)
    old = kept.session_dir if kept else None
    node = _node.Node(old or _node.new_session_dir(options["temp_dir"]), key)
    lasting = not options["block"]
    try:
        if kept:
            os.makedirs(kept.folder, mode=0o700, exist_ok=True)
            _start_gcs(node, (ip, port), lasting, system, kept.settings)
        else:
            node.gcs_address = str(found)
        if kept and kept.raylet:  # only the control store was gone
            _node.record_cluster(base, node, kept.raylet)
            click.echo(f"The control store of the cluster {node.gcs_address} runs again.")
            return node
        _start_raylet(node, ip, found, options, offer)
        if head:
            _node.record_cluster(base, node)
        else:
            _node.make_current(base, node.gcs_address)
        assert node.raylet is not None
        _node.record_node(base, node.gcs_address, node.socket_path, node.raylet.pid,
                          node.session_dir, _node.BY_START)  # fmt: skip
        if scale:
            _start_autoscaler(base, node, scale, lasting)
    except BaseException:
        _commands._terminate([d.pid for d in (node.raylet, node.gcs) if d is not None])
        if not old:
            _node.remove_tree(node.session_dir)
        if kept:
            _head.undo(kept, ip, port)
        raise
    _say_started(node, head, base, bool(options["redis_password"]))
    if kept and kept.goes_on:
        click.echo("It goes on from the log that was there (--fresh starts an empty one).")
    return node


def _offer(
    ip: str, head: bool, options: dict[str, Any], system: dict[str, Any] | None
) -> dict[str, Any]:
    """What this node has, as Node.start_raylet() takes it. ValueError, TypeError."""
    resources = _json_of("--resources", options["resources"])
    store = options["object_store_memory"]
    if store is not None and store < 1 << 20:
        raise ValueError(f"--object-store-memory must be at least 1 MiB, it is {store:.0f}")
    if store is not None:
        _node.check_store(store)
    store_bytes = _node.default_store_bytes() if store is None else int(store)
    return {
        "resources": _node.node_resources(
            ip, head, options["num_cpus"], options["num_gpus"], options["memory"], store_bytes,
            resources,
        ),
        "store_bytes": store_bytes,
        "labels": _labels.parse_node_labels(options["labels"] or ""),
        "head": head,
        "more": _store_config.settings(options["object_spilling_directory"], system),
    }  # fmt: skip


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


# ---------------------------------------------------------------------------------- where, and who


def _node_ip(asked: str | None, cluster: str | None) -> str:
    """The address by which others reach this node."""
    if asked:
        return _node.resolve(f"{asked}:1").rpartition(":")[0]
    if cluster is None:
        ip = _node.own_ip()
        if ip == "127.0.0.1":  # no route leads outside: a closed network, or none
            ip = _interfaces.only_one() or ip
        if not ipaddress.ip_address(ip).is_global:
            return ip
        click.echo(f"skate: {ip}, this machine's address, can be reached from anywhere, so the "
                   "cluster listens on 127.0.0.1 only. For nodes on other machines: "
                   f"--node-ip-address={ip}", err=True)  # fmt: skip
        return "127.0.0.1"
    return _node.own_ip(_node.split_address(cluster)[0])


def _head_port(ip: str, options: dict[str, Any]) -> int:
    """The port of a new cluster, which names its folder and goes into a password's key."""
    if options["port"] is None:
        return DEFAULT_PORT
    if options["port"]:
        return int(options["port"])
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as free:
        free.bind((ip, 0))
        return int(free.getsockname()[1])


def _find_cluster(base: str, address: str | None, wait: float | None) -> str:
    """The address, with its host as a number, of the cluster to join."""
    assert address
    if address != "auto":
        found, kind = _await_head.find(base, address, wait, lambda text: click.echo(text, err=True))
    elif here := _node.current_cluster(base):
        found, kind = here, _node.probe(here)
    else:
        raise ConnectionError(
            "no Skate cluster runs on this machine: give --address=host:port of one, or start one "
            "with `skate start --head`"
        )
    if kind == "ray":
        raise ConnectionError(
            f"what listens at {address} is a real Ray cluster, which a Skate node cannot join: "
            "start a Skate cluster on its head machine with `skate start --head` (and another "
            "--port, if Ray shall go on)"
        )
    if kind != "skate":
        raise ConnectionError(
            f"what listens at {address} is {_node.NAMES[kind]}, not a Skate cluster: give the "
            "address that `skate start --head` has printed"
        )
    return found


def _key(base: str, cluster: str | None, port: int, options: dict[str, Any],
         known: str | None) -> str:  # fmt: skip
    """The cluster's key: as given, else of this machine's own records, or new for a head. known:
    that of the cluster which a head continues."""
    if options["cluster_key_file"]:
        return _cluster_key.from_file(options["cluster_key_file"])
    password = options["redis_password"]
    if password in _cluster_key.KNOWN_PASSWORDS:
        click.echo("skate: --redis-password is Ray's old default, which everybody knows: ignored",
                   err=True)  # fmt: skip
        options["redis_password"] = password = None
    if password:
        if cluster is None and len(password) < _cluster_key.SHORT_PASSWORD:
            click.echo("skate: a --redis-password of fewer than 16 characters may be guessed by "
                       "who can record the traffic", err=True)  # fmt: skip
        return _cluster_key.from_password(password, port)
    given = _cluster_key.from_environment()
    if given:
        return given
    if cluster is None:
        return known or _node.new_key()
    key = _node.read_key(base, cluster)
    if key is None:
        raise ConnectionError(
            f"the key of the cluster {cluster} is not on this machine: copy the file "
            f"{_node.cluster_dir(base, cluster)}/key of the head node, and name the copy with "
            "--cluster-key-file, or paste the line that `skate start --head` has printed (a head "
            "that was given --redis-password: give the same here)"
        )
    return key


# -------------------------------------------------------------------------------- start, and errors


def _start_gcs(
    node: _node.Node, at: tuple[str, int], lasting: bool, system: dict[str, Any] | None,
    kept: list[tuple[str, Any]],
) -> None:  # fmt: skip
    ip, port = at
    try:
        node.start_gcs(ip, port, lasting, alone=True, system=system, kept=kept)
    except _node.StartError as error:
        text = f"cannot start a cluster at {ip}:{port}: {error}"
        if "in use" in str(error):
            text = f"{ip}:{port} is in use{_who(ip, port)}"
        raise RuntimeError(text) from None


def _start_raylet(
    node: _node.Node, ip: str, cluster: str | None, options: dict[str, Any], offer: dict[str, Any]
) -> None:
    node.start_raylet(ip, **offer, name=options["node_name"] or "", lasting=not options["block"],
                      port=options["node_manager_port"] or 0, alone=True)  # fmt: skip
    assert node.raylet is not None
    try:
        node.raylet.wait_ready()
    except _node.StartError as error:
        raise RuntimeError(_raylet_error(str(error), ip, cluster, options)) from None


def _who(ip: str, port: int) -> str:
    """Who holds a port, and what to do about it."""
    try:
        kind = _node.probe(f"{ip}:{port}")
    except ConnectionError:
        kind = "unknown"
    if kind == "skate":
        return (f": a Skate cluster is there. Join it with `skate start --address={ip}:{port}`, "
                "end it with `skate stop`, or take another --port")  # fmt: skip
    if kind == "ray":
        return " by a real Ray cluster: end it with `ray stop`, or take another --port"
    if kind == "redis":
        return " by a Redis server: take another --port (0: any free one)"
    return " by another program: take another --port (0: any free one)"


def _raylet_error(text: str, ip: str, cluster: str | None, options: dict[str, Any]) -> str:
    """What a raylet said when it could not start, with what to do."""
    if "in use" in text:
        port = options["node_manager_port"]
        return f"{ip}:{port} is in use: take another --node-manager-port (0: any free one)"
    if "key" in text and cluster is not None:
        given = ("--redis-password", "the same as on the head node, and the head the same --port")
        if options["cluster_key_file"] or not options["redis_password"]:
            given = ("the key", "a copy of the file that `skate start --head` named when THIS "
                     "cluster was started (a new cluster has a new one)")  # fmt: skip
        return (f"the cluster {cluster} refused this node: {given[0]} is wrong. "
                f"It must be {given[1]}")  # fmt: skip
    return text


def _say_started(node: _node.Node, head: bool, base: str, password: bool) -> None:
    address = node.gcs_address
    if not head:
        click.echo(f"This node has joined the Skate cluster {address}.")
        return
    key = f"{_node.cluster_dir(base, address)}/key"
    host = address.rpartition(":")[0]
    if password:
        join = f'skate start --address={address} --redis-password="$REDIS_PASSWORD"'
    else:
        join = f"ssh {host} cat {key} | skate start --address={address} --cluster-key-file=-"
    if _tls.is_on():
        join += " --tls"
    click.echo(f"A Skate cluster has been started at {address}.")
    click.echo("  join it from another machine:")
    click.echo(f"    {join}")
    if not password:
        click.echo("    without ssh: copy that file, its key, and name the copy with "
                   "--cluster-key-file")  # fmt: skip
    click.echo(f"  join it from here:   skate start --address={address}")
    click.echo(f'  use it in Python:    skate.init(address="{address}")')
    click.echo("  stop it:             skate stop")


def _block(node: _node.Node) -> None:
    """Until a signal comes or a daemon ends; then end the others. ClickException: it was killed,
    or it has failed."""
    daemons = [d for d in (node.gcs, node.raylet) if d is not None]

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    end = ""
    try:
        while all(_node.start_time(d.pid) for d in daemons):
            time.sleep(0.2)
        end = node.obituary()
    except KeyboardInterrupt:
        pass
    if node.autoscaler is not None:
        from skate.autoscaler import _start as autoscaler

        autoscaler.stop(node.autoscaler)
    node.stop()
    _commands._forget([node.gcs_address], {d.pid for d in daemons})
    if end and "exited with code 0" not in end:
        _commands._fail(f"a daemon has ended: {end}")
    if end:
        click.echo("skate: the daemons were told to end", err=True)
