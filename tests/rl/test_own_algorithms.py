"""ES, ARS, contrib/LinUCB, contrib/LinTS, contrib/RandomAgent under RLlib's names."""

from __future__ import annotations

import numpy as np
import pytest

from skate.rllib._errors import EnvAnswerError, UnsupportedConfigError
from skate.rllib.agents.registry import get_trainer_class

gymnasium = pytest.importorskip("gymnasium")

LINEAR = {"fcnet_hiddens": []}
ARS = {"num_rollouts": 40, "rollouts_used": 20, "noise_stdev": 0.1, "sgd_stepsize": 0.1,
       "eval_prob": 0.1}
ES = {"episodes_per_batch": 40, "train_batch_size": 100, "noise_stdev": 0.1, "stepsize": 0.02,
      "eval_prob": 0.1}


@pytest.fixture(autouse=True)
def results_here(tmp_path, monkeypatch):
    monkeypatch.setenv("SKATE_RESULTS_DIR", str(tmp_path))


def make(name, env="CartPole-v0", **config):
    return get_trainer_class(name)(env=env, config={"num_workers": 0, "seed": 1, **config})


def until(trainer, reward, iterations):
    for _ in range(iterations):
        result = trainer.train()
        if result["episode_reward_mean"] >= reward:
            return result
    pytest.fail(f"{result['episode_reward_mean']} after {iterations} iterations")


@pytest.mark.parametrize("name, own", [("ARS", ARS), ("ES", ES)])
@pytest.mark.parametrize("explore", [True, False])
def test_evolution_learns_cartpole(name, own, explore):
    trainer = make(name, model=LINEAR, explore=explore, **own)
    result = until(trainer, 190, 200)
    assert result["info"]["episodes_this_iter"] == 40
    assert result["info"]["episodes_so_far"] == 40 * result["training_iteration"]
    assert result["env_runners"]["episode_return_mean"] == result["episode_reward_mean"]
    assert result["timesteps_total"] > result["timesteps_this_iter"] > 0
    trainer.stop()


def test_ars_learns_a_swing_with_continuous_actions():
    trainer = make("ARS", "skate/Pendulum-v1", model=LINEAR, **{**ARS, "sgd_stepsize": 0.2})
    first = trainer.train()["episode_reward_mean"]
    for _ in range(60):
        result = trainer.train()
    assert first < -900 and result["episode_reward_mean"] > first + 250
    action = trainer.compute_single_action([1.0, 0.0, 0.0])
    assert action.shape == (1,) and -2 <= action[0] <= 2
    trainer.stop()


def test_environments_in_python_and_in_c_train_the_same():
    weights = []
    for native in ("auto", False):
        trainer = make("ES", model=LINEAR, native_env=native, **{**ES, "episodes_per_batch": 8})
        for _ in range(3):
            trainer.train()
        weights.append(trainer.get_weights()["default_policy"])
        trainer.stop()
    assert weights[0].keys() == weights[1].keys() and "filter/mean" in weights[0]
    for name, array in weights[0].items():
        assert (array == weights[1][name]).all(), name


def test_a_checkpoint_goes_on_as_if_nothing_had_been():
    config = {**ARS, "num_rollouts": 8, "rollouts_used": 4}
    straight, first, second = (make("ARS", **config) for _ in range(3))
    for _ in range(4):
        straight.train()
    for _ in range(2):
        first.train()
    second.restore(first.save())
    for _ in range(2):
        result = second.train()
    for name, array in straight.get_weights()["default_policy"].items():
        assert (array == second.get_weights()["default_policy"][name]).all(), name
    assert result["info"]["episodes_so_far"] == 32
    for trainer in (straight, first, second):
        trainer.stop()


def test_any_number_of_workers_trains_the_same():
    import skate

    if skate.is_initialized():
        skate.shutdown()
    skate.init(num_cpus=2)
    try:
        seen = []
        for workers in (0, 1, 3):
            trainer = make("ARS", num_workers=workers, num_cpus_per_worker=0, model=LINEAR,
                           **{**ARS, "num_rollouts": 14})
            results = [trainer.train() for _ in range(2)]
            seen.append(([r["episode_reward_mean"] for r in results],
                         [r["timesteps_total"] for r in results],
                         {name: array.tolist() for name, array in
                          trainer.get_weights()["default_policy"].items()}))
            trainer.stop()
        assert seen[0] == seen[1] == seen[2]
    finally:
        skate.shutdown()


def test_evolution_says_what_is_wrong():
    with pytest.raises(ValueError, match="return_proc_mode must be one of"):
        make("ES", return_proc_mode="ranks")
    with pytest.raises(ValueError, match="num_rollouts must be an integer >= 1"):
        make("ARS", num_rollouts=0)
    with pytest.raises(ValueError, match="noise_size"):
        make("ARS", noise_size=3)
    with pytest.raises(UnsupportedConfigError, match="observation_filter"):
        make("ARS", observation_filter="Whiten")
    with pytest.raises(KeyError, match="did you mean 'noise_stdev'"):
        make("ES", noise_stddev=0.1)

    class Broken(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)

        def __init__(self, config):
            self.what = config["what"]

        def reset(self, *, seed=None, options=None):
            return np.full(2, np.nan if self.what == "obs" else 0.0, np.float32), {}

        def step(self, action):
            return np.zeros(2, np.float32), float("nan"), False, False, {}

    for what in ("obs", "reward"):
        trainer = make("ES", Broken, env_config={"what": what})
        with pytest.raises(EnvAnswerError, match=what):
            trainer.train()
        trainer.stop()


class Arms(gymnasium.Env):
    """Three arms, numbered from 2, of linear rewards; says its regret."""

    def __init__(self, config=None):
        self.observation_space = gymnasium.spaces.Box(-1, 1, (4,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(3, start=2)
        self.weights = np.random.default_rng(0).normal(size=(3, 4))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.context = self.np_random.uniform(-1, 1, 4).astype(np.float32)
        return self.context, {}

    def step(self, action):
        means = self.weights @ self.context
        reward = means[action - 2] + 0.1 * self.np_random.normal()
        return self.context, reward, True, False, {"regret": means.max() - means[action - 2]}


@pytest.mark.parametrize("name", ["contrib/LinUCB", "contrib/LinTS"])
def test_bandits_find_the_best_arms(name):
    trainer = make(name, Arms)
    results = [trainer.train() for _ in range(10)]
    regrets = [r["info"]["learner"]["default_policy"]["learner_stats"]["cumulative_regret"]
               for r in results]
    assert [r["timesteps_total"] for r in results] == [100 * (i + 1) for i in range(10)]
    assert regrets[-1] < 70                         # blind choices: about 800
    assert regrets[-1] - regrets[-2] < 5            # of the last hundred
    env = Arms()
    right = 0
    for seed in range(50):
        context, _ = env.reset(seed=seed)
        right += trainer.compute_single_action(context, explore=False) == 2 + np.argmax(
            env.weights @ context)
    assert right >= 48
    kept = trainer.save()
    other = make(name, Arms)
    other.restore(kept)
    context = np.array([0.3, -0.2, 0.5, 0.9], np.float32)
    assert (trainer.compute_single_action(context, explore=False)
            == other.compute_single_action(context, explore=False))
    trainer.stop()
    other.stop()


def test_bandits_learn_the_built_in_problem_and_take_alpha():
    trainer = make("contrib/LinUCB", "skate/LinearBandit-v0", env_config={"problem": 3},
                   model={"custom_model_config": {"alpha": 0.5, "lambda_": 2.0}})
    first = trainer.train()["episode_reward_mean"]
    result = trainer.train()
    assert result["episode_reward_mean"] > 0.3 and result["episodes_total"] == 200 and first > 0
    trainer.stop()
    with pytest.raises(KeyError, match="alpha"):
        make("contrib/LinUCB", Arms, model={"custom_model_config": {"alfa": 0.5}})
    with pytest.raises(ValueError, match="discrete"):
        make("contrib/LinTS", "Pendulum-v1")


@pytest.mark.parametrize("name", ["ES", "contrib/LinTS", "contrib/AlphaZero"])
def test_one_agent_only(name):
    from skate.rllib.env import MultiAgentEnv

    class Pair(MultiAgentEnv):
        observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)

        def __init__(self, config=None):
            super().__init__()
            self._agent_ids = {"a", "b"}

        def reset(self, *, seed=None, options=None):
            return {agent: np.zeros(2, np.float32) for agent in "ab"}, {}

        def step(self, actions):
            raise NotImplementedError

    with pytest.raises(UnsupportedConfigError, match="MultiAgentEnv"):
        make(name, Pair)


def test_the_random_agent_plays_episodes():
    trainer = make("contrib/RandomAgent", "Pendulum-v1", rollouts_per_iteration=3)
    result = trainer.train()
    assert result["episodes_this_iter"] == 3 and result["timesteps_this_iter"] == 600
    assert -2500 < result["episode_reward_mean"] < -600
    actions = trainer.compute_actions([[1.0, 0.0, 0.0]] * 50)
    assert actions.min() < -1 and actions.max() > 1 and abs(actions).max() <= 2
    trainer.stop()
    with pytest.raises(ValueError, match="rollouts_per_iteration"):
        make("contrib/RandomAgent", rollouts_per_iteration=0)


def test_the_paths_of_rllib():
    from skate.rllib.agents.ars import ARSTrainer
    from skate.rllib.agents.es import DEFAULT_CONFIG, ESTrainer
    from skate.rllib.algorithms.ars import ARSConfig
    from skate.rllib.contrib.bandits.agents import LinTSTrainer, LinUCBTrainer
    from skate.rllib.contrib.bandits.agents.lin_ucb import UCB_CONFIG
    from skate.rllib.contrib.random_agent.random_agent import RandomAgent

    assert DEFAULT_CONFIG["episodes_per_batch"] == 1000 and UCB_CONFIG["train_batch_size"] == 1
    assert [c._name for c in (ARSTrainer, ESTrainer, LinTSTrainer, LinUCBTrainer, RandomAgent)] == [
        "ARS", "ES", "contrib/LinTS", "contrib/LinUCB", "contrib/RandomAgent"]
    algo = (ARSConfig().environment("CartPole-v1").env_runners(num_env_runners=0)
            .training(num_rollouts=4, sgd_stepsize=0.1).build_algo())
    assert algo.train()["env_runners"]["episode_return_mean"] > 0
    algo.stop()
