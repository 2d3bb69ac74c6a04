"""tune.run and Tuner on a real cluster: results, files, resources, bad input."""

from __future__ import annotations

import json
import os
import threading

import pytest

from skate import tune


class Counting(tune.Trainable):
    def setup(self, config):
        self.n = 0

    def step(self):
        self.n += 1
        return {"n": self.n, "score": self.n * self.config.get("k", 1), "pid_seen": os.getpid()}

    def save_checkpoint(self, checkpoint_dir):
        return {"n": self.n}

    def load_checkpoint(self, checkpoint):
        self.n = checkpoint["n"]


class Greedy(Counting):
    """Asks for four CPUs of a cluster that has two."""

    _share_process_by_default = True
    _checkpoint_at_end_by_default = True

    @classmethod
    def default_resource_request(cls, config):
        return tune.PlacementGroupFactory([{"CPU": 1}] + [{"CPU": 1}] * 3)

    @classmethod
    def scale_trial_config(cls, config, cluster_cpus):
        return {"cpus": cluster_cpus}

    def step(self):
        return {**super().step(), "cpus": self.config.get("cpus", 0)}


def reporting(config):
    for i in range(3):
        tune.report(loss=config["x"] * (3 - i))


def test_grid_of_functions(cluster, results, capsys):
    analysis = tune.run(reporting, config={"x": tune.grid_search([3, 1, 2])}, metric="loss",
                        mode="min", verbose=3)
    assert [t.status for t in analysis.trials] == ["TERMINATED"] * 3
    assert analysis.best_config == {"x": 1} and analysis.best_result["loss"] == 1
    assert analysis.best_result["training_iteration"] == 3
    out = capsys.readouterr().out
    assert "Number of trials: 3/3 (3 TERMINATED)" in out and "Result for reporting_" in out
    folder = analysis.best_logdir
    assert os.path.dirname(folder) == str(results / "reporting")
    assert os.path.basename(folder).startswith(f"reporting_{analysis.best_trial.trial_id}_1_x=1_")
    names = set(os.listdir(folder))
    assert {"params.json", "params.pkl", "progress.csv", "result.json"} <= names
    assert any(name.startswith("events.out.tfevents.") for name in names)
    with open(os.path.join(folder, "result.json")) as source:
        rows = [json.loads(line) for line in source]
    assert [row["loss"] for row in rows] == [3, 2, 1] and rows[0]["config"] == {"x": 1}

    again = tune.ExperimentAnalysis(str(results / "reporting"), default_metric="loss",
                                    default_mode="min")
    assert again.best_config == {"x": 1} and again.best_logdir == folder
    assert again.results[analysis.best_trial.trial_id]["loss"] == 1


def test_class_with_stop_and_checkpoints(cluster, results):
    analysis = tune.run(Counting, name="named", stop={"training_iteration": 5}, metric="n",
                        mode="max", checkpoint_freq=2, checkpoint_at_end=True,
                        keep_checkpoints_num=2, verbose=0, config={"k": 2})
    assert analysis.best_result["n"] == 5 and analysis.best_result["score"] == 10
    folder = results / "named" / os.path.basename(analysis.best_logdir)
    kept = sorted(p.name for p in folder.glob("checkpoint_*"))
    assert kept == ["checkpoint_000004", "checkpoint_000005"]
    assert analysis.best_checkpoint == str(folder / "checkpoint_000005")
    again = tune.run(Counting, stop={"training_iteration": 6}, restore=analysis.best_checkpoint,
                     verbose=0)
    assert again.trials[0].last_result["n"] == 6


def test_reward_stop_is_the_default_metric(cluster, results, capsys):
    def agent(config):
        for i in range(1, 100):
            tune.report({"episode_reward_mean": float(i), "timesteps_total": i})

    analysis = tune.run(agent, stop={"episode_reward_mean": 7}, verbose=1)
    assert analysis.best_result["episode_reward_mean"] == 7
    assert analysis.default_mode == "max"
    assert "500,000" in capsys.readouterr().out


def test_step_limit_ends_a_hopeless_trial(cluster, results):
    def agent(config):
        for i in range(1, 100):
            tune.report(episode_reward_mean=1.0, timesteps_total=i * 100_000)

    analysis = tune.run(agent, stop={"episode_reward_mean": 7}, verbose=0)
    assert analysis.best_result["timesteps_total"] == 500_000


def test_too_large_trials_run_one_by_one_in_one_process(cluster, results, caplog):
    analysis = tune.run(Greedy, stop={"n": 2}, num_samples=3, verbose=0)
    assert [t.last_result["n"] for t in analysis.trials] == [2, 2, 2]
    assert [t.last_result["cpus"] for t in analysis.trials] == [2, 2, 2]
    assert len({t.last_result["pid_seen"] for t in analysis.trials}) == 1
    warned = [r for r in caplog.records if "asks for 4 CPUs" in r.getMessage()]
    assert len(warned) == 1
    assert "cpus" not in analysis.trials[0].config
    for trial in analysis.trials:
        assert trial.checkpoint == os.path.join(trial.logdir, "checkpoint_000002")
        assert os.path.isdir(trial.checkpoint)


def test_a_scaled_trial_asks_no_more_than_the_largest_node_has(cluster, results, monkeypatch):
    monkeypatch.setattr(cluster, "cluster_resources", lambda: {"CPU": 3.0})
    analysis = tune.run(Greedy, stop={"n": 1}, num_samples=2, verbose=0)
    for trial in analysis.trials:
        assert trial.last_result["cpus"] == 2
        assert trial.request.bundles == [{"CPU": 2}, {"CPU": 1}]


def test_trials_of_two_cpus_do_not_overlap(cluster, results):
    class Seen(tune.Callback):
        most = 0

        def on_trial_result(self, iteration, trials, trial, result, **info):
            self.most = max(self.most, sum(t.status == "RUNNING" for t in trials))

    seen = Seen()
    tune.run(reporting, config={"x": 1}, num_samples=3, resources_per_trial={"cpu": 2},
             callbacks=[seen], verbose=0)
    assert seen.most == 1


def test_two_trials_run_at_once(cluster, results, tmp_path):
    os.mkfifo(tmp_path / "pipe")

    def meet_at_pipe(config):
        """Opening a pipe waits for the other end: both trials must run."""
        with open(config["here"], "w" if config["first"] else "r") as pipe:
            pipe.write("x") if config["first"] else pipe.read()
        tune.report(met=1)

    analysis = tune.run(
        meet_at_pipe, verbose=0,
        config={"here": str(tmp_path / "pipe"), "first": tune.grid_search([True, False])})
    assert [t.last_result["met"] for t in analysis.trials] == [1, 1]


def test_reuse_actors_resets_in_place(cluster, results):
    class Resettable(Counting):
        made = 0

        def setup(self, config):
            type(self).made += 1
            super().setup(config)

        def reset_config(self, new_config):
            self.n = 0
            return True

        def step(self):
            return {**super().step(), "made": type(self).made}

    analysis = tune.run(Resettable, stop={"n": 1}, config={"k": tune.grid_search([1, 2, 3])},
                        reuse_actors=True, max_concurrent_trials=1, verbose=0)
    assert [t.last_result["score"] for t in analysis.trials] == [1, 2, 3]
    assert [t.last_result["made"] for t in analysis.trials] == [1, 1, 1]


def test_tuner_and_result_grid(cluster, results, tmp_path):
    grid = tune.Tuner(
        reporting, param_space={"x": tune.grid_search([2, 1])},
        tune_config=tune.TuneConfig(metric="loss", mode="min"),
        run_config=tune.RunConfig(name="grid", storage_path=str(tmp_path), verbose=0)).fit()
    assert len(grid) == 2 and grid.num_errors == 0 and grid.num_terminated == 2
    best = grid.get_best_result()
    assert best.config == {"x": 1} and best.metrics["loss"] == 1
    assert best.path.startswith(str(tmp_path / "grid"))
    assert [r.metrics["loss"] for r in grid] == [2, 1]


def test_function_checkpoints(cluster, results, tmp_path):
    def saving(config):
        checkpoint = tune.get_checkpoint()
        first = int(open(f"{checkpoint.path}/n").read()) + 1 if checkpoint else 0
        for i in range(first, first + 2):
            with open(config["folder"] + "/n", "w") as out:
                out.write(str(i))
            tune.report({"i": i}, checkpoint=tune.Checkpoint.from_directory(config["folder"]))

    (tmp_path / "state").mkdir()
    config = {"folder": str(tmp_path / "state")}
    one = tune.run(saving, config=config, verbose=0, metric="i", mode="max")
    assert one.best_result["i"] == 1
    assert open(one.best_checkpoint + "/n").read() == "1"
    two = tune.run(saving, config=config, verbose=0, metric="i", mode="max",
                   restore=one.best_checkpoint)
    assert two.best_result["i"] == 3
    assert not [n for n in os.listdir(two.best_logdir) if n.startswith(".")]


def test_returned_and_yielded_metrics(cluster, results):
    def returns(config):
        return {"score": 4}

    def yields(config):
        yield {"score": 1}
        yield {"score": 2}

    assert tune.run(returns, verbose=0).trials[0].last_result["score"] == 4
    last = tune.run(yields, verbose=0).trials[0].last_result
    assert last["score"] == 2 and last["training_iteration"] == 2


def test_with_parameters_and_with_resources(cluster, results):
    def uses(config, big, small):
        tune.report(total=sum(big) + small, cpus=tune.get_trial_resources().head_cpus,
                    name=tune.get_trial_name(), folder=tune.get_trial_dir())

    bound = tune.with_parameters(uses, big=list(range(10_000)), small=1)
    bound = tune.with_resources(bound, {"cpu": 2})
    trial = tune.run(bound, verbose=0).trials[0]
    assert trial.last_result["total"] == sum(range(10_000)) + 1
    assert trial.last_result["cpus"] == 2 and trial.last_result["name"] == trial.name
    assert trial.last_result["folder"] == trial.logdir


def test_time_budget_ends_everything(cluster, results):
    def endless(config):
        while True:
            tune.report(x=1)

    analysis = tune.run(endless, num_samples=4, time_budget_s=0.3, verbose=0)
    assert {t.status for t in analysis.trials} == {"TERMINATED"}


def test_registered_names_and_envs_reach_the_trials(cluster, results):
    def uses_env(config):
        from skate.tune.registry import get_env_creator

        tune.report(made=get_env_creator("my-env")({"size": 3}))

    tune.register_trainable("my_trainable", uses_env)
    tune.register_env("my-env", lambda env_config: env_config["size"] * 2)
    analysis = tune.run("my_trainable", verbose=0)
    assert analysis.trials[0].last_result["made"] == 6
    assert analysis.trials[0].name.startswith("my_trainable_")


@pytest.mark.parametrize(("arguments", "error"), [
    ({"run_or_experiment": "NoSuchTrainable"}, tune.TuneError),
    ({"run_or_experiment": 3}, tune.TuneError),
    ({"run_or_experiment": dict}, tune.TuneError),
    ({"stop": 5}, ValueError),
    ({"stop": {"loss": "low"}}, TypeError),
    ({"mode": "best"}, ValueError),
    ({"metric": 3}, TypeError),
    ({"name": ["x"]}, TypeError),
    ({"config": 7}, ValueError),
    ({"num_samples": 0}, ValueError),
    ({"num_samples": "many"}, TypeError),
    ({"resources_per_trial": {"cpu": -1}}, ValueError),
    ({"resources_per_trial": {"cpu": "2"}}, TypeError),
    ({"resources_per_trial": 2}, TypeError),
    ({"local_dir": 5}, TypeError),
    ({"fail_fast": "maybe"}, ValueError),
    ({"restore": "/no/such/checkpoint"}, ValueError),
    ({"scheduler": "nonesuch"}, tune.TuneError),
    ({"callbacks": [3]}, TypeError),
    ({"time_budget_s": "soon"}, ValueError),
    ({"config": {"x": tune.grid_search([])}}, tune.TuneError),
    ({"no_such_argument": 1}, TypeError),
])
def test_bad_input_is_an_error_at_once_and_leaves_nothing(results, arguments, error):
    with pytest.raises(error):
        tune.run(**{"run_or_experiment": reporting, "config": {"x": 1}, "verbose": 0, **arguments})
    assert not results.exists()


def test_bad_config_is_found_before_anything_starts(results):
    class Strict(Counting):
        @classmethod
        def validate_trial_config(cls, config):
            if config["k"] > 2:
                raise ValueError(f"k must be at most 2, got {config['k']}")

    with pytest.raises(ValueError, match="at most 2, got 3"):
        tune.run(Strict, config={"k": tune.grid_search([1, 2, 3])}, stop={"n": 1}, verbose=0)
    assert not results.exists()


def test_function_of_a_wrong_form():
    for function in (lambda: 1, lambda a, b: 1):
        with pytest.raises(ValueError, match="argument"):
            tune.run(function)


def test_metric_or_stop_key_that_never_comes(cluster, results):
    with pytest.raises(ValueError, match=r"'accuracy'.*loss"):
        tune.run(reporting, config={"x": 1}, metric="accuracy", mode="max", verbose=0)
    with pytest.raises(tune.TuneError, match=r"'accuracy'.*loss"):
        tune.run(reporting, config={"x": 1}, stop={"accuracy": 1}, verbose=0)


def test_run_from_a_thread(cluster, results):
    found = []
    thread = threading.Thread(
        target=lambda: found.append(tune.run(reporting, config={"x": 1}, verbose=0)))
    thread.start()
    thread.join(30)
    assert found and found[0].trials[0].status == "TERMINATED"


def test_elder_names(cluster, results):
    """tune.checkpoint_dir, report(**kwargs), run_experiments, name creators."""
    def elder(config, checkpoint_dir=None):
        first = int(open(os.path.join(checkpoint_dir, "n")).read()) + 1 if checkpoint_dir else 0
        for i in range(first, first + 2):
            with tune.checkpoint_dir(step=i) as folder, open(f"{folder}/n", "w") as out:
                out.write(str(i))
            tune.report(i=i)

    (trial,) = tune.run_experiments({"old": {"run": elder, "config": {}}}, verbose=0)
    assert trial.last_result["i"] == 1 and trial.logdir.startswith(str(results / "old"))
    assert open(os.path.join(trial.checkpoint, "n")).read() == "1"
    kept = sorted(n for n in os.listdir(trial.logdir) if "checkpoint" in n)
    assert kept == ["checkpoint_000001", "checkpoint_000002"]
    analysis = tune.run(elder, restore=trial.checkpoint, verbose=0,
                        trial_name_creator=lambda t: f"name-{t.trial_id}",
                        trial_dirname_creator=lambda t: f"folder-{t.trial_id}")
    (trial,) = analysis.trials
    assert trial.last_result["i"] == 3 and trial.name == f"name-{trial.trial_id}"
    assert os.path.basename(trial.logdir) == f"folder-{trial.trial_id}"


def test_reporter_of_the_users_own(cluster, results, capsys):
    class AtEnds(tune.CLIReporter):
        def should_report(self, trials, done=False):
            return done

    reporter = AtEnds(metric_columns=["loss"], parameter_columns={"x": "the x"})
    tune.run(reporting, config={"x": 2}, progress_reporter=reporter, verbose=1)
    out = capsys.readouterr().out
    assert out.count("== Status ==") == 1 and "the x" in out and "total time" not in out


def test_data_frames(cluster, results):
    pytest.importorskip("pandas")
    analysis = tune.run(reporting, config={"x": tune.grid_search([1, 2])}, metric="loss",
                        mode="max", verbose=0)
    frame = analysis.dataframe()
    assert list(frame["config/x"]) == [1, 2] and list(frame["loss"]) == [1, 2]
    assert list(analysis.dataframe(metric="loss", mode="max")["loss"]) == [3, 6]
    assert list(analysis.trial_dataframes[analysis.best_logdir]["loss"]) == [6, 4, 2]
    assert len(analysis.results_df) == 2
