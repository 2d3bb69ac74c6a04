"""The event loop of an experiment: starts trials, takes their results, ends them.

One thread, the caller's. Each live trial has exactly one call outstanding at its actor
(START, TRAIN, SAVE or STOP); ray.wait over all of them is the only place where the loop sleeps,
so a result is handled when it comes and nothing is polled.

    PENDING --START--> RUNNING --TRAIN--> result --(SAVE)--> TRAIN ... --(SAVE)--> STOP
       ^                  |                                                          |
       |   process died,  |  no tries left, or user code raised                      |
       '--- tries left ---+------------------> ERROR                    TERMINATED <-'

Admission is first in, first out among the trials whose request fits beside what is running, by
Tune's own count of the cluster; the actor then asks the scheduler for the head bundle only, as the
rest is asked for by the actors that the trial makes.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from skate.tune import result as keys
from skate.tune._actor import TrialActor
from skate.tune.callback import Callback
from skate.tune.error import TuneError
from skate.tune.logger import pretty_print, to_plain
from skate.tune.progress_reporter import CLIReporter, ProgressReporter, say
from skate.tune.registry import _global_registry
from skate.tune.resources import PlacementGroupFactory, fits
from skate.tune.schedulers import FIFOScheduler, TrialScheduler
from skate.tune.stopper import CombinedStopper, DictStopper, Stopper, TimeoutStopper
from skate.tune.trial import ERROR, PAUSED, PENDING, RUNNING, TERMINATED, Trial

logger = logging.getLogger("skate.tune")

START, TRAIN, SAVE, STOP = "START", "TRAIN", "SAVE", "STOP"

# A trial whose process died is started again at least so often (user exceptions: max_failures).
SYSTEM_RETRIES_MIN = 3
RESULT_BLOCK_INTERVAL_S = 30.0
STATE_SAVE_INTERVAL_S = 10.0
CLUSTER_LOOK_INTERVAL_S = 1.0
# How long the end of a trial may take before its process is killed.
STOP_TIMEOUT_S = 10.0
IDLE_WAIT_S = 5.0


@dataclass
class RunOptions:
    """Everything about how to run the trials, checked by tune.run()."""

    experiment_name: str
    experiment_dir: str
    stopper: Stopper
    time_budget: TimeoutStopper | None = None
    scheduler: TrialScheduler = field(default_factory=FIFOScheduler)
    callbacks: list[Callback] = field(default_factory=list)
    reporter: ProgressReporter = field(default_factory=CLIReporter)
    verbose: int = 3
    metric: str | None = None
    mode: str | None = None
    metric_is_strict: bool = False
    max_failures: int = 0
    fail_fast: bool | str = False
    checkpoint_freq: int = 0
    checkpoint_at_end: bool = False
    keep_checkpoints: int | None = None
    checkpoint_score: tuple[str, str] | None = None
    max_concurrent: int | None = None
    reuse_actors: bool = False
    num_samples: int = 1


class TrialRunner:
    """Runs the trials of one experiment; run() once."""

    def __init__(self, trials: list[Trial], options: RunOptions) -> None:
        self.trials = trials
        self.options = options
        self._pending: deque[Trial] = deque(trials)
        self._calls: dict[Any, tuple[Trial, str]] = {}
        self._live: dict[str, Trial] = {}
        self._deadlines: dict[str, float] = {}
        self._used: Counter[str] = Counter()
        # Processes between two trials, with the head bundle that they hold.
        self._idle: list[tuple[Any, PlacementGroupFactory, type]] = []
        self._shapes: set[PlacementGroupFactory] = set()
        self._cluster: dict[str, float] = {}
        self._cluster_time = float("-inf")
        self._iteration = 0
        self._stopping = False
        self._raise: BaseException | None = None
        self._stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        self._state_time = float("-inf")
        self._state_cost = 0.0
        self._start_wall = time.time()
        self._actor_class: Any = None
        self._stop_text = _describe(options.stopper)

    # ---- the loop ---------------------------------------------------------------------------

    def run(self) -> None:
        """To the end of all trials; or until Ctrl-C, which stops them and comes back out."""
        import skate as ray

        # The class's name stands before every line that a trial prints.
        name = self.trials[0].trainable_name
        self._actor_class = ray.remote(type(name, (TrialActor,), {"__module__": __name__}))
        os.makedirs(self.options.experiment_dir, exist_ok=True)
        finished = False
        try:
            self._look_at_cluster()
            self._fit_to_cluster()
            self._set_up_callbacks()
            if self.options.time_budget is not None:
                self.options.time_budget.start()
            self._loop()
            finished = True
        except KeyboardInterrupt:
            self._abandon(PAUSED)
            say("Interrupted: the trials' processes are stopped; the state of the experiment is "
                f"saved in {self.state_file}")
            raise
        finally:
            if not finished:
                self._abandon(PAUSED)
            self._drop_idle()
            self._save_state(force=True)
            self._emit("on_experiment_end")
            self._report(done=True)
        if self._raise is not None:
            raise self._raise

    def _loop(self) -> None:
        while True:
            self._iteration += 1
            self._emit("on_step_begin", iteration=self._iteration)
            self._check_stop_all()
            self._start_pending()
            if not self._calls:
                if self._pending and not self._stopping:
                    raise TuneError("no trial can be started")
                return
            self._report()
            for call in self._ready_calls():
                trial, kind = self._calls.pop(call, (None, ""))
                if trial is not None:
                    self._handle(trial, kind, call)
            self._end_overdue()
            self._save_state()
            self._emit("on_step_end", iteration=self._iteration)

    def _ready_calls(self) -> list[Any]:
        import skate as ray

        calls = list(self._calls)
        ready, _ = ray.wait(calls, num_returns=1, timeout=self._patience())
        if ready and len(calls) > 1:
            # What else is there already: cheaper than going round the loop for each.
            ready, _ = ray.wait(calls, num_returns=len(calls), timeout=0)
        return ready

    def _patience(self) -> float:
        """How long the loop may sleep: until the next report or deadline."""
        waits = [IDLE_WAIT_S]
        if self.options.verbose and isinstance(self.options.reporter, CLIReporter):
            waits.append(max(0.05, self.options.reporter.next_report_in()))
        now = time.monotonic()
        waits += [max(0.0, deadline - now) for deadline in self._deadlines.values()]
        if self.options.time_budget is not None and not self._stopping:
            waits.append(max(0.0, self.options.time_budget.remaining()))
        return min(waits)

    def _handle(self, trial: Trial, kind: str, call: Any) -> None:
        import skate as ray

        self._deadlines.pop(trial.trial_id, None)
        try:
            value = ray.get(call)
        except Exception as error:
            self._on_failure(trial, kind, error)
            return
        if kind == START:
            self._on_started(trial, value)
        elif kind == TRAIN:
            self._on_result(trial, value)
        elif kind == SAVE:
            self._on_saved(trial, value)
        else:
            self._on_stopped(trial)

    def _call(self, trial: Trial, kind: str, reference: Any) -> None:
        self._calls[reference] = (trial, kind)
        if kind == STOP or (kind == SAVE and self._stopping):
            self._deadlines[trial.trial_id] = time.monotonic() + STOP_TIMEOUT_S

    def _end_overdue(self) -> None:
        """Kill the processes of trials that do not end by themselves."""
        now = time.monotonic()
        for trial_id, deadline in list(self._deadlines.items()):
            if now >= deadline:
                trial = self._live[trial_id]
                self._forget_calls(trial)
                logger.warning("%s does not end within %g s, killing its process", trial,
                               STOP_TIMEOUT_S)
                self._release(trial, kill=True)
                self._finish(trial, TERMINATED)

    # ---- admission --------------------------------------------------------------------------

    def _look_at_cluster(self) -> None:
        import skate as ray

        now = time.monotonic()
        if now - self._cluster_time >= CLUSTER_LOOK_INTERVAL_S:
            self._cluster = dict(ray.cluster_resources())
            self._cluster_time = now

    def _fit_to_cluster(self) -> None:
        """Give trials that ask for more CPUs than there are the whole cluster, one at a time."""
        cpus = self._cluster.get("CPU", 0.0)
        largest = min(cpus, _largest_node_cpus(cpus))
        warned = False
        for trial in self.trials:
            wanted = trial.request.required_resources.get("CPU", 0.0)
            if wanted <= cpus or cpus <= 0:
                continue
            if not warned:
                logger.warning(
                    "Each trial asks for %g CPUs but the whole cluster has %g: trials run one "
                    "after another, each on all CPUs, with the workers it asked for sharing them.",
                    wanted, cpus)
                warned = True
            trial.overrides = _scaled_keys(trial, largest)
            others = {name: amount for name, amount in trial.request.required_resources.items()
                      if name != "CPU"}
            # The actor holds the largest node; the rest is only kept from other trials.
            bundles = [{"CPU": largest, **others}]
            if cpus > largest:
                bundles.append({"CPU": cpus - largest})
            trial.request = PlacementGroupFactory(bundles)
            trial.scaled = True
        self._shapes = {trial.request for trial in self.trials}
        for trial in self.trials:
            missing = [name for name, amount in trial.request.required_resources.items()
                       if amount > self._cluster.get(name, 0.0)]
            if missing or trial.request.head_cpus > largest:
                have = {name: self._cluster.get(name, 0.0) for name in missing}
                logger.warning(
                    "%s asks for %s but the cluster has %s: it waits for a node that can run it.",
                    trial, trial.request.bundles,
                    have or f"no node with more than {largest:g} CPUs")
                break

    def _start_pending(self) -> None:
        if self._stopping or not self._pending:
            return
        self._look_at_cluster()
        limit = self.options.max_concurrent
        refused: set[PlacementGroupFactory] = set()
        skipped: list[Trial] = []
        # Most experiments ask for the same in every trial: one refusal then ends the search.
        while self._pending and len(refused) < len(self._shapes) and (
                limit is None or len(self._live) < limit):
            trial = self._pending.popleft()
            need = trial.request.required_resources
            if trial.request not in refused and self._admits(need):
                self._start(trial)
                continue
            refused.add(trial.request)
            skipped.append(trial)
        self._pending.extendleft(reversed(skipped))

    def _admits(self, need: dict[str, float]) -> bool:
        if fits(need, self._used, self._cluster):
            return True
        # What no cluster of this size fits is sent anyway, alone: the scheduler knows whether a
        # node is to come, and the user has been told.
        return not self._live and not fits(need, {}, self._cluster)

    def _start(self, trial: Trial) -> None:
        """Get a process for the trial and build its trainable there."""
        assert trial.trainable_cls is not None
        if trial.logdir is None:
            trial.logdir = self._make_folder(trial)
        self._used.update(trial.request.required_resources)
        self._live[trial.trial_id] = trial
        trial.finishing = False
        trial.actor = self._take_idle(trial)
        if trial.actor is None:
            # Idle processes hold resources that Tune's count does not know of.
            self._drop_idle()
            trial.actor = self._new_actor(trial)
        restore = trial.checkpoint or trial.restore_path
        job = {
            "trainable": trial.trainable_cls,
            "config": {**trial.config, **trial.overrides},
            "registry": _global_registry.export_entries(),
            "restore": str(restore) if restore else None,
            "reset": self.options.reuse_actors,
            "context": {
                "trial_id": trial.trial_id, "trial_name": trial.name, "logdir": trial.logdir,
                "experiment_name": self.options.experiment_name,
                "resources": trial.request,
            },
        }
        try:
            reference = trial.actor.start.remote(job)
        except Exception:
            self._release(trial, kill=True)
            raise
        self._call(trial, START, reference)

    def _make_folder(self, trial: Trial) -> str:
        trial.experiment_name = self.options.experiment_name
        base = os.path.join(self.options.experiment_dir, trial.folder_name(self._stamp))
        path, again = base, 0
        while True:
            try:
                os.makedirs(path)
                return path
            except FileExistsError:
                if trial.custom_dirname:
                    return path
                again += 1
                path = f"{base}_{again}"

    def _new_actor(self, trial: Trial) -> Any:
        head = trial.request.head_bundle
        others = {name: amount for name, amount in head.items() if name not in ("CPU", "GPU")}
        cpus = self._head_cpus(trial)
        options: dict[str, Any] = {"num_cpus": cpus, "max_restarts": 0}
        if head.get("GPU"):
            options["num_gpus"] = head["GPU"]
        if others:
            options["resources"] = others
        return self._actor_class.options(**options).remote()

    def _head_cpus(self, trial: Trial) -> float:
        """CPUs that the trial's actor asks the scheduler for.

        A trial that was scaled to the whole cluster takes what is free of it, or it would wait
        for ever beside an actor that the user keeps alive.
        """
        cpus = trial.request.head_bundle.get("CPU", 0.0)
        if trial.scaled:
            import skate as ray

            free = dict(ray.available_resources()).get("CPU", 0.0)
            cpus = min(cpus, max(1.0, float(int(free))))
        return int(cpus) if cpus == int(cpus) else cpus

    def _take_idle(self, trial: Trial) -> Any:
        for index, (actor, request, cls) in enumerate(self._idle):
            if request == trial.request and cls is trial.trainable_cls:
                del self._idle[index]
                return actor
        return None

    def _drop_idle(self) -> None:
        for actor, _, _ in self._idle:
            _kill(actor)
        self._idle.clear()

    # ---- what trials say --------------------------------------------------------------------

    def _on_started(self, trial: Trial, info: dict[str, Any]) -> None:
        trial.pid, trial.node_ip = info["pid"], info["node_ip"]
        trial.start_time = time.monotonic()
        trial.status = RUNNING
        self._emit("on_trial_start", trial=trial)
        if trial.checkpoint or trial.restore_path:
            self._emit("on_trial_restore", trial=trial)
        self._train(trial)

    def _train(self, trial: Trial) -> None:
        if self._stopping:
            self._end(trial)
        else:
            self._call(trial, TRAIN, trial.actor.train.remote())

    def _on_result(self, trial: Trial, result: dict[str, Any]) -> None:
        if result.get(keys.DUPLICATE):
            # A function came to its end after its last report: that one was the final result.
            if trial.last_result:
                trial.last_result[keys.DONE] = True
                self._print_result(trial, trial.last_result, done=True)
            self._end(trial)
            return
        result[keys.TRIAL_ID] = trial.trial_id
        result[keys.EXPERIMENT_TAG] = trial.experiment_tag
        result[keys.CONFIG] = trial.config
        should_checkpoint = bool(result.pop(keys.SHOULD_CHECKPOINT, False))
        self._check_metric(trial, result)
        done = bool(result.get(keys.DONE)) or self.options.stopper(trial.trial_id, result)
        if not done:
            done = self.options.scheduler.on_trial_result(trial, result) == TrialScheduler.STOP
        result[keys.DONE] = done
        trial.update_last_result(result)
        self._emit("on_trial_result", trial=trial, result=result)
        self._print_result(trial, result, done)
        freq = self.options.checkpoint_freq
        iteration = result.get(keys.TRAINING_ITERATION) or 0
        if freq and iteration % freq == 0:
            should_checkpoint = True
        trial.finishing = done
        if should_checkpoint or (done and self._saves_at_end(trial)):
            self._call(trial, SAVE, trial.actor.save.remote(not _is_class_trainable(trial)))
        elif done:
            self._end(trial)
        else:
            self._train(trial)

    def _saves_at_end(self, trial: Trial) -> bool:
        return self.options.checkpoint_at_end or bool(
            getattr(trial.trainable_cls, "_checkpoint_at_end_by_default", False)
            or is_rllib(trial.trainable_cls))

    def _check_metric(self, trial: Trial, result: dict[str, Any]) -> None:
        metric = self.options.metric
        if metric and self.options.metric_is_strict and not trial.last_result \
                and not keys.has(result, metric):
            known = sorted(key for key in keys.flatten(result) if not key.startswith("config/"))
            raise ValueError(
                f"Trial {trial} returned a result which did not include the metric {metric!r} "
                f"that tune.run() was given. It did include: {', '.join(known)}")

    def _on_saved(self, trial: Trial, path: str | None) -> None:
        if path is not None:
            checkpoint = trial.add_checkpoint(path)
            self._trim_checkpoints(trial)
            self._emit("on_trial_save", trial=trial)
            self._emit("on_checkpoint", trial=trial, checkpoint=checkpoint)
        if trial.finishing:
            self._end(trial)
        else:
            self._train(trial)

    def _trim_checkpoints(self, trial: Trial) -> None:
        """Delete the worst ones above keep_checkpoints_num; the newest stays, for a restart."""
        import shutil

        keep = self.options.keep_checkpoints
        while keep is not None and len(trial.checkpoints) > keep:
            older = trial.checkpoints[:-1] if len(trial.checkpoints) > 1 else trial.checkpoints
            worst = older[0]
            if self.options.checkpoint_score is not None:
                name, order = self.options.checkpoint_score
                sign = 1 if order == "max" else -1
                worst = min(older, key=lambda item: sign * _number(keys.lookup(item[1], name)))
            trial.checkpoints.remove(worst)
            shutil.rmtree(worst[0].path, ignore_errors=True)

    def _end(self, trial: Trial) -> None:
        """Let the trainable clean up; its process is free afterwards."""
        trial.finishing = True
        self._call(trial, STOP, trial.actor.stop.remote())

    def _on_stopped(self, trial: Trial) -> None:
        self._release(trial, kill=not self._keeps_process(trial))
        self._finish(trial, TERMINATED)

    def _keeps_process(self, trial: Trial) -> bool:
        if not self._pending or self._stopping:
            return False
        return self.options.reuse_actors or bool(
            getattr(trial.trainable_cls, "_share_process_by_default", False)
            or is_rllib(trial.trainable_cls))

    def _release(self, trial: Trial, kill: bool) -> None:
        """Take the trial off its process and give back what it held."""
        actor, trial.actor = trial.actor, None
        if actor is not None:
            if kill:
                _kill(actor)
            else:
                assert trial.trainable_cls is not None
                self._idle.append((actor, trial.request, trial.trainable_cls))
        if self._live.pop(trial.trial_id, None) is not None:
            self._used.subtract(trial.request.required_resources)
        self._deadlines.pop(trial.trial_id, None)
        if not self._pending:
            self._drop_idle()

    def _finish(self, trial: Trial, status: str) -> None:
        trial.status = status
        self._emit("on_trial_error" if status == ERROR else "on_trial_complete", trial=trial)
        if status == TERMINATED and self.options.verbose == 2:
            say(f"Trial {trial} completed. Last result: {_brief(trial.last_result)}")
        self._save_state(changed=True)

    # ---- failure ----------------------------------------------------------------------------

    def _on_failure(self, trial: Trial, kind: str, error: Exception) -> None:
        system = is_system_failure(error)
        if kind == STOP:
            # The result is there; only its cleaning up failed.
            logger.warning("%s failed while ending, ignoring: %s", trial, _first_line(error))
            self._release(trial, kill=True)
            self._finish(trial, TERMINATED)
            return
        trial.num_failures += 1
        trial.num_system_failures += int(system)
        self._write_error(trial, error)
        self._release(trial, kill=True)
        if self._may_retry(trial, system):
            self._retry(trial, system, error)
            return
        trial.error = error
        if self.options.verbose:
            say(f"Trial {trial} failed: {_first_line(error)} (details: {trial.error_file})")
        self._finish(trial, ERROR)
        if self.options.fail_fast:
            self._stopping = True
            if self.options.fail_fast == "raise":
                self._raise = error
            self._stop_all()

    def _may_retry(self, trial: Trial, system: bool) -> bool:
        if self._stopping or self.options.fail_fast:
            return False
        allowed = self.options.max_failures
        if allowed < 0:
            return True
        if system:
            return trial.num_system_failures <= max(allowed, SYSTEM_RETRIES_MIN)
        return trial.num_failures - trial.num_system_failures <= allowed

    def _retry(self, trial: Trial, system: bool, error: Exception) -> None:
        source = f"from {os.path.basename(trial.checkpoint)}" if trial.checkpoint else (
            "from the beginning")
        what = "lost its process" if system else "failed"
        logger.warning("%s %s (%s); starting it again %s (failure %d)", trial, what,
                       _first_line(error), source, trial.num_failures)
        trial.status = PENDING
        trial.pid = None
        self._emit("on_trial_recover", trial=trial)
        self._pending.appendleft(trial)
        self._save_state(changed=True)

    def _write_error(self, trial: Trial, error: Exception) -> None:
        text = "".join(traceback.format_exception(type(error), error, None)).rstrip()
        trial.error_msg = text
        if trial.logdir is None:
            return
        with open(os.path.join(trial.logdir, "error.txt"), "a", encoding="utf-8") as out:
            out.write(f"Failure # {trial.num_failures} (occurred at "
                      f"{datetime.now():%Y-%m-%d_%H-%M-%S})\n{text}\n\n")

    # ---- ending all -------------------------------------------------------------------------

    def _check_stop_all(self) -> None:
        if self._stopping:
            return
        budget = self.options.time_budget
        if self.options.stopper.stop_all() or (budget is not None and budget.stop_all()):
            self._stopping = True
            self._stop_all()

    def _stop_all(self) -> None:
        """End every live trial: at its next result, or by force when that takes too long."""
        for trial in list(self._live.values()):
            if trial.status == PENDING:
                self._forget_calls(trial)
                self._release(trial, kill=True)
                trial.status = TERMINATED
            else:
                self._deadlines.setdefault(trial.trial_id, time.monotonic() + STOP_TIMEOUT_S)
        for trial in self._pending:
            trial.status = TERMINATED
        self._pending.clear()
        self._drop_idle()

    def _forget_calls(self, trial: Trial) -> None:
        for reference in [r for r, (t, _) in self._calls.items() if t is trial]:
            del self._calls[reference]

    def _abandon(self, status: str) -> None:
        """Kill every process at once; the trials keep what they have on disk."""
        for trial in list(self._live.values()):
            self._release(trial, kill=True)
            trial.status = status
        self._calls.clear()
        self._pending.clear()
        self._drop_idle()

    # ---- what others see --------------------------------------------------------------------

    def _set_up_callbacks(self) -> None:
        for callback in self.options.callbacks:
            callback.setup(stop=self.options.stopper, num_samples=self.options.num_samples,
                           total_num_samples=len(self.trials))
        self.options.reporter.setup(
            start_time=self._start_wall, total_samples=len(self.trials),
            metric=self.options.metric, mode=self.options.mode)

    def _emit(self, event: str, **info: Any) -> None:
        if event.startswith("on_trial") or event == "on_checkpoint":
            info["iteration"] = self._iteration
        for callback in self.options.callbacks:
            getattr(callback, event)(trials=self.trials, **info)

    def _report(self, done: bool = False) -> None:
        if not self.options.verbose:
            return
        reporter = self.options.reporter
        if reporter.should_report(self.trials, done=done):
            reporter.report(self.trials, done, *self._facts())
            if done and self.options.verbose >= 1:
                spent = time.time() - self._start_wall
                say(f"Total run time: {spent:.2f} seconds.")

    def _facts(self) -> Iterable[str]:
        """The lines of the status block that the reporter cannot know."""
        yield self.options.scheduler.debug_string()
        parts = []
        for name, title in (("CPU", "CPUs"), ("GPU", "GPUs")):
            parts.append(f"{self._used[name]:.1f}/{self._cluster.get(name, 0.0):g} {title}")
        for name, title in (("memory", "heap"), ("object_store_memory", "objects")):
            have = self._cluster.get(name, 0.0) / 2**30
            parts.append(f"{self._used[name] / 2**30:.1f}/{have:.1f} GiB {title}")
        yield "Resources requested: " + ", ".join(parts)
        if self._stop_text:
            yield f"Stop: {self._stop_text}"
        yield f"Result logdir: {self.options.experiment_dir}"

    def _print_result(self, trial: Trial, result: dict[str, Any], done: bool) -> None:
        now = time.monotonic()
        due = now - trial.last_printed >= RESULT_BLOCK_INTERVAL_S
        if self.options.verbose < 3 or not (due or done):
            return
        trial.last_printed = now
        body = pretty_print(result)
        say(f"Result for {trial}:\n" + "".join(f"  {line}\n" for line in body.splitlines()))

    @property
    def state_file(self) -> str:
        """Where the experiment's state is."""
        return os.path.join(self.options.experiment_dir, f"experiment_state-{self._stamp}.json")

    def _save_state(self, force: bool = False, changed: bool = False) -> None:
        """Write the state file anew, whole or not at all."""
        now = time.monotonic()
        # Never more than a twentieth of the time, however many trials there are.
        wait = max(1.0 if changed else STATE_SAVE_INTERVAL_S, 20 * self._state_cost)
        if not force and now - self._state_time < wait:
            return
        self._state_time = now
        state = {
            "version": 1,
            "name": self.options.experiment_name,
            "metric": self.options.metric,
            "mode": self.options.mode,
            "stop": self._stop_text,
            "start_time": self._start_wall,
            "time": time.time(),
            "trials": [_trial_state(trial) for trial in self.trials],
        }
        descriptor, temporary = tempfile.mkstemp(
            prefix=".state_", dir=self.options.experiment_dir)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(json.dumps(state))
        os.replace(temporary, self.state_file)
        self._state_cost = time.monotonic() - now


def _trial_state(trial: Trial) -> dict[str, Any]:
    return {
        "trial_id": trial.trial_id,
        "name": trial.name,
        "index": trial.index,
        "trainable_name": trial.trainable_name,
        "status": trial.status,
        "logdir": trial.logdir,
        "experiment_tag": trial.experiment_tag,
        "config": to_plain(trial.config),
        "evaluated_params": to_plain(trial.evaluated_params),
        "num_failures": trial.num_failures,
        "error": trial.error_msg,
        "checkpoints": [
            {"path": str(path), "result": to_plain(_without_config(result))}
            for path, result in trial.checkpoints],
        "last_result": to_plain(_without_config(trial.last_result)),
    }


def _without_config(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in (keys.CONFIG, "hist_stats")}


def _scaled_keys(trial: Trial, cpus: float) -> dict[str, Any]:
    """What a trial that gets the whole cluster must know: its actors ask for no CPUs."""
    cls: Any = trial.trainable_cls
    changed = cls.scale_trial_config(trial.config, cpus)
    if not changed and is_rllib(cls):
        changed = {"num_cpus_for_driver": int(cpus), "num_cpus_per_worker": 0}
    return changed


def _largest_node_cpus(default: float) -> float:
    """CPUs of the largest living node: no actor can have more."""
    import skate as ray

    return max((node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]),
               default=default)


def is_rllib(cls: Any) -> bool:
    """Whether a trainable is one of RLlib's, or made from one."""
    return any(base.__module__.startswith("skate.rllib") for base in getattr(cls, "__mro__", ()))


def _is_class_trainable(trial: Trial) -> bool:
    from skate.tune._function import FunctionRunner

    return not issubclass(trial.trainable_cls or object, FunctionRunner)


def is_system_failure(error: BaseException) -> bool:
    """Whether a process or node was lost, rather than user code having raised."""
    import skate as ray

    names = ("RayActorError", "WorkerCrashedError", "ObjectLostError", "NodeDiedError",
             "LocalRayletDiedError", "ActorUnavailableError")
    kinds = tuple(getattr(ray.exceptions, name) for name in names if hasattr(ray.exceptions, name))
    return isinstance(error, kinds)


def _kill(actor: Any) -> None:
    import skate as ray

    try:
        ray.kill(actor)
    except Exception as error:
        logger.debug("cannot kill a trial's actor, ignoring: %s", error)


def _describe(stopper: Stopper) -> str:
    if isinstance(stopper, DictStopper):
        return stopper.describe()
    if isinstance(stopper, CombinedStopper):
        return " or ".join(filter(None, map(_describe, stopper._stoppers)))
    return ""


def _brief(result: dict[str, Any]) -> str:
    shown = {key: value for key, value in result.items()
             if key not in keys.AUTO_KEYS and isinstance(value, (int, float))}
    return ", ".join(f"{key}={value:.6g}" for key, value in list(shown.items())[:6])


def _first_line(error: BaseException) -> str:
    """The cause in one line: of a remote traceback the last line, else the first."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        text = str(cause).strip().splitlines()
        return f"{type(cause).__name__}: {text[0]}" if text else type(cause).__name__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return float("-inf")
    return float("-inf") if number != number else number
