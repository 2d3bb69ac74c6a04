"""Tune with RLlib's PPO: resources, checkpoints, a killed trial, bad configs. Tiny batches."""

from __future__ import annotations

import os
import signal

import pytest

from skate import tune

pytest.importorskip("skate._rl")

CONFIG = {"env": "CartPole-v0", "num_gpus": 0, "num_workers": 3, "train_batch_size": 300,
          "rollout_fragment_length": 100, "sgd_minibatch_size": 100, "num_sgd_iter": 2,
          "model": {"fcnet_hiddens": [16, 16]}, "seed": 1}


class KillOnce(tune.Callback):
    def __init__(self):
        self.killed = 0

    def on_trial_result(self, iteration, trials, trial, result, **info):
        if result["training_iteration"] == 2 and not self.killed:
            self.killed = trial.pid
            os.kill(trial.pid, signal.SIGKILL)


def test_grid_on_a_cluster_that_is_too_small(cluster, results, caplog, capsys):
    analysis = tune.run(
        "PPO", stop={"training_iteration": 2}, metric="episode_reward_mean", mode="max",
        config={**CONFIG, "lr": tune.grid_search([0.01, 0.001])}, verbose=1)
    assert [t.status for t in analysis.trials] == ["TERMINATED"] * 2
    assert len([r for r in caplog.records if "asks for 4 CPUs" in r.getMessage()]) == 1
    first, second = analysis.trials
    assert first.name.startswith("PPO_CartPole-v0_") and first.pid == second.pid
    assert first.config["lr"] == 0.01 and "num_cpus_per_worker" not in first.config
    result = first.last_result
    assert result["timesteps_total"] >= 600 and result["training_iteration"] == 2
    assert result["env_runners"]["episode_return_mean"] == pytest.approx(
        result["episode_reward_mean"])
    out = capsys.readouterr().out
    assert "episode_len_mean" in out and "2.0/2 CPUs" in out
    # An article's plain call ends with a checkpoint from which one can act.
    from skate.rllib.agents.ppo import PPOTrainer

    trainer = PPOTrainer(config={**CONFIG, "num_workers": 0})
    trainer.restore(analysis.best_checkpoint)
    assert trainer.iteration == 2
    assert trainer.compute_single_action([0.0, 0.1, 0.0, -0.1]) in (0, 1)
    trainer.stop()


def test_a_killed_trial_starts_again(cluster, results):
    killer = KillOnce()
    analysis = tune.run("PPO", stop={"training_iteration": 4}, config=CONFIG, checkpoint_freq=1,
                        callbacks=[killer], verbose=0)
    (trial,) = analysis.trials
    assert killer.killed and trial.pid != killer.killed
    assert trial.status == "TERMINATED" and trial.last_result["training_iteration"] == 4


def test_the_newer_metric_stops_too(cluster, results):
    analysis = tune.run("PPO", stop={"env_runners/episode_return_mean": 1}, config=CONFIG,
                        verbose=0)
    assert analysis.best_result["training_iteration"] == 1


@pytest.mark.parametrize(("change", "error", "words"), [
    ({"lrr": 1}, KeyError, "lrr"), ({"env": "NoSuch-v0"}, ValueError, "NoSuch-v0"),
    ({"num_workers": -1}, ValueError, "num_workers"), ({"env": None}, ValueError, "env")])
def test_bad_configs_fail_before_anything_starts(results, change, error, words):
    with pytest.raises(error, match=words):
        tune.run("PPO", stop={"training_iteration": 1}, config={**CONFIG, **change}, verbose=0)
    assert not results.exists()


def test_unknown_algorithm(results):
    with pytest.raises(tune.TuneError, match="Unknown trainable: NoSuch"):
        tune.run("NoSuch", config=CONFIG)
