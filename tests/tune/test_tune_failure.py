"""Trials that fail, processes that are killed, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import pytest

from skate import tune
from skate.tune._runner import SYSTEM_RETRIES_MIN


class Counting(tune.Trainable):
    def setup(self, config):
        self.n = 0

    def step(self):
        self.n += 1
        if self.n == self.config.get("raise_at"):
            raise ZeroDivisionError("the user's own mistake")
        if self.n == self.config.get("die_at"):
            os.kill(os.getpid(), signal.SIGKILL)
        return {"n": self.n}

    def save_checkpoint(self, checkpoint_dir):
        return {"n": self.n}

    def load_checkpoint(self, checkpoint):
        self.n = checkpoint["n"]


class KillOnce(tune.Callback):
    """Kills the process of a trial at its third result."""

    def __init__(self):
        self.killed = 0

    def on_trial_result(self, iteration, trials, trial, result, **info):
        if result["n"] == 3 and not self.killed:
            self.killed = trial.pid
            os.kill(trial.pid, signal.SIGKILL)


@pytest.mark.parametrize("freq", [0, 1])
def test_a_killed_trial_is_started_again(cluster, results, caplog, freq):
    killer = KillOnce()
    analysis = tune.run(Counting, stop={"n": 6}, checkpoint_freq=freq, callbacks=[killer],
                        verbose=0)
    trial = analysis.trials[0]
    assert killer.killed and trial.pid != killer.killed
    assert trial.status == "TERMINATED" and trial.last_result["n"] == 6
    assert trial.num_failures == 1
    with open(f"{trial.logdir}/result.json") as source:
        seen = [json.loads(line)["n"] for line in source]
    # With checkpoints it goes on behind the last one (2 or 3), without them from the beginning.
    assert seen[:3] == [1, 2, 3] and seen[-1] == 6
    assert seen[3] == 1 if freq == 0 else seen[3] in (3, 4)
    assert "starting it again" in caplog.text


def test_a_trial_that_always_dies_fails_in_the_end(cluster, results):
    with pytest.raises(tune.TuneError, match="did not complete") as caught:
        tune.run(Counting, stop={"n": 6}, config={"die_at": 2}, verbose=0)
    (trial,) = caught.value.args[1]
    assert trial.status == "ERROR" and trial.num_failures == SYSTEM_RETRIES_MIN + 1
    assert "Failure # 4" in open(trial.error_file).read()


def test_a_user_exception_fails_its_trial_only(cluster, results, capsys):
    analysis = tune.run(Counting, stop={"n": 3}, config={"raise_at": tune.grid_search([2, 9])},
                        raise_on_failed_trial=False, verbose=1)
    bad, good = analysis.trials
    assert (bad.status, good.status) == ("ERROR", "TERMINATED") and bad.num_failures == 1
    text = open(bad.error_file).read()
    assert "ZeroDivisionError" in text and "the user's own mistake" in text and "step" in text
    out = capsys.readouterr().out
    assert "Number of errored trials: 1" in out and bad.error_file in out


def test_failed_trials_raise_by_default(cluster, results):
    with pytest.raises(tune.TuneError, match="did not complete") as caught:
        tune.run(Counting, stop={"n": 3}, config={"raise_at": 1}, verbose=0)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_max_failures_counts_user_exceptions(cluster, results):
    analysis = tune.run(Counting, stop={"n": 3}, config={"raise_at": 2}, max_failures=2,
                        raise_on_failed_trial=False, verbose=0)
    assert analysis.trials[0].num_failures == 3


def test_fail_fast_ends_the_others(cluster, results):
    analysis = tune.run(Counting, stop={"n": 10**9}, fail_fast=True, raise_on_failed_trial=False,
                        config={"raise_at": tune.grid_search([9, None, None])}, verbose=0)
    # The second ran beside the first and is ended at its next result; the third never started.
    assert [t.status for t in analysis.trials] == ["ERROR", "TERMINATED", "TERMINATED"]
    assert not analysis.trials[2].last_result
    with pytest.raises(ZeroDivisionError):
        tune.run(Counting, stop={"n": 3}, config={"raise_at": 1}, fail_fast="raise", verbose=0)


def test_setup_that_raises(cluster, results):
    class Broken(Counting):
        def setup(self, config):
            raise RuntimeError("no such data set")

    with pytest.raises(tune.TuneError) as caught:
        tune.run(Broken, stop={"n": 3}, verbose=0)
    assert "no such data set" in caught.value.args[1][0].error_msg


def blocks(config):
    tune.report(begun=1)
    threading.Event().wait()


class Interrupt(tune.Callback):
    """Presses Ctrl-C, in this process only, when a trial has given its first result."""

    at = 0.0

    def on_trial_result(self, iteration, trials, trial, result, **info):
        threading.Thread(target=self.press).start()

    def press(self):
        self.at = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_stops_the_trials_saves_the_state_and_comes_through(cluster, results, capsys):
    interrupt = Interrupt()
    with pytest.raises(KeyboardInterrupt):
        tune.run(blocks, name="stopped", callbacks=[interrupt], verbose=1)
    assert time.monotonic() - interrupt.at < 1.0
    assert "Number of trials: 1/1 (1 PAUSED)" in capsys.readouterr().out
    (state,) = (results / "stopped").glob("experiment_state-*.json")
    saved = json.loads(state.read_text())
    assert saved["trials"][0]["last_result"]["begun"] == 1
    # The session is usable after it, and the CPUs are back.
    analysis = tune.run(Counting, stop={"n": 2}, num_samples=2, verbose=0)
    assert [t.last_result["n"] for t in analysis.trials] == [2, 2]


def test_an_error_in_a_callback_leaves_no_trial_running(cluster, results):
    class Broken(tune.Callback):
        def on_trial_result(self, iteration, trials, trial, result, **info):
            raise LookupError("callback")

    with pytest.raises(LookupError):
        tune.run(blocks, callbacks=[Broken()], num_samples=2, verbose=0)
    assert tune.run(Counting, stop={"n": 1}, verbose=0).trials[0].status == "TERMINATED"
