"""BC, MARWIL, CQL and IQL against float64: losses, gradients, 100 updates.

Each loss is written once, over numpy or torch. With torch its gradient is autograd's; without,
central differences in float64, where what carries no gradient keeps its first value.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from skate import _rl

OBS, ACT, CHOICES, ROWS, MANY = 3, 2, 4, 16, 3
HIDDENS = [5, 4]
LOW, HIGH = np.array([-2.0, 0.0]), np.array([2.0, 3.0])
BOX = {"kind": "box", "size": ACT, "shape": [ACT], "low": LOW.tolist(), "high": HIGH.tolist()}
DISCRETE = {"kind": "discrete", "size": CHOICES}
OBS_SPACE = {"kind": "box", "size": OBS, "shape": [OBS], "low": [-9.0] * OBS, "high": [9.0] * OBS}
PLAIN = {"fcnet_hiddens": HIDDENS, "fcnet_activation": "tanh"}
NETS = {"actor_hiddens": HIDDENS, "critic_hiddens": HIDDENS, "actor_hidden_activation": "tanh",
        "critic_hidden_activation": "tanh", "gamma": 0.9, "tau": 0.1}
NORM = {"moving_average_sqd_adv_norm_start": 2.0, "moving_average_sqd_adv_norm_update_rate": 0.3}

CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "bc": ("BC", DISCRETE, PLAIN),
    "bc_box": ("BC", BOX, {**PLAIN, "bc_logstd_coeff": 0.3}),
    "marwil": ("MARWIL", DISCRETE, {**PLAIN, **NORM, "beta": 0.7, "vf_coeff": 0.4}),
    "marwil_box": ("MARWIL", BOX, {**PLAIN, **NORM, "beta": 1.0, "bc_logstd_coeff": 0.2}),
    "iql": ("IQL", BOX, {**NETS, "beta": 2.0, "expectile": 0.7}),
    "iql_one": ("IQL", BOX, {**NETS, "beta": 0.5, "twin_q": False}),
    "cql_bc": ("CQL", BOX, {**NETS, "bc_iters": 1000, "num_actions": MANY, "min_q_weight": 0.7,
                            "temperature": 1.3, "initial_alpha": 0.3}),
    "cql": ("CQL", BOX, {**NETS, "bc_iters": 0, "num_actions": MANY, "initial_alpha": 0.3,
                         "deterministic_backup": False}),
    "cql_lagrangian": ("CQL", BOX, {**NETS, "bc_iters": 0, "num_actions": MANY, "twin_q": False,
                                    "lagrangian": True, "lagrangian_thresh": 0.5}),
}


class Numpy:
    """Operations on float64 arrays; stop() gives again what it gave the first time."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.at = -1

    def tensor(self, x: Any) -> Any:
        return np.array(x, np.float64)

    def stop(self, x: Any) -> Any:
        if self.at < 0:
            self.kept.append(np.array(x))
            return x
        self.at += 1
        return self.kept[self.at - 1]

    exp, log, tanh = np.exp, np.log, np.tanh
    where = staticmethod(lambda test, a, b: np.where(test, a, b))
    minimum = staticmethod(np.minimum)
    cat = staticmethod(lambda parts: np.concatenate(parts, axis=1))
    clip = staticmethod(np.clip)
    repeat = staticmethod(lambda x, n: np.repeat(x, n, axis=0))
    softplus = staticmethod(lambda x: np.logaddexp(0.0, x))
    logsumexp = staticmethod(lambda x: np.log(np.exp(x - x.max(1, keepdims=True)).sum(
        1, keepdims=True)) + x.max(1, keepdims=True))
    pick = staticmethod(lambda x, i: x[np.arange(len(i)), i][:, None])
    total = staticmethod(lambda x: x.sum(1, keepdims=True))

    def gradient(self, loss: Any, tensors: list[Any]) -> tuple[float, Any]:
        first, found, h = float(loss()), [], 1e-6
        for tensor in tensors:
            flat = tensor.reshape(-1)
            for i in range(flat.size):
                keep, ends = flat[i], []
                for x in (keep + h, keep - h):
                    flat[i], self.at = x, 0
                    ends.append(float(loss()))
                flat[i] = keep
                found.append((ends[0] - ends[1]) / (2 * h))
        return first, np.array(found)


def torch_backend() -> Any:
    """The same operations of torch."""
    torch = pytest.importorskip("torch")

    class Torch:
        exp, log, tanh = torch.exp, torch.log, torch.tanh
        where = staticmethod(torch.where)
        minimum = staticmethod(torch.minimum)
        cat = staticmethod(lambda parts: torch.cat(parts, 1))
        clip = staticmethod(torch.clamp)
        repeat = staticmethod(lambda x, n: torch.repeat_interleave(x, n, 0))
        softplus = staticmethod(torch.nn.functional.softplus)
        logsumexp = staticmethod(lambda x: torch.logsumexp(x, 1, keepdim=True))
        pick = staticmethod(lambda x, i: x.gather(1, torch.tensor(i, dtype=torch.int64)[:, None]))
        total = staticmethod(lambda x: x.sum(1, keepdim=True))

        def tensor(self, x: Any) -> Any:
            return torch.tensor(x, dtype=torch.float64)

        def stop(self, x: Any) -> Any:
            return x.detach()

        def gradient(self, loss: Any, tensors: list[Any]) -> tuple[float, Any]:
            for tensor in tensors:
                tensor.requires_grad_(True)
                tensor.grad = None
            value = loss()
            value.backward()
            return float(value.detach()), np.concatenate([
                np.zeros(tensor.numel()) if tensor.grad is None
                else tensor.grad.numpy().reshape(-1) for tensor in tensors])

    return Torch()


def shapes(inputs: int, outputs: int) -> list[tuple[int, int]]:
    """Kernels and biases of one net, in order."""
    widths = [inputs, *HIDDENS, outputs]
    return [shape for a, b in zip(widths, widths[1:], strict=False) for shape in ((a, b), (1, b))]


class Twin:
    """A case's algorithm in float64, from the engine's own numbers."""

    def __init__(self, xp: Any, case: str, algo: Any) -> None:
        self.xp = xp
        self.name, action, self.options = CASES[case]
        self.discrete = action is DISCRETE
        self.norm = self.options.get("moving_average_sqd_adv_norm_start", 100.0)
        pi, v, q = shapes(OBS, CHOICES if self.discrete else 2 * ACT), shapes(OBS, 1), shapes(
            OBS + ACT, 1)
        critics = [q] * (2 if self.options.get("twin_q", True) else 1)
        layout = {"BC": [[pi]], "MARWIL": [[pi, v]], "IQL": [[pi], [v], critics, critics],
                  "CQL": [[pi], critics, critics, [[(1, 1)]], [[(1, 1)]]]}[self.name]
        if self.name == "CQL" and not self.options.get("lagrangian"):
            layout = layout[:4]
        state, weights = algo.state(), np.empty(algo.n_weights, np.float32)
        algo.get_weights(weights)
        at = state.index(weights.tobytes())
        parts = []
        for nets in layout:
            start, part = at, []
            for net in nets:
                part.append([])
                for rows, columns in net:
                    flat = np.frombuffer(state, np.float32, rows * columns, at)
                    part[-1].append(xp.tensor(flat.reshape(rows, columns).astype(np.float64)))
                    at += 4 * rows * columns
            parts.append(part)
            at = start + (at - start + 7) // 8 * 8
        self.parts = parts
        self.pi = parts[0][0]
        if self.name == "MARWIL":
            self.v = parts[0][1]
        trained = {"IQL": parts[:3], "CQL": [*parts[:2], *parts[3:]]}.get(self.name, parts)
        self.tensors = [t for part in trained for net in part for t in net]

    def net(self, tensors: list[Any], x: Any, frozen: bool = False) -> Any:
        for i in range(0, len(tensors), 2):
            kernel, bias = tensors[i], tensors[i + 1]
            if frozen:
                kernel, bias = self.xp.stop(kernel), self.xp.stop(bias)
            x = x @ kernel + bias
            if i + 2 < len(tensors):
                x = self.xp.tanh(x)
        return x

    def smallest(self, nets: list[Any], x: Any, frozen: bool = False) -> Any:
        values = [self.net(net, x, frozen) for net in nets]
        return values[0] if len(values) == 1 else self.xp.minimum(*values)

    def gaussian(self, mean: Any, log_std: Any, x: Any) -> Any:
        z = (x - mean) / self.xp.exp(log_std)
        return self.xp.total(-0.5 * z ** 2 - log_std - 0.5 * math.log(2 * math.pi))

    def squashed(self, inputs: Any, unit: Any = None, noise: Any = None,
                 low: float = -5.0) -> tuple[Any, Any]:
        """(action in units, its log probability): of a given one, or a draw."""
        xp = self.xp
        mean, log_std = inputs[:, :ACT], xp.clip(inputs[:, ACT:], low, 2.0)
        if unit is not None:
            unit = xp.clip(unit, -1 + 1e-6, 1 - 1e-6)
            u = 0.5 * (xp.log(1 + unit) - xp.log(1 - unit))
        else:
            u = mean + xp.exp(log_std) * noise
            unit = xp.tanh(u)
        change = xp.total(2 * (math.log(2) - u - xp.softplus(-2 * u)))
        return unit, self.gaussian(mean, log_std, u) - change

    def loss(self, columns: dict[str, Any]) -> dict[str, Any]:
        """The parts of the whole loss."""
        c = {k: v if v.dtype == np.int32 else self.xp.tensor(v.astype(np.float64))
             for k, v in columns.items()}
        for name in ("rewards", "terminateds", "value_targets"):
            c[name] = c[name][:, None]
        if not self.discrete:
            c["unit"] = (c["actions"] - self.xp.tensor((HIGH + LOW) / 2)) / self.xp.tensor(
                (HIGH - LOW) / 2)
        parts: dict[str, Any] = getattr(self, {"BC": "marwil"}.get(self.name, self.name.lower()))(c)
        return parts

    def marwil(self, c: dict[str, Any]) -> dict[str, Any]:
        """Wang et al. 2018."""
        xp, beta = self.xp, self.options.get("beta", 1.0 if self.name == "MARWIL" else 0.0)
        inputs = self.net(self.pi, c["obs"])
        if self.discrete:
            logp = xp.pick(inputs, c["actions"]) - xp.logsumexp(inputs)
        else:
            logp = self.gaussian(inputs[:, :ACT], inputs[:, ACT:], c["actions"])
            logp = logp + self.options["bc_logstd_coeff"] * xp.total(inputs[:, ACT:])
        if not beta:
            return {"policy_loss": -logp.mean()}
        gap = c["value_targets"] - self.net(self.v, c["obs"])
        square = (gap ** 2).mean()
        rate = self.options["moving_average_sqd_adv_norm_update_rate"]
        self.new_norm = xp.stop(self.norm + rate * (square - self.norm))
        weight = xp.stop(xp.exp(beta * gap / (1e-8 + self.new_norm ** 0.5)))
        return {"policy_loss": -(weight * logp).mean(),
                "vf_loss": self.options.get("vf_coeff", 1.0) * 0.5 * square}

    def iql(self, c: dict[str, Any]) -> dict[str, Any]:
        """Kostrikov et al. 2021."""
        xp, (v,), critics, targets = self.xp, *self.parts[1:4]
        pair = xp.cat([c["obs"], c["unit"]])
        gap = xp.stop(self.smallest(targets, pair)) - self.net(v, c["obs"])
        expectile = self.options.get("expectile", 0.8)
        weight = xp.stop(xp.where(gap > 0, 0 * gap + expectile, 0 * gap + 1 - expectile))
        chosen = xp.stop(xp.clip(xp.exp(self.options["beta"] * gap), 0.0, 100.0))
        _, logp = self.squashed(self.net(self.pi, c["obs"]), c["unit"], low=-20.0)
        y = xp.stop(c["rewards"] + 0.9 * (1 - c["terminateds"]) * self.net(v, c["new_obs"]))
        errors = [((self.net(q, pair) - y) ** 2).mean() for q in critics]
        return {"value_loss": (weight * gap ** 2).mean(), "actor_loss": -(chosen * logp).mean(),
                "critic_loss": sum(errors) / len(errors)}

    def cql(self, c: dict[str, Any]) -> dict[str, Any]:
        """Kumar et al. 2020, on SAC."""
        xp, o, n = self.xp, self.options, ROWS * MANY
        critics, targets, log_alpha = self.parts[1], self.parts[2], self.parts[3][0][0]
        alpha = xp.stop(xp.exp(log_alpha))
        inputs = self.net(self.pi, c["obs"])
        action, logp = self.squashed(inputs, noise=c["noise"])
        new_inputs = xp.stop(self.net(self.pi, c["new_obs"]))
        new_action, new_logp = self.squashed(new_inputs, noise=c["new_noise"])
        pair, weight = xp.cat([c["obs"], c["unit"]]), o.get("min_q_weight", 5.0)
        new_q = self.smallest(targets, xp.cat([c["new_obs"], new_action]))
        if not o.get("deterministic_backup", True):
            new_q = new_q - alpha * new_logp
        y = xp.stop(c["rewards"] + 0.9 * (1 - c["terminateds"]) * new_q)
        heat, obs = o.get("temperature", 1.0), xp.repeat(c["obs"], MANY)
        others = [(c["uniform_actions"].reshape(n, ACT), -ACT * math.log(2))]
        for what, noise in ((new_inputs, "repeat_new_noise"), (xp.stop(inputs), "repeat_noise")):
            others.append(self.squashed(xp.repeat(what, MANY), noise=c[noise].reshape(n, ACT)))
        critic, gaps = 0.0, []
        factor = xp.exp(self.parts[4][0][0]) if o.get("lagrangian") else None
        for q in critics:
            mine = self.net(q, pair)
            high = xp.cat([(self.net(q, xp.cat([obs, a])) - lp).reshape(ROWS, MANY)
                           for a, lp in others])
            extra = heat * weight * xp.logsumexp(high / heat).mean() - weight * mine.mean()
            if factor is not None:
                extra = extra - o["lagrangian_thresh"]
            gaps.append(xp.stop(extra))
            critic = critic + ((mine - y) ** 2).mean() + (
                extra if factor is None else (xp.stop(factor) * extra).sum())
        if o["bc_iters"]:
            _, value = self.squashed(inputs, c["unit"])
        else:
            value = self.smallest(critics, xp.cat([c["obs"], action]), frozen=True)
        parts = {"critic_loss": critic, "actor_loss": (alpha * logp - value).mean(),
                 "alpha_loss": -(log_alpha * xp.stop((logp - ACT).mean())).sum()}
        if factor is not None:
            parts["alpha_prime_loss"] = (-factor * (sum(gaps) / len(gaps))).sum()
        return parts


def batch(case: str, seed: int) -> dict[str, Any]:
    """Random columns, with the draws of the losses."""
    rng, f32 = np.random.default_rng(seed), np.float32
    columns = {
        "obs": rng.normal(size=(ROWS, OBS)).astype(f32),
        "new_obs": rng.normal(size=(ROWS, OBS)).astype(f32),
        "rewards": rng.normal(size=ROWS).astype(f32),
        "terminateds": (rng.random(ROWS) < 0.2).astype(f32),
        "value_targets": rng.normal(size=ROWS).astype(f32)}
    if CASES[case][1] is DISCRETE:
        columns["actions"] = rng.integers(0, CHOICES, ROWS).astype(np.int32)
        return columns
    columns["actions"] = (LOW + (HIGH - LOW) * rng.random((ROWS, ACT))).astype(f32)
    if CASES[case][0] == "CQL":
        for name, width in (("noise", ACT), ("new_noise", ACT), ("repeat_noise", ACT * MANY),
                            ("repeat_new_noise", ACT * MANY)):
            columns[name] = rng.normal(size=(ROWS, width)).astype(f32)
        columns["uniform_actions"] = rng.uniform(-1, 1, (ROWS, ACT * MANY)).astype(f32)
    return columns


def make(case: str, **more: Any) -> Any:
    """The engine's algorithm of a case."""
    name, action, options = CASES[case]
    return _rl.Algo(name, OBS_SPACE, action, {**options, **more}, 5)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient(case: str, backend: str) -> None:
    algo = make(case)
    twin = Twin(Numpy() if backend == "numpy" else torch_backend(), case, algo)
    columns = batch(case, 7)
    found = np.zeros(algo.n_gradient, np.float32)
    stats = algo.gradient(ROWS, 1, columns, found)
    parts: dict[str, Any] = {}

    def loss() -> Any:
        parts.update(twin.loss(columns))
        return sum(parts.values())

    _value, expected = twin.xp.gradient(loss, twin.tensors)
    for name, value in twin.loss(columns).items() if backend == "torch" else ():
        scale = CASES[case][2].get("vf_coeff", 1.0) if name == "vf_loss" else 1.0
        assert stats[name] * scale == pytest.approx(float(value.detach()), rel=1e-5, abs=1e-5), name
    assert found.shape == expected.shape
    assert np.max(np.abs(found - expected)) <= 1e-5 * max(1.0, float(np.max(np.abs(expected))))


@pytest.mark.parametrize("case", CASES)
def test_hundred_updates(case: str) -> None:
    torch = pytest.importorskip("torch")
    algo = make(case, lr=1e-3, adam_epsilon=1e-7)
    twin = Twin(torch_backend(), case, algo)
    for tensor in twin.tensors:
        tensor.requires_grad_(True)
    adam = torch.optim.Adam(twin.tensors, lr=1e-3, eps=1e-7)
    for i in range(100):
        columns = batch(case, 100 + i)
        algo.learn(ROWS, 1, columns)
        adam.zero_grad()
        sum(twin.loss(columns).values()).backward()
        adam.step()
        if twin.name == "MARWIL":
            twin.norm = float(twin.new_norm)
        if twin.name in ("IQL", "CQL"):
            critics, targets = (twin.parts[2:4] if twin.name == "IQL" else twin.parts[1:3])
            with torch.no_grad():
                for net, other in zip(critics, targets, strict=True):
                    for source, target in zip(net, other, strict=True):
                        target.mul_(0.9).add_(0.1 * source)
    found = Twin(torch_backend(), case, algo)
    for ours, theirs in zip(found.tensors, twin.tensors, strict=True):
        assert float((ours - theirs).abs().max()) < 1e-4


def test_the_norm_is_kept_in_checkpoints() -> None:
    algo, other = make("marwil"), make("marwil")
    for i in range(3):
        algo.learn(ROWS, 1, batch("marwil", i))
    other.set_state(algo.state())
    for i in range(3, 6):
        a, b = (x.learn(ROWS, 1, batch("marwil", i)) for x in (algo, other))
        assert a == b
    assert algo.state() == other.state() and a["moving_avg_sqd_adv_norm"] != 2.0


def test_cql_clones_first() -> None:
    algo = make("cql_bc", bc_iters=3, num_actions=MANY)
    losses = [algo.learn(ROWS, 1, batch("cql_bc", 1))["actor_loss"] for _ in range(4)]
    steps = np.abs(np.diff(losses))
    assert steps[1] > 5 * steps[0]          # the third update values actions by Q


@pytest.mark.parametrize("name, space, options, why", [
    ("BC", DISCRETE, {"beta": 1.0}, "beta must be 0 for BC"),
    ("MARWIL", DISCRETE, {"beta": -1.0}, "beta must be >= 0"),
    ("MARWIL", DISCRETE, {"bc_logstd_coeff": 0.1}, "Box actions"),
    ("IQL", DISCRETE, {}, "Box actions only"),
    ("CQL", DISCRETE, {}, "Box actions only"),
    ("IQL", BOX, {"expectile": 1.0}, "expectile"),
    ("CQL", BOX, {"temperature": 0.0}, "temperature"),
    ("CQL", BOX, {"num_actions": 0}, "num_actions"),
])
def test_options_that_cannot_work(name: str, space: Any, options: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        _rl.Algo(name, OBS_SPACE, space, options, 1)


def test_a_missing_column_is_named() -> None:
    columns = batch("marwil", 1)
    del columns["value_targets"]
    with pytest.raises(ValueError, match="value_targets"):
        make("marwil").learn(ROWS, 1, columns)
