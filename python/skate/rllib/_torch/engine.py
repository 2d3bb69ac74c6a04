"""TorchEngine: skate.rllib._models.base over a PyTorch model."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch

from skate.rllib._models import base, choose
from skate.rllib._models.losses import LOSSES, Pass
from skate.rllib._torch import model as models
from skate.rllib._torch import ops

Tensor = torch.Tensor


class TorchEngine(base.ModelEngine):
    """See ModelEngine."""

    ops = ops

    def _build(self, seed: int) -> None:
        if choose.one_thread():
            torch.set_num_threads(1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = models.build(self._o["model"], self._obs_space, self._action_space,
                                      self.n_inputs)
            self._complete()
        self._params = [p for p in self.model.parameters() if p.requires_grad]
        once = {id(t): (name, t) for name, t in
                reversed(self.model.state_dict(keep_vars=True).items())}
        self._all = list(reversed(once.values()))       # a shared one by its first name
        o = self._o
        self._optim: torch.optim.Optimizer
        if o["opt_type"] == "rmsprop":
            self._optim = torch.optim.RMSprop(self._params, lr=o["lr"], alpha=o["decay"],
                                              eps=o["epsilon"], momentum=o["momentum"])
        else:
            self._optim = torch.optim.Adam(self._params, lr=o["lr"], eps=1e-8)

    def _complete(self) -> None:
        """Layers that take their shapes from the first rows (lazy ones, Keras's) have one."""
        if all(getattr(m, "built", True) for m in self.model.modules()) and not any(
                torch.nn.parameter.is_lazy(p) for p in self.model.parameters()):
            return
        state = [s.unsqueeze(0) for s in self.model.initial_state()]
        with torch.no_grad():
            self.model(torch.zeros(1, int(self._obs_space["size"])), state,
                       torch.ones(1, dtype=torch.int32))

    def _initial_state(self) -> list[Any]:
        return [s.numpy() for s in self.model.initial_state()]

    def _forward(self, obs: Any, state: list[Any], lengths: Any) -> tuple[Any, Any, list[Any]]:
        with torch.no_grad():
            inputs, values, after = self.model(torch.from_numpy(obs), _tensors(state),
                                               torch.from_numpy(lengths))
        return (inputs.numpy(), None if values is None else values.numpy(),
                [s.numpy() for s in after])

    def _backward(self, obs: Any, state: list[Any], lengths: Any, kept: Any,
                  columns: dict[str, Any]) -> tuple[float, dict[str, float]]:
        inputs, values, _ = self.model(torch.from_numpy(obs), _tensors(state),
                                       torch.from_numpy(lengths))
        self._check_shapes(len(obs), inputs.shape, None if values is None else values.shape)
        if values is not None:
            values = values.reshape(-1)
        if kept is not None:
            rows = torch.from_numpy(kept)
            inputs, values = inputs[rows], None if values is None else values[rows]
        batch = {name: torch.from_numpy(array) for name, array in columns.items()}
        loss, stats = LOSSES[self._name](Pass(inputs, values, self._dist, ops), batch, self._o)
        loss = self.model.loss(loss, batch)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()}: the model has diverged")
        self._optim.zero_grad()
        loss.backward()
        if self._o.get("grad_clip"):
            torch.nn.utils.clip_grad_norm_(self._params, self._o["grad_clip"])
        return loss.item(), {name: value.item() for name, value in stats.items()}

    def _descend(self) -> None:
        self._optim.step()

    def _trained_shapes(self) -> list[tuple[int, ...]]:
        return [tuple(p.shape) for p in self._params]

    def _gradients(self) -> list[Any]:
        return [(torch.zeros_like(p) if p.grad is None else p.grad).detach().numpy()
                for p in self._params]

    def _set_gradients(self, arrays: list[Any]) -> None:
        for param, array in zip(self._params, arrays, strict=True):
            param.grad = torch.from_numpy(array)

    def set(self, name: str, value: float) -> None:
        """As ModelEngine.set()."""
        super().set(name, value)
        if name == "lr":
            for group in self._optim.param_groups:
                group["lr"] = value

    def _named_shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        return [(name, tuple(t.shape)) for name, t in self._all]

    def _read(self) -> list[Any]:
        return [t.detach().numpy() for _, t in self._all]

    def _write(self, arrays: list[Any]) -> None:
        with torch.no_grad():
            for (_, tensor), array in zip(self._all, arrays, strict=True):
                tensor.copy_(torch.from_numpy(array))

    def _save(self) -> bytes:
        out = io.BytesIO()
        torch.save({"model": self.model.state_dict(), "optim": self._optim.state_dict()}, out)
        return out.getvalue()

    def _load(self, block: bytes) -> None:
        told = torch.load(io.BytesIO(block), weights_only=True)
        self.model.load_state_dict(told["model"])
        self._optim.load_state_dict(told["optim"])


def _tensors(arrays: list[Any]) -> list[Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(a)) for a in arrays]
