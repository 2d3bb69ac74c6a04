"""Fragment: numpy views into one fragment's bytes (src/rl/frag.h), nothing copied."""

from __future__ import annotations

from typing import Any


class Fragment:
    """fields[name] is an array [steps, envs(, columns)]; the episode fields are lists of those
    that ended here."""

    def __init__(self, array: Any) -> None:
        import numpy as np

        from skate import _rl

        header = _rl.frag_open(array)
        data = np.frombuffer(array, np.uint8)
        self.steps: int = header["steps"]
        self.envs: int = header["envs"]
        self.worker: int = header["worker"]
        self.policy_version: int = header["policy_version"]
        self.fields: dict[str, Any] = {}
        for name, dtype, columns, offset, size in header["fields"]:
            field = data[offset:offset + size].view(dtype)
            if name.startswith("episode_"):
                self.fields[name] = field[:header["episodes"]]
            elif columns > 1 or name in ("obs", "inputs"):
                self.fields[name] = field.reshape(self.steps, self.envs, columns)
            else:
                self.fields[name] = field.reshape(self.steps, self.envs)
        self.terminated = self.fields["flags"] & _rl.TERMINATED != 0
        self.truncated = self.fields["flags"] & _rl.TRUNCATED != 0

    @property
    def episode_rewards(self) -> Any:
        """Sums of rewards of the episodes that ended here."""
        return self.fields["episode_reward"]

    @property
    def episode_lengths(self) -> Any:
        """Their numbers of steps."""
        return self.fields["episode_len"]
