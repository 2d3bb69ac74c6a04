"""Which arguments fit a function: checked at `.remote()`, so that mistakes show at the caller.

Plain functions are judged by their code object alone (no inspect, which is slow to import); what
has a signature of its own making is judged by inspect.
"""

from __future__ import annotations

from types import FunctionType

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

UNLIMITED = 1 << 30
_VARARGS, _VARKEYWORDS = 0x04, 0x08


class Arity:
    """A signature in plain values, so that it travels with an actor's handle."""

    __slots__ = (
        "names", "positional_only", "defaults", "keyword_only", "required", "star", "stars",
    )  # fmt: skip

    def __init__(
        self,
        names: tuple[str, ...] = (),
        positional_only: int = 0,
        defaults: int = 0,
        keyword_only: tuple[str, ...] = (),
        required: tuple[str, ...] = (),
        star: bool = True,
        stars: bool = True,
    ) -> None:
        self.names = names  # positional parameters
        self.positional_only = positional_only
        self.defaults = defaults  # how many of `names`, from the right, have a default
        self.keyword_only = keyword_only
        self.required = required  # the keyword-only ones without a default
        self.star = star
        self.stars = stars

    def fields(self) -> tuple[Any, ...]:
        """What Arity(*fields) needs."""
        return tuple(getattr(self, name) for name in self.__slots__)

    def limits(self) -> tuple[int, int]:
        """Least and most positional arguments that fit alone; (1, 0) when none does."""
        if self.required:
            return 1, 0
        least = len(self.names) - self.defaults
        return least, UNLIMITED if self.star else len(self.names)

    def check(self, what: str, count: int, keywords: tuple[str, ...]) -> None:
        """TypeError when this many positional arguments and these keywords do not fit."""
        names = self.names
        if count > len(names) and not self.star:
            raise TypeError(
                f"{what}: too many positional arguments ({count}, at most {len(names)})"
            )
        given = set(names[:count])
        by_keyword = set(names[self.positional_only :]) | set(self.keyword_only)
        for keyword in keywords:
            if keyword in given and keyword in by_keyword:
                raise TypeError(f"{what}: multiple values for argument {keyword!r}")
            if keyword not in by_keyword and not self.stars:
                raise TypeError(f"{what}: got an unexpected keyword argument {keyword!r}")
            given.add(keyword)
        needed = names[: len(names) - self.defaults] + self.required
        for name in needed:
            if name not in given:
                raise TypeError(f"{what}: missing a required argument: {name!r}")


def arity(function: Any, skip: int = 0) -> Arity:
    """The arity of a callable; `skip` positional parameters (self) are not counted."""
    if (
        type(function) is FunctionType
        and not hasattr(function, "__wrapped__")
        and not hasattr(function, "__signature__")
    ):
        code = function.__code__
        names = code.co_varnames
        last = code.co_argcount
        keyword_only = names[last : last + code.co_kwonlyargcount]
        defaults = function.__kwdefaults__ or {}
        star = bool(code.co_flags & _VARARGS)
        return Arity(
            names[skip:last],
            max(0, code.co_posonlyargcount - skip),
            min(len(function.__defaults__ or ()), max(0, last - skip)),
            keyword_only,
            tuple(n for n in keyword_only if n not in defaults),
            star,
            bool(code.co_flags & _VARKEYWORDS),
        )
    return _inspected(function, skip)


def _inspected(function: Any, skip: int) -> Arity:
    import inspect

    try:
        parameters = list(inspect.signature(function).parameters.values())[skip:]
    except (ValueError, TypeError):
        return Arity()
    kinds = inspect.Parameter
    positional = [
        p for p in parameters if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
    ]
    keyword_only = [p for p in parameters if p.kind is kinds.KEYWORD_ONLY]
    return Arity(
        tuple(p.name for p in positional),
        sum(p.kind is kinds.POSITIONAL_ONLY for p in positional),
        sum(p.default is not kinds.empty for p in positional),
        tuple(p.name for p in keyword_only),
        tuple(p.name for p in keyword_only if p.default is kinds.empty),
        any(p.kind is kinds.VAR_POSITIONAL for p in parameters),
        any(p.kind is kinds.VAR_KEYWORD for p in parameters),
    )


def constructor_arity(cls: type) -> Arity:
    """The arity of calling a class."""
    init = cls.__init__
    if init is not object.__init__:
        return arity(init, 1)
    new = cls.__new__
    if new is not object.__new__:
        return arity(new, 1)
    return Arity(star=False, stars=False)
