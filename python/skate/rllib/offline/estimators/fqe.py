"""Fitted Q evaluation (Le et al. 2019): Q of a policy from data of another one, in numpy.

A ReLU net from the observation to a value of each action, Adam, a target net. For discrete actions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from skate.rllib.offline.estimators.off_policy_estimator import action_probs, n_actions
from skate.rllib.policy.sample_batch import SampleBatch


class FQEModel:
    """What DirectMethod and DoublyRobust fit unless you bring a model of your own."""

    def __init__(self, policy: Any, gamma: float, model_config: dict[str, Any] | None = None,
                 n_iters: int = 1, lr: float = 1e-3, min_loss_threshold: float = 1e-4,
                 clip_grad_norm: float = 100.0, minibatch_size: int | None = None,
                 polyak_coef: float = 1.0, seed: int = 0) -> None:
        """`n_iters`: passes over the batch in a train(), fewer once the loss is below
        `min_loss_threshold`; `polyak_coef`: the step of the target net after each pass."""
        self.policy, self.gamma = policy, float(gamma)
        self.n = n_actions(policy, "fitted Q evaluation")
        self.hiddens = list((model_config or {}).get("fcnet_hiddens", [32, 32, 32]))
        self.n_iters, self.lr, self.min_loss = n_iters, lr, min_loss_threshold
        self.clip, self.minibatch, self.polyak = clip_grad_norm, minibatch_size, polyak_coef
        self._random = np.random.default_rng(seed)
        self._net: list[Any] = []       # weight, bias, weight, bias, ...
        self._target: list[Any] = []
        self._moments: list[tuple[Any, Any]] = []
        self._steps = 0

    def _obs(self, batch: SampleBatch, name: str) -> Any:
        obs = np.asarray(batch[name], np.float64)
        obs = obs.reshape(len(obs), -1)
        if not self._net:
            sizes = [obs.shape[1], *self.hiddens, self.n]
            for rows, columns in zip(sizes[:-1], sizes[1:]):
                bound = (6 / (rows + columns)) ** 0.5
                self._net += [self._random.uniform(-bound, bound, (rows, columns)),
                              np.zeros(columns)]
            self._target = [part.copy() for part in self._net]
            self._moments = [(np.zeros_like(part), np.zeros_like(part)) for part in self._net]
        if obs.shape[1] != self._net[0].shape[0]:
            raise ValueError(f"column {name!r}: {obs.shape[1]} numbers an observation, the model "
                             f"was made for {self._net[0].shape[0]}")
        return obs

    def _forward(self, net: list[Any], x: Any) -> list[Any]:
        layers = [x]
        for i in range(0, len(net), 2):
            x = x @ net[i] + net[i + 1]
            if i + 2 < len(net):
                x = np.maximum(x, 0.0)
            layers.append(x)
        return layers

    def _all_probs(self, obs: Any) -> Any:
        return np.stack([action_probs(self.policy, np.full(len(obs), a), obs)
                         for a in range(self.n)], axis=1)

    def train(self, batch: SampleBatch) -> list[float]:
        """The mean loss of each pass. Needs obs, actions, rewards, new_obs, terminateds."""
        obs, new = self._obs(batch, "obs"), self._obs(batch, "new_obs")
        actions = np.asarray(batch["actions"]).astype(np.int64).reshape(-1)
        rewards = np.asarray(batch["rewards"], np.float64)
        ends = np.asarray(batch["terminateds" if "terminateds" in batch else "dones"], np.float64)
        probs, size = self._all_probs(batch["new_obs"]), self.minibatch or batch.count
        losses: list[float] = []
        for _ in range(self.n_iters):
            order, total = self._random.permutation(len(obs)), []
            for at in range(0, len(order), size):
                rows = order[at:at + size]
                value = np.sum(self._forward(self._target, new[rows])[-1] * probs[rows], axis=1)
                wanted = rewards[rows] + (1 - ends[rows]) * self.gamma * value
                total.append(self._step(obs[rows], actions[rows], wanted))
            losses.append(float(np.mean(total)))
            if losses[-1] < self.min_loss:
                break
            self._target = [self.polyak * new_part + (1 - self.polyak) * old
                            for new_part, old in zip(self._net, self._target)]
        return losses

    def gradient(self, obs: Any, actions: Any, wanted: Any) -> tuple[float, list[Any]]:
        """The mean squared error and its gradient, in the order of the net's arrays."""
        layers = self._forward(self._net, obs)
        rows = np.arange(len(obs))
        error = layers[-1][rows, actions] - wanted
        delta = np.zeros_like(layers[-1])
        delta[rows, actions] = 2 * error / len(obs)
        grads: list[Any] = [None] * len(self._net)
        for i in range(len(self._net) - 2, -1, -2):
            before = layers[i // 2]
            grads[i], grads[i + 1] = before.T @ delta, delta.sum(axis=0)
            delta = (delta @ self._net[i].T) * (before > 0)
        return float(np.mean(error ** 2)), grads

    def _step(self, obs: Any, actions: Any, wanted: Any) -> float:
        loss, grads = self.gradient(obs, actions, wanted)
        norm = float(np.sqrt(sum(float(np.sum(g * g)) for g in grads)))
        scale = min(1.0, self.clip / (norm + 1e-6))
        self._steps += 1
        for part, grad, (m, v) in zip(self._net, grads, self._moments):
            grad = grad * scale
            m += 0.1 * (grad - m)
            v += 0.001 * (grad * grad - v)
            part -= (self.lr * (m / (1 - 0.9 ** self._steps))
                     / (np.sqrt(v / (1 - 0.999 ** self._steps)) + 1e-8))
        return loss

    def estimate_q(self, batch: SampleBatch) -> Any:
        """Q(s, a) of each row."""
        q = self._forward_all(batch)
        return q[np.arange(len(q)), np.asarray(batch["actions"]).astype(np.int64).reshape(-1)]

    def estimate_v(self, batch: SampleBatch) -> Any:
        """The policy's mean of Q(s, .) of each row."""
        return np.sum(self._forward_all(batch) * self._all_probs(batch["obs"]), axis=1)

    def _forward_all(self, batch: SampleBatch) -> Any:
        obs = self._obs(batch, "obs")
        return self._forward(self._net, obs)[-1]


def make_model(policy: Any, gamma: float, config: dict[str, Any] | None) -> Any:
    """A model of your own class (config["type"]) or an FQEModel.

    Raises:
        TypeError: unknown keywords, or a class without what estimators call.
    """
    keywords = dict(config or {})
    made = keywords.pop("type", FQEModel)(policy=policy, gamma=gamma, **keywords)
    for name in ("estimate_q", "estimate_v"):
        if not hasattr(made, name):
            raise TypeError(f"a Q model must define {name}(batch); {type(made).__name__} does not")
    return made


__all__ = ["FQEModel"]
