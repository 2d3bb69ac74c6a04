"""Environments that ask for actions: ExternalEnv in a thread, policy clients over TCP."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from gymnasium import spaces

from skate.rllib._errors import EnvError
from skate.rllib._external import frames
from skate.rllib._external.recorder import ExternalClosedError
from skate.rllib.agents.ppo import PPOTrainer
from skate.rllib.env.external_env import ExternalEnv
from skate.rllib.env.policy_client import PolicyClient
from skate.rllib.env.policy_server_input import PolicyServerInput

OBS, ACTIONS = spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.Discrete(2)
QUICK = {"num_workers": 0, "train_batch_size": 256, "rollout_fragment_length": 256, "lr": 1e-2,
         "sgd_minibatch_size": 64, "num_sgd_iter": 6, "seed": 1, "model": {"fcnet_hiddens": [16]}}


def play(there, rng, episodes: int = 10**9) -> None:
    """Episodes of 8 steps; the reward is 1 where the action is the observation's sign."""
    for _ in range(episodes):
        name = there.start_episode()
        for _step in range(8):
            side = int(rng.integers(2))
            obs = np.array([2.0 * side - 1.0, 0.5], np.float32)
            there.log_returns(name, float(there.get_action(name, obs) == side))
        there.end_episode(name, np.zeros(2, np.float32))


class Service(ExternalEnv):
    """Plays for ever."""

    def __init__(self, config):
        super().__init__(ACTIONS, OBS)

    def run(self):
        play(self, np.random.default_rng(1))


class Broken(Service):
    def run(self):
        raise OSError("the simulator is gone")


class Ended(Service):
    def run(self):
        play(self, np.random.default_rng(1), 1)


def served(given: list, **more):
    """A trainer whose server's port goes to `given`."""
    def server(ioctx):
        given.append(PolicyServerInput(ioctx, "127.0.0.1", 0, **more))
        return given[-1]

    return PPOTrainer(config={**QUICK, "env": None, "observation_space": OBS,
                              "action_space": ACTIONS, "input": server})


def learns(trainer, bar: float = 7.0) -> None:
    for _ in range(20):
        if trainer.train()["episode_reward_mean"] >= bar:
            return
    raise AssertionError("it does not learn")


def test_an_external_env_learns():
    trainer = PPOTrainer(config={**QUICK, "env": Service})
    learns(trainer)
    result = trainer.train()
    assert result["episode_len_mean"] == 8.0 and result["timesteps_this_iter"] == 256
    assert trainer.observation_space is not None
    trainer.stop()


class Counting(Service):
    """Counts the actions it asks for."""

    asked = 0

    def get_action(self, *args):
        Counting.asked += 1
        return super().get_action(*args)


def test_it_runs_one_batch_ahead_at_most():
    """What is learned from was done with the last weights or those before."""
    trainer = PPOTrainer(config={**QUICK, "env": Counting})
    for done in range(1, 6):
        trainer.train()
        recorder = trainer.workers._recorder
        with recorder._changed:
            assert recorder._changed.wait_for(lambda r=recorder: r.count >= 256, 60)
        assert Counting.asked <= 256 * (done + 1) + 2
    trainer.stop()


@pytest.mark.parametrize(("env", "error", "words"), [
    (Broken, OSError, "simulator is gone"), (Ended, EnvError, "has returned")])
def test_what_ends_run_ends_train(env, error, words):
    trainer = PPOTrainer(config={**QUICK, "env": env})
    with pytest.raises(error, match=words):
        trainer.train()
    trainer.stop()


@pytest.mark.parametrize("mode", ["remote", "local"])
def test_clients_of_a_server_learn(mode):
    given: list = []
    trainer = served(given, token="secret")
    ends = []

    def simulate(seed: int) -> None:
        client = PolicyClient(f"http://127.0.0.1:{given[0].port}", mode, update_interval=0.0,
                              token="secret")
        try:
            play(client, np.random.default_rng(seed))
        except (ExternalClosedError, ConnectionError) as error:
            ends.append(error)

    threads = [threading.Thread(target=simulate, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    try:
        learns(trainer)
    finally:
        trainer.stop()
        for thread in threads:
            thread.join(60)
    assert len(ends) == 2, "the clients heard of the end"


def test_a_client_in_a_process_of_its_own():
    given: list = []
    trainer = served(given)
    program = f"""
import numpy as np
from skate.rllib.env.policy_client import PolicyClient
client = PolicyClient("localhost:{given[0].port}", "remote")
for _ in range(40):
    name = client.start_episode()
    for _step in range(8):
        client.log_returns(name, float(client.get_action(name, np.ones(2, np.float32))))
    client.end_episode(name, np.zeros(2))
client.close()
"""
    child = subprocess.Popen([sys.executable, "-c", program])
    result = trainer.train()
    assert result["episodes_this_iter"] >= 30 and result["episode_len_mean"] == 8.0
    assert child.wait(60) == 0
    trainer.stop()


@contextlib.contextmanager
def connection(port: int):
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        sock.settimeout(30)
        yield sock


def test_nobody_is_let_in():
    given: list = []
    trainer = served(given, token="secret")
    port = given[0].port
    with pytest.raises(PermissionError, match="SKATE_POLICY_TOKEN"):
        PolicyClient(f"127.0.0.1:{port}", "remote", token="guess")
    with connection(port) as sock:      # another op first
        frames.send(sock, {"op": "policy"})
        answer = frames.receive(sock)
        assert answer is not None and answer[0]["type"] == "PermissionError"
        assert frames.receive(sock) is None
    for junk in (b"GET / HTTP/1.1\r\n\r\n", frames.HEAD.pack(b"SKPS", 1 << 30, 0),
                 frames.HEAD.pack(b"SKPS", 4, 0) + b"nope"):
        with connection(port) as sock:
            with contextlib.suppress(OSError):      # it may have hung up already
                sock.sendall(junk)
                sock.shutdown(socket.SHUT_WR)
                assert sock.recv(1) == b""
    with pytest.raises(ValueError, match="token"):
        PolicyServerInput(None, "0.0.0.0", 0)
    client = PolicyClient(f"127.0.0.1:{port}", "remote", token="secret")
    assert client.start_episode("mine") == "mine"
    trainer.stop()


def test_what_a_client_may_not_say():
    given: list = []
    trainer = served(given)
    client = PolicyClient(f"127.0.0.1:{given[0].port}", "remote")
    with pytest.raises(ValueError, match="no open episode"):
        client.log_returns("nobody", 1.0)
    name = client.start_episode()
    with pytest.raises(ValueError, match="started already"):
        client.start_episode(name)
    with pytest.raises(ValueError, match="finite"):
        client.get_action(name, np.array([np.nan, 0.0]))
    with pytest.raises(EnvError, match="3 numbers"):
        client.get_action(name, np.zeros(3))
    with pytest.raises(ValueError, match="finite"):
        client.log_returns(name, float("inf"))
    with pytest.raises(ValueError, match="outside of its space"):
        client.log_action(name, np.zeros(2), 7)
    with pytest.raises(ValueError, match="columns"):
        client._ask({"op": "upload", "arrays": [], "lengths": []})
    columns = {"obs": np.zeros((1, 2), np.float32), "new_obs": np.zeros((1, 2), np.float32),
               "eps_id": np.zeros(1, np.int64), "t": np.zeros(1, np.int32),
               "actions": np.full(1, 9, np.int32), "inputs": np.zeros((1, 2), np.float32),
               **{n: np.zeros(1, np.float32) for n in (
                   "rewards", "terminateds", "truncateds", "cuts", "logp", "vf")}}
    plan, body = frames.pack(columns)
    with pytest.raises(ValueError, match="outside of its space"):
        client._ask({"op": "upload", "arrays": plan, "lengths": [1]}, body)
    with pytest.raises(ValueError, match="over the end"):
        client._ask({"op": "upload", "arrays": plan, "lengths": [1]}, body[:-1])
    with pytest.raises(ValueError, match="no op"):
        client._ask({"op": "_hello"})
    trainer.stop()
    with pytest.raises((ExternalClosedError, ConnectionError)):
        client.get_action(name, np.zeros(2))


def test_rows_of_a_recorder():
    """Cut where an episode goes on; what follows is in the next take."""
    trainer = PPOTrainer(config={**QUICK, "env": Service})
    recorder = trainer.workers._recorder
    recorder.close()
    from skate.rllib._external.recorder import Recorder, stacked

    made = Recorder(recorder.job, recorder.obs_space, recorder.action_space, 1, 100)
    name = made.start_episode("e")
    for step in range(3):
        made.get_action(name, np.full(2, step / 10))
        made.log_returns(name, step)
        made.log_returns(name, 0.5)
    parts, ended = made.take(2)
    columns = stacked(parts)
    assert columns["rewards"].tolist() == [0.5, 1.5] and columns["cuts"].tolist() == [0.0, 1.0]
    assert np.allclose(columns["new_obs"][:, 0], [0.1, 0.2]) and not ended.rewards
    made.end_episode(name, np.ones(2))
    parts, ended = made.take(1)
    columns = stacked(parts)
    assert columns["terminateds"].tolist() == [1.0] and columns["cuts"].tolist() == [0.0]
    assert columns["t"].tolist() == [2] and ended.rewards == [4.5] and ended.lengths == [3]
    quiet = made.start_episode("quiet", training_enabled=False)
    made.get_action(quiet, np.zeros(2))
    made.end_episode(quiet, np.zeros(2))
    assert made.count == 0
    made.close()
    with pytest.raises(ExternalClosedError):
        made.start_episode()
    trainer.stop()
