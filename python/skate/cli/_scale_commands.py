"""`skate up` and `skate down`: a cluster on this machine whose nodes come and go by themselves."""

from __future__ import annotations

import json
from typing import Any

import click

from skate import _node
from skate.autoscaler import _config
from skate.autoscaler import _start as _autoscaler
from skate.cli import _commands, _flags, _start


@_commands.skate.command(short_help="Start a cluster here whose nodes come and go.")
@click.argument("config_file", type=click.Path(exists=True, dir_okay=False))
@click.option("--port", type=_flags.PORT, metavar="N", help="Of the cluster: 6379; 0: any.")
@click.option("--min-workers", type=int, help="Instead of what the file says, for every type.")
@click.option("--max-workers", type=int, help="Instead of what the file says.")
@click.option("--cluster-name", "-n", help="Instead of what the file says.")
@click.option("--yes", "-y", is_flag=True, help="Nothing is asked, with or without it.")
def up(
    config_file: str, port: int | None, min_workers: int | None, max_workers: int | None,
    cluster_name: str | None, yes: bool,
) -> None:  # fmt: skip
    """Start the cluster that CONFIG_FILE describes: its head here, and nodes as they are needed.

    The file is Ray's cluster description (YAML or JSON) with provider "local": docs/autoscaler.md.
    """
    try:
        found = _read(config_file, min_workers, max_workers, cluster_name)
        config = _config.check(found)
        if _running(config.name):
            raise ValueError(f"the cluster {config.name} runs already: `skate down` ends it")
        node = _start._start_node(True, None, _head_options(config, port), found)
    except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:
        _commands._fail(str(error))
    if config.ignored:
        click.echo(f"skate: for machines of a cloud, ignored: {', '.join(config.ignored)}",
                   err=True)  # fmt: skip
    click.echo(f"  look at it:          skate status --address={node.gcs_address}")
    named = f" --cluster-name={cluster_name}" if cluster_name else ""
    click.echo(f"  end it:              skate down {config_file}{named}")


@_commands.skate.command(short_help="End a cluster that `skate up` has started.")
@click.argument("config_file", type=click.Path(exists=True, dir_okay=False))
@click.option("--cluster-name", "-n", help="Instead of what the file says.")
@click.option("--yes", "-y", is_flag=True, help="Nothing is asked, with or without it.")
def down(config_file: str, cluster_name: str | None, yes: bool) -> None:
    """End the cluster that CONFIG_FILE describes: its autoscaler, its nodes, its head."""
    try:
        name = _config.check(_read(config_file, None, None, cluster_name)).name
        found = _running(name)
    except (OSError, ValueError) as error:
        _commands._fail(str(error))
    if not found:
        click.echo(f"No cluster {name} was running.")
        return
    click.echo(f"Stopped {_commands.stop_cluster(found['address'])} daemon(s) of {name}.")


def _running(name: str) -> dict[str, Any] | None:
    found = _autoscaler.clusters(_node.base_dir()).get(name)
    return found if found and _commands.lives(found["address"]) else None


def _read(
    path: str, low: int | None, high: int | None, name: str | None
) -> dict[str, Any]:
    """The file's dict, with what the flags say instead."""
    found = _config.load(path)
    if isinstance(found, dict):
        if name:
            found["cluster_name"] = name
        if high is not None:
            found["max_workers"] = high
        for key, kind in (found.get("available_node_types") or {}).items():
            if low is not None and isinstance(kind, dict) and key != found.get("head_node_type"):
                kind["min_workers"] = low
    return found


def _head_options(config: _config.Config, port: int | None) -> dict[str, Any]:
    """As `skate start --head` would be given them."""
    options: dict[str, Any] = dict.fromkeys(
        ("resources", "labels", "object_store_memory", "node_ip_address", "num_cpus", "num_gpus",
         "memory", "object_spilling_directory", "system_config", "temp_dir", "block", "node_name",
         "redis_password", "cluster_key_file", "node_manager_port"))  # fmt: skip
    options["port"] = port
    kind = config.types.get(config.head_type or "")
    if kind:
        amounts = dict(kind.resources)
        options["num_cpus"], options["num_gpus"] = amounts.pop("CPU", 0), amounts.pop("GPU", None)
        options["memory"] = amounts.pop("memory", None)
        options["object_store_memory"] = amounts.pop("object_store_memory",
                                                     kind.object_store_memory)  # fmt: skip
        options["resources"] = json.dumps(amounts) if amounts else None
        options["labels"] = ",".join(f"{k}={v}" for k, v in kind.labels.items())
    return options

