"""DDPG, TD3, SAC and TQC against torch in float64: losses, gradients, 100 updates.

Where there is no torch only the checks without it run; finite differences are in
tests/unit/rl_offpol_test.c.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from skate import _rl

OBS, ACT, ROWS = 5, 2, 64
CHOICES = 4
HIDDENS = [24, 16]
LOW, HIGH = np.array([-2.0, 0.0]), np.array([2.0, 3.0])
BOX = {"kind": "box", "size": ACT, "shape": [ACT], "low": LOW.tolist(), "high": HIGH.tolist()}
DISCRETE = {"kind": "discrete", "size": CHOICES}
OBS_SPACE = {"kind": "box", "size": OBS, "shape": [OBS], "low": [-9.0] * OBS, "high": [9.0] * OBS}
NETS = {"actor_hiddens": HIDDENS, "critic_hiddens": HIDDENS, "actor_hidden_activation": "tanh",
        "critic_hidden_activation": "tanh"}
GAMMA, TAU, LR = 0.97, 0.05, 1e-3

CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "ddpg": ("DDPG", BOX, {"l2_reg": 1e-2}),
    "td3": ("DDPG", BOX, {"l2_reg": 0.0, "twin_q": True, "smooth_target_policy": True,
                          "target_noise": 0.3, "target_noise_clip": 0.4, "use_huber": True}),
    "sac": ("SAC", BOX, {"initial_alpha": 0.4}),
    "sac_discrete": ("SAC", DISCRETE, {"initial_alpha": 0.4, "use_huber": False}),
    "tqc": ("TQC", BOX, {"initial_alpha": 0.4, "n_quantiles": 7, "n_critics": 3,
                         "top_quantiles_to_drop_per_net": 2}),
}


def make(case: str, **more: Any) -> Any:
    """The engine's algorithm of a case."""
    name, action, options = CASES[case]
    return _rl.Algo(name, OBS_SPACE, action, {**NETS, **options, "gamma": GAMMA, "tau": TAU,
                                              "actor_lr": LR, "critic_lr": LR, **more}, seed=5)


def batch(case: str, seed: int) -> dict[str, Any]:
    """Random columns, with the draws of the losses."""
    rng = np.random.default_rng(seed)
    f32 = np.float32
    columns = {
        "obs": rng.normal(size=(ROWS, OBS)).astype(f32),
        "new_obs": rng.normal(size=(ROWS, OBS)).astype(f32),
        "rewards": (2 * rng.normal(size=ROWS)).astype(f32),
        "terminateds": (rng.random(ROWS) < 0.2).astype(f32),
        "weights": (0.5 + rng.random(ROWS)).astype(f32),
        "td_errors": np.zeros(ROWS, f32),
    }
    if CASES[case][1] is DISCRETE:
        columns["actions"] = rng.integers(0, CHOICES, ROWS).astype(np.int32)
    else:
        columns["actions"] = (LOW + (HIGH - LOW) * rng.random((ROWS, ACT))).astype(f32)
        columns["noise"] = rng.normal(size=(ROWS, ACT)).astype(f32)
        columns["new_noise"] = rng.normal(size=(ROWS, ACT)).astype(f32)
    return columns


def shapes(inputs: int, outputs: int) -> list[tuple[int, int]]:
    """Kernels and biases of one net, in order."""
    widths = [inputs, *HIDDENS, outputs]
    return [shape for a, b in zip(widths, widths[1:], strict=False) for shape in ((a, b), (1, b))]


class Twin:
    """The same algorithm in torch, float64, from the engine's own numbers."""

    def __init__(self, torch: Any, case: str, algo: Any) -> None:
        self.torch, self.case = torch, case
        self.name, action, self.options = CASES[case]
        self.discrete = action is DISCRETE
        n_out = {"DDPG": ACT, "SAC": 2 * ACT, "TQC": 2 * ACT}[self.name]
        pi = [shapes(OBS, CHOICES if self.discrete else n_out)]
        critics = {"DDPG": 2 if self.options.get("twin_q") else 1, "SAC": 2,
                   "TQC": int(self.options.get("n_critics", 0))}[self.name]
        out = CHOICES if self.discrete else self.options.get("n_quantiles", 1)
        q = [shapes(OBS if self.discrete else OBS + ACT, out)] * critics
        layout = [pi, pi, q, q] if self.name == "DDPG" else [pi, q, q, [[(1, 1)]]]
        self.state = algo.state()
        weights = np.empty(algo.n_weights, np.float32)
        algo.get_weights(weights)
        at = self.state.index(weights.tobytes())
        parts = []
        for nets in layout:
            part, at = self._read(nets, at)
            parts.append(part)
        if self.name == "DDPG":
            self.pi, self.pi_target, self.q, self.q_target = parts
            self.log_alpha: Any = None
            self.trained = [self.pi, self.q]
        else:
            self.pi, self.q, self.q_target, temperature = parts
            self.log_alpha = temperature[0][0]
            self.trained = [self.pi, self.q, temperature]

    def _read(self, nets: list[Any], at: int) -> tuple[list[list[Any]], int]:
        found, start = [], at
        for net in nets:
            tensors = []
            for rows, cols in net:
                flat = np.frombuffer(self.state, np.float32, rows * cols, at)
                tensors.append(self.torch.tensor(flat.reshape(rows, cols).astype(np.float64),
                                                 requires_grad=True))
                at += 4 * rows * cols
            found.append(tensors)
        return found, start + (at - start + 7) // 8 * 8

    def tensors(self) -> list[Any]:
        """All trained tensors in the order of the engine's gradient."""
        return [tensor for part in self.trained for net in part for tensor in net]

    def net(self, tensors: list[Any], x: Any) -> Any:
        """A forward pass."""
        for i in range(0, len(tensors), 2):
            x = x @ tensors[i] + tensors[i + 1]
            if i + 2 < len(tensors):
                x = self.torch.tanh(x)
        return x

    def loss(self, columns: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The whole loss and its parts."""
        torch = self.torch
        c = {k: torch.tensor(v, dtype=torch.float64) for k, v in columns.items()
             if k != "actions" or not self.discrete}
        if self.discrete:
            c["actions"] = torch.tensor(columns["actions"], dtype=torch.int64)
        else:
            mid, half = torch.tensor((HIGH + LOW) / 2), torch.tensor((HIGH - LOW) / 2)
            c["unit"], c["half"] = (c["actions"] - mid) / half, half
        c["on"] = (GAMMA * (1 - c["terminateds"]))[:, None]
        if self.name == "DDPG":
            parts = self.ddpg(c)
        else:
            parts = self.sac_discrete(c) if self.discrete else self.sac(c)
        return sum(parts.values()), parts

    def td_loss(self, c: dict[str, Any], error: Any, huber: bool) -> Any:
        """Weighted mean of one critic's errors."""
        torch, zero = self.torch, self.torch.zeros_like(error)
        each = (torch.nn.functional.huber_loss(error, zero, reduction="none") if huber
                else 0.5 * error ** 2)
        return (c["weights"] * each[:, 0]).mean()

    def ddpg(self, c: dict[str, Any]) -> dict[str, Any]:
        """Lillicrap et al. 2016, Fujimoto et al. 2018."""
        torch = self.torch
        action = torch.tanh(self.net(self.pi_target[0], c["new_obs"]))
        if self.options.get("smooth_target_policy"):
            clip = self.options["target_noise_clip"]
            noise = (self.options["target_noise"] * c["new_noise"]).clamp(-clip, clip)
            action = (action + noise / c["half"]).clamp(-1, 1)
        x = torch.cat([c["new_obs"], action], 1)
        value = torch.cat([self.net(q, x) for q in self.q_target], 1).min(1, keepdim=True).values
        y = (c["rewards"][:, None] + c["on"] * value).detach()
        x = torch.cat([c["obs"], c["unit"]], 1)
        errors = [self.net(q, x) - y for q in self.q]
        self.td = errors[0][:, 0]
        critic = sum(self.td_loss(c, e, bool(self.options.get("use_huber"))) for e in errors)
        own = torch.cat([c["obs"], torch.tanh(self.net(self.pi[0], c["obs"]))], 1)
        actor = -self.net([t.detach() for t in self.q[0]], own).mean()
        l2 = self.options["l2_reg"] / 2
        critic = critic + l2 * sum((t ** 2).sum() for q in self.q for t in q[::2])
        actor = actor + l2 * sum((t ** 2).sum() for t in self.pi[0][::2])
        return {"critic_loss": critic, "actor_loss": actor}

    def draw(self, obs: Any, noise: Any) -> tuple[Any, Any]:
        """A squashed draw and its log probability, by torch's own distributions."""
        torch = self.torch
        mean, log_std = self.net(self.pi[0], obs).chunk(2, 1)
        log_std = log_std.clamp(-5, 2)
        u = mean + log_std.exp() * noise
        normal = torch.distributions.Normal(mean, log_std.exp())
        change = torch.distributions.transforms.TanhTransform()
        action = torch.tanh(u)
        return action, (normal.log_prob(u) - change.log_abs_det_jacobian(u, action)).sum(
            1, keepdim=True)

    def sac(self, c: dict[str, Any]) -> dict[str, Any]:
        """Haarnoja et al. 2018; Kuznetsov et al. 2020."""
        torch = self.torch
        alpha = self.log_alpha.exp().detach()
        action, logp = self.draw(c["obs"], c["noise"])
        new_action, new_logp = self.draw(c["new_obs"], c["new_noise"])
        x = torch.cat([c["new_obs"], new_action], 1)
        targets = torch.cat([self.net(q, x) for q in self.q_target], 1)
        own = torch.cat([c["obs"], action], 1)
        values = torch.cat([self.net([t.detach() for t in q], own) for q in self.q], 1)
        x = torch.cat([c["obs"], c["unit"]], 1)
        if self.name == "TQC":
            kept = targets.shape[1] - 2 * len(self.q)
            value, mine = targets.sort(1).values[:, :kept], values.mean(1, keepdim=True)
        else:
            value, mine = targets.min(1, keepdim=True).values, values.min(1, keepdim=True).values
        y = (c["rewards"][:, None] + c["on"] * (value - alpha * new_logp)).detach()
        if self.name == "TQC":
            critic = sum(self.quantile_loss(c, self.net(q, x), y) for q in self.q)
        else:
            errors = [self.net(q, x) - y for q in self.q]
            self.td = sum(e.abs() for e in errors)[:, 0] / 2
            critic = sum(self.td_loss(c, e, True) for e in errors)
        return {"critic_loss": critic, "actor_loss": (alpha * logp - mine).mean(),
                "alpha_loss": self.alpha_loss((logp - ACT).mean())}

    def quantile_loss(self, c: dict[str, Any], q: Any, y: Any) -> Any:
        """One critic's quantile Huber loss, summed over all pairs."""
        torch = self.torch
        levels = (torch.arange(q.shape[1], dtype=torch.float64) + 0.5) / q.shape[1]
        e = y[:, None, :] - q[:, :, None]
        huber = torch.nn.functional.huber_loss(e, torch.zeros_like(e), reduction="none")
        weight = (levels[None, :, None] - (e < 0).double()).abs()
        return (c["weights"] * (weight * huber).sum((1, 2))).mean()

    def sac_discrete(self, c: dict[str, Any]) -> dict[str, Any]:
        """Expectations instead of draws."""
        torch = self.torch
        alpha = self.log_alpha.exp().detach()
        log_pi = torch.log_softmax(self.net(self.pi[0], c["obs"]), 1)
        new_log_pi = torch.log_softmax(self.net(self.pi[0], c["new_obs"]), 1)
        value = torch.minimum(*(self.net(q, c["new_obs"]) for q in self.q_target))
        value = (new_log_pi.exp() * (value - alpha * new_log_pi)).sum(1, keepdim=True)
        y = (c["rewards"][:, None] + c["on"] * value).detach()
        all_q = [self.net(q, c["obs"]) for q in self.q]
        errors = [q.gather(1, c["actions"][:, None]) - y for q in all_q]
        self.td = sum(e.abs() for e in errors)[:, 0] / 2
        critic = sum(self.td_loss(c, e, False) for e in errors)
        actor = (log_pi.exp() * (alpha * log_pi - all_q[0].detach())).sum(1).mean()
        gap = (log_pi.exp() * (log_pi + 0.98 * math.log(CHOICES))).sum(1).mean()
        return {"critic_loss": critic, "actor_loss": actor, "alpha_loss": self.alpha_loss(gap)}

    def alpha_loss(self, gap: Any) -> Any:
        """Of the temperature."""
        return (-self.log_alpha * gap.detach()).sum()

    def move_targets(self) -> None:
        """Polyak averages."""
        pairs = [(self.q_target, self.q)]
        if self.name == "DDPG":
            pairs.append((self.pi_target, self.pi))
        with self.torch.no_grad():
            for target, source in pairs:
                for mine, theirs in zip(target, source, strict=True):
                    for a, b in zip(mine, theirs, strict=True):
                        a.copy_(TAU * b + (1 - TAU) * a)


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_are_torchs(case: str) -> None:
    torch = pytest.importorskip("torch")
    algo = make(case)
    for i in range(5):      # so that targets differ from what they follow
        algo.learn(ROWS, 1, batch(case, i))
    twin = Twin(torch, case, algo)
    columns = batch(case, 99)
    got = np.empty(algo.n_gradient, np.float32)
    stats = algo.gradient(ROWS, 1, columns, got)
    loss, parts = twin.loss(columns)
    loss.backward()
    for name, value in parts.items():
        assert stats[name] == pytest.approx(value.item(), rel=1e-5, abs=1e-6), name
    at = 0
    for tensor in twin.tensors():
        want = tensor.grad.numpy().ravel()
        mine = got[at:at + want.size]
        at += want.size
        assert np.abs(mine - want).max() <= 1e-5 * max(np.abs(want).max(), 1e-2)
    assert at == got.size
    if case != "tqc":
        assert columns["td_errors"] == pytest.approx(twin.td.detach().numpy(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_a_hundred_updates_stay_with_torch(case: str) -> None:
    torch = pytest.importorskip("torch")
    algo = make(case)
    twin = Twin(torch, case, algo)
    rates = {id(twin.log_alpha): 3e-4}
    optimiser = torch.optim.Adam([{"params": [t], "lr": rates.get(id(t), LR)}
                                  for t in twin.tensors()], eps=1e-7)
    for i in range(100):
        columns = batch(case, i)
        optimiser.zero_grad()
        twin.loss(columns)[0].backward()
        optimiser.step()
        twin.move_targets()
        algo.learn(ROWS, 1, columns)
    after = Twin(torch, case, algo)
    for mine, want in zip(after.tensors(), twin.tensors(), strict=True):
        assert (mine - want).abs().max().item() < 1e-4


@pytest.mark.parametrize("case", CASES)
def test_same_seed_same_bytes(case: str) -> None:
    one, two = make(case), make(case)
    columns = batch(case, 1)
    columns.pop("noise", None)
    columns.pop("new_noise", None)
    for algo in (one, two):
        for _ in range(3):
            algo.learn(ROWS, 1, columns)
    assert one.state() == two.state()


def test_actions_are_in_the_environments_units() -> None:
    algo = make("sac")
    obs = np.random.default_rng(0).normal(size=(500, OBS)).astype(np.float32)
    actions = np.empty((500, ACT), np.float32)
    algo.act(500, {"obs": obs, "actions": actions}, explore=True)
    assert (actions >= LOW).all() and (actions <= HIGH).all()
    assert actions[:, 1].max() > 2.0 and actions[:, 0].min() < -1.0
    unit = make("sac", normalize_actions=True)
    unit.act(500, {"obs": obs, "actions": actions}, explore=True)
    assert np.abs(actions).max() <= 1.0
