"""Counter, Gauge and Histogram: numbers that a program says about itself.

Each process keeps its own and writes them, about a second after a change and at its end, to the
cluster's named values, where `collect()` adds them up. Limits: 1,000 combinations of tags for each
metric and 1,000 metrics for each process (beyond, new ones are dropped with one warning), 256 KB
for each process, about 1,000 processes (then those that were silent for ten minutes go).
"""

from __future__ import annotations

import bisect
import json
import re
import threading
import time
import warnings
from typing import Any

_MOST_SERIES, _MOST_METRICS, _MOST_BYTES, _MOST_PROCESSES = 1000, 1000, 256 * 1024, 1000
_SILENT_S = 600.0
_PAUSE_S = 1.0
_PREFIX = "metrics:"
_NOT_OF_A_NAME = re.compile(r"[^a-zA-Z0-9_:]")

_registry: dict[str, Metric] = {}
_lock = threading.Lock()
_changed = threading.Event()
_writer: threading.Thread | None = None
_written = False


class Metric:
    """What the three kinds have in common.

    tag_keys: the names of the tags; each record gives them all, or leaves some to the default tags;
    tags of other names are left out.
    """

    _kind = "gauge"

    def __init__(
        self, name: str, description: str = "", tag_keys: tuple[str, ...] | None = None
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"the name of a metric is a str, not {name!r}")
        if not name:
            raise ValueError("the name of a metric must not be empty")
        if tag_keys is not None and not isinstance(tag_keys, tuple):
            raise TypeError(f"tag_keys must be a tuple of str, not {tag_keys!r}")
        for key in tag_keys or ():
            if not isinstance(key, str):
                raise TypeError(f"the names of tags are str, not {key!r}")
        if not isinstance(description, str):
            raise TypeError(f"the description of a metric is a str, not {description!r}")
        self._name = name
        self._description = description
        self._tag_keys = tag_keys or ()
        self._default_tags: dict[str, str] = {}
        self._series: dict[tuple[str, ...], list[float]] = {}
        self._shared = self  # the metric of that name that was made first holds the numbers
        _register(self)

    @property
    def info(self) -> dict[str, Any]:
        """Its name, description, tag_keys and default_tags."""
        return {
            "name": self._name,
            "description": self._description,
            "tag_keys": self._tag_keys,
            "default_tags": self._default_tags,
        }

    def set_default_tags(self, default_tags: dict[str, str]) -> Metric:
        """Values of tags for records that do not say them. Returns the metric itself."""
        for key, value in default_tags.items():
            if key not in self._tag_keys:
                raise ValueError(f"{key!r} is not one of the tag_keys {self._tag_keys}")
            if not isinstance(value, str):
                raise TypeError(f"the value of the tag {key!r} is a str, not {value!r}")
        self._default_tags = dict(default_tags)
        return self

    def _place(self, tags: dict[str, str] | None) -> list[float] | None:
        """The numbers for these tags; None when there is no room for more."""
        given = {**self._default_tags, **(tags or {})}
        for key, value in (tags or {}).items():
            if not isinstance(value, str):
                raise TypeError(f"the value of the tag {key!r} is a str, not {value!r}")
        missing = [key for key in self._tag_keys if key not in given]
        if missing:
            raise ValueError(f"the metric {self._name!r} needs the tags {', '.join(missing)}")
        which = tuple(given[key] for key in self._tag_keys)
        series = self._shared._series
        if which not in series:
            if len(series) >= _MOST_SERIES:
                _warn_once(f"the metric {self._name!r} has {_MOST_SERIES} combinations of tags: "
                           "new ones are dropped")  # fmt: skip
                return None
            series[which] = self._empty()
        return series[which]

    def _empty(self) -> list[float]:
        return [0.0]

    def _plain(self) -> dict[str, Any]:
        """For other processes."""
        return {
            "kind": self._kind,
            "description": self._description,
            "tags": list(self._tag_keys),
            "series": [[list(key), list(value)] for key, value in self._series.items()],
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._arguments(), self._default_tags)

    def _arguments(self) -> dict[str, Any]:
        keys = self._tag_keys or None
        return {"name": self._name, "description": self._description, "tag_keys": keys}


class Counter(Metric):
    """A number that only grows."""

    _kind = "counter"

    def inc(self, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
        """Add a positive number."""
        _check_number(value)
        if value <= 0:
            raise ValueError(f"a counter only grows: {value!r} is not positive")
        with _lock:
            place = self._place(tags)
            if place is not None:
                place[0] += value
        _say()


class Gauge(Metric):
    """A number that goes up and down."""

    def set(self, value: float | None, tags: dict[str, str] | None = None) -> None:
        """Take its place; None does nothing."""
        if value is None:
            return
        _check_number(value)
        with _lock:
            place = self._place(tags)
            if place is not None:
                place[0] = float(value)
        _say()


class Histogram(Metric):
    """How many observations fell under each of the boundaries, and their sum."""

    _kind = "histogram"

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: list[float] | None = None,
        tag_keys: tuple[str, ...] | None = None,
    ) -> None:
        if not boundaries:
            raise ValueError("a histogram needs boundaries, for example boundaries=[0.1, 1, 10]")
        for bound in boundaries:
            _check_number(bound)
            if bound <= 0:
                raise ValueError(f"boundaries are positive numbers, not {bound!r}")
        self.boundaries = list(boundaries)
        self._bounds = sorted(map(float, boundaries))
        super().__init__(name, description, tag_keys)

    @property
    def info(self) -> dict[str, Any]:
        """Also its boundaries."""
        return {**super().info, "boundaries": self.boundaries}

    def observe(self, value: float, tags: dict[str, str] | None = None) -> None:
        """Count a number."""
        _check_number(value)
        with _lock:
            place = self._place(tags)
            if place is not None:
                bounds = getattr(self._shared, "_bounds", self._bounds)
                place[bisect.bisect_left(bounds, value)] += 1
                place[-1] += value
        _say()

    def _empty(self) -> list[float]:
        bounds = getattr(self._shared, "_bounds", self._bounds)
        return [0.0] * (len(bounds) + 2)  # each bucket, the one above all, the sum

    def _plain(self) -> dict[str, Any]:
        return {**super()._plain(), "boundaries": self._bounds}

    def _arguments(self) -> dict[str, Any]:
        return {**super()._arguments(), "boundaries": self.boundaries}


def _rebuild(kind: type[Metric], arguments: dict[str, Any], defaults: dict[str, str]) -> Metric:
    return kind(**arguments).set_default_tags(defaults)


def _check_number(value: Any) -> None:
    if not isinstance(value, (int, float)):
        raise TypeError(f"a metric takes an int or a float, not {value!r}")


_warned: set[str] = set()


def _warn_once(text: str) -> None:
    if text not in _warned and len(_warned) < _MOST_METRICS:
        _warned.add(text)
        warnings.warn(text, stacklevel=4)


def _register(metric: Metric) -> None:
    with _lock:
        first = _registry.get(metric._name)
        if first is not None and type(first) is type(metric) and (
            first._tag_keys == metric._tag_keys
        ):
            metric._shared = first
        elif len(_registry) < _MOST_METRICS or first is not None:
            _registry[metric._name] = metric
        else:
            _warn_once(f"this process has {_MOST_METRICS} metrics: new ones are not shown")


# ------------------------------------------------------------------------------- writing


def _say() -> None:
    """There is something new to write."""
    global _writer
    if _changed.is_set():
        return
    _changed.set()
    if _writer is None:
        import atexit

        atexit.register(flush)
    if _writer is None or not _writer.is_alive():
        _writer = threading.Thread(target=_write_for_ever, name="skate-metrics", daemon=True)
        _writer.start()


def _write_for_ever() -> None:
    while True:
        _changed.wait()
        time.sleep(_PAUSE_S)  # what comes in a moment goes along
        _changed.clear()
        flush()


def _key(info: dict[str, Any]) -> str:
    return f"{info['job']:08x}:{info['proc']:016x}"


def flush() -> None:
    """Write what this process has now; nothing without a session."""
    global _written
    from skate import _core

    if not _core.epoch() or not _registry:
        return
    from skate.experimental import internal_kv

    with _lock:
        plain = {name: metric._plain() for name, metric in _registry.items() if metric._series}
    data = json.dumps({"time": time.time(), "metrics": plain}).encode()
    if len(data) > _MOST_BYTES:
        _warn_once(f"the metrics of this process have {len(data)} bytes, more than {_MOST_BYTES}: "
                   "they are not shown")  # fmt: skip
        return
    try:
        key = _key(_core.info())
        if not _written:
            _written = True
            _make_room(internal_kv)
        internal_kv._internal_kv_put(key, data, namespace=_PREFIX)
    except Exception as error:
        if _core.epoch():
            _warn_once(f"metrics cannot be written: {error}")


def _make_room(kv: Any) -> None:
    """Very many processes, now or before: forget those that have long been silent."""
    keys = kv._internal_kv_list("", namespace=_PREFIX)
    if len(keys) < _MOST_PROCESSES:
        return
    for key in keys:
        data = kv._internal_kv_get(key, namespace=_PREFIX)
        if data and json.loads(data)["time"] < time.time() - _SILENT_S:
            kv._internal_kv_del(key, namespace=_PREFIX)


# ------------------------------------------------------------------------------- reading


def collect() -> dict[str, dict[str, Any]]:
    """The metrics of all processes that have written theirs, added up.

    name -> {"kind", "description", "tags", "series": {tag values: numbers}}; a histogram also has
    "boundaries", and its numbers are the count in each bucket, in the one above all, and the sum.
    The gauge of the process that wrote last counts.
    """
    from skate.experimental import internal_kv

    flush()
    parts = []
    for key in internal_kv._internal_kv_list("", namespace=_PREFIX):
        data = internal_kv._internal_kv_get(key, namespace=_PREFIX)
        if data:
            parts.append(json.loads(data))
    out: dict[str, dict[str, Any]] = {}
    for part in sorted(parts, key=lambda part: part["time"]):
        for name, metric in part["metrics"].items():
            _add(out, name, metric)
    return out


def _add(out: dict[str, dict[str, Any]], name: str, metric: dict[str, Any]) -> None:
    have = out.setdefault(name, {**metric, "series": {}})
    same = ("kind", "tags", "boundaries")
    if any(have.get(field) != metric.get(field) for field in same):
        return  # two processes use one name for two things: the older one is shown
    for key, numbers in metric["series"]:
        before = have["series"].get(tuple(key))
        if before is None or metric["kind"] == "gauge":
            have["series"][tuple(key)] = numbers
        else:
            have["series"][tuple(key)] = [a + b for a, b in zip(before, numbers, strict=True)]


def prometheus_text() -> str:
    """All metrics in the text format of Prometheus, named ray_<name>: those of programs, and what
    the object stores of the nodes say."""
    from skate import _memory

    lines: list[str] = []
    for name, kind, text, series in _memory.store_families():
        lines += [f"# HELP ray_{name} {text}", f"# TYPE ray_{name} {kind}"]
        lines += [f"ray_{name}{_tag_text(tags)} {value}" for tags, value in series]
    for name, metric in sorted(collect().items()):
        full = "ray_" + _NOT_OF_A_NAME.sub("_", name)
        kind = metric["kind"]
        if kind == "counter" and not full.endswith("_total"):
            full += "_total"
        lines += [f"# HELP {full} {_one_line(metric['description'])}", f"# TYPE {full} {kind}"]
        for key, numbers in sorted(metric["series"].items()):
            tags = dict(zip(metric["tags"], key, strict=True))
            if kind == "histogram":
                lines += _buckets(full, tags, metric["boundaries"], numbers)
            else:
                lines.append(f"{full}{_tag_text(tags)} {numbers[0]}")
    return "\n".join(lines) + "\n" if lines else ""


def _buckets(
    name: str, tags: dict[str, str], bounds: list[float], numbers: list[float]
) -> list[str]:
    out, count = [], 0.0
    for bound, number in zip([*map(str, bounds), "+Inf"], numbers[:-1], strict=True):
        count += number
        out.append(f"{name}_bucket{_tag_text({**tags, 'le': bound})} {count}")
    text = _tag_text(tags)
    return [*out, f"{name}_sum{text} {numbers[-1]}", f"{name}_count{text} {count}"]


def _one_line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _tag_text(tags: dict[str, str]) -> str:
    if not tags:
        return ""
    parts = []
    for key, value in tags.items():
        shown = _one_line(value).replace('"', '\\"')
        parts.append(f'{key}="{shown}"')
    return "{" + ",".join(parts) + "}"
