"""What get_policy() returns: weights as named arrays, and actions.

NativePolicy is that of PPO's fused learner, EnginePolicy that of any algorithm of the C engine.
"""

from __future__ import annotations

from typing import Any

from skate.rllib import _spaces


class NativePolicy:
    """A policy of the C engine with its spaces."""

    def __init__(self, core: Any, config: dict[str, Any], obs_space: dict[str, Any],
                 action_space: dict[str, Any]) -> None:
        self.core = core
        self.config = config
        self.action_space = action_space
        self._flatten = _spaces.flattener(obs_space)
        self._start: int = action_space["start"]
        widths = [obs_space["size"], *config["model"]["fcnet_hiddens"]]
        self._shapes: list[tuple[str, tuple[int, ...]]] = []
        for net, last in (("policy", action_space["size"]), ("value", 1)):
            dims = [*widths, last]
            for i in range(len(dims) - 1):
                self._shapes.append((f"{net}/{i}/kernel", (dims[i], dims[i + 1])))
                self._shapes.append((f"{net}/{i}/bias", (dims[i + 1],)))

    @property
    def version(self) -> int:
        """Updates so far."""
        return int(self.core.version)

    @property
    def engine(self) -> Any:
        """What a worker could share: nothing, the core has no such calls."""
        return None

    def flat_weights(self) -> Any:
        """All weights as one float32 vector (a copy)."""
        import numpy as np

        flat = np.empty(self.core.n_weights, np.float32)
        self.core.get_weights(flat)
        return flat

    def get_weights(self) -> dict[str, Any]:
        """Named arrays: 'policy/0/kernel' [in, out], 'policy/0/bias', ..., 'value/...'."""
        flat, at, named = self.flat_weights(), 0, {}
        for name, shape in self._shapes:
            size = shape[0] * (shape[1] if len(shape) > 1 else 1)
            named[name] = flat[at:at + size].reshape(shape)
            at += size
        return named

    def set_weights(self, weights: Any) -> None:
        """What get_weights() gives, or one flat vector."""
        import numpy as np

        if isinstance(weights, dict):
            parts = []
            for name, shape in self._shapes:
                if name not in weights:
                    raise ValueError(f"no weights {name!r}; expected "
                                     f"{[n for n, _ in self._shapes]}")
                part = np.asarray(weights[name], np.float32)
                if part.shape != shape:
                    raise ValueError(f"weights {name!r} have shape {part.shape}, not {shape}")
                parts.append(part.reshape(-1))
            weights = np.concatenate(parts)
        self.core.set_weights(np.ascontiguousarray(weights, np.float32), self.core.version)

    def compute_actions(self, obs_batch: Any, state: Any = None, *, explore: bool | None = None,
                        **_ignored: Any) -> tuple[Any, list[Any], dict[str, Any]]:
        """(actions, [], {'vf_preds', 'action_logp', 'action_dist_inputs'}) for many."""
        import numpy as np

        rows = [self._flatten(obs) for obs in obs_batch]
        n, width = len(rows), self.core.n_actions
        obs = np.stack(rows) if rows else np.empty((0, self.core.obs_dim), np.float32)
        logits = np.empty((n, width), np.float32)
        actions = np.empty(n, np.int32)
        logp, values = np.empty(n, np.float32), np.empty(n, np.float32)
        self.core.compute_actions(obs, logits, actions, logp, values,
                                  self.config["explore"] if explore is None else bool(explore))
        extra = {"vf_preds": values, "action_logp": logp, "action_dist_inputs": logits}
        return actions.astype(np.int64) + self._start, [], extra

    def compute_log_likelihoods(self, actions: Any, obs_batch: Any, *_more: Any,
                                **_ignored: Any) -> Any:
        """log pi(a | s) of given actions of the environment, float64 [rows]."""
        from skate.rllib.offline._likelihood import log_likelihoods

        return log_likelihoods(self, actions, obs_batch)

    def compute_single_action(self, obs: Any, state: Any = None, explore: bool | None = None,
                              **_ignored: Any) -> tuple[int, list[Any], dict[str, Any]]:
        """The same for one observation."""
        actions, _state, extra = self.compute_actions([obs], explore=explore)
        return int(actions[0]), [], {key: value[0] for key, value in extra.items()}


class EnginePolicy:
    """An algorithm of the C engine (skate._rl.Algo) with its spaces."""

    def __init__(self, engine: Any, config: dict[str, Any], obs_space: dict[str, Any],
                 action_space: dict[str, Any]) -> None:
        self.engine = engine
        self.config = config
        self.obs_space, self.action_space = obs_space, action_space
        self.filter: Any = None         # of observations, kept in step by the plan
        self._flatten = _spaces.flattener(obs_space)
        self._decode = _spaces.decoder(action_space, bool(config["normalize_actions"]),
                                       bool(config["clip_actions"]))
        self._shapes = [(str(name), (int(rows), int(columns)))
                        for name, rows, columns in engine.weight_names()]

    @property
    def version(self) -> int:
        """Updates so far."""
        return int(self.engine.version)

    def flat_weights(self) -> Any:
        """The weights that a worker needs to act, as one float32 vector (a copy)."""
        import numpy as np

        flat = np.empty(self.engine.n_weights, np.float32)
        self.engine.get_weights(flat)
        return flat

    def get_weights(self) -> dict[str, Any]:
        """Named arrays, as the engine names them; a vector where a tensor has one row."""
        flat, at, named = self.flat_weights(), 0, {}
        for name, (rows, columns) in self._shapes:
            part = flat[at:at + rows * columns]
            named[name] = part.reshape(rows, columns) if rows > 1 else part
            at += rows * columns
        return named

    def set_weights(self, weights: Any) -> None:
        """What get_weights() gives, or one flat vector."""
        import numpy as np

        if isinstance(weights, dict):
            parts = []
            for name, (rows, columns) in self._shapes:
                if name not in weights:
                    raise ValueError(f"no weights {name!r}; expected "
                                     f"{[n for n, _ in self._shapes]}")
                part = np.asarray(weights[name], np.float32)
                if part.size != rows * columns:
                    raise ValueError(f"weights {name!r} have shape {part.shape}, not "
                                     f"{(rows, columns)}")
                parts.append(part.reshape(-1))
            weights = np.concatenate(parts)
        self.engine.set_weights(np.ascontiguousarray(weights, np.float32), self.version)

    def get_initial_state(self) -> list[Any]:
        """[the state of a recurrent net at an episode's start], [] if it has none."""
        import numpy as np

        size = int(self.engine.state_size)
        return [np.zeros(size, np.float32)] if size else []

    def compute_actions(self, obs_batch: Any, state: Any = None, *, explore: bool | None = None,
                        timestep: int | None = None, **_ignored: Any
                        ) -> tuple[Any, list[Any], dict[str, Any]]:
        """(actions, [states], {'vf_preds', 'action_logp', 'action_dist_inputs'}) for many."""
        import numpy as np

        rows = [self._flatten(obs) for obs in obs_batch]
        if self.filter is not None:
            rows = [self.filter(row, update=False) for row in rows]
        n, size = len(rows), int(self.engine.state_size)
        width = int(self.engine.n_inputs)
        columns: dict[str, Any] = {
            "obs": np.stack(rows) if rows else np.empty((0, self.obs_space["size"]), np.float32),
            "actions": _spaces.action_rows(self.action_space, n),
            "logp": np.zeros(n, np.float32), "vf": np.zeros(n, np.float32),
            "inputs": np.zeros((n, width), np.float32)}
        if size:
            given = state[0] if isinstance(state, (list, tuple)) and state else None
            columns["state"] = (np.zeros((n, size), np.float32) if given is None else
                                np.array(given, np.float32).reshape(n, size))
        if n:
            self.engine.act(n, columns,
                            explore=self.config["explore"] if explore is None else bool(explore))
        actions = [self._decode(row) for row in columns["actions"]]
        extra = {"vf_preds": columns["vf"], "action_logp": columns["logp"],
                 "action_dist_inputs": columns["inputs"]}
        return np.array(actions), [columns["state"]] if size else [], extra

    def compute_log_likelihoods(self, actions: Any, obs_batch: Any, *_more: Any,
                                **_ignored: Any) -> Any:
        """log pi(a | s) of given actions of the environment, float64 [rows]."""
        from skate.rllib.offline._likelihood import log_likelihoods

        return log_likelihoods(self, actions, obs_batch)

    def compute_single_action(self, obs: Any, state: Any = None, *, explore: bool | None = None,
                              **_ignored: Any) -> tuple[Any, list[Any], dict[str, Any]]:
        """The same for one observation."""
        actions, states, extra = self.compute_actions([obs], state, explore=explore)
        action = actions[0] if actions.ndim > 1 else actions[0].item()
        return action, [s[0] for s in states], {key: value[0] for key, value in extra.items()}
