"""Offline data: readers and writers of experience, and estimators of a policy's value from it."""

from __future__ import annotations

from skate.rllib._errors import OfflineDataError
from skate.rllib.offline.dataset_reader import DatasetReader, get_dataset_and_shards
from skate.rllib.offline.dataset_writer import DatasetWriter
from skate.rllib.offline.input_reader import InputReader
from skate.rllib.offline.io_context import IOContext
from skate.rllib.offline.json_reader import JsonReader
from skate.rllib.offline.json_writer import JsonWriter
from skate.rllib.offline.mixed_input import MixedInput
from skate.rllib.offline.output_writer import NoopOutput, OutputWriter
from skate.rllib.offline.shuffled_input import ShuffledInput

__all__ = [
    "DatasetReader", "DatasetWriter", "IOContext", "InputReader", "JsonReader", "JsonWriter",
    "MixedInput", "NoopOutput", "OfflineDataError", "OutputWriter", "ShuffledInput",
    "get_dataset_and_shards",
]
