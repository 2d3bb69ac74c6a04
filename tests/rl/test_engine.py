"""skate._rl against numpy in double: advantages, gradients, updates, determinism, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from skate import _rl
from skate.rllib._fragment import Fragment

OBS, ACTIONS, HIDDEN = 3, 4, (17, 9)


def random_fragment(seed: int, steps: int = 60) -> np.ndarray:
    """A fragment with plausible numbers, made through the field table."""
    rng = np.random.default_rng(seed)
    policy = _rl.Policy(OBS, ACTIONS, HIDDEN, seed=seed)
    rollout = _rl.Rollout(policy, steps, 1, 25)
    buffer = np.zeros(_rl.frag_bytes(steps, 1, OBS, ACTIONS), np.uint8)
    rollout.set_obs(0, rng.normal(size=OBS))
    rollout.begin(buffer, 3)
    for t in range(steps):
        rollout.act()
        ended = t % 11 == 10
        rollout.step(0, rng.normal(size=OBS).astype(np.float32), rng.normal(),
                     ended and t % 2 == 0, ended and t % 2 == 1)
        if ended:
            rollout.set_obs(0, rng.normal(size=OBS))
    rollout.finish()
    fields = Fragment(buffer).fields
    fields["value"][:] = rng.normal(size=(steps, 1))
    fields["boot"][:] = rng.normal(size=(steps, 1))
    fields["inputs"][:] = 0.4 * rng.normal(size=(steps, 1, ACTIONS))
    fields["logp"][:] = -1.4 + 0.2 * rng.normal(size=(steps, 1))
    return buffer


def numpy_gae(f: Fragment, gamma: float, lam: float) -> tuple[np.ndarray, np.ndarray]:
    """Advantages and targets of one column, by the definition (a sum, not a recursion)."""
    flags = f.fields["flags"][:, 0]
    reward, value, boot = (f.fields[k][:, 0].astype(float) for k in ("reward", "value", "boot"))
    n = len(flags)
    delta = np.empty(n)
    for t in range(n):
        if flags[t] & _rl.TERMINATED:
            beyond = 0.0
        elif flags[t]:
            beyond = boot[t]
        else:
            beyond = value[t + 1]
        delta[t] = reward[t] + gamma * beyond - value[t]
    advantage = np.zeros(n)
    for t in range(n):
        factor = 1.0
        for k in range(t, n):
            advantage[t] += factor * delta[k]
            if flags[k]:
                break
            factor *= gamma * lam
    return advantage, advantage + value


def split(flat: np.ndarray) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """The two nets of a flat vector as [(kernel, bias), ...] in double."""
    at, nets = 0, []
    for last in (ACTIONS, 1):
        dims, net = [OBS, *HIDDEN, last], []
        for i in range(len(dims) - 1):
            n = dims[i] * dims[i + 1]
            kernel = flat[at:at + n].reshape(dims[i], dims[i + 1])
            bias = flat[at + n:at + n + dims[i + 1]]
            net.append((kernel, bias))
            at += n + dims[i + 1]
        nets.append(net)
    assert at == flat.size
    return nets


def forward(net: list, x: np.ndarray) -> np.ndarray:
    for i, (kernel, bias) in enumerate(net):
        x = x @ kernel + bias
        if i < len(net) - 1:
            x = np.tanh(x)
    return x


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def numpy_loss(flat: np.ndarray, f: Fragment, o: dict[str, float]) -> float:
    """RLlib's PPO loss over the whole fragment, in double."""
    pi, vf = split(flat)
    fields = {k: v[:, 0].astype(float) for k, v in f.fields.items() if not k.startswith("epi")}
    advantage, target = numpy_gae(f, o["gamma"], o["lambda_"])
    advantage = (advantage - advantage.mean()) / max(1e-4, advantage.std())
    new, old = log_softmax(forward(pi, fields["obs"])), log_softmax(fields["inputs"])
    action = fields["action"].astype(int)
    ratio = np.exp(new[np.arange(len(action)), action] - fields["logp"])
    surrogate = np.minimum(advantage * ratio,
                           advantage * np.clip(ratio, 1 - o["clip"], 1 + o["clip"]))
    kl = (np.exp(old) * (old - new)).sum(1)
    entropy = -(np.exp(new) * new).sum(1)
    value = forward(vf, fields["obs"])[:, 0]
    near = fields["value"] + np.clip(value - fields["value"], -o["vf_clip"], o["vf_clip"])
    vf_loss = np.maximum((value - target) ** 2, (near - target) ** 2)
    if o.get("vf_clip_loss"):
        vf_loss = np.minimum((value - target) ** 2, o["vf_clip"])
    return float(np.mean(-surrogate + o["kl_coeff"] * kl + o["vf_coeff"] * vf_loss
                         - o["entropy_coeff"] * entropy))


OPTIONS = {"gamma": 0.97, "lambda_": 0.9, "clip": 0.2, "vf_clip": 0.7, "vf_coeff": 0.6,
           "kl_coeff": 0.3, "entropy_coeff": 0.02}


def weights_of(policy: object) -> np.ndarray:
    flat = np.empty(policy.n_weights, np.float32)
    policy.get_weights(flat)
    return flat


def test_gae_matches_numpy():
    f = Fragment(random_fragment(1))
    want = numpy_gae(f, 0.97, 0.9)
    columns = [np.ascontiguousarray(f.fields[k][:, 0]) for k in ("reward", "value", "boot")]
    flags = np.ascontiguousarray(f.fields["flags"][:, 0])
    got = np.empty(f.steps, np.float32), np.empty(f.steps, np.float32)
    _rl.gae(*columns, flags, 0.97, 0.9, *got)
    np.testing.assert_allclose(got[0], want[0], atol=2e-5)
    np.testing.assert_allclose(got[1], want[1], atol=2e-5)


@pytest.mark.parametrize("clip_loss", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_gradients_match_finite_differences(seed, clip_loss):
    options = {**OPTIONS, "vf_clip_loss": clip_loss}
    fragment = random_fragment(seed)
    policy = _rl.Policy(OBS, ACTIONS, HIDDEN, seed=seed + 10)
    rng = np.random.default_rng(seed)
    flat = (weights_of(policy) + 0.1 * rng.normal(size=policy.n_weights)).astype(np.float32)
    policy.set_weights(flat)
    learner = _rl.Learner(policy, threads=2, **options)
    gradient = np.empty(policy.n_weights, np.float32)
    stats = learner.gradient([fragment], gradient)
    np.testing.assert_array_equal(weights_of(policy), flat)
    view, point = Fragment(fragment), flat.astype(float)
    assert stats["total_loss"] == pytest.approx(numpy_loss(point, view, options), rel=1e-5)
    for i in rng.choice(flat.size, 150, replace=False):
        h = 1e-5
        up, down = point.copy(), point.copy()
        up[i] += h
        down[i] -= h
        want = (numpy_loss(up, view, options) - numpy_loss(down, view, options)) / (2 * h)
        assert gradient[i] == pytest.approx(want, rel=1e-3, abs=2e-5), i


def test_updates_are_adam_on_these_gradients():
    """Three updates of one full-batch minibatch each, replayed by numpy from gradient()."""
    fragment = random_fragment(5)
    a, b = (_rl.Policy(OBS, ACTIONS, HIDDEN, seed=3) for _ in range(2))
    options = {**OPTIONS, "lr": 1e-2, "kl_target": 1e9}     # kl below target: halves each time
    learner = _rl.Learner(a, minibatch=60, epochs=1, **options)
    probe = _rl.Learner(b, **options)
    x = weights_of(b).astype(float)
    m, v = np.zeros_like(x), np.zeros_like(x)
    for t in range(1, 4):
        gradient = np.empty(b.n_weights, np.float32)
        probe.set(kl_coeff=options["kl_coeff"] * 0.5 ** (t - 1))
        probe.gradient([fragment], gradient)
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient.astype(float) ** 2
        x -= 1e-2 * (m / (1 - 0.9 ** t)) / (np.sqrt(v / (1 - 0.999 ** t)) + 1e-8)
        b.set_weights(x.astype(np.float32))
        learner.update([fragment])
        # An element with a gradient near zero moves by lr times a ratio of tiny numbers.
        close = np.abs(weights_of(a) - x) < 2e-4
        assert close.mean() > 0.999


def test_without_a_shuffle_rows_are_learned_as_they_came():
    def after(seed, shuffle):
        policy = _rl.Policy(OBS, ACTIONS, HIDDEN, seed=3)
        _rl.Learner(policy, minibatch=20, epochs=2, seed=seed, shuffle=shuffle, **OPTIONS).update(
            [random_fragment(5)])
        return weights_of(policy).tobytes()
    assert after(1, False) == after(2, False) != after(1, True) != after(2, True)


def test_grad_clip_scales_the_whole_gradient():
    """With a tiny clip and Adam the first step is the same; the moments differ by the factor."""
    fragment = random_fragment(6)
    norms = []
    for clip in (0.0, 0.05):
        policy = _rl.Policy(OBS, ACTIONS, HIDDEN, seed=3)
        learner = _rl.Learner(policy, minibatch=60, epochs=1, grad_clip=clip, **OPTIONS)
        learner.update([fragment])
        moments = np.frombuffer(learner.get_state(), np.float32, offset=48)
        pi = OBS * HIDDEN[0] + HIDDEN[0] + HIDDEN[0] * HIDDEN[1] + HIDDEN[1] + \
            HIDDEN[1] * ACTIONS + ACTIONS
        vf = policy.n_weights - pi
        first = np.concatenate([moments[:pi], moments[2 * pi:2 * pi + vf]])
        norms.append(float(np.linalg.norm(first.astype(float) / 0.1)))
    assert norms[0] > 0.06
    assert norms[1] == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize("wrap", [False, True])
def test_same_seed_same_bytes_for_any_threads(wrap):
    results = []
    for threads in (1, 2, 3, 4):
        policy = _rl.Policy(OBS, ACTIONS, (256, 256), seed=1)
        learner = _rl.Learner(policy, threads=threads, lr=1e-3, epochs=3, seed=5, wrap=wrap)
        for u in range(3):
            learner.update([random_fragment(u, 200), random_fragment(u + 100, 200)])
        results.append(weights_of(policy).tobytes())
    assert len(set(results)) == 1


def test_state_resumes_exactly():
    policy = _rl.Policy(OBS, ACTIONS, HIDDEN, seed=1)
    learner = _rl.Learner(policy, lr=1e-3, epochs=3, seed=5)
    learner.update([random_fragment(1)])
    state, flat, version = learner.get_state(), weights_of(policy), policy.version
    learner.update([random_fragment(2)])
    other = _rl.Policy(OBS, ACTIONS, HIDDEN, seed=77)
    second = _rl.Learner(other, lr=1e-3, epochs=3, seed=5)
    second.set_state(state)
    other.set_weights(flat, version)
    second.update([random_fragment(2)])
    assert weights_of(other).tobytes() == weights_of(policy).tobytes()
    with pytest.raises(ValueError):
        second.set_state(state[:-4])
    with pytest.raises(ValueError):
        second.set_state(b"x" * len(state))


def test_rollout_fields():
    f = Fragment(random_fragment(1))
    fields = f.fields
    assert (f.steps, f.envs, f.worker) == (60, 1, 3)
    assert fields["obs"].shape == (60, 1, OBS)
    ends = [t for t in range(60) if t % 11 == 10]
    assert [t for t in range(60) if fields["flags"][t, 0] & 3] == ends
    assert [t for t in range(60) if fields["flags"][t, 0] & _rl.CUT] == [24, 49, 59]
    assert f.terminated[:, 0].sum() + f.truncated[:, 0].sum() == len(ends)
    assert f.episode_lengths.tolist() == [11] * len(ends)
    assert f.episode_rewards[0] == pytest.approx(fields["reward"][:11].sum(), rel=1e-5)


def test_take_records_what_step_does():
    fragments = []
    for take in (True, False):
        rollout = _rl.Rollout(_rl.Policy(OBS, ACTIONS, HIDDEN, seed=3), 40)
        fragments.append(np.zeros(_rl.frag_bytes(40, 1, OBS, ACTIONS), np.uint8))
        rng = np.random.default_rng(4)
        rollout.begin(fragments[-1])
        rollout.set_obs(0, rng.normal(size=OBS))
        for t in range(40):
            rollout.act()
            answer = rng.normal(size=OBS), float(t), t % 7 == 6, t % 10 == 9, {}
            if take:
                assert rollout.take(0, answer) is (answer[2] or answer[3])
            else:
                rollout.step(0, *answer[:4])
            if answer[2] or answer[3]:
                rollout.set_obs(0, rng.normal(size=OBS))
        rollout.finish()
    assert fragments[0].tobytes() == fragments[1].tobytes()


def test_sampled_actions_follow_the_logits():
    policy = _rl.Policy(1, 3, (), seed=4)
    policy.set_weights(np.array([0, 0, 0, 0.0, 1.0, 2.0, 0, 0], np.float32))
    n = 30000
    logits, actions = np.empty((n, 3), np.float32), np.empty(n, np.int32)
    logp, values = np.empty(n, np.float32), np.empty(n, np.float32)
    policy.compute_actions(np.zeros((n, 1), np.float32), logits, actions, logp, values)
    want = np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum()
    np.testing.assert_allclose(np.bincount(actions) / n, want, atol=0.01)
    np.testing.assert_allclose(np.exp(logp), want[actions], rtol=1e-5)
    policy.compute_actions(np.zeros((n, 1), np.float32), logits, actions, explore=False)
    assert set(actions.tolist()) == {2}


@pytest.mark.parametrize("seed", [0, 1])
def test_seeded_policies_repeat(seed):
    a, b = (_rl.Policy(OBS, ACTIONS, HIDDEN, seed=seed) for _ in range(2))
    assert weights_of(a).tobytes() == weights_of(b).tobytes()
    assert weights_of(a).tobytes() != weights_of(_rl.Policy(OBS, ACTIONS, HIDDEN,
                                                            seed=seed + 1)).tobytes()


def test_bad_input_raises():
    policy = _rl.Policy(OBS, ACTIONS, HIDDEN)
    learner = _rl.Learner(policy)
    with pytest.raises(ValueError, match="not a fragment"):
        learner.update([np.zeros(1000, np.uint8)])
    with pytest.raises(ValueError):
        learner.update([])
    with pytest.raises(TypeError):
        learner.update([3])
    bad = random_fragment(1)
    Fragment(bad).fields["obs"][5, 0, 1] = math.nan
    with pytest.raises(ValueError, match="'obs'"):
        learner.update([bad])
    with pytest.raises(ValueError, match="out of range"):
        _rl.Learner(policy, lr=-1.0)
    with pytest.raises(ValueError):
        _rl.Policy(0, 2)
    with pytest.raises(ValueError, match="activation"):
        _rl.Policy(1, 2, activation="gelu")
    with pytest.raises(ValueError, match="weights"):
        policy.set_weights(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="type"):
        policy.set_weights(np.zeros(policy.n_weights))
    rollout = _rl.Rollout(policy, 10)
    with pytest.raises(ValueError):
        rollout.act()
    with pytest.raises(ValueError):
        rollout.begin(np.zeros(100, np.uint8))
    buffer = np.zeros(_rl.frag_bytes(10, 1, OBS, ACTIONS), np.uint8)
    rollout.begin(buffer)
    rollout.act()
    row = np.zeros(OBS, np.float32)
    for answer in ([row, 1.0, False, False, {}], (row, 1.0, False, {}), ([0.0] * OBS, 1, 0, 0, {})):
        with pytest.raises(TypeError):
            rollout.take(0, answer)
    with pytest.raises(ValueError, match="observation"):
        rollout.take(0, (np.zeros(OBS + 1, np.float32), 1.0, False, False, {}))
    with pytest.raises(ValueError, match="observation"):
        rollout.step(0, np.zeros(OBS + 1, np.float32), 1.0, False, False)
    with pytest.raises(IndexError):
        rollout.step(1, np.zeros(OBS, np.float32), 1.0, False, False)
    with pytest.raises(ValueError):
        rollout.begin(np.zeros(100, np.uint8))      # drops the buffer that it had
    for call in (rollout.act, rollout.finish,
                 lambda: rollout.step(0, np.zeros(OBS, np.float32), 1.0, False, False)):
        with pytest.raises(ValueError, match="no fragment begun"):
            call()


def test_diverged_nets_raise():
    policy = _rl.Policy(OBS, ACTIONS, HIDDEN)
    policy.set_weights(np.full(policy.n_weights, np.nan, np.float32))
    rollout = _rl.Rollout(policy, 10)
    rollout.begin(np.zeros(_rl.frag_bytes(10, 1, OBS, ACTIONS), np.uint8))
    with pytest.raises(FloatingPointError):
        rollout.act()
    policy = _rl.Policy(OBS, ACTIONS, HIDDEN)
    learner = _rl.Learner(policy, vf_clip=1e30)
    fragment = random_fragment(1)
    Fragment(fragment).fields["reward"][:] = 1e25      # finite, its square is not
    with pytest.raises(FloatingPointError, match="diverged"):
        learner.update([fragment])
