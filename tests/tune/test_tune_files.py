"""Result files, the status block and the trainable by itself: nothing here needs a cluster."""

from __future__ import annotations

import csv
import io
import json
import math
import struct
import sys

import pytest

from skate import tune
from skate.tune._events import EventWriter, masked_crc32c
from skate.tune.logger import CSVLoggerCallback, JsonLoggerCallback, dumps, pretty_print
from skate.tune.progress_reporter import format_elapsed, format_table, say
from skate.tune.result import flatten, has, lookup
from skate.tune.stopper import DictStopper, TrialPlateauStopper, make_stopper
from skate.tune.trial import RUNNING, TERMINATED, Trial


class Counting(tune.Trainable):
    def setup(self, config):
        self.n = config.get("start", 0)

    def step(self):
        self.n += 1
        return {"n": self.n, "timesteps_this_iter": 10}

    def save_checkpoint(self, checkpoint_dir):
        return {"n": self.n}

    def load_checkpoint(self, checkpoint):
        self.n = checkpoint["n"]


class Files(Counting):
    def save_checkpoint(self, checkpoint_dir):
        path = f"{checkpoint_dir}/state"
        with open(path, "w") as out:
            out.write(str(self.n))
        return path

    def load_checkpoint(self, checkpoint):
        with open(checkpoint) as source:
            self.n = int(source.read())


@pytest.mark.parametrize("cls", [Counting, Files])
def test_trainable_saves_and_restores_by_itself(cls, results):
    first = cls(config={"start": 5})
    first.train()
    result = first.train()
    assert result["n"] == 7 and result["training_iteration"] == 2
    assert result["timesteps_total"] == 20 and result["config"] == {"start": 5}
    path = first.save()
    assert path.endswith("checkpoint_000002") and path.startswith(str(results))
    second = cls()
    second.restore(path)
    assert (second.n, second.iteration) == (7, 2)
    result = second.train()
    assert result["timesteps_total"] == 30 and result["iterations_since_restore"] == 1
    assert result["experiment_id"] == first._experiment_id


def test_restore_of_what_is_no_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="not a checkpoint"):
        Counting().restore(str(tmp_path))


def test_a_failed_save_leaves_nothing(tmp_path):
    class Bad(Counting):
        def save_checkpoint(self, checkpoint_dir):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        Bad().save(str(tmp_path / "checkpoint"))
    assert list(tmp_path.iterdir()) == []


def make_trial(index=0, **config):
    trial = Trial(trainable_name="PPO", trainable_cls=None, config={"env": "CartPole-v0", **config},
                  trial_id=f"abcde_{index:05d}", index=index,
                  chosen={(k,): v for k, v in config.items()})
    trial.status = RUNNING
    return trial


def test_names_are_those_that_users_know():
    trial = make_trial(2, lr=0.001)
    assert trial.name == "PPO_CartPole-v0_abcde_00002"
    assert trial.folder_name("2026-01-01_00-00-00") == (
        "PPO_CartPole-v0_abcde_00002_2_lr=0.001_2026-01-01_00-00-00")


def test_flatten_and_lookup():
    result = {"env_runners": {"episode_return_mean": 3.0}, "a/b": 1}
    assert flatten(result) == {"env_runners/episode_return_mean": 3.0, "a/b": 1}
    assert lookup(result, "env_runners/episode_return_mean") == 3.0
    assert lookup(result, "a/b") == 1
    assert not has(result, "env_runners/none") and lookup(result, "x/y", 7) == 7


def test_json_and_csv(tmp_path):
    np = pytest.importorskip("numpy")
    trial = make_trial(lr=np.float32(0.5))
    trial.logdir = str(tmp_path)
    results = [{"reward": np.float64(1.5), "n": np.int64(3), "nested": {"v": math.nan},
                "array": np.arange(2), "config": trial.config} for _ in range(2)]
    for logger in (JsonLoggerCallback(), CSVLoggerCallback()):
        logger.log_trial_start(trial)
        logger.log_trial_result(1, trial, results[0])
        logger.log_trial_end(trial)
        logger.log_trial_start(trial)  # the trial is started again and goes on in its files
        logger.log_trial_result(2, trial, results[1])
        logger.log_trial_end(trial)
    lines = (tmp_path / "result.json").read_text().splitlines()
    assert len(lines) == 2
    row = json.loads(lines[0])
    assert row["reward"] == 1.5 and row["array"] == [0, 1] and row["config"]["lr"] == 0.5
    rows = list(csv.DictReader(io.StringIO((tmp_path / "progress.csv").read_text())))
    assert [r["reward"] for r in rows] == ["1.5", "1.5"] and rows[0]["nested/v"] == "nan"
    assert json.loads((tmp_path / "params.json").read_text())["env"] == "CartPole-v0"
    assert (tmp_path / "params.pkl").exists()


def test_dumps_takes_anything():
    assert json.loads(dumps({1: {2}, "f": len, "t": int, "o": object()}))["1"] == [2]


def read_events(path):
    data, events = open(path, "rb").read(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        assert struct.unpack("<I", data[8:12])[0] == masked_crc32c(data[:8])
        body = data[12:12 + length]
        assert struct.unpack("<I", data[12 + length:16 + length])[0] == masked_crc32c(body)
        events.append(body)
        data = data[16 + length:]
    return events


def test_tensorboard_reads_our_events(tmp_path):
    assert masked_crc32c(b"123456789") == (
        ((0xE3069283 >> 15) | (0xE3069283 << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    writer = EventWriter(str(tmp_path))
    writer.add_scalars({"ray/tune/reward": 1.5, "ray/tune/big": 1e300}, 300)
    writer.close()
    events = read_events(writer.path)
    assert len(events) == 2
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    parsed = [event_pb2.Event.FromString(body) for body in events]
    assert parsed[0].file_version == "brain.Event:2"
    assert parsed[1].step == 300 and parsed[1].wall_time > 1e9
    values = {v.tag: v.simple_value for v in parsed[1].summary.value}
    assert values == {"ray/tune/reward": 1.5, "ray/tune/big": math.inf}


def test_table():
    assert format_table(["name", "lr"], [["a", 0.01], ["long one", 1.0]]) == [
        "+----------+------+",
        "| name     |   lr |",
        "|----------+------|",
        "| a        | 0.01 |",
        "| long one |    1 |",
        "+----------+------+"]
    assert format_elapsed(3685.414) == "01:01:25.41"


def test_status_block_has_what_the_elder_one_had():
    trials = [make_trial(i, lr=lr) for i, lr in enumerate((0.01, 0.001))]
    trials[0].pid, trials[0].node_ip = 42, "127.0.0.1"
    trials[0].update_last_result({
        "episode_reward_mean": 20.5, "episode_reward_max": 30.0, "episode_reward_min": 9.0,
        "episode_len_mean": 20.5, "timesteps_total": 4000, "training_iteration": 1,
        "time_total_s": 1.25})
    text = tune.CLIReporter(metric="episode_reward_mean", mode="max").text(trials, False, "Facts")
    for part in ("== Status ==", "Current time: ", "Memory usage on this node: ", "Facts",
                 "Number of trials: 2/2 (2 RUNNING)", "Trial name", "127.0.0.1:42",
                 "| total time (s) |", "|   ts |", "reward", "episode_reward_max",
                 "episode_len_mean", "Current best trial: abcde_00000", "20.5"):
        assert part in text, part


def test_many_trials_are_cut_but_not_at_the_end():
    trials = [make_trial(i) for i in range(30)]
    reporter = tune.CLIReporter(max_progress_rows=5)
    assert "... 25 more trials not shown (25 RUNNING)" in reporter.text(trials, False)
    assert "not shown" not in reporter.text(trials, True)


def test_reports_come_every_five_seconds_and_soon_after_changes(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    trials, reporter = [make_trial()], tune.CLIReporter()
    assert reporter.should_report(trials)
    reporter.report(trials, False)
    now[0] += 2
    assert not reporter.should_report(trials) and reporter.next_report_in() == 3
    trials[0].status = TERMINATED
    now[0] += 0.5
    assert reporter.should_report(trials)
    trials[0].status = RUNNING
    now[0] += 2.5
    assert reporter.should_report(trials) and reporter.should_report(trials, done=True)


def test_output_survives_odd_stdouts(monkeypatch):
    class NoFileno(io.StringIO):
        def fileno(self):
            raise io.UnsupportedOperation

    closed = io.StringIO()
    closed.close()
    for out in (NoFileno(), closed, None):
        monkeypatch.setattr(sys, "stdout", out)
        say("text")


def test_pretty_print():
    text = pretty_print({"b": {"x": 1.0}, "a": math.nan, "config": {"k": 1}, "none": None})
    assert text == "a: .nan\nb:\n  x: 1\n"


def test_stop_of_a_reward_adds_a_limit_of_steps():
    stopper = make_stopper({"episode_reward_mean": 200})
    result = {"episode_reward_mean": math.nan, "timesteps_total": 499_999}
    assert not stopper("t", result)
    assert stopper("t", {**result, "episode_reward_mean": 200.0})
    assert stopper("t", {**result, "timesteps_total": 500_000})
    assert "500,000" in stopper.describe()
    nested = make_stopper({"env_runners/episode_return_mean": 2})
    assert nested.default_steps_max == 500_000
    assert nested("t", {"env_runners": {"episode_return_mean": 2}})


@pytest.mark.parametrize("bounds", [
    {"episode_reward_mean": 200, "timesteps_total": 9}, {"training_iteration": 3},
    {"mean_accuracy": 0.9}, {"episode_reward_mean": 1, "time_total_s": 5}])
def test_stop_with_a_bound_has_no_hidden_limit(bounds):
    assert DictStopper(bounds).default_steps_max is None


def test_stop_key_that_no_result_has():
    with pytest.raises(tune.TuneError, match=r"'episode_reward'.*episode_reward_mean"):
        make_stopper({"episode_reward": 3})("t", {"episode_reward_mean": 1.0, "config": {}})


@pytest.mark.parametrize("bad", [3, "x", {"a": "b"}, {1: 2}, {"a": math.nan}, [1], object])
def test_bad_stop(bad):
    with pytest.raises((ValueError, TypeError)):
        make_stopper(bad)


def test_plateau():
    stopper = TrialPlateauStopper("m", std=0.1, num_results=2, grace_period=3)
    assert [stopper("t", {"m": v}) for v in (1, 1, 5, 5)] == [False, False, False, True]


def test_best_trial_scopes_skip_nan():
    trials = [make_trial(i) for i in range(3)]
    for trial, values in zip(trials, ([9, 1], [2, 3], [math.nan, math.nan]), strict=True):
        for value in values:
            trial.update_last_result({"m": float(value), "training_iteration": 1})
    analysis = tune.ExperimentAnalysis(trials=trials, default_metric="m", default_mode="max")
    assert analysis.best_trial is trials[1]
    assert analysis.get_best_trial(scope="all") is trials[0]
    assert analysis.get_best_trial(scope="avg") is trials[0]
    assert analysis.get_best_trial(mode="min") is trials[0]
    with pytest.raises(ValueError, match="metric"):
        tune.ExperimentAnalysis(trials=trials).best_trial  # noqa: B018


def test_checkpoint_is_a_path_and_an_object(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "f").write_text("x")
    checkpoint = tune.Checkpoint.from_directory(tmp_path / "a")
    assert checkpoint == str(tmp_path / "a") == checkpoint.path
    copy = checkpoint.to_directory(tmp_path / "b")
    with tune.Checkpoint(copy).as_directory() as folder:
        assert open(f"{folder}/f").read() == "x"
