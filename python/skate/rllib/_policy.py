"""NativePolicy: what get_policy() returns: weights as named arrays, and actions."""

from __future__ import annotations

from typing import Any

from skate.rllib import _spaces


class NativePolicy:
    """A policy of the C engine with its spaces."""

    def __init__(self, core: Any, config: dict[str, Any], obs_space: dict[str, Any],
                 action_space: dict[str, Any]) -> None:
        self.core = core
        self.config = config
        self._flatten = _spaces.flattener(obs_space)
        self._start: int = action_space["start"]
        widths = [obs_space["size"], *config["model"]["fcnet_hiddens"]]
        self._shapes: list[tuple[str, tuple[int, ...]]] = []
        for net, last in (("policy", action_space["size"]), ("value", 1)):
            dims = [*widths, last]
            for i in range(len(dims) - 1):
                self._shapes.append((f"{net}/{i}/kernel", (dims[i], dims[i + 1])))
                self._shapes.append((f"{net}/{i}/bias", (dims[i + 1],)))

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

    def compute_actions(self, obs_batch: Any, explore: bool | None = None,
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

    def compute_single_action(self, obs: Any, state: Any = None, explore: bool | None = None,
                              **_ignored: Any) -> tuple[int, list[Any], dict[str, Any]]:
        """The same for one observation."""
        actions, _state, extra = self.compute_actions([obs], explore)
        return int(actions[0]), [], {key: value[0] for key, value in extra.items()}
