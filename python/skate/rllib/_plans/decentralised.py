"""Decentralised: every worker samples and learns, and their gradients are averaged (DDPPO).

An iteration is one call of each worker: a fragment, its advantages, then num_sgd_iter passes over
minibatches, whose gradients meet in an all-reduce (skate.util.collective) and are applied by all,
so that every worker holds the same parameters and optimiser. The first worker hands its state to
the trainer at the end, for checkpoints and get_policy(). A lost worker ends the iteration for all;
it is replaced, and the iteration is begun again from the state of the last whole one.
"""

from __future__ import annotations

import uuid
import zlib
from typing import Any

from skate.rllib import _metrics
from skate.rllib._errors import WorkerFailedError
from skate.rllib._plans import EnginePlan, Step
from skate.rllib._plans._batch import floats

WAIT_MS = 600_000       # for the slowest worker of an all-reduce
TRIES = 5               # iterations begun again in a row
LEARNED = ("obs", "actions", "logp", "vf", "inputs", "advantages", "value_targets")


# ---- in the worker --------------------------------------------------------------------------


def learn_together(sampler: Any, engine: Any, told: dict[str, Any]) -> tuple[Any, ...]:
    """One iteration of one worker: (statistics, rows, state or None, checksum of the weights,
    episodes that ended)."""
    import numpy as np

    rank, size = told["rank"], told["size"]
    if size > 1:
        _meet(told)
    if told["state"] is not None:
        engine.set_state(told["state"])
        _move_on(sampler, engine, rank)
    for name, value in told["set"].items():
        engine.set(name, value)
    columns, ended = sampler.collect(None, 0, told["steps"], told["timestep"], None,
                                     told["known"])
    batch = with_advantages(engine, columns, told["gamma"], told["lambda"])
    rows, minibatch = len(batch["rewards"]), told["minibatch"]
    flat = np.empty(engine.n_gradient, np.float32)
    rng = np.random.default_rng([told["seed"], rank, told["timestep"]])
    sums: dict[str, float] = {}
    count = 0
    for _ in range(told["epochs"]):
        order = rng.permutation(rows) if told["shuffle"] else np.arange(rows)
        for at in range(0, rows - minibatch + 1, minibatch):
            pick = order[at:at + minibatch]
            part = floats({name: batch[name][pick] for name in LEARNED})
            stats = engine.gradient(minibatch, 1, part, flat)
            if size > 1:
                from skate.util import collective

                collective.allreduce(flat, told["group"])
                flat /= size
            engine.apply(flat)
            count += 1
            for name, value in stats.items():
                sums[name] = sums.get(name, 0.0) + value
    means = {name: value / count for name, value in sums.items()}
    spread = float(np.var(batch["value_targets"]))
    means["vf_explained_var"] = (
        1.0 - float(np.var(batch["value_targets"] - batch["vf"])) / spread if spread > 0 else 0.0)
    weights = np.empty(engine.n_weights, np.float32)
    engine.get_weights(weights)
    return (means, rows, engine.state() if rank == 0 else None, zlib.crc32(weights.tobytes()),
            ended)


def _meet(told: dict[str, Any]) -> None:
    """Join the group of this round of workers; leave that of an earlier one."""
    from skate.util import collective

    if not collective.is_group_initialized(told["group"]):
        for name in told["earlier"]:
            collective.destroy_collective_group(name)
        collective.init_collective_group(told["size"], told["rank"], "gloo", told["group"],
                                         WAIT_MS)


def _move_on(sampler: Any, engine: Any, rank: int) -> None:
    """Workers with the same state shall not draw the same actions: the others draw some first."""
    import numpy as np

    from skate.rllib import _spaces

    if rank:
        engine.act(rank, {"obs": np.zeros((rank, sampler.obs_space["size"]), np.float32),
                          "actions": _spaces.action_rows(sampler.action_space, 1, rank)[0]})


def with_advantages(engine: Any, columns: dict[str, Any], gamma: float,
                    lam: float) -> dict[str, Any]:
    """The columns with 'advantages' (mean 0, deviation 1 over the batch) and 'value_targets'."""
    import numpy as np

    from skate import _rl

    flags = (_rl.TERMINATED * (columns["terminateds"] > 0)
             + _rl.TRUNCATED * (columns["truncateds"] > 0)
             + _rl.CUT * (columns["cuts"] > 0)).astype(np.uint8)
    boot = np.zeros_like(columns["rewards"])
    beyond = np.nonzero(flags & (_rl.TRUNCATED | _rl.CUT))[0]
    if len(beyond):
        values = np.zeros(len(beyond), np.float32)
        after = np.ascontiguousarray(columns["new_obs"][beyond], np.float32)
        engine.act(len(beyond), {"obs": after,
                                 "actions": np.ascontiguousarray(columns["actions"][beyond]),
                                 "vf": values}, explore=False)
        boot[beyond] = values
    advantages, targets = np.empty_like(boot), np.empty_like(boot)
    _rl.gae(columns["rewards"], columns["vf"], boot, flags, gamma, lam, advantages, targets)
    advantages = ((advantages - advantages.mean(dtype=np.float64))
                  / max(1e-4, float(advantages.std(dtype=np.float64)))).astype(np.float32)
    return {**columns, "advantages": advantages, "value_targets": targets}


# ---- in the trainer -------------------------------------------------------------------------


class DecentralisedPlan(EnginePlan):
    """DDPPO."""

    def build(self, about: dict[str, Any], workers: Any) -> None:
        """Engine and policy; the workers get the first state with the first iteration."""
        super().build(about, workers)
        self._name = f"ddppo-{uuid.uuid4().hex[:12]}"
        self._rounds = 0            # of workers: a new group for each
        self._stale = True          # the workers need the trainer's state

    def load(self, files: dict[str, bytes], state: dict[str, Any]) -> None:
        """What save() gave."""
        super().load(files, state)
        self._stale = True

    def _told(self) -> dict[str, Any]:
        config = self.config
        names = [name for name in ("lr", "entropy_coeff")
                 if config.get(f"{name}_schedule") is not None]
        return {
            "size": max(1, len(self.workers.remote)), "rank": 0, "state": None,
            "group": f"{self._name}-{self._rounds}",
            "earlier": [f"{self._name}-{i}" for i in range(self._rounds)][-TRIES:],
            "steps": int(config["rollout_fragment_length"]), "seed": self.seed,
            "timestep": self.counters["sampled"], "known": self._known,
            "shuffle": bool(config["shuffle_sequences"]),
            "gamma": float(config["gamma"]), "lambda": float(config["lambda"]),
            "minibatch": int(config["sgd_minibatch_size"]), "epochs": int(config["num_sgd_iter"]),
            "set": {name: self.scheduled(name) for name in names},
        }

    def train_once(self) -> Step:
        """One call of every worker."""
        if self.workers.local is not None:
            answers = [learn_together(self.workers.local, self.engine, self._told())]
        else:
            answers = self._together()
        self.watch.lap("learn")
        episodes, rows = _metrics.Episodes(), 0
        stats: dict[str, float] = {}
        for told, count, _state, _sum, ended in answers:
            episodes.extend(ended)
            rows += count
            if self._known is not None:
                self._known.join(ended.noted)
            for name, value in told.items():
                stats[name] = stats.get(name, 0.0) + value / len(answers)
        self.counters["sampled"] += rows
        self.counters["trained"] += rows
        return Step({_metrics.DEFAULT_POLICY: stats}, rows, episodes)

    def _together(self) -> list[Any]:
        """The workers' answers, of one iteration that none of them left."""
        import skate as ray

        for _ in range(TRIES):
            told = self._told()
            if self._stale:
                told["state"] = self.engine.state()
            asked = {self.workers.begin(i, "learn_together", ({**told, "rank": i},)): i
                     for i in range(told["size"])}
            self._stale = True
            answers, lost, error = self._gather(asked, told["group"])
            self._rounds += error is not None       # that group is no more
            if error is not None and (not isinstance(error, ray.exceptions.RayActorError)
                                      or not self.config["recreate_failed_workers"]):
                raise error
            if error is None:
                if len({answer[3] for answer in answers}) != 1:
                    raise WorkerFailedError("the workers' weights have come apart")
                self.engine.set_state(answers[0][2])
                self._stale = False
                return answers
            for number in lost:
                self.workers.renew(number, error)
        raise WorkerFailedError(f"workers were lost in {TRIES} iterations in a row") from error

    def _gather(self, asked: dict[Any, int], group: str) -> tuple[list[Any], list[int], Any]:
        """(answers by rank, workers that were lost, the first error). After an error the group is
        ended, so that nobody waits in it."""
        import skate as ray

        answers: list[Any] = [None] * len(asked)
        lost: list[int] = []
        first: Any = None
        while asked:
            if first is not None:
                self._end(group)        # again: a worker may have made it only now
            ready, _ = ray.wait(list(asked), num_returns=1, timeout=0.2 if first else None)
            if not ready:
                continue
            number = asked.pop(ready[0])
            try:
                answers[number] = ray.get(ready[0])
            except ray.exceptions.RayTaskError as error:
                first = first or error
            except ray.exceptions.RayActorError as error:
                lost.append(number)
                first = first or error
        return answers, lost, first

    @staticmethod
    def _end(group: str) -> None:
        import skate as ray

        try:
            ray.kill(ray.get_actor(f"group:{group}", namespace="skate.collective"))
        except (ValueError, ray.exceptions.RayActorError):
            pass                    # nobody has got that far, or it is gone already
