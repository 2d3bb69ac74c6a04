"""The flags of `skate start`: those of `ray start`, in groups, and what is said of those without a
meaning here."""

from __future__ import annotations

from typing import Any

import click


class _PortType(click.ParamType):
    name = "port"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """The number of a port."""
        text = str(value)
        if not text.isascii() or not text.isdigit() or int(text) > 65535:
            self.fail(f"{text!r} is not a port: a number from 0 to 65535", param, ctx)
        return int(text)


PORT = _PortType()
_WORKERS = "workers listen nowhere"
_ONE_PORT = "one port serves all"
_NO_DASHBOARD = "there is no dashboard"
# Flags of `ray start` without a meaning here: name -> (type, why). Each is accepted.
NO_MEANING: dict[str, tuple[Any, str]] = {
    "min-worker-port": (PORT, _WORKERS),
    "max-worker-port": (PORT, _WORKERS),
    "worker-port-list": (str, _WORKERS),
    "object-manager-port": (PORT, _ONE_PORT),
    "gcs-server-port": (PORT, _ONE_PORT),
    "ray-client-server-port": (PORT, _ONE_PORT),
    "runtime-env-agent-port": (PORT, _ONE_PORT),
    "metrics-export-port": (PORT, _ONE_PORT),
    "include-dashboard": (bool, _NO_DASHBOARD),
    "dashboard-host": (str, _NO_DASHBOARD),
    "dashboard-port": (PORT, _NO_DASHBOARD),
    "dashboard-agent-listen-port": (PORT, _NO_DASHBOARD),
    "dashboard-agent-grpc-port": (PORT, _NO_DASHBOARD),
    "plasma-directory": (str, "the object store is anonymous memory"),
    "plasma-store-socket-name": (str, "a node has one socket"),
    "raylet-socket-name": (str, "it lies in the session's folder"),
    "include-log-monitor": (bool, "the raylet does that"),
    "system-reserved-cpu": (float, "control groups are left alone"),
    "system-reserved-memory": (float, "control groups are left alone"),
    "cgroup-path": (str, "control groups are left alone"),
    "tracing-startup-hook": (str, "there is no such hook"),
    "log-style": (str, "output is plain"),
    "log-color": (str, "output is plain"),
}
NO_MEANING_ALONE: dict[str, str] = {
    "disable-usage-stats": "none are collected",
    "enable-resource-isolation": "control groups are left alone",
    "no-monitor": "there is none unless --autoscaling-config is given",
    "no-redirect-output": "--block shows the daemons' end",
    "ray-debugger-external": "there is no debugger",
    "verbose": "output is plain",
}


class Grouped(click.Option):
    """An option that --help lists under the title of its group."""

    def __init__(self, *args: Any, group: str, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose --help lists its options by group, in the order of their declaration."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the groups, then the options without one."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record:
                groups.setdefault(getattr(param, "group", "Other"), []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


def address_option(function: Any) -> Any:
    """Decorator of the commands that look at a cluster: --address."""
    return click.option(
        "--address", envvar=["SKATE_ADDRESS", "RAY_ADDRESS"], metavar="HOST:PORT",
        help="Of the cluster; the one of this machine by default.",
    )(function)  # fmt: skip


_GROUPS: dict[str, dict[str, dict[str, Any]]] = {
    "What to start (one of the two)": {
        "head": {"is_flag": True, "help": "A cluster: its control store and its first node."},
        "address": {"metavar": "HOST:PORT", "help": "A node that joins the cluster there; auto: "
                    "the one that runs on this machine."},
        "wait": {"type": click.FloatRange(min=0), "metavar": "SECONDS",
                 "help": "With --address: how long to ask for a head that does not answer yet. "
                 "120; 0 for localhost."},
    },
    "The cluster's key (a node proves that it has it)": {
        "cluster-key-file": {"metavar": "FILE", "help": "A copy of the file that --head has named; "
                             "-: stdin. Or in the variable SKATE_CLUSTER_KEY. With --head: use "
                             "this key, do not make one."},
        "redis-password": {"metavar": "PASSWORD", "help": "Make the key of a password that head "
                           "and nodes are given alike. Others may see it while the command "
                           "starts: prefer the file."},
    },
    "A log in Redis (of the head; else it is a file)": {
        "redis-address": {"metavar": "HOST:PORT", "help": "With --head: keep there what must "
                          "outlive the head. --redis-password is that of Redis then, and does "
                          "not make a key."},
        "redis-username": {"metavar": "NAME", "help": "Of Redis."},
    },
    "Network": {
        "port": {"type": PORT, "metavar": "N", "help": "Of the cluster: 6379; 0: any free one."},
        "node-ip-address": {"metavar": "IP", "help": "Address of this node for the others."},
        "node-manager-port": {"type": PORT, "metavar": "N",
                              "help": "Of this node, for the other nodes: any free one."},
        "tls": {"is_flag": True, "help": "TLS on this machine, too (between machines it is always "
                "there). Or SKATE_USE_TLS=1."},
    },
    "What the node offers (as much as the machine has)": {
        "num-cpus": {"type": float, "metavar": "N", "help": "CPUs."},
        "num-gpus": {"type": float, "metavar": "N", "help": "GPUs."},
        "memory": {"type": float, "metavar": "BYTES", "help": "Memory that tasks may ask for."},
        "object-store-memory": {"type": float, "metavar": "BYTES", "help": "The object store."},
        "resources": {"metavar": "JSON", "help": 'Of your own naming: {"name": amount}.'},
        "labels": {"metavar": "LABELS", "help": "name=value,... for label selectors."},
        "node-name": {"metavar": "NAME", "help": "How lists call it: its IP address."},
    },
    "How it runs": {
        "block": {"is_flag": True, "help": "Stay, and end the daemons with this command."},
        "fresh": {"is_flag": True, "help": "With --head: forget what the log of an earlier head "
                  "at this address has kept."},
        "recover": {"is_flag": True, "help": "With --head: its log is damaged, go on without "
                    "what cannot be read."},
        "temp-dir": {"metavar": "FOLDER", "help": "For the session's files: /tmp."},
        "object-spilling-directory": {"metavar": "WHERE", "help": "Folder or URI for objects "
                                      "beyond the store."},
        "autoscaling-config": {"type": click.Path(exists=True, dir_okay=False), "metavar": "FILE",
                               "help": "With --head: nodes come and go as the "
                               "file says (see `skate up`)."},
        "system-config": {"metavar": "JSON", "help": 'Settings of the node: {"name": value}.'},
    },
}


def start_flags(function: Any) -> Any:
    """Decorator: all the flags of `ray start`."""
    for name, (kind, _) in NO_MEANING.items():
        function = click.option(f"--{name}", hidden=True, type=kind)(function)
    for name in NO_MEANING_ALONE:
        function = click.option(f"--{name}", hidden=True, is_flag=True)(function)
    for title, options in reversed(_GROUPS.items()):
        for name, settings in reversed(options.items()):
            function = click.option(f"--{name}", cls=Grouped, group=title, **settings)(function)
    return function


def notice(options: dict[str, Any]) -> str | None:
    """One line about the flags that were given and have no meaning here; None: there are none."""
    reasons: dict[str, list[str]] = {}
    for name, why in {**{n: w for n, (_, w) in NO_MEANING.items()}, **NO_MEANING_ALONE}.items():
        # "no dashboard", "any port": that is what there is.
        if options[name.replace("-", "_")]:
            reasons.setdefault(why, []).append(f"--{name}")
    if not reasons:
        return None
    said = "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items())
    return f"skate: without a meaning here, ignored: {said}"
