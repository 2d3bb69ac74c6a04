"""contrib/AlphaZero under RLlib's names: boards in C by self-play, environments in Python."""

from __future__ import annotations

import numpy as np
import pytest

from skate.rllib._errors import UnsupportedConfigError
from skate.rllib._plans._mix import pack
from skate.rllib.contrib.alpha_zero.core.alpha_zero_trainer import DEFAULT_CONFIG, AlphaZeroTrainer

gymnasium = pytest.importorskip("gymnasium")

QUICK = {"num_workers": 0, "seed": 1, "lr": 3e-3, "train_batch_size": 512, "num_sgd_iter": 4,
         "learning_starts": 200, "rollout_fragment_length": 100, "buffer_size": 20,
         "model": {"fcnet_hiddens": [64]}, "ranked_rewards": {"enable": False}}
SEARCH = {"num_simulations": 40, "temperature": 1.0, "dirichlet_noise": 0.5}


@pytest.fixture(autouse=True)
def results_here(tmp_path, monkeypatch):
    monkeypatch.setenv("SKATE_RESULTS_DIR", str(tmp_path))


def make(env, **config):
    return AlphaZeroTrainer(env=env, config={**QUICK, "mcts_config": SEARCH, **config})


def lost_by_the_net_alone(trainer, games=200):
    """Games of tic-tac-toe that the net loses to random moves, without a search."""
    import skate.rllib.env.native  # noqa: F401  registers skate/...

    env, lost = gymnasium.make("skate/TicTacToe-v0"), 0
    for game in range(games):
        obs, _ = env.reset(seed=7 if game == 0 else None)
        ended = False
        while not ended:
            mask = 1 - np.asarray(obs, int).sum(2).reshape(-1)
            action = trainer.compute_single_action({"obs": obs, "action_mask": mask},
                                                   explore=False)
            assert mask[action]
            obs, reward, ended, _, _ = env.step(action)
        lost += reward < 0
    env.close()
    return lost


def test_self_play_teaches_the_net_tic_tac_toe():
    trainer = make("skate/TicTacToe-v0", env_config={"opponent": "self"})
    before = lost_by_the_net_alone(trainer)
    for _ in range(30):
        result = trainer.train()
    stats = result["info"]["learner"]["default_policy"]["learner_stats"]
    assert {"total_loss", "policy_loss", "vf_loss", "cur_lr"} <= set(stats)
    after = lost_by_the_net_alone(trainer)
    assert before > 40 and after < 0.6 * before, (before, after)
    trainer.stop()


def test_evaluation_searches_and_beats_the_start():
    trainer = make("CartPole-v1", evaluation_interval=40, evaluation_num_episodes=10,
                   mcts_config={**SEARCH, "num_simulations": 16})
    for _ in range(40):
        result = trainer.train()
    assert result["evaluation"]["episodes_this_iter"] == 10
    assert result["evaluation"]["episode_reward_mean"] > 80       # blind play: about 22
    trainer.stop()


class Walk:
    """A 5 x 5 field; the way to its corner pays at the end, less for each step. In RLlib's style:
    masks, get_state, set_state, old reset and step."""

    def __init__(self, config):
        self.observation_space = gymnasium.spaces.Dict({
            "obs": gymnasium.spaces.Box(0, 1, (10,), np.float32),
            "action_mask": gymnasium.spaces.Box(0, 1, (4,), np.float32)})
        self.action_space = gymnasium.spaces.Discrete(4)
        self.rng, self.first = np.random.default_rng(3), config.get("first")
        self.at, self.steps = (0, 0), 0

    def seen(self):
        x, y = self.at
        obs = np.zeros(10, np.float32)
        obs[x] = obs[5 + y] = 1
        return {"obs": obs, "action_mask": np.array([x < 4, x > 0, y < 4, y > 0], np.float32)}

    def reset(self):
        self.at = self.first or tuple(int(n) for n in self.rng.integers(0, 4, 2))
        self.steps = 0
        return self.seen()

    def step(self, action):
        assert self.seen()["action_mask"][action]
        dx, dy = ((1, 0), (-1, 0), (0, 1), (0, -1))[action]
        self.at, self.steps = (self.at[0] + dx, self.at[1] + dy), self.steps + 1
        home = self.at == (4, 4)
        end = home or self.steps == 20
        return self.seen(), (1.0 - self.steps / 20 if home else 0.0) if end else 0.0, end, {}

    def get_state(self):
        return self.at, self.steps

    def set_state(self, state):
        self.at, self.steps = state
        return self.seen()


@pytest.mark.parametrize("ranked", [False, True])
def test_an_environment_in_python_with_states(ranked):
    trainer = make(Walk, ranked_rewards={"enable": ranked, "num_init_rewards": 20},
                   env_config={"first": (1, 1)} if ranked else {},
                   mcts_config={**SEARCH, "num_simulations": 12}, model={"fcnet_hiddens": [32]},
                   evaluation_num_episodes=20)
    first = trainer.train()["episode_reward_mean"]
    for _ in range(11):
        result = trainer.train()
    assert result["timesteps_total"] > 1000
    assert trainer.evaluate()["evaluation"]["episode_reward_mean"] > max(0.45, first)
    assert trainer.compute_single_action(Walk({}).seen(), explore=False) in (0, 2)
    trainer.stop()


@pytest.mark.parametrize(("env", "more"), [
    ("CartPole-v0", {}), ("skate/TicTacToe-v0", {"env_config": {"opponent": "self"}}),
    (Walk, {}), (Walk, {"buffer_size": 3, "shuffle_sequences": False}),
    ("CartPole-v0", {"simple_optimizer": True}),
], ids=["C", "self-play", "Python", "a full buffer", "no buffer"])
def test_a_resumed_run_equals_an_uninterrupted_one(env, more):
    config = {"ranked_rewards": {"enable": True, "num_init_rewards": 10},
              "mcts_config": {**SEARCH, "num_simulations": 8}, "train_batch_size": 256, **more}
    one, two = make(env, **config), make(env, **{**config, "seed": 4})
    for _ in range(4):
        one.train()
    two.train()                             # all of it is to be replaced
    two.restore(one.save())
    assert two.plan.ranks == one.plan.ranks and len(one.plan.ranks) > 10
    assert two.plan.engine.state() == one.plan.engine.state()
    results = [[trainer.train() for _ in range(3)] for trainer in (one, two)]
    assert [r["hist_stats"] for r in results[0]] == [r["hist_stats"] for r in results[1]]
    assert two.plan.engine.state() == one.plan.engine.state()
    assert pack(two.plan._buffer) == pack(one.plan._buffer) and two.plan.ranks == one.plan.ranks
    third = make(env, **{**config, "seed": 5})
    third.restore(two.save())               # a run that was resumed once goes on as well
    for trainer in (one, third):
        trainer.train()
    assert third.plan.engine.state() == one.plan.engine.state()
    third.stop()
    one.stop()
    two.stop()


def test_without_a_shuffle_the_order_is_that_of_the_games():
    def after(shuffle):
        trainer = make("CartPole-v0", shuffle_sequences=shuffle, num_sgd_iter=1,
                       mcts_config={**SEARCH, "num_simulations": 4})
        trainer.plan.train_once()
        rng = trainer.plan._rng.bit_generator.state
        trainer.plan._learn(trainer.plan._buffer[0])
        moved = trainer.plan._rng.bit_generator.state != rng
        trainer.stop()
        return moved
    assert after(True) and not after(False)


def test_the_same_seed_trains_the_same_with_workers():
    import skate

    if skate.is_initialized():
        skate.shutdown()
    skate.init(num_cpus=2)
    try:
        seen = []
        for _ in range(2):
            trainer = make("CartPole-v0", num_workers=2, num_cpus_per_worker=0,
                           mcts_config={**SEARCH, "num_simulations": 6})
            results = [trainer.train() for _ in range(3)]
            seen.append(([r["episode_reward_mean"] for r in results], {
                name: array.tolist()
                for name, array in trainer.get_weights()["default_policy"].items()}))
            trainer.stop()
        assert seen[0] == seen[1]
    finally:
        skate.shutdown()


def test_what_is_wrong_is_said():
    assert DEFAULT_CONFIG["mcts_config"]["temperature"] == 1.5
    with pytest.raises(ValueError, match="num_simulations must be an integer >= 2"):
        make(Walk, mcts_config={"num_simulations": 1})
    with pytest.raises(KeyError, match="did you mean 'puct_coefficient'"):
        make(Walk, mcts_config={"puct_coeficient": 1.0})
    with pytest.raises(UnsupportedConfigError, match="get_state"):
        make("CartPole-v1", native_env=False)
    with pytest.raises(UnsupportedConfigError, match="Discrete"):
        make("Pendulum-v1")
