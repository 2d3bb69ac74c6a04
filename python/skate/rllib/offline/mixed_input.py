"""MixedInput: batches from several sources, each with its share."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from skate.rllib.offline.input_reader import InputReader
from skate.rllib.offline.io_context import IOContext
from skate.rllib.offline.json_reader import JsonReader


class MixedInput(InputReader):
    """next() asks one of the sources, drawn with the given probabilities."""

    def __init__(self, dist: dict[Any, float], ioctx: IOContext | None = None) -> None:
        """`dist`: source -> probability. A source is a folder or pattern of JSON files,
        "sampler", a function of an IOContext that gives a reader, or a reader.

        Raises:
            ValueError: the probabilities do not add up to 1, or "sampler" without a sampler.
        """
        if not dist or abs(sum(dist.values()) - 1.0) > 1e-4 or min(dist.values()) < 0:
            raise ValueError(f"the probabilities of mixed input must add up to 1, got {dist}")
        self.ioctx = ioctx or IOContext()
        self.choices = [self._reader(source) for source in dist]
        self.p = list(dist.values())
        seed = self.ioctx.config.get("seed")
        self._random = random.Random(None if seed is None else seed + 1)

    def _reader(self, source: Any) -> Any:
        if source == "sampler":
            made = self.ioctx.default_sampler_input()
            if made is None:
                raise ValueError("'sampler' in mixed input needs a worker with environments")
            return made
        if isinstance(source, str):
            return JsonReader(source, self.ioctx)
        if isinstance(source, Callable):  # type: ignore[arg-type]
            return source(self.ioctx)
        if hasattr(source, "next"):
            return source
        raise TypeError(f"a source of mixed input is a path, 'sampler' or a reader: {source!r}")

    def next(self) -> Any:
        """The next batch of one of the sources."""
        return self._random.choices(self.choices, self.p)[0].next()


__all__ = ["MixedInput"]
