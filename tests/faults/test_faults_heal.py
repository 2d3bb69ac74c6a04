"""Two nodes that did not hear each other, while the control store heard both: work goes on soon
after the network is whole again, however long it was not."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from rig import PATIENCE_S, Rig

import skate as ray

STORE = 700 << 20


@ray.remote(resources={"far": 1}, num_cpus=0)
class Far:
    def add(self, n):
        return n + 1

    def large(self):
        return np.ones(25 << 20)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["both", "one-way"])
def test_calls_and_pulls_go_on(namespaces, how):
    with Rig() as rig:
        rig.start(num_cpus=1)
        near = rig.add_node(store=STORE)
        far = rig.add_node(resources={"far": 2}, store=STORE)
        rig.connect(at=near)
        actor, other = Far.remote(), Far.remote()
        assert ray.get(actor.add.remote(1), timeout=PATIENCE_S) == 2
        large = other.large.remote()
        ray.wait([large], fetch_local=False, timeout=PATIENCE_S)
        pulled = []
        pull = threading.Thread(target=lambda: pulled.append(ray.get(large, timeout=PATIENCE_S)))
        pull.start()
        time.sleep(0.03)  # in the midst of it, mostly
        (rig.net.cut if how == "both" else rig.net.drop)(near.port, far.port)
        calls = [actor.add.remote(i) for i in range(100)]
        assert not ray.wait(calls, num_returns=1, timeout=4.0)[0]
        rig.net.heal()
        healed = time.monotonic()
        assert ray.get(calls, timeout=PATIENCE_S) == list(range(1, 101))
        called = time.monotonic() - healed
        pull.join()
        print(f"{how}: calls {called:.2f} s, the pull {time.monotonic() - healed:.2f} s later")
        assert pulled[0].sum() == 25 << 20
        assert called < 20  # a machine at its limit; on its own it is one second
        assert all(n["Alive"] for n in ray.nodes()) and len(ray.nodes()) == 3
