"""ModelCatalog: names for models of the user's own."""

from __future__ import annotations

from typing import Any

from skate.tune.registry import RLLIB_MODEL, _global_registry


class ModelCatalog:
    """What RLlib's programs register their models with."""

    @staticmethod
    def register_custom_model(model_name: str, model_class: Any) -> None:
        """Let config["model"]["custom_model"] = model_name mean this class: a TorchModelV2, or
        any torch.nn.Module that maps observations to the distribution's inputs. TypeError: the
        name is no string, the model cannot be called."""
        if not isinstance(model_name, str):
            raise TypeError("the name of a model must be a string, got "
                            f"{type(model_name).__name__}")
        if not callable(model_class):
            raise TypeError(f"the model {model_name!r} must be a class, got {model_class!r}")
        _global_registry.register(RLLIB_MODEL, model_name, model_class)


def find_model(name_or_class: Any) -> Any:
    """The class behind config["model"]["custom_model"]. ValueError: nobody registered it."""
    if not isinstance(name_or_class, str):
        return name_or_class
    if not _global_registry.contains(RLLIB_MODEL, name_or_class):
        raise ValueError(
            f"custom_model {name_or_class!r} is not registered (there are: "
            f"{_global_registry.names(RLLIB_MODEL)}): call ModelCatalog.register_custom_model"
            f"({name_or_class!r}, TheClass) first, or give the class itself")
    return _global_registry.get(RLLIB_MODEL, name_or_class)
