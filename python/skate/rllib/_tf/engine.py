"""TFEngine: skate.rllib._models.base over a model in TensorFlow 2, eagerly or traced.

Adam is TensorFlow's fused kernel with the moments here: Keras's own adds epsilon elsewhere than
torch's, and takes some ten operations a variable. RMSprop is torch's, too.
"""

from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import tensorflow as tf

from skate.rllib._models import base, choose
from skate.rllib._models.losses import LOSSES, Pass
from skate.rllib._tf import model as models
from skate.rllib._tf import ops

# As RLlib traces: code is run as it is, not rewritten (and leaves no generated files in /tmp).
TRACING = {"autograph": False, "reduce_retracing": True}
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
# Numbers of the config that change while it trains: tensors, so that a trace sees them change.
CHANGING = ("kl_coeff", "entropy_coeff")


class TFEngine(base.ModelEngine):
    """See ModelEngine. `options["traced"]`: forward and gradients are a tf.function."""

    ops = ops

    def _build(self, seed: int) -> None:
        _few_threads()
        tf.get_logger().setLevel("ERROR")
        before = random.getstate()              # Keras draws its layers' seeds from here
        random.seed(seed)
        tf.random.set_seed(seed)
        try:
            self.model = models.build(self._o["model"], self._obs_space, self._action_space,
                                      self.n_inputs)
            self._call = self.model.forward
            self._first_call()
        finally:
            random.setstate(before)
        self._own = self.model.variables()
        self._all = {k: v for k, v in self._own.items() if v.dtype.is_floating}
        self._params = [v for v in self._all.values() if v.trainable]
        self._moments = [(tf.Variable(tf.zeros_like(v)), tf.Variable(tf.zeros_like(v)))
                         for v in self._params]
        self._counts = [0] * len(self._params)
        self._found: list[Any] = [None] * len(self._params)     # the gradient there is
        self._differentiate: Any = self._loss
        if self._o.get("traced"):
            self._call = tf.function(self.model.forward, **TRACING)
            self._differentiate = tf.function(self._loss, **TRACING)

    def _first_call(self) -> None:
        """Layers make their variables when they first see a row."""
        state = [s[None] for s in self._initial_state()]
        self._judge(np.zeros((1, int(self._obs_space["size"])), np.float32), state,
                    np.ones(1, np.int32))

    def _initial_state(self) -> list[Any]:
        return [s.numpy() for s in self.model.initial_state()]

    def _forward(self, obs: Any, state: list[Any], lengths: Any) -> tuple[Any, Any, list[Any]]:
        inputs, values, after = self._call(tf.constant(obs), [tf.constant(s) for s in state],
                                           tf.constant(lengths), False)
        return (np.asarray(inputs), None if values is None else np.asarray(values),
                [np.asarray(s) for s in after])

    def _backward(self, obs: Any, state: list[Any], lengths: Any, kept: Any,
                  columns: dict[str, Any]) -> tuple[float, dict[str, float]]:
        loss, stats, found = self._differentiate(
            tf.constant(obs), [tf.constant(s) for s in state], tf.constant(lengths),
            None if kept is None else tf.constant(kept),
            {name: tf.constant(array) for name, array in columns.items()},
            {name: tf.constant(self._o[name], tf.float32) for name in CHANGING})
        if not np.isfinite(loss.numpy()):
            raise FloatingPointError(f"the loss is {float(loss)}: the model has diverged")
        clip = self._o.get("grad_clip")
        if clip:
            norm = tf.linalg.global_norm([g for g in found if g is not None])
            shrink = tf.minimum(1.0, clip / (norm + 1e-6))
            found = [None if g is None else g * shrink for g in found]
        self._found = found
        return float(loss), {name: float(value) for name, value in stats.items()}

    def _loss(self, obs: Any, state: list[Any], lengths: Any, kept: Any,
              columns: dict[str, Any], changing: dict[str, Any]) -> tuple[Any, Any, list[Any]]:
        """(loss, statistics, a gradient or None of each of self._params)"""
        with tf.GradientTape() as tape:
            inputs, values, _ = self.model.forward(obs, state, lengths, True)
            if tf.executing_eagerly():
                self._check_shapes(len(obs), inputs.shape, None if values is None else values.shape)
            values = None if values is None else tf.reshape(values, [-1])
            if kept is not None:
                inputs = tf.gather(inputs, kept)
                values = None if values is None else tf.gather(values, kept)
            loss, stats = LOSSES[self._name](Pass(inputs, values, self._dist, ops), columns,
                                             {**self._o, **changing})
            loss = self.model.loss(loss, columns)
        gradients = [None if g is None else tf.convert_to_tensor(g)
                     for g in tape.gradient(loss, self._params)]
        return loss, stats, gradients

    def _descend(self) -> None:
        if self._o["opt_type"] == "rmsprop":
            self._rmsprop()
        else:
            self._adam()

    def _rmsprop(self) -> None:
        """As torch: epsilon outside of the root, the learning rate outside of the momentum."""
        o = self._o
        for var, gradient, (first, second) in zip(self._params, self._found, self._moments,
                                                  strict=True):
            if gradient is None:
                continue
            second.assign(o["decay"] * second + (1.0 - o["decay"]) * gradient * gradient)
            move = tf.math.divide_no_nan(gradient, tf.sqrt(second) + o["epsilon"])
            if o["momentum"]:
                move = first.assign(o["momentum"] * first + move)
            var.assign_sub(o["lr"] * move)

    def _adam(self) -> None:
        # The kernel's epsilon stands before the correction of the second moment, so it is given
        # what comes out as EPSILON behind it.
        for i, (var, gradient) in enumerate(zip(self._params, self._found, strict=True)):
            if gradient is None:
                continue
            self._counts[i] += 1
            first, second = self._moments[i]
            decayed = BETA_2 ** self._counts[i]
            tf.raw_ops.ResourceApplyAdam(
                var=var.handle, m=first.handle, v=second.handle,
                beta1_power=BETA_1 ** self._counts[i], beta2_power=decayed, lr=self._o["lr"],
                beta1=BETA_1, beta2=BETA_2, epsilon=EPSILON * (1.0 - decayed) ** 0.5,
                grad=gradient)

    def _trained_shapes(self) -> list[tuple[int, ...]]:
        return [tuple(v.shape) for v in self._params]

    def _gradients(self) -> list[Any]:
        return [np.zeros(v.shape, np.float32) if g is None else g.numpy()
                for v, g in zip(self._params, self._found, strict=True)]

    def _set_gradients(self, arrays: list[Any]) -> None:
        self._found = [tf.constant(array) for array in arrays]

    def _named_shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        return [(name, tuple(v.shape)) for name, v in self._all.items()]

    def _read(self) -> list[Any]:
        return [v.numpy() for v in self._all.values()]

    def _write(self, arrays: list[Any]) -> None:
        for var, array in zip(self._all.values(), arrays, strict=True):
            var.assign(array)

    def _kept(self) -> dict[str, Any]:
        """All variables of a checkpoint, by a name in it."""
        kept = {f"own.{name}": v for name, v in self._own.items()}
        for i, (first, second) in enumerate(self._moments):
            kept.update({f"first.{i}": first, f"second.{i}": second})
        return kept

    def _save(self) -> bytes:
        out = io.BytesIO()
        arrays = {name: v.numpy() for name, v in self._kept().items()}
        np.savez(out, counts=np.array(self._counts, np.int64), **arrays)
        return out.getvalue()

    def _load(self, block: bytes) -> None:
        kept = self._kept()
        with np.load(io.BytesIO(block), allow_pickle=False) as told:
            if {*told.files} != {"counts", *kept}:
                raise ValueError(f"its variables are {told.files}, not {[*kept]}")
            arrays = {name: told[name] for name in told.files}
        for name, var in kept.items():
            if arrays[name].shape != tuple(var.shape):
                raise ValueError(f"{name} is {arrays[name].shape}, not {tuple(var.shape)}")
        for name, var in kept.items():
            var.assign(arrays[name])
        self._counts = [int(n) for n in arrays["counts"]]


def _few_threads() -> None:
    """One thread in an actor; too late where the user's code has made TensorFlow start."""
    if not choose.one_thread():
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        pass
