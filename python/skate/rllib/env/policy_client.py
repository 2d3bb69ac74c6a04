"""PolicyClient: asks a PolicyServerInput for actions, from a simulator's process.

    client = PolicyClient("http://localhost:9900", inference_mode="remote")
    episode = client.start_episode()
    action = client.get_action(episode, obs)
    client.log_returns(episode, reward)
    client.end_episode(episode, obs)
"""

from __future__ import annotations

import builtins
import os
import socket
import threading
import time
from typing import Any

from skate.rllib import _spaces
from skate.rllib._external import frames
from skate.rllib._external.recorder import ExternalClosedError, Recorder, stacked

CONNECT_S = 30.0
FLUSH_ROWS = 512
ROOM = 1 << 20


class PolicyClient:
    """One connection; any thread may call, one at a time is served.

    inference_mode "remote" asks the server for each action; "local" acts here with the server's
    weights, fetched again after `update_interval` seconds, and uploads what it recorded.
    ConnectionError: no server, or it has gone. PermissionError: the token.
    """

    def __init__(self, address: str, inference_mode: str = "local", update_interval: float = 10.0,
                 token: str | None = None) -> None:
        if inference_mode not in ("local", "remote"):
            raise ValueError(f"inference_mode must be 'local' or 'remote', got {inference_mode!r}")
        host, _, port = address.removeprefix("http://").rstrip("/").rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(f"the address must be host:port, got {address!r}")
        self._lock = threading.Lock()
        self._interval = update_interval
        self._fetched, self._version = 0.0, -1
        try:
            self._sock = socket.create_connection((host.strip("[]"), int(port)), CONNECT_S)
        except OSError as error:
            raise ConnectionError(f"no policy server at {address}: {error}") from error
        self._sock.settimeout(None)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        about, _body = self._ask({"op": "hello", "version": frames.VERSION,
                                  "token": token or os.environ.get("SKATE_POLICY_TOKEN")})
        self._obs_space, self._action_space = about["obs_space"], about["action_space"]
        self._flatten = _spaces.flattener(self._obs_space)
        self._recorder: Recorder | None = None
        if inference_mode == "local":
            job = self._ask({"op": "policy"})[0]["job"]
            self._recorder = Recorder(job, self._obs_space, self._action_space,
                                      int.from_bytes(os.urandom(6), "little"), ROOM)

    def _ask(self, header: dict[str, Any], body: bytes = b"") -> tuple[dict[str, Any], bytes]:
        with self._lock:
            frames.send(self._sock, header, body)
            got = frames.receive(self._sock)
        if got is None:
            raise ConnectionError("the policy server has gone")
        if "error" in got[0]:
            kinds = {"ExternalClosedError": ExternalClosedError}
            kind = kinds.get(got[0]["type"], getattr(builtins, str(got[0]["type"]), ValueError))
            raise kind(got[0]["error"])
        return got

    def _with_obs(self, header: dict[str, Any], obs: Any) -> tuple[dict[str, Any], bytes]:
        plan, body = frames.pack({"obs": self._flatten(obs)})
        return self._ask({**header, "arrays": plan}, body)

    def _refresh(self) -> None:
        if self._recorder is None or time.monotonic() - self._fetched < self._interval:
            return
        told, body = self._ask({"op": "weights", "version": self._version})
        self._fetched = time.monotonic()
        if body:
            self._version = told["version"]
            self._recorder.set_weights(frames.unpack(told["arrays"], body)["weights"],
                                       self._version)

    def _flush(self, least: int = 1) -> None:
        if self._recorder is None or self._recorder.count < least:
            return
        parts, ended = self._recorder.take(ROOM, wait=False)
        plan, body = frames.pack(stacked(parts))
        self._ask({"op": "upload", "arrays": plan, "lengths": [len(part) for part in parts],
                   "rewards": ended.rewards, "steps": ended.lengths}, body)

    def start_episode(self, episode_id: str | None = None, training_enabled: bool = True) -> str:
        """The name of a new episode."""
        if self._recorder is not None:
            self._refresh()
            return self._recorder.start_episode(episode_id, training_enabled)
        told, _body = self._ask({"op": "start", "episode_id": episode_id,
                                 "training": bool(training_enabled)})
        return str(told["episode_id"])

    def get_action(self, episode_id: str, observation: Any) -> Any:
        """The action for an observation."""
        import numpy as np

        if self._recorder is not None:
            self._flush(FLUSH_ROWS)
            return self._recorder.get_action(episode_id, observation)
        told, _body = self._with_obs({"op": "action", "episode_id": episode_id}, observation)
        action = told["action"]
        if told["tuple"]:
            return tuple(action)
        return action if told["dtype"] is None else np.array(action, told["dtype"])

    def log_action(self, episode_id: str, observation: Any, action: Any) -> None:
        """An action that was done without asking."""
        import numpy as np

        if self._recorder is not None:
            self._recorder.log_action(episode_id, observation, action)
            return
        self._with_obs({"op": "log_action", "episode_id": episode_id,
                        "action": np.asarray(action).tolist()}, observation)

    def log_returns(self, episode_id: str, reward: float, info: Any = None,
                    multiagent_done_dict: Any = None) -> None:
        """A reward for the last action; several add up."""
        if self._recorder is not None:
            self._recorder.log_returns(episode_id, reward)
            return
        self._ask({"op": "returns", "episode_id": episode_id, "reward": float(reward)})

    def end_episode(self, episode_id: str, observation: Any) -> None:
        """The episode is over, with its last observation."""
        if self._recorder is not None:
            self._recorder.end_episode(episode_id, observation)
            self._flush()
            return
        self._with_obs({"op": "end", "episode_id": episode_id}, observation)

    def update_policy_weights(self) -> None:
        """Fetch the newest weights now (inference_mode 'local')."""
        self._fetched = -self._interval
        self._refresh()

    def close(self) -> None:
        """End the connection; complete rows are uploaded before."""
        self._flush()
        self._sock.close()
