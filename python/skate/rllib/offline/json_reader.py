"""JsonReader: batches from files of JSON lines, as JsonWriter and RLlib write them."""

from __future__ import annotations

import glob
import io
import json
import logging
import os
import random
import zipfile
from collections.abc import Iterator
from typing import IO, Any

from skate.rllib._errors import OfflineDataError
from skate.rllib.offline import _columns
from skate.rllib.offline.input_reader import InputReader
from skate.rllib.offline.io_context import IOContext

logger = logging.getLogger(__name__)


def from_json_data(json_data: dict[str, Any], worker: Any = None) -> Any:
    """The batch of one parsed record."""
    return _columns.to_batch(json_data, _columns.Where())


def find_files(inputs: str | list[str], suffixes: tuple[str, ...]) -> list[str]:
    """The files that a folder, a pattern, a path or a list of paths stands for.

    Raises:
        TypeError: not text or a list of it.
        FileNotFoundError: a pattern that matches nothing, a file that is not there.
        OfflineDataError: an address of another machine.
    """
    if isinstance(inputs, (str, os.PathLike)):
        inputs = [os.fspath(inputs)]
    if not isinstance(inputs, (list, tuple)) or not inputs or not all(
            isinstance(item, (str, os.PathLike)) for item in inputs):
        raise TypeError("offline input is a folder, a pattern, a file or a list of files, got "
                        f"{inputs!r}")
    found: list[str] = []
    for item in inputs:
        text = os.fspath(item)
        if "://" in text and not text.startswith("file://"):
            raise OfflineDataError("data is read from files of this machine (or a shared file "
                                   "system); fetch it first", text)
        path = os.path.abspath(os.path.expanduser(text.removeprefix("file://")))
        if os.path.isdir(path):
            names = sorted(os.path.join(path, name) for name in os.listdir(path)
                           if name.endswith(suffixes))
        elif glob.has_magic(path):
            names = sorted(glob.glob(path, recursive=True))
        else:
            names = [path] if os.path.exists(path) else []
        if not names:
            raise FileNotFoundError(f"no offline data at {text}: no file of the kind "
                                    f"{' or '.join(suffixes)} is there")
        found += names
    return found


class JsonReader(InputReader):
    """Reads *.json (JSON lines; also inside *.zip), one batch a line.

    next() takes the files in random order (`seed` in input_config fixes it), each from its first
    line to its last, for ever; read_all_files() goes through all of them once.
    """

    def __init__(self, inputs: str | list[str], ioctx: IOContext | None = None) -> None:
        """`inputs`: a folder, a pattern, a file or a list of files.

        Raises:
            FileNotFoundError: there is no such file.
        """
        self.ioctx = ioctx or IOContext()
        self.files = find_files(inputs, (".json", ".jsonl", ".zip"))
        seed = self.ioctx.input_config.get("seed", self.ioctx.config.get("seed"))
        self._random = random.Random(seed)
        self._left: list[str] = []
        self._batches: Iterator[Any] = iter(())

    def next(self) -> Any:
        """The next batch.

        Raises:
            OfflineDataError: a damaged line, or no batch in any of the files.
        """
        for _ in range(2 * len(self.files) + 1):
            for batch in self._batches:
                return batch
            if not self._left:
                self._left = list(self.files)
                self._random.shuffle(self._left)
            self._batches = read_file(self._left.pop())
        raise OfflineDataError("there is no batch in "
                               + (self.files[0] if len(self.files) == 1 else
                                  f"any of the {len(self.files)} files"),
                               self.files[0])

    def read_all_files(self) -> Iterator[Any]:
        """Each batch of each file once, in the order of the files' names."""
        for path in self.files:
            yield from read_file(path)


def read_file(path: str) -> Iterator[Any]:
    """The batches of one file. A last line that was cut off is left out, with a warning.

    Raises:
        OfflineDataError: a damaged line; it names file, line and column.
    """
    if path.endswith(".zip"):
        try:
            with zipfile.ZipFile(path) as archive:
                for name in sorted(archive.namelist()):
                    if name.endswith((".json", ".jsonl")):
                        with archive.open(name) as member:
                            yield from _read_lines(member, f"{path}/{name}")
        except zipfile.BadZipFile as error:
            raise OfflineDataError(f"a damaged archive: {error}", path) from None
        return
    with open(path, "rb") as source:
        yield from _read_lines(source, path)


def _read_lines(source: IO[bytes] | io.BufferedReader, path: str) -> Iterator[Any]:
    for number, line in enumerate(source, 1):
        if not line.strip():
            continue
        where = _columns.Where(path, number)
        try:
            record = json.loads(line)
        except RecursionError:
            raise where.fail("nested too deeply") from None
        except ValueError as error:
            if not line.endswith(b"\n"):
                logger.warning("%s:%d: the last line is cut off (%d bytes) and is left out; the "
                               "%d before it are used. The writer was stopped or the file was "
                               "not copied whole.", path, number, len(line), number - 1)
                return
            raise where.fail(f"not a line of JSON: {error}") from None
        yield _columns.to_batch(record, where)


__all__ = ["JsonReader", "from_json_data"]
