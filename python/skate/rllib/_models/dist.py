"""Distributions over actions, as functions of their inputs on any framework's tensors.

`ops` is a module as array_ops.py; draw() is for numpy inputs alone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from skate.rllib._models import array_ops

Draws = np.random.Generator


class Categorical:
    """Discrete actions [B]; inputs are logits [B, n]."""

    def __init__(self, space: dict[str, Any], ops: Any) -> None:
        self.n_inputs = int(space["size"])
        self._ops = ops

    def logp(self, inputs: Any, actions: Any) -> Any:
        """[B]"""
        return self._ops.pick(self._ops.log_softmax(inputs), actions)

    def entropy(self, inputs: Any) -> Any:
        """[B]"""
        logp = self._ops.log_softmax(inputs)
        return -self._ops.row_sum(self._ops.exp(logp) * logp)

    def kl(self, old: Any, new: Any) -> Any:
        """[B], KL(old || new)"""
        a, b = self._ops.log_softmax(old), self._ops.log_softmax(new)
        return self._ops.row_sum(self._ops.exp(a) * (a - b))

    def draw(self, inputs: Any, explore: bool, draws: Draws) -> Any:
        """[B]; by the greatest of the logits with Gumbel noise."""
        return (inputs + draws.gumbel(size=inputs.shape) if explore else inputs).argmax(1)


class MultiCategorical:
    """Several discrete actions [B, parts]; inputs are their logits side by side."""

    def __init__(self, space: dict[str, Any], ops: Any) -> None:
        self.sizes = [int(n) for n in space["sizes"]]
        self.n_inputs = sum(self.sizes)
        self._ops = ops
        self._parts = [Categorical({"size": n}, ops) for n in self.sizes]

    def _each(self, *inputs: Any) -> Any:
        """(distribution, its columns of each of `inputs`) of the parts."""
        return zip(self._parts, *(self._ops.split(x, self.sizes) for x in inputs), strict=True)

    def logp(self, inputs: Any, actions: Any) -> Any:
        """[B]"""
        return sum(d.logp(x, actions[:, i]) for i, (d, x) in enumerate(self._each(inputs)))

    def entropy(self, inputs: Any) -> Any:
        """[B]"""
        return sum(d.entropy(x) for d, x in self._each(inputs))

    def kl(self, old: Any, new: Any) -> Any:
        """[B]"""
        return sum(d.kl(a, b) for d, a, b in self._each(old, new))

    def draw(self, inputs: Any, explore: bool, draws: Draws) -> Any:
        """[B, parts]"""
        return np.stack([d.draw(x, explore, draws) for d, x in self._each(inputs)], 1)


class DiagGaussian:
    """Continuous actions [B, size]; inputs are means, then log standard deviations."""

    def __init__(self, space: dict[str, Any], ops: Any) -> None:
        self.n_inputs = 2 * int(space["size"])
        self._ops = ops

    def _halves(self, inputs: Any) -> Any:
        return self._ops.split(inputs, [self.n_inputs // 2] * 2)

    def logp(self, inputs: Any, actions: Any) -> Any:
        """[B]"""
        mean, log_std = self._halves(inputs)
        z = (actions - mean) * self._ops.exp(-log_std)
        return self._ops.row_sum(-0.5 * z * z - log_std - 0.5 * math.log(2 * math.pi))

    def entropy(self, inputs: Any) -> Any:
        """[B]"""
        return self._ops.row_sum(self._halves(inputs)[1] + 0.5 * math.log(2 * math.pi * math.e))

    def kl(self, old: Any, new: Any) -> Any:
        """[B]"""
        (m0, s0), (m1, s1) = self._halves(old), self._halves(new)
        far = self._ops.exp(2 * s0) + (m0 - m1) * (m0 - m1)
        return self._ops.row_sum(s1 - s0 + 0.5 * far * self._ops.exp(-2 * s1) - 0.5)

    def draw(self, inputs: Any, explore: bool, draws: Draws) -> Any:
        """[B, size]"""
        mean, log_std = self._halves(inputs)
        if not explore:
            return mean
        return mean + np.exp(log_std) * draws.standard_normal(mean.shape, np.float32)


Dist = Categorical | MultiCategorical | DiagGaussian


def dist_of(space: dict[str, Any], ops: Any = array_ops) -> Dist:
    """The distribution of an action space as _spaces.describe_actions() gives it."""
    if space["kind"] == "discrete":
        return Categorical(space, ops)
    if space["kind"] == "multi":
        return MultiCategorical(space, ops)
    return DiagGaussian(space, ops)
