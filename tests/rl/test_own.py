"""skate._rl's doors for algorithms that sample for themselves: Evo, Tree, Search."""

from __future__ import annotations

import numpy as np
import pytest

from skate import _rl

BOX4 = {"kind": "box", "size": 4, "shape": [4]}
TWO = {"kind": "discrete", "size": 2}


def es(name="ES", obs=BOX4, action=TWO, **options):
    return _rl.Algo(name, obs, action, {"fcnet_hiddens": [8.0], **options}, 3)


def flat(algo):
    weights = np.empty(algo.n_weights, np.float32)
    algo.get_weights(weights)
    return weights


def test_a_rollout_depends_on_weights_position_scale_and_seed_only():
    algo, env = es(), _rl.Env("CartPole-v1", 1, 9, None, -1, 2)
    theta = flat(algo)
    played = []
    for _ in range(2):
        evo = _rl.Evo(algo)
        evo.weights(theta)
        for position, scale, seed in ((5, 0.5, 1), (5, -0.5, 1), (77, 0.5, 1), (5, 0.5, 2)):
            evo.start(position, scale, seed)
            played.append(evo.play(env, seed))
    assert played[:4] == played[4:]
    assert len({length for _, _, length in played[:4]}) > 1
    assert all(reward == signs == length for reward, signs, length in played)
    assert evo.play(env, 1, 5) [2] == 5                     # a limit of steps


def test_acting_step_by_step_is_the_same_as_playing_in_c():
    gymnasium = pytest.importorskip("gymnasium")
    algo, env = es(), gymnasium.make("CartPole-v1", disable_env_checker=True)
    evo, theta = _rl.Evo(algo), flat(algo)
    native = _rl.Env("CartPole-v1", 1, 0, None, -1, 2)
    counts = [np.empty(9, np.float32), np.empty(9, np.float32)]
    action = np.zeros(1, np.int32)
    for seed in range(3):
        evo.weights(theta)
        evo.start(123, 0.3, seed)
        obs, _ = env.reset(seed=seed)
        steps, done = 0, False
        while not done:
            evo.act(np.ascontiguousarray(obs, np.float32), action)
            obs, _, terminated, truncated, _ = env.step(int(action[0]))
            steps, done = steps + 1, terminated or truncated
        evo.counts(counts[0])
        evo.start(123, 0.3, seed)
        assert evo.play(native, seed) == (steps, steps, steps)
        evo.counts(counts[1])
        assert (counts[0] == counts[1]).all() and counts[0][0] == steps


def test_the_filter_and_boxes_work_through_the_door():
    box = {"kind": "box", "size": 1, "shape": [1], "low": [-2.0], "high": [2.0]}
    algo = es("ARS", {"kind": "box", "size": 3, "shape": [3]}, box)
    evo, env = _rl.Evo(algo), _rl.Env("Pendulum-v1", 1, 0, None, -1, 2)
    evo.weights(flat(algo))
    evo.start(0, 0.1, 4)
    reward, signs, length = evo.play(env, 4, 0, 0.0, True, 0.1, True)
    assert length == 200 and -2000 < reward < 0 and signs == -200
    counts = np.empty(7, np.float32)
    evo.counts(counts)
    assert counts[0] == 200 and (counts[4:] > 0).all()
    columns = {"positions": np.array([7], np.int32), "returns": np.array([[1, 2]], np.float32),
               "filter_count": counts[:1].copy(), "filter_mean": counts[1:4].reshape(1, 3).copy(),
               "filter_m2": counts[4:].reshape(1, 3).copy()}
    assert algo.learn(1, 1, columns)["update_ratio"] > 0
    with pytest.raises(ValueError, match="filter_mean"):
        algo.learn(1, 1, {k: v for k, v in columns.items() if k != "filter_mean"})
    with pytest.raises(ValueError, match="observation space"):
        _rl.Evo(es()).play(env, 1)


def test_a_tree_over_an_environment_in_python():
    """Walk along 0 .. 5 from 2: 5 pays 1, 0 pays nothing; both end."""
    tree = _rl.Tree(2, 60, 1.0, 1.0, 0.0, 0.3)
    even = np.zeros(2, np.float32)
    states, at, path = {}, 2, []
    while at not in (0, 5):
        states[0] = at
        for _ in range(60):
            leaf = tree.select()
            if leaf is None:
                continue
            parent, action = leaf
            x = at if parent < 0 else states[parent] + (1 if action else -1)
            end = x in (0, 5)
            node = tree.expand(float(x == 5), end, 0, 0.0, None if end else even)
            states[node] = x
        action = tree.choose(True)
        policy = np.empty(2, np.float32)
        tree.policy(policy)
        assert policy[1] > 0.5 and abs(policy.sum() - 1) < 1e-5
        at += 1 if action else -1
        path.append(at)
        kept = tree.advance(action)
        states = {new: states[old] for old, new in kept.items()}
    assert path == [3, 4, 5]
    with pytest.raises(ValueError, match="nothing was tried"):
        tree.choose(True)
    with pytest.raises(ValueError, match="num_simulations"):
        _rl.Tree(2, 0, 1.0, 1.0, 0.0, 0.3)


def test_a_search_in_c_with_ranked_rewards():
    net = _rl.Algo("AlphaZero", BOX4, TWO, {"fcnet_hiddens": [8.0]}, 1)
    env = _rl.Env("CartPole-v1", 1, 9, None, -1, 2)
    search = _rl.Search(net, env, 30, 1.0, 1.0, 0.25, 0.3, 1.0, True, 30.0, 5)
    obs, mask, policy = (np.empty(n, np.float32) for n in (4, 2, 2))
    with pytest.raises(ValueError):
        search.think(True, obs, mask, policy)               # not reset yet
    env.reset(None, np.array([4], np.uint64))
    search.restart()
    total, ended = 0.0, False
    while not ended:
        action = search.think(True, obs, mask, policy)
        assert mask.tolist() == [1, 1] and policy[action] == policy.max()
        reward, ended = search.move(action)
        total += reward
    assert total >= 30                                      # blind play falls after about 20
    with pytest.raises(TypeError, match="Env"):
        _rl.Search(net, net, 30, 1.0, 1.0, 0.25, 0.3)
