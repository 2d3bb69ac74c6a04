"""The parts of Ray that are not here: each name says so, and what to use meanwhile."""

from __future__ import annotations

from skate.exceptions import NotSupportedError

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import NoReturn

# name -> what it is in Ray, and what to do without it
PARTS = {
    "cross_language": ("calls into Java and C++", "C is there: cross_language.c_function() and "
                       "c_actor_class(); C++ that exports SKATE_TASK is C"),
    "data": ("this part of Ray Data", "skate.data has from_spark(), from_arrow() and "
             "from_pandas(); read files with pandas or pyarrow in tasks, or use Dask with "
             "skate.util.dask"),
    "internal": ("internal functions", "an object is freed when its last ref is gone"),
    "java_actor_class": ("calls into Java", "wrap the library in a Python class"),
    "java_function": ("calls into Java", "wrap the library in a Python function"),
    "job_submission": ("the job server", "start the program itself: `skate run program.py`, with "
                       "RAY_ADDRESS naming the cluster"),
    "llm": ("Ray LLM", "load the model in an actor, and use several with skate.util.ActorPool"),
    "serve": ("Ray Serve", "keep the model in actors and call them from a web server of your own; "
              "`await` works on refs"),
    "show_in_dashboard": ("the dashboard", "print(): the driver shows what workers print"),
    "train": ("this part of Ray Train", "train in actors, one for each worker; skate.train has "
              "what Tune programs use"),
    "workflow": ("Ray Workflow, which Ray removed in 2.48", "skate.dag runs graphs; what must "
                 "outlive the program you store yourself"),
}  # fmt: skip


class AbsentModuleError(NotSupportedError, ImportError):
    """An import of a module that is not here."""


class AbsentNameError(NotSupportedError, AttributeError):
    """A name that is not here."""


def refuse(what: str, instead: str) -> NoReturn:
    """For an option or function that is not here: NotSupportedError says what to use meanwhile."""
    raise NotSupportedError(f"{what} is not in Skate yet. Meanwhile: {instead}.")


def words(part: str, name: str) -> str:
    """What is not here, and what to use meanwhile."""
    what, instead = PARTS[part]
    return f"ray.{name} ({what}) is not in Skate yet. Meanwhile: {instead}."


def refuse_module(name: str) -> NoReturn:
    """Called by the module of that name while it is imported."""
    error = AbsentModuleError(words(name.partition(".")[0], name))
    error.name = f"skate.{name}"
    raise error


def name_error(part: str, name: str) -> AbsentNameError:
    """For a module's __getattr__."""
    return AbsentNameError(words(part, name))
