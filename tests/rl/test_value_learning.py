"""SimpleQ, DQN, APEX and R2D2 by RLlib's names: they learn, resume, and say what is wrong."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from skate.rllib._errors import UnsupportedConfigError
from skate.rllib.agents.dqn import ApexTrainer, DQNTrainer, R2D2Trainer, SimpleQTrainer
from skate.rllib.algorithms.dqn import DQNConfig

# docs/rllib.md shows this one: CartPole to 150 in about a second.
FAST: dict[str, Any] = {
    "env": "CartPole-v1", "lr": 1e-3, "n_step": 3, "train_batch_size": 64,
    "training_intensity": 64, "learning_starts": 500, "target_network_update_freq": 250,
    "hiddens": [64], "model": {"fcnet_hiddens": [64], "fcnet_activation": "relu"},
    "exploration_config": {"type": "EpsilonGreedy", "epsilon_timesteps": 3000,
                           "final_epsilon": 0.02},
    "timesteps_per_iteration": 500, "metrics_smoothing_episodes": 10, "seed": 1,
}
SEQUENCES: dict[str, Any] = {
    "env": "CartPole-v1", "num_workers": 0, "lr": 1e-3, "gamma": 0.99, "train_batch_size": 320,
    "training_intensity": 40, "hiddens": [], "zero_init_states": False,
    "model": {"fcnet_hiddens": [32], "max_seq_len": 20, "lstm_cell_size": 32},
    "learning_starts": 500, "target_network_update_freq": 500, "rollout_fragment_length": 20,
    "exploration_config": {"type": "EpsilonGreedy", "epsilon_timesteps": 3000,
                           "final_epsilon": 0.02},
    "timesteps_per_iteration": 500, "metrics_smoothing_episodes": 10, "seed": 1,
}


@pytest.fixture(autouse=True)
def results_here(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("SKATE_RESULTS_DIR", str(tmp_path))


def best_of(trainer: Any, target: float, iterations: int = 60) -> float:
    """The best mean reward until `target` is reached."""
    best = 0.0
    for _ in range(iterations):
        best = max(best, trainer.train()["episode_reward_mean"] or 0.0)
        if best >= target:
            break
    trainer.stop()
    return best


@pytest.mark.parametrize("extra", [
    pytest.param({}, id="prioritised n-step"),
    pytest.param({"prioritized_replay": False, "double_q": False, "dueling": False,
                  "gamma": 0.97, "tau": 0.05, "target_network_update_freq": 1},
                 id="uniform, polyak"),
    pytest.param({"num_atoms": 11, "v_min": 0.0, "v_max": 40.0, "gamma": 0.95},
                 id="distributional"),
])
def test_dqn_learns_cartpole(extra: dict[str, Any]) -> None:
    assert best_of(DQNTrainer(config={**FAST, **extra}), 150) >= 150


def test_a_noisy_net_explores_by_itself() -> None:
    trainer = DQNTrainer(config={**FAST, "noisy": True, "lr": 5e-4, "gamma": 0.95, "tau": 0.02,
                                 "target_network_update_freq": 1})
    assert trainer.config["exploration_config"]["initial_epsilon"] == 0
    assert best_of(trainer, 100) >= 100


def test_simple_q_learns_cartpole() -> None:
    config = {k: v for k, v in FAST.items()
              if k not in ("n_step", "hiddens", "training_intensity")}
    trainer = SimpleQTrainer(config={
        **config, "rollout_fragment_length": 1, "gamma": 0.95, "lr": 5e-4,
        "model": {"fcnet_hiddens": [64, 64], "fcnet_activation": "tanh"}})
    assert best_of(trainer, 150) >= 150


def test_r2d2_learns_cartpole() -> None:
    assert best_of(R2D2Trainer(config=SEQUENCES), 150) >= 150


def test_r2d2_takes_burn_in_and_priorities() -> None:
    trainer = R2D2Trainer(config={**SEQUENCES, "burn_in": 4, "prioritized_replay": True,
                                  "train_batch_size": 240})
    for _ in range(3):
        stats = trainer.train()["info"]["learner"]["default_policy"]["learner_stats"]
    assert stats["loss"] > 0
    trainer.stop()


def test_apex_learns_with_workers() -> None:
    import skate

    if skate.is_initialized():
        skate.shutdown()
    skate.init(num_cpus=2)
    try:
        trainer = ApexTrainer(config={
            **FAST, "num_workers": 2, "num_cpus_per_worker": 0.5, "rollout_fragment_length": 25,
            "exploration_config": {"type": "PerWorkerEpsilonGreedy"}, "min_iter_time_s": 0,
            "train_batch_size": 128, "training_intensity": 128})
        assert best_of(trainer, 60) >= 60
    finally:
        skate.shutdown()


@pytest.mark.parametrize("extra", [
    {}, {"noisy": True}, {"prioritized_replay": True, "num_envs_per_worker": 3},
    {"native_env": False}, {"exploration_config": {"type": "SoftQ", "temperature": 2.0}},
    {"exploration_config": {"type": "ParameterNoise", "random_timesteps": 100}},
    {"exploration_config": {"type": "EpsilonGreedy", "epsilon_timesteps": 3000,
                            "random_timesteps": 1200}},
], ids=str)
@pytest.mark.parametrize("trainer", [DQNTrainer, SimpleQTrainer, R2D2Trainer])
def test_a_resumed_run_equals_an_uninterrupted_one(trainer: Any, extra: dict[str, Any],
                                                   tmp_path: Any) -> None:
    base = SEQUENCES if trainer is R2D2Trainer else FAST
    base = {k: v for k, v in base.items() if k not in ("noisy", "exploration_config")}
    config = {**base, "learning_starts": 200, **extra}
    if trainer is SimpleQTrainer:
        config = {k: v for k, v in config.items() if k not in (
            "n_step", "hiddens", "training_intensity", "noisy", "prioritized_replay")}
    if trainer is R2D2Trainer:
        config = {k: v for k, v in config.items() if k != "noisy"}
    whole = trainer(config=config)
    for _ in range(2):
        whole.train()
    path = whole.save(str(tmp_path))
    before = whole.plan.engine.state()
    want = [whole.train() for _ in range(2)]
    resumed = trainer(config={**config, "seed": 8})
    resumed.train()
    resumed.restore(path)
    assert resumed.plan.engine.state() == before
    got = [resumed.train() for _ in range(2)]
    assert [r["hist_stats"] for r in got] == [r["hist_stats"] for r in want]
    assert resumed.plan.engine.state() == whole.plan.engine.state() != before
    assert resumed.plan._replay.state() == whole.plan._replay.state()
    told = [t.workers.local._explorer for t in (whole, resumed)]
    assert pickle.dumps(vars(told[0])) == pickle.dumps(vars(told[1]))
    resumed.stop()
    whole.stop()


def test_same_seed_same_weights() -> None:
    made = []
    for _ in range(2):
        trainer = DQNTrainer(config=FAST)
        for _ in range(3):
            trainer.train()
        made.append(trainer.get_policy().flat_weights().tobytes())
        trainer.stop()
    assert made[0] == made[1]


def test_the_newer_eras_builder() -> None:
    config = (DQNConfig().environment("CartPole-v1")
              .training(lr=1e-3, train_batch_size=32, epsilon=[(0, 1.0), (500, 0.1)],
                        num_steps_sampled_before_learning_starts=200,
                        target_network_update_freq=100, td_error_loss_fn="mse",
                        replay_buffer_config={"type": "PrioritizedEpisodeReplayBuffer",
                                              "capacity": 5000, "alpha": 0.6, "beta": 0.4})
              .debugging(seed=3))
    algo = config.build_algo()
    result = algo.train()
    assert result["num_env_steps_sampled_lifetime"] >= 1000
    assert "loss" in result["info"]["learner"]["default_policy"]["learner_stats"]
    algo.stop()


@pytest.mark.parametrize(("extra", "error", "what"), [
    ({"duelling": True}, KeyError, "dueling"),
    ({"n_step": 0}, ValueError, "n_step"),
    ({"td_error_loss_fn": "l1"}, ValueError, "td_error_loss_fn"),
    ({"num_atoms": 5, "v_min": 1.0, "v_max": 1.0}, ValueError, "v_min"),
    ({"epsilon": [[0, 2.0]]}, ValueError, "epsilon"),
    ({"before_learn_on_batch": print}, UnsupportedConfigError, "before_learn_on_batch"),
    ({"env": "Pendulum-v1"}, ValueError, "Discrete"),
])
def test_mistakes_are_told(extra: dict[str, Any], error: type[Exception], what: str) -> None:
    with pytest.raises(error, match=what):
        DQNTrainer(config={**FAST, **extra})


def test_r2d2s_own_limits() -> None:
    for extra, what in (({"n_step": 3}, "n_step"), ({"replay_sequence_length": 8}, "sequence"),
                        ({"train_batch_size": 10}, "train_batch_size")):
        with pytest.raises(ValueError, match=what):
            R2D2Trainer(config={**SEQUENCES, **extra})
