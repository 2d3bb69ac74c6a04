"""Experiment: the arguments of a run as an object, as run_experiments() takes them."""

from __future__ import annotations

from typing import Any


class Experiment:
    """A named run: `tune.run(Experiment(...))` is `tune.run(run, name=name, ...)`."""

    def __init__(self, name: str | None, run: Any, *, stop: Any = None,
                 time_budget_s: Any = None, config: Any = None, resources_per_trial: Any = None,
                 num_samples: int = 1, local_dir: str | None = None,
                 storage_path: str | None = None, checkpoint_freq: int = 0,
                 checkpoint_at_end: bool = False, keep_checkpoints_num: int | None = None,
                 checkpoint_score_attr: str | None = None, max_failures: int = 0,
                 restore: str | None = None) -> None:
        self.name = name
        self.run = run
        self.options: dict[str, Any] = {
            "stop": stop, "time_budget_s": time_budget_s, "config": config,
            "resources_per_trial": resources_per_trial, "num_samples": num_samples,
            "local_dir": local_dir or storage_path, "checkpoint_freq": checkpoint_freq,
            "checkpoint_at_end": checkpoint_at_end, "keep_checkpoints_num": keep_checkpoints_num,
            "checkpoint_score_attr": checkpoint_score_attr, "max_failures": max_failures,
            "restore": restore,
        }

    @classmethod
    def from_json(cls, name: str, spec: dict[str, Any]) -> Experiment:
        """From {"run": ..., "stop": ..., "config": ...}; the elder "env" key joins the config."""
        from skate.tune.error import TuneError

        spec = dict(spec)
        if "run" not in spec:
            raise TuneError("No trainable specified: an experiment needs a 'run' entry")
        if "env" in spec:
            spec["config"] = {**(spec.get("config") or {}), "env": spec.pop("env")}
        try:
            return cls(name, spec.pop("run"), **spec)
        except TypeError as error:
            raise TuneError(f"improper argument in the experiment {name!r}: {error}") from None
