"""`skate spark-init-script`: prints a script that the machines of a Spark cluster run first.

The text is a POSIX shell script without a secret in it; docs/spark/init_script.md describes it.
"""

from __future__ import annotations

import re
import shlex

import click

from skate import _core
from skate.cli import _commands, _flags

PACKAGE = "skate-ray"
PORT = 6379
WAIT_S = 600  # for the head: its machine may install packages first
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+!-]*")
_HOST = re.compile(r"[0-9A-Za-z]([0-9A-Za-z.-]*[0-9A-Za-z])?")

_TOP = """\
#!/bin/sh
# Skate {version} beside Spark: {title}
# Printed by `skate spark-init-script`. Each machine runs it once, at its start, in any order.
# {notes}
set -eu

version={version}
package={package}
port={port}
python={python}
"""

_KEY = """
say() { echo "skate: $*" >&2; }
stop() { say "$*"; exit 1; }

if [ -n "${SKATE_CLUSTER_KEY:-}" ]; then
    key() { printf '%s\\n' "$SKATE_CLUSTER_KEY"; } # a builtin: in no process's arguments
elif [ -n "${SKATE_CLUSTER_KEY_FILE:-}" ]; then
    key() { cat "$SKATE_CLUSTER_KEY_FILE"; }
else
    stop "no key: set SKATE_CLUSTER_KEY to 64 hexadecimal digits, the same on all machines"
fi
"""

_INSTALL = """
installed() { "$python" -c 'from skate import _core; print(_core.version)' 2>/dev/null || true; }
if [ "$(installed)" != "$version" ]; then
    say "installing $package"
    "$python" -m pip install --quiet --disable-pip-version-check "$package"
    [ "$(installed)" = "$version" ] || stop "$package is not Skate $version for $python"
fi
skate() { "$python" -m skate.cli "$@"; }
"""

_ROLE_DATABRICKS = """
[ -n "${DB_DRIVER_IP:-}" ] || stop "DB_DRIVER_IP is not set: is this a cluster-scoped init script?"
head=$DB_DRIVER_IP
if [ "${DB_IS_DRIVER:-}" = TRUE ]; then role='head'; else role='node'; fi
"""

_ROLE_GENERIC = """
[ -n "$head" ] || stop "set SKATE_HEAD to the host name or address of the head's machine"
is_here() { # an address can be bound where it is
    "$python" -c 'import socket, sys
ip = socket.gethostbyname(sys.argv[1])
sys.exit(2) if ip.startswith("127.") else socket.socket().bind((ip, 0))' "$1" 2>/dev/null
}
role=${SKATE_ROLE:-}
if [ -z "$role" ]; then
    code=0
    is_here "$head" || code=$?
    [ "$code" -ne 2 ] || stop "$head is a loopback address here: set SKATE_HEAD to an address"
    if [ "$code" -eq 0 ]; then role='head'; else role='node'; fi
fi
"""

_START = """
case $role in
head)
    say "starting the head at $head:$port"
    key | skate start --head --node-ip-address="$head" --port="$port" --cluster-key-file=-
    ;;
node)
    say "joining $head:$port"
    key | skate start --address="$head:$port" --wait={wait} --cluster-key-file=-
    ;;
*) stop "SKATE_ROLE is head or node, not $role" ;;
esac
"""


def text(
    target: str, *, version: str | None = None, package: str | None = None, head: str = "",
    port: int = PORT,
) -> str:  # fmt: skip
    """The script. package: what pip installs; by default the version from pip's own index.
    ValueError: a version or host that cannot be one."""
    version = version or _core.version
    if not _VERSION.fullmatch(version):
        raise ValueError(f"{version!r} is no version, such as {_core.version}")
    if head and not _HOST.fullmatch(head):
        raise ValueError(f"{head!r} is no host name or address")
    if head and target != "generic":
        raise ValueError("--head is for --target=generic: Databricks names the driver itself")
    names = {
        "version": version, "port": port,
        "package": shlex.quote(package or f"{PACKAGE}=={version}"),
    }  # fmt: skip
    if target == "databricks":
        top = _TOP.format(
            **names, title="a cluster-scoped init script of Databricks.",
            notes="The key of the cluster is a secret in the variable "
            "SKATE_CLUSTER_KEY={{secrets/<scope>/<name>}}\n# (Advanced options, Spark, Environment "
            "variables).", python="${SKATE_PYTHON:-/databricks/python/bin/python}",
        )  # fmt: skip
    else:
        top = _TOP.format(
            **names, title="for any cluster.",
            notes="SKATE_HEAD names the head's machine. The key of the cluster is in "
            "SKATE_CLUSTER_KEY, or in the\n# file that SKATE_CLUSTER_KEY_FILE names (mode 600).",
            python="${SKATE_PYTHON:-${PYSPARK_PYTHON:-python3}}",
        )  # fmt: skip
        top += f"head=${{SKATE_HEAD:-{head}}}\n"
    role = _ROLE_DATABRICKS if target == "databricks" else _ROLE_GENERIC
    return top + _KEY + _INSTALL + role + _START.format(wait=WAIT_S)


@_commands.skate.command("spark-init-script",
                         short_help="Print a script that starts Skate beside Spark.")  # fmt: skip
@click.option("--target", type=click.Choice(["generic", "databricks"]), default="generic",
              show_default=True, help="Whose machines.")  # fmt: skip
@click.option("--version", metavar="V", help="Of Skate, to be installed: this one's.")
@click.option("--package", metavar="WHAT", help="What pip installs: a wheel's path or URL, instead "
              f"of {PACKAGE}==V from pip's index.")  # fmt: skip
@click.option("--head", metavar="HOST", default="",
              help="generic: the head's machine, unless SKATE_HEAD names it.")  # fmt: skip
@click.option("--port", type=_flags.PORT, metavar="N", default=PORT, show_default=True,
              help="Of the cluster.")  # fmt: skip
def spark_init_script(
    target: str, version: str | None, package: str | None, head: str, port: int
) -> None:
    """Print a script that each machine of a Spark cluster runs at its start.

    It installs Skate in a fixed version, starts the head on one machine and a node on each other,
    whichever comes first. There is no secret in it: the key comes from the machines' environment.
    """
    try:
        if not port:
            raise ValueError("--port must be a fixed one: all machines are given the same")
        made = text(target, version=version, package=package, head=head, port=port)
    except ValueError as error:
        _commands._fail(str(error))
    click.echo(made, nl=False)
