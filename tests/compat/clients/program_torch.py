"""PyTorch in an actor: loader processes, training, weights that travel."""

import os
import warnings

import ray
import torch
from torch.utils.data import DataLoader, Dataset

warnings.simplefilter("error")
ray.init(num_cpus=2)


class Squares(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, i):
        return torch.tensor([i / 64]), torch.tensor([i * i / 4096]), os.getpid()


@ray.remote
class Trainer:
    def __init__(self, loaders):
        warnings.simplefilter("error")
        torch.manual_seed(0)
        torch.set_num_threads(1)
        layers = torch.nn.Linear(1, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1)
        self.loader = DataLoader(Squares(), batch_size=16, num_workers=loaders, shuffle=True)
        self.model = torch.nn.Sequential(*layers)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)

    def epoch(self):
        total, pids = 0.0, set()
        for x, y, pid in self.loader:
            loss = torch.nn.functional.mse_loss(self.model(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item()
            pids |= set(pid.tolist())
        return total, os.getpid(), pids

    def weights(self):
        return self.model.state_dict()

    def load(self, weights):
        self.model.load_state_dict(weights)


trainer, other = Trainer.remote(2), Trainer.remote(0)
losses = [ray.get(trainer.epoch.remote())[0] for _ in range(3)]
assert losses[-1] < losses[0]
_, pid, pids = ray.get(trainer.epoch.remote())
assert len(pids) == 2 and pid not in pids  # two processes of the loader
_, pid, pids = ray.get(other.epoch.remote())
assert pids == {pid}

weights = ray.get(trainer.weights.remote())
ray.get(other.load.remote(weights))
for name, values in ray.get(other.weights.remote()).items():
    assert torch.equal(values, weights[name])
ray.get(other.epoch.remote())

# Tensors: no copy at the receiver, no warning, and who writes to one writes to his own.
big = torch.arange(1_000_000, dtype=torch.float32)
ref = ray.put(big)


@ray.remote
def double(values):
    return values.mul_(2)


assert torch.equal(ray.get(double.remote(ref)), big * 2)
mine, other = ray.get(ref), ray.get(ref)
mine += 1
assert torch.equal(other, big) and torch.equal(mine, big + 1)

base = torch.zeros(6)
kinds = [
    torch.zeros(0), torch.tensor(3.5), torch.arange(12).reshape(3, 4).T, torch.eye(3).to_sparse(),
    torch.ones(4, dtype=torch.bfloat16), torch.ones(3, dtype=torch.complex64).conj(),
    torch.randn(3, requires_grad=True), torch.nn.Parameter(torch.ones(2)),
]  # fmt: skip
for tensor, got in zip(kinds, ray.get(ray.put(kinds)), strict=True):
    assert type(got) is type(tensor) and got.dtype == tensor.dtype and got.layout == tensor.layout
    assert got.requires_grad == tensor.requires_grad
    assert torch.equal(got.detach().to_dense(), tensor.detach().to_dense())
whole, part = ray.get(ray.put([base, base[2:4]]))
part[:] = 5
assert whole.tolist() == [0, 0, 5, 5, 0, 0]  # views of one memory stay views of one
del ref, mine
for _ in range(5):
    ray.put(torch.zeros(1_000_000))
assert torch.equal(other, big)
ray.shutdown()
assert torch.equal(other, big)
print("torch: fine")
