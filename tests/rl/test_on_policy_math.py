"""Losses and gradients of the on-policy family against torch in float64, on random batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skate import _rl

torch: Any = pytest.importorskip("torch")

ROWS, OBS, CELL, STEPS = 48, 3, 5, 6
OBS_SPACE = {"kind": "box", "size": OBS, "shape": [OBS]}
SPACES: dict[str, dict[str, Any]] = {
    "discrete": {"kind": "discrete", "size": 4},
    "multi": {"kind": "multi", "sizes": [3, 2]},
    "box": {"kind": "box", "size": 2},
}
PARTS = {"discrete": [4], "multi": [3, 2], "box": []}
GAMMA = 0.95


def batch(space: str, seed: int) -> dict[str, Any]:
    """Random rows with ends of all kinds."""
    rng = np.random.default_rng(seed)
    t = np.arange(ROWS)
    terminated = (t % 11 == 4).astype(np.float32)
    if space == "box":
        actions = rng.normal(size=(ROWS, 2)).astype(np.float32)
    else:
        columns = [rng.integers(0, n, ROWS) for n in PARTS[space]]
        actions = np.stack(columns, 1).astype(np.int32)
    n_inputs = 4 if space == "box" else sum(PARTS[space])
    return {
        "obs": rng.normal(size=(ROWS, OBS)).astype(np.float32),
        "new_obs": rng.normal(size=(ROWS, OBS)).astype(np.float32),
        "actions": actions[:, 0].copy() if space == "discrete" else actions,
        "rewards": rng.normal(size=ROWS).astype(np.float32),
        "terminateds": terminated,
        "truncateds": (t % 13 == 8).astype(np.float32) * (1 - terminated),
        "cuts": (t % 24 == 23).astype(np.float32),
        "logp": (-1.4 + 0.4 * rng.normal(size=ROWS)).astype(np.float32),
        "vf": (0.3 * rng.normal(size=ROWS)).astype(np.float32),
        "inputs": (0.4 * rng.normal(size=(ROWS, n_inputs))).astype(np.float32),
    }


class Nets:
    """The engine's nets with torch's autograd, from the flat weights."""

    def __init__(self, algo: Any, space: str) -> None:
        flat = np.zeros(algo.n_weights, np.float32)
        algo.get_weights(flat)
        self.flat = torch.tensor(flat, dtype=torch.float64, requires_grad=True)
        self.target: Nets | None = None
        self.space, self.w, at = space, {}, 0
        for name, rows, cols in algo.weight_names():
            self.w[name] = self.flat[at:at + rows * cols].reshape(rows, cols)
            at += rows * cols

    def net(self, prefix: str, x: Any) -> Any:
        layer = 0
        while f"{prefix}/{layer}/kernel" in self.w:
            x = torch.tanh(x @ self.w[f"{prefix}/{layer}/kernel"]
                           + self.w[f"{prefix}/{layer}/bias"])
            layer += 1
        if f"{prefix}/out/kernel" in self.w:
            x = x @ self.w[f"{prefix}/out/kernel"] + self.w[f"{prefix}/out/bias"]
        return x

    def step(self, x: Any, h: Any, c: Any) -> tuple[Any, Any]:
        i, f, g, o = (torch.cat([x, h], 1) @ self.w["lstm/kernel"]
                      + self.w["lstm/bias"]).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def features(self, data: dict[str, Any], obs: Any) -> tuple[Any, Any]:
        """(features of obs, of new_obs with the state after each row)."""
        new_obs = torch.tensor(data["new_obs"], dtype=torch.float64)
        if "state_in" not in data:
            if "body/0/kernel" in self.w:
                return self.net("body", obs), self.net("body", new_obs)
            return obs, new_obs
        seqs = ROWS // STEPS
        x, y = (self.net("body", v).reshape(seqs, STEPS, -1) for v in (obs, new_obs))
        state = torch.tensor(data["state_in"], dtype=torch.float64)
        h, c = state[:, :CELL], state[:, CELL:]
        ended = torch.tensor(data["terminateds"] + data["truncateds"],
                             dtype=torch.float64).reshape(seqs, STEPS, 1)
        out, after = [], []
        for k in range(STEPS):
            if k:
                h, c = h * (1 - ended[:, k - 1]), c * (1 - ended[:, k - 1])
            h, c = self.step(x[:, k], h, c)
            out.append(h)
            after.append(self.step(y[:, k], h, c)[0])
        return (torch.stack(out, 1).reshape(ROWS, -1), torch.stack(after, 1).reshape(ROWS, -1))

    def __call__(self, data: dict[str, Any]) -> tuple[Any, Any, Any]:
        """(inputs, values, values of new_obs)"""
        x, y = self.features(data, torch.tensor(data["obs"], dtype=torch.float64))
        inputs = self.net("pi", x)
        if "log_std" in self.w:
            inputs = torch.cat([inputs, self.w["log_std"].expand(ROWS, -1)], 1)
        return inputs, self.net("vf", x)[:, 0], self.net("vf", y)[:, 0].detach()


def dists(space: str, inputs: Any) -> list[Any]:
    """torch's distributions."""
    if space == "box":
        mean, log_std = inputs.chunk(2, 1)
        return [torch.distributions.Independent(torch.distributions.Normal(mean, log_std.exp()),
                                                1)]
    return [torch.distributions.Categorical(logits=x) for x in inputs.split(PARTS[space], 1)]


def logp_of(space: str, inputs: Any, actions: Any) -> Any:
    a = torch.tensor(actions)
    if space == "box":
        return dists(space, inputs)[0].log_prob(a.double())
    a = a.reshape(ROWS, -1)
    return sum(d.log_prob(a[:, k]) for k, d in enumerate(dists(space, inputs)))


def entropy_of(space: str, inputs: Any) -> Any:
    return sum(d.entropy() for d in dists(space, inputs))


def kl_of(space: str, old: Any, new: Any) -> Any:
    return sum(torch.distributions.kl_divergence(p, q)
               for p, q in zip(dists(space, old), dists(space, new), strict=True))


def f64(x: Any) -> Any:
    return torch.tensor(x, dtype=torch.float64)


def gae(data: dict[str, Any], value: Any, beyond: Any, lam: float) -> tuple[Any, Any]:
    """Advantages and value targets."""
    adv, running, after = torch.zeros(ROWS, dtype=torch.float64), 0.0, 0.0
    for t in reversed(range(ROWS)):
        if data["terminateds"][t]:
            running, after = 0.0, 0.0
        elif data["truncateds"][t] or data["cuts"][t]:
            running, after = 0.0, beyond[t]
        running = data["rewards"][t] + GAMMA * after - value[t] + GAMMA * lam * running
        adv[t], after = running, value[t]
    return adv, adv + value


def vtrace(data: dict[str, Any], logp: Any, value: Any, beyond: Any) -> tuple[Any, Any]:
    """(vs, advantages) with both limits at 1."""
    weight = (logp - f64(data["logp"])).exp().clamp(max=1.0)
    vs, adv = torch.zeros(ROWS, dtype=torch.float64), torch.zeros(ROWS, dtype=torch.float64)
    after = after_vs = gap = 0.0
    for t in reversed(range(ROWS)):
        if data["terminateds"][t]:
            after = after_vs = gap = 0.0
        elif data["truncateds"][t] or data["cuts"][t]:
            after = after_vs = beyond[t]
            gap = 0.0
        reward = float(data["rewards"][t])
        adv[t] = weight[t] * (reward + GAMMA * after_vs - value[t])
        gap = weight[t] * (reward + GAMMA * after - value[t]) + GAMMA * weight[t] * gap
        vs[t] = value[t] + gap
        after, after_vs = value[t], vs[t]
    return vs, adv


def loss_a2c(nets: Nets, data: dict[str, Any]) -> Any:
    inputs, value, beyond = nets(data)
    adv, target = gae(data, f64(data["vf"]), beyond, 0.9)
    return (-(logp_of(nets.space, inputs, data["actions"]) * adv).sum()
            + 0.5 * 0.5 * ((value - target) ** 2).sum()
            - 0.02 * entropy_of(nets.space, inputs).sum())


def loss_impala(nets: Nets, data: dict[str, Any]) -> Any:
    inputs, value, beyond = nets(data)
    logp = logp_of(nets.space, inputs, data["actions"])
    vs, adv = vtrace(data, logp.detach(), value.detach(), beyond)
    return (-(logp * adv).sum() + 0.5 * 0.5 * ((value - vs) ** 2).sum()
            - 0.02 * entropy_of(nets.space, inputs).sum())


def loss_appo(nets: Nets, data: dict[str, Any]) -> Any:
    inputs, value, beyond = nets(data)
    assert nets.target is not None
    old, mu = nets.target(data)[0].detach(), f64(data["logp"])
    logp, old_logp = (logp_of(nets.space, x, data["actions"]) for x in (inputs, old))
    vs, adv = vtrace(data, old_logp, value.detach(), beyond)
    ratio = (mu - old_logp).exp().clamp(0.0, 2.0) * (logp - mu).exp()
    surrogate = torch.minimum(adv * ratio, adv * ratio.clamp(0.6, 1.4))
    return (-surrogate.mean() + 0.5 * 0.5 * ((value - vs) ** 2).mean()
            - 0.02 * entropy_of(nets.space, inputs).mean()
            + 0.35 * kl_of(nets.space, old, inputs).mean())


def loss_ppo(nets: Nets, data: dict[str, Any]) -> Any:
    inputs, value, beyond = nets(data)
    old_value = f64(data["vf"])
    adv, target = gae(data, old_value, beyond, 0.9)
    adv = (adv - adv.mean()) / adv.std(correction=0)
    ratio = (logp_of(nets.space, inputs, data["actions"]) - f64(data["logp"])).exp()
    surrogate = torch.minimum(adv * ratio, adv * ratio.clamp(0.7, 1.3))
    limited = old_value + (value - old_value).clamp(-0.2, 0.2)
    value_loss = torch.maximum((value - target) ** 2, (limited - target) ** 2)
    return (-surrogate + 0.5 * value_loss - 0.02 * entropy_of(nets.space, inputs)
            + 0.7 * kl_of(nets.space, f64(data["inputs"]), inputs)).mean()


def loss_ppo_newer(nets: Nets, data: dict[str, Any]) -> Any:
    """RLlib 2.60's: the squared error is cut."""
    inputs, value, beyond = nets(data)
    adv, target = gae(data, f64(data["vf"]), beyond, 0.9)
    adv = (adv - adv.mean()) / adv.std(correction=0)
    ratio = (logp_of(nets.space, inputs, data["actions"]) - f64(data["logp"])).exp()
    surrogate = torch.minimum(adv * ratio, adv * ratio.clamp(0.7, 1.3))
    value_loss = ((value - target) ** 2).clamp(0, 0.6)
    assert 0 < (value_loss < 0.6).sum() < ROWS
    return (-surrogate + 0.5 * value_loss - 0.02 * entropy_of(nets.space, inputs)
            + 0.7 * kl_of(nets.space, f64(data["inputs"]), inputs)).mean()


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "A2C": (loss_a2c, {"lambda": 0.9}),
    "IMPALA": (loss_impala, {}),
    "APPO": (loss_appo, {"use_kl_loss": True, "kl_coeff": 1.4, "clip_param": 0.4}),
    "PPO": (loss_ppo, {"lambda": 0.9, "kl_coeff": 0.7, "vf_clip_param": 0.2,
                       "vf_loss_coeff": 0.5}),
    "PPO of 2.60": (loss_ppo_newer, {"lambda": 0.9, "kl_coeff": 0.7, "vf_clip_param": 0.6,
                                     "vf_loss_coeff": 0.5, "vf_clip_mode": "loss"}),
}
NETS: dict[str, dict[str, Any]] = {
    "separate": {}, "shared": {"vf_share_layers": True},
    "lstm": {"use_lstm": True, "lstm_cell_size": CELL},
}


@pytest.mark.parametrize("nets", NETS)
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient(name: str, space: str, nets: str) -> None:
    loss, extra = CASES[name]
    for seed in range(2):
        options = {"fcnet_hiddens": [8, 7], "gamma": GAMMA, "entropy_coeff": 0.02, "lr": 0.0,
                   **extra, **NETS[nets]}
        if space == "box" and seed == 1:
            options["free_log_std"] = True
        algo = _rl.Algo(name.split()[0], OBS_SPACE, SPACES[space], options, seed)
        rng = np.random.default_rng(seed)
        algo.set_weights(rng.normal(scale=0.4, size=algo.n_weights).astype(np.float32), 0)
        data = batch(space, seed)
        steps = 1
        if algo.state_size:
            data["state_in"] = rng.normal(size=(ROWS // STEPS, 2 * CELL)).astype(np.float32)
            steps = STEPS
        target = Nets(algo, space)
        if name == "APPO":                  # the target net follows with an update (of lr 0),
            algo.learn(ROWS, steps, data)   # which adapts the coefficient
            algo.set("kl_coeff", 0.35)
            weights = rng.normal(scale=0.4, size=algo.n_weights).astype(np.float32)
            algo.set_weights(weights, 0)
        flat = np.zeros(algo.n_gradient, np.float32)
        stats = algo.gradient(ROWS, steps, data, flat)
        twin = Nets(algo, space)
        twin.target = target
        expected = loss(twin, data)
        expected.backward()
        gradient = twin.flat.grad.numpy()
        assert stats["total_loss"] == pytest.approx(float(expected.detach()), rel=1e-5, abs=1e-5)
        error = np.abs(flat - gradient).max() / np.abs(gradient).max()
        assert error < 1e-5, (seed, error)


@pytest.mark.parametrize("name", CASES)
def test_a_hundred_updates(name: str) -> None:
    loss, extra = CASES[name]
    name = name.split()[0]
    options: dict[str, Any] = {"fcnet_hiddens": [8, 7], "gamma": GAMMA, "entropy_coeff": 0.02,
                               "lr": 1e-3, **extra}
    if name == "PPO":
        options |= {"num_sgd_iter": 1, "sgd_minibatch_size": ROWS}
    algo = _rl.Algo(name, OBS_SPACE, SPACES["discrete"], options, 1)
    data = batch("discrete", 9)
    twin = Nets(algo, "discrete")
    flat = twin.flat.detach().clone().requires_grad_(True)
    optimiser = torch.optim.Adam([flat], lr=1e-3)
    coefficient = {"PPO": 0.7, "APPO": 0.35}.get(name)      # of the KL, as the losses have it
    for _ in range(100):
        if coefficient is not None:
            algo.set("kl_coeff", coefficient)
        algo.learn(ROWS, 1, data)
        at = 0
        for key, value in twin.w.items():
            twin.w[key] = flat[at:at + value.numel()].reshape(value.shape)
            at += value.numel()
        twin.target = twin                  # APPO's follows after each update
        optimiser.zero_grad()
        loss(twin, data).backward()
        optimiser.step()
    mine = np.zeros(algo.n_weights, np.float32)
    algo.get_weights(mine)
    assert np.abs(mine - flat.detach().numpy()).max() < 1e-4
