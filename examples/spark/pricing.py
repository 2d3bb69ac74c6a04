"""Prices for hire bikes: from a stream of requests to a learned policy in a UDF.

    files arrive                    Spark                                Skate, in the executors
    requests-0007.json --> stream --> Delta table --> pandas UDF --fan out--> a model a day, trained
                                                          |                   on the days before
                                                          v
                                        demand (objects of Skate) --> environment of Gymnasium
                                                                            |
      MLflow server <------ runs ------- Tune: PPO, several learning rates <-'
                                                          |
      a price for every state <-- pandas UDF <-- the best policy

Four stations hire out bikes by the day. A request sees one of eight prices and takes a bike or not;
when the bikes are gone, they are gone until tomorrow. Too cheap, and they are gone at noon; too
dear, and they stand. So far the prices were drawn from a list. This program plays the world, lets
its requests stream in, and learns better prices from nothing but what it saw. Since it made the
world, it knows the best prices, and at the end it says how near the learned ones come: exactly, by
adding up over all that can happen in a day.

    python examples/spark/pricing.py [--quick]

MLflow: the server that MLFLOW_TRACKING_URI names, else one that this program starts.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pandas as pd

STATIONS = ("harbour", "market", "museum", "campus")
PRICES = np.arange(3.0, 18.0, 2.0)
HOURS = 12
BIKES = 16
LEARN_AFTER = 5  # days, before the first model of a station
STATE = ("station", "sunny", "hour", "bikes_left")
COLUMNS = {"request": "long", "day": "int", **dict.fromkeys(STATE, "int"), "price": "double",
           "taken": "int"}  # fmt: skip
SCHEMA = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())

# ---- the world, of which the rest of the program sees only requests --------------------------


def real_demand() -> dict[str, Any]:
    """Requests an hour [station, sunny, hour] and the chance that one is taken [.., .., price]."""
    rate = np.array([3.0, 2.4, 2.0, 3.4])[:, None, None] * np.array([1.0, 1.5])[None, :, None]
    course = np.array([0.5, 0.8, 1.0, 0.8, 0.7, 1.0, 1.2, 1.1, 1.0, 1.3, 1.5, 0.9])
    worth = np.array([11.0, 8.0, 9.0, 6.0])[:, None] + np.array([0.0, 2.0])
    spread = np.array([2.0, 1.5, 2.5, 1.5])[:, None, None]
    chance = 1.0 / (1.0 + np.exp((PRICES - worth[:, :, None]) / spread))
    return {"requests": rate * course, "chance": chance}


def play_world(days: int, seed: int) -> pd.DataFrame:
    """Every request of so many days, at prices drawn from the six in the middle of the list."""
    demand, rng, rows = real_demand(), np.random.default_rng(seed), []
    for day in range(days):
        sunny = int(rng.integers(2))
        left = [BIKES] * len(STATIONS)
        for hour in range(HOURS):
            for s in range(len(STATIONS)):
                for _ in range(rng.poisson(demand["requests"][s, sunny, hour])):
                    p = int(rng.integers(1, len(PRICES) - 1))
                    taken = int(left[s] > 0 and rng.random() < demand["chance"][s, sunny, p])
                    rows.append((len(rows), day, s, sunny, hour, left[s], PRICES[p], taken))
                    left[s] -= taken
    return pd.DataFrame(rows, columns=list(COLUMNS))


def hired(mean: float) -> np.ndarray:
    """[bikes left, k]: the chance that k bikes are hired out of those left in one hour."""
    k = np.arange(BIKES + 1)
    wanted = np.exp(k * math.log(mean) - mean - np.array([math.lgamma(i + 1.0) for i in k]))
    chances = np.tril(np.tile(wanted, (BIKES + 1, 1)), -1)
    return chances + np.diag(1.0 - chances.sum(axis=1))


def day_revenue(demand: dict[str, Any], rule: np.ndarray | None = None) -> float:
    """What a station takes in on a day, in the mean: exactly, hour by hour from the last one.

    rule: the chance of each price, [station, sunny, hour, bikes left, price]. None: the best price
    in every state.
    """
    k = np.arange(BIKES + 1)
    after = np.maximum(k[:, None] - k, 0)  # bikes left when k of them were hired
    total = 0.0
    for s in range(len(STATIONS)):
        for sunny in range(2):
            later = np.zeros(BIKES + 1)
            for hour in reversed(range(HOURS)):
                means = demand["requests"][s, sunny, hour] * demand["chance"][s, sunny]
                takings = np.stack([
                    (hired(m) * (price * k + later[after])).sum(axis=1)
                    for m, price in zip(means, PRICES)], axis=1)  # fmt: skip
                if rule is None:
                    later = takings.max(axis=1)
                else:
                    later = (takings * rule[s, sunny, hour]).sum(axis=1)
            total += later[BIKES]
    return total / (2 * len(STATIONS))


def always(prices: Any) -> np.ndarray:
    """The rule that draws from these prices, whatever happens."""
    chosen = np.isin(PRICES, prices) / np.size(prices)
    return np.broadcast_to(chosen, (len(STATIONS), 2, HOURS, BIKES + 1, len(PRICES)))


# ---- 1. the stream, into a Delta table ----------------------------------------------------------


def drop_files(requests: pd.DataFrame, folder: Path, days_a_file: int) -> None:
    """What the stations send: a file of JSON lines for some days; each appears at once, whole."""
    for number, (_, part) in enumerate(requests.groupby(requests["day"] // days_a_file)):
        hidden = folder / f".part-{number:04d}"
        part.to_json(hidden, orient="records", lines=True)
        hidden.rename(folder / f"requests-{number:04d}.json")


def stream_to_delta(spark: Any, requests: pd.DataFrame, folder: Path, table: str) -> int:
    """Let the files arrive while a stream reads them. Returns the number of versions it made."""
    from deltalake import DeltaTable

    from skate.util.spark import register_delta

    register_delta(spark)
    arriving = folder / "arriving"
    arriving.mkdir()
    stream = spark.readStream.schema(SCHEMA).option("maxFilesPerTrigger", 4).json(str(arriving))
    query = (
        stream.writeStream.format("delta_py").option("partitionBy", "station")
        .option("checkpointLocation", str(folder / "checkpoint")).start(table)
    )  # fmt: skip
    stations = threading.Thread(target=drop_files, args=(requests, arriving, 5))
    stations.start()
    stations.join()
    query.processAllAvailable()
    query.stop()
    return len(DeltaTable(table).history())


def read_delta(table: str) -> pd.DataFrame:
    """The table as deltalake sees it, without Spark; in the order of the requests."""
    from deltalake import DeltaTable

    rows = DeltaTable(table).to_pyarrow_table().to_pandas()
    return rows.sort_values("request", ignore_index=True)[list(COLUMNS)]


# ---- 2. scores: models trained on the days before, fanned out by a pandas UDF -------------------


def train_model(x: np.ndarray, taken: np.ndarray) -> Any:
    """Who takes a bike, by price and weather."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=100.0).fit(x, taken)


def score_day(day: int, x: np.ndarray, taken: np.ndarray, days: np.ndarray) -> np.ndarray:
    """The chances of a day's requests, by a model that has seen the days before."""
    before, today = days < day, days == day
    if not today.any():
        return np.empty(0)
    return train_model(x[before], taken[before]).predict_proba(x[today])[:, 1]


def model_columns(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a model sees, what it shall foretell, and the days."""
    x = np.ascontiguousarray(rows[["price", "sunny"]].to_numpy(np.float64))
    return x, rows["taken"].to_numpy(), rows["day"].to_numpy()


def make_scorer(address: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """The UDF for the requests of one station: adds what a model of the days before foretold."""

    def score(rows: pd.DataFrame) -> pd.DataFrame:
        from skate.util.spark import attach, fan_out

        attach(address)
        rows = rows.sort_values("request", ignore_index=True)
        columns = model_columns(rows)
        days = columns[2]
        later = range(LEARN_AFTER, int(days.max()) + 1)
        chances = fan_out(score_day, later, broadcast=columns)
        rows["chance"] = np.nan
        rows.loc[days >= LEARN_AFTER, "chance"] = np.concatenate(chances)
        return rows

    return score


def score_table(spark: Any, table: str, address: str) -> Any:
    """The requests that could have had a bike, with a column `chance`."""
    rows = spark.read.format("delta_py").load(table).where("bikes_left > 0")
    return rows.groupBy("station").applyInPandas(make_scorer(address), f"{SCHEMA}, chance double")


# ---- 3. an environment made of the table, and an agent ------------------------------------------


def estimate_demand(every: pd.DataFrame, *scored: Any) -> dict[str, Any]:
    """What the table says about requests and chances, in the form of real_demand().

    every: all requests, for how many there are. scored: the table's blocks, which lie in the
    nodes' memory since the scoring; for what is taken at which price.
    """
    rows = pd.concat([block.to_pandas() for block in scored])
    requests = np.empty((len(STATIONS), 2, HOURS))
    chance = np.empty((len(STATIONS), 2, len(PRICES)))
    for s in range(len(STATIONS)):
        mine = rows[rows["station"] == s]
        model = train_model(*model_columns(mine)[:2])
        for sunny in range(2):
            days = every.loc[every["sunny"] == sunny, "day"].nunique()
            seen = every[(every["station"] == s) & (every["sunny"] == sunny)]
            requests[s, sunny] = np.bincount(seen["hour"], minlength=HOURS) / max(1, days)
            states = np.column_stack([PRICES, np.full(len(PRICES), float(sunny))])
            chance[s, sunny] = model.predict_proba(states)[:, 1]
    return {"requests": np.maximum(requests, 0.05), "chance": chance}


def observe(station: Any, sunny: Any, hour: Any, bikes_left: Any) -> np.ndarray:
    """What the agent sees of states: a row each."""
    seen = np.zeros((np.size(station), 3 + len(STATIONS)), np.float32)
    seen[:, 0] = 1.0 - np.asarray(hour) / HOURS
    seen[:, 1] = np.asarray(bikes_left) / BIKES
    seen[:, 2] = sunny
    seen[np.arange(len(seen)), 3 + np.asarray(station)] = 1.0
    return seen


class HireDay(gymnasium.Env):
    """A day at one of the stations: a price each hour; the reward is what it brings, by 50."""

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (3 + len(STATIONS),), np.float32)
    action_space = gymnasium.spaces.Discrete(len(PRICES))

    def __init__(self, config: dict[str, Any]) -> None:
        requests, chance = np.asarray(config["requests"]), np.asarray(config["chance"])
        self.takers = requests[:, :, :, None] * chance[:, :, None, :]  # in the mean
        self.rng = np.random.default_rng(config["seed"])

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """A new morning."""
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.station, self.sunny = int(self.rng.integers(len(STATIONS))), int(self.rng.integers(2))
        self.hour, self.left = 0, BIKES
        return self._seen(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """An hour at the price of that number."""
        mean = self.takers[self.station, self.sunny, self.hour, action]
        out = min(self.left, int(self.rng.poisson(mean)))
        self.left -= out
        self.hour += 1
        return self._seen(), out * PRICES[action] / 50.0, self.hour == HOURS, False, {}

    def _seen(self) -> Any:
        return observe(self.station, self.sunny, self.hour, self.left)[0]


def agent_config(demand: dict[str, Any], seed: int) -> dict[str, Any]:
    """RLlib's settings, but for what is searched."""
    return {
        "env": "hire-day", "num_workers": 0, "seed": seed, "gamma": 1.0, "lambda": 0.95,
        "env_config": {**{k: v.tolist() for k, v in demand.items()}, "seed": seed},
        "train_batch_size": 3000, "sgd_minibatch_size": 250, "num_sgd_iter": 10,
        "vf_clip_param": 1000.0, "model": {"fcnet_hiddens": [64, 64]},
    }  # fmt: skip


def train_agents(config: dict[str, Any], steps: int, folder: Path, tags: dict[str, str]) -> Any:
    """PPO with some learning rates, as trials of Tune; each is a run in MLflow."""
    from skate import tune
    from skate.air.integrations.mlflow import MLflowLoggerCallback

    tune.register_env("hire-day", HireDay)
    callback = MLflowLoggerCallback(experiment_name="bike-prices", tags=tags, save_artifact=True)
    return tune.run(
        "PPO", config={**config, "lr": tune.grid_search([0.003, 0.001, 0.0003])},
        stop={"timesteps_total": steps}, metric="episode_reward_mean", mode="max",
        checkpoint_at_end=True, local_dir=str(folder / "results"), callbacks=[callback], verbose=0,
    )  # fmt: skip


# ---- 4. the policy, back in Spark ---------------------------------------------------------------


def policy_weights(checkpoint: str, config: dict[str, Any]) -> dict[str, Any]:
    """The weights in a checkpoint: a few kilobytes, which a UDF can carry."""
    from skate.rllib.agents.ppo import PPOTrainer

    trainer = PPOTrainer(config={**config, "env": HireDay}, env=HireDay)
    trainer.restore(checkpoint)
    return dict(trainer.get_weights())


def make_price_udf(config: dict[str, Any], weights: dict[str, Any]) -> Any:
    """The UDF from a state to a price."""
    from pyspark.sql.functions import pandas_udf

    def price(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
        from skate.rllib.agents.ppo import PPOTrainer

        trainer = PPOTrainer(config={**config, "env": HireDay}, env=HireDay)
        trainer.set_weights(weights)
        policy = trainer.get_policy()
        for states in batches:
            seen = observe(*(column.to_numpy() for column in states))
            actions, _, _ = policy.compute_actions(seen, explore=False)
            yield pd.Series(PRICES[actions])

    # Written out: with postponed evaluation Spark would see text.
    price.__annotations__ = {"batches": Iterator[tuple[pd.Series, ...]],
                             "return": Iterator[pd.Series]}  # fmt: skip
    return pandas_udf(price, "double")


def price_list(spark: Any, udf: Any) -> pd.DataFrame:
    """A row for every state of every station, with its price."""
    states = spark.range(len(STATIONS) * 2 * HOURS * (BIKES + 1))
    states = states.selectExpr(
        f"int(id div {2 * HOURS * (BIKES + 1)}) station", f"int(id div {HOURS * (BIKES + 1)} % 2) "
        "sunny", f"int(id div {BIKES + 1} % {HOURS}) hour", f"int(id % {BIKES + 1}) bikes_left")
    return states.withColumn("price", udf(*STATE)).toPandas().sort_values(list(STATE))


def as_rule(prices: pd.DataFrame) -> np.ndarray:
    """A list of prices in the form that day_revenue() takes."""
    chosen = np.searchsorted(PRICES, prices["price"].to_numpy())
    return np.eye(len(PRICES))[chosen].reshape(len(STATIONS), 2, HOURS, BIKES + 1, -1)


def record(prices: str, shares: dict[str, float], tags: dict[str, str]) -> str:
    """A task on a node: the outcome as one more run in MLflow, whose address came with the job."""
    from skate.air.integrations.mlflow import setup_mlflow

    mlflow = setup_mlflow({"stations": len(STATIONS), "bikes": BIKES}, run_name="prices", tags=tags,
                          experiment_name="bike-prices")  # fmt: skip
    mlflow.log_metrics(shares)
    mlflow.log_text(prices, "prices.csv")
    run_id = mlflow.active_run().info.run_id
    mlflow.end_run()
    return str(run_id)


# ---- an MLflow server ---------------------------------------------------------------------------


def free_port() -> int:
    """One below those that the kernel gives to others until the server has it."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    sys.exit("There is no free port for MLflow: start a server, and set MLFLOW_TRACKING_URI.")


class MLflowServer:
    """The server that MLFLOW_TRACKING_URI names, or one of our own, on SQLite, which starts at once
    and is waited for when it is needed."""

    def __init__(self, folder: Path) -> None:
        self.uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        self.process: subprocess.Popen[bytes] | None = None
        if self.uri:
            return
        here = Path(__file__).resolve().parents[2] / "build" / "mlflow" / "bin" / "mlflow"
        program = str(here) if here.exists() else shutil.which("mlflow")
        if program is None:
            sys.exit("There is no MLflow server: set MLFLOW_TRACKING_URI, put `mlflow` on the PATH "
                     "(pip install mlflow), or run tools/setup.sh mlflow in the repository.")
        port = free_port()
        folder.mkdir()
        self.uri = f"http://127.0.0.1:{port}"
        self.log = folder / "server.log"
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [program, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
                 "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
                 "--artifacts-destination", str(folder / "artifacts")],
                cwd=folder, env={**os.environ, **quiet}, stdout=out, stderr=out)  # fmt: skip

    def wait(self, seconds: float = 120.0) -> None:
        """Until it answers."""
        deadline = time.monotonic() + seconds
        while self.process is not None:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit("The MLflow server did not start:\n" + self.log.read_text()[-3000:])
                time.sleep(0.1)

    def stop(self) -> None:
        """End our own."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


# ---- the program --------------------------------------------------------------------------------


class Progress:
    """A line for each stage, with its seconds; at the end a line for each check."""

    def __init__(self, stages: int) -> None:
        self.stages, self.stage = stages, 0
        self.began = self.last = time.perf_counter()
        self.failed = 0

    def done(self, text: str) -> None:
        """A stage is over."""
        now = time.perf_counter()
        self.stage += 1
        print(f"[{self.stage}/{self.stages}] {text} ({now - self.last:.1f} s)", flush=True)
        self.last = now

    def check(self, holds: bool, text: str) -> None:
        """What must hold."""
        self.failed += not holds
        print(f"  {'ok    ' if holds else 'FAILED'} {text}", flush=True)


def foretold(scored: pd.DataFrame, demand: dict[str, Any]) -> float:
    """How far off the foretold chances are from the real ones, in the mean."""
    late = scored[scored["chance"].notna()]
    price = np.searchsorted(PRICES, late["price"])
    return float(np.abs(late["chance"] - demand["chance"][late["station"], late["sunny"],
                                                          price]).mean())  # fmt: skip


def plain_scores(rows: pd.DataFrame, station: int) -> np.ndarray:
    """The scores of one station, computed here, one day after the other."""
    mine = rows[(rows["station"] == station) & (rows["bikes_left"] > 0)]
    columns = model_columns(mine)
    days = range(LEARN_AFTER, int(columns[2].max()) + 1)
    return np.concatenate([score_day(day, *columns) for day in days])


def run(args: argparse.Namespace, folder: Path, stack: ExitStack) -> int:
    """All stages; the exit status."""
    import skate as ray
    from skate.util.spark import local_cluster, setup_ray_cluster, shutdown_ray_cluster, to_refs

    progress = Progress(7)
    server = MLflowServer(folder / "mlflow")
    stack.callback(server.stop)
    conf = {"spark.sql.shuffle.partitions": "2", "spark.ui.showConsoleProgress": "false"}
    spark = stack.enter_context(local_cluster(args.executors, 2, 1024, conf))
    progress.done(f"Spark {spark.version}, {args.executors} executors")

    requests, table = play_world(args.days, args.seed), str(folder / "requests")
    versions = stream_to_delta(spark, requests, folder, table)
    landed = read_delta(table)
    progress.done(f"{len(landed)} requests streamed into a Delta table of {versions} versions")

    server.wait()
    os.environ["MLFLOW_TRACKING_URI"] = server.uri
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    cluster = setup_ray_cluster(max_worker_nodes=args.executors, num_cpus_worker_node=1,
                                forward_env=[
                                    "MLFLOW_TRACKING_URI", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"
                                ])  # fmt: skip
    stack.callback(shutdown_ray_cluster)
    ray.init()
    progress.done(f"Skate in {args.executors} executors, MLflow at {server.uri}")

    blocks = to_refs(score_table(spark, table, cluster.address))
    scored = pd.concat([block.to_pandas() for block in ray.get(list(blocks))])
    models = int(scored["day"].max() + 1 - LEARN_AFTER) * len(STATIONS)
    progress.done(f"{models} models trained inside a UDF, each on the days before its own")

    demand = ray.get(ray.remote(estimate_demand).remote(landed, *blocks))
    config = agent_config(demand, args.seed)
    tags = {"program": str(uuid.uuid4())}
    analysis = train_agents(config, args.steps, folder, tags)
    for trial in analysis.trials:
        last = trial.last_result
        print(f"        lr {trial.config['lr']:<7} {last['timesteps_total']} steps, "
              f"{50 * last['episode_reward_mean']:.0f} a day", flush=True)
    progress.done(f"{len(analysis.trials)} agents trained under Tune")

    weights = policy_weights(analysis.best_checkpoint.path, config)
    prices = price_list(spark, make_price_udf(config, weights))
    progress.done(f"a price for each of {len(prices)} states, by a UDF with the best policy")

    real = real_demand()
    best = day_revenue(real)
    share = {name: day_revenue(real, rule) / best for name, rule in (
        ("as_logged", always(PRICES[1:-1])), ("learned", as_rule(prices)),
        ("one_price", always(PRICES[3])))}  # fmt: skip
    run_id = ray.get(ray.remote(record).remote(prices.to_csv(index=False), share, tags))
    progress.done("the outcome logged from a node")

    show(prices, share, best)
    progress.check(landed.equals(requests.astype(landed.dtypes)),
                   "the Delta table has each request once, as it was sent")
    mine = scored[(scored["station"] == 0) & scored["chance"].notna()].sort_values("request")
    progress.check(np.array_equal(mine["chance"], plain_scores(landed, 0)),
                   "the UDF's scores are those of a plain loop, to the last bit")
    error = foretold(scored, real)
    progress.check(error < 0.06, f"foretold chances are off by {error:.3f} in the mean")
    progress.check(share["learned"] >= 0.9 and share["learned"] > share["as_logged"],
                   f"the learned prices bring {share['learned']:.0%} of what is possible")
    progress.check(runs_are_there(tags, run_id, analysis), "MLflow has the runs")
    print(f"\ntotal {time.perf_counter() - progress.began:.1f} s")
    return 1 if progress.failed else 0


def show(prices: pd.DataFrame, share: dict[str, float], best: float) -> None:
    """Some of the prices, and what they bring."""
    noon = prices[prices["hour"] == 4].set_index(["station", "sunny", "bikes_left"])["price"]
    left = (2, 4, 8, 12, 16)
    print("\nlearned prices at noon, by bikes left" + "".join(f"{n:5d}" for n in left))
    for s, name in enumerate(STATIONS):
        for sunny, weather in enumerate(("dull", "sunny")):
            shown = "".join(f"{noon[s, sunny, n]:5.0f}" for n in left)
            print(f"{name:>25}, {weather:<10}{shown}")
    print(f"\na day at a station: {best:.0f} with the best prices; drawn as before "
          f"{share['as_logged']:.0%} of it, always {PRICES[3]:.0f} {share['one_price']:.0%}, "
          f"learned {share['learned']:.0%}\n")  # fmt: skip


def runs_are_there(tags: dict[str, str], run_id: str, analysis: Any) -> bool:
    """A finished run for each trial with what Tune knows, and the last one."""
    import mlflow

    runs = mlflow.search_runs(
        experiment_names=["bike-prices"], filter_string=f"tags.program = '{tags['program']}'",
        output_format="list")  # fmt: skip
    rewards = {r.data.tags.get("trial_name"): r.data.metrics.get("episode_reward_mean")
               for r in runs}  # fmt: skip
    found = {r.info.run_id for r in runs if r.info.status == "FINISHED"}
    return len(found) == len(analysis.trials) + 1 and run_id in found and all(
        rewards.get(str(t)) == t.last_result["episode_reward_mean"] for t in analysis.trials)


def main() -> int:
    """Everything in one temporary folder, which is removed at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer days and steps, one executor")
    parser.add_argument("--days", type=int, default=60, help="days of requests")
    parser.add_argument("--steps", type=int, default=120_000, help="steps that each agent learns")
    parser.add_argument("--executors", type=int, default=2, help="Spark executors = Skate nodes")
    parser.add_argument("--seed", type=int, default=1, help="seed of the world and the agents")
    args = parser.parse_args()
    if args.quick:
        args.days, args.steps, args.executors = 30, 30_000, 1
    if args.days < 2 * LEARN_AFTER or args.steps < 3000 or args.executors < 1:
        parser.error(f"--days must be at least {2 * LEARN_AFTER}, --steps 3000, --executors 1")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="skate-pricing-"))
        return run(args, Path(folder), stack)


if __name__ == "__main__":
    sys.exit(main())
