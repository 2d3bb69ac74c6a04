"""LoggingConfig: how the root logger of a job's driver and workers writes."""

from __future__ import annotations

from skate._init_config import variable

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

_ENCODINGS = ("TEXT", "JSON")
_STANDARD = frozenset(
    ("name", "msg", "args", "levelname", "levelno", "pathname", "filename", "module", "exc_info",
     "exc_text", "stack_info", "lineno", "funcName", "created", "msecs", "relativeCreated",
     "thread", "threadName", "processName", "process", "message", "taskName")
)  # fmt: skip


class LoggingConfig:
    """encoding: "TEXT" or "JSON"; log_level: of the root logger; additional_log_standard_attrs:
    attributes of Python's LogRecord that each line has too. ValueError for unknown ones."""

    def __init__(
        self,
        encoding: str | None = None,
        log_level: str = "INFO",
        additional_log_standard_attrs: list[str] | None = None,
    ) -> None:
        self.encoding = encoding or variable("LOGGING_CONFIG_ENCODING") or "TEXT"
        self.log_level = log_level
        self.additional_log_standard_attrs = list(additional_log_standard_attrs or ())
        if self.encoding not in _ENCODINGS:
            raise ValueError(
                f"the encoding of a LoggingConfig is one of {', '.join(_ENCODINGS)}, not "
                f"{self.encoding!r}"
            )
        for name in self.additional_log_standard_attrs:
            if name not in _STANDARD:
                raise ValueError(
                    f"{name!r} is no standard attribute of a log record; there are: "
                    f"{', '.join(sorted(_STANDARD))}"
                )

    def plain(self) -> dict[str, Any]:
        """For the job's settings."""
        return {
            "encoding": self.encoding,
            "level": self.log_level,
            "attributes": self.additional_log_standard_attrs,
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LoggingConfig) and self.plain() == other.plain()

    def __hash__(self) -> int:
        return hash((self.encoding, self.log_level))

    def __repr__(self) -> str:
        return (
            f"LoggingConfig(encoding={self.encoding!r}, log_level={self.log_level!r}, "
            f"additional_log_standard_attrs={self.additional_log_standard_attrs!r})"
        )


def apply(plain: dict[str, Any]) -> None:
    """Give this process's root logger one handler that writes so, to stderr."""
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(_formatter(plain))
    root = logging.getLogger()
    for other in [h for h in root.handlers if getattr(h, "_skate", False)]:
        root.removeHandler(other)
    handler._skate = True  # type: ignore[attr-defined]
    root.addHandler(handler)
    root.setLevel(plain["level"])


def _formatter(plain: dict[str, Any]) -> Any:
    import json
    import logging
    import time

    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            message = record.getMessage()
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
            place = {
                "asctime": f"{stamp},{int(record.msecs):03d}", "levelname": record.levelname,
                "message": message, "filename": record.filename, "lineno": record.lineno,
                **_where(),
            }  # fmt: skip
            for name in plain["attributes"]:
                place[name] = getattr(record, name, None)
            for name, value in record.__dict__.items():
                if name not in _STANDARD and name not in place:
                    place[name] = value
            if record.exc_info:
                place["exc_text"] = self.formatException(record.exc_info)
            if plain["encoding"] == "JSON":
                return json.dumps(place, default=str)
            text = f"{place.pop('asctime')}\t{place.pop('levelname')} "
            text += f"{place.pop('filename')}:{place.pop('lineno')} -- {place.pop('message')}"
            trace = place.pop("exc_text", None)
            text += " " + " ".join(f"{name}={value}" for name, value in place.items())
            return f"{text}\n{trace}" if trace else text

    return Formatter()


def _where() -> dict[str, Any]:
    """Ids of the job, process and task that writes."""
    from skate import _api, _core

    if not _core.epoch():
        return {}
    from skate.runtime_context import _context

    out = {"job_id": _context.get_job_id(), "worker_id": _context.get_worker_id(),
           "node_id": _context.get_node_id()}  # fmt: skip
    if _api._session.actor:
        out["actor_id"] = _api._session.actor.hex()
    now = _core.current()
    if now is not None:
        out["task_id"] = now[1].hex()
    return out


def set_levels(level: Any, template: str | None) -> None:
    """Level and format of the loggers `ray` and `skate`, as init() was told."""
    import logging

    if isinstance(level, str) and not level.isdigit():
        level = level.upper()
    elif level is not None:
        level = int(level)
    for name in ("ray", "skate"):
        logger = logging.getLogger(name)
        if level is not None:
            logger.setLevel(level)
        if template and not logger.handlers:
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter(template))
            logger.addHandler(handler)
            logger.propagate = False


def take_on(plain: dict[str, Any]) -> None:
    """What init() was told about logging, in this process."""
    if plain.get("root"):
        apply(plain["root"])
    if plain.get("level") is not None or plain.get("format"):
        set_levels(plain.get("level"), plain.get("format"))
