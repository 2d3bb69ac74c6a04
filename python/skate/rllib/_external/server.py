"""The server's side of policy clients: one thread a connection, each op a method.

  hello {version, token}          -> {obs_space, action_space}
  start {episode_id?, training}   -> {episode_id}
  action {episode_id} + obs       -> {action, dtype}          obs: one f32 row "obs"
  log_action {episode_id, action} + obs -> {}
  returns {episode_id, reward}    -> {}
  end {episode_id} + obs          -> {}
  policy {}                       -> {job}                    to act where the client is
  weights {version}               -> {version} + "weights", or nothing if that is the newest
  upload {lengths, rewards, steps} + columns -> {}            rows that a client recorded
"""

from __future__ import annotations

import hmac
import json
import logging
import socket
import threading
from typing import Any

from skate.rllib._external import frames
from skate.rllib._external.recorder import ExternalClosedError, Recorder

logger = logging.getLogger(__name__)

CONNECTIONS_MAX = 256
HELLO_S = 10.0                  # for the first frame
EPISODE_BITS = 40               # eps_id = connection << EPISODE_BITS | the client's number
REFUSED = (ValueError, TypeError, KeyError, FloatingPointError, ExternalClosedError)


class Server:
    """Listens at once; answers from start() on."""

    def __init__(self, address: str, port: int, token: str | None) -> None:
        self._token = token
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, port), family=family)
        self.port: int = self._listener.getsockname()[1]
        self._recorder: Recorder | None = None
        self._connections: dict[int, socket.socket] = {}
        self._numbers = 0
        self._lock = threading.Lock()
        self._weights: tuple[bytes, int] | None = None
        self._closed = False

    def start(self, recorder: Recorder) -> None:
        """Serve, in threads."""
        self._recorder = recorder
        threading.Thread(target=self._accept, name="policy-server", daemon=True).start()

    def publish(self, flat: Any, version: int) -> None:
        """The newest weights, for clients that act themselves."""
        with self._lock:
            self._weights = (flat.tobytes(), version)

    def stop(self) -> None:
        """Close the port and all connections."""
        with self._lock:
            self._closed = True
            there = list(self._connections.values())
        for sock in (self._listener, *there):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                logger.debug("a connection of the policy server had ended")
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _peer = self._listener.accept()
            except OSError:
                return
            with self._lock:
                full = len(self._connections) >= CONNECTIONS_MAX
                if not full and not self._closed:
                    self._numbers += 1
                    self._connections[self._numbers] = sock
            if full or self._closed:
                sock.close()
                continue
            threading.Thread(target=self._serve, args=(self._numbers, sock),
                             name="policy-client", daemon=True).start()

    def _serve(self, number: int, sock: socket.socket) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(HELLO_S)
            if self._hello(sock):
                sock.settimeout(None)
                while (got := frames.receive(sock)) is not None:
                    self._answer(sock, number, *got)
        except OSError as error:
            logger.debug("a policy client is gone: %s", error)
        finally:
            with self._lock:
                self._connections.pop(number, None)
            sock.close()

    def _hello(self, sock: socket.socket) -> bool:
        got = frames.receive(sock)
        if got is None:
            return False
        header = got[0]
        token = header.get("token")
        known = self._token is None or (isinstance(token, str) and hmac.compare_digest(
            token.encode(), self._token.encode()))
        if header.get("op") != "hello" or not known:
            frames.send(sock, {"error": "the policy server wants its token: give PolicyClient "
                               "token=..., or set SKATE_POLICY_TOKEN", "type": "PermissionError"})
            return False
        if header.get("version") != frames.VERSION:
            frames.send(sock, {"error": f"the server speaks version {frames.VERSION}, not "
                               f"{header.get('version')!r}", "type": "ValueError"})
            return False
        assert self._recorder is not None
        frames.send(sock, {"obs_space": self._recorder.obs_space,
                           "action_space": self._recorder.action_space})
        return True

    def _answer(self, sock: socket.socket, number: int, header: dict[str, Any],
                body: bytes) -> None:
        op = header.get("op")
        method = getattr(self, f"_on_{op}", None) if isinstance(op, str) else None
        try:
            if method is None:
                raise ValueError(f"there is no op {op!r}")
            answer, more = method(header, body, number)
        except (*REFUSED, frames.FrameError) as error:
            answer, more = {"error": str(error), "type": type(error).__name__}, b""
        frames.send(sock, answer, more)

    def _there(self) -> Recorder:
        assert self._recorder is not None
        return self._recorder

    def _obs(self, header: dict[str, Any], body: bytes) -> Any:
        """An observation as the recorder flattens it: the row is flat already."""
        row = frames.unpack(header.get("arrays", []), body).get("obs")
        size = self._there().obs_space["size"]
        if row is None or row.shape != (size,) or row.dtype != "float32":
            raise ValueError(f"an observation must be an array 'obs' of {size} float32")
        return row

    def _on_start(self, header: dict[str, Any], body: bytes, number: int) -> Any:
        name = header.get("episode_id")
        training = bool(header.get("training", True))
        return {"episode_id": self._there().start_episode(name, training)}, b""

    def _on_action(self, header: dict[str, Any], body: bytes, number: int) -> Any:
        import numpy as np

        action = self._there().get_flat_action(str(header.get("episode_id")),
                                               self._obs(header, body))
        array = np.asarray(action)
        whole = isinstance(action, (int, tuple))
        return {"action": array.tolist(), "dtype": None if whole else str(array.dtype),
                "tuple": isinstance(action, tuple)}, b""

    def _on_log_action(self, header: dict[str, Any], body: bytes, number: int) -> Any:
        self._there().log_action(str(header.get("episode_id")), self._obs(header, body),
                                 header.get("action"), flat=True)
        return {}, b""

    def _on_returns(self, header: dict[str, Any], body: bytes, number: int) -> Any:
        self._there().log_returns(str(header.get("episode_id")), float(header.get("reward", 0.0)))
        return {}, b""

    def _on_end(self, header: dict[str, Any], body: bytes, number: int) -> Any:
        self._there().end_episode(str(header.get("episode_id")), self._obs(header, body),
                                  flat=True)
        return {}, b""

    def _on_policy(self, header: dict[str, Any], body: bytes, number: int) -> Any:
        try:
            return {"job": json.loads(json.dumps(self._there().job))}, b""
        except TypeError as error:
            raise ValueError("inference_mode='local' needs a config of plain data (no custom "
                             f"model, no callbacks): {error}") from error

    def _on_weights(self, header: dict[str, Any], body: bytes, number: int) -> Any:
        with self._lock:
            newest = self._weights
        if newest is None or newest[1] == header.get("version"):
            return {"version": header.get("version")}, b""
        return {"version": newest[1],
                "arrays": [["weights", "float32", [len(newest[0]) // 4]]]}, newest[0]

    def _on_upload(self, header: dict[str, Any], body: bytes, number: int) -> Any:
        recorder = self._there()
        columns = frames.unpack(header.get("arrays", []), body)
        lengths = [int(n) for n in header.get("lengths", [])]
        rows = sum(lengths)
        recorder.check_columns(columns, rows)
        if min(lengths, default=1) < 1:
            raise ValueError(f"chunks of {lengths} rows")
        columns["eps_id"] += number << EPISODE_BITS
        chunks, at = [], 0
        for length in lengths:
            chunks.append([{name: array[i] for name, array in columns.items()}
                           for i in range(at, at + length)])
            at += length
        recorder.feed(chunks, [float(x) for x in header.get("rewards", [])],
                      [int(n) for n in header.get("steps", [])])
        return {}, b""
