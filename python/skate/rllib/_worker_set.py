"""WorkerSet: the rollout workers of one trainer, local or as actors, kept at strength.

sample() asks every worker for one fragment and returns them in worker order, whoever finishes
first, so that the same seed gives the same batch. A worker whose process was lost is replaced by
a new actor (a new stream of random numbers) and asked again; an exception of the environment is
the user's and is raised.
"""

from __future__ import annotations

import logging
from typing import Any

from skate.rllib import _config
from skate.rllib._errors import WorkerFailedError

logger = logging.getLogger(__name__)

LOSSES_MAX = 5      # in a row, of one worker


class WorkerSet:
    """num_workers actors, or one local worker."""

    def __init__(self, config: dict[str, Any], seed: int) -> None:
        self._config = config
        self._seed = seed
        self._generations = [0] * config["num_workers"]
        self.local: Any = None
        self.remote: list[Any] = []
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
            "horizon": config["horizon"], "index": index, "generation": generation,
            "seed": self._seed, "steps": steps, "cut": cut,
            "hiddens": list(config["model"]["fcnet_hiddens"]),
            "activation": config["model"]["fcnet_activation"],
            "registry": {key: value for key, value in _global_registry.export_entries().items()
                         if key[1] == config["env"]},
            "environ": dict(config["extra_python_environs_for_worker"]),
        }

    def _make_local(self, index: int) -> Any:
        from skate.rllib._worker import RolloutWorker

        return RolloutWorker(self.worker_spec(index, 0))

    def _make_remote(self, number: int) -> Any:
        import skate as ray
        from skate.rllib._worker import RolloutWorker

        config = self._config
        options: dict[str, Any] = {"num_cpus": self._cpus, "max_restarts": 0}
        if config["num_gpus_per_worker"]:
            options["num_gpus"] = config["num_gpus_per_worker"]
        if config["custom_resources_per_worker"]:
            options["resources"] = dict(config["custom_resources_per_worker"])
        actor = ray.remote(**options)(RolloutWorker)
        return actor.remote(self.worker_spec(number + 1, self._generations[number]))

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
            return [self.local.sample(weights, version)]
        import skate as ray

        arguments = (ray.put(weights), version)
        asked = [worker.sample.remote(*arguments) for worker in self.remote]
        return [self._await(i, asked[i], "sample", arguments) for i in range(len(asked))]

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

