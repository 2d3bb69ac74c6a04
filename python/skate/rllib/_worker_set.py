"""WorkerSet: the rollout workers of one trainer, local or as actors, kept at strength.

sample() asks every worker for one fragment and returns them in worker order, whoever finishes
first, so that the same seed gives the same batch. A worker whose process was lost is replaced by
a new actor (a new stream of random numbers) and asked again; an exception of the environment is
the user's and is raised.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

from skate.rllib import _config, _engine, _pictures
from skate.rllib._errors import WorkerFailedError

logger = logging.getLogger(__name__)

LOSSES_MAX = 5      # in a row, of one worker


class WorkerSet:
    """num_workers actors, or one local worker."""

    def __init__(self, config: dict[str, Any], seed: int,
                 worker: str = "_sampler:Sampler") -> None:
        """`worker` is 'module:Class' below skate.rllib: what a worker is."""
        self._worker = worker
        self._config = config
        self._seed = seed
        self._generations = [0] * config["num_workers"]
        self.local: Any = None
        self.remote: list[Any] = []
        self._job: dict[str, Any] | None = None
        self._sent: tuple[Any, int, Any] | None = None
        self._recorder: Any = None      # of config["output"]
        self.replaced = 0
        self._cpus: float = config["num_cpus_per_worker"]
        if config["num_workers"] == 0:
            self.local = self._make_local(0)
        else:
            self._fit()
            self.remote = [self._make_remote(i) for i in range(config["num_workers"])]

    def _fit(self) -> None:
        """Workers that the whole cluster cannot hold would be waited for without end: let them
        share its CPUs instead, after a warning (Tune does the same to whole trials)."""
        import skate as ray

        if not ray.is_initialized():
            ray.init()
        wanted = self._config["num_workers"] * self._cpus
        there = float(ray.cluster_resources().get("CPU", 0.0))
        if wanted > there:
            logger.warning(
                "num_workers=%d rollout workers ask for %g CPUs, the cluster has %g: they share "
                "them (num_cpus_per_worker=0)", self._config["num_workers"], wanted, there)
            self._cpus = 0

    def worker_spec(self, index: int, generation: int) -> dict[str, Any]:
        """What a RolloutWorker needs to know."""
        from skate.tune.registry import _global_registry

        config = self._config
        steps, cut = _config.fragment_steps(config)
        return {
            "env": config["env"], "env_config": dict(config["env_config"]),
            "num_envs": config["num_envs_per_worker"], "num_workers": config["num_workers"],
            "native_env": (config.get("native_env", "auto") if not config.get("render_env")
                           and not config.get("record_env")
                           and config["env_task_fn"] is None else False),
            "pictures": _pictures.options(config),
            "horizon": config["horizon"], "index": index, "generation": generation,
            "seed": self._seed, "steps": steps, "cut": cut,
            "hiddens": list(config["model"]["fcnet_hiddens"]),
            "activation": config["model"]["fcnet_activation"],
            "registry": {key: value for key, value in _global_registry.export_entries().items()
                         if key[1] == config["env"]},
            "environ": dict(config["extra_python_environs_for_worker"]),
            "framework": _engine.own_kind(config),
        }

    def _class(self) -> Any:
        module, _, name = self._worker.partition(":")
        return getattr(importlib.import_module(f"skate.rllib.{module}"), name)

    def _make_local(self, index: int) -> Any:
        return self._class()(self.worker_spec(index, 0))

    def _make_remote(self, number: int) -> Any:
        import skate as ray

        config = self._config
        options: dict[str, Any] = {"num_cpus": self._cpus, "max_restarts": 0}
        if config["num_gpus_per_worker"]:
            options["num_gpus"] = config["num_gpus_per_worker"]
        if config["custom_resources_per_worker"]:
            options["resources"] = dict(config["custom_resources_per_worker"])
        actor = ray.remote(**options)(self._class())
        made = actor.remote(self.worker_spec(number + 1, self._generations[number]))
        if self._job is not None:
            made.configure.remote(self._job)
        return made

    def describe(self) -> dict[str, Any]:
        """What the first worker says about its environment; all of them make theirs meanwhile."""
        if self.local is not None:
            return self.local.describe()
        answers = [worker.describe.remote() for worker in self.remote]
        return self._await(0, answers[0], "describe", ())

    def spaces(self) -> tuple[Any, Any]:
        """The environment's own (observation space, action space)."""
        if self.local is not None:
            return self.local.observation_space()
        return self._await(0, self.remote[0].observation_space.remote(), "observation_space", ())

    def sample(self, weights: Any, version: int) -> list[Any]:
        """One fragment of each worker, in worker order."""
        if self.local is not None:
            return self._fragments([self.local.sample(weights, version)])
        import skate as ray

        arguments = (ray.put(weights), version)
        asked = [worker.sample.remote(*arguments) for worker in self.remote]
        return self._fragments([self._await(i, asked[i], "sample", arguments)
                                for i in range(len(asked))])

    def record(self, about: dict[str, Any], log_dir: str | None) -> None:
        """From now on write what is sampled to config["output"], if it names something."""
        if self._config["output"] is not None:
            from skate.rllib.offline._output import Recorder

            self._recorder = Recorder(self._config, about.get("action_space"), log_dir)

    def _fragments(self, fragments: list[Any]) -> list[Any]:
        if self._recorder is not None:
            for fragment in fragments:
                self._recorder.fragment(fragment)
        return fragments

    def _columns(self, answers: list[Any]) -> list[Any]:
        if self._recorder is not None:
            for columns, _ended in answers:
                self._recorder.columns(columns)
        return answers

    def configure(self, job: dict[str, Any], engine: Any = None) -> None:
        """Say what to sample with (_engine.job_of()); a local worker shares `engine`."""
        self._job = job
        if self.local is not None:
            self.local.configure(job, engine)
        for worker in self.remote:
            worker.configure.remote(job)

    def collect(self, policy: Any, steps: int, timestep: int, known: Any = None) -> list[Any]:
        """(columns, episodes) of each worker, in worker order: `steps` steps of each of its
        environments with the weights of `policy`, an EnginePolicy. `known`: of its filter."""
        if self.local is not None:
            weights = None if self.local.shares(policy.engine) else policy.flat_weights()
            return self._columns([self.local.collect(weights, policy.version, steps, timestep,
                                                     None, known)])
        arguments = (self.weights_of(policy), policy.version, steps, timestep, None, known)
        asked = [worker.collect.remote(*arguments) for worker in self.remote]
        return self._columns([self._await(i, asked[i], "collect", arguments)
                              for i in range(len(asked))])

    def ask_to_play(self, policy: Any, amount: int, unit: str, explore: bool,
                    known: Any = None) -> Any:
        """Begin an evaluation; played() takes what this returns. The amount is shared out."""
        workers = max(1, len(self.remote))
        shares = [amount // workers + (i < amount % workers) for i in range(workers)]
        if self.local is not None:
            return (shares[0], unit, explore, known), policy
        weights = self.weights_of(policy)
        arguments = [(weights, policy.version, share, unit, explore, known) for share in shares]
        return arguments, [worker.play.remote(*a) if a[2] else None
                           for worker, a in zip(self.remote, arguments)]

    def played(self, asked: Any) -> list[Any]:
        """The episodes of each worker."""
        arguments, answers = asked
        if self.local is not None:
            return [self.local.play(answers.flat_weights(), answers.version, *arguments)]
        return [self._await(i, answer, "play", arguments[i])
                for i, answer in enumerate(answers) if answer is not None]

    def call(self, method: str, weights: Any, arguments: list[tuple[Any, ...]]) -> list[Any]:
        """method(weights, *arguments[i]) of each worker i, in worker order."""
        if self.local is not None:
            return [getattr(self.local, method)(weights, *arguments[0])]
        import skate as ray

        shared = ray.put(weights)
        calls = [(shared, *own) for own in arguments]
        asked = [getattr(worker, method).remote(*call)
                 for worker, call in zip(self.remote, calls)]
        return [self._await(i, asked[i], method, calls[i]) for i in range(len(asked))]

    def set_tasks(self, function: Any, result: dict[str, Any]) -> None:
        """env_task_fn after an iteration, in all workers."""
        if self.local is not None:
            self.local.set_tasks(function, result)
            return
        asked = [worker.set_tasks.remote(function, result) for worker in self.remote]
        for i, answer in enumerate(asked):
            self._await(i, answer, "set_tasks", (function, result))

    def keep(self) -> list[bytes]:
        """The state of each worker, for a checkpoint; b"" where it cannot be kept."""
        if not hasattr(self._class(), "keep"):
            return []
        if self.local is not None:
            return [self.local.keep()]
        asked = [worker.keep.remote() for worker in self.remote]
        return [self._await(i, answer, "keep", ()) for i, answer in enumerate(asked)]

    def go_on(self, blocks: list[bytes]) -> None:
        """What keep() gave; nothing if it is of another number of workers. ValueError."""
        if self.local is not None:
            if len(blocks) == 1:
                self.local.go_on(blocks[0])
            return
        if len(blocks) == len(self.remote):
            asked = [worker.go_on.remote(block)
                     for worker, block in zip(self.remote, blocks)]
            for i, answer in enumerate(asked):
                self._await(i, answer, "go_on", (blocks[i],))

    def weights_of(self, policy: Any) -> Any:
        """A reference to the policy's weights, put once for each version of them."""
        import skate as ray

        if self._sent is None or self._sent[0] is not policy or self._sent[1] != policy.version:
            self._sent = (policy, policy.version, ray.put(policy.flat_weights()))
        return self._sent[2]

    def columns(self) -> int:
        """Environments of all workers together."""
        return max(1, int(self._config["num_workers"])) * int(self._config["num_envs_per_worker"])

    def begin(self, number: int, method: str, arguments: tuple[Any, ...]) -> Any:
        """Ask one worker; finish() takes what this returns."""
        return getattr(self.remote[number], method).remote(*arguments)

    def finish(self, number: int, answer: Any, method: str, arguments: tuple[Any, ...]) -> Any:
        """The answer of one worker; if the worker was lost, that of its successor."""
        found = self._await(number, answer, method, arguments)
        return self._columns([found])[0] if method == "collect" else found

    def renew(self, number: int, error: BaseException) -> None:
        """A new worker for one that was lost."""
        self._replace(number, error)

    def generation(self, number: int) -> int:
        """How often a worker has been replaced."""
        return self._generations[number]

    def _await(self, number: int, answer: Any, method: str, arguments: tuple[Any, ...]) -> Any:
        """The answer of one worker; if the worker was lost, that of its successor."""
        import skate as ray

        for _ in range(LOSSES_MAX):
            try:
                return ray.get(answer)
            except ray.exceptions.RayTaskError:
                raise               # the environment's own exception
            except ray.exceptions.RayActorError as error:
                if not self._config["recreate_failed_workers"]:
                    raise
                lost = error
                self._replace(number, error)
                answer = getattr(self.remote[number], method).remote(*arguments)
        raise WorkerFailedError(
            f"rollout worker {number + 1} was lost {LOSSES_MAX} times in a row") from lost

    def _replace(self, number: int, error: BaseException) -> None:
        self._generations[number] += 1
        self.replaced += 1
        text = str(error).strip() or type(error).__name__
        logger.warning("rollout worker %d was lost and is replaced: %s", number + 1,
                       text.splitlines()[0])
        self.remote[number] = self._make_remote(number)

    def step_ms(self) -> float:
        """Mean milliseconds a step takes in the local worker (0 with actors: not asked)."""
        return self.local.step_ms() if self.local is not None else 0.0

    def stop(self) -> None:
        """End all workers."""
        if self._recorder is not None:
            self._recorder.close()
            self._recorder = None
        if self.local is not None:
            self.local.stop()
            self.local = None
        if not self.remote:
            return
        import skate as ray

        for worker in self.remote:
            try:
                ray.kill(worker)
            except Exception as error:
                logger.debug("cannot kill a rollout worker, ignoring: %s", error)
        self.remote = []

