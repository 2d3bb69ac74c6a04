"""QMIX: its loss and gradient against a plain reference, and the two-step game."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from value_reference import Net, sigmoid

from skate import _rl
from skate.rllib._errors import EnvError
from skate.rllib.agents.qmix import QMixTrainer
from skate.rllib.env import MultiAgentEnv
from skate.tune.registry import register_env

AGENTS, OWN, ACTIONS, N, STEPS = 3, 4, 2, 5, 6
OPTIONS: dict[str, Any] = {"fcnet_hiddens": [7], "fcnet_activation": "tanh", "lstm_cell_size": 5,
                           "mixing_embed_dim": 6}


def gru(net: Net, x: Any, h: Any) -> Any:
    """torch's GRU: gates r, z, n."""
    xp, w, n = net.xp, net.w, h.shape[1]
    a = x @ w["agent/gru/kernel"] + w["agent/gru/bias"]
    b = h @ w["agent/gru/recurrent_kernel"] + w["agent/gru/recurrent_bias"]
    r = sigmoid(xp, a[:, :n] + b[:, :n])
    z = sigmoid(xp, a[:, n:2 * n] + b[:, n:2 * n])
    new = xp.tanh(a[:, 2 * n:] + r * b[:, 2 * n:])
    return (1 - z) * new + z * h


def mixed(net: Net, q: Any, state: Any, mixer: str) -> Any:
    """The team's value [n] of q [n, agents]."""
    if mixer == "vdn":
        return q.sum(1)
    xp = net.xp
    w1 = xp.abs(net.out("mixer/w1", state)).reshape(len(q), AGENTS, -1)
    hidden = (q[:, :, None] * w1).sum(1) + net.out("mixer/b1", state)
    hidden = xp.where(hidden > 0, hidden, xp.exp(xp.where(hidden > 0, 0 * hidden, hidden)) - 1)
    v = net.out("mixer/v", net.layers("mixer/v", state, "relu"))[:, 0]
    return (hidden * xp.abs(net.out("mixer/w2", state))).sum(1) + v


def unroll(net: Net, as_float: Any, batch: dict[str, np.ndarray]) -> list[Any]:
    h, values = as_float(batch["state_in"].reshape(N * AGENTS, -1)), []
    for t in range(STEPS):
        x = as_float(batch["obs"][:, t].reshape(N * AGENTS, OWN))
        new = gru(net, net.layers("agent", x, "tanh"), h)
        values.append(net.out("agent", new).reshape(N, AGENTS, ACTIONS))
        m = as_float(np.repeat(batch["mask"][:, t], AGENTS)[:, None])
        h = m * new + (1 - m) * h
    return values


def reference(xp: Any, flat: Any, names: Any, target: np.ndarray, batch: dict[str, np.ndarray],
              mixer: str) -> Any:
    """The loss in float64."""
    as_float = np.asarray if xp is np else xp.as_tensor
    online, other = Net(xp, names, flat), Net(np, names, target)
    values, later = unroll(online, as_float, batch), unroll(other, np.asarray, batch)
    fixed = [np.asarray(v if xp is np else v.detach()) for v in values]
    rows, who = np.arange(N)[:, None], np.arange(AGENTS)[None, :]
    total, count = 0.0, 0.0
    for t in range(STEPS):
        y, has = batch["rewards"][:, t].copy(), np.zeros(N)
        if t + 1 < STEPS:
            has = batch["mask"][:, t + 1]
            best = later[t + 1][rows, who, fixed[t + 1].argmax(2)]
            after = mixed(other, best, batch["obs"][:, t + 1].reshape(N, -1), mixer)
            y += 0.99 * (1 - batch["terminateds"][:, t]) * after
        learned = batch["mask"][:, t] * np.maximum(has, batch["terminateds"][:, t])
        q = values[t][rows, who, batch["actions"][:, t]]
        team = mixed(online, q, as_float(batch["obs"][:, t].reshape(N, -1)), mixer)
        total = total + (as_float(learned) * (team - as_float(y)) ** 2).sum()
        count += learned.sum()
    return total / count


def make(mixer: str) -> tuple[_rl.Algo, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """An algorithm, its weights and its target's, and a batch [N, STEPS, ...]."""
    algo = _rl.Algo("QMIX", {"kind": "box", "size": AGENTS * OWN, "shape": [AGENTS * OWN]},
                    {"kind": "multi", "sizes": [ACTIONS] * AGENTS},
                    {**OPTIONS, "mixer": mixer, "lr": 0.0}, 1)
    rng, f = np.random.default_rng(3), np.float32
    batch = {"obs": rng.normal(size=(N, STEPS, AGENTS * OWN)).astype(f),
             "actions": rng.integers(ACTIONS, size=(N, STEPS, AGENTS)).astype(np.int32),
             "rewards": rng.normal(size=(N, STEPS)).astype(f),
             "terminateds": (rng.random((N, STEPS)) < 0.2).astype(f),
             "mask": np.ones((N, STEPS), f),
             "state_in": rng.normal(scale=0.5, size=(N, AGENTS * 5)).astype(f)}
    batch["mask"][0, 4:] = 0
    batch["mask"][1, 1:] = 0
    target, weights = rng.normal(scale=0.5, size=(2, algo.n_weights)).astype(f)
    algo.set_weights(target)
    algo.set("update_target", 1)
    algo.learn(N * STEPS, STEPS, flat_of(batch))        # lr 0: only the target moves
    algo.set_weights(weights)
    return algo, weights, target, batch


def flat_of(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k: v if k == "state_in" else v.reshape(N * STEPS, *v.shape[2:])
            for k, v in batch.items()}


@pytest.mark.parametrize("mixer", ["qmix", "vdn"])
def test_loss_and_gradient_are_those_of_the_formula(mixer: str) -> None:
    algo, weights, target, batch = make(mixer)
    names = algo.weight_names()
    gradient = np.zeros(algo.n_weights, np.float32)
    stats = algo.gradient(N * STEPS, STEPS, flat_of(batch), gradient)
    wide = {k: v if v.dtype == np.int32 else v.astype(float) for k, v in batch.items()}

    def loss(w: np.ndarray) -> float:
        return float(reference(np, w, names, target.astype(float), wide, mixer))

    w = weights.astype(float)
    assert stats["loss"] == pytest.approx(loss(w), rel=1e-5)
    rng = np.random.default_rng(4)
    for _ in range(10):
        d = rng.normal(size=len(w))
        slope = (loss(w + 1e-6 * d) - loss(w - 1e-6 * d)) / 2e-6
        assert abs(float(gradient @ d) - slope) < 1e-4 * np.linalg.norm(gradient) * len(w) ** 0.5


@pytest.mark.parametrize("mixer", ["qmix", "vdn"])
def test_gradients_are_those_of_torch(mixer: str) -> None:
    torch = pytest.importorskip("torch")
    algo, weights, target, batch = make(mixer)
    gradient = np.zeros(algo.n_weights, np.float32)
    algo.gradient(N * STEPS, STEPS, flat_of(batch), gradient)
    flat = torch.tensor(weights.astype(float), requires_grad=True)
    wide = {k: v if v.dtype == np.int32 else v.astype(float) for k, v in batch.items()}
    reference(torch, flat, algo.weight_names(), target.astype(float), wide, mixer).backward()
    wanted = flat.grad.numpy()
    assert np.abs(gradient - wanted).max() < 1e-5 * max(1.0, np.abs(wanted).max())


class TwoStepGame(MultiAgentEnv):
    """Agent 0 chooses a game: in the first all get 7, in the second 8 if both take action 1."""

    def __init__(self) -> None:
        from gymnasium.spaces import Box, Discrete

        self.possible_agents = [0, 1]
        self.observation_space = Box(0.0, 1.0, (5,))
        self.action_space = Discrete(2)
        self.at = 0
        super().__init__()

    def obs(self) -> dict[int, np.ndarray]:
        return {i: np.eye(5, dtype=np.float32)[self.at] + np.eye(5, dtype=np.float32)[3 + i]
                for i in (0, 1)}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.at = 0
        return self.obs(), {}

    def step(self, action_dict: dict[Any, Any]) -> Any:
        done = self.at > 0
        reward = 0.0
        if self.at == 1:
            reward = 7.0
        elif self.at == 2:
            reward = [[0.0, 1.0], [1.0, 8.0]][int(action_dict[0])][int(action_dict[1])]
        else:
            self.at = 1 + int(action_dict[0])
        flags = {0: done, 1: done, "__all__": done}
        none = {0: False, 1: False, "__all__": False}
        return self.obs(), {i: reward / 2 for i in (0, 1)}, flags, none, {}


def grouped(_config: Any) -> Any:
    from gymnasium.spaces import Tuple

    game = TwoStepGame()
    return game.with_agent_groups({"team": [0, 1]},
                                  obs_space=Tuple([game.observation_space] * 2),
                                  act_space=Tuple([game.action_space] * 2))


CONFIG: dict[str, Any] = {
    "env": "grouped_two_step_game", "gamma": 0.99, "lr": 2e-3, "learning_starts": 200,
    "train_batch_size": 32, "target_network_update_freq": 100, "seed": 1,
    "timesteps_per_iteration": 400, "metrics_smoothing_episodes": 50, "training_intensity": 8,
    "model": {"fcnet_hiddens": [32], "lstm_cell_size": 32, "max_seq_len": 4},
    "exploration_config": {"type": "EpsilonGreedy", "epsilon_timesteps": 4000,
                           "final_epsilon": 0.0},
}


def test_qmix_finds_the_better_game(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("SKATE_RESULTS_DIR", str(tmp_path))
    register_env("grouped_two_step_game", grouped)
    trainer = QMixTrainer(config=CONFIG)
    found = 0.0
    for _ in range(40):
        if trainer.train()["episode_reward_mean"] > 7.9:
            found = trainer.evaluate()["evaluation"]["episode_reward_mean"]
        if found == 8:
            break
    assert found == 8       # VDN cannot tell it from 7
    policy = trainer.get_policy()
    action, state, _extra = policy.compute_single_action(
        [np.eye(5)[0] + np.eye(5)[3 + i] for i in (0, 1)], policy.get_initial_state(),
        explore=False)
    assert action[0] == 1       # the second game
    assert len(state[0]) == 64
    trainer.stop()


def test_a_resumed_run_has_the_same_buffer_and_draws(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("SKATE_RESULTS_DIR", str(tmp_path))
    register_env("grouped_two_step_game", grouped)
    first, second = QMixTrainer(config=CONFIG), QMixTrainer(config=CONFIG)
    first.train()
    second.restore(first.save(str(tmp_path)))
    assert first.plan.engine.state() == second.plan.engine.state()
    drawn = [t.plan.draw().columns for t in (first, second)]
    assert all(np.array_equal(drawn[0][name], drawn[1][name]) for name in drawn[0])
    first.stop()
    second.stop()


def test_agents_without_a_group_are_refused(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("SKATE_RESULTS_DIR", str(tmp_path))
    register_env("loose_two_step_game", lambda _config: TwoStepGame())
    with pytest.raises(EnvError, match="with_agent_groups"):
        QMixTrainer(config={**CONFIG, "env": "loose_two_step_game"})
    with pytest.raises(ValueError, match="mixer"):
        QMixTrainer(config={**CONFIG, "mixer": "sum"})
