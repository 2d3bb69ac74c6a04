"""The losses of the value family written out plainly, for numpy and for torch alike.

`xp` is numpy or torch; only what both have is used. Weights are the flat vector of an Algo, cut
up by its weight_names().
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any


class Net:
    """An Algo's Q-net with the given flat weights."""

    def __init__(self, xp: Any, names: list[tuple[str, int, int]], flat: Array) -> None:
        self.xp, self.w, at = xp, {}, 0
        for name, rows, cols in names:
            self.w[name] = flat[at:at + rows * cols].reshape(rows, cols)
            at += rows * cols

    def layers(self, prefix: str, x: Array, act: str) -> Array:
        n = 0
        while f"{prefix}/{n}/kernel" in self.w:
            x = x @ self.w[f"{prefix}/{n}/kernel"] + self.w[f"{prefix}/{n}/bias"]
            x = self.xp.tanh(x) if act == "tanh" else self.xp.where(x > 0, x, 0 * x)
            n += 1
        return x

    def out(self, prefix: str, x: Array) -> Array:
        return x @ self.w[f"{prefix}/out/kernel"] + self.w[f"{prefix}/out/bias"]

    def lstm(self, x: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        h, c = state
        w = self.w["body/lstm/kernel"]
        gates = x @ w[:x.shape[1]] + h @ w[x.shape[1]:] + self.w["body/lstm/bias"]
        n = h.shape[1]
        i, f, g, o = (gates[:, k * n:(k + 1) * n] for k in range(4))
        c = sigmoid(self.xp, f) * c + sigmoid(self.xp, i) * self.xp.tanh(g)
        return sigmoid(self.xp, o) * self.xp.tanh(c), c

    def heads(self, x: Array, actions: int, atoms: int) -> Array:
        """[n, actions, atoms]."""
        if "advantage/out/kernel" not in self.w:
            return self.out("body", x).reshape(-1, actions, atoms)
        adv = self.out("advantage", self.layers("advantage", x, "relu"))
        adv = adv.reshape(-1, actions, atoms)
        if "value/out/kernel" not in self.w:
            return adv
        value = self.out("value", self.layers("value", x, "relu"))
        return value[:, None, :] + adv - (adv.sum(1) / actions)[:, None, :]

    def q(self, x: Array, actions: int, atoms: int) -> Array:
        return self.heads(self.layers("body", x, "tanh"), actions, atoms)


def sigmoid(xp: Any, x: Array) -> Array:
    return 1 / (1 + xp.exp(-x))


def log_softmax(xp: Any, x: Array) -> Array:
    return x - xp.log(xp.exp(x).sum(-1))[..., None]


def huber(xp: Any, x: Array) -> Array:
    return xp.where(xp.abs(x) < 1, 0.5 * x * x, xp.abs(x) - 0.5)


def projected(p: np.ndarray, rewards: np.ndarray, discounts: np.ndarray, z: np.ndarray
              ) -> np.ndarray:
    """The categorical projection, atom by atom."""
    m, dz = np.zeros_like(p), z[1] - z[0]
    for i in range(len(p)):
        for j in range(len(z)):
            t = min(max(rewards[i] + discounts[i] * z[j], z[0]), z[-1])
            for k in range(len(z)):
                m[i, k] += p[i, j] * max(0.0, 1 - abs(t - z[k]) / dz)
    return m


def dqn_loss(xp: Any, online: Net, target: Net, batch: dict[str, np.ndarray], o: dict[str, Any],
             actions: int) -> tuple[Array, Array]:
    """Loss and TD errors of DQN; `target` and what chooses the action are numpy nets."""
    atoms, n = o.get("num_atoms", 1), len(batch["obs"])
    as_float = np.asarray if xp is np else xp.as_tensor
    later = target.q(batch["new_obs"], actions, atoms)
    fixed = Net(np, [(k, *v.shape) for k, v in online.w.items()],
                np.concatenate([np.asarray(v if xp is np else v.detach()).ravel()
                                for v in online.w.values()]))
    chooser = fixed.q(batch["new_obs"], actions, atoms) if o.get("double_q", True) else later
    discounts = batch.get("discounts", np.full(n, o.get("gamma", 0.99)))
    discounts = discounts * (1 - batch["terminateds"])
    rows = np.arange(n)
    q = online.q(as_float(batch["obs"]), actions, atoms)[rows, batch["actions"]]
    if atoms == 1:
        best = chooser[..., 0].argmax(1)
        y = batch["rewards"] + discounts * later[rows, best, 0]
        td = q[:, 0] - as_float(y)
        per_row = huber(xp, td) if o.get("huber", True) else 0.5 * td * td
    else:
        z = np.linspace(o["v_min"], o["v_max"], atoms)
        best = (np.exp(log_softmax(np, chooser)) * z).sum(-1).argmax(1)
        p = np.exp(log_softmax(np, later[rows, best]))
        m = projected(p, batch["rewards"], discounts, z)
        per_row = td = -(as_float(m) * log_softmax(xp, q)).sum(-1)
    return (as_float(batch.get("weights", np.ones(n))) * per_row).sum() / n, td


def squeeze(x: np.ndarray, e: float) -> np.ndarray:
    return np.sign(x) * (np.sqrt(np.abs(x) + 1) - 1) + e * x


def unsqueeze(x: np.ndarray, e: float) -> np.ndarray:
    y = (np.sqrt(1 + 4 * e * (np.abs(x) + 1 + e)) - 1) / (2 * e)
    return np.sign(x) * (y * y - 1)


def unroll(net: Net, xp: Any, batch: dict[str, np.ndarray], actions: int, burn_in: int
           ) -> list[Array]:
    """Values [n, actions] of each step; no gradient through the burn-in."""
    as_float = np.asarray if xp is np else xp.as_tensor
    h, c = (as_float(x) for x in np.split(batch["state_in"], 2, axis=1))
    values = []
    for t in range(batch["obs"].shape[1]):
        x = net.layers("body", as_float(batch["obs"][:, t]), "tanh")
        new = net.lstm(x, (h, c))
        values.append(net.heads(new[0], actions, 1)[..., 0])
        m = as_float(batch["mask"][:, t, None])
        h, c = m * new[0] + (1 - m) * h, m * new[1] + (1 - m) * c
        if t + 1 == burn_in and xp is not np:
            h, c = h.detach(), c.detach()
    return values


def r2d2_loss(xp: Any, online: Net, target: Net, batch: dict[str, np.ndarray], o: dict[str, Any],
              actions: int) -> tuple[Array, np.ndarray]:
    """Loss and the sequences' mean absolute TD errors; columns are [n, steps, ...]."""
    n, steps = batch["obs"].shape[:2]
    e, burn_in = 1e-3, o.get("burn_in", 0)
    later = unroll(target, np, batch, actions, 0)
    values = unroll(online, xp, batch, actions, burn_in)
    fixed = [np.asarray(v if xp is np else v.detach()) for v in values]
    total, count, errors = 0.0, 0, np.zeros((n, 2))
    as_float = np.asarray if xp is np else xp.as_tensor
    for i in range(n):
        for t in range(burn_in, steps):
            last = bool(batch["terminateds"][i, t])
            following = t + 1 < steps and batch["mask"][i, t + 1] > 0
            if not batch["mask"][i, t] or not (last or following):
                continue
            y = batch["rewards"][i, t]
            if not last:
                chooser = fixed if o.get("double_q", True) else later
                best = later[t + 1][i, chooser[t + 1][i].argmax()]
                y += 0.99 * (unsqueeze(best, e) if o["use_h_function"] else best)
            y = squeeze(y, e) if o["use_h_function"] else y
            td = values[t][i, batch["actions"][i, t]] - as_float(y)
            total = total + batch["weights"][i, t] * huber(xp, td)
            count += 1
            errors[i] += abs(float(td if xp is np else td.detach())), 1
    return total / count, errors[:, 0] / np.maximum(errors[:, 1], 1)
