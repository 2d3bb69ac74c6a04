"""TFModelV2: the base of TensorFlow models of the 1.8 era. TensorFlow is imported by its models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from skate.rllib.models.modelv2 import ModelV2


class TFModelV2(ModelV2):
    """Make Keras models, layers or tf.Variables in the constructor and keep them as attributes:
    they are found there, in lists and dictionaries and in other TFModelV2 that are attributes."""

    def __init__(self, obs_space: Any, action_space: Any, num_outputs: int,
                 model_config: dict[str, Any], name: str) -> None:
        ModelV2.__init__(self, obs_space, action_space, num_outputs, model_config, name, "tf")
        self.var_list: list[Any] = []

    def __call__(self, input_dict: dict[str, Any], state: list[Any] | None = None,
                 seq_lens: Any = None) -> tuple[Any, list[Any]]:
        """forward(), with obs_flat where it is missing and one observation is a row."""
        given = {"obs_flat": input_dict["obs"], **input_dict}
        return self.forward(given, state or [], seq_lens)

    def register_variables(self, variables: list[Any]) -> None:
        """Add variables that are not found in attributes; others twice does no harm."""
        self.var_list.extend(variables)

    def variables(self, as_dict: bool = False) -> Any:
        """tf.Variables, as a list or by name; layers have theirs after a first forward()."""
        named = named_variables(self)
        return named if as_dict else list(named.values())

    def trainable_variables(self, as_dict: bool = False) -> Any:
        """Those of variables() that train."""
        named = {name: v for name, v in named_variables(self).items() if v.trainable}
        return named if as_dict else list(named.values())

    def update_ops(self) -> list[Any]:
        """Nothing: layers update themselves when they are called."""
        return []


def named_variables(model: Any, prefix: str = "") -> dict[str, Any]:
    """tf.Variables of a TFModelV2, a Keras model or layer, or a tf.Module, each once, by the way to
    it: "base_model.0.kernel". Layers' own names would depend on what the process made before."""
    named: dict[str, Any] = {}
    seen: set[int] = set()
    for name, variable in _walk(model, prefix, set()):
        if id(variable) not in seen:
            seen.add(id(variable))
            named[name] = variable
    return named


def _walk(thing: Any, path: str, visited: set[int]) -> Iterator[tuple[str, Any]]:
    import tensorflow as tf

    if _is_variable(thing):
        yield path, _plain(thing)
        return
    if isinstance(thing, (tf.Module, tf.keras.layers.Layer)):
        for i, variable in enumerate(thing.variables):
            last = variable.name.split(":")[0].split("/")[-1]
            yield _join(path, f"{i}.{last}"), _plain(variable)
        return
    if id(thing) in visited:
        return
    visited.add(id(thing))
    if isinstance(thing, ModelV2):
        # What is registered comes last: it mostly is in an attribute, too, with a better name.
        inner: Any = sorted(vars(thing).items(), key=lambda item: item[0] == "var_list")
    elif isinstance(thing, dict):
        inner = thing.items()
    elif isinstance(thing, (list, tuple)):
        inner = enumerate(thing)
    else:
        return
    for name, part in inner:
        yield from _walk(part, _join(path, str(name)), visited)


def _is_variable(thing: Any) -> bool:
    import tensorflow as tf

    return isinstance(thing, (tf.Variable, getattr(tf.keras, "Variable", tf.Variable)))


def _plain(variable: Any) -> Any:
    """The tf.Variable of Keras's."""
    import tensorflow as tf

    return variable if isinstance(variable, tf.Variable) else variable.value


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
