"""Learning tests of the on-policy names, through the trainers of both eras, without a cluster."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from skate.rllib._errors import UnsupportedConfigError
from skate.rllib._plans._mix import MixIn, Ring
from skate.rllib._specs.asynchronous import appo_options
from skate.rllib.agents.registry import get_trainer_class
from skate.rllib.algorithms.appo import APPOConfig

SMALL = {"fcnet_hiddens": [32]}


@pytest.fixture(autouse=True)
def results_here(tmp_path: Any, monkeypatch: Any) -> None:
    """Results of trainers go to the test's folder."""
    monkeypatch.setenv("TUNE_RESULT_DIR", str(tmp_path))


class Target(gymnasium.Env):
    """Meet a number with a continuous action, ten times."""

    def __init__(self, config: Any) -> None:
        self.observation_space = gymnasium.spaces.Box(-1, 1, (1,))
        self.action_space = gymnasium.spaces.Box(-2, 2, (1,))

    def _obs(self) -> np.ndarray:
        self.x = self.np_random.uniform(-1, 1)
        return np.array([self.x], np.float32)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        reward = -abs(float(action[0]) - self.x)
        self.t += 1
        return self._obs(), reward, self.t == 10, False, {}


class Memory(gymnasium.Env):
    """The first observation says which action is wanted three steps later."""

    def __init__(self, config: Any) -> None:
        self.observation_space = gymnasium.spaces.Box(-1, 1, (2,))
        self.action_space = gymnasium.spaces.Discrete(2)

    def _obs(self) -> np.ndarray:
        return np.array([self.sign if self.t == 0 else 0, self.t == 3], np.float32)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t, self.sign = 0, int(self.np_random.choice([-1, 1]))
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        done = self.t == 3
        reward = float(done and action == (self.sign > 0))
        self.t += 1
        return self._obs(), reward, done, False, {}


class Picture(gymnasium.Env):
    """Two pictures of 10 x 10, one answer to each of two questions: a MultiDiscrete action."""

    def __init__(self, config: Any) -> None:
        self.observation_space = gymnasium.spaces.Box(0, 1, (10, 10, 1))
        self.action_space = gymnasium.spaces.MultiDiscrete([2, 3])

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.side, self.t = int(self.np_random.integers(2)), 0
        picture = np.zeros((10, 10, 1), np.float32)
        picture[:, 5 * self.side:5 * self.side + 5] = 1
        return picture, {}

    def step(self, action: Any) -> Any:
        reward = 0.5 * (action[0] == self.side) + 0.5 * (action[1] == 2 * self.side)
        return np.zeros((10, 10, 1), np.float32), reward, True, False, {}


def learns(name: str, env: Any, target: float, iterations: int, **config: Any) -> dict[str, Any]:
    """The first result of at least `target`; fails after so many iterations."""
    trainer = get_trainer_class(name)(env=env, config={
        "num_workers": 0, "seed": 1, "min_iter_time_s": 0, **config})
    try:
        for _ in range(iterations):
            result: dict[str, Any] = trainer.train()
            if result["episode_reward_mean"] >= target:
                break
        assert result["episode_reward_mean"] >= target
        again = get_trainer_class(name)(env=env, config={
            "num_workers": 0, "seed": 2, "min_iter_time_s": 0, **config})
        again.restore(trainer.save())
        weights, other = trainer.get_weights(), again.get_weights()
        again.stop()
        for policy, arrays in weights.items():
            for key, array in arrays.items():
                assert np.array_equal(array, other[policy][key])
        return result
    finally:
        trainer.stop()


def test_pg_learns_cartpole() -> None:
    result = learns("PG", "CartPole-v1", 150, 150, lr=4e-3, train_batch_size=1000,
                    batch_mode="complete_episodes", model=SMALL)
    assert "policy_loss" in result["info"]["learner"]["default_policy"]["learner_stats"]


def test_a2c_learns_cartpole() -> None:
    config: dict[str, Any] = {"lambda": 0.95}
    result = learns("A2C", "CartPole-v1", 150, 1000, lr=3e-3, num_envs_per_worker=8,
                    train_batch_size=160, model=SMALL, **config)
    stats = result["info"]["learner"]["default_policy"]["learner_stats"]
    assert {"policy_loss", "vf_loss", "policy_entropy", "cur_lr"} <= set(stats)


LANES: dict[str, Any] = {"lr": 3e-3, "num_envs_per_worker": 8, "rollout_fragment_length": 20,
                         "model": SMALL}


def test_a3c_learns_cartpole() -> None:
    learns("A3C", "CartPole-v1", 150, 1000, **LANES, **{"lambda": 0.95})


def test_impala_learns_cartpole() -> None:
    result = learns("IMPALA", "CartPole-v1", 150, 1000, **LANES, train_batch_size=160)
    stats = result["info"]["learner"]["default_policy"]["learner_stats"]
    assert {"policy_loss", "vf_loss", "entropy", "vf_explained_var"} <= set(stats)


def test_impala_remembers_with_an_lstm() -> None:
    learns("IMPALA", Memory, 0.96, 1000, lr=5e-3, train_batch_size=160, num_envs_per_worker=4,
           rollout_fragment_length=20, model={"fcnet_hiddens": [16], "use_lstm": True,
                                              "lstm_cell_size": 16, "max_seq_len": 10})


def test_appo_learns_cartpole_in_both_eras() -> None:
    learns("APPO", "CartPole-v1", 150, 1000, **LANES, train_batch_size=320, num_sgd_iter=4)
    config = (APPOConfig().environment("CartPole-v1").env_runners(
        num_env_runners=0, num_envs_per_env_runner=4).training(
        target_network_update_freq=3, use_kl_loss=True, train_batch_size=200)
        .reporting(min_time_s_per_iteration=0))
    algo = config.build_algo()
    stats = algo.train()["learners"]["default_policy"]
    assert stats["curr_kl_coeff"] == 1.0 and "policy_loss" in stats
    algo.stop()


def test_what_is_replayed_with_a_fragment() -> None:
    mix = MixIn(3, 1.5, 1)
    counts, seen = [], set()
    for i in range(600):
        out = [int(part["t"][0]) for part in mix({"t": np.array([i])})]
        assert out[0] == i and all(i - 3 < old <= i for old in out)
        seen |= {i - old for old in out[1:]}
        counts.append(len(out) - 1)
    assert set(counts) == {1, 2} and abs(np.mean(counts) - 1.5) < 0.1 and seen == {0, 1, 2}
    assert MixIn(3, 0.0, 1)({}) == [{}]


def test_batches_take_turns() -> None:
    numbers = iter(range(100))
    ring = Ring(2, 2)
    told = [ring.turns(lambda: next(numbers)) for _ in range(6)]
    assert told == [[0], [1], [2, 1, 2], [3], [4, 3, 4], [5]]
    other = Ring(2, 2)
    other.restore(ring.state(), ring.arrays())
    rest = iter(range(6, 100))
    assert [ring.turns(lambda: next(numbers)) for _ in range(4)] == [
        other.turns(lambda: next(rest)) for _ in range(4)]


@pytest.mark.parametrize("name", ["IMPALA", "APPO"])
def test_replay_and_turns_go_on_from_a_checkpoint(name: str) -> None:
    config: dict[str, Any] = {
        "num_workers": 0, "seed": 1, "min_iter_time_s": 0, "train_batch_size": 40,
        "rollout_fragment_length": 10, "model": {"fcnet_hiddens": [8]}, "num_sgd_iter": 3,
        "minibatch_buffer_size": 2, "replay_proportion": 1.0, "replay_buffer_num_slots": 4}
    a = get_trainer_class(name)(env="CartPole-v1", config=config)
    for _ in range(5):
        a.train()
    path = a.save()
    for _ in range(4):
        a.train()
    sampled, trained = (a.plan.counters[k] for k in ("sampled", "trained"))
    # half of a batch's rows are replayed; a batch has 1, 2 or 3 turns
    assert sampled < 0.75 * 40 * 9 and trained > 1.5 * 40 * 9
    b = get_trainer_class(name)(env="CartPole-v1", config={**config, "seed": 2})
    b.train()
    b.restore(path)
    for _ in range(4):
        b.train()
    assert (b.plan.counters["sampled"], b.plan.counters["trained"]) == (sampled, trained)
    assert b.plan.engine.state() == a.plan.engine.state()
    a.stop()
    b.stop()


def test_impala_learns_cartpole_with_replay_and_turns() -> None:
    learns("IMPALA", "CartPole-v1", 150, 1000, **LANES, train_batch_size=320, num_sgd_iter=2,
           minibatch_buffer_size=4, replay_proportion=1.0, replay_buffer_num_slots=10)


def test_appo_of_the_newer_era_has_its_passes_and_targets() -> None:
    def told(**keys: Any) -> tuple[Any, Any]:
        config = APPOConfig().environment("CartPole-v1").training(**keys).to_dict()
        merged = get_trainer_class("APPO")._merge(config)
        options = appo_options(merged)
        return options["num_sgd_iter"], options["target_update_frequency"]
    assert told() == (2, 16)            # 2 times 8 batches, each of which is learned twice
    assert told(use_circular_buffer=False) == (1, 32)
    assert told(circular_buffer_num_batches=4, circular_buffer_iterations_per_batch=3) == (3, 8)
    older = appo_options(get_trainer_class("APPO")._merge({"num_sgd_iter": 3}))
    assert (older["num_sgd_iter"], older["target_update_frequency"]) == (3, 1)


def test_ddppo_learns_cartpole() -> None:
    learns("DDPPO", "CartPole-v1", 150, 200, lr=3e-3, model=SMALL)
    for config, words in (({"train_batch_size": 100}, "rollout_fragment_length"),
                          ({"kl_coeff": 0.2}, "kl_coeff"),
                          ({"sgd_minibatch_size": 501}, "sgd_minibatch_size")):
        with pytest.raises(ValueError, match=words):
            get_trainer_class("DDPPO")(env="CartPole-v1", config=config)


def test_ppo_learns_a_continuous_action() -> None:
    learns("PPO", Target, -1.6, 100, lr=3e-3, train_batch_size=500, sgd_minibatch_size=100,
           num_sgd_iter=8, model=SMALL)


def test_ppo_remembers_with_an_lstm() -> None:
    learns("PPO", Memory, 0.96, 100, lr=5e-3, train_batch_size=400, sgd_minibatch_size=80,
           num_sgd_iter=8, model={"fcnet_hiddens": [16], "use_lstm": True, "lstm_cell_size": 16,
                                  "max_seq_len": 4})


def test_ppo_sees_pictures() -> None:
    learns("PPO", Picture, 0.9, 100, lr=3e-3, train_batch_size=200, sgd_minibatch_size=50,
           num_sgd_iter=6, model={"conv_filters": [[4, [5, 5], 2], [8, [5, 5], 1]],
                                  "vf_share_layers": True})


def test_what_is_not_offered() -> None:
    for config, words in (({"microbatch_size": 20}, "microbatch_size"),
                          ({"model": {"lstm_use_prev_action": True}}, "lstm_use_prev_action"),
                          ({"model": {"use_attention": True}}, "use_attention")):
        with pytest.raises(UnsupportedConfigError, match=words):
            get_trainer_class("A2C")(env="CartPole-v1", config=config)
    for name, key, value in (("IMPALA", "vtrace", False), ("IMPALA", "num_aggregation_workers", 1)):
        with pytest.raises(UnsupportedConfigError, match=key):
            get_trainer_class(name)(env="CartPole-v1", config={key: value})
    with pytest.raises(ValueError, match="replay_buffer_num_slots > 0"):
        get_trainer_class("IMPALA")(env="CartPole-v1", config={"replay_proportion": 0.5})
    with pytest.raises(ValueError, match="use_critic"):
        get_trainer_class("A2C")(env="CartPole-v1", config={"use_critic": False})


def test_a2c_with_the_optimiser_of_others():
    """RMSprop's first step is lr / sqrt(1 - decay) in each weight that has a gradient; orthogonal
    start values have the gains sqrt(2), 0.01 and 1."""
    trainer = get_trainer_class("A2C")(config={
        "env": "CartPole-v1", "seed": 1, "num_workers": 0, "model": {"fcnet_hiddens": [32]},
        "rollout_fragment_length": 5, "train_batch_size": 5, "lr": 1e-3, "opt_type": "rmsprop",
        "epsilon": 0.0, "loss_mean": True, "ortho_init": True, "min_iter_time_s": 0})
    before = {k: np.array(v) for k, v in trainer.get_policy().get_weights().items()}
    gains = {k: np.linalg.norm(v, 2) for k, v in before.items() if v.ndim == 2 and len(v) > 1}
    assert sorted(round(float(g), 4) for g in gains.values()) == [0.01, 1.0, 1.4142, 1.4142]
    trainer.train()
    after = trainer.get_policy().get_weights()
    moved = np.abs(after[max(gains, key=gains.get)] - before[max(gains, key=gains.get)])
    np.testing.assert_allclose(moved[moved > 0], 1e-3 / np.sqrt(0.01), rtol=1e-3)
    trainer.stop()
