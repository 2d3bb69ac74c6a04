"""Asynchronous: workers sample all the time, the learner takes what has come.

IMPALA and APPO gather fragments, old ones among them with replay_proportion, until there are
train_batch_size rows, and learn from them; with minibatch_buffer_size > 1 batches take turns.
A3C has each worker compute a gradient, which is applied as soon as it is there. Each worker has
'max_sample_requests_in_flight_per_worker' calls on their way (A3C: one) with the weights of the
last broadcast; a new one is asked for when an answer is taken. Without actors (num_workers=0) the
same happens in turn.
"""

from __future__ import annotations

from typing import Any

from skate.rllib import _metrics
from skate.rllib._plans import EnginePlan, Step
from skate.rllib._plans._mix import MixIn, Ring, pack, unpack
from skate.rllib._plans.replay import STORED_MAX
from skate.rllib._sampler import concat


class InFlight:
    """Calls of one method that the workers are at, taken in the order in which they end."""

    def __init__(self, workers: Any, method: str, each: int) -> None:
        self._workers, self._method, self._each = workers, method, each
        self._asked: dict[Any, tuple[int, int, tuple[Any, ...]]] = {}

    def fill(self, arguments: tuple[Any, ...]) -> None:
        """As many calls for each worker as it may have."""
        counts = [0] * len(self._workers.remote)
        for number, _generation, _arguments in self._asked.values():
            counts[number] += 1
        for number, count in enumerate(counts):
            for _ in range(self._each - count):
                answer = self._workers.begin(number, self._method, arguments)
                self._asked[answer] = (number, self._workers.generation(number), arguments)

    def take(self) -> Any:
        """The next answer; None if it is one that a lost worker still owed. Blocks."""
        import skate as ray

        ready, _ = ray.wait(list(self._asked), num_returns=1)
        number, generation, arguments = self._asked.pop(ready[0])
        if generation != self._workers.generation(number):
            return None
        return self._workers.finish(number, ready[0], self._method, arguments)


class AsynchronousPlan(EnginePlan):
    """IMPALA and APPO: whole batches of fragments, put right by the loss."""

    method = "collect"

    def build(self, about: dict[str, Any], workers: Any) -> None:
        """Engine and policy; nothing is asked of the workers yet."""
        super().build(about, workers)
        self._steps = int(self.config["rollout_fragment_length"])
        self._sent: tuple[Any, int] | None = None
        each = int(self.config.get("max_sample_requests_in_flight_per_worker", 1))
        self._mix = MixIn(int(self.config.get("replay_buffer_num_slots", 0)),
                          float(self.config.get("replay_proportion", 0.0)), self.seed)
        size = int(self.config.get("minibatch_buffer_size", 1))
        self._ring = Ring(size, int(self.config["num_sgd_iter"]) if size > 1 else 1)
        self._flight = None if workers.local is not None else InFlight(workers, self.method, each)

    def arguments(self) -> tuple[Any, ...]:
        """Of the next call: the weights of the last broadcast."""
        every = int(self.config.get("broadcast_interval", 1))
        if self._sent is None or not 0 <= self.policy.version - self._sent[1] < every:
            self._sent = (self.workers.weights_of(self.policy), self.policy.version)
        return (*self._sent, self._steps, self.counters["sampled"], None, self._known)

    def answers(self) -> list[Any]:
        """At least one answer of a worker."""
        if self._flight is None:
            return list(self.collect(self._steps))
        while True:
            self._flight.fill(self.arguments())
            answer = self._flight.take()
            if answer is not None:
                self.note(answer[-1])
                return [answer]

    def note(self, ended: _metrics.Episodes) -> None:
        """What the worker's filter saw."""
        if self._known is not None:
            self._known.join(ended.noted)

    def gather(self, episodes: _metrics.Episodes) -> dict[str, Any]:
        """A train batch: new fragments and replayed ones; the new ones' rows are counted."""
        parts: list[dict[str, Any]] = []
        rows = 0
        while rows < self.config["train_batch_size"]:
            for columns, ended in self.answers():
                self.counters["sampled"] += len(columns["rewards"])
                episodes.extend(ended)
                mixed = self._mix(columns)
                parts += mixed
                rows += sum(len(part["rewards"]) for part in mixed)
        return concat(parts)

    def train_once(self) -> Step:
        """A batch, then learn() from it and from those that take turns with it."""
        episodes, before = _metrics.Episodes(), self.counters["sampled"]
        batches = self._ring.turns(lambda: self.gather(episodes))
        self.watch.lap("sample")
        self.schedules()
        whole = self.config["batch_mode"] == "complete_episodes"
        stats: dict[str, Any] = {}
        for columns in batches:
            stats = self.learn(self.for_learning(columns, 1 if whole else self._steps))
            self.counters["trained"] += len(columns["rewards"])
        self.watch.lap("learn")
        return Step({_metrics.DEFAULT_POLICY: stats}, self.counters["sampled"] - before, episodes)

    def save(self) -> dict[str, bytes]:
        """The engine, and what is replayed or has not had all its turns."""
        files = super().save()
        for name, part in self._keepers().items():
            block = pack(part.arrays())
            if part.arrays() and len(block) <= STORED_MAX:
                files[name] = block
        return files

    def _keepers(self) -> dict[str, Any]:
        return {"replayed.npz": self._mix, "turns.npz": self._ring}

    def state_to_save(self) -> dict[str, Any]:
        """Where replay and turns are."""
        return {name: part.state() for name, part in self._keepers().items()}

    def load(self, files: dict[str, bytes], state: dict[str, Any]) -> None:
        """What save() gave; without the batches both start anew."""
        kept = {name: unpack(files[name]) if name in files else []
                for name in self._keepers()}
        super().load(files, state)
        for name, part in self._keepers().items():
            told = state["plan_state"].get(name)
            if told is not None:
                part.restore(told, kept[name])


class GradientsPlan(AsynchronousPlan):
    """A3C: the workers' gradients, one after the other."""

    method = "gradient"
    records = False             # the steps stay with the workers

    def arguments(self) -> tuple[Any, ...]:
        """The newest weights, and what a worker needs to make sequences."""
        return (self.workers.weights_of(self.policy), self.policy.version, self._steps,
                self.counters["sampled"], self._known, int(self.config["model"]["max_seq_len"]))

    def answers(self) -> list[Any]:
        """One gradient."""
        if self._flight is not None:
            return super().answers()
        answer = self.workers.local.gradient(None, 0, self._steps, self.counters["sampled"],
                                             self._known, int(self.config["model"]["max_seq_len"]))
        self.note(answer[-1])
        return [answer]

    def train_once(self) -> Step:
        """As many gradients as there are workers."""
        episodes, rows, stats = _metrics.Episodes(), 0, {}
        for _ in range(max(1, len(self.workers.remote))):
            for flat, told, count, ended in self.answers():
                self.watch.lap("sample")
                self.schedules()
                self.engine.apply(flat)
                self.watch.lap("learn")
                episodes.extend(ended)
                rows += count
                stats = told
                self.counters["sampled"] += count
                self.counters["trained"] += count
        return Step({_metrics.DEFAULT_POLICY: stats}, rows, episodes)
