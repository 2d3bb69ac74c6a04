"""Callbacks of both eras, observation filters, evaluation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from skate.rllib import _config, _engine, _registry
from skate.rllib._callbacks import CallbackList
from skate.rllib._filter import MeanStdFilter, RunningStat
from skate.rllib._specs import Spec
from skate.rllib.agents.callbacks import DefaultCallbacks
from skate.rllib.agents.ppo import PPOTrainer
from skate.rllib.algorithms.ppo import PPOConfig
from skate.rllib.callbacks.callbacks import RLlibCallback


@pytest.fixture(autouse=True)
def results_here(tmp_path, monkeypatch):
    """Results of trainers go to the test's folder."""
    monkeypatch.setenv("TUNE_RESULT_DIR", str(tmp_path))


def trainer(**config):
    """A small trainer of an algorithm of the engine."""
    defaults = _config.with_common_config({
        "num_workers": 0, "train_batch_size": 100, "rollout_fragment_length": 50, "lr": 1e-3,
        "num_envs_per_worker": 2, "seed": 3})
    defaults["model"] = {**defaults["model"], "fcnet_hiddens": [8]}
    made = _registry._make_trainer(Spec(
        "A2C", defaults, "on_policy:OnPolicyPlan", engine="A2C",
        options=lambda c: {**_engine.model_options(c), "lr": c["lr"], "gamma": c["gamma"]}))
    return made(env="CartPole-v1", config=config)


class Old(DefaultCallbacks):
    """The 1.8 era's signatures."""

    seen: list = []

    def on_episode_start(self, *, worker, base_env, policies, episode, env_index, **kwargs):
        assert worker.worker_index == 0 and base_env.get_sub_environments()[env_index] is not None
        assert episode.length == 0
        episode.user_data["angles"] = [episode.last_observation_for()[2]]

    def on_episode_step(self, *, worker, base_env, episode, env_index, **kwargs):
        episode.user_data["angles"].append(episode.last_observation_for()[2])
        assert episode.last_action_for() in (0, 1) and episode.last_reward_for() == 1.0

    def on_episode_end(self, *, worker, base_env, policies, episode, env_index, **kwargs):
        assert len(episode.user_data["angles"]) == episode.length + 1
        episode.custom_metrics["steps"] = episode.length
        episode.hist_data["angle"] = episode.user_data["angles"][-1:]

    def on_sample_end(self, *, worker, samples, **kwargs):
        self.seen.append(len(samples["obs"]))

    def on_postprocess_trajectory(self, *, postprocessed_batch, **kwargs):
        postprocessed_batch["rewards"] *= 0.5

    def on_learn_on_batch(self, *, policy, train_batch, result, **kwargs):
        assert set(np.unique(train_batch["rewards"])) == {0.5}
        result["rows"] = len(train_batch["obs"])

    def on_train_result(self, *, trainer, result, **kwargs):
        result["callback_ok"] = True


def test_hooks_of_the_old_era():
    Old.seen.clear()
    t = trainer(callbacks=Old)
    r = t.train()
    t.stop()
    assert Old.seen == [100] and r["callback_ok"]
    assert r["custom_metrics"]["steps_mean"] == pytest.approx(r["episode_len_mean"])
    assert r["custom_metrics"]["steps_max"] == max(r["hist_stats"]["episode_lengths"])
    assert len(r["hist_stats"]["angle"]) == r["episodes_this_iter"] > 0
    assert r["info"]["learner"]["default_policy"]["learner_stats"]["rows"] == 100


def test_hooks_of_the_newer_era():
    order = []

    class New(RLlibCallback):
        def on_algorithm_init(self, *, algorithm, metrics_logger=None):
            order.append("init")

        def on_episode_end(self, *, episode, env_runner, metrics_logger, env, env_index):
            metrics_logger.log_value("twice", 2 * episode.get_return(), reduce="mean")
            assert len(episode.get_rewards()) == episode.env_steps() == len(episode)
            assert len(episode.get_observations()) == len(episode) + 1 and episode.is_done

        def on_train_result(self, *, algorithm, metrics_logger, result):
            order.append(result.get("training_iteration", 0))

        def on_evaluate_start(self, *, algorithm):
            order.append("evaluate")

        def on_evaluate_end(self, *, algorithm, evaluation_metrics):
            evaluation_metrics["evaluation"]["mine"] = 5

        def on_checkpoint_loaded(self, *, algorithm):
            order.append("loaded")

    t = trainer(callbacks=[New, None], evaluation_interval=1, evaluation_duration=3)
    r = t.train()
    assert r["env_runners"]["twice"] == pytest.approx(2 * r["episode_reward_mean"])
    assert r["evaluation"]["mine"] == 5 and r["evaluation"]["episodes_this_iter"] == 3
    t.restore(t.save())
    t.stop()
    assert order == ["init", "evaluate", 0, "loaded"]
    with pytest.raises(TypeError, match="DefaultCallbacks"):
        CallbackList(object())


def test_functions_as_callbacks():
    seen = []
    config = (PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=0)
              .training(train_batch_size=128, num_epochs=1)
              .callbacks(on_train_result=lambda *, algorithm, result, **kw: seen.append(algorithm)))
    algo = config.build_algo()
    algo.train()
    assert seen == [algo]
    algo.stop()
    assert not CallbackList(DefaultCallbacks).has("on_train_result", "on_episode_step")


def test_filters_of_workers_join_to_one():
    rng = np.random.default_rng(0)
    rows = rng.normal(3.0, 2.0, (400, 3))
    whole, parts = RunningStat(3), RunningStat(3)
    for row in rows:
        whole.push(row)
    for chunk in (rows[:10], rows[10:300], rows[300:]):
        one = RunningStat(3)
        for row in chunk:
            one.push(row)
        parts.join(one)
    np.testing.assert_allclose(parts.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(parts.squares, whole.squares, rtol=1e-10)
    again = RunningStat.of(parts.state())
    made = MeanStdFilter(3)
    made.sync(again)
    want = (rows[0] - rows.mean(0)) / (rows.std(0, ddof=1) + 1e-8)
    np.testing.assert_allclose(made(rows[0], update=False), want, rtol=1e-5)
    assert made.known.count == 400 and made.flush().count == 0


def test_a_filter_learns_travels_and_is_kept():
    t = trainer(observation_filter="MeanStdFilter", native_env=False)
    t.train()
    assert t.plan.known.count >= 100
    columns, _fragment, _ended = t.plan.sample_batch()
    assert np.abs(columns["obs"].mean(0)).max() < 1.5
    assert columns["obs"].std() > 0.5               # CartPole's own numbers are far smaller
    path, count = t.save(), t.plan.known.count
    action = t.get_policy().compute_single_action(np.full(4, 0.2), explore=False)[2]
    t.train()
    t.evaluate()
    assert t.plan.known.count > count
    t.restore(path)
    assert t.plan.known.count == count
    again = t.get_policy().compute_single_action(np.full(4, 0.2), explore=False)[2]
    assert (again["action_dist_inputs"] == action["action_dist_inputs"]).all()
    t.stop()


@pytest.mark.parametrize("made", [trainer, lambda **c: PPOTrainer(env="CartPole-v1", config={
    "num_workers": 0, "seed": 1, "train_batch_size": 128, **c})], ids=["engine", "fused"])
def test_evaluation_with_a_config_of_its_own(made):
    t = made(evaluation_config={"horizon": 7, "explore": False}, evaluation_num_episodes=4)
    r = t.evaluate()["evaluation"]
    assert r["episode_len_mean"] == 7 and r["episodes_this_iter"] == 4
    assert r["env_runners"]["num_env_steps_sampled"] == 28
    assert t.plan.counters["sampled"] == 0
    t.stop()
    t = made(evaluation_config={"horizon": 7}, evaluation_duration=50,
             evaluation_duration_unit="timesteps")
    r = t.evaluate()["evaluation"]
    assert r["timesteps_this_iter"] >= 28 and math.isfinite(r["episode_reward_mean"])
    t.stop()
    t = made(custom_eval_function=lambda algo, workers: {"score": 3})
    assert t.evaluate() == {"evaluation": {"score": 3}}
    t.stop()
