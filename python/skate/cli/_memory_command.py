"""`skate memory`: who holds the memory."""

from __future__ import annotations

import json
import shutil
import sys

import click

from skate import _memory, _memory_text
from skate.cli._commands import skate
from skate.cli._flags import address_option
from skate.cli._state_commands import _answer


@skate.command(short_help="Who holds the memory, and what may be leaked.")
@click.option("--group-by", type=click.Choice(list(_memory_text.GROUPS), case_sensitive=False),
              default="NODE_ADDRESS", show_default=True, help="A table for each.")  # fmt: skip
@click.option("--sort-by", type=click.Choice(list(_memory_text.SORTS), case_sensitive=False),
              default="OBJECT_SIZE", show_default=True, help="Order inside a table.")  # fmt: skip
@click.option("--units", type=click.Choice(list(_memory_text.UNITS), case_sensitive=False),
              default="B", show_default=True, help="Of sizes.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table",
              show_default=True, help="json: all of it, for programs.")  # fmt: skip
@click.option("--no-format", is_flag=True, help="One line for each reference, parted by commas.")
@click.option("--stats-only", "-s", is_flag=True, help="Only what the stores of the nodes hold.")
@click.option("--num-entries", "-n", "--n", type=click.IntRange(1, 10_000),
              help="Lines of a table at most; the largest objects.")  # fmt: skip
@click.option("--leaks-after", type=click.FloatRange(0), default=_memory.OLD_S, show_default=True,
              help="Seconds after which what only refs or views hold may be leaked.")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(0.1), default=10.0, show_default=True,
              help="Seconds; who has not answered in half of them is left out.")  # fmt: skip
@address_option
def memory(
    group_by: str, sort_by: str, units: str, form: str, no_format: bool, stats_only: bool,
    num_entries: int | None, leaks_after: float, timeout: float, address: str | None,
) -> None:  # fmt: skip
    """Who holds the memory: objects by owner, process and line of code; what may be leaked;
    the store of each node.

    \b
    skate memory --units MB -n 10
    skate memory --group-by STACK_TRACE
    skate memory --stats-only
    """
    width = shutil.get_terminal_size((0, 0)).columns if sys.stdout.isatty() else 0
    options = _memory_text.Options(group_by.upper(), sort_by.upper(), units.upper(), stats_only,
                                   num_entries, no_format, width)  # fmt: skip
    rows, most = options.rows()
    found = _answer(lambda: _memory.look(address, timeout, rows, leaks_after, most))
    click.echo(json.dumps(found) if form == "json" else _memory_text.text(found, options))
