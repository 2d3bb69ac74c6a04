"""util.collective: operations in which all ranks of a group take part."""

from __future__ import annotations

import numpy as np
import pytest

import skate
from skate.util import collective
from skate.util.collective.types import ReduceOp


@pytest.fixture(scope="module", autouse=True)
def session():
    skate.init(address="local", num_cpus=2)
    yield
    skate.shutdown()


@skate.remote(num_cpus=0)
class Rank:
    def init(self, size, rank, name, **options):
        collective.init_collective_group(size, rank, "gloo", name, **options)
        return collective.get_rank(name), collective.get_collective_group_size(name)

    def call(self, operation, *args, **kwargs):
        """The operation on arrays of this process; the arrays after it."""
        args = [a.copy() if isinstance(a, np.ndarray) else
                [p.copy() for p in a] if isinstance(a, list) else a for a in args]
        getattr(collective, operation)(*args, **kwargs)
        return args


@pytest.fixture()
def ranks(request):
    actors = [Rank.remote() for _ in range(3)]
    name = request.node.name
    got = skate.get([a.init.remote(3, i, name) for i, a in enumerate(actors)])
    assert got == [(i, 3) for i in range(3)]
    yield actors, name


def together(ranks, operation, *args_of_rank, **kwargs):
    actors, name = ranks
    return skate.get([
        actor.call.remote(operation, *args, group_name=name, **kwargs)
        for actor, args in zip(actors, args_of_rank, strict=True)
    ])


@pytest.mark.parametrize("n", [1, 7, 500_000])
def test_allreduce(ranks, n):
    parts = [np.full((n,), float(i + 1)) for i in range(3)]
    wanted = {ReduceOp.SUM: 6, ReduceOp.PRODUCT: 6, ReduceOp.MIN: 1, ReduceOp.MAX: 3}
    for op, value in wanted.items():
        for (out,) in together(ranks, "allreduce", *[(p,) for p in parts], op=op):
            assert (out == value).all() and out.shape == (n,)


def test_reduce_and_broadcast(ranks):
    parts = [np.full((4, 2), i, dtype=np.int32) for i in range(3)]
    first, second, third = together(ranks, "reduce", *[(p, 1) for p in parts])
    assert (second[0] == 3).all() and (first[0] == 0).all() and (third[0] == 2).all()
    for out, _ in together(ranks, "broadcast", *[(p, 2) for p in parts]):
        assert (out == 2).all()


def test_allgather_and_reducescatter(ranks):
    parts = [np.full(3, float(i)) for i in range(3)]
    empty = [np.zeros(3) for _ in range(3)]
    for gathered, _ in together(ranks, "allgather", *[(empty, p) for p in parts]):
        assert [part[0] for part in gathered] == [0, 1, 2]
    lists = [[np.full(2, 10.0 * i + j) for j in range(3)] for i in range(3)]
    outs = together(ranks, "reducescatter", *[(np.zeros(2), parts) for parts in lists])
    assert [out[0][0] for out in outs] == [30, 33, 36]


def test_send_and_recv_and_barrier(ranks):
    actors, name = ranks
    for value in (5.0, 6.0):
        sent = actors[0].call.remote("send", np.full(10, value), 2, group_name=name)
        (out, _) = skate.get(actors[2].call.remote("recv", np.zeros(10), 0, group_name=name))
        assert (out == value).all()
        skate.get(sent)
    together(ranks, "barrier", (), (), ())


def test_a_group_made_from_outside(request):
    actors = [Rank.remote() for _ in range(2)]
    name = request.node.name
    collective.create_collective_group(actors, 2, [1, 0], "gloo", name)
    outs = together((actors, name), "broadcast", (np.zeros(2), 1), (np.ones(2), 1))
    assert (outs[1][0] == 0).all()
    with pytest.raises(RuntimeError, match="places"):
        collective.create_collective_group(actors, 3, [0, 1], "gloo", name + "x")


def test_mistakes(ranks):
    actors, name = ranks
    with pytest.raises(RuntimeError, match="not in the group"):
        collective.allreduce(np.zeros(1), "nowhere")
    with pytest.raises(skate.exceptions.NotSupportedError, match="Meanwhile"):
        collective.init_collective_group(1, 0, "nccl")
    with pytest.raises(RuntimeError, match="already"):
        skate.get(actors[0].init.remote(3, 0, name))
    with pytest.raises(RuntimeError, match="rank"):
        collective.init_collective_group(2, 5, "gloo", "other")
    with pytest.raises(RuntimeError, match="different arrays"):
        together(ranks, "allreduce", (np.zeros(1),), (np.zeros(2),), (np.zeros(1),))
    assert collective.get_rank("nowhere") == -1


def test_who_does_not_come_is_named(request):
    actor, name = Rank.remote(), request.node.name
    skate.get(actor.init.remote(2, 0, name, gloo_timeout=200))
    with pytest.raises(RuntimeError, match=r"not there: ranks \[1\]"):
        skate.get(actor.call.remote("barrier", group_name=name))
