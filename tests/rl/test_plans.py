"""Parts of the plans: n-step returns across fragments, sequences, replay settings, sampling."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from skate.rllib import _config, _engine, _registry
from skate.rllib._errors import EnvAnswerError
from skate.rllib._plans._batch import chop, sequences
from skate.rllib._plans.replay import NStep, replay_options
from skate.rllib._specs import Spec


def fragment(rng, lanes, steps, start, eps):
    """Random columns in the sampler's order; `eps` is each lane's episode, changed in place."""
    grid = {"rewards": rng.normal(size=(lanes, steps)).astype(np.float32),
            "terminateds": (rng.random((lanes, steps)) < 0.1).astype(np.float32),
            "eps_id": np.zeros((lanes, steps), np.int64)}
    grid["truncateds"] = ((rng.random((lanes, steps)) < 0.1)
                          & (grid["terminateds"] == 0)).astype(np.float32)
    times = np.tile(np.arange(start, start + steps, dtype=np.float32), (lanes, 1))
    grid["obs"] = np.stack([times, np.arange(lanes)[:, None] + 0 * times], -1)
    grid["new_obs"] = grid["obs"] + [1.0, 0.0]
    for t in range(steps):
        grid["eps_id"][:, t] = eps
        eps += 1000 * ((grid["terminateds"] + grid["truncateds"])[:, t] > 0)
    return {name: a.reshape(lanes * steps, *a.shape[2:]) for name, a in grid.items()}


def test_n_step_returns_go_over_fragments():
    rng, lanes, n, gamma = np.random.default_rng(3), 3, 3, 0.9
    eps = np.arange(lanes)
    made, whole, got = NStep(n, gamma, lanes), [], []
    for i in range(12):
        part = fragment(rng, lanes, 4, 4 * i, eps)
        whole.append({k: v.reshape(lanes, 4, *v.shape[1:]) for k, v in part.items()})
        got.append(made.feed(part))
    grid = {k: np.concatenate([w[k] for w in whole], 1) for k in whole[0]}
    rows = {k: np.concatenate([g[k] for g in got]) for k in got[0]}
    assert len(rows["rewards"]) == lanes * (48 - (n - 1))
    for i in range(len(rows["rewards"])):
        t, lane = (int(x) for x in rows["obs"][i])
        total, k = 0.0, 0
        while True:
            total += gamma ** k * grid["rewards"][lane, t + k]
            over = grid["terminateds"][lane, t + k] + grid["truncateds"][lane, t + k] > 0
            if over or k == n - 1:
                break
            k += 1
        assert rows["rewards"][i] == pytest.approx(total, abs=1e-5)
        assert rows["new_obs"][i][0] == t + k + 1
        assert rows["terminateds"][i] == grid["terminateds"][lane, t + k]
        if not rows["terminateds"][i]:
            assert rows["discounts"][i] == pytest.approx(gamma ** (k + 1), abs=1e-6)
    strange = fragment(rng, lanes, 4, 0, np.arange(lanes) + 77)     # of a replaced worker
    assert made.feed(strange)["obs"][:, 0].max() < 4


def test_sequences_never_cross_episodes():
    eps = np.array([1, 1, 1, 1, 1, 2, 2, 3, 3, 3])
    columns = {"rewards": np.arange(10, dtype=np.float32), "eps_id": eps,
               "cuts": np.eye(10, dtype=np.float32)[3],
               "state_in": np.arange(10, dtype=np.float32)[:, None]}
    batch = chop(columns, 3)
    assert batch.rows == len(batch.columns["rewards"]) == 15 and batch.steps == 3
    assert batch.columns["state_in"][:, 0].tolist() == [0, 3, 4, 5, 7]
    assert batch.columns["mask"].tolist() == [1, 1, 1, 1, 0, 0, 1, 0, 0, 1, 1, 0, 1, 1, 1]
    assert batch.columns["rewards"][batch.columns["mask"] > 0].tolist() == list(range(10))
    plain = sequences(columns, 5, 10)
    assert plain.steps == 5 and plain.columns["state_in"][:, 0].tolist() == [0, 5]


def test_replay_settings_of_both_eras():
    old = replay_options({"buffer_size": 7, "prioritized_replay": True, "n_step": 3,
                          "prioritized_replay_alpha": 0.5, "learning_starts": 9})
    assert (old["capacity"], old["alpha"], old["n_step"], old["learning_starts"]) == (7, 0.5, 3, 9)
    new = replay_options({
        "replay_buffer_config": {"type": "PrioritizedEpisodeReplayBuffer", "capacity": 70,
                                 "alpha": 0.3, "beta": 0.2},
        "num_steps_sampled_before_learning_starts": 5, "prioritized_replay": None})
    assert (new["capacity"], new["alpha"], new["beta"](0)) == (70, 0.3, 0.2)
    assert new["learning_starts"] == 5
    assert replay_options({"replay_buffer_config": {"type": "EpisodeReplayBuffer"}})["alpha"] == 0


def a2c(**extra):
    """A trainer class of an on-policy algorithm of the engine, with little."""
    defaults = _config.with_common_config({
        "num_workers": 0, "train_batch_size": 60, "rollout_fragment_length": 10, "lr": 1e-3,
        "num_envs_per_worker": 2, "seed": 3, **extra})
    defaults["model"] = {**defaults["model"], "fcnet_hiddens": [8]}
    return _registry._make_trainer(Spec(
        "A2C", defaults, "on_policy:OnPolicyPlan", engine="A2C",
        options=lambda c: {**_engine.model_options(c), "lr": c["lr"], "gamma": c["gamma"]},
        offered={"batch_mode": None, "model.use_lstm": None}))


class Odd:
    """Spaces of all kinds; episodes of 4 steps, the last of which is truncated."""

    def __init__(self, config):
        s = gymnasium.spaces
        self.action_space = config["actions"]
        self.observation_space = s.Dict({
            "a": s.Discrete(3), "b": s.Tuple((s.MultiBinary(2), s.Box(-1, 1, (2, 2))))})
        self.bad = config.get("bad")
        self.t = 0
        self.seen = config.get("seen", [])

    def _obs(self):
        return {"a": self.t % 3, "b": (np.array([1, 0]), np.full((2, 2), self.t, np.float32))}

    def reset(self, seed=None, options=None):
        self.t = 0
        return self._obs(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.seen.append(action)
        self.t += 1
        reward = float("nan") if self.bad == "reward" and self.t == 3 else 1.0
        obs = self._obs()
        if self.bad == "obs" and self.t == 2:
            obs["b"][1][0, 0] = np.inf
        return obs, reward, False, self.t == 4, {}


@pytest.fixture(autouse=True)
def results_here(tmp_path, monkeypatch):
    """Results of trainers go to the test's folder."""
    monkeypatch.setenv("TUNE_RESULT_DIR", str(tmp_path))


@pytest.mark.parametrize("actions", [
    gymnasium.spaces.Discrete(3, start=2), gymnasium.spaces.MultiDiscrete([2, 4]),
    gymnasium.spaces.MultiBinary(3), gymnasium.spaces.Box(-3.0, 5.0, (2, 1)),
    gymnasium.spaces.Tuple((gymnasium.spaces.Discrete(2), gymnasium.spaces.Discrete(5)))],
    ids=lambda s: type(s).__name__)
def test_any_space_and_the_last_observation(actions):
    trainer = a2c()(env=Odd, config={"env_config": {"actions": actions}})
    trainer.train()
    columns, _fragment, ended = trainer.plan.sample_batch()
    assert ended.lengths == [4] * len(ended.lengths) and ended.rewards[0] == 4.0
    last = columns["truncateds"] == 1
    assert last.sum() == len(ended.lengths) and not columns["terminateds"].any()
    t = columns["t"]
    assert (columns["obs"][:, 5] == t).all()
    assert (columns["new_obs"][:, 5] == t + 1).all()        # not the first of the next episode
    assert (columns["obs"][:, :3].argmax(1) == t % 3).all()
    assert (columns["eps_id"][1:] != columns["eps_id"][:-1])[last[:-1]].all()
    assert actions.contains(trainer.compute_single_action(Odd({"actions": actions})._obs()))
    path = trainer.save()
    before = trainer.get_policy().flat_weights()
    trainer.train()
    assert (trainer.get_policy().flat_weights() != before).any()
    trainer.restore(path)
    assert (trainer.get_policy().flat_weights() == before).all()
    trainer.stop()


@pytest.mark.parametrize(("bad", "step"), [("reward", 2), ("obs", 1)])
def test_numbers_that_are_not_finite_name_their_field(bad, step):
    config = {"actions": gymnasium.spaces.Discrete(2), "bad": bad}
    trainer = a2c()(env=Odd, config={"env_config": config})
    with pytest.raises(EnvAnswerError, match="observation" if bad == "obs" else "reward") as told:
        trainer.train()
    assert told.value.step in (step, step + 1)
    trainer.stop()


def test_whole_episodes_and_clipped_rewards():
    trainer = a2c(batch_mode="complete_episodes")(env=Odd, config={
        "env_config": {"actions": gymnasium.spaces.Discrete(2)}})
    for _ in range(2):
        columns, _fragment, ended = trainer.plan.sample_batch()
        assert len(columns["t"]) >= 60 and not columns["cuts"].any()
        assert columns["t"].tolist() == [0, 1, 2, 3] * (len(columns["t"]) // 4)
        assert columns["truncateds"].tolist() == [0, 0, 0, 1] * (len(columns["t"]) // 4)
    trainer.train()
    trainer.stop()


def test_a_recurrent_policy_gets_its_states():
    trainer = a2c()(env="CartPole-v1", config={
        "model": {"use_lstm": True, "lstm_cell_size": 4, "max_seq_len": 5, "fcnet_hiddens": [8]},
        "native_env": False})
    columns, fragment, _ = trainer.plan.sample_batch()
    batch = trainer.plan.for_learning(columns, fragment)
    assert batch.steps == 5 and len(batch.columns["state_in"]) == batch.rows // 5
    assert (columns["state_in"][columns["t"] == 0] == 0).all()
    assert (columns["state_in"][columns["t"] > 0] != 0).any(axis=1).all()
    trainer.train()
    policy = trainer.get_policy()
    state = policy.get_initial_state()
    _, state, _ = trainer.compute_single_action(np.ones(4), state, explore=False)
    assert (state[0] != 0).any()
    trainer.stop()
