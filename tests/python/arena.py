"""Where bytes lie: which addresses are of the object store, as the kernel says.

A mapping of the store that a reader sees is read-only and shared: who writes there is killed.
"""

from __future__ import annotations


def _mappings():
    with open("/proc/self/maps") as file:
        for line in file:
            place, rights, *rest = line.split(maxsplit=5)
            if rights.startswith("r--s") and "skate-arena" in rest[-1]:
                low, high = place.split("-")
                yield int(low, 16), int(high, 16)


def inside(address):
    """Does it lie in the store, where nobody can write?"""
    return any(low <= address < high for low, high in _mappings())


def all_inside(places):
    """All of them, and there are some."""
    found = list(_mappings())
    return bool(places) and all(any(lo <= p < hi for lo, hi in found) for p in places)


def addresses(table):
    """Of the buffers with data of a table: of all columns, dictionaries included."""
    import pyarrow

    if not isinstance(table, (pyarrow.Table, pyarrow.RecordBatch)):  # of polars
        table = pyarrow.RecordBatchReader.from_stream(table).read_all()
    places = []
    for batch in [table] if isinstance(table, pyarrow.RecordBatch) else table.to_batches():
        for column in batch.columns:
            places += _of_array(column)
    return places


def _of_array(array):
    import pyarrow

    found = [b.address for b in array.buffers() if b is not None and b.size]
    if isinstance(array, pyarrow.DictionaryArray):
        found += _of_array(array.dictionary)
    return found
