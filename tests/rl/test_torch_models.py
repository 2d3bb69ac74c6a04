"""Models of the user's own in PyTorch: TorchModelV2, RLModule, plain nn.Module."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from skate.rllib._errors import UnsupportedConfigError  # noqa: E402
from skate.rllib._models import dist as dists  # noqa: E402
from skate.rllib._models import losses  # noqa: E402
from skate.rllib._models.spaces import restore  # noqa: E402
from skate.rllib._torch import ops  # noqa: E402
from skate.rllib._torch.engine import TorchEngine  # noqa: E402
from skate.rllib.agents.a3c import A3CTrainer  # noqa: E402
from skate.rllib.agents.ppo import PPOTrainer  # noqa: E402
from skate.rllib.algorithms.ppo import PPOConfig  # noqa: E402
from skate.rllib.core.rl_module import RLModuleSpec  # noqa: E402
from skate.rllib.core.rl_module.apis import ValueFunctionAPI  # noqa: E402
from skate.rllib.core.rl_module.torch import TorchRLModule  # noqa: E402
from skate.rllib.models import ModelCatalog  # noqa: E402
from skate.rllib.models.torch.convert import from_state_dict, to_state_dict  # noqa: E402
from skate.rllib.models.torch.fcnet import FullyConnectedNetwork  # noqa: E402
from skate.rllib.models.torch.recurrent_net import RecurrentNetwork  # noqa: E402
from skate.rllib.models.torch.torch_modelv2 import TorchModelV2  # noqa: E402

QUICK = {"env": "CartPole-v1", "num_workers": 0, "num_envs_per_worker": 8, "seed": 3, "lr": 3e-3,
         "train_batch_size": 1024, "rollout_fragment_length": 128, "sgd_minibatch_size": 128,
         "num_sgd_iter": 8, "lambda": 0.95}
OBS = {"kind": "box", "size": 4, "shape": [4], "dtype": "float32"}
ACTIONS = {"kind": "discrete", "size": 2, "start": 0}


class Custom(TorchModelV2, nn.Module):
    """As RLlib's examples write it: a FullyConnectedNetwork inside."""

    def __init__(self, obs_space, action_space, num_outputs, model_config, name, width=32):
        TorchModelV2.__init__(self, obs_space, action_space, num_outputs, model_config, name)
        nn.Module.__init__(self)
        assert obs_space.shape == (4,) and action_space.n == num_outputs == 2
        self.inner = FullyConnectedNetwork(
            obs_space, action_space, num_outputs,
            {**model_config, "fcnet_hiddens": [width]}, name)
        self.losses = 0

    def forward(self, input_dict, state, seq_lens):
        return self.inner(input_dict, state, seq_lens)[0], []

    def value_function(self):
        return self.inner.value_function()

    def custom_loss(self, policy_loss, loss_inputs):
        assert "advantages" in loss_inputs
        self.losses += 1
        return [loss + 0.0 for loss in policy_loss]

    def metrics(self):
        return {"custom_losses": self.losses}


class Cue:
    """The first observation says which of two actions the last step wants; the others are 0."""

    def __init__(self, config):
        from gymnasium import spaces

        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.draws = np.random.default_rng(5)

    def reset(self, *, seed=None, options=None):
        self.steps, self.cue = 0, int(self.draws.integers(2))
        return np.array([2.0 * self.cue - 1.0, 1.0], np.float32), {}

    def step(self, action):
        self.steps += 1
        right = float(self.steps == 4 and action == self.cue)
        return np.zeros(2, np.float32), right, self.steps == 4, False, {}


class Recurrent(RecurrentNetwork, nn.Module):
    """A GRU."""

    def __init__(self, obs_space, action_space, num_outputs, model_config, name):
        RecurrentNetwork.__init__(self, obs_space, action_space, num_outputs, model_config, name)
        nn.Module.__init__(self)
        self.cell = nn.GRU(2, 16, batch_first=True)
        self.logits, self.value = nn.Linear(16, num_outputs), nn.Linear(16, 1)

    def get_initial_state(self):
        return [torch.zeros(16)]

    def forward_rnn(self, inputs, state, seq_lens):
        packed = nn.utils.rnn.pack_padded_sequence(inputs, seq_lens, True, enforce_sorted=False)
        out, last = self.cell(packed, state[0].unsqueeze(0).contiguous())
        out = nn.utils.rnn.pad_packed_sequence(out, True, total_length=inputs.shape[1])[0]
        self.features = out
        return self.logits(self.features), [last.squeeze(0)]

    def value_function(self):
        return self.value(self.features).reshape(-1)


class Module(TorchRLModule, ValueFunctionAPI):
    """The 2.x era's."""

    def setup(self):
        size, actions = self.observation_space.shape[0], self.action_space.n
        self.body = nn.Sequential(nn.Linear(size, self.model_config["width"]), nn.Tanh())
        self.pi, self.vf = (nn.Linear(self.model_config["width"], n) for n in (actions, 1))

    def _forward(self, batch, **kwargs):
        return {"action_dist_inputs": self.pi(self.body(batch["obs"]))}

    def compute_values(self, batch, embeddings=None):
        return self.vf(self.body(batch["obs"])).squeeze(-1)


def learns(algo, iterations: int = 14, bar: float = 80.0) -> None:
    """It reaches `bar`; the first iterations are at about 20."""
    best = 0.0
    for _ in range(iterations):
        best = max(best, algo.train()["episode_reward_mean"])
        if best >= bar:
            break
    algo.stop()
    assert best >= bar


@pytest.fixture(autouse=True)
def one_thread():
    """Small nets are quicker so."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_registered_model_learns():
    ModelCatalog.register_custom_model("mine", Custom)
    trainer = PPOTrainer(config={
        **QUICK, "model": {"custom_model": "mine", "custom_model_config": {"width": 48}}})
    result = trainer.train()
    learner = result["info"]["learner"]["default_policy"]["learner_stats"]
    assert learner["custom_losses"] > 0 and np.isfinite(learner["vf_loss"])
    weights = trainer.get_policy().get_weights()
    assert weights["net.inner._hidden_layers.0._model.0.weight"].shape == (48, 4)
    learns(trainer)


def test_a_module_of_the_newer_era_learns():
    config = (PPOConfig().environment("CartPole-v1")
              .env_runners(num_env_runners=0, num_envs_per_env_runner=8)
              .training(lr=3e-3, train_batch_size_per_learner=1024, minibatch_size=128,
                        num_epochs=8, lambda_=0.95)
              .debugging(seed=3)
              .rl_module(rl_module_spec=RLModuleSpec(module_class=Module,
                                                     model_config={"width": 48})))
    config.env_runners(rollout_fragment_length=128)
    learns(config.build_algo())


def test_a_plain_net_learns():
    class Net(nn.Module):
        def __init__(self, size, outputs):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(size, 64), nn.Tanh(), nn.Linear(64, outputs))

        def forward(self, obs):
            return self.layers(obs)

    learns(PPOConfig().update_from_dict({
        **QUICK, "model": {"custom_model": Net, "fcnet_hiddens": [64]}}).build_algo())


def test_a_recurrent_model_remembers():
    ModelCatalog.register_custom_model("recurrent", Recurrent)
    learns(PPOConfig().update_from_dict({
        **QUICK, "env": Cue, "train_batch_size": 512, "rollout_fragment_length": 64,
        "gamma": 1.0, "lr": 1e-2, "entropy_coeff": 0.01,
        "model": {"custom_model": "recurrent", "max_seq_len": 4}}).build_algo(),
        iterations=30, bar=0.9)


def test_rollout_actors_have_the_model(session):
    trainer = PPOTrainer(config={
        **QUICK, "num_workers": 2, "num_cpus_per_worker": 0, "train_batch_size": 512,
        "rollout_fragment_length": 32, "model": {"custom_model": Custom}})
    try:
        assert trainer.train()["timesteps_total"] == 512
    finally:
        trainer.stop()


def test_a3c_steps_by_gradients():
    trainer = A3CTrainer(config={"env": "CartPole-v1", "num_workers": 0, "min_iter_time_s": 0,
                                 "model": {"custom_model": Custom}})
    before = trainer.get_policy().flat_weights()
    trainer.train()
    assert not np.array_equal(before, trainer.get_policy().flat_weights())
    trainer.stop()
    with pytest.raises(UnsupportedConfigError, match="ortho_init=True"):
        A3CTrainer(config={"env": "CartPole-v1", "num_workers": 0, "ortho_init": True,
                           "model": {"custom_model": Custom}})


def test_resume_equals_an_uninterrupted_run(tmp_path):
    config = {**QUICK, "train_batch_size": 256, "rollout_fragment_length": 32,
              "model": {"custom_model": Custom}}
    one = PPOTrainer(config=config)
    for _ in range(2):
        one.train()
    saved = one.save(str(tmp_path))
    two = PPOTrainer(config=config)
    two.restore(saved)
    for a, b in zip(one.get_policy().get_weights().items(),
                    two.get_policy().get_weights().items(), strict=True):
        assert a[0] == b[0] and np.array_equal(a[1], b[1])
    obs = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    batch = {"obs": np.random.default_rng(1).normal(size=(64, 4)).astype(np.float32)}
    batch["new_obs"] = np.roll(batch["obs"], -1, 0)
    batch.update({name: np.zeros(64, np.float32) for name in (
        "rewards", "terminateds", "truncateds", "cuts", "logp", "vf")})
    batch.update(actions=np.arange(64, dtype=np.int32) % 2, inputs=np.zeros((64, 2), np.float32))
    batch["cuts"][::16] = batch["rewards"][:] = 1.0
    for trainer in (one, two):
        trainer.get_policy().engine.learn(64, 1, batch)
    assert np.array_equal(one.get_policy().flat_weights(), two.get_policy().flat_weights())
    assert [one.compute_single_action(obs) for _ in range(9)] == [
        two.compute_single_action(obs) for _ in range(9)]
    one.stop()
    two.stop()


@pytest.mark.parametrize(("model", "error", "words"), [
    ({"custom_model": "nobody"}, ValueError, "register_custom_model"),
    ({"custom_model": lambda size, n: nn.Linear(size, n + 1)}, ValueError, "action space wants"),
    ({"custom_model": lambda size, n: 5}, TypeError, "not an nn.Module"),
])
def test_what_is_no_model(model, error, words):
    with pytest.raises(error, match=words):
        trainer = PPOTrainer(config={**QUICK, "model": model})
        trainer.train()


def engine(name: str, **more) -> TorchEngine:
    """Over a linear net."""
    model = {"custom_model": lambda size, n: nn.Linear(size, n), "fcnet_hiddens": [8],
             "fcnet_activation": "tanh"}
    numbers = {"gamma": 0.9, "lambda": 0.8, "lr": 1e-2, "clip_param": 0.3, "vf_clip_param": 10.0,
               "vf_loss_coeff": 1.0, "entropy_coeff": 0.0, "kl_coeff": 0.2, "kl_target": 0.01,
               "grad_clip": None, "sgd_minibatch_size": 4, "num_sgd_iter": 2,
               "vf_clip_mode": "value", "kl_update": "mean", "shuffle_sequences": True,
               "wrap_minibatches": False,
               "opt_type": "adam", "decay": 0.99, "momentum": 0.0, "epsilon": 0.1,
               "loss_mean": False}
    return TorchEngine(name, OBS, ACTIONS, {"model": model, **numbers, **more}, 1)


def test_advantages_by_hand():
    made = engine("A2C")
    rewards, values = np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.25, 0.125])
    over, cut = np.array([False, True, False]), np.array([False, False, True])
    advantages, targets = made._estimate(rewards, values, np.array([0.0, 0.0, 4.0]), over, cut)
    last = 3.0 + 0.9 * 4.0 - 0.125
    second = 2.0 - 0.25
    first = 1.0 + 0.9 * 0.25 - 0.5 + 0.9 * 0.8 * second
    assert np.allclose(advantages, [first, second, last])
    assert np.allclose(targets, advantages + values)


@pytest.mark.parametrize("space", [
    ACTIONS, {"kind": "multi", "sizes": [2, 3]}, {"kind": "box", "size": 2}])
def test_distributions_against_torch(space):
    made, arrays = dists.dist_of(space, ops), dists.dist_of(space)
    inputs = torch.randn(64, made.n_inputs, dtype=torch.float64)
    other = torch.randn(64, made.n_inputs, dtype=torch.float64)
    drawn = arrays.draw(inputs.numpy(), True, np.random.default_rng(1))
    actions = torch.from_numpy(drawn)

    def theirs(x):
        if space["kind"] == "box":
            mean, log_std = x.chunk(2, 1)
            return torch.distributions.Independent(
                torch.distributions.Normal(mean, log_std.exp()), 1)
        return [torch.distributions.Categorical(logits=part)
                for part in (x.split(space["sizes"], 1) if space["kind"] == "multi" else [x])]

    def total(f):
        return sum(f(i) for i in range(len(theirs(inputs))))

    if space["kind"] == "box":
        a, b = theirs(inputs), theirs(other)
        logp, entropy = a.log_prob(actions), a.entropy()
        kl = torch.distributions.kl_divergence(a, b)
    else:
        a, b = theirs(inputs), theirs(other)
        parts = actions.reshape(64, -1)
        logp = total(lambda i: a[i].log_prob(parts[:, i]))
        entropy = total(lambda i: a[i].entropy())
        kl = total(lambda i: torch.distributions.kl_divergence(a[i], b[i]))
    assert torch.allclose(made.logp(inputs, actions), logp)
    assert torch.allclose(made.entropy(inputs), entropy)
    assert torch.allclose(made.kl(inputs, other), kl)
    assert np.allclose(arrays.logp(inputs.numpy(), drawn), logp)


def test_draws_have_the_probabilities():
    made, n = dists.dist_of({"kind": "multi", "sizes": [3, 2]}), 60_000
    shares = [0.2, 0.5, 0.3, 0.9, 0.1]
    drawn = made.draw(np.tile(np.log(shares), (n, 1)), True, np.random.default_rng(2))
    for part, column in (([0.2, 0.5, 0.3], 0), ([0.9, 0.1], 1)):
        seen = np.bincount(drawn[:, column], minlength=len(part)) / n
        assert np.allclose(seen, part, atol=5 * 0.5 / np.sqrt(n))


def test_the_first_step_of_ppo_is_at_ratio_one():
    made = dists.dist_of(ACTIONS, ops)
    inputs = torch.randn(16, 2)
    actions = torch.randint(2, (16,))
    columns = {"actions": actions, "logp": made.logp(inputs, actions), "inputs": inputs,
               "advantages": torch.randn(16), "vf": torch.zeros(16),
               "value_targets": torch.ones(16)}
    numbers = {"clip_param": 0.3, "vf_clip_param": 10.0, "kl_coeff": 0.2, "vf_loss_coeff": 0.5,
               "entropy_coeff": 0.0, "vf_clip_mode": "value"}
    loss, stats = losses.ppo(losses.Pass(inputs, torch.zeros(16), made, ops), columns, numbers)
    assert torch.allclose(loss, -columns["advantages"].mean() + 0.5)
    assert abs(stats["kl"].item()) < 1e-6


def test_a2c_with_the_mean_and_rmsprop_is_the_c_engines():
    """The same weights, the same batches: the same weights after three updates."""
    from skate import _rl

    class Both(nn.Module):
        def __init__(self, size, outputs):
            super().__init__()
            self.heads = nn.ModuleList(nn.Linear(size, n) for n in (outputs, 1))

        def forward(self, obs):
            return self.heads[0](obs), self.heads[1](obs)

    options = {"gamma": 0.9, "lambda": 0.8, "lr": 1e-2, "vf_loss_coeff": 0.5, "grad_clip": 0.7,
               "entropy_coeff": 0.01, "opt_type": "rmsprop", "decay": 0.9, "momentum": 0.5,
               "epsilon": 0.05, "loss_mean": True}
    theirs = engine("A2C", **options, model={"custom_model": Both, "fcnet_hiddens": [],
                                             "fcnet_activation": "tanh"})
    ours = _rl.Algo("A2C", OBS, ACTIONS, {**options, "fcnet_hiddens": []}, 1)
    assert [n for n, *_ in ours.weight_names()] == ["pi/out/kernel", "pi/out/bias",
                                                    "vf/out/kernel", "vf/out/bias"]
    rng, flat = np.random.default_rng(3), np.zeros(theirs.n_weights, np.float32)
    theirs.get_weights(flat)            # [2, 4], 2, [1, 4], 1, a spare critic
    flat = flat[:15]
    ours.set_weights(np.concatenate([flat[:8].reshape(2, 4).T.reshape(-1), flat[8:]]), 0)
    for _ in range(3):
        obs = rng.normal(size=(20, 4)).astype(np.float32)
        zero = np.zeros(20, np.float32)
        batch = {"obs": obs, "new_obs": obs, "actions": rng.integers(0, 2, 20).astype(np.int32),
                 "rewards": rng.normal(size=20).astype(np.float32), "truncateds": zero,
                 "vf": rng.normal(size=20).astype(np.float32), "cuts": zero,
                 "terminateds": (np.arange(20) % 5 == 4).astype(np.float32)}
        a, b = (e.learn(20, 1, batch) for e in (theirs, ours))
        assert a["policy_loss"] == pytest.approx(b["policy_loss"], rel=1e-4, abs=1e-5)
    mine, wanted = np.zeros(15, np.float32), np.zeros(theirs.n_weights, np.float32)
    ours.get_weights(mine)
    theirs.get_weights(wanted)
    assert np.allclose(mine[:8].reshape(4, 2).T.reshape(-1), wanted[:8], atol=1e-5)
    assert np.allclose(mine[8:], wanted[8:15], atol=1e-5) and not np.allclose(flat, wanted[:15])


def test_the_value_loss_of_either_era():
    made, f64 = dists.dist_of(ACTIONS, ops), torch.float64
    values = torch.linspace(-3, 3, 16, dtype=f64, requires_grad=True)
    old, target = torch.randn(16, dtype=f64), torch.randn(16, dtype=f64)
    inputs, actions = torch.randn(16, 2, dtype=f64), torch.randint(2, (16,))
    columns = {"actions": actions, "logp": made.logp(inputs, actions), "inputs": inputs,
               "advantages": torch.zeros(16, dtype=f64), "vf": old, "value_targets": target}
    far = (values - target) ** 2
    near = (old + (values - old).clamp(-0.5, 0.5) - target) ** 2
    for mode, wanted in (("value", torch.maximum(far, near)), ("loss", far.clamp(0, 0.5))):
        numbers = {"clip_param": 0.3, "vf_clip_param": 0.5, "kl_coeff": 0.2, "vf_loss_coeff": 0.7,
                   "entropy_coeff": 0.0, "vf_clip_mode": mode}
        loss, _ = losses.ppo(losses.Pass(inputs, values, made, ops), columns, numbers)
        assert torch.allclose(loss, 0.7 * wanted.mean())
        (mine,), (theirs,) = (torch.autograd.grad(x, values, retain_graph=True)
                              for x in (loss, 0.7 * wanted.mean()))
        assert torch.allclose(mine, theirs) and theirs.abs().sum() > 0


def test_kl_update_and_shuffle_of_a_model_of_ones_own():
    rng = np.random.default_rng(2)
    obs = rng.normal(size=(8, 4)).astype(np.float32)
    batch = {"obs": obs, "new_obs": obs, "actions": np.zeros(8, np.int32),
             "rewards": rng.normal(size=8), "vf": np.zeros(8, np.float32),
             "inputs": np.zeros((8, 2), np.float32), "logp": np.full(8, -np.log(2), np.float32),
             "terminateds": np.ones(8), "truncateds": np.zeros(8), "cuts": np.zeros(8)}

    def run(seed, **more):
        made, flat = engine("PPO", **{"num_sgd_iter": 1, "lr": 0.1, **more}), []
        made.set_weights(np.zeros(made.n_weights, np.float32), 0)
        made._draws = np.random.default_rng(seed)
        stats = made.learn(8, 1, batch)
        flat = np.zeros(made.n_weights, np.float32)
        made.get_weights(flat)
        return stats["kl"], made._o["kl_coeff"], flat.tobytes()

    mean = run(1, kl_target=1.0)[0]             # of two minibatches, the first one's is 0
    assert run(1, kl_target=0.75 * mean)[1] == pytest.approx(0.2)
    assert run(1, kl_target=0.75 * mean, kl_update="last")[1] == pytest.approx(0.3)
    made = engine("PPO", num_sgd_iter=3, sgd_minibatch_size=4, shuffle_sequences=False)
    assert [m.tolist() for m in made._minibatches(6, 4)] == [[0, 1, 2, 3]] * 3
    made._o["wrap_minibatches"] = True
    assert [m.tolist() for m in made._minibatches(6, 4)] == [
        [0, 1, 2, 3], [4, 5, 0, 1], [2, 3, 4, 5], [0, 1, 2, 3], [4, 5, 0, 1]]
    assert [m.tolist() for m in made._minibatches(3, 4)] == [[0, 1, 2]] * 3
    still = [run(seed, shuffle_sequences=False)[2] for seed in (1, 2)]
    assert still[0] == still[1] != run(1)[2] != run(2)[2]


def test_nested_observations_come_back():
    space = {"kind": "dict", "size": 5, "parts": {
        "a": {"kind": "box", "size": 4, "shape": [2, 2]}, "b": {"kind": "discrete", "size": 1}}}
    rows = torch.arange(10.0).reshape(2, 5)
    made = restore(rows, space, torch.reshape)
    assert made["a"].shape == (2, 2, 2) and made["b"].tolist() == [[4.0], [9.0]]


def test_weights_of_a_native_net_as_a_state_dict():
    trainer = PPOTrainer(config={**QUICK, "model": {"fcnet_hiddens": [16, 8]}})
    net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 2))
    policy = trainer.get_policy()
    told = to_state_dict(policy)
    net.load_state_dict(dict(zip(net.state_dict(), list(told.values())[:6], strict=True)))
    obs = np.random.default_rng(1).normal(size=(32, 4)).astype(np.float32)
    ours = policy.compute_actions(obs, explore=False)[2]["action_dist_inputs"]
    assert np.allclose(net(torch.from_numpy(obs)).detach().numpy(), ours, atol=1e-6)

    with torch.no_grad():
        net[4].bias += 1.0
    before = policy.get_weights()
    from_state_dict(policy, net.state_dict(), net="policy")
    after = policy.get_weights()
    assert np.allclose(after["policy/2/bias"], before["policy/2/bias"] + 1.0)
    assert np.array_equal(after["value/0/kernel"], before["value/0/kernel"])
    from_state_dict(policy, told)
    assert all(np.array_equal(policy.get_weights()[k], v) for k, v in before.items())
    with pytest.raises(ValueError, match="does not fit"):
        from_state_dict(policy, {k: v[1:] for k, v in net.state_dict().items()}, net="policy")
    with pytest.raises(ValueError, match="6 tensors for 12"):
        from_state_dict(policy, net.state_dict())
    trainer.stop()
