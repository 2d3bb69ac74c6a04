"""Trials of Tune in MLflow, against a real server on SQLite; what came out is asked over REST."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE
from typing import Any

import mlflow_server
import pytest

# Not importorskip: workers import this module for the functions below.
if find_spec("mlflow") is None:
    pytest.skip("mlflow-skinny is not installed (tools/setup.sh spark)", allow_module_level=True)
if not mlflow_server.PROGRAM.exists():
    pytest.skip("there is no MLflow server (tools/setup.sh mlflow)", allow_module_level=True)

pytestmark = pytest.mark.timeout(240)


class Rest:
    """Questions to the server, without MLflow's client."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, path: str, **body: Any) -> dict[str, Any]:
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(
            f"{self.address}/api/2.0/mlflow/{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return dict(json.load(answer))

    def runs(self, experiment: str) -> list[dict[str, Any]]:
        """The runs of an experiment: name, status, params, metrics and tags as dictionaries."""
        found = self.ask(f"experiments/get-by-name?experiment_name={experiment}")
        number = found["experiment"]["experiment_id"]
        runs = self.ask("runs/search", experiment_ids=[number]).get("runs", [])
        for run in runs:
            run.update(name=run["info"]["run_name"], status=run["info"]["status"],
                       id=run["info"]["run_id"])
            for kind in ("params", "metrics", "tags"):
                run[kind] = {p["key"]: p["value"] for p in run["data"].get(kind, [])}
        return sorted(runs, key=lambda run: run["name"])

    def history(self, run: dict[str, Any], metric: str) -> list[tuple[int, float]]:
        found = self.ask(f"metrics/get-history?run_id={run['id']}&metric_key={metric}")
        return sorted((int(m.get("step", 0)), m["value"]) for m in found["metrics"])

    def artifacts(self, run: dict[str, Any]) -> set[str]:
        found = self.ask(f"artifacts/list?run_id={run['id']}").get("files", [])
        return {file["path"] for file in found}


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    """The server, for all tests of this module."""
    with mlflow_server.mlflow_server(tmp_path_factory.mktemp("mlflow")) as address:
        yield Rest(address)


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """MLflow knows one store for each process; no test sees that of another."""
    import mlflow

    for name in [n for n in os.environ if n.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    yield
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


def descend(config: dict[str, Any]) -> None:
    """Reports four times; the second rate fails after two."""
    from skate import tune

    x = 8.0
    for step in range(4):
        if config["lr"] > 0.4 and step == 2:
            raise ValueError("diverged")
        x -= config["lr"] * x
        tune.report(loss=x, best={"so_far": x}, word="text", odd=math.nan)


def test_callback(rest: Rest, cluster: Any, results: Path) -> None:
    """Params, metrics by step, tags, artifacts and states of good and failed trials."""
    import mlflow

    from skate import tune
    from skate.air.integrations.mlflow import MLflowLoggerCallback

    callback = MLflowLoggerCallback(
        rest.address, experiment_name="descent", tags={"team": "prices"}, save_artifact=True)
    analysis = tune.run(
        descend, config={"lr": tune.grid_search([0.25, 0.5]), "net": {"width": 8}}, verbose=0,
        callbacks=[callback], raise_on_failed_trial=False, reuse_actors=False)
    runs = {run["params"]["lr"]: run for run in rest.runs("descent")}
    assert set(runs) == {"0.25", "0.5"}
    good, bad = runs["0.25"], runs["0.5"]
    assert (good["status"], bad["status"]) == ("FINISHED", "FAILED")
    assert rest.history(good, "loss") == [(n, 8.0 * 0.75**n) for n in (1, 2, 3, 4)]
    assert rest.history(bad, "loss") == [(1, 4.0), (2, 2.0)]
    for run, trial in zip((good, bad), analysis.trials):
        assert run["name"] == run["tags"]["trial_name"] == str(trial)
        assert run["tags"]["team"] == "prices"
        assert run["params"] == {"lr": str(trial.config["lr"]), "net/width": "8"}
        assert "best/so_far" in run["metrics"] and "odd" in run["metrics"]
        assert not {"word", "trial_id", "hostname", "date"} & set(run["metrics"])
        assert {"params.json", "progress.csv", "result.json"} <= rest.artifacts(run)
    assert "error.txt" in rest.artifacts(bad)
    # As in Ray, MLflow of the driver looks at this store now.
    assert len(mlflow.search_runs(experiment_names=["descent"], output_format="list")) == 2


def test_callback_of_a_tuner(rest: Rest, cluster: Any, results: Path) -> None:
    """By its other name, with the environment's settings; parameters at the end."""
    from skate import tune
    from skate.tune.logger.mlflow import MLflowLoggerCallback

    os.environ["MLFLOW_TRACKING_URI"] = rest.address
    os.environ["MLFLOW_EXPERIMENT_NAME"] = "by-environment"
    callback = MLflowLoggerCallback(log_params_on_trial_end=True)
    for _again in range(2):  # an experiment that is there is used
        tune.Tuner(descend, param_space={"lr": 0.125}, run_config=tune.RunConfig(
            verbose=0, callbacks=[callback], stop={"training_iteration": 2})).fit()
    runs = rest.runs("by-environment")
    assert [run["status"] for run in runs] == ["FINISHED"] * 2
    assert all(run["params"] == {"lr": "0.125"} for run in runs)
    assert all(rest.history(run, "loss") == [(1, 7.0), (2, 6.125)] for run in runs)
    del os.environ["MLFLOW_EXPERIMENT_NAME"]
    with pytest.raises(ValueError, match="experiment_name="):
        tune.run(descend, config={"lr": 0.1}, verbose=0, callbacks=[MLflowLoggerCallback()])


def test_interrupted(rest: Rest, cluster: Any, results: Path) -> None:
    """Runs of trials that were running when the experiment was interrupted are not left open."""
    from skate import tune
    from skate.air.integrations.mlflow import MLflowLoggerCallback

    class Interrupt(tune.Callback):
        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any,
                            **info: Any) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune.run(descend, config={"lr": 0.1}, verbose=0, callbacks=[
            MLflowLoggerCallback(rest.address, experiment_name="interrupted"), Interrupt()])
    (run,) = rest.runs("interrupted")
    assert run["status"] == "KILLED" and run["metrics"]["training_iteration"] == 1


def inside(config: dict[str, Any]) -> None:
    """A trial with its own MLflow run, in the store that the environment names."""
    from skate import tune
    from skate.air.integrations.mlflow import setup_mlflow

    mlflow = setup_mlflow(config, experiment_name="inside", run_name=f"run-{config['n']}",
                          create_experiment_if_not_exists=True, tags={"kind": "trial"})
    mlflow.log_text("a note", "note.txt")
    for step in range(2):
        mlflow.log_metric("square", config["n"] ** 2, step=step)
        tune.report(n=config["n"], token=os.environ.get("MLFLOW_TRACKING_TOKEN", ""))
    if config["n"] == 3:
        raise ValueError("three")


def test_in_trials(rest: Rest, results: Path) -> None:
    """setup_mlflow in function and class trainables; the settings come with the job."""
    import skate as ray
    from skate import tune

    class Counter(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            from skate.air.integrations.mlflow import setup_mlflow

            self.mlflow = setup_mlflow(config, experiment_name="classes",
                                       create_experiment_if_not_exists=True)

        def step(self) -> dict[str, Any]:
            self.mlflow.log_metric("doubled", 2 * self.config["n"], step=self.iteration)
            return {"value": 1}

    variables = {"MLFLOW_TRACKING_URI": rest.address, "MLFLOW_TRACKING_TOKEN": "of-the-test"}
    if ray.is_initialized():
        ray.shutdown()
    ray.init(num_cpus=2, runtime_env={"env_vars": variables})
    try:
        analysis = tune.run(inside, config={"n": tune.grid_search([2, 3])}, verbose=0,
                            raise_on_failed_trial=False)
        # On one actor, one after the other: each trial has its own run.
        tune.run(Counter, config={"n": tune.grid_search([5, 6])}, verbose=0, reuse_actors=True,
                 max_concurrent_trials=1, stop={"training_iteration": 2})
    finally:
        ray.shutdown()
    assert {t.last_result["token"] for t in analysis.trials} == {"of-the-test"}
    assert "MLFLOW_TRACKING_TOKEN" not in os.environ
    two, three = rest.runs("inside")
    assert (two["name"], two["status"]) == ("run-2", "FINISHED")
    assert (three["name"], three["status"]) == ("run-3", "FAILED")
    assert rest.history(three, "square") == [(0, 9.0), (1, 9.0)]
    assert two["params"] == {"n": "2"} and two["tags"]["kind"] == "trial"
    assert rest.artifacts(two) == {"note.txt"}
    counters = rest.runs("classes")
    assert {run["params"]["n"]: run["metrics"]["doubled"] for run in counters} == {
        "5": 10.0, "6": 12.0}
    assert [run["status"] for run in counters] == ["FINISHED"] * 2


def test_outside_of_trials(rest: Rest) -> None:
    """Ids before names; what is not there; an active run is used."""
    import mlflow

    from skate.air.integrations.mlflow import setup_mlflow

    with pytest.raises(ValueError, match=r"'nowhere'.*create_experiment_if_not_exists"):
        setup_mlflow(tracking_uri=rest.address, experiment_name="nowhere")
    with pytest.raises(ValueError, match="no name to create one by"):
        setup_mlflow(experiment_id="9999", create_experiment_if_not_exists=True)
    number = mlflow.create_experiment("by-hand")
    assert setup_mlflow({"a": 1}, experiment_id=number, tracking_token="t",
                        experiment_name="not asked for") is mlflow
    assert os.environ["MLFLOW_TRACKING_TOKEN"] == "t"
    first = mlflow.active_run().info.run_id
    setup_mlflow({"b": {"c": None}}, experiment_id=number)
    assert mlflow.active_run().info.run_id == first
    many = {f"p{n}": n for n in range(250)}
    setup_mlflow(many, experiment_id=number)
    mlflow.end_run("KILLED")
    (run,) = rest.runs("by-hand")
    assert run["status"] == "KILLED"
    assert run["params"] == {"a": "1", "b/c": "None", **{k: str(v) for k, v in many.items()}}


def test_stores_that_are_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's own errors stay, with what to do beside them."""
    import mlflow

    from skate.air.integrations.mlflow import setup_mlflow

    with pytest.raises(mlflow.MlflowException) as caught:
        setup_mlflow(tracking_uri=str(tmp_path / "runs"), experiment_name="x")
    assert any("mlflow server" in note for note in caught.value.__notes__)
    try:
        import sqlalchemy as _  # noqa: F401
    except ImportError:
        with pytest.raises(mlflow.MlflowException) as caught:
            setup_mlflow(tracking_uri=f"sqlite:///{tmp_path}/m.db", experiment_name="x")
        assert any("mlflow-skinny" in note for note in caught.value.__notes__)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    port = mlflow_server.free_port()
    with caplog.at_level(logging.WARNING), pytest.raises(mlflow.MlflowException):
        setup_mlflow(tracking_uri=f"http://127.0.0.1:{port}", experiment_name="x")
    assert f"Nothing listens on 127.0.0.1:{port}" in caplog.text


SETS_UP = """
import sys
from skate.air.integrations.mlflow import setup_mlflow
mlflow = setup_mlflow({"n": 1}, sys.argv[1], experiment_name="x", artifact_location="/nowhere",
                      create_experiment_if_not_exists=True)
mlflow.log_metric("loss", 1.0)
"""


def test_a_new_sqlite_file(tmp_path: Path) -> None:
    """Two processes that make the tables of one file at the same time; with the whole MLflow."""
    import sqlite3

    import skate

    (tmp_path / "skate").symlink_to(Path(skate.__file__).parent)
    python = str(mlflow_server.PROGRAM.with_name("python"))
    both = [
        subprocess.Popen([python, "-c", SETS_UP, f"sqlite:///{tmp_path}/m.db"], stderr=PIPE,
                         env={**os.environ, "PYTHONPATH": str(tmp_path)}) for _ in range(2)
    ]  # fmt: skip
    for process in both:
        errors = process.communicate(timeout=200)[1]
        assert process.returncode == 0, errors.decode()
    with sqlite3.connect(tmp_path / "m.db") as database:
        runs = database.execute("select status, experiment_id from runs").fetchall()
    assert len(runs) == 2 and len(set(runs)) == 1 and runs[0][0] == "FINISHED"


AS_RAY = """
from ray.air.integrations.mlflow import MLflowLoggerCallback, setup_mlflow
from ray.tune.logger.mlflow import MLflowLoggerCallback as same
import ray.air.integrations.mlflow as module
import sys
assert same is MLflowLoggerCallback and module.setup_mlflow is setup_mlflow
print(setup_mlflow.__module__, "mlflow" in sys.modules)
"""


def test_names_of_ray(tmp_path: Path) -> None:
    """An unchanged program under `skate run`; MLflow is imported only when it is used."""
    (tmp_path / "program.py").write_text(AS_RAY)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("skate")), "run", "program.py"], cwd=tmp_path,
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["skate.air.integrations.mlflow", "False"]


def test_without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clear error at once, which both kinds of `except` catch."""
    from skate.air.integrations import mlflow as ours

    monkeypatch.delitem(sys.modules, "mlflow")
    monkeypatch.setattr(sys, "path", [])
    for error in (ImportError, RuntimeError):
        with pytest.raises(error, match="pip install mlflow"):
            ours.setup_mlflow()
        with pytest.raises(error, match="pip install mlflow"):
            ours.MLflowLoggerCallback()


def test_workers_of_higher_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """They get a module that does nothing, at any depth."""
    from skate.air.integrations.mlflow import setup_mlflow
    from skate.tune import session

    class Second(session.TrialContext):
        def get_world_rank(self) -> int:
            return 1

    monkeypatch.setattr(session, "_trial", Second("id", "name", "/", "experiment"))
    noop = setup_mlflow({"a": 1}, "http://127.0.0.1:1", experiment_name="x")
    assert noop.log_metric("loss", 1.0) is None and noop.pyfunc.log_model("m") is None
