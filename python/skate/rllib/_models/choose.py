"""Which framework a model of the user's own is of, and its engine."""

from __future__ import annotations

import os
import sys
from typing import Any

# The config's `framework` -> the engines' name of it.
NAMED = {"torch": "torch", "tf": "tf", "tf2": "tf", "tfe": "tf"}
SPOKEN = {"torch": "PyTorch", "tf": "TensorFlow"}
PACKAGES = {"torch": ("torch", "torch"), "tf": ("tensorflow", "tensorflow-cpu")}


def framework_of(model: Any) -> str | None:
    """"torch" or "tf" of a class or an object; None: a function, which says so only when called.
    A framework that a model is of has been imported, so nothing is imported here. ValueError: a
    Keras model on another backend."""
    from skate.rllib.models.tf.tf_modelv2 import TFModelV2
    from skate.rllib.models.torch.torch_modelv2 import TorchModelV2

    made = model if isinstance(model, type) else type(model)
    torch, keras, tf = (sys.modules.get(name) for name in ("torch", "keras", "tensorflow"))
    if issubclass(made, TorchModelV2) or (torch is not None and issubclass(made, torch.nn.Module)):
        return "torch"              # Keras models on the torch backend are torch modules, too
    if issubclass(made, TFModelV2) or (tf is not None and issubclass(made, tf.Module)):
        return "tf"
    if keras is not None and issubclass(made, keras.Layer):
        if keras.backend.backend() != "tensorflow":
            raise ValueError(f"custom_model {made.__name__} is a Keras model on the backend "
                             f"{keras.backend.backend()!r}: set KERAS_BACKEND to 'tensorflow' or "
                             "'torch'")
        return "tf"
    return None


def engine_of(config: dict[str, Any], model: Any) -> str:
    """"torch" or "tf" for a config with a custom_model or an RLModule (`model`, its class).
    ValueError: the config's framework is not the model's."""
    wanted, kind = NAMED.get(config["framework"]), framework_of(model)
    name = getattr(model, "__name__", type(model).__name__)
    if config["model"]["_rl_module"] is not None and "tf" in (wanted, kind):
        raise ValueError(f"framework={config['framework']!r}: RLModules are PyTorch's here; give "
                         "a TFModelV2 or a keras.Model as custom_model")
    if kind is not None and wanted not in (None, kind):
        raise ValueError(f"framework={config['framework']!r}, but the model {name} is one of "
                         f"{SPOKEN[kind]}: leave framework out, or say {kind!r}")
    return kind or wanted or "torch"


def load(kind: str) -> Any:
    """The engine's class. ImportError: its framework is not installed."""
    try:
        if kind == "torch":
            from skate.rllib._torch.engine import TorchEngine

            return TorchEngine
        from skate.rllib._tf.engine import TFEngine

        return TFEngine
    except ModuleNotFoundError as error:
        module, package = PACKAGES[kind]
        if error.name != module:
            raise
        raise ImportError(f"custom_model needs {SPOKEN[kind]}, which is not installed here: "
                          f"pip install {package}") from None


def one_thread() -> bool:
    """Whether a framework should keep to one thread: in an actor, where the user says nothing."""
    from skate._api import _session

    return _session.actor is not None and "OMP_NUM_THREADS" not in os.environ
