"""Datasets of tables, of frames, of refs, and of a DataFrame of Spark."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from skate.data._dataset import MaterializedDataset
from skate.data._run import Meta


def from_spark(
    df: Any, *, parallelism: int | None = None, override_num_blocks: int | None = None
) -> MaterializedDataset:
    """A dataset of a DataFrame of Spark: each partition is written once into the node beside it.

    override_num_blocks: repartition to so many before. parallelism: its old name.
    Needs a cluster (setup_ray_cluster() or init()); see skate.util.spark.to_refs().
    """
    from skate.util.spark._transfer import to_refs

    if parallelism is not None:
        warnings.warn(
            "'parallelism' is deprecated, use 'override_num_blocks' instead.",
            DeprecationWarning,
            stacklevel=2,
        )
    blocks = override_num_blocks if override_num_blocks is not None else parallelism
    if blocks is not None:
        if isinstance(blocks, bool) or not isinstance(blocks, int) or blocks < 1:
            raise ValueError(f"override_num_blocks must be an int > 0, not {blocks!r}")
        df = df.repartition(blocks)
    return of_transfer(to_refs(df))


def of_transfer(refs: Any) -> MaterializedDataset:
    """A dataset of what to_refs() returned."""
    metas = [Meta(block.rows, block.bytes, refs.schema) for block in refs.blocks]
    return MaterializedDataset(list(refs), metas)


def from_arrow(
    tables: Any, *, override_num_blocks: int | None = None
) -> MaterializedDataset:
    """A dataset of a pyarrow.Table, or of a list of them, each of which is a block."""
    import pyarrow as pa

    given = list(tables) if isinstance(tables, list | tuple) else [tables]
    made = []
    for table in given:
        if isinstance(table, bytes):
            table = pa.ipc.open_stream(table).read_all()
        if not isinstance(table, pa.Table):
            raise TypeError(f"from_arrow() takes pyarrow Tables, not {type(table).__name__}")
        made.append(table)
    return _stored(made, override_num_blocks)


def from_pandas(
    dfs: Any, *, override_num_blocks: int | None = None
) -> MaterializedDataset:
    """A dataset of a pandas.DataFrame, or of a list of them, each of which is a block."""
    import pandas as pd
    import pyarrow as pa

    given = list(dfs) if isinstance(dfs, list | tuple) else [dfs]
    for frame in given:
        if not isinstance(frame, pd.DataFrame):
            raise TypeError(f"from_pandas() takes pandas DataFrames, not {type(frame).__name__}")
    return _stored(
        [pa.Table.from_pandas(f, preserve_index=False).replace_schema_metadata() for f in given],
        override_num_blocks,
    )


def from_arrow_refs(tables: Any) -> MaterializedDataset:
    """A dataset whose blocks are these refs of pyarrow Tables; nothing is copied."""
    return _of_refs(tables)


def from_pandas_refs(dfs: Any) -> MaterializedDataset:
    """A dataset of refs of pandas DataFrames; each becomes a block by a task on its node."""
    import skate
    from skate.data._run import table_of

    convert = skate.remote(table_of)
    return _of_refs([convert.remote(ref) for ref in _listed(dfs)])


def read_delta(
    path: str,
    version: int | None = None,
    *,
    columns: list[str] | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    ray_remote_args: dict[str, Any] | None = None,
    override_num_blocks: int | None = None,
    storage_options: dict[str, str] | None = None,
    **others: Any,
) -> MaterializedDataset:
    """A dataset of a Delta table at one version (None: the newest); its files are read by tasks.

    path: that every node sees. override_num_blocks: at most so many; a file is not split.
    storage_options: of deltalake. The rest as in Ray; what is not named here is refused.
    ImportError: there is no deltalake. Other errors: docs/spark/delta.md.
    """
    import pyarrow as pa

    import skate
    from skate.exceptions import NotSupportedError
    from skate.util.spark import _delta

    if others:
        raise NotSupportedError(
            f"Skate's read_delta() has no argument {next(iter(others))!r}: use deltalake's "
            "DeltaTable(path).to_pyarrow_table(), and from_arrow() of what it returns."
        )
    if not isinstance(path, str):
        raise ValueError(f"path must be a text, the folder or URI of one table, not {path!r}")
    place = _delta.Place(path, tuple(sorted((storage_options or {}).items())))
    table = _delta.open_table(place, version)
    _delta.check_readable(table)
    schema = _delta.arrow_schema(table)
    missing = [name for name in columns or () if name not in schema.names]
    if missing:
        raise ValueError(f"the table has no column {missing[0]!r}; it has {schema.names}")
    if columns is not None:
        schema = pa.schema([schema.field(name) for name in columns])
    groups = _delta_groups(_delta.files_of(table), override_num_blocks)
    given = {"num_cpus": num_cpus, "num_gpus": num_gpus, "memory": memory}
    options = {**(ray_remote_args or {}), **{k: v for k, v in given.items() if v is not None}}
    read = skate.remote(read_delta_files)
    read = read.options(**options) if options else read
    return _of_refs([read.remote(place, group, schema) for group in groups])


def _delta_groups(files: list[Any], blocks: int | None) -> list[Any]:
    """The files of each block; one block without files for a table without any."""
    import skate
    from skate.util.spark import _delta

    if blocks is None:
        return _delta.tasks_of(files, int(skate.cluster_resources().get("CPU", 1))) or [()]
    if isinstance(blocks, bool) or not isinstance(blocks, int) or blocks < 1:
        raise ValueError(f"override_num_blocks must be an int > 0, not {blocks!r}")
    files = sorted(files, key=lambda file: -file.size)
    return [tuple(files[i::blocks]) for i in range(min(blocks, len(files)))] or [()]


def read_delta_files(place: Any, files: Any, schema: Any) -> Any:
    """A task: the rows of some files of a Delta table."""
    import pyarrow as pa

    from skate.util.spark import _delta_files

    return pa.Table.from_batches(_delta_files.read(place, files, schema), schema)


def _listed(refs: Any) -> list[Any]:
    from skate import ObjectRef

    listed = [refs] if isinstance(refs, ObjectRef) else list(refs)
    for ref in listed:
        if not isinstance(ref, ObjectRef):
            raise TypeError(f"refs must be ObjectRefs, not {type(ref).__name__}")
    return listed


def _of_refs(refs: Iterable[Any]) -> MaterializedDataset:
    listed = _listed(refs)
    return MaterializedDataset(listed, [None] * len(listed))


def _stored(tables: list[Any], blocks: int | None) -> MaterializedDataset:
    import skate

    if not tables:
        raise ValueError("a dataset needs at least one table")
    if blocks is not None:
        if isinstance(blocks, bool) or not isinstance(blocks, int) or blocks < 1:
            raise ValueError(f"override_num_blocks must be an int > 0, not {blocks!r}")
        tables = _cut(tables, blocks)
    metas = [Meta(table.num_rows, table.nbytes, table.schema) for table in tables]
    return MaterializedDataset([skate.put(table) for table in tables], metas)


def _cut(tables: list[Any], blocks: int) -> list[Any]:
    """The same rows in so many tables of about equal length."""
    import pyarrow as pa

    whole = pa.concat_tables(tables)
    bounds = [whole.num_rows * i // blocks for i in range(blocks + 1)]
    return [whole.slice(a, b - a) for a, b in zip(bounds, bounds[1:], strict=False)]

