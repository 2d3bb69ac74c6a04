"""Result files: params.json, params.pkl, result.json, progress.csv and TensorBoard events.

Each logger is a callback that keeps one open file per running trial. A trial that is started
again goes on in its files.
"""

from __future__ import annotations

import csv
import json
import math
import os
from typing import IO, Any

from skate.tune import result as keys
from skate.tune._events import EventWriter
from skate.tune.callback import Callback
from skate.tune.trial import Trial

RESULT_FILE = "result.json"
PROGRESS_FILE = "progress.csv"
PARAMS_FILE = "params.json"
PARAMS_PICKLE = "params.pkl"


def to_plain(value: Any) -> Any:
    """The value as JSON can say it: numpy's types as Python's, anything unknown as text."""
    if isinstance(value, (str, bool, int, float)) or value is None:
        return value
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(item) for item in value]
    for method in ("tolist", "item"):
        if callable(getattr(value, method, None)):
            try:
                return to_plain(getattr(value, method)())
            except (TypeError, ValueError):
                pass
    if isinstance(value, type) or callable(value):
        return getattr(value, "__qualname__", None) or str(value)
    return str(value)


class SafeEncoder(json.JSONEncoder):
    """json.dumps(..., cls=SafeEncoder) for results and configs."""

    def default(self, o: Any) -> Any:
        """What JSON itself does not know."""
        return to_plain(o)


def dumps(value: Any) -> str:
    """The value as one line of JSON."""
    try:
        return json.dumps(value, cls=SafeEncoder)
    except (TypeError, ValueError):
        return json.dumps(to_plain(value))


class LoggerCallback(Callback):
    """A callback that only cares for a trial's start, results and end."""

    def log_trial_start(self, trial: Trial) -> None:
        """A trial's process is ready."""

    def log_trial_restore(self, trial: Trial) -> None:
        """A trial took on a checkpoint."""

    def log_trial_save(self, trial: Trial) -> None:
        """A trial wrote a checkpoint."""

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """A trial gave a result."""

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """A trial ended."""

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial,
                       **info: Any) -> None:
        """Pass on."""
        self.log_trial_start(trial)

    def on_trial_restore(self, iteration: int, trials: list[Trial], trial: Trial,
                         **info: Any) -> None:
        """Pass on."""
        self.log_trial_restore(trial)

    def on_trial_save(self, iteration: int, trials: list[Trial], trial: Trial,
                      **info: Any) -> None:
        """Pass on."""
        self.log_trial_save(trial)

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial,
                        result: dict[str, Any], **info: Any) -> None:
        """Pass on."""
        self.log_trial_result(iteration, trial, result)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial,
                          **info: Any) -> None:
        """Pass on."""
        self.log_trial_end(trial, failed=False)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial,
                       **info: Any) -> None:
        """Pass on."""
        self.log_trial_end(trial, failed=True)


class _FileLogger(LoggerCallback):
    """Keeps one thing open per running trial and closes it at the trial's end, or at the run's."""

    def __init__(self) -> None:
        self._open: dict[str, Any] = {}

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Close the trial's file."""
        file = self._open.pop(trial.trial_id, None)
        if file is not None:
            file.close()

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Close what an interrupted run left open."""
        for file in self._open.values():
            file.close()
        self._open.clear()


class JsonLoggerCallback(_FileLogger):
    """params.json, params.pkl and result.json, a line of JSON per result."""

    def log_trial_start(self, trial: Trial) -> None:
        """Write the config."""
        import cloudpickle

        folder = trial.logdir or "."
        with open(os.path.join(folder, PARAMS_FILE), "w", encoding="utf-8") as out:
            json.dump(to_plain(trial.config), out, indent=2, sort_keys=True)
        try:
            data = cloudpickle.dumps(trial.config)
        except Exception:
            # A config that cannot be pickled has no params.pkl; params.json names its values.
            data = None
        if data is not None:
            with open(os.path.join(folder, PARAMS_PICKLE), "wb") as binary:
                binary.write(data)
        self.log_trial_end(trial)
        self._open[trial.trial_id] = open(
            os.path.join(folder, RESULT_FILE), "a", encoding="utf-8")

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """Append a line."""
        file: IO[str] | None = self._open.get(trial.trial_id)
        if file is not None:
            file.write(dumps(result) + "\n")
            file.flush()


class _CsvFile:
    """One progress.csv; its columns are those of the first result."""

    def __init__(self, path: str) -> None:
        self._columns: list[str] | None = None
        if os.path.exists(path) and os.path.getsize(path):
            with open(path, encoding="utf-8", newline="") as source:
                self._columns = next(csv.reader(source), None)
        self._file = open(path, "a", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")

    def add(self, row: dict[str, Any]) -> None:
        """Append a row."""
        if self._columns is None:
            self._columns = list(row)
            self._writer.writerow(self._columns)
        self._writer.writerow([row.get(column, "") for column in self._columns])
        self._file.flush()

    def close(self) -> None:
        """No more rows."""
        self._file.close()


class CSVLoggerCallback(_FileLogger):
    """progress.csv, a row per result."""

    def log_trial_start(self, trial: Trial) -> None:
        """Open it."""
        self.log_trial_end(trial)
        self._open[trial.trial_id] = _CsvFile(os.path.join(trial.logdir or ".", PROGRESS_FILE))

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """Append a row."""
        file = self._open.get(trial.trial_id)
        if file is not None:
            file.add(keys.flatten({k: v for k, v in result.items() if k != keys.CONFIG}))


class TBXLoggerCallback(_FileLogger):
    """TensorBoard events: every finite or infinite number of a result, under ray/tune/."""

    def log_trial_start(self, trial: Trial) -> None:
        """Open a new event file."""
        self.log_trial_end(trial)
        self._open[trial.trial_id] = EventWriter(trial.logdir or ".")

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """Append an event."""
        writer: EventWriter | None = self._open.get(trial.trial_id)
        if writer is None:
            return
        step = result.get(keys.TIMESTEPS_TOTAL) or result.get(keys.TRAINING_ITERATION) or 0
        skipped = (keys.CONFIG, keys.PID, keys.TIMESTAMP, keys.TIME_TOTAL_S,
                   keys.TRAINING_ITERATION)
        scalars = {}
        for key, value in keys.flatten(
                {k: v for k, v in result.items() if k not in skipped}).items():
            number = as_number(value)
            if number is not None and not math.isnan(number):
                scalars[f"ray/tune/{key}"] = number
        writer.add_scalars(scalars, int(step))


def as_number(value: Any) -> float | None:
    """A scalar as a float (numpy's too); None for anything else."""
    if isinstance(value, (bool, str, bytes)) or value is None:
        return None
    if isinstance(value, (int, float)):
        return float(value)
    if getattr(value, "ndim", 1) == 0:
        try:
            return float(value)
        except (TypeError, ValueError):
            return None
    return None


def default_loggers() -> list[LoggerCallback]:
    """What every experiment writes."""
    return [JsonLoggerCallback(), CSVLoggerCallback(), TBXLoggerCallback()]


def pretty_print(result: dict[str, Any], exclude: tuple[str, ...] = (keys.CONFIG, "hist_stats"),
                 ) -> str:
    """A result for people: one key a line, nested ones indented, sorted."""
    lines: list[str] = []
    _add_lines(lines, {k: v for k, v in result.items() if k not in exclude}, "")
    return "\n".join(lines) + "\n"


def _add_lines(lines: list[str], values: dict[str, Any], indent: str) -> None:
    for key in sorted(values, key=str):
        value = values[key]
        if value is None:
            continue
        if isinstance(value, dict):
            if value:
                lines.append(f"{indent}{key}:")
                _add_lines(lines, value, indent + "  ")
            else:
                lines.append(f"{indent}{key}: {{}}")
            continue
        plain = to_plain(value)
        if isinstance(plain, float):
            plain = ".nan" if math.isnan(plain) else format(plain, ".10g")
        elif isinstance(plain, bool):
            plain = str(plain).lower()
        elif isinstance(plain, list) and len(plain) > 16:
            plain = f"[{len(plain)} values]"
        lines.append(f"{indent}{key}: {plain}")
