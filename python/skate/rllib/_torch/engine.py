"""TorchEngine: an algorithm over a PyTorch model, with the methods of skate._rl.Algo.

act() answers all environments of a worker in one call under no_grad; learn() is one update. A
batch's rows are as the Sampler gives them; with a recurrent model they are sequences padded to
the same length, with 'mask' and one row of 'state_in' each.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch

from skate.rllib._torch import model as models
from skate.rllib._torch.dist import dist_of
from skate.rllib._torch.losses import LOSSES, Pass

Tensor = torch.Tensor
KL_FAR, KL_NEAR = 2.0, 0.5      # of the target: where the coefficient grows, where it shrinks


class TorchEngine:
    """`options` has 'model' (see model.build) and the numbers of the config that the loss needs."""

    chops = True                # sequences must not go over the end of an episode

    def __init__(self, name: str, obs_space: dict[str, Any], action_space: dict[str, Any],
                 options: dict[str, Any], seed: int) -> None:
        self._name = name
        self._o = dict(options)
        self._obs_space, self._action_space = obs_space, action_space
        self._dist = dist_of(action_space)
        self.n_inputs = self._dist.n_inputs
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed & 0x7FFFFFFFFFFFFFFF)
            self.model = models.build(self._o["model"], obs_space, action_space, self.n_inputs)
        self._draws = torch.Generator().manual_seed(seed & 0x7FFFFFFFFFFFFFFF)
        self._widths = [s.numel() for s in self.model.initial_state()]
        self._state_shapes = [tuple(s.shape) for s in self.model.initial_state()]
        self.state_size = sum(self._widths)
        self._params = [p for p in self.model.parameters() if p.requires_grad]
        self._all = list(self.model.state_dict(keep_vars=True).items())
        self.n_weights = sum(t.numel() for _, t in self._all)
        self._optim = torch.optim.Adam(self._params, lr=self._o["lr"], eps=1e-8)
        self.version = 0

    # ---- acting -----------------------------------------------------------------------------

    def act(self, n: int, columns: dict[str, Any], explore: bool = True, epsilon: float = 0.0,
            noise: float = 0.0) -> None:
        """As skate._rl.Algo.act(). FloatingPointError: the model has diverged."""
        rows = torch.from_numpy(columns["obs"])
        with torch.no_grad():
            inputs, values, after = self.model(rows, self._state(columns.get("state")),
                                               torch.ones(n, dtype=torch.int32))
        if inputs.shape != (n, self.n_inputs):
            raise ValueError(f"the model gives {tuple(inputs.shape)} for {n} observations; the "
                             f"action space wants ({n}, {self.n_inputs})")
        if not torch.isfinite(inputs).all():
            raise FloatingPointError("the model's outputs are not finite: it has diverged")
        actions = self._dist.draw(inputs, explore, self._draws)
        columns["actions"][...] = actions.numpy().reshape(columns["actions"].shape)
        if "logp" in columns:
            columns["logp"][...] = self._dist.logp(inputs, actions).numpy()
        if "inputs" in columns:
            columns["inputs"][...] = inputs.numpy()
        if "vf" in columns and values is not None:
            columns["vf"][...] = values.reshape(-1).numpy()
        if after and columns.get("state") is not None:
            columns["state"][...] = torch.cat([s.reshape(n, -1) for s in after], 1).numpy()

    def _state(self, rows: Any) -> list[Tensor]:
        if not self._widths or rows is None:
            return []
        parts = torch.from_numpy(np.array(rows)).split(self._widths, 1)
        return [x.reshape(len(x), *shape)
                for x, shape in zip(parts, self._state_shapes, strict=True)]

    # ---- learning ---------------------------------------------------------------------------

    def learn(self, rows: int, steps: int, columns: dict[str, Any]) -> dict[str, float]:
        """One update: advantages, then num_sgd_iter passes over minibatches (PPO) or one step."""
        told = self._advantages(rows, steps, columns)
        self._last: dict[str, float] = {}
        ppo = self._name == "PPO"
        units = rows // steps
        size = max(1, int(self._o["sgd_minibatch_size"]) // steps) if ppo else units
        sums: dict[str, float] = {}
        count = 0
        for _ in range(int(self._o["num_sgd_iter"]) if ppo else 1):
            order = torch.randperm(units, generator=self._draws) if ppo else torch.arange(units)
            for at in range(0, max(units - size + 1, 1), size):
                for name, value in self._minibatch(order[at:at + size], steps, told).items():
                    sums[name] = sums.get(name, 0.0) + value
                count += 1
        stats = {name: value / count for name, value in sums.items()}
        stats.update(vf_explained_var=told["explained"], cur_lr=self._o["lr"],
                     entropy_coeff=self._o["entropy_coeff"])
        if ppo:
            self._adapt(stats)
        self.version += 1
        return stats

    def _adapt(self, stats: dict[str, float]) -> None:
        stats["cur_kl_coeff"] = self._o["kl_coeff"]
        if stats["kl"] > KL_FAR * self._o["kl_target"]:
            self._o["kl_coeff"] *= 1.5
        elif stats["kl"] < KL_NEAR * self._o["kl_target"]:
            self._o["kl_coeff"] *= 0.5

    def _minibatch(self, pick: Tensor, steps: int, told: dict[str, Any]) -> dict[str, float]:
        """One step of the optimiser over sequences (or rows) number `pick`."""
        rows = (pick.reshape(-1, 1) * steps + torch.arange(steps)).reshape(-1)
        state = [s[pick] for s in told["state"]]
        inputs, values, _ = self.model(told["obs"][rows], state, told["lengths"][pick])
        inside = told["mask"][rows]
        kept = {name: told[name][rows][inside] for name in told["columns"]}
        made = Pass(inputs[inside], None if values is None else values.reshape(-1)[inside],
                    self._dist)
        loss, stats = LOSSES[self._name](made, kept, self._o)
        loss = self.model.loss(loss, kept)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()}: the model has diverged")
        self._optim.zero_grad()
        loss.backward()
        if self._o.get("grad_clip"):
            torch.nn.utils.clip_grad_norm_(self._params, self._o["grad_clip"])
        self._optim.step()
        return {"total_loss": loss.item(), **{k: v.item() for k, v in stats.items()},
                **self.model.numbers()}

    def _advantages(self, rows: int, steps: int, columns: dict[str, Any]) -> dict[str, Any]:
        """Tensors of the batch with 'advantages' and 'value_targets', and what passes need."""
        mask = np.asarray(columns["mask"], bool) if "mask" in columns else np.ones(rows, bool)
        lengths = torch.from_numpy(mask.reshape(-1, steps).sum(1)).to(torch.int32)
        told: dict[str, Any] = {
            "obs": torch.from_numpy(np.asarray(columns["obs"], np.float32)),
            "mask": torch.from_numpy(mask), "lengths": lengths,
            "state": self._state(columns.get("state_in")),
            "actions": torch.from_numpy(np.asarray(columns["actions"])),
            "columns": ["actions", "advantages"],
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
            whole = np.zeros(rows, np.float32)
            whole[valid] = array
            told[name] = torch.from_numpy(whole)
        told["columns"].append("value_targets")
        for name in ("logp", "vf", "inputs"):
            if name in columns:
                told[name] = torch.from_numpy(np.asarray(columns[name], np.float32))
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
        at = np.nonzero(open_end & told["mask"].numpy())[0]
        with torch.no_grad():
            state = told["state"]
            if state:
                _, _, after = self.model(told["obs"], state, told["lengths"])
                state = [s[torch.from_numpy(at // steps)] for s in after]
            new_obs = torch.from_numpy(np.asarray(columns["new_obs"], np.float32)[at])
            _, values, _ = self.model(new_obs, state, torch.ones(len(at), dtype=torch.int32))
        if values is not None:
            boot[at] = values.reshape(-1).numpy()
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
        if name == "lr":
            for group in self._optim.param_groups:
                group["lr"] = value

    def weight_names(self) -> list[tuple[str, int, int]]:
        """(name of the state_dict, rows, columns) in the flat form's order."""
        return [(name, *((t.shape[0], t[0].numel()) if t.dim() > 1 else (1, t.numel())))
                for name, t in self._all]

    def get_weights(self, out: Any) -> None:
        """All parameters and buffers, flat."""
        at = 0
        for _, tensor in self._all:
            out[at:at + tensor.numel()] = tensor.detach().reshape(-1).numpy()
            at += tensor.numel()

    def set_weights(self, flat: Any, version: int) -> None:
        """What get_weights() gave. ValueError: another number of weights."""
        if len(flat) != self.n_weights:
            raise ValueError(f"{len(flat)} weights for a model of {self.n_weights}")
        source, at = torch.from_numpy(np.array(flat)), 0
        with torch.no_grad():
            for _, tensor in self._all:
                tensor.copy_(source[at:at + tensor.numel()].reshape(tensor.shape))
                at += tensor.numel()
        self.version = version

    def state(self) -> bytes:
        """Model, optimiser, random numbers and coefficients, as torch.save() writes them."""
        out = io.BytesIO()
        torch.save({"model": self.model.state_dict(), "optim": self._optim.state_dict(),
                    "draws": self._draws.get_state(), "version": self.version,
                    "numbers": {k: v for k, v in self._o.items() if isinstance(v, float)}}, out)
        return out.getvalue()

    def set_state(self, block: bytes) -> None:
        """What state() gave. ValueError: it is damaged, or of another model."""
        try:
            told = torch.load(io.BytesIO(block), weights_only=True)
            self.model.load_state_dict(told["model"])
            self._optim.load_state_dict(told["optim"])
            self._draws.set_state(told["draws"])
        except Exception as error:
            raise ValueError(f"not the state of this model: {error}") from error
        self.version = int(told["version"])
        self._o.update(told["numbers"])


def _explained(values: Any, targets: Any) -> float:
    """1 - var(targets - values) / var(targets)."""
    spread = float(np.var(targets))
    return 1.0 - float(np.var(targets - values)) / spread if spread > 0 else 0.0
