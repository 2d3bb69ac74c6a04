"""AlphaZero's loss and gradient against torch in float64."""

from __future__ import annotations

import numpy as np
import pytest

from skate import _rl

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("shared", [False, True])
def test_alphazero_loss_and_gradient(shared):
    rng = np.random.default_rng(3)
    n, obs_size, actions = 33, 5, 4
    algo = _rl.Algo("AlphaZero", {"kind": "box", "size": obs_size, "shape": [obs_size]},
                    {"kind": "discrete", "size": actions},
                    {"fcnet_hiddens": [7.0, 6.0], "vf_share_layers": shared}, 2)
    flat = rng.normal(0, 0.5, algo.n_weights).astype(np.float32)
    algo.set_weights(flat, 0)
    mask = (rng.random((n, actions)) < 0.7).astype(np.float32)
    mask[:, 1] = 1
    target = rng.random((n, actions)).astype(np.float32) * mask
    target /= target.sum(1, keepdims=True)
    columns = {"obs": rng.normal(size=(n, obs_size)).astype(np.float32), "mcts_policies": target,
               "value_label": rng.normal(size=n).astype(np.float32), "action_mask": mask}
    gradient = np.empty(algo.n_weights, np.float32)
    stats = algo.gradient(n, 1, columns, gradient)

    leaves, at, nets = [], 0, {}
    for name, rows, cols in algo.weight_names():
        leaf = torch.tensor(flat[at:at + rows * cols].reshape(rows, cols), dtype=torch.float64,
                            requires_grad=True)
        at += rows * cols
        leaves.append(leaf)
        nets.setdefault(name.split("/")[0], []).append(leaf)

    def run(parts, x):
        for i in range(0, len(parts), 2):
            x = x @ parts[i] + parts[i + 1]
            x = torch.tanh(x) if i + 2 < len(parts) else x
        return x

    x = torch.tensor(columns["obs"], dtype=torch.float64)
    out = run(nets["policy"], x)
    value = out[:, actions] if shared else run(nets["value"], x)[:, 0]
    logits = out[:, :actions].masked_fill(torch.tensor(mask) == 0, -1e30)
    logs = torch.log_softmax(logits, 1).masked_fill(torch.tensor(mask) == 0, 0.0)
    policy_loss = -(torch.tensor(target) * logs).sum(1).mean()
    value_loss = ((value - torch.tensor(columns["value_label"])) ** 2).mean()
    loss = (policy_loss + value_loss) / 2
    loss.backward()
    expected = np.concatenate([leaf.grad.numpy().reshape(-1) for leaf in leaves])
    assert abs(stats["total_loss"] - loss.item()) < 1e-5 * abs(loss.item())
    assert np.abs(gradient - expected).max() < 1e-5 * np.abs(expected).max()
