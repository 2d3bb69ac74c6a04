"""Models of the user's own in TensorFlow: TFModelV2, plain keras.Model."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile
import textwrap

import numpy as np
import pytest

if importlib.util.find_spec("tensorflow") is None:
    pytest.skip("TensorFlow is not installed", allow_module_level=True)

from skate.rllib._models import dist as dists
from skate.rllib._models import losses
from skate.rllib._tf.engine import TFEngine
from skate.rllib.agents.a3c import A2CTrainer, A3CTrainer
from skate.rllib.agents.pg import PGTrainer
from skate.rllib.agents.ppo import PPOTrainer
from skate.rllib.algorithms.ppo import PPOConfig
from skate.rllib.core.rl_module import RLModuleSpec
from skate.rllib.models import ModelCatalog
from skate.rllib.models.tf import FullyConnectedNetwork, TFModelV2
from skate.rllib.models.tf.misc import normc_initializer
from skate.rllib.models.tf.recurrent_net import RecurrentNetwork
from skate.rllib.utils.framework import try_import_tf

tf1, tf, tfv = try_import_tf()
keras = tf.keras

QUICK = {"env": "CartPole-v1", "num_workers": 0, "num_envs_per_worker": 8, "seed": 3, "lr": 3e-3,
         "train_batch_size": 1024, "rollout_fragment_length": 128, "sgd_minibatch_size": 128,
         "num_sgd_iter": 8, "lambda": 0.95, "framework": "tf"}
OBS = {"kind": "box", "size": 4, "shape": [4], "dtype": "float32"}
ACTIONS = {"kind": "discrete", "size": 2, "start": 0}
SPACES = [ACTIONS, {"kind": "multi", "sizes": [2, 3], "size": 5},
          {"kind": "box", "size": 2, "shape": [2]}]
NUMBERS = {"gamma": 0.9, "lambda": 0.8, "lr": 1e-2, "clip_param": 0.3, "vf_clip_param": 1.0,
           "vf_loss_coeff": 0.5, "entropy_coeff": 0.01, "kl_coeff": 0.2, "kl_target": 0.01,
           "grad_clip": None, "sgd_minibatch_size": 16, "num_sgd_iter": 2,
           "vf_clip_mode": "value", "kl_update": "mean", "shuffle_sequences": True,
           "wrap_minibatches": False,
           "opt_type": "adam", "decay": 0.9, "momentum": 0.0, "epsilon": 0.1,
           "loss_mean": False}


class Custom(TFModelV2):
    """As RLlib's examples write it: a Keras model of two heads."""

    def __init__(self, obs_space, action_space, num_outputs, model_config, name, width=32):
        super().__init__(obs_space, action_space, num_outputs, model_config, name)
        assert obs_space.shape == (4,) and action_space.n == num_outputs == 2
        rows = keras.layers.Input(shape=obs_space.shape, name="observations")
        hidden = keras.layers.Dense(width, "tanh", name="my_layer1",
                                    kernel_initializer=normc_initializer(1.0))(rows)
        out = keras.layers.Dense(num_outputs, name="my_out",
                                 kernel_initializer=normc_initializer(0.01))(hidden)
        value = keras.layers.Dense(1, name="value_out",
                                   kernel_initializer=normc_initializer(0.01))(hidden)
        self.base_model = keras.Model(rows, [out, value])
        self.register_variables(self.base_model.variables)
        self.losses = 0

    def forward(self, input_dict, state, seq_lens):
        model_out, self._value_out = self.base_model(input_dict["obs"])
        return model_out, state

    def value_function(self):
        return tf.reshape(self._value_out, [-1])

    def custom_loss(self, policy_loss, loss_inputs):
        assert "advantages" in loss_inputs
        self.losses += 1
        return policy_loss + 0.0

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


class Recurrent(RecurrentNetwork):
    """A GRU."""

    def __init__(self, obs_space, action_space, num_outputs, model_config, name):
        super().__init__(obs_space, action_space, num_outputs, model_config, name)
        self.cell = keras.layers.GRU(16, return_sequences=True, return_state=True)
        self.heads = [keras.layers.Dense(num_outputs), keras.layers.Dense(1)]

    def get_initial_state(self):
        return [np.zeros(16, np.float32)]

    def forward_rnn(self, inputs, state, seq_lens):
        mask = tf.sequence_mask(seq_lens, tf.shape(inputs)[1])
        self.features, last = self.cell(inputs, initial_state=state[0], mask=mask)
        return self.heads[0](self.features), [last]

    def value_function(self):
        return tf.reshape(self.heads[1](self.features), [-1])


def learns(algo, iterations: int = 14, bar: float = 80.0) -> None:
    """It reaches `bar`; the first iterations are at about 20."""
    best = 0.0
    for _ in range(iterations):
        best = max(best, algo.train()["episode_reward_mean"])
        if best >= bar:
            break
    algo.stop()
    assert best >= bar


def test_a_registered_model_learns():
    ModelCatalog.register_custom_model("mine in tf", Custom)
    trainer = PPOTrainer(config={
        **QUICK, "model": {"custom_model": "mine in tf", "custom_model_config": {"width": 48}}})
    result = trainer.train()
    learner = result["info"]["learner"]["default_policy"]["learner_stats"]
    assert learner["custom_losses"] > 0 and np.isfinite(learner["vf_loss"])
    weights = trainer.get_policy().get_weights()
    assert weights["base_model.0.kernel"].shape == (4, 48)
    assert sum(w.size for w in weights.values()) == 4 * 48 + 48 + 3 * 48 + 3    # each once
    learns(trainer)


@pytest.mark.parametrize("traced", [{}, {"framework": "tf2", "eager_tracing": True}])
def test_eager_gives_what_traced_gives(traced):
    def first(**config):
        trainer = PPOTrainer(config={
            **QUICK, "train_batch_size": 256, "rollout_fragment_length": 32, "num_sgd_iter": 2,
            "model": {"custom_model": Custom}, "framework": "native", **config})
        told = trainer.train()["info"]["learner"]["default_policy"]["learner_stats"]
        trainer.stop()
        return told

    eager, traced = first(framework="tfe"), first(**traced)
    assert not list(pathlib.Path(tempfile.gettempdir()).glob("__autograph_generated*"))
    assert eager["custom_losses"] > traced["custom_losses"]     # forward() itself, or its trace
    assert eager["total_loss"] == pytest.approx(traced["total_loss"], abs=1e-4)
    assert eager["kl"] == pytest.approx(traced["kl"], abs=1e-5)


def test_a_plain_net_learns():
    class Net(keras.Model):
        def __init__(self, size, outputs):
            super().__init__()
            self.hidden, self.out = (keras.layers.Dense(64, "tanh"), keras.layers.Dense(outputs))

        def call(self, obs):
            return self.out(self.hidden(obs))

    config = PPOConfig().framework("tf2", eager_tracing=True).update_from_dict({
        **{k: v for k, v in QUICK.items() if k != "framework"},
        "model": {"custom_model": Net, "fcnet_hiddens": [64]}})
    algo = config.build_algo()
    assert {"net.0.kernel", "critic.0.kernel"} <= set(algo.get_policy().get_weights())
    learns(algo)


@pytest.mark.parametrize("trainer_class", [A2CTrainer, A3CTrainer, PGTrainer])
def test_an_instance_in_the_other_algorithms(trainer_class):
    rows = keras.layers.Input((4,))
    hidden = keras.layers.Dense(16, "tanh")(rows)
    net = keras.Model(rows, (keras.layers.Dense(2)(hidden), keras.layers.Dense(1)(hidden)))
    before = [w.copy() for w in net.get_weights()]
    trainer = trainer_class(config={
        "env": "CartPole-v1", "num_workers": 0, "seed": 1, "framework": "tf2",
        "train_batch_size": 200, "min_iter_time_s": 0, "model": {"custom_model": net}})
    told = trainer.train()["info"]["learner"]["default_policy"]["learner_stats"]
    assert np.isfinite(told["policy_loss"])
    moved = [not np.array_equal(a, b) for a, b in zip(before, net.get_weights(), strict=True)]
    assert moved[0] and len(trainer.get_policy().get_weights()) == 6    # no critic beside it
    trainer.stop()


def test_a_recurrent_model_remembers():
    ModelCatalog.register_custom_model("recurrent in tf", Recurrent)
    learns(PPOConfig().update_from_dict({
        **QUICK, "env": Cue, "train_batch_size": 512, "rollout_fragment_length": 64,
        "gamma": 1.0, "lr": 1e-2, "entropy_coeff": 0.01,
        "model": {"custom_model": "recurrent in tf", "max_seq_len": 4}}).build_algo(),
        iterations=30, bar=0.9)


def test_rollout_actors_have_the_model(session):
    trainer = PPOTrainer(config={
        **QUICK, "num_workers": 2, "num_cpus_per_worker": 0, "train_batch_size": 512,
        "rollout_fragment_length": 32, "model": {"custom_model": Custom}})
    try:
        assert trainer.train()["timesteps_total"] == 512
    finally:
        trainer.stop()


def test_an_actor_keeps_to_one_thread(session):
    @session.remote(num_cpus=0)
    class Actor:
        def threads(self):
            from skate.rllib._tf.engine import _few_threads

            _few_threads()
            return tf.config.threading.get_intra_op_parallelism_threads()

    assert session.get(Actor.remote().threads.remote()) == 1
    assert Actor.__ray_actor_class__().threads() == 0       # the driver is left alone


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
    for trainer in (one, two):
        trainer.get_policy().engine.learn(64, 1, batch_of(ACTIONS))
    assert np.array_equal(one.get_policy().flat_weights(), two.get_policy().flat_weights())
    assert [one.compute_single_action(obs) for _ in range(9)] == [
        two.compute_single_action(obs) for _ in range(9)]
    three = PPOTrainer(config={**config, "model": {"custom_model": Custom,
                                                   "custom_model_config": {"width": 8}}})
    with pytest.raises(ValueError, match="not the state of this model"):
        three.get_policy().engine.set_state(one.get_policy().engine.state())
    for trainer in (one, two, three):
        trainer.stop()


class Values(TFModelV2):
    """Gives values of the wrong shape."""

    def __init__(self, *args):
        super().__init__(*args)
        self.net = keras.layers.Dense(self.num_outputs)

    def forward(self, input_dict, state, seq_lens):
        return self.net(input_dict["obs_flat"]), state

    def value_function(self):
        return tf.zeros(7)


@pytest.mark.parametrize(("model", "error", "words"), [
    (lambda size, n: keras.layers.Dense(n + 1), ValueError, "action space wants"),
    (Values, ValueError, r"values of the shape \(7,\)"),
    (lambda size, n: 5, TypeError, "not a keras.Model"),
])
def test_what_is_no_model(model, error, words):
    with pytest.raises(error, match=words):
        PPOTrainer(config={**QUICK, "model": {"custom_model": model}}).train()


def test_the_framework_must_be_the_models():
    nn = pytest.importorskip("torch").nn
    with pytest.raises(ValueError, match="framework='torch', but the model Custom is one of Tens"):
        PPOTrainer(config={**QUICK, "framework": "torch", "model": {"custom_model": Custom}})
    for framework in ("tf", "tf2", "tfe"):
        with pytest.raises(ValueError, match="the model Linear is one of PyTorch"):
            PPOTrainer(config={**QUICK, "framework": framework,
                               "model": {"custom_model": nn.Linear}})
    with pytest.raises(ValueError, match="RLModules are PyTorch's here"):
        PPOConfig().environment("CartPole-v1").framework("tf2").rl_module(
            rl_module_spec=RLModuleSpec(module_class=nn.Linear)).build_algo()
    with pytest.raises(TypeError, match="framework='torch'"):
        PPOTrainer(config={**QUICK, "model": {"custom_model": lambda size, n: nn.Linear(size, n)}})
    with pytest.raises(TypeError, match="framework='tf2'"):
        PPOTrainer(config={**QUICK, "framework": "native", "model": {
            "custom_model": lambda size, n: keras.layers.Dense(n)}})


def run(source: str, **variables: str) -> str:
    """What a fresh process prints."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(source)], text=True,
                          capture_output=True, env={**os.environ, **variables}, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "oneDNN" not in done.stderr and "cpu_feature_guard" not in done.stderr
    return done.stdout


def test_a_missing_tensorflow_is_one_sentence():
    told = run("""
        import sys
        from skate.rllib.agents.ppo import PPOTrainer
        from skate.rllib.models.tf.tf_modelv2 import TFModelV2
        from skate.rllib.models.tf.recurrent_net import RecurrentNetwork
        assert "tensorflow" not in sys.modules and "torch" not in sys.modules
        sys.modules["tensorflow"] = None        # as if it were not there
        try:
            PPOTrainer(env="CartPole-v1", config={
                "num_workers": 0, "model": {"custom_model": TFModelV2}})
        except ImportError as error:
            print(error)
    """)
    assert told == ("custom_model needs TensorFlow, which is not installed here: "
                    "pip install tensorflow-cpu\n")


def test_keras_on_the_torch_backend_is_a_torch_model():
    pytest.importorskip("torch")
    told = run("""
        import sys
        import keras
        from skate.rllib.agents.ppo import PPOTrainer
        trainer = PPOTrainer(env="CartPole-v1", config={
            "num_workers": 0, "train_batch_size": 64, "rollout_fragment_length": 64,
            "num_sgd_iter": 1, "sgd_minibatch_size": 32,
            "model": {"custom_model": lambda size, n: keras.Sequential([
                keras.layers.Dense(8, "tanh"), keras.layers.Dense(n)])}})
        before = trainer.get_policy().flat_weights()
        trainer.train()
        after = trainer.get_policy().flat_weights()
        trainer.stop()
        print(before.size, int((before[:58] != after[:58]).sum()) > 40, "tensorflow" in sys.modules)
    """, KERAS_BACKEND="torch")
    assert told.split() == [str(4 * 8 + 8 + 16 + 2 + 5 * 256 + 257 * 256 + 257), "True", "False"]


# ---- the same numbers as PyTorch's ------------------------------------------------------------


def batch_of(space, rows: int = 64) -> dict[str, np.ndarray]:
    """Columns as a sampler gives them."""
    draws = np.random.default_rng(1)
    dist = dists.dist_of(space)
    inputs = draws.normal(size=(rows, dist.n_inputs)).astype(np.float32)
    actions = dist.draw(inputs, True, draws)
    made = {"obs": draws.normal(size=(rows, 4)).astype(np.float32), "inputs": inputs,
            "actions": actions.astype(np.float32 if space["kind"] == "box" else np.int32),
            "logp": dist.logp(inputs, actions).astype(np.float32),
            "vf": draws.normal(size=rows).astype(np.float32),
            "rewards": draws.normal(size=rows).astype(np.float32),
            "terminateds": (np.arange(rows) % 13 == 12).astype(np.float32),
            "truncateds": np.zeros(rows, np.float32),
            "cuts": (np.arange(rows) % 16 == 15).astype(np.float32)}
    made["new_obs"] = np.roll(made["obs"], -1, 0)
    return made


@pytest.mark.parametrize(("name", "mode"), [("PG", "value"), ("A2C", "value"), ("A2C", "mean"),
                                            ("PPO", "value"), ("PPO", "loss")])
@pytest.mark.parametrize("space", SPACES, ids=lambda space: space["kind"])
def test_losses_and_gradients_equal_torch(name, mode, space):
    torch = pytest.importorskip("torch")
    from skate.rllib._tf import ops as tf_ops
    from skate.rllib._torch import ops as torch_ops

    batch, draws = batch_of(space), np.random.default_rng(7)
    numbers = {**NUMBERS, "vf_clip_mode": mode, "loss_mean": mode == "mean"}
    columns = {k: batch[k] for k in ("actions", "inputs", "logp", "vf")}
    columns.update({k: draws.normal(size=64).astype(np.float32)
                    for k in ("advantages", "value_targets")})
    inputs = batch["inputs"] + 0.3 * draws.normal(size=batch["inputs"].shape).astype(np.float32)
    values = draws.normal(size=64).astype(np.float32)

    a, b = (torch.from_numpy(x).requires_grad_() for x in (inputs, values))
    theirs, their_stats = losses.LOSSES[name](
        losses.Pass(a, b, dists.dist_of(space, torch_ops), torch_ops),
        {k: torch.from_numpy(v) for k, v in columns.items()}, numbers)
    theirs.backward()
    x, y = tf.Variable(inputs), tf.Variable(values)
    with tf.GradientTape() as tape:
        ours, our_stats = losses.LOSSES[name](
            losses.Pass(x, y, dists.dist_of(space, tf_ops), tf_ops),
            {k: tf.constant(v) for k, v in columns.items()}, numbers)
    by_inputs, by_values = tape.gradient(ours, [x, y])
    assert float(ours) == pytest.approx(theirs.item(), rel=1e-5, abs=1e-5)
    for key, value in their_stats.items():
        assert float(our_stats[key]) == pytest.approx(value.item(), rel=1e-5, abs=1e-5)
    assert np.allclose(by_inputs, a.grad, rtol=1e-5, atol=1e-5)
    assert (by_values is None and b.grad is None) or np.allclose(by_values, b.grad, atol=1e-5)


RMSPROP = {"opt_type": "rmsprop", "loss_mean": True}


@pytest.mark.parametrize(("name", "clip", "more"), [
    ("PG", None, {}), ("A2C", 0.5, {}), ("PPO", None, {}), ("A2C", 0.5, RMSPROP),
    ("A2C", None, {**RMSPROP, "momentum": 0.8, "epsilon": 0.01})])
def test_whole_updates_equal_torch(name, clip, more):
    """The same weights, the same batches: the same weights after three updates."""
    torch = pytest.importorskip("torch")
    from skate.rllib._torch.engine import TorchEngine

    class Both(torch.nn.Module):
        def __init__(self, size, outputs):
            super().__init__()
            self.heads = torch.nn.ModuleList(torch.nn.Linear(size, n) for n in (outputs, 1))

        def forward(self, obs):
            return self.heads[0](obs), self.heads[1](obs)

    def both(size, outputs):
        rows = keras.layers.Input((size,))
        return keras.Model(rows, [keras.layers.Dense(n)(rows) for n in (outputs, 1)])

    def engine(kind, model):
        return kind(name, OBS, ACTIONS, {
            **NUMBERS, **more, "grad_clip": clip, "model": {
                "custom_model": model, "fcnet_hiddens": [8], "fcnet_activation": "tanh"}}, 1)

    theirs, ours = engine(TorchEngine, Both), engine(TFEngine, both)
    flat = np.zeros(theirs.n_weights, np.float32)      # [2, 4], 2, [1, 4], 1, a spare critic
    theirs.get_weights(flat)
    flat = flat[:15]
    ours.set_weights(np.concatenate([flat[:8].reshape(2, 4).T.reshape(-1), flat[8:]]), 0)
    for _ in range(3):
        a, b = (e.learn(64, 1, batch_of(ACTIONS)) for e in (theirs, ours))
        assert a.keys() == b.keys()
        assert all(a[k] == pytest.approx(b[k], rel=1e-4, abs=1e-5) for k in a)
    after = np.zeros(15, np.float32)
    wanted = np.zeros(theirs.n_weights, np.float32)
    theirs.get_weights(wanted)
    ours.get_weights(after)
    assert not np.array_equal(flat[:8], wanted[:8])
    assert np.allclose(after[:8].reshape(4, 2).T.reshape(-1), wanted[:8], atol=1e-5)
    assert np.allclose(after[8:], wanted[8:15], atol=1e-5)


def test_a_gradient_of_a3c_equals_torch():
    torch = pytest.importorskip("torch")
    from skate.rllib._torch.engine import TorchEngine

    theirs, ours = (kind("A3C", OBS, ACTIONS, {
        **NUMBERS, "grad_clip": 40.0, "model": {"custom_model": model, "fcnet_hiddens": [],
                                                "fcnet_activation": "tanh"}}, 1)
        for kind, model in ((TorchEngine, torch.nn.Linear),
                            (TFEngine, lambda size, n: keras.layers.Dense(n))))
    flat = np.arange(15, dtype=np.float32) / 15         # kernel, bias, the critic's
    ours.set_weights(flat, 0)
    theirs.set_weights(np.concatenate([flat[:8].reshape(4, 2).T.reshape(-1), flat[8:]]), 0)
    made, wanted = (np.zeros(e.n_gradient, np.float32) for e in (ours, theirs))
    stats = [e.gradient(64, 1, batch_of(ACTIONS), out)
             for e, out in ((ours, made), (theirs, wanted))]
    assert stats[0] == pytest.approx(stats[1], rel=1e-5)
    assert np.linalg.norm(made) == pytest.approx(40.0, rel=1e-5)        # it was greater
    assert np.allclose(made[:8].reshape(4, 2).T.reshape(-1), wanted[:8], rtol=1e-5, atol=1e-5)
    assert np.allclose(made[8:], wanted[8:], rtol=1e-5, atol=1e-5)
    before = np.zeros(15, np.float32)
    for engine, gradient in ((ours, made), (theirs, wanted)):
        engine.get_weights(before)
        engine.apply(gradient)
        engine.get_weights(flat)
        assert np.allclose(before - flat, NUMBERS["lr"] * np.sign(gradient), atol=1e-5)  # Adam
        with pytest.raises(ValueError, match="15 finite"):
            engine.apply(gradient * np.nan)


def test_variables_are_found_once_wherever_they_are():
    class Nested(TFModelV2):
        def __init__(self, *args):
            super().__init__(*args)
            config = {"fcnet_hiddens": [3], "fcnet_activation": "tanh", "free_log_std": True}
            self.inner = FullyConnectedNetwork(*args[:3], config, "inner")
            self.parts = {"scale": tf.Variable(2.0), "list": [tf.Variable(1.0, trainable=False)]}
            self.again = self.inner
            self.register_variables([self.parts["scale"], tf.Variable(3.0)])

    box = type("Space", (), {"shape": (2,)})()
    model = Nested(box, box, 4, {}, "model")
    names = set(model.variables(as_dict=True))
    assert {"var_list.1", "inner.log_std", "inner.base_model.0.kernel"} <= names
    assert len(model.variables()) == 3 + 8 + 1 and len(model.trainable_variables()) == 11
    out, _ = model.inner({"obs": tf.ones((5, 2))})
    assert out.shape == (5, 4) and model.inner.value_function().shape == (5,)
    kernel = normc_initializer(0.5)((6, 3)).numpy()
    assert np.allclose(np.linalg.norm(kernel, axis=0), 0.5)
