"""QMIX: its loss and gradient against a plain reference, and the two-step game."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from value_reference import Net, sigmoid

from skate import _rl
from skate.rllib._errors import EnvError, UnsupportedConfigError
from skate.rllib.agents.qmix import QMixTrainer
from skate.rllib.env import MultiAgentEnv
from skate.rllib.env.multi_agent_env import ENV_STATE
from skate.tune.registry import register_env

AGENTS, OWN, ACTIONS, N, STEPS, STATE = 3, 4, 2, 5, 6, 7
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


def parts(obs: Any, extra: bool) -> tuple[Any, Any, Any]:
    """(what agents see, their masks, the state) of rows of observations."""
    if not extra:
        return obs, None, obs
    seen, masks = AGENTS * OWN, AGENTS * ACTIONS
    return obs[:, :seen], obs[:, seen:seen + masks].reshape(-1, AGENTS, ACTIONS), obs[:, -STATE:]


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
        x = as_float(batch["obs"][:, t, :AGENTS * OWN].reshape(N * AGENTS, OWN))
        new = gru(net, net.layers("agent", x, "tanh"), h)
        values.append(net.out("agent", new).reshape(N, AGENTS, ACTIONS))
        m = as_float(np.repeat(batch["mask"][:, t], AGENTS)[:, None])
        h = m * new + (1 - m) * h
    return values


def reference(xp: Any, flat: Any, names: Any, target: np.ndarray, batch: dict[str, np.ndarray],
              mixer: str, extra: bool = False) -> Any:
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
            _, masks, state = parts(batch["obs"][:, t + 1], extra)
            judged = fixed[t + 1] if masks is None else np.where(masks > 0, fixed[t + 1], -np.inf)
            best = later[t + 1][rows, who, judged.argmax(2)]
            after = mixed(other, best, state, mixer)
            y += 0.99 * (1 - batch["terminateds"][:, t]) * after
        learned = batch["mask"][:, t] * np.maximum(has, batch["terminateds"][:, t])
        q = values[t][rows, who, batch["actions"][:, t]]
        team = mixed(online, q, as_float(parts(batch["obs"][:, t], extra)[2]), mixer)
        total = total + (as_float(learned) * (team - as_float(y)) ** 2).sum()
        count += learned.sum()
    return total / count


def make(mixer: str, extra: bool = False) -> tuple[_rl.Algo, np.ndarray, np.ndarray,
                                                   dict[str, np.ndarray]]:
    """An algorithm, its weights and its target's, and a batch [N, STEPS, ...]."""
    wide = AGENTS * OWN + (AGENTS * ACTIONS + STATE if extra else 0)
    algo = _rl.Algo("QMIX", {"kind": "box", "size": wide, "shape": [wide]},
                    {"kind": "multi", "sizes": [ACTIONS] * AGENTS},
                    {**OPTIONS, "mixer": mixer, "lr": 0.0,
                     **({"action_mask": True, "state_size": STATE} if extra else {})}, 1)
    rng, f = np.random.default_rng(3), np.float32
    batch = {"obs": rng.normal(size=(N, STEPS, wide)).astype(f),
             "actions": rng.integers(ACTIONS, size=(N, STEPS, AGENTS)).astype(np.int32),
             "rewards": rng.normal(size=(N, STEPS)).astype(f),
             "terminateds": (rng.random((N, STEPS)) < 0.2).astype(f),
             "mask": np.ones((N, STEPS), f),
             "state_in": rng.normal(scale=0.5, size=(N, AGENTS * 5)).astype(f)}
    if extra:       # one action of each agent, or both
        masks = batch["obs"][..., AGENTS * OWN:-STATE].reshape(N, STEPS, AGENTS, ACTIONS)
        kept = rng.integers(ACTIONS, size=masks.shape[:-1])[..., None] == np.arange(ACTIONS)
        batch["obs"][..., AGENTS * OWN:-STATE] = np.where(
            rng.random((N, STEPS, AGENTS, 1)) < 0.4, 1, kept).reshape(N, STEPS, -1)
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


@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("mixer", ["qmix", "vdn"])
def test_loss_and_gradient_are_those_of_the_formula(mixer: str, extra: bool) -> None:
    algo, weights, target, batch = make(mixer, extra)
    names = algo.weight_names()
    gradient = np.zeros(algo.n_weights, np.float32)
    stats = algo.gradient(N * STEPS, STEPS, flat_of(batch), gradient)
    wide = {k: v if v.dtype == np.int32 else v.astype(float) for k, v in batch.items()}

    def loss(w: np.ndarray) -> float:
        return float(reference(np, w, names, target.astype(float), wide, mixer, extra))

    w = weights.astype(float)
    assert stats["loss"] == pytest.approx(loss(w), rel=1e-5)
    rng = np.random.default_rng(4)
    for _ in range(10):
        d = rng.normal(size=len(w))
        slope = (loss(w + 1e-6 * d) - loss(w - 1e-6 * d)) / 2e-6
        assert abs(float(gradient @ d) - slope) < 1e-4 * np.linalg.norm(gradient) * len(w) ** 0.5


@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("mixer", ["qmix", "vdn"])
def test_gradients_are_those_of_torch(mixer: str, extra: bool) -> None:
    torch = pytest.importorskip("torch")
    algo, weights, target, batch = make(mixer, extra)
    gradient = np.zeros(algo.n_weights, np.float32)
    algo.gradient(N * STEPS, STEPS, flat_of(batch), gradient)
    flat = torch.tensor(weights.astype(float), requires_grad=True)
    wide = {k: v if v.dtype == np.int32 else v.astype(float) for k, v in batch.items()}
    reference(torch, flat, algo.weight_names(), target.astype(float), wide, mixer,
              extra).backward()
    wanted = flat.grad.numpy()
    assert np.abs(gradient - wanted).max() < 1e-5 * max(1.0, np.abs(wanted).max())


def test_masked_actions_are_not_taken() -> None:
    algo = make("qmix", True)[0]
    rng, n = np.random.default_rng(1), 400
    obs = rng.normal(size=(n, AGENTS * OWN + AGENTS * ACTIONS + STATE)).astype(np.float32)
    masks = (rng.integers(ACTIONS, size=(n, AGENTS))[..., None] == np.arange(ACTIONS))
    masks[: n // 2, 0] = True
    obs[:, AGENTS * OWN:-STATE] = masks.reshape(n, -1)
    for epsilon in (0.0, 0.5, 1.0):
        io = {"obs": obs, "actions": np.zeros((n, AGENTS), np.int32),
              "state": np.zeros((n, algo.state_size), np.float32)}
        algo.act(n, io, True, epsilon=epsilon)
        assert np.take_along_axis(masks, io["actions"][..., None], 2).all()
    assert len(set(io["actions"][: n // 2, 0])) == ACTIONS      # all that is allowed is drawn
    obs[3, AGENTS * OWN:AGENTS * OWN + ACTIONS] = 0
    with pytest.raises(ValueError, match="action_mask allows no action"):
        algo.act(n, io, True, epsilon=1.0)


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
    return group(TwoStepGame())


def group(game: MultiAgentEnv) -> Any:
    from gymnasium.spaces import Tuple

    return game.with_agent_groups({"team": [0, 1]},
                                  obs_space=Tuple([game.observation_space] * 2),
                                  act_space=Tuple([game.action_space] * 2))


class MaskedGame(TwoStepGame):
    """The same seen as a number, the same for both, with the game in the state only; a third
    action pays 100, and is masked; and agent 1 has one action at first."""

    taken = 0

    def __init__(self) -> None:
        from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

        super().__init__()
        self.observation_space = Dict({"obs": Discrete(3), ENV_STATE: MultiDiscrete([2, 2, 2]),
                                       "action_mask": Box(0, 1, (3,))})
        self.action_space = Discrete(3)

    def obs(self) -> dict[int, Any]:
        state = np.eye(3, dtype=np.int64)[self.at]
        return {i: {"obs": self.at, ENV_STATE: state,
                    "action_mask": np.array([1, self.at > 0 or i == 0, 0], np.float32)}
                for i in (0, 1)}

    def step(self, action_dict: dict[Any, Any]) -> Any:
        forbidden = 2 in action_dict.values() or (self.at == 0 and action_dict[1] != 0)
        MaskedGame.taken += forbidden
        answer = super().step({i: min(int(a), 1) for i, a in action_dict.items()})
        return (answer[0], {i: 100.0 for i in (0, 1)}, *answer[2:]) if forbidden else answer


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


@pytest.mark.parametrize("exploration", ["EpsilonGreedy", "Random"])
def test_a_masked_action_that_would_pay_is_never_taken(exploration: str, tmp_path: Any,
                                                       monkeypatch: Any) -> None:
    monkeypatch.setenv("SKATE_RESULTS_DIR", str(tmp_path))
    register_env("masked_two_step_game", lambda _config: group(MaskedGame()))
    how = CONFIG["exploration_config"] if exploration == "EpsilonGreedy" else {"type": "Random"}
    trainer = QMixTrainer(config={**CONFIG, "env": "masked_two_step_game",
                                  "exploration_config": how})
    found, MaskedGame.taken = 0.0, 0
    for _ in range(40 if exploration == "EpsilonGreedy" else 2):
        if trainer.train()["episode_reward_mean"] > 7.9:
            found = trainer.evaluate()["evaluation"]["episode_reward_mean"]
        if found == 8:
            break
    assert MaskedGame.taken == 0
    if exploration == "EpsilonGreedy":
        assert found == 8
        obs = MaskedGame().obs()
        action, *_ = trainer.get_policy().compute_single_action(
            [obs[0], obs[1]], trainer.get_policy().get_initial_state(), explore=False)
        assert action.tolist() == [1, 0]
        with pytest.raises(UnsupportedConfigError, match="observation_filter"):
            QMixTrainer(config={**CONFIG, "env": "masked_two_step_game",
                                "observation_filter": "MeanStdFilter"})
    trainer.stop()


def test_a_mask_must_fit_the_actions(tmp_path: Any, monkeypatch: Any) -> None:
    from gymnasium.spaces import Discrete

    monkeypatch.setenv("SKATE_RESULTS_DIR", str(tmp_path))
    game = MaskedGame()
    game.action_space = Discrete(2)
    register_env("badly_masked_game", lambda _config: group(game))
    with pytest.raises(EnvError, match="action_mask of 2 numbers"):
        QMixTrainer(config={**CONFIG, "env": "badly_masked_game"})


def test_a_resumed_run_has_the_same_buffer_and_draws(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("SKATE_RESULTS_DIR", str(tmp_path))
    register_env("grouped_two_step_game", grouped)
    first, second = QMixTrainer(config=CONFIG), QMixTrainer(config={**CONFIG, "seed": 2})
    for trainer in (first, second):
        trainer.train()
    second.restore(first.save(str(tmp_path)))
    assert first.plan.engine.state() == second.plan.engine.state()
    for trainer in (first, second):
        trainer.train()
    assert first.plan.engine.state() == second.plan.engine.state()
    assert first.plan._replay.state() == second.plan._replay.state()
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
