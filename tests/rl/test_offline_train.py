"""Trainers that learn from recorded steps, and trainers that record."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from skate.rllib._errors import OfflineDataError, UnsupportedConfigError
from skate.rllib.agents.marwil import BCTrainer, MARWILTrainer
from skate.rllib.agents.ppo import PPOTrainer
from skate.rllib.algorithms.bc import BCConfig
from skate.rllib.algorithms.cql import CQLConfig
from skate.rllib.algorithms.iql import IQLConfig
from skate.rllib.offline import JsonReader, JsonWriter
from skate.rllib.policy.sample_batch import SampleBatch, concat_samples

NET = {"fcnet_hiddens": [32], "fcnet_activation": "tanh"}


@pytest.fixture(autouse=True)
def results_here(tmp_path, monkeypatch):
    """Results of trainers go to the test's folder."""
    monkeypatch.setenv("TUNE_RESULT_DIR", str(tmp_path / "results"))


def play(name, controller, rows, seed):
    """`rows` steps of an environment."""
    gymnasium = pytest.importorskip("gymnasium")
    env = gymnasium.make(name)
    columns = {key: [] for key in ("obs", "new_obs", "actions", "rewards", "terminateds",
                                   "truncateds", "eps_id", "t")}
    obs, _ = env.reset(seed=seed)
    episode, t = 0, 0
    for _ in range(rows):
        action = controller(obs)
        after, reward, terminated, truncated, _ = env.step(action)
        for key, value in zip(columns, (obs, after, action, reward, terminated, truncated,
                                        episode, t), strict=True):
            columns[key].append(value)
        obs, t = after, t + 1
        if terminated or truncated:
            obs, _ = env.reset()
            episode, t = episode + 1, 0
    env.close()
    return SampleBatch({key: np.array(value) for key, value in columns.items()})


def balance(obs):
    """Keeps the pole up for hundreds of steps."""
    return int(0.05 * obs[0] + 0.2 * obs[1] + 3.0 * obs[2] + obs[3] > 0)


def write(folder, *batches):
    """JSON lines in `folder`."""
    writer = JsonWriter(str(folder))
    for batch in batches:
        writer.write(batch)
    writer.close()
    return str(folder)


@pytest.fixture(scope="module")
def expert(tmp_path_factory):
    """Files of 2,000 good steps of CartPole."""
    data = play("CartPole-v1", balance, 2000, 1)
    return write(tmp_path_factory.mktemp("expert"), data[:800], data[800:])


def score(trainer):
    """Mean reward of the evaluation's episodes without exploration."""
    return trainer.evaluate()["evaluation"]["episode_reward_mean"]


OLD = {"num_workers": 0, "env": "CartPole-v1", "seed": 4, "model": NET,
       "evaluation_num_episodes": 5, "evaluation_config": {"explore": False},
       "input_evaluation": []}


def test_bc_learns_cartpole(expert):
    trainer = BCTrainer(config={**OLD, "input": expert, "lr": 0.01, "train_batch_size": 500,
                                "dataset_num_iters_per_learner": 20})
    for _ in range(12):
        result = trainer.train()
    assert math.isnan(result["episode_reward_mean"])        # no environment was stepped
    assert result["info"]["learner"]["default_policy"]["learner_stats"]["policy_loss"] < 0.3
    assert result["timesteps_total"] == result["info"]["num_steps_trained"] == 12 * 20 * 500
    assert trainer.action_space.n == 2 and trainer.observation_space.shape == (4,)
    assert score(trainer) >= 150
    trainer.stop()


def test_marwil_learns_the_better_half(tmp_path):
    """Half of the data balances, half does the opposite: BC cannot tell them apart."""
    rng = np.random.default_rng(3)
    good = play("CartPole-v1", balance, 1500, 1)
    bad = play("CartPole-v1", lambda obs: int(rng.integers(2)), 1500, 2)
    bad["eps_id"] = bad["eps_id"] + 1000
    trainer = MARWILTrainer(config={
        **OLD, "input": write(tmp_path / "mixed", good, bad), "lr": 0.01, "beta": 2.0,
        "train_batch_size": 500, "dataset_num_iters_per_learner": 20, "vf_coeff": 0.01,
        "gamma": 0.99})
    for _ in range(12):
        result = trainer.train()
    stats = result["info"]["learner"]["default_policy"]["learner_stats"]
    assert set(stats) >= {"vf_loss", "vf_explained_var", "moving_avg_sqd_adv_norm"}
    assert score(trainer) >= 150
    trainer.stop()


def reach(n, seed):
    """A one-step task of two numbers: the reward is highest where the action is half of obs."""
    rng = np.random.default_rng(seed)
    obs = rng.uniform(-1, 1, (n, 1)).astype(np.float32)
    actions = rng.uniform(-2, 2, (n, 1)).astype(np.float32)
    return SampleBatch({"obs": obs, "new_obs": obs, "actions": actions,
                        "rewards": 1 - ((actions - obs)[:, 0]) ** 2,
                        "terminateds": np.ones(n, bool)})


@pytest.mark.parametrize("config, updates", [
    (IQLConfig().training(beta=5.0, expectile=0.9, actor_lr=1e-2, critic_lr=1e-2, value_lr=1e-2,
                          tau=0.05, model={"fcnet_hiddens": [32, 32],
                                           "fcnet_activation": "relu"}), 600),
    (CQLConfig().training(bc_iters=0, min_q_weight=0.05, num_actions=4, actor_lr=3e-3,
                          critic_lr=1e-2, alpha_lr=1e-2, tau=0.05, initial_alpha=0.1,
                          q_model_config={"fcnet_hiddens": [32, 32]},
                          policy_model_config={"fcnet_hiddens": [32, 32]}), 600),
], ids=["IQL", "CQL"])
def test_transitions_of_random_actions_are_enough(config, updates, tmp_path):
    """The data's own policy is useless; the best action of each state is in it."""
    spaces = pytest.importorskip("gymnasium").spaces
    box = spaces.Box(-2.0, 2.0, (1,), np.float32)
    algo = (config.environment(observation_space=spaces.Box(-1.0, 1.0, (1,), np.float32),
                               action_space=box)
            .offline_data(input_=[write(tmp_path / "reach", reach(3000, 1))],
                          dataset_num_iters_per_learner=updates)
            .training(train_batch_size_per_learner=128).debugging(seed=3).build_algo())
    result = algo.train()
    assert result["learners"]["default_policy"]["critic_loss"] < 3.0
    points = np.linspace(-0.9, 0.9, 7)
    acted = [float(algo.compute_single_action(np.array([x], np.float32), explore=False)[0])
             for x in points]
    assert np.max(np.abs(np.array(acted) - points)) < 0.4
    algo.stop()


def test_any_trainer_records_and_bc_reads_it(tmp_path):
    folder = str(tmp_path / "recorded")
    trainer = PPOTrainer(config={"env": "CartPole-v1", "num_workers": 0, "seed": 1, "model": NET,
                                 "num_envs_per_worker": 2, "rollout_fragment_length": 100,
                                 "train_batch_size": 400, "num_sgd_iter": 1, "output": folder,
                                 "output_max_file_size": 20_000})
    trainer.train()
    trainer.train()
    trainer.stop()
    assert len(list((tmp_path / "recorded").iterdir())) > 1
    data = concat_samples(list(JsonReader(folder).read_all_files()))
    assert data.count == 800 and set(data) >= {
        "obs", "actions", "rewards", "dones", "eps_id", "t", "action_prob", "vf_preds"}
    for episode in data.split_by_episode():
        assert np.array_equal(np.diff(episode["t"]), np.ones(episode.count - 1))
    assert np.allclose(np.exp(data["action_logp"]), data["action_prob"], rtol=1e-5)
    bc = BCTrainer(config={**OLD, "input": folder, "input_evaluation": ["is", "wis"],
                           "train_batch_size": 100})
    estimates = bc.train()["off_policy_estimator"]
    assert set(estimates["is"]) == {"V_prev", "V_step_IS", "V_gain_est"}
    assert set(estimates["wis"]) == {"V_prev", "V_step_WIS", "V_gain_est"}
    assert estimates["is"]["V_prev"] > 5
    bc.stop()


def test_a_trainer_reports_the_newer_estimators(tmp_path):
    from skate.rllib.offline.estimators import DirectMethod, DoublyRobust, ImportanceSampling

    data = play("CartPole-v1", lambda obs: int(obs[2] > 0), 200, 3)
    data["action_prob"] = np.full(200, 0.9)
    methods = {"is": {"type": ImportanceSampling, "epsilon_greedy": 0.1},
               "dm": {"type": DirectMethod, "q_model_config": {"n_iters": 3}},
               "dr": {"type": DoublyRobust}}
    algo = BCTrainer(config={**OLD, "input": data, "train_batch_size": 100,
                             "off_policy_estimation_methods": methods})
    first, second = (algo.train()["off_policy_estimator"] for _ in range(2))
    assert set(first) == set(methods)
    for found in first.values():
        assert set(found) == {"v_behavior", "v_behavior_std", "v_target", "v_target_std",
                              "v_gain", "v_delta"}
        assert all(math.isfinite(x) for x in found.values())
    assert first["is"]["v_behavior"] != second["is"]["v_behavior"]      # the next episodes
    algo.stop()


def test_recorded_transitions_of_the_tape_follow_one_another(tmp_path):
    trainer = BCTrainer(config={**OLD, "num_envs_per_worker": 2, "rollout_fragment_length": 50,
                                "train_batch_size": 200, "output": str(tmp_path / "out")})
    result = trainer.train()            # input="sampler": it steps the environment itself
    assert result["episode_reward_mean"] > 5 and result["timesteps_total"] == 200
    trainer.stop()
    data = JsonReader(str(tmp_path / "out")).next()
    for episode in data.split_by_episode():
        assert np.array_equal(episode["obs"][1:], episode["new_obs"][:-1])


def test_workers_that_are_asked_one_by_one_are_recorded_too(tmp_path):
    from skate.rllib.agents.a3c import A3CTrainer
    from skate.rllib.agents.impala import ImpalaTrainer

    config = {"env": "CartPole-v1", "num_workers": 0, "seed": 1, "model": NET,
              "rollout_fragment_length": 50, "train_batch_size": 100, "min_iter_time_s": 0,
              "output": str(tmp_path / "out")}
    trainer = ImpalaTrainer(config=config)
    steps = trainer.train()["timesteps_total"]
    trainer.stop()
    found = list(JsonReader(str(tmp_path / "out")).read_all_files())
    assert sum(batch.count for batch in found) == steps > 0
    with pytest.raises(UnsupportedConfigError, match="A3C gets no steps"):
        A3CTrainer(config=config)


def test_several_policies_are_written_as_one_batch(tmp_path):
    from skate.rllib.offline._output import Recorder

    recorder = Recorder({"output": str(tmp_path), "output_max_file_size": 1 << 20,
                         "output_compress_columns": []}, None)
    part = {"rewards": np.ones(2), "actions": np.zeros(2, int), "obs": np.zeros((2, 1)),
            "terminateds": np.zeros(2), "truncateds": np.zeros(2), "t": np.arange(2),
            "eps_id": np.zeros(2, int)}
    recorder.columns({"a": part, "b": {k: v[1:] for k, v in part.items()}})
    recorder.close()
    batch = JsonReader(str(tmp_path)).next()
    assert batch.count == 2 and batch.agent_steps() == 3 and batch["b"]["t"].tolist() == [1]


def test_parquet_and_lines_of_steps(expert, tmp_path):
    pytest.importorskip("pyarrow.parquet")
    from skate.rllib.offline.dataset_reader import write_parquet

    data = concat_samples(list(JsonReader(expert).read_all_files()))
    write_parquet(data, str(tmp_path / "x.parquet"))
    with open(tmp_path / "rows.json", "w") as out:
        for row in data[:100].rows():
            out.write(json.dumps({"o": row["obs"].tolist(), "actions": int(row["actions"])}) + "\n")
    results = []
    for given, more in ((str(tmp_path / "x.parquet"), {}), (expert, {}),
                        ("dataset", {"input_config": {"format": "parquet",
                                                      "paths": str(tmp_path)}}),
                        ([str(tmp_path / "rows.json")], {"input_read_schema": {"obs": "o"}})):
        algo = BCTrainer(config={**OLD, "input": given, **more})
        stats = algo.train()["info"]["learner"]["default_policy"]["learner_stats"]
        results.append(stats["policy_loss"])
        algo.stop()
    assert results[0] == results[2] and results[0] == pytest.approx(results[1], rel=1e-5)
    assert all(math.isfinite(x) for x in results)


def test_one_pass_over_the_data_is_the_newer_default(expert):
    algo = (BCConfig().environment("CartPole-v1").offline_data(input_=expert)
            .training(train_batch_size_per_learner=300, model=NET).build_algo())
    result = algo.train()
    assert result["info"]["num_steps_trained"] == 7 * 300       # 2,000 rows
    algo.stop()


def test_own_reader_and_mix(expert):
    made = []

    class Reader:
        def __init__(self, context):
            self.inner = JsonReader(expert, context)
            made.append(context)

        def next(self):
            return self.inner.next()

    for given in (Reader, {expert: 0.5, Reader: 0.5}):
        algo = MARWILTrainer(config={**OLD, "input": given, "train_batch_size": 300,
                                     "shuffle_buffer_size": 2})
        assert algo.train()["info"]["num_steps_trained"] == 300
        algo.stop()
    assert all(context.config["train_batch_size"] == 300 for context in made) and len(made) == 2


def test_going_on_from_a_checkpoint_is_as_if_nothing_had_been(expert, tmp_path):
    config = {**OLD, "input": expert, "train_batch_size": 64}
    one, two = MARWILTrainer(config=config), MARWILTrainer(config={**config, "seed": 9})
    one.train()
    two.restore(one.save(str(tmp_path / "kept")))
    for trainer in (one, two):
        trainer.train()
    a, b = (t.get_policy().flat_weights() for t in (one, two))
    assert np.array_equal(a, b)
    one.stop()
    two.stop()


BAD = [
    ({"obs": np.zeros((4, 3))}, "obs", "4 numbers"),
    ({"actions": np.array([0, 1, 2, 0])}, "actions", r"row 2 has the action \[2\]"),
    ({"obs": np.array([[0, 0, 0, np.nan]] * 4)}, "obs", "row 0 .* not finite"),
    ({"actions": None}, "actions", "missing, and BC needs it"),
]


@pytest.mark.parametrize("change, column, why", BAD, ids=range(len(BAD)))
def test_data_that_does_not_fit_is_named(tmp_path, change, column, why):
    columns = {"obs": np.zeros((4, 4)), "actions": np.zeros(4, int), **change}
    folder = write(tmp_path / "bad", SampleBatch({k: v for k, v in columns.items()
                                                  if v is not None}))
    with pytest.raises(OfflineDataError, match=why) as caught:
        BCTrainer(config={**OLD, "input": folder})
    assert caught.value.column == column


def test_configs_that_cannot_work(tmp_path, expert):
    with pytest.raises(FileNotFoundError, match="no offline data"):
        BCTrainer(config={**OLD, "input": str(tmp_path / "none")})
    with pytest.raises(ValueError, match="beta must be 0 for BC"):
        BCTrainer(config={**OLD, "input": expert, "beta": 1.0})
    with pytest.raises(UnsupportedConfigError, match="'dm'.*'is', 'wis'"):
        BCTrainer(config={**OLD, "input": expert, "input_evaluation": ["dm"]})
    with pytest.raises(UnsupportedConfigError, match="nothing to write"):
        BCTrainer(config={**OLD, "input": expert, "output": str(tmp_path / "o")})
    with pytest.raises(UnsupportedConfigError, match="input="):
        PPOTrainer(config={"env": "CartPole-v1", "input": expert})
    with pytest.raises(TypeError, match="'sampler', 'dataset'"):
        BCTrainer(config={**OLD, "input": 5})
