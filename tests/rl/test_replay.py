"""skate._rl.Replay, Episodes, nstep and sequences against naive models of them."""

from __future__ import annotations

import numpy as np
import pytest

from skate import _rl


class Naive:
    """What a prioritised buffer is, in plain lists."""

    def __init__(self, capacity: int, alpha: float) -> None:
        self.capacity, self.alpha = capacity, alpha
        self.rows: dict[int, np.ndarray] = {}
        self.priority: dict[int, float] = {}
        self.added, self.greatest = 0, 1.0

    def add(self, x: np.ndarray, priorities: np.ndarray | None) -> None:
        for i, row in enumerate(x):
            p = self.greatest if priorities is None else float(priorities[i])
            self.greatest = max(self.greatest, p)
            self.rows[self.added % self.capacity] = row
            self.priority[self.added % self.capacity] = p
            self.added += 1

    def update(self, rows: np.ndarray, priorities: np.ndarray) -> None:
        for r, p in zip(rows.tolist(), priorities.tolist(), strict=True):
            self.priority[r] = p
            self.greatest = max(self.greatest, p)

    def weights(self, rows: np.ndarray, beta: float) -> np.ndarray:
        p = {k: v**self.alpha for k, v in self.priority.items()}
        total, n = sum(p.values()), len(p)
        most = (n * min(p.values()) / total) ** -beta
        return np.array([(n * p[int(r)] / total) ** -beta / most for r in rows])


@pytest.mark.parametrize("seed", range(6))
def test_any_sequence_of_calls_is_as_in_the_naive_model(seed: int) -> None:
    rng = np.random.default_rng(seed)
    capacity, alpha = int(rng.integers(1, 300)), float(rng.uniform(0.1, 1))
    buffer = _rl.Replay(capacity, [("x", 24), ("flag", 1)], alpha, seed)
    model = Naive(capacity, alpha)
    for _ in range(60):
        n = int(rng.integers(1, 1.5 * capacity + 2))
        x = rng.normal(size=(n, 3))
        p = rng.exponential(size=n).astype(np.float32) + 1e-6 if rng.integers(2) else None
        if rng.integers(3) == 0:
            p = None if p is None else p[:0]
            n, x = 0, x[:0]
        buffer.add({"x": x, "flag": (x[:, 0] > 0), "unused": 1}, n, p)
        model.add(x, p)
        assert (buffer.size, buffer.added) == (len(model.rows), model.added)
        if not model.rows:
            continue
        rows, weights = np.zeros(50, np.uint32), np.zeros(50, np.float32)
        buffer.draw(0.4, rows, weights)
        out, flags = np.zeros((50, 3)), np.zeros(50, bool)
        buffer.gather("x", rows, out)
        buffer.gather("flag", rows, flags)
        assert np.array_equal(out, [model.rows[int(r)] for r in rows])
        assert np.array_equal(flags, out[:, 0] > 0)
        np.testing.assert_allclose(weights, model.weights(rows, 0.4), rtol=2e-4)
        new = rng.exponential(size=50).astype(np.float32) + 1e-6
        buffer.update(rows, new)
        model.update(rows, new)
        assert buffer.age((model.added - 1) % capacity) == 0


def test_draws_are_stratified() -> None:
    buffer = _rl.Replay(1000, [("x", 4)], 1.0, 1)
    buffer.add({"x": np.zeros(1000, np.float32)}, 1000)
    rows = np.zeros(1000, np.uint32)
    buffer.draw(1.0, rows)
    assert (np.abs(rows.astype(int) - np.arange(1000)) <= 1).all()


def test_uniform_draws_reach_every_row_alike() -> None:
    buffer = _rl.Replay(10, [("x", 4)], seed=5)
    buffer.add({"x": np.arange(10, dtype=np.float32)}, 10)
    rows, weights = np.zeros(20000, np.uint32), np.zeros(20000, np.float32)
    buffer.draw(0.4, rows, weights)
    assert (np.abs(np.bincount(rows, minlength=10) - 2000) < 300).all()
    assert (weights == 1).all()


def test_a_state_goes_on_as_if_nothing_had_been() -> None:
    def make() -> _rl.Replay:
        return _rl.Replay(100, [("x", 8)], 0.6, 1)

    a, b = make(), make()
    a.add({"x": np.arange(130.0)}, 130)
    b.set_state(a.state())
    assert a.state() == b.state()
    for buffer in (a, b):
        rows = np.zeros(32, np.uint32)
        buffer.draw(0.4, rows)
        buffer.update(rows, np.linspace(0.1, 5, 32, dtype=np.float32))
        buffer.add({"x": np.arange(7.0)}, 7)
    assert a.state() == b.state()
    with pytest.raises(ValueError, match="set_state"):
        b.set_state(a.state()[:-1])
    with pytest.raises(ValueError, match="set_state"):
        _rl.Replay(101, [("x", 8)], 0.6).set_state(a.state())


def test_mistakes_are_told() -> None:
    with pytest.raises(ValueError, match="capacity"):
        _rl.Replay(0, [("x", 4)])
    with pytest.raises(ValueError, match="columns"):
        _rl.Replay(4, [])
    with pytest.raises(ValueError, match="shorter than"):
        _rl.Replay(4, [("x" * 40, 4)])
    buffer = _rl.Replay(4, [("x", 4)], 0.6)
    with pytest.raises(ValueError, match="empty"):
        buffer.draw(0.4, np.zeros(2, np.uint32))
    with pytest.raises(ValueError, match="column 'x' is missing"):
        buffer.add({}, 1)
    with pytest.raises(ValueError, match="x: expected 8 items"):
        buffer.add({"x": np.zeros(1, np.float32)}, 2)
    buffer.add({"x": np.zeros(2, np.float32)}, 2)
    with pytest.raises(ValueError, match="not there"):
        buffer.gather("x", np.array([2], np.uint32), np.zeros(1, np.float32))
    with pytest.raises(KeyError, match="no column 'y'"):
        buffer.gather("y", np.array([0], np.uint32), np.zeros(1, np.float32))
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="finite and above 0"):
            buffer.update(np.array([0], np.uint32), np.array([bad], np.float32))
    with pytest.raises(IndexError):
        buffer.age(2)


@pytest.mark.parametrize("seed", range(4))
def test_nstep_returns_by_their_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps, lanes, n = int(rng.integers(1, 40)), int(rng.integers(1, 4)), int(rng.integers(1, 6))
    rewards = rng.normal(size=(steps, lanes)).astype(np.float32)
    ends = (rng.uniform(size=(steps, lanes)) < 0.2).astype(np.uint8)
    returns, discounts = np.zeros_like(rewards), np.zeros_like(rewards)
    last = np.zeros((steps, lanes), np.uint32)
    _rl.nstep(rewards, ends, lanes, n, 0.9, returns, discounts, last)
    for lane in range(lanes):
        for t in range(steps):
            stop = next((k for k in range(t, min(t + n, steps)) if ends[k, lane]),
                        min(t + n, steps) - 1)
            expected = sum(0.9 ** (k - t) * rewards[k, lane] for k in range(t, stop + 1))
            assert last[t, lane] == stop
            assert returns[t, lane] == pytest.approx(expected, abs=1e-5)
            assert discounts[t, lane] == pytest.approx(0.9 ** (stop - t + 1), rel=1e-5)
    with pytest.raises(ValueError, match="multiple of lanes"):
        _rl.nstep(rewards, ends, steps * lanes + 1, n, 0.9, returns, discounts, last)


def test_sequences_overlap_by_the_burn_in() -> None:
    ends = np.array([0, 0, 0, 0, 1, 0, 0], np.uint8)
    index = np.frombuffer(_rl.sequences(ends, 5, 2), np.int32).reshape(-1, 5)
    assert index.tolist() == [
        [-1, -1, 0, 1, 2],
        [1, 2, 3, 4, -1],
        [-1, -1, 5, 6, -1],
    ]
    with pytest.raises(ValueError, match="burn_in"):
        _rl.sequences(ends, 4, 4)


def test_hindsight_goals_come_later_in_the_same_episode() -> None:
    episodes = _rl.Episodes(30, 1)
    with pytest.raises(ValueError, match="no whole episode"):
        episodes.draw(np.zeros(1, np.uint32), np.zeros(1, np.uint32))
    for length in (10, 8, 9, 7):  # 34 rows: the first episode is overwritten
        episodes.add(length)
    assert (episodes.count, episodes.steps) == (3, 24)
    owner = np.array([3] * 4 + [0] * 6 + [1] * 8 + [2] * 9 + [3] * 3)
    order = (np.arange(30) - 4) % 30
    rows, goals = np.zeros(3000, np.uint32), np.zeros(3000, np.uint32)
    episodes.hindsight(0.8, rows, goals)
    own = goals == 2**32 - 1
    assert 0.15 < own.mean() < 0.25
    assert set(owner[rows]) == {1, 2, 3}
    assert (owner[rows[~own]] == owner[goals[~own]]).all()
    assert (order[goals[~own]] >= order[rows[~own]]).all()
    rows, lengths = np.zeros(100, np.uint32), np.zeros(100, np.uint32)
    episodes.draw(rows, lengths)
    assert set(zip(rows.tolist(), lengths.tolist(), strict=True)) == {(10, 8), (18, 9), (27, 7)}
