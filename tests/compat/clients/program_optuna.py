"""Optuna: a search whose trials are tasks, and several workers on one study."""

import optuna
import ray
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

optuna.logging.set_verbosity(optuna.logging.WARNING)
ray.init(num_cpus=2)


@ray.remote
def objective(params):
    return (params["x"] - 2) ** 2 + {"a": 0.0, "b": 5.0}[params["kind"]]


space = {"x": FloatDistribution(-10, 10), "kind": CategoricalDistribution(["a", "b"])}
study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1))
running = {}
for _ in range(30):
    if len(running) >= 2:
        (ref,), _ = ray.wait(list(running))
        study.tell(running.pop(ref), ray.get(ref))
    trial = study.ask(space)
    running[objective.remote(trial.params)] = trial
for ref, trial in running.items():
    study.tell(trial, ray.get(ref))
assert len(study.trials) == 30
assert study.best_params["kind"] == "a" and study.best_value < 4


def shared():
    return JournalStorage(JournalFileBackend("journal"))


@ray.remote
def worker(trials):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(study_name="s", storage=shared())
    study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=trials)


optuna.create_study(study_name="s", storage=shared())
ray.get([worker.remote(5) for _ in range(2)])
study = optuna.load_study(study_name="s", storage=shared())
assert len(study.trials) == 10 and all(trial.state.is_finished() for trial in study.trials)
print("optuna: fine")
