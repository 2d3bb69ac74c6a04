"""The trainer with rollout actors: same seed same curve, lost workers, the environment's errors."""

from __future__ import annotations

import os
import signal

import pytest

from skate.rllib import EnvError
from skate.rllib._errors import WorkerFailedError
from skate.rllib.agents.ppo import PPOTrainer

CONFIG = {"env": "CartPole-v0", "num_workers": 3, "num_cpus_per_worker": 0, "seed": 5,
          "train_batch_size": 900, "num_sgd_iter": 3, "lr": 1e-3, "num_cpus_for_driver": 2}


@pytest.fixture(scope="module")
def cluster():
    """A session of two CPUs."""
    import skate

    if skate.is_initialized():
        skate.shutdown()
    skate.init(num_cpus=2)
    yield skate
    skate.shutdown()


@pytest.fixture(autouse=True)
def results_here(tmp_path, monkeypatch):
    monkeypatch.setenv("SKATE_RESULTS_DIR", str(tmp_path))


def curve(trainer, n=3):
    out = []
    for _ in range(n):
        r = trainer.train()
        out.append((r["episode_reward_mean"], r["episodes_total"], r["timesteps_total"],
                    r["info"]["learner"]["default_policy"]["learner_stats"]["total_loss"]))
    return out


def worker_pids(cluster, trainer):
    return [cluster.get(w.describe.remote())["pid"] for w in trainer.workers.remote]


def test_same_seed_same_curve_with_actors(cluster):
    curves = []
    for _ in range(2):
        trainer = PPOTrainer(config=CONFIG)
        assert len(set(worker_pids(cluster, trainer))) == 3
        curves.append((curve(trainer), trainer.get_policy().flat_weights().tobytes()))
        trainer.stop()
    assert curves[0] == curves[1]
    other = PPOTrainer(config={**CONFIG, "seed": 6})
    assert curve(other) != curves[0][0]
    other.stop()


def test_a_killed_worker_is_replaced(cluster):
    trainer = PPOTrainer(config=CONFIG)
    before = worker_pids(cluster, trainer)
    trainer.train()
    os.kill(before[1], signal.SIGKILL)
    r = trainer.train()
    assert r["num_replaced_workers"] == 1
    assert r["timesteps_total"] == 1800
    after = worker_pids(cluster, trainer)
    assert after[0] == before[0] and after[2] == before[2] and after[1] != before[1]
    assert trainer.train()["num_healthy_workers"] == 3
    trainer.stop()


def test_without_replacement_the_loss_is_raised(cluster):
    trainer = PPOTrainer(config={**CONFIG, "recreate_failed_workers": False})
    os.kill(worker_pids(cluster, trainer)[0], signal.SIGKILL)
    with pytest.raises(cluster.exceptions.RayActorError):
        trainer.train()
    trainer.stop()


def test_a_worker_that_always_dies_ends_the_training(cluster):
    class Deadly:
        def __init__(self, config):
            import gymnasium

            self.observation_space = gymnasium.spaces.Discrete(2)
            self.action_space = gymnasium.spaces.Discrete(2)

        def reset(self):
            return 0

        def step(self, action):
            os.kill(os.getpid(), signal.SIGKILL)

    trainer = PPOTrainer(env=Deadly, config={**CONFIG, "num_workers": 1})
    with pytest.raises(WorkerFailedError, match="5 times"):
        trainer.train()
    trainer.stop()


def test_more_workers_than_cpus_share_them(cluster, caplog):
    config = {**CONFIG, "num_workers": 4, "num_cpus_per_worker": 1}
    trainer = PPOTrainer(config=config)
    assert trainer.train()["num_healthy_workers"] == 4
    assert [r.message for r in caplog.records if "ask for 4 CPUs" in r.getMessage()]
    trainer.stop()


def test_errors_of_the_environment_reach_the_caller(cluster):
    class Moody:
        def __init__(self, config):
            if config.get("broken"):
                raise RuntimeError("no screen")
            import gymnasium

            self.observation_space = gymnasium.spaces.Discrete(2)
            self.action_space = gymnasium.spaces.Discrete(2)

        def reset(self):
            return 0

        def step(self, action):
            raise ArithmeticError("not today")

    with pytest.raises(EnvError, match="no screen"):
        PPOTrainer(env=Moody, config={**CONFIG, "env_config": {"broken": True}})
    trainer = PPOTrainer(env=Moody, config=CONFIG)
    with pytest.raises(ArithmeticError, match="not today"):
        trainer.train()
    trainer.stop()


def test_a_bad_config_starts_nothing(cluster):
    from skate import tune

    for bad, error in (({"env": "CartPoll-v0"}, EnvError), ({"num_wrkers": 1}, KeyError)):
        with pytest.raises(error):
            tune.run("PPO", stop={"training_iteration": 1}, config={**CONFIG, **bad}, verbose=0)
    with pytest.raises(tune.TuneError, match="PPPO"):
        tune.run("PPPO", stop={"training_iteration": 1}, config=CONFIG, verbose=0)


def test_under_tune_with_scaling_and_a_checkpoint(cluster):
    from skate import tune

    config = {k: v for k, v in CONFIG.items()
              if k not in ("num_cpus_per_worker", "num_cpus_for_driver")}
    curves = []
    for _ in range(2):
        analysis = tune.run("PPO", stop={"training_iteration": 2}, verbose=0,
                            config={**config, "lr": tune.grid_search([1e-2, 1e-3])})
        assert [t.status for t in analysis.trials] == ["TERMINATED"] * 2
        curves.append([t.last_result["episode_reward_mean"] for t in analysis.trials])
    assert curves[0] == curves[1]
    trial = analysis.trials[1]
    trainer = PPOTrainer(config={**trial.config, "num_workers": 0})
    trainer.restore(trial.checkpoint.path)
    assert trainer.compute_single_action([0.0, 0.0, 0.1, 1.0]) in (0, 1)
    assert trainer.train()["training_iteration"] == 3
    trainer.stop()


def workers_of_this_session():
    """Process ids of all worker processes (children of the zygote below this process)."""
    parent = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as source:
                    fields = source.read().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parent[int(name)] = int(fields[1])

    def depth(pid):
        n = 0
        while pid in parent and pid != os.getpid():
            pid, n = parent[pid], n + 1
        return n if pid == os.getpid() else 0

    # this process <- raylet (1) <- zygote (2) <- workers (3)
    return [pid for pid in parent if depth(pid) == 3]


def test_killed_rollout_workers_and_a_killed_trial_under_tune(cluster):
    from skate import tune

    done = []

    class Killer(tune.Callback):
        def on_trial_result(self, iteration, trials, trial, result, **info):
            if result["training_iteration"] == 2 and not done:
                lost = [pid for pid in workers_of_this_session() if pid != result["pid"]]
                assert len(lost) >= 3
                for pid in lost:
                    os.kill(pid, signal.SIGKILL)
                done.append("workers")
            elif result["training_iteration"] == 4 and len(done) == 1:
                assert result["num_replaced_workers"] >= 1
                done.append("replaced")
                os.kill(result["pid"], signal.SIGKILL)
            elif len(done) == 2:
                done.append(result["training_iteration"])

    analysis = tune.run("PPO", stop={"training_iteration": 6}, verbose=0, checkpoint_freq=1,
                        callbacks=[Killer()],
                        config={k: v for k, v in CONFIG.items() if k != "num_cpus_for_driver"})
    trial = analysis.trials[0]
    assert trial.status == "TERMINATED"
    assert trial.last_result["training_iteration"] == 6
    assert trial.last_result["timesteps_total"] == 5400
    assert done[:2] == ["workers", "replaced"]
    assert 1 < done[2] <= 5         # went on from a checkpoint, not from the start


def test_evaluation_workers_play_while_it_trains(cluster):
    trainer = PPOTrainer(config={
        **CONFIG, "num_workers": 1, "train_batch_size": 300, "num_sgd_iter": 1,
        "evaluation_interval": 1, "evaluation_num_workers": 2, "evaluation_duration": 5,
        "evaluation_parallel_to_training": True, "evaluation_config": {"horizon": 9}})
    r = trainer.train()
    assert r["evaluation"]["episodes_this_iter"] == 5 and r["timesteps_total"] == 300
    assert r["evaluation"]["episode_len_mean"] <= 9 < r["episode_len_mean"]
    trainer.stop()
