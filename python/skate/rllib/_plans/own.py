"""Plans of the algorithms that sample for themselves: ES and ARS, bandits, the random agent."""

from __future__ import annotations

import time
from typing import Any

from skate.rllib import _metrics
from skate.rllib._errors import UnsupportedConfigError
from skate.rllib._own_workers import flat_boards
from skate.rllib._plans import EnginePlan, Plan, Step
from skate.rllib._plans._batch import Batch
from skate.rllib._sampler import concat
from skate.rllib._trainer import Trainer

NOISE_SEED = 123            # of the noise table, as RLlib's
DEALS_MAX = 1000            # directions that are dealt out at once


class OneAgentPlan(EnginePlan):
    """A plan that has no use for multi-agent environments."""

    handles_agents = True

    def choose(self, about: dict[str, Any]) -> type[Plan]:
        """Itself. UnsupportedConfigError for a multi-agent environment."""
        if about.get("agents") is not None:
            raise UnsupportedConfigError(
                f"{self.spec.name} trains one policy in environments of one agent; this one is a "
                "MultiAgentEnv")
        return type(self)


class EvolutionPlan(OneAgentPlan):
    """ES and ARS: an iteration is a step from the returns of perturbed policies.

    Directions are dealt out in order, each with the seeds of its episodes, drawn from (seed,
    iteration): what comes out does not depend on the workers. Only positions in the noise table,
    returns and the observations' statistics travel.
    """

    worker = "_own_workers:EvolutionWorker"
    keeps_workers = False       # they begin anew with each direction
    records = False             # returns travel, not steps

    def describe(self, workers: Any) -> dict[str, Any]:
        """The workers' spaces; small images (boards) are rows of numbers."""
        about = super().describe(workers)
        options = self.spec.options(self.config)
        return {**about, "obs_space": flat_boards(about["obs_space"], options)}

    def build(self, about: dict[str, Any], workers: Any) -> None:
        """Engine and history."""
        super().build(about, workers)
        self._known, self.policy.filter = None, None    # the engine has the filter's weights
        self.counters.update(updates=0, episodes=0)
        self.history: list[float] = []      # of the means of the iterations' evaluations
        self.last_length = float("nan")
        self.n_net = int(self.engine.n_weights)
        self._filter = self.config["observation_filter"] not in (None, "NoFilter")

    def job(self, config: dict[str, Any]) -> dict[str, Any]:
        """The training's filter also in evaluation: it is part of the policy."""
        config = {**config, "observation_filter": self.config["observation_filter"]}
        return {**super().job(config), "observation_filter": None}

    def least(self) -> tuple[int, int]:
        """(episodes, steps) that an iteration must have."""
        config = self.config
        if self.spec.name == "ARS":
            return int(config["num_rollouts"]), 0
        return int(config["episodes_per_batch"]), int(config["train_batch_size"])

    def train_once(self) -> Step:
        """Deal directions until there are enough episodes and steps; then one update."""
        import numpy as np

        weights = self.policy.flat_weights()
        rng = np.random.default_rng([self.seed, self.counters["updates"]])
        episodes, steps = self.least()
        parts: list[dict[str, Any]] = []
        done = sampled = 0
        while done < episodes or sampled < steps:
            missing = max(-(-(episodes - done) // 2), 1)
            if done and sampled < steps:
                missing = max(missing, int((steps - sampled) / max(1.0, sampled / done) / 2))
            parts.append(self._deal(weights, rng, min(missing, DEALS_MAX), first=not parts))
            done += 2 * len(parts[-1]["positions"])
            sampled += int(parts[-1]["lengths"].sum())
        dealt = concat(parts)
        self.watch.lap("sample")
        stats = self.learn(self._batch(dealt))
        self.watch.lap("learn")
        self.counters["sampled"] += sampled
        self.counters["trained"] += sampled
        self.counters["updates"] += 1
        self.counters["episodes"] += done
        self._info = {**stats, "episodes_this_iter": done,
                      "episodes_so_far": self.counters["episodes"]}
        return Step({_metrics.DEFAULT_POLICY: stats}, sampled, self._episodes(dealt))

    def _deal(self, weights: Any, rng: Any, n: int, first: bool) -> dict[str, Any]:
        """The rows of `n` directions. The first of an iteration is evaluated in any case, so that
        every result says something (unless eval_prob is 0)."""
        import numpy as np

        config = self.config
        last = int(config["noise_size"]) - self.n_net
        tasks = []
        for i in range(n):
            position, plus, minus, evaluation = (
                int(rng.integers(last + 1)), *(int(x) for x in rng.integers(0, 2 ** 31, 3)))
            chance = float(rng.random()) < config["eval_prob"]
            wanted = chance or (first and i == 0 and config["eval_prob"] > 0)
            tasks.append((position, plus, minus, evaluation if wanted else -1))
        rules = {"noise_seed": NOISE_SEED, "noise_stdev": float(config["noise_stdev"]),
                 "offset": float(config.get("offset", 0)),
                 "action_noise_std": float(config["action_noise_std"])}
        workers = max(1, self.config["num_workers"])
        answers = self.workers.call("rollouts", weights, [
            (tasks[i::workers], rules) for i in range(workers)])
        rows: dict[str, Any] = {}
        for name, of_first in answers[0].items():
            rows[name] = np.empty((n, *of_first.shape[1:]), of_first.dtype)
            for i in range(workers):
                rows[name][i::workers] = answers[i][name]
        rows["positions"] = np.array([task[0] for task in tasks], np.int32)
        return rows

    def _batch(self, dealt: dict[str, Any]) -> Batch:
        import numpy as np

        columns = {"positions": dealt["positions"], "returns": dealt["returns"]}
        if self.config.get("return_proc_mode", "centered_rank") != "centered_rank":
            columns["sign_returns"] = dealt["signs"]
        if self._filter:
            size, counts = self.obs_space["size"], dealt["counts"]
            columns["filter_count"] = np.ascontiguousarray(counts[:, 0])
            columns["filter_mean"] = np.ascontiguousarray(counts[:, 1:1 + size])
            columns["filter_m2"] = np.ascontiguousarray(counts[:, 1 + size:])
        return Batch(columns, len(dealt["positions"]), 1)

    def _episodes(self, dealt: dict[str, Any]) -> _metrics.Episodes:
        """The evaluations; with eval_prob 0 the perturbed policies' episodes stand in."""
        import numpy as np

        known = dealt["evaluations"][~np.isnan(dealt["evaluations"][:, 0])]
        if not len(known):
            known = np.stack([dealt["returns"].reshape(-1), dealt["lengths"].reshape(-1)], 1)
        self.history.append(float(known[:, 0].mean()))
        del self.history[:-int(self.config["report_length"])]
        self.last_length = float(known[:, 1].mean())
        return _metrics.Episodes([float(x) for x in known[:, 0]], [int(x) for x in known[:, 1]])

    def report(self) -> dict[str, float]:
        """RLlib's mean: of the last report_length iterations' evaluations."""
        return {"episode_reward_mean": sum(self.history) / len(self.history),
                "episode_len_mean": self.last_length}

    def info(self) -> dict[str, Any]:
        """What RLlib has in result['info'] of these two."""
        return dict(self._info)

    def state_to_save(self) -> dict[str, Any]:
        """The means so far."""
        return {"history": self.history}

    def state_to_load(self, state: dict[str, Any]) -> None:
        """What state_to_save() gave."""
        self.history = [float(x) for x in state["history"]]


class EvolutionTrainer(Trainer):
    """With RLlib's own mean of the evaluations."""

    def step(self) -> dict[str, Any]:
        """One iteration."""
        result = super().step()
        numbers = self.plan.report()
        result.update(numbers)
        result["env_runners"]["episode_return_mean"] = numbers["episode_reward_mean"]
        result["env_runners"]["episode_len_mean"] = numbers["episode_len_mean"]
        return result


class BanditPlan(OneAgentPlan):
    """LinUCB and LinTS: act, see the reward, learn, train_batch_size rows at a time."""

    worker = "_own_workers:BanditWorker"

    def train_once(self) -> Step:
        """Rows of all workers, and one learn()."""
        parts, episodes, rows = [], _metrics.Episodes(), 0
        while rows < self.config["train_batch_size"]:
            for columns, ended in self.collect(int(self.config["rollout_fragment_length"])):
                parts.append(columns)
                episodes.extend(ended)
                rows += len(columns["rewards"])
        columns = concat(parts)
        self.watch.lap("sample")
        started = time.perf_counter()
        stats = self.learn(Batch({name: columns[name] for name in ("obs", "actions", "rewards")},
                                 rows, 1))
        self.watch.lap("learn")
        self.counters["sampled"] += rows
        self.counters["trained"] += rows
        stats["update_latency"] = time.perf_counter() - started
        if self.workers.local is not None:
            regret = self.workers.local.regret()
            if regret is not None:
                stats["cumulative_regret"] = regret
        return Step({_metrics.DEFAULT_POLICY: stats}, rows, episodes)


class RandomPlan(EnginePlan):
    """contrib/RandomAgent: rollouts_per_iteration episodes of uniform actions."""

    def train_once(self) -> Step:
        """The episodes; nothing is learned."""
        episodes, rows = _metrics.Episodes(), 0
        while len(episodes.rewards) < self.config["rollouts_per_iteration"]:
            for columns, ended in self.collect(int(self.config["rollout_fragment_length"])):
                episodes.extend(ended)
                rows += len(columns["rewards"])
        self.watch.lap("sample")
        self.counters["sampled"] += rows
        return Step({_metrics.DEFAULT_POLICY: {}}, rows, episodes)
