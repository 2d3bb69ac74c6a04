"""The tape's operations and a net's training against torch in float64 (or NumPy, where that is
enough and torch is not there)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from skate import _rl

LINEAR, RELU, TANH, SIGMOID, ELU, SWISH, SOFTPLUS, LEAKY_RELU, GELU = range(9)
Step = tuple[str, tuple[int, ...], tuple[int, ...], tuple[float, ...], Any]


def step(name: str, *operands: int, ints: tuple[int, ...] = (), floats: tuple[float, ...] = (),
         index: np.ndarray | None = None) -> Step:
    return (name, operands, ints, floats, index)


def run(arrays: list[np.ndarray], *steps: Step) -> tuple[np.ndarray, list[np.ndarray]]:
    """The value of the last step and the gradients of its sum."""
    value, rows, cols, grads = _rl.tape_run([(a, *a.shape) for a in arrays], list(steps))
    return (np.frombuffer(value, np.float32).reshape(rows, cols),
            [np.frombuffer(g, np.float32).reshape(a.shape) if g else np.zeros_like(a)
             for g, a in zip(grads, arrays, strict=True)])


def drawn(*shapes: tuple[int, int], low: float = -2.0, high: float = 2.0) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.uniform(low, high, s).astype(np.float32) for s in shapes]


def close(got: np.ndarray, want: Any, what: str) -> None:
    want = np.asarray(want, np.float64).reshape(got.shape)
    scale = max(1.0, float(np.abs(want).max()))
    worst = float(np.abs(got - want).max())
    assert worst <= 2e-6 * scale, f"{what}: off by {worst:g} of {scale:g}"


def compare(arrays: list[np.ndarray], steps: list[Step], model: Callable[..., Any]) -> None:
    """Value and gradients as torch has them; the sum is weighted so that no gradient is flat."""
    torch = pytest.importorskip("torch")
    leaves = [torch.tensor(a.astype(np.float64), requires_grad=True) for a in arrays]
    want = model(torch, *leaves)
    want = want.reshape(want.shape[0] if want.ndim else 1, -1)
    weights = np.random.default_rng(4).uniform(0.5, 1.5, want.shape).astype(np.float32)
    (want * torch.tensor(weights.astype(np.float64))).sum().backward()
    n = len(arrays)
    # The weights come behind the leaves, so steps refer to leaves below n and steps above it.
    value, _ = run([*arrays, weights], *steps)
    close(value, want.detach().numpy(), "value")
    _, grads = run([*arrays, weights], *steps, step("mul", n + len(steps), n))
    for k, leaf in enumerate(leaves):
        close(grads[k], leaf.grad.numpy(), f"gradient {k}")


INDEX = np.array([2, 0, 1, 2, 0, 1, 1], np.int32)
MANY = drawn((7, 33), (33, 19), (1, 19))
ELEMENTWISE: dict[str, tuple[Step, Callable[..., Any], float]] = {
    "exp": (step("exp", 0), lambda t, x: t.exp(x), -2),
    "log": (step("log", 0), lambda t, x: t.log(x), 0.1),
    "square": (step("square", 0), lambda t, x: x**2, -2),
    "sqrt": (step("sqrt", 0), lambda t, x: t.sqrt(x), 0.1),
    "abs": (step("abs", 0), lambda t, x: t.abs(x), -2),
    "affine": (step("affine", 0, floats=(3.0, -1.0)), lambda t, x: 3 * x - 1, -2),
    "clip": (step("clip", 0, floats=(-0.5, 0.7)), lambda t, x: t.clamp(x, -0.5, 0.7), -2),
    "huber": (step("huber", 0, floats=(0.8,)),
              lambda t, x: t.nn.functional.huber_loss(x, t.zeros_like(x), reduction="none",
                                                      delta=0.8), -2),
    "relu": (step("act", 0, ints=(RELU,)), lambda t, x: t.relu(x), -2),
    "tanh": (step("act", 0, ints=(TANH,)), lambda t, x: t.tanh(x), -2),
    "sigmoid": (step("act", 0, ints=(SIGMOID,)), lambda t, x: t.sigmoid(x), -2),
    "elu": (step("act", 0, ints=(ELU,)), lambda t, x: t.nn.functional.elu(x), -2),
    "swish": (step("act", 0, ints=(SWISH,)), lambda t, x: t.nn.functional.silu(x), -2),
    "softplus": (step("act", 0, ints=(SOFTPLUS,)), lambda t, x: t.nn.functional.softplus(x), -2),
    "leaky_relu": (step("act", 0, ints=(LEAKY_RELU,)),
                   lambda t, x: t.nn.functional.leaky_relu(x), -2),
    "gelu": (step("act", 0, ints=(GELU,)), lambda t, x: t.nn.functional.gelu(x), -2),
    "softmax": (step("softmax", 0, ints=(0,)), lambda t, x: t.softmax(x, 1), -2),
    "log_softmax": (step("log_softmax", 0, ints=(3,)),
                    lambda t, x: t.log_softmax(x.reshape(7, 11, 3), 2), -2),
    "logsumexp": (step("logsumexp", 0), lambda t, x: t.logsumexp(x, 1), -2),
    "sum_cols": (step("sum_cols", 0), lambda t, x: x.sum(1), -2),
    "max_cols": (step("max_cols", 0), lambda t, x: x.max(1).values, -2),
    "sum_groups": (step("sum_groups", 0, ints=(11,)),
                   lambda t, x: x.reshape(7, 3, 11).sum(2), -2),
    "sum": (step("sum", 0), lambda t, x: x.sum(), -2),
    "mean": (step("mean", 0), lambda t, x: x.mean(), -2),
    "cols": (step("cols", 0, ints=(4, 9)), lambda t, x: x[:, 4:13], -2),
    "rows": (step("rows", 0, ints=(2, 3)), lambda t, x: x[2:5], -2),
    "reshape": (step("reshape", 0, ints=(33, 7)), lambda t, x: x.reshape(33, 7), -2),
    "repeat": (step("repeat", 0, ints=(3,)), lambda t, x: x.repeat_interleave(3, 0), -2),
    "pick": (step("pick", 0, index=INDEX),
             lambda t, x: x.gather(1, t.tensor(INDEX.astype(np.int64))[:, None]), -2),
    "pick_block": (step("pick_block", 0, ints=(11,), index=INDEX),
                   lambda t, x: t.stack([x[i, 11 * k:11 * k + 11] for i, k in enumerate(INDEX)]),
                   -2),
    "lookup": (step("lookup", 0, index=INDEX),
               lambda t, x: x[t.tensor(INDEX.astype(np.int64))], -2),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_one_operand_as_in_torch(name: str) -> None:
    how, model, low = ELEMENTWISE[name]
    compare(drawn((7, 33), low=low), [how], model)


@pytest.mark.parametrize("shape", [(7, 33), (7, 1), (1, 33), (1, 1)])
@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "min", "max"])
def test_two_operands_as_in_torch(name: str, shape: tuple[int, int]) -> None:
    models: dict[str, Callable[..., Any]] = {
        "add": lambda t, x, y: x + y, "sub": lambda t, x, y: x - y, "mul": lambda t, x, y: x * y,
        "div": lambda t, x, y: x / y, "min": lambda t, x, y: t.minimum(x, y),
        "max": lambda t, x, y: t.maximum(x, y)}
    compare(drawn((7, 33), shape, low=0.3), [step(name, 0, 1)], models[name])


def test_products_as_in_torch() -> None:
    compare(drawn((7, 33), (33, 19)), [step("matmul", 0, 1)], lambda t, x, w: x @ w)
    compare(MANY, [step("dense", 0, 1, 2, ints=(TANH,))],
            lambda t, x, w, b: t.tanh(x @ w + b))
    compare(drawn((7, 5), (7, 20)), [step("rowmat", 0, 1, ints=(4,))],
            lambda t, x, w: t.einsum("nk,nkm->nm", x, w.reshape(7, 5, 4)))
    compare(drawn((7, 5), (7, 20)), [step("concat", 0, 1)], lambda t, x, y: t.cat([x, y], 1))
    compare(drawn((7, 5), (3, 5)), [step("stack", 0, 1)], lambda t, x, y: t.cat([x, y], 0))


@pytest.mark.parametrize(("stride", "pad", "kernel"), [(1, 0, 3), (2, 1, 4), (3, 2, 5)])
def test_convolution_as_in_torch(stride: int, pad: int, kernel: int) -> None:
    height, width, channels, filters, n = 11, 9, 3, 5, 4

    def model(t: Any, x: Any, w: Any, b: Any) -> Any:
        image = x.reshape(n, height, width, channels).permute(0, 3, 1, 2)
        kernels = w.reshape(kernel, kernel, channels, filters).permute(3, 2, 0, 1)
        out = t.nn.functional.conv2d(image, kernels, b[0], stride=stride, padding=pad)
        return t.relu(out).permute(0, 2, 3, 1).reshape(n, -1)

    compare(drawn((n, height * width * channels), (kernel * kernel * channels, filters),
                  (1, filters), low=-1, high=1),
            [step("conv", 0, 1, 2,
                  ints=(height, width, channels, filters, kernel, stride, pad, RELU))], model)


def test_layers_as_in_torch() -> None:
    compare(drawn((7, 33), (1, 33), (1, 33)), [step("layer_norm", 0, 1, 2)],
            lambda t, x, g, s: t.nn.functional.layer_norm(x, (33,), g[0], s[0]))


def test_lstm_over_three_steps_as_in_torch() -> None:
    n, size, hidden = 6, 10, 17

    def model(t: Any, x: Any, state: Any, w: Any, b: Any) -> Any:
        cell = t.nn.LSTMCell(size, hidden, dtype=t.float64)
        h, c = state[:, :hidden], state[:, hidden:]
        values = {"weight_ih": w[:size].T, "weight_hh": w[size:].T, "bias_ih": b[0],
                  "bias_hh": t.zeros_like(b[0])}
        for _ in range(3):
            h, c = t.func.functional_call(cell, values, (x, (h, c)))
        return t.cat([h, c], 1)

    arrays = drawn((n, size), (n, 2 * hidden), (size + hidden, 4 * hidden), (1, 4 * hidden),
                   low=-1, high=1)
    compare(arrays, [step("lstm", 0, 1, 2, 3), step("lstm", 0, 5, 2, 3),
                     step("lstm", 0, 6, 2, 3)], model)


def test_gru_over_three_steps_as_in_torch() -> None:
    n, size, hidden = 6, 10, 17

    def model(t: Any, x: Any, h: Any, w: Any, u: Any, b: Any, c: Any) -> Any:
        cell = t.nn.GRUCell(size, hidden, dtype=t.float64)
        values = {"weight_ih": w.T, "weight_hh": u.T, "bias_ih": b[0], "bias_hh": c[0]}
        for _ in range(3):
            h = t.func.functional_call(cell, values, (x, h))
        return h

    arrays = drawn((n, size), (n, hidden), (size, 3 * hidden), (hidden, 3 * hidden),
                   (1, 3 * hidden), (1, 3 * hidden), low=-1, high=1)
    compare(arrays, [step("gru", 0, 1, 2, 3, 4, 5), step("gru", 0, 7, 2, 3, 4, 5),
                     step("gru", 0, 8, 2, 3, 4, 5)], model)


def fit_data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(64, 4)).astype(np.float32)
    y = np.stack([np.sin(x[:, 0] * 2), x[:, 1] * x[:, 2]], 1).astype(np.float32)
    weights = (rng.normal(size=4 * 32 + 32 + 32 * 32 + 32 + 32 * 2 + 2) * 0.2).astype(np.float32)
    return x, y, weights


def test_a_net_learns_and_twice_the_same() -> None:
    x, y, start = fit_data()
    ends = []
    for _ in range(2):
        weights, losses = start.copy(), np.zeros(300, np.float32)
        _rl.net_fit((4, 32, 32, 2), TANH, x, y, weights, losses, 0.01)
        assert losses[-1] < 0.05 * losses[0]
        ends.append(weights.tobytes())
    assert ends[0] == ends[1]


def test_a_hundred_updates_stay_with_torch() -> None:
    torch = pytest.importorskip("torch")
    x, y, start = fit_data()
    weights, losses = start.copy(), np.zeros(100, np.float32)
    _rl.net_fit((4, 32, 32, 2), TANH, x, y, weights, losses, 1e-3)
    shapes = [(4, 32), (32,), (32, 32), (32,), (32, 2), (2,)]
    flat = torch.tensor(start.astype(np.float64))
    parts = [p.reshape(s).clone().requires_grad_()
             for p, s in zip(flat.split([int(np.prod(s)) for s in shapes]), shapes, strict=True)]
    adam = torch.optim.Adam(parts, lr=1e-3)
    tx, ty = (torch.tensor(a.astype(np.float64)) for a in (x, y))
    want = []
    for _ in range(100):
        h = torch.tanh(tx @ parts[0] + parts[1])
        h = torch.tanh(h @ parts[2] + parts[3])
        loss = ((h @ parts[4] + parts[5] - ty) ** 2).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        want.append(loss.item())
    np.testing.assert_allclose(losses, want, rtol=1e-4)
    end = torch.cat([p.detach().reshape(-1) for p in parts]).numpy()
    np.testing.assert_allclose(weights, end, rtol=1e-4, atol=1e-5)


def test_values_without_torch() -> None:
    """The same products and sums by NumPy: this part runs everywhere."""
    x, w, b = MANY
    value, (gx, gw, gb) = run(MANY, step("dense", 0, 1, 2, ints=(TANH,)))
    h = np.tanh(x.astype(np.float64) @ w + b)
    d = 1 - h * h
    close(value, h, "value")
    close(gx, d @ w.T.astype(np.float64), "x")
    close(gw, x.T.astype(np.float64) @ d, "w")
    close(gb, d.sum(0), "b")


def test_bad_programs_say_what_is_wrong() -> None:
    x, w, _ = MANY
    with pytest.raises(ValueError, match="there is no operation 'mat'"):
        run([x], step("mat", 0))
    with pytest.raises(ValueError, match="matmul: 7 x 33 times 7 x 33"):
        run([x], step("matmul", 0, 0))
    with pytest.raises(ValueError, match="pick: index 33 of row 0"):
        run([x], step("pick", 0, index=np.full(7, 33, np.int32)))
    with pytest.raises(ValueError, match="an operand is not on this tape"):
        run([x], step("exp", 5))
    with pytest.raises(ValueError, match="tuple of 2 numbers"):
        run([x, w], step("matmul", 0))
    with pytest.raises(ValueError, match="rows of other sizes"):
        _rl.net_fit((33, 2), TANH, x, x, np.zeros(68, np.float32), np.zeros(1, np.float32), 0.1)
