"""ModelEngine: an algorithm over a user's model, with the methods of skate._rl.Algo.

act() answers all environments of a worker in one call; learn() is one update. A batch's rows are as
the Sampler gives them; with a recurrent model they are sequences padded to the same length, with
'mask' and one row of 'state_in' each. All is numpy here; a framework adds its model, its gradients
and its optimiser (the methods at the end).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from skate.rllib._models.dist import dist_of

KL_FAR, KL_NEAR = 2.0, 0.5      # of the target: where the coefficient grows, where it shrinks


class ModelEngine:
    """`options` has 'model' (the config's, with 'custom_model' a class) and the numbers of the
    config that the loss needs."""

    chops = True                # sequences must not go over the end of an episode
    ops: Any                    # the framework's operations, see array_ops.py
    model: Any                  # the framework's face of the user's model

    def __init__(self, name: str, obs_space: dict[str, Any], action_space: dict[str, Any],
                 options: dict[str, Any], seed: int) -> None:
        self._name = name
        self._o = dict(options)
        self._obs_space, self._action_space = obs_space, action_space
        self._dist = dist_of(action_space, self.ops)
        self._acting = dist_of(action_space)
        self.n_inputs = self._acting.n_inputs
        seed &= 0x7FFFFFFFFFFFFFFF
        self._draws = np.random.default_rng(seed)
        self._build(seed)
        initial = self._initial_state()
        self._state_shapes = [s.shape for s in initial]
        self._widths = [int(s.size) for s in initial]
        self.state_size = sum(self._widths)
        self._tensors = self._named_shapes()
        self.n_weights = sum(int(np.prod(shape)) for _, shape in self._tensors)
        self._trained = self._trained_shapes()
        self.n_gradient = sum(int(np.prod(shape)) for shape in self._trained)
        self.version = 0

    # ---- acting -----------------------------------------------------------------------------

    def act(self, n: int, columns: dict[str, Any], explore: bool = True, epsilon: float = 0.0,
            noise: float = 0.0) -> None:
        """As skate._rl.Algo.act(). FloatingPointError: the model has diverged."""
        inputs, values, after = self._judge(columns["obs"], self._state(columns.get("state")),
                                            np.ones(n, np.int32))
        if not np.isfinite(inputs).all():
            raise FloatingPointError("the model's outputs are not finite: it has diverged")
        actions = self._acting.draw(inputs, explore, self._draws)
        columns["actions"][...] = actions.reshape(columns["actions"].shape)
        if "logp" in columns:
            columns["logp"][...] = self._acting.logp(inputs, actions)
        if "inputs" in columns:
            columns["inputs"][...] = inputs
        if "vf" in columns and values is not None:
            columns["vf"][...] = values
        if after and columns.get("state") is not None:
            columns["state"][...] = np.concatenate([s.reshape(n, -1) for s in after], 1)

    def _judge(self, obs: Any, state: list[Any], lengths: Any) -> tuple[Any, Any, list[Any]]:
        """_forward(), checked; values are [rows]. ValueError: a shape that cannot be."""
        inputs, values, after = self._forward(np.asarray(obs, np.float32), state, lengths)
        self._check_shapes(len(obs), inputs.shape, None if values is None else values.shape)
        if state and [s.shape for s in after] != [s.shape for s in state]:
            raise ValueError(f"the model gives a state of {[s.shape for s in after]}; by "
                             f"get_initial_state() it must be {[s.shape for s in state]}")
        return inputs, None if values is None else values.reshape(-1), after

    def _check_shapes(self, rows: int, inputs: Any, values: Any) -> None:
        if tuple(inputs) != (rows, self.n_inputs):
            raise ValueError(f"the model gives {tuple(inputs)} for {rows} observations; the "
                             f"action space wants ({rows}, {self.n_inputs})")
        if values is not None and tuple(values) not in ((rows,), (rows, 1)):
            raise ValueError(f"the model gives values of the shape {tuple(values)} for {rows} "
                             f"observations; it must be ({rows},)")

    def _state(self, rows: Any) -> list[Any]:
        if not self._widths or rows is None:
            return []
        parts = np.split(np.array(rows, np.float32), np.cumsum(self._widths)[:-1], 1)
        return [x.reshape(len(x), *shape)
                for x, shape in zip(parts, self._state_shapes, strict=True)]

    # ---- learning ---------------------------------------------------------------------------

    def learn(self, rows: int, steps: int, columns: dict[str, Any]) -> dict[str, float]:
        """One update: advantages, then num_sgd_iter passes over minibatches (PPO) or one step."""
        told = self._advantages(rows, steps, columns)
        ppo = self._name == "PPO"
        units = rows // steps
        size = max(1, int(self._o["sgd_minibatch_size"]) // steps) if ppo else units
        sums: dict[str, float] = {}
        count, last = 0, 0.0
        for pick in self._minibatches(units, size) if ppo else [np.arange(units)]:
            numbers = self._minibatch(pick, steps, told)
            last = numbers.get("kl", 0.0)
            for name, value in numbers.items():
                sums[name] = sums.get(name, 0.0) + value
            self._descend()
            count += 1
        stats = self._about({name: value / count for name, value in sums.items()}, told)
        if ppo:
            self._adapt(stats, last if self._o["kl_update"] == "last" else stats["kl"])
        self.version += 1
        return stats

    def _minibatches(self, units: int, size: int) -> Iterator[Any]:
        """PPO's: the numbers of rows (or sequences) of each, of all passes."""
        passes, wrap = int(self._o["num_sgd_iter"]), bool(self._o["wrap_minibatches"])
        size, left, k = min(size, units), np.zeros(0, np.int64), 0
        while k < passes or len(left):
            order = (self._draws.permutation(units) if self._o["shuffle_sequences"]
                     else np.arange(units))
            order = np.concatenate([left, order])
            ends = range(size, (len(order) if k < passes else size) + 1, size)
            yield from (order[end - size:end] for end in ends)
            left = order[ends[-1]:] if wrap and k < passes else left[:0]
            k += 1

    def gradient(self, rows: int, steps: int, columns: dict[str, Any],
                 out: Any) -> dict[str, float]:
        """The gradient of the loss over all rows, flat in `out`, and its statistics; no step."""
        told = self._advantages(rows, steps, columns)
        stats = self._minibatch(np.arange(rows // steps), steps, told)
        _flatten(self._gradients(), out)
        return self._about(stats, told)

    def apply(self, flat: Any) -> None:
        """One step by what gradient() gave. ValueError: another length, or not finite."""
        if len(flat) != self.n_gradient or not np.isfinite(flat).all():
            raise ValueError(f"a gradient must be {self.n_gradient} finite numbers")
        self._set_gradients(_shaped(np.array(flat, np.float32), self._trained))
        self._descend()
        self.version += 1

    def _about(self, stats: dict[str, float], told: dict[str, Any]) -> dict[str, float]:
        return {**stats, "vf_explained_var": told["explained"], "cur_lr": self._o["lr"],
                "entropy_coeff": self._o["entropy_coeff"]}

    def _adapt(self, stats: dict[str, float], kl: float) -> None:
        stats["cur_kl_coeff"] = self._o["kl_coeff"]
        if kl > KL_FAR * self._o["kl_target"]:
            self._o["kl_coeff"] *= 1.5
        elif kl < KL_NEAR * self._o["kl_target"]:
            self._o["kl_coeff"] *= 0.5

    def _minibatch(self, pick: Any, steps: int, told: dict[str, Any]) -> dict[str, float]:
        """The gradient over sequences (or rows) number `pick`, left where _descend() takes it."""
        rows = (pick.reshape(-1, 1) * steps + np.arange(steps)).reshape(-1)
        inside = told["mask"][rows]
        kept = rows[inside]
        loss, stats = self._backward(
            told["obs"][rows], [s[pick] for s in told["state"]], told["lengths"][pick],
            None if inside.all() else np.nonzero(inside)[0],
            {name: told[name][kept] for name in told["columns"]})
        return {"total_loss": loss, **stats, **self.model.numbers()}

    def _advantages(self, rows: int, steps: int, columns: dict[str, Any]) -> dict[str, Any]:
        """The batch with 'advantages' and 'value_targets', and what passes need."""
        mask = np.asarray(columns["mask"], bool) if "mask" in columns else np.ones(rows, bool)
        told: dict[str, Any] = {
            "obs": np.asarray(columns["obs"], np.float32), "mask": mask,
            "lengths": mask.reshape(-1, steps).sum(1).astype(np.int32),
            "state": self._state(columns.get("state_in")),
            "actions": np.asarray(columns["actions"]), "columns": ["actions", "advantages"],
        }
        valid = np.nonzero(mask)[0]
        values = np.asarray(columns["vf"], np.float32)[valid]
        boot = self._boot(told, steps, columns)[valid]
        advantages, targets = self._estimate(
            np.asarray(columns["rewards"], np.float64)[valid], values, boot,
            np.asarray(columns["terminateds"])[valid] != 0,
            (np.asarray(columns["truncateds"]) + np.asarray(columns["cuts"]))[valid] != 0)
        told["explained"] = _explained(values, targets)
        if self._name == "PPO":
            advantages = (advantages - advantages.mean()) / max(1e-4, advantages.std())
        for name, array in (("advantages", advantages), ("value_targets", targets)):
            told[name] = np.zeros(rows, np.float32)
            told[name][valid] = array
        told["columns"].append("value_targets")
        for name in ("logp", "vf", "inputs"):
            if name in columns:
                told[name] = np.asarray(columns[name], np.float32)
                told["columns"].append(name)
        return told

    def _boot(self, told: dict[str, Any], steps: int, columns: dict[str, Any]) -> Any:
        """Values of new_obs in rows that end a segment without an end of the episode; such a row
        is the last of its sequence, so the state after the sequence is the one to judge it with."""
        n = len(columns["rewards"])
        boot = np.zeros(n, np.float64)
        open_end = (np.asarray(columns["truncateds"]) + np.asarray(columns["cuts"])) != 0
        if not open_end.any() or self._name == "PG":
            return boot
        at = np.nonzero(open_end & told["mask"])[0]
        state = told["state"]
        if state:
            _, _, after = self._judge(told["obs"], state, told["lengths"])
            state = [s[at // steps] for s in after]
        _, values, _ = self._judge(np.asarray(columns["new_obs"])[at], state,
                                   np.ones(len(at), np.int32))
        if values is not None:
            boot[at] = values
        return boot

    def _estimate(self, rewards: Any, values: Any, boot: Any, over: Any, cut: Any) -> Any:
        """(advantages, value targets): GAE (Schulman et al. 2016), for PG the returns."""
        gamma, lambda_ = self._o["gamma"], self._o["lambda"]
        judged = self._name != "PG"
        made = np.zeros(len(rewards), np.float64)
        running, following = 0.0, 0.0
        for t in range(len(rewards) - 1, -1, -1):
            if over[t] or cut[t] or t == len(rewards) - 1:
                running, following = 0.0, 0.0 if over[t] else boot[t]
            if judged:
                running = rewards[t] + gamma * following - values[t] + gamma * lambda_ * running
                following = values[t]
            else:
                running = rewards[t] + gamma * running
            made[t] = running
        return made, (made + values if judged else made)

    # ---- weights and state ------------------------------------------------------------------

    def set(self, name: str, value: float) -> None:
        """A number that has a schedule: lr, entropy_coeff."""
        self._o[name] = value

    def weight_names(self) -> list[tuple[str, int, int]]:
        """(name, rows, columns) in the flat form's order."""
        return [(name, shape[0] if len(shape) > 1 else 1,
                 int(np.prod(shape[1:] if len(shape) > 1 else shape)))
                for name, shape in self._tensors]

    def get_weights(self, out: Any) -> None:
        """All parameters and buffers, flat."""
        _flatten(self._read(), out)

    def set_weights(self, flat: Any, version: int) -> None:
        """What get_weights() gave. ValueError: another number of weights."""
        if len(flat) != self.n_weights:
            raise ValueError(f"{len(flat)} weights for a model of {self.n_weights}")
        self._write(_shaped(np.array(flat), [shape for _, shape in self._tensors]))
        self.version = version

    def state(self) -> bytes:
        """Model, optimiser, random numbers and coefficients: an .npz of plain arrays."""
        out = io.BytesIO()
        about = {"draws": self._draws.bit_generator.state, "version": self.version,
                 "numbers": {k: v for k, v in self._o.items() if isinstance(v, float)}}
        np.savez(out, about=json.dumps(about), model=np.frombuffer(self._save(), np.uint8))
        return out.getvalue()

    def set_state(self, block: bytes) -> None:
        """What state() gave. ValueError: it is damaged, or of another model."""
        try:
            with np.load(io.BytesIO(block), allow_pickle=False) as told:
                about = json.loads(str(told["about"]))
                self._load(told["model"].tobytes())
            self._draws.bit_generator.state = about["draws"]
        except Exception as error:
            raise ValueError(f"not the state of this model: {error}") from error
        self.version = int(about["version"])
        for name, value in about["numbers"].items():
            self.set(name, value)

    # ---- what a framework adds --------------------------------------------------------------

    def _build(self, seed: int) -> None:
        """Make self.model, from that seed, and the optimiser: Adam with eps 1e-8, or RMSprop
        (opt_type) with decay, momentum and epsilon as torch has them."""
        raise NotImplementedError

    def _initial_state(self) -> list[Any]:
        """Arrays of one row's state."""
        raise NotImplementedError

    def _forward(self, obs: Any, state: list[Any], lengths: Any) -> tuple[Any, Any, list[Any]]:
        """(distribution inputs, values or None, next state) as arrays, without gradients."""
        raise NotImplementedError

    def _backward(self, obs: Any, state: list[Any], lengths: Any, kept: Any,
                  columns: dict[str, Any]) -> tuple[float, dict[str, float]]:
        """Find the gradient, clipped by grad_clip: (loss, statistics). `kept`: the rows of obs
        that `columns` are of, None for all. FloatingPointError: the loss is not finite."""
        raise NotImplementedError

    def _descend(self) -> None:
        """One step of the optimiser by the gradient there is."""
        raise NotImplementedError

    def _trained_shapes(self) -> list[tuple[int, ...]]:
        """Of the parameters that have a gradient."""
        raise NotImplementedError

    def _gradients(self) -> list[Any]:
        """Arrays of the gradient there is."""
        raise NotImplementedError

    def _set_gradients(self, arrays: list[Any]) -> None:
        """Let these be the gradient."""
        raise NotImplementedError

    def _named_shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Of all parameters and buffers."""
        raise NotImplementedError

    def _read(self) -> list[Any]:
        """Their arrays."""
        raise NotImplementedError

    def _write(self, arrays: list[Any]) -> None:
        """Take arrays as _read() gives them."""
        raise NotImplementedError

    def _save(self) -> bytes:
        """Model and optimiser."""
        raise NotImplementedError

    def _load(self, block: bytes) -> None:
        """What _save() gave; any exception: it does not fit."""
        raise NotImplementedError


def _flatten(arrays: list[Any], out: Any) -> None:
    at = 0
    for array in arrays:
        out[at:at + array.size] = array.reshape(-1)
        at += array.size


def _shaped(flat: Any, shapes: list[tuple[int, ...]]) -> list[Any]:
    """`flat` cut into arrays of these shapes."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    return [part.reshape(shape)
            for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]


def _explained(values: Any, targets: Any) -> float:
    """1 - var(targets - values) / var(targets)."""
    spread = float(np.var(targets))
    return 1.0 - float(np.var(targets - values)) / spread if spread > 0 else 0.0
