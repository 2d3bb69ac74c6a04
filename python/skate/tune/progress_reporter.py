"""What a user sees while an experiment runs: the status block with the table of trials.

Text is plain print()s, in any stdout: a terminal, a file, a notebook's cell.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from skate.tune import result as keys
from skate.tune.logger import as_number
from skate.tune.trial import ERROR, PENDING, RUNNING, STATES, Trial

# A change of a trial's state is shown at most so often, and looked for at most so often.
STATE_CHANGE_INTERVAL_S = 1.0
LOOK_INTERVAL_S = 0.1

DEFAULT_COLUMNS: dict[str, str] = {
    "mean_accuracy": "acc",
    "mean_loss": "loss",
    keys.TRAINING_ITERATION: "iter",
    keys.TIME_TOTAL_S: "total time (s)",
    keys.TIMESTEPS_TOTAL: "ts",
    "episode_reward_mean": "reward",
    "episode_reward_max": "episode_reward_max",
    "episode_reward_min": "episode_reward_min",
    "episode_len_mean": "episode_len_mean",
}


class ProgressReporter:
    """Decides when to report and how."""

    def setup(self, start_time: float | None = None, total_samples: int | None = None,
              metric: str | None = None, mode: str | None = None, **kwargs: Any) -> None:
        """Called once, before the first trial."""

    def should_report(self, trials: list[Trial], done: bool = False) -> bool:
        """Whether to report now; called at every event."""
        raise NotImplementedError(f"{type(self).__name__} must define should_report()")

    def report(self, trials: list[Trial], done: bool, *sys_info: str) -> None:
        """Show where the experiment stands."""
        raise NotImplementedError(f"{type(self).__name__} must define report()")


class CLIReporter(ProgressReporter):
    """Prints the status block at most every `max_report_frequency` seconds, and at the end."""

    def __init__(self, *, metric_columns: Sequence[str] | Mapping[str, str] | None = None,
                 parameter_columns: Sequence[str] | Mapping[str, str] | None = None,
                 total_samples: int | None = None, max_progress_rows: int = 20,
                 max_error_rows: int = 20, max_column_length: int = 20,
                 max_report_frequency: float = 5, infer_limit: int = 3,
                 print_intermediate_tables: bool | None = None, metric: str | None = None,
                 mode: str | None = None, sort_by_metric: bool = False) -> None:
        self._metric_columns = _as_columns(metric_columns)
        self._parameter_columns = _as_columns(parameter_columns)
        self._max_rows, self._max_error_rows = max_progress_rows, max_error_rows
        self._max_column = max_column_length
        self._interval = max_report_frequency
        self._infer_limit = infer_limit
        self._intermediate = print_intermediate_tables is not False
        self._metric, self._mode, self._sort = metric, mode, sort_by_metric
        self._last_time = self._last_look = -math.inf
        self._last_states: dict[str, int] = {}
        self._start_time = time.time()

    def setup(self, start_time: float | None = None, total_samples: int | None = None,
              metric: str | None = None, mode: str | None = None, **kwargs: Any) -> None:
        """Take what the constructor did not get."""
        self._start_time = start_time or time.time()
        self._metric = self._metric or metric
        self._mode = self._mode or mode

    def add_metric_column(self, metric: str, representation: str | None = None) -> None:
        """Show one more metric."""
        if self._metric_columns is None:
            self._metric_columns = dict(DEFAULT_COLUMNS)
        if metric in self._metric_columns:
            raise ValueError(f"Column {metric} already exists.")
        self._metric_columns[metric] = representation or metric

    def add_parameter_column(self, parameter: str, representation: str | None = None) -> None:
        """Show one more parameter."""
        if self._parameter_columns is None:
            self._parameter_columns = {}
        if parameter in self._parameter_columns:
            raise ValueError(f"Column {parameter} already exists.")
        self._parameter_columns[parameter] = representation or parameter

    def should_report(self, trials: list[Trial], done: bool = False) -> bool:
        """At the end, when time has come, and soon after a trial changed its state."""
        if done:
            return True
        if not self._intermediate:
            return False
        now = time.monotonic()
        since = now - self._last_time
        if since >= self._interval:
            return True
        if since < STATE_CHANGE_INTERVAL_S or now - self._last_look < LOOK_INTERVAL_S:
            return False
        self._last_look = now
        return self._last_states != Counter(t.status for t in trials)

    def next_report_in(self) -> float:
        """Seconds until time alone asks for a report."""
        return max(0.0, self._last_time + self._interval - time.monotonic())

    def report(self, trials: list[Trial], done: bool, *sys_info: str) -> None:
        """Print the block."""
        self._last_time = time.monotonic()
        self._last_states = Counter(t.status for t in trials)
        say(self.text(trials, done, *sys_info))

    # ---- the text ---------------------------------------------------------------------------

    def text(self, trials: list[Trial], done: bool, *sys_info: str) -> str:
        """The whole block."""
        now = time.time()
        lines = ["== Status ==",
                 f"Current time: {datetime.fromtimestamp(now):%Y-%m-%d %H:%M:%S} "
                 f"(running for {format_elapsed(now - self._start_time)})",
                 f"Memory usage on this node: {memory_usage()}"]
        lines += [info for info in sys_info if info]
        best = self._best_line(trials, done)
        if best:
            lines.append(best)
        counts = Counter(t.status for t in trials)
        states = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
        lines.append(f"Number of trials: {len(trials)}/{len(trials)} ({states})")
        lines += self._trial_table(trials, done)
        lines += self._error_table(trials)
        return "\n".join(lines) + "\n"

    def _best_line(self, trials: list[Trial], done: bool) -> str | None:
        if not self._metric or not self._mode:
            return None
        sign = 1 if self._mode == "max" else -1
        rated = [(sign * t.metric(self._metric), t) for t in trials
                 if not math.isnan(t.metric(self._metric))]
        if not rated or len(trials) < 2:
            return None
        _, best = max(rated, key=lambda item: item[0])
        values = ", ".join(f"{k}={v}" for k, v in best.evaluated_params.items())
        title = "Best trial" if done else "Current best trial"
        return (f"{title}: {best.trial_id} with {self._metric}="
                f"{best.metric(self._metric):.6g}" + (f" and parameters: {values}" if values
                                                      else ""))

    def _columns(self, trials: list[Trial]) -> tuple[dict[str, str], dict[str, str]]:
        """(metric -> title, parameter -> title) of this table; empty columns are left out."""
        metrics = dict(self._metric_columns or DEFAULT_COLUMNS)
        if self._metric_columns is None:
            for key in (*self._user_metrics(trials, metrics), self._metric):
                if key and key not in metrics:
                    metrics[key] = key
        with_value = {key: title for key, title in metrics.items()
                      if any(keys.lookup(t.last_result, key) is not None for t in trials)}
        if self._parameter_columns is not None:
            return with_value, self._parameter_columns
        names: dict[str, str] = {}
        for trial in trials:
            for name in trial.evaluated_params:
                names.setdefault(name, name)
        return with_value, names

    def _user_metrics(self, trials: list[Trial], known: Mapping[str, str]) -> list[str]:
        """The first few numbers that a trainable of the user's reports by itself."""
        for trial in trials:
            if trial.last_result:
                if "episode_reward_mean" in trial.last_result:
                    return []
                found = [key for key, value in trial.last_result.items()
                         if key not in keys.AUTO_KEYS and key not in known
                         and as_number(value) is not None]
                return found[:self._infer_limit]
        return []

    def _trial_table(self, trials: list[Trial], done: bool) -> list[str]:
        if not trials:
            return []
        metrics, parameters = self._columns(trials)
        limit = len(trials) if done else self._max_rows
        shown = self._shown(trials, limit)
        header = ["Trial name", "status", "loc", *parameters.values(),
                  *metrics.values()]
        rows = []
        for trial in shown:
            row: list[Any] = [trial.name, trial.status, trial.location]
            row += [self._short(_config_value(trial, name)) for name in parameters]
            row += [self._short(keys.lookup(trial.last_result, key)) for key in metrics]
            rows.append(row)
        lines = format_table(header, rows)
        if len(trials) > len(shown):
            hidden = Counter(t.status for t in trials)
            hidden.subtract(Counter(t.status for t in shown))
            left = ", ".join(f"{n} {state}" for state, n in hidden.items() if n)
            lines.append(f"... {len(trials) - len(shown)} more trials not shown ({left})")
        return lines

    def _shown(self, trials: list[Trial], limit: int) -> list[Trial]:
        if self._sort and self._metric:
            sign = -1 if self._mode == "max" else 1

            def rank(trial: Trial) -> float:
                value = trial.metric(self._metric or "")
                return math.inf if math.isnan(value) else sign * value
            trials = sorted(trials, key=rank)
        if len(trials) <= limit:
            return trials
        order = {RUNNING: 0, ERROR: 1, PENDING: 3}
        return sorted(trials, key=lambda t: order.get(t.status, 2))[:limit]

    def _short(self, value: Any) -> Any:
        number = as_number(value)
        if number is not None:
            return value if isinstance(value, int) else number
        if value is None:
            return ""
        text = str(value)
        return text if len(text) <= self._max_column else "..." + text[3 - self._max_column:]

    def _error_table(self, trials: list[Trial]) -> list[str]:
        lines = []
        failed = [t for t in trials if t.error_file]
        for title, group in (
                ("Number of errored trials", [t for t in failed if t.status == ERROR]),
                ("Trials started again after a failure", [t for t in failed if t.status != ERROR])):
            if group:
                rows = [[t.name, t.num_failures, t.error_file]
                        for t in group[:self._max_error_rows]]
                lines += [f"{title}: {len(group)}",
                          *format_table(["Trial name", "# failures", "error file"], rows)]
        return lines


class JupyterNotebookReporter(CLIReporter):
    """The same block; in a notebook it replaces the one before when `overwrite` is set."""

    def __init__(self, overwrite: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._overwrite = overwrite

    def report(self, trials: list[Trial], done: bool, *sys_info: str) -> None:
        """Clear the cell's output, if there is a notebook, and print."""
        display = sys.modules.get("IPython.display")
        if self._overwrite and display is not None and "ipykernel" in sys.modules:
            display.clear_output(wait=True)
        super().report(trials, done, *sys_info)


def _as_columns(given: Sequence[str] | Mapping[str, str] | None) -> dict[str, str] | None:
    if given is None:
        return None
    return dict(given) if isinstance(given, Mapping) else {name: name for name in given}


def _config_value(trial: Trial, name: str) -> Any:
    if name in trial.evaluated_params:
        return trial.evaluated_params[name]
    return keys.lookup(trial.config, name)


def format_table(header: list[str], rows: list[list[Any]]) -> list[str]:
    """A table with borders; columns of numbers are aligned to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [bool(rows) and all(as_number(row[i]) is not None or row[i] == "" for row in rows)
               and any(row[i] != "" for row in rows) for i in range(len(header))]
    widths = [max([len(title)] + [len(row[i]) for row in cells]) for i, title in enumerate(header)]

    def line(values: list[str]) -> str:
        padded = (v.rjust(w) if right else v.ljust(w)
                  for v, w, right in zip(values, widths, numeric, strict=True))
        return "| " + " | ".join(padded) + " |"

    rule = "+".join("-" * (w + 2) for w in widths)
    return [f"+{rule}+", line(header), f"|{rule}|", *map(line, cells), f"+{rule}+"]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "nan" if math.isnan(value) else format(value, ".6g")
    return str(value)


def format_elapsed(seconds: float) -> str:
    """00:01:25.41."""
    whole = max(0.0, seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{int(hours):02d}:{int(minutes):02d}:{left:05.2f}"


def memory_usage() -> str:
    """'9.1/16.0 GiB' of this machine."""
    facts: dict[str, int] = {}
    try:
        with open("/proc/meminfo", encoding="ascii") as source:
            for line in source:
                name, _, rest = line.partition(":")
                if name in ("MemTotal", "MemAvailable"):
                    facts[name] = int(rest.split()[0])
    except (OSError, ValueError, IndexError):
        pass
    if len(facts) < 2:
        return "unknown"
    total, free = facts["MemTotal"], facts["MemAvailable"]
    return f"{(total - free) / 2**20:.1f}/{total / 2**20:.1f} GiB"


def say(text: str) -> None:
    """print() that survives a missing, closed or broken stdout."""
    out = sys.stdout
    if out is None:
        return
    try:
        out.write(text + "\n")
        out.flush()
    except (ValueError, BrokenPipeError):
        pass
    except UnicodeEncodeError:
        out.write(text.encode("ascii", "replace").decode() + os.linesep)
