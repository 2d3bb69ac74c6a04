"""Labels of nodes, and selectors of nodes by their labels: checked, and put into the core's words
(src/sched/labels.h)."""

from __future__ import annotations

import re

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_VALUE = re.compile(_WORD)
_PREFIX = re.compile(rf"{_WORD}(?:\.{_WORD})*")
_SELECTOR = re.compile(rf"!?(?:{_WORD}|in\({_WORD}(?:, ?{_WORD})*\))")
_LENGTH = "1 to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends"
_NODE_BYTES = 943  # of all labels of a node; a selector: see _BYTES
_BYTES = 1023
_RESERVED = "ray.io/"


def check_node_labels(labels: dict[str, str], reserved: bool = True) -> None:
    """TypeError or ValueError for what cannot be the labels of a node.

    reserved: names that begin with "ray.io/" are refused, too.
    """
    if not isinstance(labels, dict):
        raise TypeError(f"labels must be a dict of str to str, not {labels!r}")
    for key, value in labels.items():
        _check_key(key)
        if reserved and key.startswith(_RESERVED):
            raise ValueError(
                f"the label {key!r}: names that begin with {_RESERVED!r} are the runtime's own"
            )
        if not isinstance(value, str):
            raise ValueError(f"the value of the label {key!r} must be a str, not {value!r}")
        if value and not _VALUE.fullmatch(value):
            raise ValueError(f"the value of the label {key!r} has {_LENGTH}: {value!r}")
    if sum(len(key) + len(value) + 2 for key, value in labels.items()) > _NODE_BYTES:
        raise ValueError(f"the labels of a node have at most {_NODE_BYTES} bytes in all")


def parse_node_labels(text: str) -> dict[str, str]:
    """The labels of "name=value,name=value". ValueError when it is no such text."""
    out = {}
    for pair in text.split(",") if text else []:
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or "=" in value:
            raise ValueError(f"labels are name=value, separated by commas: {pair!r} is not one")
        out[key] = value
    check_node_labels(out)
    return out


def check_selector(name: str, value: Any) -> None:
    """The option label_selector: TypeError or ValueError when it is none."""
    if value is None:
        return
    if not isinstance(value, dict):
        raise TypeError(f"{name} must be a dict of labels and what they may be, not {value!r}")
    for key, wanted in value.items():
        _check_key(key)
        if not isinstance(wanted, str) or (wanted and not _SELECTOR.fullmatch(wanted)):
            raise ValueError(
                f"{name}[{key!r}] must be a value, '!value', 'in(a, b)' or '!in(a, b)', where a "
                f"value has {_LENGTH}; it is {wanted!r}"
            )


def check_fallback(name: str, value: Any) -> None:
    """The option fallback_strategy: TypeError or ValueError when it is none."""
    if value is None:
        return
    if not isinstance(value, list):
        raise TypeError(f"{name} must be a list of dicts, not {value!r}")
    for one in value:
        if not isinstance(one, dict):
            raise ValueError(f"{name} is a list of dicts; {one!r} is none")
        if not one:
            raise ValueError(f"{name} has an empty dict: each says a label_selector")
        unknown = sorted(set(one) - {"label_selector"})
        if unknown:
            raise ValueError(f"{name} knows the option label_selector, not {', '.join(unknown)}")
        check_selector(f"{name}: label_selector", one.get("label_selector"))


def selector_of(options: dict[str, Any]) -> str:
    """What these options of a task or actor want of a node's labels, as the core has it."""
    selector = options.get("label_selector")
    fallback = options.get("fallback_strategy")
    chosen = options.get("scheduling_strategy")
    if not selector and not fallback and not hasattr(chosen, "hard"):
        return ""
    ways = [_terms(selector or {})]
    ways += [_terms(one.get("label_selector") or {}) for one in fallback or []]
    if hasattr(chosen, "hard"):
        hard = [_match(one) for one in chosen.hard]
        soft = [_match(one) for one in chosen.soft]
        ways = [way + hard for way in ways]
        if soft:
            ways = [more for way in ways for more in (way + soft, way)]
    out = "\n".join(";".join(way) for way in ways)
    if len(out) > _BYTES:
        raise ValueError(f"what a task or actor wants of labels is too long: {len(out)} bytes, at "
                         f"most {_BYTES}")  # fmt: skip
    return out


def _check_key(key: Any) -> None:
    if not isinstance(key, str):
        raise ValueError(f"the name of a label must be a str, not {key!r}")
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > 253 or not _PREFIX.fullmatch(prefix)):
        raise ValueError(f"what stands before the '/' of a label's name is a domain: {key!r}")
    if not _VALUE.fullmatch(name):
        raise ValueError(f"the name of a label has {_LENGTH}: {key!r}")


def _terms(selector: dict[str, str]) -> list[str]:
    out = []
    for key, wanted in selector.items():
        operator = "!" if wanted.startswith("!") else "="
        values = wanted.removeprefix("!")
        if values.startswith("in("):
            values = "|".join(value.strip() for value in values[3:-1].split(","))
        out.append(f"{key}{operator}{values}")
    return out


def _match(one: Any) -> str:
    """A condition of NodeLabelSchedulingStrategy."""
    kind = type(one.operator).__name__
    sign = {"In": "=", "NotIn": "!", "Exists": "+", "DoesNotExist": "^"}[kind]
    values = getattr(one.operator, "values", ())
    _check_key(one.key)
    for value in values:
        if value and not _VALUE.fullmatch(value):
            raise ValueError(f"a value of the label {one.key!r} has {_LENGTH}: {value!r}")
    return str(one.key) + sign + "|".join(values)
