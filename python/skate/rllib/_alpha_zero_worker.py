"""The worker of contrib/AlphaZero: plays episodes with tree search.

An environment in Python has get_state() and set_state(state), as RLlib's contrib/AlphaZero wants
it; its observations may be {'obs': ..., 'action_mask': ...}. One in C saves its lane, and the whole
search is done in C.
"""

from __future__ import annotations

from typing import Any

from skate.rllib import _env, _keep, _metrics, _native, _spaces
from skate.rllib._errors import EnvAnswerError, UnsupportedConfigError
from skate.rllib._own_workers import OwnWorker, unmasked


class AlphaZeroWorker(OwnWorker):
    """Plays with the net it is given."""

    def _open(self) -> None:
        """Of {'obs', 'action_mask'} only 'obs' is what the net sees."""
        if self._envs or self._native is not None:
            return
        super()._open()
        if self.agents is not None:
            return              # the plan says that this is not for it
        if self.action_space["kind"] != "discrete":
            raise UnsupportedConfigError("contrib/AlphaZero needs a Discrete action space")
        if self._native is None and not isinstance(self._envs[0], _native.LaneEnv):
            env = self._envs[0]
            parts: Any = getattr(env.observation_space, "spaces", None)
            if hasattr(parts, "keys") and "obs" in parts and "action_mask" in parts:
                self.obs_space = _spaces.describe(parts["obs"])
            for name in ("get_state", "set_state"):
                if not hasattr(_inner(env, name), name):
                    raise UnsupportedConfigError(
                        f"contrib/AlphaZero needs an environment with {name}(): "
                        f"{type(env).__name__} has none")

    # ---- checkpoints ------------------------------------------------------------------------

    def keep(self) -> bytes:
        """The environment in Python with its own random numbers; b"" without one, or if it cannot
        be pickled. Games in C start from the seeds of their round."""
        return b"" if self._one is not None else _keep.keep_envs(self._envs)

    def go_on(self, block: bytes) -> None:
        """What keep() gave."""
        if block:
            self._ready()
            self._envs = _keep.take_envs(self._envs, block)

    # ---- whole episodes ---------------------------------------------------------------------

    def play(self, weights: Any, steps: int, episodes: int, settings: dict[str, Any],
             seed: tuple[int, int]) -> tuple[dict[str, Any], _metrics.Episodes]:
        """Episodes until there are so many steps and episodes: their columns and returns."""
        import numpy as np

        self._ready()
        self._engine.set_weights(weights, 0)
        rng = np.random.default_rng(seed)
        game = (_LaneGame if self._one is not None else _PythonGame)(
            self, settings, int(rng.integers(2 ** 62)))
        rows: dict[str, list[Any]] = {"obs": [], "action_mask": [], "mcts_policies": [],
                                      "value_label": []}
        ended = _metrics.Episodes()
        while len(rows["obs"]) < steps or len(ended.rewards) < episodes:
            labels, total = self._episode(game, int(rng.integers(2 ** 31)), settings, rows)
            rows["value_label"] += labels
            ended.rewards.append(total)
            ended.lengths.append(len(labels))
        return {name: np.array(values, np.float32) for name, values in rows.items()}, ended

    @staticmethod
    def _episode(game: Any, seed: int, settings: dict[str, Any],
                 rows: dict[str, list[Any]]) -> tuple[list[float], float]:
        """Append an episode's rows: (value labels, the first player's return)."""
        rewards: list[float] = []
        players: list[int] = []
        game.start(seed)
        done = False
        while not done:
            players.append(game.player())
            obs, mask, policy, action = game.think(settings["argmax_tree_policy"])
            rows["obs"].append(obs)
            rows["action_mask"].append(mask)
            rows["mcts_policies"].append(policy)
            reward, done = game.move(action)
            rewards.append(reward)
        total = sum(r if p == players[0] else -r for r, p in zip(rewards, players))
        if settings["threshold"] is not None:
            rewards = [0.0] * (len(rewards) - 1) + [
                1.0 if total >= settings["threshold"] else -1.0]
        labels, after = [], 0.0         # `after` is the first player's
        for reward, player in zip(reversed(rewards), reversed(players)):
            sign = 1.0 if player == players[0] else -1.0
            after += sign * reward
            labels.append(sign * after)
        return labels[::-1], total

    def random_returns(self, _weights: Any, episodes: int, seed: int) -> list[float]:
        """The returns of so many episodes of random moves."""
        import numpy as np

        self._ready()
        rng = np.random.default_rng([seed, 5])
        game = (_LaneGame if self._one is not None else _PythonGame)(self, None, 0)
        totals = []
        for _ in range(episodes):
            game.start(int(rng.integers(2 ** 31)))
            total, done = 0.0, False
            while not done:
                allowed = np.flatnonzero(game.mask())
                reward, done = game.move(int(allowed[rng.integers(len(allowed))]))
                total += reward
            totals.append(total)
        return totals


def _inner(env: Any, name: str) -> Any:
    """The environment inside wrappers that has a method, or the outermost."""
    inner = env
    while not hasattr(inner, name) and hasattr(inner, "env"):
        inner = inner.env
    return inner if hasattr(inner, name) else env


def _search_numbers(settings: dict[str, Any] | None) -> tuple[int, float, float, float, float]:
    """(simulations, puct, temperature, epsilon, alpha) of an mcts_config."""
    if settings is None:
        return 1, 0.0, 1.0, 0.0, 1.0
    epsilon = settings["dirichlet_epsilon"] if settings["add_dirichlet_noise"] else 0.0
    return (settings["num_simulations"], settings["puct_coefficient"], settings["temperature"],
            epsilon, settings["dirichlet_noise"])


class _LaneGame:
    """A game in a lane in C."""

    def __init__(self, worker: AlphaZeroWorker, settings: dict[str, Any] | None,
                 seed: int) -> None:
        import numpy as np

        from skate import _rl

        self._env = worker._one
        threshold = settings["threshold"] if settings else None
        self._search = _rl.Search(worker._engine, self._env, *_search_numbers(settings), 1.0,
                                  threshold is not None, threshold or 0.0, seed)
        self._turn = np.frombuffer(self._env.rows("turn"), np.uint8)
        self._sizes = (worker.obs_space["size"], worker.action_space["size"])

    def start(self, seed: int) -> None:
        import numpy as np

        self._env.reset(None, np.array([seed], np.uint64))
        self._search.restart()

    def player(self) -> int:
        return int(self._turn[0])

    def mask(self) -> Any:
        import numpy as np

        known = self._env.mask(0, self._sizes[1])
        return np.ones(self._sizes[1], np.uint8) if known is None else np.frombuffer(known,
                                                                                     np.uint8)

    def think(self, argmax: bool) -> tuple[Any, Any, Any, int]:
        import numpy as np

        obs, mask, policy = (np.empty(self._sizes[i], np.float32) for i in (0, 1, 1))
        return obs, mask, policy, self._search.think(argmax, obs, mask, policy)

    def move(self, action: int) -> tuple[float, bool]:
        moved: tuple[float, bool] = self._search.move(action)
        return moved


class _PythonGame:
    """A game in Python: one player, states by get_state() and set_state()."""

    def __init__(self, worker: AlphaZeroWorker, settings: dict[str, Any] | None,
                 seed: int) -> None:
        import numpy as np

        from skate import _rl

        self._env = worker._envs[0]
        self._states = _inner(self._env, "get_state")
        self._row, self._engine = worker._obs_row, worker._engine
        self._first = worker.action_space["start"]
        self._threshold = settings["threshold"] if settings else None
        self._simulations = _search_numbers(settings)[0]
        size = worker.action_space["size"]
        self._tree = _rl.Tree(size, *_search_numbers(settings), 1.0, seed)
        self._columns = {"obs": np.zeros((1, worker.obs_space["size"]), np.float32),
                         "actions": np.zeros(1, np.int32), "vf": np.zeros(1, np.float32),
                         "inputs": np.zeros((1, size), np.float32)}
        self._all = np.ones(size, np.float32)
        self._obs: Any = None
        self._so_far = 0.0
        self._known: dict[int, tuple[Any, float]] = {}      # node -> state, return so far

    def start(self, seed: int) -> None:
        self._obs = _env.first_obs(self._env, seed)
        self._tree.reset()
        self._known, self._so_far = {}, 0.0

    def player(self) -> int:
        return 0

    def mask(self) -> Any:
        mask = unmasked(self._obs)[1]
        return self._all if mask is None else mask

    def _judge(self, obs: Any) -> tuple[float, Any, Any]:
        """(value, logits, mask) of an observation."""
        import numpy as np

        inside, mask = unmasked(obs)
        self._columns["obs"][0] = self._row(inside)
        self._engine.act(1, self._columns, explore=False)
        return (float(self._columns["vf"][0]), self._columns["inputs"],
                None if mask is None else np.ascontiguousarray(mask, np.float32))

    def _simulate(self, home: Any) -> None:
        leaf = self._tree.select()
        if leaf is None:
            return
        parent, action = leaf
        if parent < 0:
            value, logits, mask = self._judge(self._obs)
            node = self._tree.expand(0.0, False, 0, value, logits, mask)
            self._known[node] = (home, self._so_far)
            return
        state, so_far = self._known[parent]
        self._states.set_state(state)
        obs, reward, terminated, truncated, _info = _env.five(
            self._env.step(action + self._first))
        reward, end = float(reward), bool(terminated or truncated)
        so_far += reward
        if self._threshold is not None:
            reward = 0.0 if not end else 1.0 if so_far >= self._threshold else -1.0
        if end:
            self._tree.expand(reward, True, 0, 0.0, None)
            return
        value, logits, mask = self._judge(obs)
        node = self._tree.expand(reward, False, 0, value, logits, mask)
        self._known[node] = (self._states.get_state(), so_far)

    def think(self, argmax: bool) -> tuple[Any, Any, Any, int]:
        import numpy as np

        home = self._states.get_state()
        if self._known:
            self._known[0] = (home, self._so_far)
        for _ in range(self._simulations):
            self._simulate(home)
        self._states.set_state(home)
        policy = np.empty(len(self._all), np.float32)
        self._tree.policy(policy)
        row = np.array(self._row(unmasked(self._obs)[0]), np.float32)
        return (row, np.array(self.mask(), np.float32), policy, int(self._tree.choose(argmax)))

    def move(self, action: int) -> tuple[float, bool]:
        self._obs, reward, terminated, truncated, _info = _env.five(
            self._env.step(action + self._first))
        reward = float(reward)
        if not -1e300 < reward < 1e300:
            raise EnvAnswerError(f"the environment gave a reward that is not finite: {reward}")
        self._so_far += reward
        kept = self._tree.advance(action)
        self._known = {new: self._known[old] for old, new in kept.items() if old in self._known}
        return reward, bool(terminated or truncated)
