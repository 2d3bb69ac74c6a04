"""A node that falls silent: suspected, shown, spared; and it comes back as it was."""

from __future__ import annotations

import os
import signal
import time

import pytest
from e2e_help import until

import skate as ray

PATIENCE = 60.0


def node_of(member):
    """Its row of nodes()."""
    return next(n for n in ray.nodes() if n["NodeID"].startswith(member.node_id))


@pytest.fixture()
def far(cluster):
    member = cluster.add_node(num_cpus=2, resources={"far": 100})
    cluster.connect()
    yield member
    try:
        os.kill(member.pid, signal.SIGCONT)  # a stopped one would end late
    except ProcessLookupError:
        pass


@ray.remote(resources={"far": 1}, num_cpus=0)
class Counter:
    def __init__(self):
        self.n = 0

    def add(self):
        self.n += 1
        return self.n


@ray.remote(num_cpus=1)
def where():
    return ray.get_runtime_context().get_node_id()


@ray.remote(resources={"far": 1}, num_cpus=0)
def there(i):
    return i


def test_a_stopped_raylet_is_suspected_and_returns(far):
    counter = Counter.remote()
    assert ray.get(counter.add.remote(), timeout=PATIENCE) == 1
    home = ray.get_runtime_context().get_node_id()
    os.kill(far.pid, signal.SIGSTOP)
    begin = time.monotonic()
    doubt = until(lambda: node_of(far)["Suspect"], PATIENCE, "the node is suspected")
    print(f"suspected after {time.monotonic() - begin:.2f} s: {doubt}")
    assert "no beat" in doubt and node_of(far)["Alive"] and not node_of(far)["DeathReasonMessage"]
    # What can run elsewhere does; what must run there waits.
    waits = [there.remote(i) for i in range(3)]
    call = counter.add.remote()
    assert {ray.get(where.remote(), timeout=PATIENCE) for _ in range(4)} == {home}
    time.sleep(max(0.0, begin + 3.0 - time.monotonic()))  # three seconds of silence, no less
    assert node_of(far)["Alive"]
    os.kill(far.pid, signal.SIGCONT)
    assert ray.get(waits, timeout=PATIENCE) == [0, 1, 2]
    assert ray.get(call, timeout=PATIENCE) == 2
    until(lambda: node_of(far)["Suspect"] == "", PATIENCE, "it is no longer suspected")
    assert node_of(far)["Alive"]


def test_a_killed_raylet_is_known_dead_at_once(far):
    counter = Counter.remote()
    assert ray.get(counter.add.remote(), timeout=PATIENCE) == 1
    elsewhere = Counter.options(resources={}, max_restarts=1).remote()
    lost = there.options(max_retries=0).remote(0)
    assert ray.get([lost, elsewhere.add.remote()], timeout=PATIENCE) == [0, 1]
    os.kill(far.pid, signal.SIGKILL)
    begin = time.monotonic()
    until(lambda: not node_of(far)["Alive"], PATIENCE, "it is known to be dead")
    seen = time.monotonic() - begin
    with pytest.raises(ray.exceptions.ActorDiedError) as error:
        ray.get(counter.add.remote(), timeout=PATIENCE)
    print(f"known dead after {seen:.2f} s, told after {time.monotonic() - begin:.2f} s")
    assert seen < 20  # a machine at its limit; on its own it takes half a second
    assert "nobody listens at its port" in node_of(far)["DeathReasonMessage"]
    assert "node" in str(error.value)
    assert ray.get(where.remote(), timeout=PATIENCE)
