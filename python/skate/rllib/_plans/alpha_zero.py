"""contrib/AlphaZero: games played with tree search, and a net that learns what the search found."""

from __future__ import annotations

import copy
from typing import Any

from skate.rllib import _metrics
from skate.rllib._own_workers import flat_boards, unmasked
from skate.rllib._plans import Step
from skate.rllib._plans._batch import Batch
from skate.rllib._plans._mix import pack, unpack
from skate.rllib._plans.own import OneAgentPlan
from skate.rllib._plans.replay import REPLAY_FILE, STORED_MAX
from skate.rllib._sampler import concat
from skate.rllib._trainer import Trainer

COLUMNS = ("obs", "mcts_policies", "action_mask", "value_label")


class AlphaZeroPlan(OneAgentPlan):
    """Whole episodes of at least rollout_fragment_length steps from each worker go into a buffer
    of batches; train_batch_size rows of it are learned num_sgd_iter times in minibatches."""

    worker = "_alpha_zero_worker:AlphaZeroWorker"
    keeps_workers = True        # games end with each round, an environment's own draws go on

    def describe(self, workers: Any) -> dict[str, Any]:
        """The workers' spaces; small images (boards) are rows of numbers."""
        about = super().describe(workers)
        options = self.spec.options(self.config)
        return {**about, "obs_space": flat_boards(about["obs_space"], options)}

    def build(self, about: dict[str, Any], workers: Any) -> None:
        """Engine, buffer, ranked rewards."""
        import numpy as np

        super().build(about, workers)
        self.counters.update(rounds=0, updates=0)
        self._buffer: list[dict[str, Any]] = []
        self._next = 0
        self._rng = np.random.default_rng([self.seed, 7])
        self.ranks: list[float] = []        # returns that rank new ones
        self.policy = _MaskedPolicy(self.engine, self.config, self.obs_space, self.action_space)
        self.policies = {_metrics.DEFAULT_POLICY: self.policy}

    # ---- ranked rewards (Laterre et al. 2018) -----------------------------------------------

    def threshold(self) -> float | None:
        """The return from which an episode counts as won, None without ranked rewards."""
        import numpy as np

        ranked = self.config["ranked_rewards"]
        if not ranked["enable"]:
            return None
        if not self.ranks and ranked["initialize_buffer"]:
            self._rank(self.workers.call("random_returns", None, self._each(
                (ranked["num_init_rewards"], self.seed)))[0])
        return float(np.percentile(self.ranks, ranked["percentile"])) if self.ranks else 0.0

    def _rank(self, returns: list[float]) -> None:
        self.ranks += returns
        del self.ranks[:-int(self.config["ranked_rewards"]["buffer_max_length"])]

    def _each(self, arguments: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return [arguments] * max(1, self.config["num_workers"])

    # ---- an iteration -----------------------------------------------------------------------

    def play(self, settings: dict[str, Any], steps: int, episodes: int) -> list[Any]:
        """(columns, episodes) of each worker: whole episodes, at least so many of both."""
        settings = {**settings, "threshold": self.threshold()}
        workers = max(1, self.config["num_workers"])
        seeds = self.counters["rounds"] * workers
        self.counters["rounds"] += 1
        answers: list[Any] = self.workers.call("play", self.policy.flat_weights(), [
            (steps, episodes, settings, (self.seed, seeds + i)) for i in range(workers)])
        return answers

    def train_once(self) -> Step:
        """One round of games, then one of learning."""
        config = self.config
        episodes, rows = _metrics.Episodes(), 0
        for columns, ended in self.play(config["mcts_config"],
                                        int(config["rollout_fragment_length"]), 1):
            episodes.extend(ended)
            rows += len(columns["value_label"])
            self._store(columns)
        if config["ranked_rewards"]["enable"]:
            self._rank(episodes.rewards)
        self.watch.lap("sample")
        self.counters["sampled"] += rows
        stats: dict[str, Any] = {}
        if self.counters["sampled"] >= config["learning_starts"] or config["simple_optimizer"]:
            self.schedules()
            stats = self._learn(self._draw())
        self.watch.lap("learn")
        return Step({_metrics.DEFAULT_POLICY: stats}, rows, episodes)

    def _store(self, columns: dict[str, Any]) -> None:
        if len(self._buffer) < int(self.config["buffer_size"]):
            self._buffer.append(columns)
        else:
            self._buffer[self._next] = columns
            self._next = (self._next + 1) % len(self._buffer)

    def _draw(self) -> dict[str, Any]:
        """train_batch_size rows or more: batches drawn from the buffer, or (simple_optimizer) the
        newest ones."""
        drawn, rows = [], 0
        if self.config["simple_optimizer"]:
            drawn, self._buffer, self._next = self._buffer, [], 0
            return concat(drawn)
        while rows < self.config["train_batch_size"]:
            drawn.append(self._buffer[int(self._rng.integers(len(self._buffer)))])
            rows += len(drawn[-1]["value_label"])
        return concat(drawn)

    def _learn(self, batch: dict[str, Any]) -> dict[str, Any]:
        """num_sgd_iter epochs of minibatches; the means of the last epoch."""
        import numpy as np

        config, rows = self.config, len(batch["value_label"])
        size = min(int(config["sgd_minibatch_size"]), rows)
        sums: dict[str, float] = {}
        for epoch in range(config["num_sgd_iter"]):
            order = (self._rng.permutation(rows) if config["shuffle_sequences"]
                     else np.arange(rows))
            starts = range(0, rows - size + 1, size)
            for start in starts:
                part = order[start:start + size]
                stats = self.learn(Batch({name: batch[name][part] for name in COLUMNS}, size, 1))
                if epoch == config["num_sgd_iter"] - 1:
                    for name, value in stats.items():
                        sums[name] = sums.get(name, 0.0) + value / len(starts)
        self.counters["trained"] += rows
        self.counters["updates"] += 1
        sums["cur_lr"] = self.scheduled("lr")
        return sums

    def save(self) -> dict[str, bytes]:
        """The engine, and the buffer up to STORED_MAX."""
        files, block = super().save(), pack(self._buffer)
        return {**files, REPLAY_FILE: block} if len(block) <= STORED_MAX else files

    def load(self, files: dict[str, bytes], state: dict[str, Any]) -> None:
        """What save() gave; the seeds of the games to come are the saved trainer's."""
        kept = unpack(files[REPLAY_FILE]) if REPLAY_FILE in files else []
        super().load(files, state)
        self._buffer = kept
        self._next = int(state["plan_state"]["next"]) if kept else 0
        self.seed = int(state["seed"])

    def state_to_save(self) -> dict[str, Any]:
        """The ranks, the draws, where the buffer is written next."""
        return {"ranks": self.ranks, "rng": self._rng.bit_generator.state, "next": self._next}

    def state_to_load(self, state: dict[str, Any]) -> None:
        """What state_to_save() gave."""
        self.ranks = [float(x) for x in state["ranks"]]
        self._rng.bit_generator.state = state["rng"]


class _MaskedPolicy:
    """An EnginePolicy that takes {'obs', 'action_mask'}, as RLlib's AlphaZero environments give."""

    def __new__(cls, *args: Any) -> Any:
        from skate.rllib._policy import EnginePolicy

        class Policy(EnginePolicy):
            """Acts on the net alone, without a search."""

            def compute_actions(self, obs_batch: Any, state: Any = None, *,
                                explore: bool | None = None, timestep: int | None = None,
                                **_ignored: Any) -> tuple[Any, list[Any], dict[str, Any]]:
                """As EnginePolicy's; forbidden actions are not taken."""
                import numpy as np

                rows = [unmasked(obs) for obs in obs_batch]
                if not any(mask is not None for _, mask in rows):
                    return super().compute_actions([obs for obs, _ in rows], state,
                                                   explore=explore)
                n, size = len(rows), int(self.engine.n_inputs)
                columns = {"obs": np.stack([self._flatten(obs) for obs, _ in rows]),
                           "mask": np.ones((n, size), np.float32),
                           "actions": np.zeros(n, np.int32), "logp": np.zeros(n, np.float32),
                           "vf": np.zeros(n, np.float32),
                           "inputs": np.zeros((n, size), np.float32)}
                for i, (_, mask) in enumerate(rows):
                    if mask is not None:
                        columns["mask"][i] = mask
                self.engine.act(n, columns, explore=self.config["explore"] if explore is None
                                else bool(explore))
                extra = {"vf_preds": columns["vf"], "action_logp": columns["logp"],
                         "action_dist_inputs": columns["inputs"]}
                return np.array([self._decode(x) for x in columns["actions"]]), [], extra

        return Policy(*args)


class AlphaZeroTrainer(Trainer):
    """Evaluates with the search, not with the net alone."""

    def _evaluate_start(self) -> None:
        """Nothing: the workers that train also evaluate."""

    def _evaluate_end(self) -> dict[str, Any]:
        config = self.config
        settings = copy.deepcopy(config["mcts_config"])
        settings.update(config["evaluation_config"].get("mcts_config", {}))
        wanted = config["evaluation_num_episodes"]
        if config["evaluation_duration"] not in (10, "auto"):
            wanted = int(config["evaluation_duration"])
        workers = max(1, config["num_workers"])
        episodes = _metrics.Episodes()
        for _columns, ended in self.plan.play(settings, 0, -(-wanted // workers)):
            episodes.extend(ended)
        result = _metrics.summary(episodes.rewards, episodes.lengths)
        result["episodes_this_iter"] = len(episodes.rewards)
        result["env_runners"] = {"episode_return_mean": result["episode_reward_mean"],
                                 "episode_len_mean": result["episode_len_mean"]}
        return {"evaluation": result}
