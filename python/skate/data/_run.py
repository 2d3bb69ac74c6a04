"""What runs on blocks, in Skate's workers: the steps of a dataset, one task for each block.

The steps behind each other (map_batches after map_batches) run in one task. A step whose function
is a class runs in actors, which make one instance each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

FORMATS = ("default", "numpy", "pandas", "pyarrow")


@dataclass(frozen=True)
class Meta:
    """What is known of a block without reading it. schema: of Arrow."""

    rows: int
    bytes: int
    schema: Any


@dataclass(frozen=True)
class Step:
    """One map_batches()."""

    fn: Any
    batch_size: int | None
    batch_format: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


def table_of(block: Any) -> Any:
    """A block as a pyarrow.Table; frames lose their index, as in Ray."""
    from skate.util.spark._blocks import as_table

    return as_table(block)


def to_format(table: Any, batch_format: str) -> Any:
    """A table as users want batches: a dict of arrays ("default", "numpy"), pandas, pyarrow."""
    if batch_format == "pyarrow":
        return table
    if batch_format == "pandas":
        return table.to_pandas()
    return {name: to_numpy(table.column(name)) for name in table.column_names}


def to_numpy(column: Any) -> Any:
    """A column as an array; without a copy when it is one piece of numbers without nulls."""
    import pyarrow as pa

    if isinstance(column.type, pa.FixedShapeTensorType):
        whole = column.combine_chunks()
        if isinstance(whole, pa.ChunkedArray):
            whole = pa.concat_arrays(whole.chunks)
        return whole.to_numpy_ndarray()
    if column.num_chunks == 1:
        return column.chunk(0).to_numpy(zero_copy_only=False)
    return column.to_numpy()


def of_batch(batch: Any) -> Any:
    """What a user's function gave back, as a pyarrow.Table. TypeError: of no such kind."""
    import numpy as np
    import pyarrow as pa

    if isinstance(batch, dict):
        columns = {name: _column(np.asarray(values)) for name, values in batch.items()}
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the columns of a batch have different lengths: {lengths}")
        return pa.table(columns)
    try:
        table = table_of(batch)
    except TypeError:
        raise TypeError(
            "the function of map_batches() must return a dict of arrays, a pandas DataFrame or a "
            f"pyarrow Table, or yield them; it returned {type(batch).__name__}"
        ) from None
    return table.replace_schema_metadata() if b"pandas" in (table.schema.metadata or {}) else table


def _column(values: Any) -> Any:
    import pyarrow as pa

    if values.ndim > 1:
        return pa.FixedShapeTensorArray.from_numpy_ndarray(values)
    if values.ndim == 0:
        raise ValueError("the columns of a batch must be arrays, not single values")
    return pa.array(values)


def slices(table: Any, batch_size: int | None) -> Iterator[Any]:
    """The table in parts of so many rows; an empty one is one part."""
    if batch_size is None or table.num_rows <= batch_size:
        yield table
        return
    for begin in range(0, table.num_rows, batch_size):
        yield table.slice(begin, batch_size)


def apply(table: Any, step: Step, fn: Callable[..., Any]) -> Any:
    """The table that a step makes of a table."""
    import pyarrow as pa

    made = []
    for part in slices(table, step.batch_size):
        out = fn(to_format(part, step.batch_format), *step.args, **step.kwargs)
        parts = out if isinstance(out, Iterator) else (out,)
        made += [of_batch(each) for each in parts]
    if not made:
        return table.slice(0, 0)
    return made[0] if len(made) == 1 else pa.concat_tables(made, promote_options="permissive")


def run_steps(block: Any, steps: list[Step]) -> tuple[Any, Meta]:
    """A task: the block after all steps, and what is to be known of it."""
    table = table_of(block)
    for step in steps:
        table = apply(table, step, step.fn)
    return table, Meta(table.num_rows, table.nbytes, table.schema)


def describe(block: Any) -> Meta:
    """A task: what is to be known of a block."""
    table = table_of(block)
    return Meta(table.num_rows, table.nbytes, table.schema)


class Runner:
    """An actor: one instance of the user's class, for many blocks."""

    def __init__(self, step: Step, args: Iterable[Any], kwargs: dict[str, Any]) -> None:
        self._step, self._fn = step, step.fn(*args, **kwargs)

    def run(self, block: Any) -> tuple[Any, Meta]:
        """The block after the step."""
        table = apply(table_of(block), self._step, self._fn)
        return table, Meta(table.num_rows, table.nbytes, table.schema)
