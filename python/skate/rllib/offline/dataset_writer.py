"""DatasetWriter: experience as Parquet files (or JSON lines) with a row a step."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from skate.rllib.offline.dataset_reader import FORMATS, pyarrow_parquet, write_parquet
from skate.rllib.offline.io_context import IOContext
from skate.rllib.offline.json_writer import JsonWriter
from skate.rllib.offline.output_writer import OutputWriter
from skate.rllib.policy.sample_batch import (
    SampleBatch,
    concat_samples,
    convert_ma_batch_to_sample_batch,
)


class DatasetWriter(OutputWriter):
    """output="dataset" with output_config {"format", "path", "max_num_samples_per_file"}.

    A file is written when that many steps have come, and with what is left by close().
    """

    def __init__(self, ioctx: IOContext | None = None,
                 compress_columns: Iterable[str] = frozenset(["obs", "new_obs"])) -> None:
        """Raises ValueError for a config without format or path, ImportError without pyarrow."""
        self.ioctx = ioctx or IOContext()
        extra = self.ioctx.output_config
        for key in ("format", "path"):
            if not extra.get(key):
                raise ValueError(f"output='dataset' needs output_config[{key!r}]")
        self.format = extra["format"]
        if self.format not in FORMATS:
            raise ValueError(f"output_config['format'] must be one of {FORMATS}, got "
                             f"{self.format!r}")
        self.path = os.path.abspath(os.path.expanduser(extra["path"]))
        self.max_num_samples_per_file = int(extra.get("max_num_samples_per_file", 100_000))
        os.makedirs(self.path, exist_ok=True)
        self._lines = None
        if self.format == "json":
            self._lines = JsonWriter(self.path, self.ioctx, compress_columns=compress_columns)
        else:
            pyarrow_parquet()
        self.samples: list[SampleBatch] = []
        self._files = 0

    def write(self, sample_batch: Any) -> None:
        """Keep one batch, and write a file if there are enough."""
        if self._lines is not None:
            self._lines.write(sample_batch)
            return
        self.samples.append(convert_ma_batch_to_sample_batch(sample_batch))
        if sum(batch.count for batch in self.samples) >= self.max_num_samples_per_file:
            self._flush()

    def close(self) -> None:
        """Write what is left."""
        if self._lines is not None:
            self._lines.close()
        if self.samples:
            self._flush()

    def _flush(self) -> None:
        while True:
            path = os.path.join(self.path, f"worker-{self.ioctx.worker_index}_"
                                           f"{self._files:06d}.parquet")
            self._files += 1
            if not os.path.exists(path):
                break
        write_parquet(concat_samples(self.samples), path)
        self.samples = []


__all__ = ["DatasetWriter"]
