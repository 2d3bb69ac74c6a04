"""skate._rl.Algo: options, columns, buffers, weights and state of the algorithms in C."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skate import _rl
from skate.rllib._fragment import Fragment

OBS = {"kind": "box", "size": 3, "shape": [3]}
DISCRETE = {"kind": "discrete", "size": 4}
SMALL = {"fcnet_hiddens": [8, 6], "fcnet_activation": "tanh"}


def batch(rows: int = 20, seed: int = 0) -> dict[str, Any]:
    """What a worker could have sent: a batch of discrete actions."""
    rng = np.random.default_rng(seed)
    ended = (np.arange(rows) % 7 == 6).astype(np.float32)
    return {
        "obs": rng.normal(size=(rows, 3)).astype(np.float32),
        "new_obs": rng.normal(size=(rows, 3)).astype(np.float32),
        "actions": rng.integers(0, 4, rows).astype(np.int32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminateds": ended,
        "truncateds": np.zeros(rows, np.float32),
    }


def algo(name: str = "A2C", seed: int = 3, **options: Any) -> Any:
    """A small one."""
    return _rl.Algo(name, OBS, DISCRETE, {**SMALL, **options}, seed)


def weights(a: Any) -> np.ndarray:
    """Its weights."""
    flat = np.zeros(a.n_weights, np.float32)
    a.get_weights(flat)
    return flat


def test_names() -> None:
    names = _rl.algo_names()
    assert len(names) == len(set(names)) and {"PG", "A2C", "A3C"} <= set(names)


def test_weights_have_names_and_shapes() -> None:
    a = algo()
    names = a.weight_names()
    assert ("pi/0/kernel", 3, 8) in names and ("pi/out/kernel", 6, 4) in names
    assert sum(rows * cols for _, rows, cols in names) == a.n_weights == a.n_gradient
    b = algo(seed=4)
    assert not np.array_equal(weights(a), weights(b))
    b.set_weights(weights(a), 17)
    assert np.array_equal(weights(a), weights(b)) and b.version == 17


def test_act_writes_into_the_columns() -> None:
    a = algo()
    obs = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    cols = {"obs": obs, "actions": np.full(5, -1, np.int32), "logp": np.zeros(5, np.float32),
            "vf": np.zeros(5, np.float32), "inputs": np.zeros((5, 4), np.float32)}
    a.act(5, cols)
    x = cols["inputs"].astype(float)
    expected = x - np.log(np.exp(x).sum(1, keepdims=True))
    assert np.allclose(cols["logp"], expected[np.arange(5), cols["actions"]], atol=1e-5)
    assert cols["vf"].any()
    a.act(5, cols, explore=False)
    assert np.array_equal(cols["actions"], x.argmax(1))


def test_a_forbidden_action_is_never_drawn() -> None:
    a = algo()
    mask = np.tile(np.float32([0, 1, 0, 1]), (200, 1))
    cols = {"obs": np.zeros((200, 3), np.float32), "mask": mask,
            "actions": np.zeros(200, np.int32)}
    a.act(200, cols)
    assert set(cols["actions"]) == {1, 3}


@pytest.mark.parametrize("space, options", [
    (DISCRETE, {}), (DISCRETE, {"use_lstm": True, "lstm_cell_size": 4}),
    (DISCRETE, {"vf_share_layers": True}), ({"kind": "multi", "sizes": [3, 2]}, {}),
    ({"kind": "box", "size": 2, "low": [-1, -1], "high": [1, 1]}, {"free_log_std": True}),
])
def test_state_goes_on_as_if_nothing_had_been(space: dict[str, Any],
                                              options: dict[str, Any]) -> None:
    a = _rl.Algo("A2C", OBS, space, {**SMALL, **options}, 3)
    b = _rl.Algo("A2C", OBS, space, {**SMALL, **options}, 8)
    data = batch(20)
    if space["kind"] == "multi":
        data["actions"] = np.stack([data["actions"] % 3, data["actions"] % 2], 1)
    if space["kind"] == "box":
        data["actions"] = data["new_obs"][:, :2].copy()
    if a.state_size:
        data["state_in"] = np.zeros((4, a.state_size), np.float32)
    steps = 5 if a.state_size else 1

    def go(one: Any) -> bytes:
        cols = {"obs": data["obs"], "actions": np.zeros_like(data["actions"]),
                "state": np.zeros((20, one.state_size), np.float32)}
        if not one.state_size:
            del cols["state"]
        one.act(20, cols)
        stats = one.learn(20, steps, data)
        assert np.isfinite(list(stats.values())).all()
        return bytes(cols["actions"].tobytes() + one.state())

    go(a)
    b.set_state(a.state())
    assert b.version == 1
    for _ in range(3):
        assert go(a) == go(b)
    with pytest.raises(ValueError, match="state"):
        b.set_state(a.state()[:-1])


def test_an_image_goes_through_convolutions() -> None:
    obs = {"kind": "box", "size": 300, "shape": [10, 10, 3]}
    a = _rl.Algo("A2C", obs, DISCRETE, {"conv_filters": [8, 4, 2, 16, 2, 1]}, 0)
    assert [n for n, _, _ in a.weight_names()][:2] == ["pi/conv0/kernel", "pi/conv0/bias"]
    shapes = dict((n, (rows, cols)) for n, rows, cols in a.weight_names())
    assert shapes["pi/conv1/kernel"] == (2 * 2 * 8, 16)      # 10 x 10 -> 5 x 5 -> 4 x 4
    assert shapes["pi/out/kernel"] == (4 * 4 * 16, 4)
    atari = _rl.Algo("A2C", {"kind": "box", "size": 84 * 84, "shape": [84, 84, 1]}, DISCRETE)
    assert ("pi/out/kernel", 256, 4) in atari.weight_names()
    values = _rl.Algo("DQN", {"kind": "box", "size": 84 * 84, "shape": [84, 84, 1]}, DISCRETE)
    assert ("body/conv2/kernel", 11 * 11 * 32, 256) in values.weight_names()
    assert any(rows == 256 and name.startswith("advantage/")       # on what the padded layers give
               for name, rows, _ in values.weight_names())
    with pytest.raises(ValueError, match="conv_filters"):
        _rl.Algo("A2C", {"kind": "box", "size": 75, "shape": [5, 5, 3]}, DISCRETE, {}, 0)


@pytest.mark.parametrize("change, words", [
    ({"obs": None}, "'obs'"), ({"actions": None}, "'actions'"),
    ({"rewards": np.zeros(20, np.float64)}, "rewards.*float32"),
    ({"rewards": np.zeros(19, np.float32)}, "'rewards' must be 20 x 1"),
    ({"obs": np.zeros((20, 4), np.float32)}, "'obs' must be 20 x 3"),
    ({"obs": np.zeros((20, 6), np.float32)[:, ::2]}, "obs: not a contiguous"),
    ({"actions": np.full(20, 4, np.int32)}, "'actions' has 4"),
    ({"actions": np.zeros(20, np.float32)}, "'actions' must be int32"),
    ({"rewards": np.full(20, np.nan, np.float32)}, "'rewards' has a number that is not finite"),
    ({"new_obs": None}, "'new_obs'"), ({"state_in": "abc"}, "state_in"),
])
def test_wrong_columns_are_named(change: dict[str, Any], words: str) -> None:
    a = algo()
    data = {k: v for k, v in {**batch(), **change}.items() if v is not None}
    before = weights(a)
    with pytest.raises(ValueError, match=words):
        a.learn(20, 1, data)
    assert np.array_equal(before, weights(a)) and a.version == 0


def test_wrong_buffers_of_act_are_named() -> None:
    a = algo()
    good = {"obs": np.zeros((2, 3), np.float32), "actions": np.zeros(2, np.int32)}
    read_only = np.zeros(2, np.int32)
    read_only.flags.writeable = False
    for change, words in (({"actions": np.zeros(3, np.int32)}, "actions: expected"),
                          ({"actions": read_only}, "actions: expected a writable"),
                          ({"logp": np.zeros(2, np.float64)}, "logp"),
                          ({"observations": np.zeros(2, np.float32)}, "'observations'"),
                          ({"obs": np.full((2, 3), np.inf, np.float32)}, "'obs'")):
        with pytest.raises(ValueError, match=words):
            a.act(2, {**good, **change})
    with pytest.raises(ValueError, match="'actions' is missing"):
        a.act(2, {"obs": good["obs"]})


def test_options_nobody_uses_are_named() -> None:
    for options, words in (({"lrr": 1.0}, "'lrr'"), ({"lr": "high"}, "'lr'"),
                           ({"fcnet_hiddens": 8}, "'fcnet_hiddens'"),
                           ({"fcnet_activation": "tan"}, "'tan' is not known"),
                           ({"lr": float("nan")}, "lr: not a number")):
        with pytest.raises(ValueError, match=words):
            _rl.Algo("A2C", OBS, DISCRETE, options, 0)
    with pytest.raises(ValueError, match="no algorithm is called 'A2D'"):
        _rl.Algo("A2D", OBS, DISCRETE)
    with pytest.raises(ValueError, match="action space"):
        _rl.Algo("A2C", OBS, {"kind": "text", "size": 3})
    with pytest.raises(ValueError, match="'low' has not 2"):
        _rl.Algo("A2C", OBS, {"kind": "box", "size": 2, "low": [0.0]})


def test_coefficients_can_be_set() -> None:
    a = algo()
    a.set("lr", 0.25)
    a.set("entropy_coeff", 0.125)
    stats = a.learn(20, 1, batch())
    assert stats["cur_lr"] == 0.25 and stats["entropy_coeff"] == 0.125
    with pytest.raises(ValueError, match="'gravity'"):
        a.set("gravity", 1.0)


def test_a_gradient_applied_is_a_batch_learned() -> None:
    a, b = algo("A3C"), algo("A3C")
    a.learn(20, 1, batch())
    flat = np.zeros(b.n_gradient, np.float32)
    b.gradient(20, 1, batch(), flat)
    b.apply(flat)
    assert a.state() == b.state()
    flat[3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        b.apply(flat)


def test_ppo_on_the_tape_is_the_fused_learner() -> None:
    """The same gradient for the same weights and batch, by two ways."""
    rng, steps = np.random.default_rng(5), 64
    policy = _rl.Policy(3, 4, (8, 6), seed=2)
    rollout = _rl.Rollout(policy, steps, 1, 20)
    buffer = np.zeros(_rl.frag_bytes(steps, 1, 3, 4), np.uint8)
    rollout.set_obs(0, rng.normal(size=3))
    rollout.begin(buffer, 1)
    for t in range(steps):
        rollout.act()
        rollout.step(0, rng.normal(size=3).astype(np.float32), rng.normal(), t % 9 == 8, False)
        if t % 9 == 8:
            rollout.set_obs(0, rng.normal(size=3))
    rollout.finish()
    f = {name: column[:, 0] for name, column in Fragment(buffer).fields.items()
         if column.shape[:2] == (steps, 1)}
    f["logp"][:] -= 0.2 * rng.normal(size=steps)
    f["inputs"][:] += 0.1 * rng.normal(size=(steps, 4))
    options = {"clip": 0.2, "vf_clip": 0.3, "vf_coeff": 0.5, "entropy_coeff": 0.02,
               "kl_coeff": 0.4}
    fused = _rl.Learner(policy, gamma=0.9, lambda_=0.8, minibatch=steps, **options)
    expected = np.zeros(policy.n_weights, np.float32)
    fused.gradient([buffer], expected)
    adv, target = np.zeros(steps, np.float32), np.zeros(steps, np.float32)
    _rl.gae(*(np.ascontiguousarray(f[k]) for k in ("reward", "value", "boot", "flags")), 0.9, 0.8,
            adv, target)
    tape = algo("PPO", clip_param=0.2, vf_clip_param=0.3, vf_loss_coeff=0.5, entropy_coeff=0.02,
                kl_coeff=0.4)
    flat = np.zeros(policy.n_weights, np.float32)
    policy.get_weights(flat)
    tape.set_weights(flat, 0)
    mine = np.zeros(tape.n_gradient, np.float32)
    tape.gradient(steps, 1, {
        "obs": f["obs"].copy(), "actions": f["action"].copy(), "logp": f["logp"].copy(),
        "vf": f["value"].copy(), "inputs": f["inputs"].copy(), "value_targets": target,
        "advantages": ((adv - adv.mean()) / adv.std()).astype(np.float32)}, mine)
    assert np.abs(mine - expected).max() < 1e-5 * np.abs(expected).max()


def test_minibatches_go_over_into_the_next_pass() -> None:
    """60 rows in minibatches of 40, twice: three of them, on the tape and in the fused learner."""
    rng, steps = np.random.default_rng(5), 60
    policy = _rl.Policy(3, 4, (8, 6), seed=2)
    rollout = _rl.Rollout(policy, steps, 1, 60)
    buffer = np.zeros(_rl.frag_bytes(steps, 1, 3, 4), np.uint8)
    rollout.set_obs(0, rng.normal(size=3))
    rollout.begin(buffer, 1)
    for t in range(steps):
        rollout.act()
        rollout.step(0, rng.normal(size=3).astype(np.float32), rng.normal(), t == 59, False)
    rollout.finish()
    f = {name: np.ascontiguousarray(column[:, 0]) for name, column in
         Fragment(buffer).fields.items() if column.shape[:2] == (steps, 1)}
    adv, target = np.zeros(steps, np.float32), np.zeros(steps, np.float32)
    _rl.gae(*(f[k] for k in ("reward", "value", "boot", "flags")), 0.99, 1.0, adv, target)
    data = {"obs": f["obs"], "actions": f["action"], "logp": f["logp"], "vf": f["value"],
            "inputs": f["inputs"], "value_targets": target,
            "advantages": ((adv - adv.mean()) / adv.std()).astype(np.float32)}
    flat = np.zeros(policy.n_weights, np.float32)
    policy.get_weights(flat)
    keys: dict[str, Any] = {"num_sgd_iter": 2, "sgd_minibatch_size": 40, "lr": 1e-2,
                            "kl_coeff": 0.0, "shuffle_sequences": False}
    wrapped, single = algo("PPO", wrap_minibatches=True, **keys), algo("PPO", **keys)
    for a in (wrapped, single):
        a.set_weights(flat, 0)
    fused = _rl.Learner(policy, minibatch=40, epochs=2, lr=1e-2, kl_coeff=0.0, shuffle=False,
                        wrap=True)
    assert fused.update([buffer])["minibatches"] == 3
    wrapped.learn(steps, 1, data)
    order, gradient = np.arange(120) % 60, np.zeros(single.n_gradient, np.float32)
    for at in (0, 40, 80):
        rows = {k: np.ascontiguousarray(v[order[at:at + 40]]) for k, v in data.items()}
        single.gradient(40, 1, rows, gradient)
        single.apply(gradient)
    policy.get_weights(flat)
    assert np.abs(weights(wrapped) - weights(single)).max() < 1e-6
    assert np.abs(weights(wrapped) - flat).max() < 1e-4
    assert _rl.Learner(policy, minibatch=25, epochs=2, wrap=True).update([buffer])[
        "minibatches"] == 5
    assert _rl.Learner(policy, minibatch=25, epochs=2).update([buffer])["minibatches"] == 4


def two_minibatches(fused: bool, target: float, last: bool) -> tuple[float, float]:
    """(the mean KL of an update of two minibatches, the first of which starts from the weights
    that acted, so that its KL is 0; the coefficient afterwards)"""
    rows, options = 64, {"kl_target": target, "kl_coeff": 0.4, "lr": 1e-2}
    rng, by = np.random.default_rng(5), "last" if last else "mean"
    data = {**batch(rows), "logp": np.zeros(rows, np.float32), "vf": np.zeros(rows, np.float32),
            "inputs": np.zeros((rows, 4), np.float32)}
    data["actions"] = np.zeros(rows, np.int32)
    if not fused:
        a = algo("PPO", sgd_minibatch_size=32, num_sgd_iter=1, kl_update=by, **options)
        a.set_weights(np.random.default_rng(1).normal(scale=0.4, size=a.n_weights)
                      .astype(np.float32), 0)
        a.act(rows, {k: data[k] for k in ("obs", "actions", "logp", "vf", "inputs")}, True)
        stats = a.learn(rows, 1, data)
        return stats["kl"], a.learn(rows, 1, data)["cur_kl_coeff"]
    policy = _rl.Policy(3, 4, (8, 6), seed=2)
    rollout, buffer = _rl.Rollout(policy, rows, 1, 20), np.zeros(_rl.frag_bytes(rows, 1, 3, 4),
                                                                 np.uint8)
    rollout.set_obs(0, rng.normal(size=3))
    rollout.begin(buffer, 1)
    for _ in range(rows):
        rollout.act()
        rollout.step(0, rng.normal(size=3).astype(np.float32), rng.normal(), False, False)
    rollout.finish()
    learner = _rl.Learner(policy, minibatch=32, epochs=1, kl_last=last, **options)
    stats = learner.update([buffer])
    return stats["kl"], learner.update([buffer])["cur_kl_coeff"]


@pytest.mark.parametrize("fused", [True, False])
def test_the_coefficient_adapts_to_the_mean_or_the_last_kl(fused: bool) -> None:
    mean = two_minibatches(fused, 1.0, False)[0]
    assert mean > 0
    target = 0.75 * mean                    # mean < 2 target < last = 2 mean
    assert two_minibatches(fused, target, False)[1] == pytest.approx(0.4)
    assert two_minibatches(fused, target, True)[1] == pytest.approx(0.6)


def test_ppo_on_the_tape_without_a_shuffle() -> None:
    def after(seed: int, shuffle: bool) -> bytes:
        rows = 64
        a = algo("PPO", seed, sgd_minibatch_size=16, num_sgd_iter=2, shuffle_sequences=shuffle)
        a.set_weights(np.full(a.n_weights, 0.1, np.float32), 0)
        a.learn(rows, 1, {**batch(rows), "logp": np.full(rows, -1.4, np.float32),
                          "vf": np.zeros(rows, np.float32),
                          "inputs": np.zeros((rows, 4), np.float32)})
        return weights(a).tobytes()
    assert after(1, False) == after(2, False) != after(1, True) != after(2, True)


@pytest.mark.parametrize("name", ["A2C", "IMPALA", "PPO"])
def test_a_diverged_net_is_a_floating_point_error(name: str) -> None:
    data = {**batch(), "logp": np.full(20, -1.4, np.float32), "vf": np.zeros(20, np.float32),
            "inputs": np.zeros((20, 4), np.float32)}
    a = algo(name, lr=1e38, vf_share_layers=True)
    cols = {"obs": data["obs"], "actions": np.zeros(20, np.int32)}
    with pytest.raises(FloatingPointError, match="diverged"):
        for _ in range(10):
            a.learn(20, 1, data)
            a.act(20, cols)
