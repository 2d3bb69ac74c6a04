"""One face for the models that users write: TorchModelV2, RLModule, plain nn.Module.

forward(obs rows, state, lengths) -> (distribution inputs, values or None, next state).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from skate.rllib._models.spaces import restore, space_of
from skate.rllib.models.modelv2 import ModelV2

Tensor = torch.Tensor
Answer = tuple[Tensor, Tensor | None, list[Tensor]]


class Face(nn.Module):
    """Base: rows of floats become the user's observations."""

    def __init__(self, obs_space: dict[str, Any], net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self._space = obs_space

    def initial_state(self) -> list[Tensor]:
        """State of one row."""
        return []

    def obs(self, rows: Tensor) -> Any:
        """[B, size] in the shape of the space: an array, or a dictionary or tuple of them."""
        return restore(rows, self._space, torch.reshape)

    def forward(self, rows: Tensor, state: list[Tensor], lengths: Tensor) -> Answer:
        """See above."""
        raise NotImplementedError

    def loss(self, loss: Tensor, batch: dict[str, Any]) -> Tensor:
        """The model's own loss, if it has one."""
        return loss

    def numbers(self) -> dict[str, float]:
        """More statistics, of the model's own."""
        return {}


class ModelV2Face(Face):
    """A TorchModelV2."""

    def initial_state(self) -> list[Tensor]:
        """get_initial_state(), as tensors."""
        return [torch.as_tensor(s, dtype=torch.float32) for s in self.net.get_initial_state()]

    def forward(self, rows: Tensor, state: list[Tensor], lengths: Tensor) -> Answer:
        """forward(), then value_function()."""
        given = {"obs": self.obs(rows), "obs_flat": rows, "is_training": torch.is_grad_enabled()}
        inputs, after = self.net(given, state, lengths)
        try:
            values = self.net.value_function()
        except NotImplementedError:
            values = None
        return inputs, values, list(after)

    def loss(self, loss: Tensor, batch: dict[str, Any]) -> Tensor:
        """custom_loss() of the model; RLlib gives it a list of one."""
        made = self.net.custom_loss([loss], batch)
        first: Tensor = made[0] if isinstance(made, (list, tuple)) else made
        return first

    def numbers(self) -> dict[str, float]:
        """metrics() of the model."""
        told = self.net.metrics() or {}
        return {k: float(v) for k, v in told.items()}


class RLModuleFace(Face):
    """An RLModule of the 2.x era."""

    def forward(self, rows: Tensor, state: list[Tensor], lengths: Tensor) -> Answer:
        """forward_train() or, without gradients, forward_exploration()."""
        batch = {"obs": self.obs(rows)}
        train = torch.is_grad_enabled()
        out = self.net.forward_train(batch) if train else self.net.forward_exploration(batch)
        if "action_dist_inputs" not in out:
            raise ValueError(f"{type(self.net).__name__}._forward() gives {sorted(out)}, it must "
                             "give 'action_dist_inputs'")
        values = out.get("vf_preds")
        if values is None and hasattr(self.net, "compute_values"):
            values = self.net.compute_values(batch, embeddings=out.get("embeddings"))
        return out["action_dist_inputs"], values, []


class PlainFace(Face):
    """An nn.Module: obs -> inputs, or -> (inputs, values); without values a net of their own."""

    def __init__(self, obs_space: dict[str, Any], net: nn.Module, critic: nn.Module) -> None:
        super().__init__(obs_space, net)
        self.critic = critic
        self._told: Tensor | None = None

    def forward(self, rows: Tensor, state: list[Tensor], lengths: Tensor) -> Answer:
        """The module's answer; values of the critic beside it if it gives none."""
        out = self.net(self.obs(rows))
        if isinstance(out, tuple):
            return out[0], out[1].reshape(-1), []
        return out, self.critic(rows).reshape(-1), []


def build(model: dict[str, Any], obs_space: dict[str, Any], action_space: dict[str, Any],
          n_inputs: int) -> Face:
    """The face of a config's model: `model` is config["model"] with 'custom_model' a class, or
    {'module_class', 'model_config'} of an RLModuleSpec under '_rl_module'."""
    shown, acts = space_of(obs_space), space_of(action_space)
    if model.get("_rl_module") is not None:
        spec = model["_rl_module"]
        module = spec["module_class"](observation_space=shown, action_space=acts,
                                      model_config=spec["model_config"])
        return RLModuleFace(obs_space, module)
    cls, own = model["custom_model"], dict(model.get("custom_model_config") or {})
    if isinstance(cls, nn.Module):
        return PlainFace(obs_space, cls, critic_of(model, obs_space))
    if isinstance(cls, type) and issubclass(cls, ModelV2):
        made = cls(shown, acts, n_inputs, {**model, "custom_model_config": own}, "model", **own)
        if not isinstance(made, nn.Module):
            raise TypeError(f"{cls.__name__} must be an nn.Module besides a TorchModelV2")
        return ModelV2Face(obs_space, made)
    made = cls(int(obs_space["size"]), n_inputs, **own)
    if not isinstance(made, nn.Module):
        raise TypeError(f"custom_model made a {type(made).__name__}, not an nn.Module (a model "
                        "in TensorFlow wants framework='tf2')")
    return PlainFace(obs_space, made, critic_of(model, obs_space))


def critic_of(model: dict[str, Any], obs_space: dict[str, Any]) -> nn.Module:
    """Values of rows, by fcnet_hiddens."""
    from skate.rllib.models.torch.misc import SlimFC, normc_initializer

    widths = [int(obs_space["size"]), *model["fcnet_hiddens"]]
    layers: list[nn.Module] = [
        SlimFC(a, b, normc_initializer(1.0), model["fcnet_activation"])
        for a, b in zip(widths[:-1], widths[1:], strict=True)]
    return nn.Sequential(*layers, SlimFC(widths[-1], 1, normc_initializer(0.01)))
