"""The value family's losses and gradients against plain references (value_reference.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from value_reference import Net, dqn_loss, r2d2_loss

from skate import _rl

OBS, ACTIONS, ROWS = 5, 3, 24
SMALL: dict[str, Any] = {"fcnet_hiddens": [8, 6], "hiddens": [7]}
ATOMS: dict[str, Any] = {"num_atoms": 11, "v_min": -4.0, "v_max": 5.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "simple": {"hiddens": [], "dueling": 0, "double_q": 0},
    "plain": {"dueling": 0, "double_q": 0, "huber": 0},
    "double": {"dueling": 0},
    "dueling": {},
    "atoms": {**ATOMS, "dueling": 0, "double_q": 0},
    "rainbow": ATOMS,
    "atoms without heads": {**ATOMS, "hiddens": []},
}
SHAPES = {"DQN": (ROWS, 1), "R2D2": (ROWS, 6)}


def make(name: str, options: dict[str, Any], seed: int = 0) -> _rl.Algo:
    """An algorithm whose online and target nets differ, and are not near zero."""
    algo = _rl.Algo(name, {"kind": "box", "size": OBS, "shape": [OBS]},
                    {"kind": "discrete", "size": ACTIONS}, {**SMALL, **options}, seed)
    rng = np.random.default_rng(seed)
    weights = np.zeros(algo.n_weights, np.float32)
    for update in (True, False):
        algo.set_weights(rng.normal(scale=0.6, size=algo.n_weights).astype(np.float32))
        if update:
            algo.set("update_target", 1)
            algo.learn(*SHAPES[name], batch_of(name, 99))
            algo.get_weights(weights)
    return algo


def target_of(name: str, options: dict[str, Any], seed: int) -> np.ndarray:
    """The target net's weights: those of the online net at the last target update."""
    algo = _rl.Algo(name, {"kind": "box", "size": OBS, "shape": [OBS]},
                    {"kind": "discrete", "size": ACTIONS}, {**SMALL, **options}, seed)
    rng = np.random.default_rng(seed)
    algo.set_weights(rng.normal(scale=0.6, size=algo.n_weights).astype(np.float32))
    algo.set("update_target", 1)
    algo.learn(*SHAPES[name], batch_of(name, 99))
    weights = np.zeros(algo.n_weights, np.float32)
    algo.get_weights(weights)
    return weights


def batch_of(name: str, seed: int) -> dict[str, np.ndarray]:
    """A random batch, float32."""
    rng = np.random.default_rng(seed)
    f = np.float32
    batch = {
        "obs": rng.normal(size=(ROWS, OBS)).astype(f),
        "actions": rng.integers(ACTIONS, size=ROWS).astype(np.int32),
        "rewards": rng.normal(size=ROWS).astype(f),
        "terminateds": (rng.uniform(size=ROWS) < 0.25).astype(f),
        "weights": rng.uniform(0.2, 1, size=ROWS).astype(f),
    }
    if name == "DQN":
        batch["new_obs"] = rng.normal(size=(ROWS, OBS)).astype(f)
        batch["discounts"] = rng.choice([0.99, 0.98], size=ROWS).astype(f)
    else:
        mask = np.ones((4, 6), f)
        mask[0, :2] = 0  # a sequence that begins later
        mask[1, 4:] = 0  # one that ends early
        batch["mask"] = mask.ravel()
        batch["state_in"] = rng.normal(scale=0.5, size=(4, 10)).astype(f)
    return batch


def reference(name: str, algo: _rl.Algo, options: dict[str, Any], seed: int, xp: Any = np
              ) -> Any:
    """loss(flat) in float64 of this algorithm and batch."""
    names = algo.weight_names()
    target = Net(np, names, target_of(name, options, seed).astype(float))
    batch = {k: v if v.dtype == np.int32 else v.astype(float)
             for k, v in batch_of(name, seed).items()}
    if name == "R2D2":
        batch = {k: v if k == "state_in" else v.reshape(4, 6, *v.shape[1:])
                 for k, v in batch.items()}
    function = dqn_loss if name == "DQN" else r2d2_loss
    return lambda flat: function(xp, Net(xp, names, flat), target, batch, options, ACTIONS)


R2D2 = {"lstm_cell_size": 5, "zero_init_states": 0, "use_h_function": 1}
CASES = [pytest.param("DQN", o, id=k) for k, o in VARIANTS.items()] + [
    pytest.param("R2D2", R2D2, id="sequences"),
    pytest.param("R2D2", {**R2D2, "use_h_function": 0, "double_q": 0}, id="r2d2 plain"),
    pytest.param("R2D2", {**R2D2, "burn_in": 2}, id="r2d2 burn-in"),
]


def measured(name: str, options: dict[str, Any], seed: int
             ) -> tuple[_rl.Algo, np.ndarray, np.ndarray, dict[str, float], np.ndarray]:
    """Algorithm, weights, gradient, statistics and TD errors on the batch of this seed."""
    algo = make(name, options, seed)
    batch = batch_of(name, seed)
    batch["td_errors"] = np.zeros(ROWS if name == "DQN" else 4, np.float32)
    weights, gradient = np.zeros((2, algo.n_weights), np.float32)
    algo.get_weights(weights)
    stats = algo.gradient(*SHAPES[name], batch, gradient)
    return algo, weights, gradient, stats, batch["td_errors"]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_loss_and_gradient_are_those_of_the_formula(name: str, options: dict[str, Any]) -> None:
    algo, weights, gradient, stats, errors = measured(name, options, 1)
    loss = reference(name, algo, options, 1)
    w = weights.astype(float)
    expected, td = loss(w)
    assert stats["loss"] == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_allclose(errors, td, rtol=1e-4, atol=1e-5)
    if options.get("burn_in"):
        return  # a difference quotient would see through the burn-in; torch does not (below)
    rng = np.random.default_rng(2)
    for _ in range(12):
        direction = rng.normal(size=len(w))
        e = 1e-6
        slope = (loss(w + e * direction)[0] - loss(w - e * direction)[0]) / (2 * e)
        size = np.linalg.norm(gradient) * np.linalg.norm(direction)
        assert abs(float(gradient @ direction) - slope) < 1e-4 * size


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_gradients_are_those_of_torch(name: str, options: dict[str, Any], seed: int) -> None:
    torch = pytest.importorskip("torch")
    algo, weights, gradient, stats, _ = measured(name, options, seed)
    flat = torch.tensor(weights.astype(float), requires_grad=True)
    loss, _ = reference(name, algo, options, seed, torch)(flat)
    loss.backward()
    assert stats["loss"] == pytest.approx(loss.item(), rel=1e-5)
    wanted = flat.grad.numpy()
    assert np.abs(gradient - wanted).max() < 1e-5 * max(1.0, np.abs(wanted).max())


@pytest.mark.parametrize("options", [{"noisy": 1}, {"noisy": 1, **ATOMS}])
def test_noisy_gradients_by_differences(options: dict[str, Any]) -> None:
    algo = make("DQN", options, 3)
    batch = batch_of("DQN", 3)
    weights, gradient, scrap = np.zeros((3, algo.n_weights), np.float32)
    algo.get_weights(weights)
    start = algo.state()
    loss = algo.gradient(ROWS, 1, batch, gradient)["loss"]
    assert algo.gradient(ROWS, 1, batch, scrap)["loss"] != loss  # other noise
    rng = np.random.default_rng(4)
    for _ in range(6):
        direction = rng.normal(size=len(weights)).astype(np.float32)
        direction /= np.linalg.norm(direction)
        ends = []
        for e in (3e-3, -3e-3):
            algo.set_state(start)  # the same noise
            algo.set_weights(weights + np.float32(e) * direction)
            ends.append(algo.gradient(ROWS, 1, batch, scrap)["loss"])
        slope = (ends[0] - ends[1]) / 6e-3
        assert abs(slope - float(gradient @ direction)) < 0.02 * np.linalg.norm(gradient)


def test_the_target_net_follows_when_told_or_by_itself() -> None:
    def trace(options: dict[str, Any], ask: int | None) -> list[float]:
        algo = _rl.Algo("DQN", {"kind": "box", "size": OBS, "shape": [OBS]},
                        {"kind": "discrete", "size": ACTIONS}, {**SMALL, "lr": 0.01, **options})
        losses = []
        for k in range(6):
            if ask == k:
                algo.set("update_target", 1)
            losses.append(algo.learn(ROWS, 1, batch_of("DQN", 5))["loss"])
        return losses

    never, asked = trace({}, None), trace({}, 2)
    assert never[:3] == asked[:3]
    assert never[3] != asked[3]
    assert trace({"target_update_every": 3}, None)[:5] == asked[:5]
    slow, slower = (trace({"target_update_every": 1, "tau": t}, None) for t in (0.5, 1e-3))
    assert slow[2] != never[2]
    assert slower[2] == pytest.approx(never[2], rel=1e-2)


def test_epsilon_greedy_draws_what_it_says() -> None:
    algo = make("DQN", {}, 1)
    n = 30000
    obs = np.tile(np.linspace(-1, 1, OBS).astype(np.float32), (n, 1))
    cols = {"obs": obs, "actions": np.zeros(n, np.int32), "inputs": np.zeros((n, ACTIONS), "f"),
            "logp": np.zeros(n, np.float32), "vf": np.zeros(n, np.float32)}
    algo.act(n, cols, explore=True, epsilon=0.3)
    best = int(cols["inputs"][0].argmax())
    share = np.bincount(cols["actions"], minlength=ACTIONS) / n
    assert abs(share[best] - 0.8) < 0.02
    np.testing.assert_allclose(np.exp(cols["logp"]), np.where(cols["actions"] == best, 0.8, 0.1),
                               rtol=1e-5)
    assert (cols["vf"] == cols["inputs"].max(1)).all()
    algo.act(n, cols, explore=False, epsilon=0.3)
    assert (cols["actions"] == best).all()
    mask = np.ones((n, ACTIONS), np.float32)
    mask[:, best] = 0
    algo.act(n, {**cols, "mask": mask}, explore=True, epsilon=0.5)
    assert best not in cols["actions"]


def test_a_state_goes_on_as_if_nothing_had_been() -> None:
    a, b = (make("DQN", {"noisy": 1, "target_update_every": 3}, k) for k in (1, 2))
    b.set_state(a.state())
    for k in range(5):
        stats = [x.learn(ROWS, 1, batch_of("DQN", k)) for x in (a, b)]
        assert stats[0] == stats[1]
    assert a.state() == b.state()


@pytest.mark.parametrize(
    ("options", "what"),
    [({"num_atoms": 0}, "num_atoms"), ({"num_atoms": 5, "v_min": 3.0, "v_max": 3.0}, "v_min"),
     ({"gamma": 1.5}, "gamma"), ({"tau": 0.0}, "tau"), ({"hiddens": [0]}, "hiddens"),
     ({"hidens": [3]}, "hidens"), ({"grad_clip_by": "size", "grad_clip": 1.0}, "grad_clip_by")],
)
def test_bad_options_are_named(options: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        _rl.Algo("DQN", {"kind": "box", "size": OBS, "shape": [OBS]},
                 {"kind": "discrete", "size": ACTIONS}, options)


def test_bad_spaces_and_batches_are_named() -> None:
    box = {"kind": "box", "size": 2, "shape": [2], "low": [0, 0], "high": [1, 1]}
    with pytest.raises(ValueError, match="Discrete action space"):
        _rl.Algo("DQN", box, box, {})
    algo = make("DQN", {})
    for name in ("new_obs", "rewards", "actions"):
        batch = batch_of("DQN", 1)
        del batch[name]
        with pytest.raises(ValueError, match=name):
            algo.learn(ROWS, 1, batch)
    algo = make("R2D2", {**R2D2, "burn_in": 2})
    batch = batch_of("R2D2", 1)
    batch["mask"][:] = 0
    with pytest.raises(ValueError, match="no step to learn from"):
        algo.learn(ROWS, 6, batch)
