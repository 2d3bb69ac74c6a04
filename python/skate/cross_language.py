"""Tasks and actors that are written in C, called from Python: docs/cross_language.md.

`c_function` and `c_actor_class` name what a shared library exports with SKATE_TASK and SKATE_ACTOR
(include/skate/task.h); `put` stores a value so that C can read it. C calls Python by import path.
"""

from __future__ import annotations

from skate import _cross
from skate._core import ObjectRef
from skate._cross import CActorClass, CFunction

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")

__all__ = ["CActorClass", "CFunction", "c_actor_class", "c_function", "plain", "put"]


def c_function(library: str, name: str) -> CFunction:
    """A task that is written in C, as a remote function.

    library: the shared library, found as the dynamic linker does: give an absolute path, or a name
    that is the same on every node. name: what it exports with SKATE_TASK(name). Nothing is loaded
    here; a wrong name is the error of the first task.

    The result has `.remote(*args)`, which gives a ref (or num_returns of them), and
    `.options(num_cpus, num_gpus, resources, memory, accelerator_type, name, num_returns,
    max_retries, scheduling_strategy, placement_group, placement_group_bundle_index,
    placement_group_capture_child_tasks)`.

    Arguments are plain values (None, bool, int of 64 bits, float, str, bytes, lists, tuples, dicts
    with keys of str, int or bytes, refs), numpy arrays, torch tensors, and pyarrow tables and
    record batches. Anything else is a TypeError of `.remote()` that names the argument.

    Raises TypeError and ValueError for names that are none.

    >>> add = c_function("/opt/mine/libmine.so", "add")
    >>> add
    CFunction('/opt/mine/libmine.so', 'add')
    >>> add.options(num_returns=2, num_cpus=0.5)
    CFunction('/opt/mine/libmine.so', 'add')
    >>> add.options(runtime_env={})
    Traceback (most recent call last):
        ...
    ValueError: the function add of C has no option 'runtime_env'; there are: ...
    """
    return _cross.c_function(library, name)


def c_actor_class(library: str, name: str) -> CActorClass:
    """An actor class that is written in C.

    library: as of c_function. name: what it exports with SKATE_ACTOR(name, ...).

    The result has `.remote(*args)`, which makes an actor in a process of its own and gives its
    handle, and `.options(name, namespace, lifetime, get_if_exists, max_restarts, max_task_retries,
    max_pending_calls, num_cpus, num_gpus, resources, memory, accelerator_type,
    scheduling_strategy, placement_group, placement_group_bundle_index,
    placement_group_capture_child_tasks)`. A handle takes any method name; one that the class does
    not have is an error of the call. Arguments are those of c_function.

    Raises TypeError and ValueError for names that are none.

    >>> Counter = c_actor_class("libmine.so", "counter")
    >>> Counter.options(name="hits", lifetime="detached", max_restarts=-1)
    CActorClass('libmine.so', 'counter')
    """
    return _cross.c_actor_class(library, name)


def put(value: T) -> ObjectRef[T]:
    """Store a value in a form that every language reads; a ref of it.

    What `skate.put` stores of an array or a table is a pickle, which C can pass on but not read.
    Arguments of c_function are stored by this at each call: put a large one once, and give the ref.

    Raises TypeError for what has no such form.
    """
    return _cross.put(value)


def plain(value: T) -> T:
    """A value in a form that every language reads, to be returned by a task of Python.

    A task whose result C is to read returns `plain(array)` instead of the array; for Python it is
    the array as before. Plain values are copied, without the subclasses that C has not.

    Raises TypeError for what has no such form.

    >>> plain([1, (2.5, "three")])
    [1, (2.5, 'three')]
    """
    made: T = _cross.plain(value)
    return made


def __getattr__(name: str) -> Any:
    if name in ("java_function", "java_actor_class", "cpp_function", "cpp_actor_class"):
        from skate import _absent

        raise _absent.name_error("cross_language", f"cross_language.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
