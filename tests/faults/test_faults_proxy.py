"""The rig without namespaces: cuts and delays by a proxy, wherever the tests run."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import ledger
import pytest
import runs
import tcpnet
from rig import Rig

import skate as ray


@pytest.fixture()
def rig(tmp_path):
    if not shutil.which("cc"):
        pytest.skip("no C compiler here")
    with Rig(net=tcpnet.Net(tmp_path)) as made:
        made.start(num_cpus=1)
        made.far = made.add_node(resources={"far": 1})
        made.connect()
        yield made


@pytest.mark.timeout(120)
def test_work_goes_on_through_cuts_and_delays(rig, tmp_path):
    ids = runs.alive()
    calls = ledger.Calls([ledger.Counter.options(resources={"far": 0.5}).remote()])
    there = ledger.look.options(resources={"far": 0.5})
    objects = ledger.Objects()
    one, two = sorted(rig.machines)
    for turn, fault in enumerate((
        lambda: rig.net.shape(delay_ms=30), lambda: rig.net.cut(one, two),
        lambda: rig.net.drop(one, two), lambda: rig.net.drop(two, one),
    )):  # fmt: skip
        fault()
        tasks = ledger.Tasks(Path(f"{tmp_path}/ledger.{turn}"), 60, 0.005)
        reply = calls.actors[0].report.remote()
        if turn:
            assert not ray.wait([reply], timeout=0.5)[0]  # nothing comes through
            rig.net.heal()
        assert len(ray.get(reply, timeout=ledger.GET_S)[1]) == calls.sent[0]
        calls.more(30)
        objects.round(4, 1 << 18)
        sent = ledger.data(turn, 1 << 18)  # SPREAD may stay on one node
        assert ray.get(there.remote(ray.put(sent)), timeout=ledger.GET_S) == ledger.digest(sent)
        tasks.check()
        rig.net.heal()
    calls.check()
    assert runs.alive() == ids
    assert rig.net.forwarded > 4 << 18


def test_delays_are_as_long_as_they_should(rig):
    actor = ledger.Echo.options(resources={"far": 1}).remote()
    ray.get(actor.say.remote(1), timeout=ledger.GET_S)
    rig.net.shape(delay_ms=100)
    begun = time.monotonic()
    assert ray.get(actor.say.remote(2), timeout=ledger.GET_S) == ledger.answer(2)
    assert time.monotonic() - begun > 0.2  # there and back
