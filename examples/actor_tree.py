"""Program 2: actors. A counter, a tree of actors and functions, a parameter server.

1. The article's `Counter`: an ordinary class becomes an actor, a process with state.
2. A tree: each `Branch` actor owns smaller branches; the leaves call remote functions. Here the
   tree counts primes, each branch a part of the range.
3. A parameter server: one actor holds the weights of a model, several `Trainer` actors hold a shard
   of the data each and send gradients back, round by round.

Everything survives the death of any process: actors are declared with `max_restarts` and
`max_task_retries`; a restarted actor runs its constructor again, and the parameter server, the only
one whose state matters, takes its weights up again from a checkpoint. `--restarts 0` turns that
off: then a killed actor ends the program with an ActorDiedError.

    python examples/actor_tree.py --help
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from typing import Any

import numpy as np

import skate as ray

# ---------------------------------------------------------------- 1. the counter of the article


class Counter(object):  # noqa: UP004
    def __init__(self):
        self.value = 0

    def increment(self):
        self.value += 1
        return self.value

    def get_counter(self):
        return self.value


def run_counter(fault_options: dict[str, int], steps: int, step_seconds: float) -> None:
    RemoteCounter = ray.remote(Counter)
    counter_actor = RemoteCounter.options(**fault_options).remote()
    previous = 0
    for _ in range(steps):
        value = ray.get(counter_actor.increment.remote())
        # One more than before; 1 again only after a restart, which loses a plain actor's state.
        assert value == previous + 1 or (fault_options["max_restarts"] and value == 1)
        previous = value
        time.sleep(step_seconds)
    if not fault_options["max_restarts"]:
        assert ray.get(counter_actor.get_counter.remote()) == steps
    print(f"[1/3] counter: {steps} increments, value {previous}")


# ------------------------------------------------------------ 2. a tree of actors and functions


@ray.remote
def count_primes(low: int, high: int, seconds: float) -> int:
    """Primes in [low, high), by a sieve; takes at least `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        flags = np.ones(high, dtype=bool)
        flags[:2] = False
        for i in range(2, int(high**0.5) + 1):
            if flags[i]:
                flags[i * i :: i] = False
        if time.monotonic() >= deadline:
            return int(flags[low:].sum())


@ray.remote
class Branch:
    """A node of the tree. Its children are its own: they live and end with it."""

    def __init__(self, depth: int, fanout: int, fault_options: dict[str, int]) -> None:
        self.fanout = fanout
        self.children = []
        if depth > 1:
            child = Branch.options(**fault_options)
            self.children = [
                child.remote(depth - 1, fanout, fault_options) for _ in range(fanout)
            ]

    def count(self, low: int, high: int, seconds: float) -> int:
        cuts = np.linspace(low, high, self.fanout + 1).astype(int).tolist()
        parts = list(zip(cuts[:-1], cuts[1:], strict=True))
        if self.children:
            pairs = zip(self.children, parts, strict=True)
            refs = [child.count.remote(a, b, seconds) for child, (a, b) in pairs]
        else:
            refs = [count_primes.remote(a, b, seconds) for a, b in parts]
        return sum(ray.get(refs))


def run_tree(fault_options: dict[str, int], args: argparse.Namespace) -> None:
    root = Branch.options(**fault_options).remote(args.depth, args.fanout, fault_options)
    began = time.perf_counter()
    found = ray.get(root.count.remote(0, args.numbers, args.step_seconds))
    seconds = time.perf_counter() - began

    sieve = np.ones(args.numbers, dtype=bool)
    sieve[:2] = False
    for i in range(2, int(args.numbers**0.5) + 1):
        if sieve[i]:
            sieve[i * i :: i] = False
    assert found == int(sieve.sum()), f"the tree found {found} primes, there are {sieve.sum()}"

    actors = sum(args.fanout**level for level in range(args.depth))
    leaves = args.fanout**args.depth
    print(f"[2/3] tree: {actors} actors and {leaves} functions found {found} primes "
          f"below {args.numbers} in {seconds:.2f} s")


# ------------------------------------------------------------------------ 3. a parameter server


@ray.remote
class ParameterServer:
    """Holds the weights. `apply` names its round: a repeated call changes nothing.

    The weights are saved before a round is acknowledged, so a restarted server goes on where the
    killed one stopped.
    """

    def __init__(self, size: int, rate: float, checkpoint: str) -> None:
        self.rate = rate
        self.checkpoint = checkpoint
        self.round = 0
        self.weights = np.zeros(size)
        if os.path.exists(checkpoint):
            with np.load(checkpoint) as saved:
                self.round, self.weights = int(saved["round"]), saved["weights"]

    def apply(self, round_number: int, *gradients: np.ndarray) -> np.ndarray:
        if round_number == self.round:
            self.weights = self.weights - self.rate * np.mean(gradients, axis=0)
            self.round += 1
            self._save()
        return self.weights

    def get_weights(self) -> np.ndarray:
        return self.weights

    def _save(self) -> None:
        temporary = self.checkpoint + ".new"
        with open(temporary, "wb") as out:
            np.savez(out, round=self.round, weights=self.weights)
        os.replace(temporary, self.checkpoint)


@ray.remote
class Trainer:
    """Holds one shard of the data; its gradient depends on the weights only."""

    def __init__(self, features: np.ndarray, labels: np.ndarray) -> None:
        self.features = features
        self.labels = labels

    def gradient(self, weights: np.ndarray, seconds: float) -> np.ndarray:
        time.sleep(seconds)
        return logistic_gradient(self.features, self.labels, weights)


def logistic_gradient(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return x.T @ (1.0 / (1.0 + np.exp(-(x @ weights))) - y) / len(y)


def logistic_loss(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    margin = np.where(y > 0.5, 1.0, -1.0) * (x @ weights)
    return float(np.mean(np.logaddexp(0.0, -margin)))


def run_parameter_server(fault_options: dict[str, int], args: argparse.Namespace) -> None:
    generator = np.random.default_rng(args.seed)
    truth = generator.standard_normal(args.features)
    x = generator.standard_normal((args.examples, args.features))
    y = (x @ truth + 0.5 * generator.standard_normal(args.examples) > 0).astype(float)
    x_parts, y_parts = np.array_split(x, args.workers), np.array_split(y, args.workers)
    shards = list(zip(x_parts, y_parts, strict=True))

    with tempfile.TemporaryDirectory(prefix="actor-tree-") as folder:
        checkpoint = os.path.join(folder, "weights.npz")
        server = ParameterServer.options(**fault_options).remote(
            args.features, args.rate, checkpoint
        )
        # These refs are kept: a restarted trainer is given its shard again.
        stored = [(ray.put(xs), ray.put(ys)) for xs, ys in shards]
        trainers = [Trainer.options(**fault_options).remote(xs, ys) for xs, ys in stored]
        began = time.perf_counter()
        weights: Any = server.get_weights.remote()
        for round_number in range(args.rounds):
            # Refs in, refs out: nothing comes back to the driver between the rounds.
            gradients = [t.gradient.remote(weights, args.step_seconds) for t in trainers]
            weights = server.apply.remote(round_number, *gradients)
            if (round_number + 1) % max(1, args.rounds // 4) == 0:
                loss = logistic_loss(x, y, ray.get(weights))
                print(f"      round {round_number + 1:3d}: loss {loss:.4f}", flush=True)
        learned = ray.get(weights)
        seconds = time.perf_counter() - began

    # The same descent in this process, without any actor, must give the same weights.
    alone = np.zeros(args.features)
    for _ in range(args.rounds):
        alone = alone - args.rate * np.mean(
            [logistic_gradient(xs, ys, alone) for xs, ys in shards], axis=0
        )
    assert np.allclose(learned, alone, rtol=1e-9, atol=1e-12), "the weights differ"
    first, last = logistic_loss(x, y, np.zeros(args.features)), logistic_loss(x, y, learned)
    assert last < first, f"the loss went from {first} to {last}"
    accuracy = float(np.mean((x @ learned > 0) == (y > 0.5)))
    print(f"[3/3] parameter server: {args.workers} trainers, {args.rounds} rounds in "
          f"{seconds:.2f} s, loss {first:.4f} -> {last:.4f}, accuracy {accuracy:.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--restarts", type=int, default=4,
                        help="max_restarts and max_task_retries of every actor; 0: none")
    parser.add_argument("--increments", type=int, default=20, help="calls of the counter")
    parser.add_argument("--depth", type=int, default=2, help="levels of actors in the tree")
    parser.add_argument("--fanout", type=int, default=3, help="children of each actor")
    parser.add_argument("--numbers", type=int, default=300_000, help="the tree counts primes below")
    parser.add_argument("--workers", type=int, default=4, help="trainers of the parameter server")
    parser.add_argument("--rounds", type=int, default=40, help="rounds of gradient descent")
    parser.add_argument("--examples", type=int, default=20_000, help="examples in all")
    parser.add_argument("--features", type=int, default=50, help="weights of the model")
    parser.add_argument("--rate", type=float, default=1.0, help="learning rate")
    parser.add_argument("--step-seconds", type=float, default=0.0, help="least length of a step")
    parser.add_argument("--num-cpus", type=int, default=2, help="CPUs of the local cluster")
    parser.add_argument("--seed", type=int, default=1, help="seed of the data")
    args = parser.parse_args()

    fault_options = {"max_restarts": args.restarts, "max_task_retries": args.restarts}
    started = time.perf_counter()
    ray.init(num_cpus=args.num_cpus)
    print(f"[0/3] cluster of {args.num_cpus} CPUs up in {time.perf_counter() - started:.3f} s")
    run_counter(fault_options, args.increments, args.step_seconds)
    run_tree(fault_options, args)
    run_parameter_server(fault_options, args)
    print(f"      all checked; total {time.perf_counter() - started:.2f} s")
    ray.shutdown()


if __name__ == "__main__":
    main()
