"""Distributions over actions as torch functions of their inputs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn.functional import log_softmax

Tensor = torch.Tensor


class Categorical:
    """Discrete actions [B]; inputs are logits [B, n]."""

    def __init__(self, space: dict[str, Any]) -> None:
        self.n_inputs = int(space["size"])

    def logp(self, inputs: Tensor, actions: Tensor) -> Tensor:
        """[B]"""
        return log_softmax(inputs, 1).gather(1, actions.long().reshape(-1, 1)).squeeze(1)

    def entropy(self, inputs: Tensor) -> Tensor:
        """[B]"""
        logp = log_softmax(inputs, 1)
        return -(logp.exp() * logp).sum(1)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """[B], KL(old || new)"""
        a, b = log_softmax(old, 1), log_softmax(new, 1)
        return (a.exp() * (a - b)).sum(1)

    def draw(self, inputs: Tensor, explore: bool, generator: torch.Generator) -> Tensor:
        """[B]"""
        if not explore:
            return inputs.argmax(1)
        return torch.multinomial(inputs.softmax(1), 1, generator=generator).squeeze(1)


class MultiCategorical:
    """Several discrete actions [B, parts]; inputs are their logits side by side."""

    def __init__(self, space: dict[str, Any]) -> None:
        self.sizes = [int(n) for n in space["sizes"]]
        self.n_inputs = sum(self.sizes)
        self._parts = [Categorical({"size": n}) for n in self.sizes]

    def logp(self, inputs: Tensor, actions: Tensor) -> Tensor:
        """[B]"""
        parts = inputs.split(self.sizes, 1)
        chosen = zip(self._parts, parts, strict=True)
        return torch.stack([d.logp(x, actions[:, i])
                            for i, (d, x) in enumerate(chosen)]).sum(0)

    def entropy(self, inputs: Tensor) -> Tensor:
        """[B]"""
        return torch.stack([d.entropy(x) for d, x in zip(
            self._parts, inputs.split(self.sizes, 1), strict=True)]).sum(0)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """[B]"""
        return torch.stack([d.kl(a, b) for d, a, b in zip(
            self._parts, old.split(self.sizes, 1), new.split(self.sizes, 1), strict=True)]).sum(0)

    def draw(self, inputs: Tensor, explore: bool, generator: torch.Generator) -> Tensor:
        """[B, parts]"""
        return torch.stack([d.draw(x, explore, generator) for d, x in zip(
            self._parts, inputs.split(self.sizes, 1), strict=True)], 1)


class DiagGaussian:
    """Continuous actions [B, size]; inputs are means, then log standard deviations."""

    def __init__(self, space: dict[str, Any]) -> None:
        self.n_inputs = 2 * int(space["size"])

    def logp(self, inputs: Tensor, actions: Tensor) -> Tensor:
        """[B]"""
        mean, log_std = inputs.chunk(2, 1)
        z = (actions - mean) * (-log_std).exp()
        return (-0.5 * z.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(1)

    def entropy(self, inputs: Tensor) -> Tensor:
        """[B]"""
        return (inputs.chunk(2, 1)[1] + 0.5 * math.log(2 * math.pi * math.e)).sum(1)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """[B]"""
        (m0, s0), (m1, s1) = old.chunk(2, 1), new.chunk(2, 1)
        return (s1 - s0 + 0.5 * ((2 * s0).exp() + (m0 - m1).square()) * (-2 * s1).exp()
                - 0.5).sum(1)

    def draw(self, inputs: Tensor, explore: bool, generator: torch.Generator) -> Tensor:
        """[B, size]"""
        mean, log_std = inputs.chunk(2, 1)
        if not explore:
            return mean
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
        return mean + log_std.exp() * noise


Dist = Categorical | MultiCategorical | DiagGaussian


def dist_of(space: dict[str, Any]) -> Dist:
    """The distribution of an action space as _spaces.describe_actions() gives it."""
    if space["kind"] == "discrete":
        return Categorical(space)
    if space["kind"] == "multi":
        return MultiCategorical(space)
    return DiagGaussian(space)
