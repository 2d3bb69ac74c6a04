"""The scheduler: a Dask graph in, its results out."""

from __future__ import annotations

from typing import Any

import skate
from skate.util.dask.callbacks import Hooks, hooks_of


class _Call:
    """A task of the graph as it is sent."""

    def __init__(self, node: Any, keys: list[Any], pre: list[Any], post: list[Any]) -> None:
        self.node = node
        self.keys = keys
        self.pre = pre
        self.post = post

    def __call__(self, values: tuple[Any, ...]) -> Any:
        key = self.node.key
        states = [hook(key, values) for hook in self.pre]
        result = self.node(dict(zip(self.keys, values, strict=True)))
        for i, hook in enumerate(self.post):
            hook(key, result, states[i] if i < len(states) else None)
        return result


@skate.remote
def _run_node(call: _Call, *values: Any) -> Any:
    return call(values)


def ray_dask_get(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Compute the keys of a Dask graph on the cluster: their values, nested as the keys are.

    kwargs: ray_callbacks (RayDaskCallback objects), ray_remote_args (options of the tasks),
    ray_persist (refs instead of values); Dask's own, for example num_workers, have no effect.
    """
    from dask._task_spec import convert_legacy_graph
    from dask.order import order

    with hooks_of(kwargs.get("ray_callbacks")) as hooks:
        if hasattr(dsk, "__dask_graph__"):
            dsk = dsk.__dask_graph__()
        wanted = set(_flat(keys))
        options = _Options(dsk, kwargs.get("ray_remote_args"))
        graph = convert_legacy_graph(dict(dsk))
        run = _Run(graph, wanted, hooks, options)
        ranks = order(graph)
        for key in sorted(_needed(graph, wanted), key=ranks.__getitem__):
            run.submit(key)
        refs = [run.made[key] for key in _flat(keys)]
        for hook in hooks.postsubmit_all:
            hook(tuple(refs), dsk)
        if kwargs.get("ray_persist"):
            values = refs
        else:
            values = skate.get(refs)
        for hook in hooks.finish:
            hook(list(values))
        return _nested(keys, iter(values))


def ray_dask_get_sync(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """The same: submitting needs no threads here."""
    return ray_dask_get(dsk, keys, **kwargs)


class _Options:
    """Options of the tasks: for all, and those of dask.annotate(ray_remote_args=...)."""

    def __init__(self, dsk: Any, for_all: dict[str, Any] | None) -> None:
        self._for_all = dict(for_all or {})
        self._of: dict[Any, dict[str, Any]] = {}
        for layer in getattr(dsk, "layers", {}).values():
            annotated = (getattr(layer, "annotations", None) or {}).get("ray_remote_args")
            if annotated:
                self._of.update((key, annotated) for key in layer)

    def of(self, key: Any) -> dict[str, Any]:
        """Of the task of that key."""
        return {"name": f"dask:{_key_text(key)}", **self._for_all, **self._of.get(key, {})}


def _key_text(key: Any) -> str:
    return str(key)[:100]


class _Run:
    """The refs of one graph while it is being submitted."""

    def __init__(
        self, graph: Any, wanted: set[Any], hooks: Hooks, options: _Options
    ) -> None:
        self.graph = graph
        self.made: dict[Any, Any] = {}
        self._hooks = hooks
        self._options = options
        self._wanted = wanted
        self._users: dict[Any, int] = {}
        for node in graph.values():
            for dep in node.dependencies:
                self._users[dep] = self._users.get(dep, 0) + 1

    def submit(self, key: Any) -> None:
        """A node whose dependencies have been submitted."""
        node = self.graph[key]
        deps = list(node.dependencies)
        name = type(node).__name__
        if name == "Alias":
            self.made[key] = self.made[node.target]
        elif name == "DataNode":
            value = node.value
            self.made[key] = value if isinstance(value, skate.ObjectRef) else skate.put(value)
        else:
            self.made[key] = self._submit_task(node, key, deps)
        for dep in deps:
            self._users[dep] -= 1
            if self._users[dep] == 0 and dep not in self._wanted:
                del self.made[dep]  # who uses it holds it now

    def _submit_task(self, node: Any, key: Any, deps: list[Any]) -> Any:
        hooks = self._hooks
        refs = {dep: self.made[dep] for dep in deps}
        for hook in hooks.presubmit:
            result = hook(node, key, refs)
            if result is not None:
                return result if isinstance(result, skate.ObjectRef) else skate.put(result)
        call = _Call(node, deps, hooks.pretask, hooks.posttask)
        ref = _run_node.options(**self._options.of(key)).remote(call, *refs.values())
        for hook in hooks.postsubmit:
            hook(node, key, refs, ref)
        return ref


def _flat(keys: Any) -> list[Any]:
    if isinstance(keys, list):
        return [key for part in keys for key in _flat(part)]
    return [keys]


def _nested(keys: Any, values: Any) -> Any:
    if isinstance(keys, list):
        return tuple(_nested(part, values) for part in keys)
    return next(values)


def _needed(graph: Any, wanted: set[Any]) -> set[Any]:
    """The keys that the wanted ones stand on, and themselves."""
    out: set[Any] = set()
    stack = list(wanted)
    while stack:
        key = stack.pop()
        if key not in out:
            out.add(key)
            stack.extend(graph[key].dependencies)
    return out


def enable_dask_on_ray(
    shuffle: str | None = "tasks", use_shuffle_optimization: bool | None = True
) -> Any:
    """From now on (or in a `with` block) compute() runs on the cluster.

    shuffle: how Dask moves rows between partitions; "tasks" suits a cluster without Dask's workers.
    """
    import dask

    options: dict[str, Any] = {"scheduler": ray_dask_get}
    if shuffle:
        options["dataframe.shuffle.method"] = shuffle
    return dask.config.set(options)


def disable_dask_on_ray() -> Any:
    """Dask's own scheduler again."""
    import dask

    return dask.config.set({"scheduler": None, "dataframe.shuffle.method": None})


def dataframe_optimize(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """A graph without what its keys do not need; Dask's own optimizer has done the rest."""
    from dask._task_spec import convert_legacy_graph

    if hasattr(dsk, "__dask_graph__"):
        dsk = dsk.__dask_graph__()
    graph = convert_legacy_graph(dict(dsk))
    return {key: graph[key] for key in _needed(graph, set(_flat(list(keys))))}
