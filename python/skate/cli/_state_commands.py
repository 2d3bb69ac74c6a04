"""`skate list`, `get`, `summary`, `timeline`, `stack`: looks at a running cluster.

All of them connect to the raylet of this machine like a program, but start no job.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import warnings
from typing import Any

import click

from skate import _state
from skate.cli._commands import skate
from skate.cli._flags import address_option
from skate.util.state import api
from skate.util.state.exception import RayStateApiException

_RESOURCES = [name.replace("_", "-") for name in api.RESOURCES]
_FORMATS = ["default", "table", "json", "yaml"]
_WIDEST = 60  # of a table's cell; other formats cut nothing


def _timeout(function: Any) -> Any:
    return click.option(
        "--timeout", type=float, default=api.TIMEOUT_S, show_default=True,
        help="Seconds after which processes that have not answered are left out.",
    )(function)  # fmt: skip


def _answer(question: Any) -> Any:
    """Its answer; warnings and errors as one line each on stderr."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            out = question()
        except (RayStateApiException, ValueError, OSError) as error:
            raise click.ClickException(str(error)) from None
    for warning in caught:
        click.echo(f"skate: {warning.message}", err=True)
    return out


def _filters(texts: tuple[str, ...]) -> list[tuple[str, str, str]]:
    out = []
    for text in texts:
        predicate = "!=" if "!=" in text else "="
        key, found, value = text.partition(predicate)
        if not found or not key.strip():
            raise click.BadParameter(
                f"a filter is key=value or key!=value, not {text!r}", param_hint="--filter"
            )
        out.append((key.strip(), predicate, value.strip()))
    return out


# ------------------------------------------------------------------------------ how rows look


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 3] + "..."


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """Columns side by side; of columns that no row fills only the name."""
    if not rows:
        return []
    names = list(rows[0])
    cells = [[str(i)] + [_cell(row[name]) for name in names] for i, row in enumerate(rows)]
    heads = [""] + [name.upper() for name in names]
    widths = [max(len(line[k]) for line in [heads, *cells]) for k in range(len(heads))]
    return ["  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip()
            for line in [heads, *cells]]  # fmt: skip


def _yaml(value: Any, indent: str = "") -> list[str]:
    """Rows as YAML: what is neither a dict nor a list of them is JSON, which YAML includes."""
    out: list[str] = []
    if isinstance(value, list) and value and isinstance(value[0], dict):
        for item in value:
            lines = _yaml(item, indent + "  ")
            out += [indent + "- " + lines[0].lstrip(), *lines[1:]] if lines else [indent + "- {}"]
        return out
    if isinstance(value, dict) and value:
        for key, item in value.items():
            if isinstance(item, dict) and item:
                out += [f"{indent}{key}:", *_yaml(item, indent + "  ")]
            elif isinstance(item, list) and item and isinstance(item[0], dict):
                out += [f"{indent}{key}:", *_yaml(item, indent)]
            else:
                out.append(f"{indent}{key}: {json.dumps(item)}")
        return out
    return [indent + json.dumps(value)]


def _show(rows: list[dict[str, Any]], form: str, title: str) -> None:
    if form == "json":
        click.echo(json.dumps(rows))
        return
    if form == "yaml":
        click.echo("\n".join(["---", *_yaml(rows), "..."]))
        return
    rule = "-" * 30
    lines = [f"======== {title}: {time.strftime('%Y-%m-%d %H:%M:%S')} ========", "Stats:", rule,
             f"Total: {len(rows)}", ""]  # fmt: skip
    if rows:
        lines += ["Table:", rule, *_table(rows)]
    else:
        lines.append("No resource in the cluster")
    click.echo("\n".join(lines))


# ---------------------------------------------------------------------------- list, get, summary


@skate.command("list", short_help="Rows about tasks, actors, objects, nodes and the like.")
@click.argument("resource", metavar="RESOURCE", type=click.Choice(_RESOURCES))
@click.option("--format", "form", type=click.Choice(_FORMATS), default="default",
              help="How rows are printed.")  # fmt: skip
@click.option("--filter", "-f", "filters", multiple=True,
              help="key=value or key!=value; all that are given must hold.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1, _state.MOST), default=api.LIMIT, show_default=True,
              help="How many rows at most.")  # fmt: skip
@click.option("--detail", is_flag=True, help="All columns (as YAML by default).")
@_timeout
@address_option
def list_(
    resource: str, form: str, filters: tuple[str, ...], limit: int, detail: bool, timeout: float,
    address: str | None,
) -> None:  # fmt: skip
    """Rows about RESOURCE: tasks, actors, objects, workers, nodes, jobs, placement-groups or
    runtime-envs.

    \b
    skate list tasks --filter state=RUNNING
    skate list actors --detail
    skate list objects --format json --limit 1000
    """
    wanted = _filters(filters)
    rows = _answer(
        lambda: api.StateApiClient(address).list(resource, wanted, limit, timeout, detail, False)
    )
    if detail and form == "default":
        form = "yaml"
    columns = None if detail else rows and type(rows[0]).base_columns()
    plain = [
        {k: v for k, v in row.asdict().items() if columns is None or k in columns} for row in rows
    ]
    _show(plain, form, "List")


@skate.command("get")
@click.argument("resource", metavar="RESOURCE", type=click.Choice(_RESOURCES))
@click.argument("id", required=True)
@_timeout
@address_option
def get(resource: str, id: str, timeout: float, address: str | None) -> None:  # noqa: A002
    """All of the one RESOURCE with this ID, as YAML.

    \b
    skate get tasks 16310a0f0a45af5c...
    """
    found = _answer(lambda: api.StateApiClient(address).get(resource, id, timeout))
    if not found:
        raise click.ClickException(
            f"there is no {resource.rstrip('s')} with the id {id!r}: `skate list {resource}` shows "
            "those there are"
        )
    rows = [row.asdict() for row in (found if isinstance(found, list) else [found])]
    click.echo("\n".join(["---", *_yaml(rows), "..."]))


@skate.command()
@click.argument("resource", metavar="RESOURCE", type=click.Choice(["tasks", "actors", "objects"]))
@_timeout
@address_option
def summary(resource: str, timeout: float, address: str | None) -> None:
    """Counts of tasks, actors or objects by group and state."""
    whole = _answer(lambda: api.StateApiClient(address).summary(resource, timeout))["cluster"]
    head = {"tasks": "Tasks", "actors": "Actors", "objects": "Object"}[resource]
    rule = "-" * 36
    lines = [f"======== {head} Summary: {time.strftime('%Y-%m-%d %H:%M:%S')} ========", "Stats:",
             rule]  # fmt: skip
    lines += [f"{key}: {value}" for key, value in whole.items() if key != "summary"]
    rows = []
    for name, group in whole["summary"].items():
        row = {whole["summary_by"]: name}
        for key, value in group.items():
            if isinstance(value, dict):
                value = ", ".join(f"{k}: {n}" for k, n in sorted(value.items()))
            if key not in ("func_or_class_name", "class_name"):
                row[key] = value
        rows.append(row)
    lines += ["", "Table (group by " + whole["summary_by"] + "):", rule, *_table(rows)]
    click.echo("\n".join(lines))


# ------------------------------------------------------------------------------- timeline, stack


@skate.command(short_help="Write what ran where and when, for a viewer.")
@click.option("--output", "-o", type=click.Path(dir_okay=False), help="The file; in the temp "
              "folder by default.")  # fmt: skip
@address_option
def timeline(output: str | None, address: str | None) -> None:
    """Write what ran where and when, for https://ui.perfetto.dev or chrome://tracing."""
    from skate import _timeline

    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    path = output or os.path.join(tempfile.gettempdir(), f"ray-timeline-{stamp}.json")

    def look() -> None:
        with _state.attached(address):
            _timeline.timeline(path)

    _answer(look)
    click.echo(f"Trace file written to {path} ({os.path.getsize(path)} bytes).")
    click.echo("Open it in https://ui.perfetto.dev or chrome://tracing.")


@skate.command(short_help="Python stacks of this machine's workers.")
@click.option("--timeout", type=float, default=5.0, show_default=True,
              help="Seconds for each process.")  # fmt: skip
@click.argument("pids", nargs=-1, type=int)
@address_option
def stack(timeout: float, pids: tuple[int, ...], address: str | None) -> None:
    """Python stacks of the workers of this machine: all of the cluster's, or these PIDS.

    A worker in the middle of a computation or of C code answers too.
    """
    from skate import _stacks

    def look() -> list[dict[str, Any]]:
        asked = _state.Asked(30.0)
        with _state.attached(address):
            found = [p for p in asked.processes() if p["role"] == 1 and _is_here(p, asked)]
            names = {r["pid"]: r["name"] for r in asked.runs() if r["state"] == 4}
        for process in found:
            process["runs"] = names.get(process["pid"], "")
        return found

    found = _answer(look)
    wanted = [p for p in found if not pids or p["pid"] in pids]
    if not wanted:
        raise click.ClickException(
            "no worker runs on this machine" if not pids else
            f"none of these is a worker of the cluster; there are: {[p['pid'] for p in found]}"
        )
    for process in wanted:
        running = f" runs {process['runs']}" if process["runs"] else " is idle"
        click.echo(f"======== worker pid {process['pid']}{running} ========")
        click.echo(_stacks.dump(process["pid"], timeout).rstrip() + "\n")


def _is_here(process: dict[str, Any], asked: _state.Asked) -> bool:
    from skate import _core

    return bool(process["proc"] >> 32 == _core.info()["proc"] >> 32)
