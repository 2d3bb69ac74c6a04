"""Dataset: refs of tables, and the steps that are still to be run on them.

Steps wait until somebody wants rows (Ray's laziness), then run as one task for each block; what
they made is kept, so that a dataset is computed once. Batches are views of the blocks, which lie in
shared memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from skate.data import _run
from skate.data._run import FORMATS, Meta, Step

# What Ray's Dataset has and this one has not: what to do instead.
_ADVICE = {
    "map": "map_batches(), whose function gets many rows at once",
    "flat_map": "map_batches(), whose function may return more or fewer rows than it got",
    "filter": "where() in Spark before from_spark(), or map_batches() with a filter of pyarrow",
    "groupby": "groupBy() in Spark before from_spark(), or after to_spark()",
    "sort": "orderBy() in Spark before from_spark(), or after to_spark()",
    "join": "join() in Spark before from_spark(), or after to_spark()",
    "union": "union() in Spark before from_spark(), or from_arrow_refs() of both lists of blocks",
    "zip": "join() in Spark before from_spark(), or after to_spark()",
    "aggregate": "agg() in Spark, or to_arrow() and pyarrow.compute",
    "sum": "to_arrow() and pyarrow.compute, or agg() in Spark",
    "min": "to_arrow() and pyarrow.compute, or agg() in Spark",
    "max": "to_arrow() and pyarrow.compute, or agg() in Spark",
    "mean": "to_arrow() and pyarrow.compute, or agg() in Spark",
    "std": "to_arrow() and pyarrow.compute, or agg() in Spark",
    "unique": "to_arrow() and pyarrow.compute.unique(), or distinct() in Spark",
    "repartition": "from_spark(df, override_num_blocks=...)",
    "random_shuffle": "orderBy(rand()) in Spark before from_spark()",
    "randomize_block_order": "from_arrow_refs() of the blocks in another order",
    "random_sample": "sample() in Spark before from_spark()",
    "train_test_split": "randomSplit() in Spark before from_spark()",
    "split": "get_internal_block_refs(), and from_arrow_refs() of each part of that list",
    "streaming_split": "get_internal_block_refs(), and a part of that list to each worker",
    "limit": "limit() in Spark before from_spark(), or take_batch()",
    "iter_torch_batches": "iter_batches(batch_format='numpy'), and torch.as_tensor() of the arrays",
    "iter_tf_batches": "iter_batches(batch_format='numpy'), and tf.constant() of the arrays",
    "to_torch": "iter_batches(batch_format='numpy'), and torch.as_tensor() of the arrays",
    "to_dask": "to_pandas_refs(), and dask.dataframe.from_delayed() with skate.util.dask",
    "to_modin": "to_pandas()",
    "write_parquet": "to_spark(spark).write.parquet(), or pyarrow.parquet in map_batches()",
    "write_csv": "to_spark(spark).write.csv(), or pyarrow.csv in map_batches()",
    "write_json": "to_spark(spark).write.json()",
    "with_column": "map_batches(), or withColumn() in Spark",
    "add_column": "map_batches(), or withColumn() in Spark",
}
_OTHER = "to_arrow(), to_pandas(), or to_spark(spark) and Spark's own"


class Schema:
    """Names and types of the columns."""

    def __init__(self, base_schema: Any) -> None:
        self.base_schema = base_schema  # of pyarrow

    @property
    def names(self) -> list[str]:
        """The columns' names."""
        return list(self.base_schema.names)

    @property
    def types(self) -> list[Any]:
        """Their types, of pyarrow."""
        return list(self.base_schema.types)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and bool(
            self.base_schema.equals(other.base_schema, check_metadata=False)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        width = max([len("Column"), *map(len, self.names)])
        lines = [f"{name:{width}}  {kind}" for name, kind in zip(self.names, self.types)]
        return "\n".join([f"{'Column':{width}}  Type", f"{'------':{width}}  ----", *lines])


class Dataset:
    """A table in pieces. Made by skate.data.from_spark() and the other from_ functions."""

    def __init__(
        self, refs: list[Any], metas: Sequence[Meta | None], steps: tuple[_Tasks | _Pool, ...] = ()
    ) -> None:
        self._refs, self._steps = refs, steps
        self._metas: list[Meta | None] = list(metas)

    # ------------------------------------------------------------------------------ steps

    def map_batches(
        self,
        fn: Any,
        *,
        batch_size: int | None = None,
        compute: Any = None,
        batch_format: str | None = "default",
        fn_args: tuple[Any, ...] | None = None,
        fn_kwargs: dict[str, Any] | None = None,
        fn_constructor_args: tuple[Any, ...] | None = None,
        fn_constructor_kwargs: dict[str, Any] | None = None,
        concurrency: int | tuple[int, int] | None = None,
        zero_copy_batch: bool = True,
        **options: Any,
    ) -> Dataset:
        """The dataset that fn makes of batches: dicts of arrays, DataFrames, or pyarrow Tables.

        fn returns a batch of any of those kinds, or yields them. A class is made once in each of
        `concurrency` actors, then called; of a function at most so many tasks run at once.
        batch_size: rows of a batch at most; None: a block. No batch reaches over the end of its
        block. Batches are read-only unless zero_copy_batch is False. options: of the tasks or
        actors (num_cpus, num_gpus, memory, ...). Nothing runs before rows are wanted.
        """
        if not callable(fn):
            raise ValueError(f"map_batches() takes a function or a class, not {fn!r}")
        batch_format = "pyarrow" if batch_format is None else batch_format
        if batch_format not in FORMATS:
            raise ValueError(f"batch_format must be one of {', '.join(FORMATS)}: {batch_format!r}")
        _check_size(batch_size, "batch_size")
        if compute is not None:
            _refuse("the argument 'compute' of map_batches()", "set concurrency")
        if not zero_copy_batch and not isinstance(fn, type):
            fn = _Copied(fn)
        step = Step(fn, batch_size, batch_format, tuple(fn_args or ()), dict(fn_kwargs or {}))
        if not isinstance(fn, type):
            if fn_constructor_args or fn_constructor_kwargs:
                raise ValueError("fn_constructor_args are for classes; fn is a function")
            most = None if concurrency is None else _pool_size(concurrency)
            tasks = _Tasks(step, options, most)
            return Dataset(self._refs, self._metas, (*self._steps, tasks))
        make = tuple(fn_constructor_args or ()), dict(fn_constructor_kwargs or {})
        pool = _Pool(step, options, _pool_size(concurrency), *make)
        return Dataset(self._refs, self._metas, (*self._steps, pool))

    def materialize(self) -> MaterializedDataset:
        """Run all steps; returns when they are done. A failed step raises its error."""
        self._run()
        return MaterializedDataset(list(self._refs), list(self._known()))

    def _run(self) -> None:
        """Run the steps that are left. What they made takes their place; one that fails stays."""
        import skate

        while self._steps:
            count, (refs, told) = self._stage()
            metas = skate.get(told)
            self._refs, self._metas, self._steps = refs, list(metas), self._steps[count:]

    def _stage(self) -> tuple[int, tuple[list[Any], list[Any]]]:
        """Start the first steps that can run together: how many, refs, and those of the metas."""
        first = self._steps[0]
        if isinstance(first, _Pool):
            return 1, first.start(self._refs)
        together = []
        for step in self._steps:
            if isinstance(step, _Pool) or step.runs_as() != first.runs_as():
                break
            together.append(step.step)
        return len(together), first.start(self._refs, together)

    # -------------------------------------------------------------------------- what it is

    def _known(self) -> list[Meta]:
        """What is known of each block; asks tasks for what is not."""
        import skate

        self._run()
        missing = [i for i, meta in enumerate(self._metas) if meta is None]
        if missing:
            ask = skate.remote(_run.describe)
            told = skate.get([ask.remote(self._refs[i]) for i in missing])
            for i, meta in zip(missing, told):
                self._metas[i] = meta
        return [meta for meta in self._metas if meta is not None]

    def schema(self, fetch_if_missing: bool = True) -> Schema | None:
        """Names and types of the columns; runs the steps. None: there are no blocks."""
        if not fetch_if_missing and (self._steps or None in self._metas):
            return None
        known = self._known()
        if not known:
            return None
        filled = [meta for meta in known if meta.rows] or known
        return Schema(filled[0].schema.remove_metadata())

    def columns(self, fetch_if_missing: bool = True) -> list[str] | None:
        """The columns' names."""
        found = self.schema(fetch_if_missing)
        return None if found is None else found.names

    def count(self) -> int:
        """The number of rows."""
        return sum(meta.rows for meta in self._known())

    def size_bytes(self) -> int:
        """Bytes of all blocks."""
        return sum(meta.bytes for meta in self._known())

    def num_blocks(self) -> int:
        """The number of blocks; steps keep it."""
        return len(self._refs)

    def __len__(self) -> int:
        raise AttributeError("a Dataset has no length: use count(), which may run its steps")

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("a Dataset cannot be iterated: use iter_rows() or iter_batches()")

    def __repr__(self) -> str:
        known = [meta for meta in self._metas if meta is not None]
        if self._steps or len(known) < len(self._metas):
            return f"{type(self).__name__}(num_blocks={len(self._refs)}, schema=Unknown)"
        columns = self.schema()
        shown = {n: str(k) for n, k in zip(columns.names, columns.types)} if columns else {}
        return (
            f"{type(self).__name__}(num_blocks={len(self._refs)}, num_rows={self.count()}, "
            f"schema={shown})"
        )

    # -------------------------------------------------------------------------------- rows

    def iter_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int | None = 256,
        batch_format: str | None = "default",
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
    ) -> Iterator[Any]:
        """Batches of batch_size rows (None: a block each), in order; views, where they can be.

        prefetch_batches: 0: the next block is fetched only when it is wanted.
        """
        if local_shuffle_buffer_size is not None or local_shuffle_seed is not None:
            _refuse("local_shuffle_buffer_size", "orderBy(rand()) in Spark before from_spark()")
        batch_format = "pyarrow" if batch_format is None else batch_format
        if batch_format not in FORMATS:
            raise ValueError(f"batch_format must be one of {', '.join(FORMATS)}: {batch_format!r}")
        _check_size(batch_size, "batch_size")
        return self._batches(prefetch_batches > 0, batch_size, batch_format, drop_last)

    def _batches(
        self, ahead: bool, batch_size: int | None, batch_format: str, drop_last: bool
    ) -> Iterator[Any]:
        for table in cut(self._tables(ahead), batch_size, drop_last):
            yield _run.to_format(table, batch_format)

    def _tables(self, ahead: bool = True) -> Iterator[Any]:
        import skate

        self._run()
        for i, ref in enumerate(self._refs):
            if ahead and i + 1 < len(self._refs):
                skate.wait([self._refs[i + 1]], timeout=0, fetch_local=True)
            yield _run.table_of(skate.get(ref))

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        """Each row as a dict."""
        for table in self._tables():
            for batch in table.to_batches(max_chunksize=1024):
                yield from batch.to_pylist()

    def take(self, limit: int = 20) -> list[dict[str, Any]]:
        """The first rows, as dicts; reads no more blocks than these need."""
        rows: list[dict[str, Any]] = []
        for table in self._tables(ahead=False):
            rows += table.slice(0, limit - len(rows)).to_pylist()
            if len(rows) >= limit:
                break
        return rows

    def take_all(self, limit: int | None = None) -> list[dict[str, Any]]:
        """All rows, as dicts. ValueError: there are more than limit."""
        if limit is not None and self.count() > limit:
            raise ValueError(f"the dataset has more than {limit} rows")
        return self.take(self.count())

    def take_batch(self, batch_size: int = 20, *, batch_format: str | None = "default") -> Any:
        """The first rows as one batch. ValueError: there are none."""
        for batch in self.iter_batches(batch_size=batch_size, batch_format=batch_format):
            return batch
        raise ValueError("take_batch() of a dataset without rows")

    def show(self, limit: int = 20) -> None:
        """Print the first rows."""
        for row in self.take(limit):
            print(row)

    # ------------------------------------------------------------------------------ out of it

    def to_arrow(self) -> Any:
        """All rows as one pyarrow.Table, whose columns lie in the blocks."""
        import pyarrow as pa

        tables = list(self._tables())
        if not tables:
            return pa.table({})
        filled = [table for table in tables if table.num_rows] or tables[:1]
        return pa.concat_tables(
            [table.replace_schema_metadata() for table in filled], promote_options="permissive"
        )

    def to_arrow_refs(self) -> list[Any]:
        """The blocks' refs, each a pyarrow.Table."""
        self._run()
        return list(self._refs)

    def get_internal_block_refs(self) -> list[Any]:
        """The blocks' refs."""
        return self.to_arrow_refs()

    def to_pandas(self, limit: int | None = None) -> Any:
        """All rows as a pandas.DataFrame. ValueError: there are more than limit."""
        if limit is not None and self.count() > limit:
            raise ValueError(
                f"the dataset has {self.count()} rows, more than the limit of {limit}"
            )
        return self.to_arrow().to_pandas()

    def to_pandas_refs(self) -> list[Any]:
        """Each block as a ref of a pandas.DataFrame, made by a task."""
        import skate

        convert = skate.remote(_frame_of)
        return [convert.remote(ref) for ref in self.to_arrow_refs()]

    def to_spark(self, spark: Any) -> Any:
        """A DataFrame of Spark, whose partitions are the blocks (skate.util.spark.from_refs)."""
        from skate.util.spark._transfer import from_refs

        found = self.schema()
        return from_refs(spark, self._refs, found.base_schema if found else None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        from skate._absent import AbsentNameError

        if name in _ADVICE or name.startswith(("write_", "to_", "iter_", "map_")):
            instead = _ADVICE.get(name, _OTHER)
            raise AbsentNameError(f"Dataset.{name} is not in Skate yet. Meanwhile: {instead}.")
        raise AttributeError(f"'Dataset' object has no attribute {name!r}")


class MaterializedDataset(Dataset):
    """A dataset without steps: its blocks are there."""


class _Tasks:
    """A step that runs as tasks, of which at most `most` at once. Bad options raise here."""

    def __init__(self, step: Step, options: dict[str, Any], most: int | None) -> None:
        import skate

        self.step, self._options, self._most = step, options, most
        self._task = skate.remote(_run.run_steps).options(**{**options, "num_returns": 2})

    def runs_as(self) -> tuple[Any, ...]:
        """Steps of the same run in one task."""
        return self._options, self._most

    def start(self, refs: list[Any], steps: list[Step]) -> tuple[list[Any], list[Any]]:
        """The refs of blocks and metas; waits only where `most` says so."""
        import skate

        shared = skate.put(steps)
        made: list[Any] = []
        running: list[Any] = []
        for ref in refs:
            if self._most is not None and len(running) >= self._most:
                _, running = skate.wait(running, fetch_local=False)
            made.append(self._task.remote(ref, shared))
            running.append(made[-1][1])
        return _pairs(made)


class _Pool:
    """A step that runs in actors. The blocks are dealt to whoever is free."""

    def __init__(self, step: Step, options: dict[str, Any], size: int, *make: Any) -> None:
        import skate

        self._step, self._size, self._make = step, size, make
        self._kind = skate.remote(_run.Runner).options(**options)

    def start(self, refs: list[Any]) -> tuple[list[Any], list[Any]]:
        """Runs all of them: the actors end with this call."""
        import skate

        size = min(self._size, max(1, len(refs)))
        free: list[Any] = [self._kind.remote(self._step, *self._make) for _ in range(size)]
        busy: dict[Any, Any] = {}
        made: list[Any] = []
        for ref in refs:
            if not free:
                [done], _ = skate.wait(list(busy), fetch_local=False)
                free.append(busy.pop(done))
            actor = free.pop()
            pair: Any = actor.run.options(num_returns=2).remote(ref)
            busy[pair[1]] = actor
            made.append(pair)
        if busy:
            skate.wait(list(busy), num_returns=len(busy), fetch_local=False)
        return _pairs(made)


class _Copied:
    """A function whose batches may be written to."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = fn

    def __call__(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(batch, dict):
            batch = {name: values.copy() for name, values in batch.items()}
        elif hasattr(batch, "copy"):
            batch = batch.copy()
        return self._fn(batch, *args, **kwargs)


def _frame_of(block: Any) -> Any:
    return _run.table_of(block).to_pandas()


def _pairs(made: list[Any]) -> tuple[list[Any], list[Any]]:
    return [block for block, _ in made], [meta for _, meta in made]


def cut(tables: Iterator[Any], batch_size: int | None, drop_last: bool) -> Iterator[Any]:
    """The rows of the tables in tables of batch_size rows; those of one block are views of it."""
    import pyarrow as pa

    held: list[Any] = []
    rows = 0
    for table in tables:
        if not table.num_rows:
            continue
        if batch_size is None:
            yield table
            continue
        begin = 0
        while rows + table.num_rows - begin >= batch_size:
            held.append(table.slice(begin, batch_size - rows))
            begin += batch_size - rows
            yield held[0] if len(held) == 1 else _joined(pa, held)
            held, rows = [], 0
        if begin < table.num_rows:
            held.append(table.slice(begin))
            rows += table.num_rows - begin
    if held and not drop_last:
        yield held[0] if len(held) == 1 else _joined(pa, held)


def _joined(pa: Any, parts: list[Any]) -> Any:
    return pa.concat_tables(parts, promote_options="permissive")


def _check_size(size: Any, what: str) -> None:
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise ValueError(f"{what} must be an int > 0, or None for whole blocks, not {size!r}")


def _pool_size(concurrency: Any) -> int:
    if concurrency is None:
        return 1
    most = concurrency[-1] if isinstance(concurrency, tuple) else concurrency
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise ValueError(f"concurrency must be an int > 0, or a pair of them, not {concurrency!r}")
    return most


def _refuse(what: str, instead: str) -> None:
    from skate._absent import refuse

    refuse(what, instead)
