"""Collective operations among actors or tasks: all take part, each with its rank.

Arrays and tensors travel through the object store: on one node nobody copies what others give, and
a large one is reduced in slices, each rank its own. There is no NCCL here.
"""

from __future__ import annotations

from skate.util.collective.collective import (
    allgather,
    allreduce,
    barrier,
    broadcast,
    create_collective_group,
    destroy_collective_group,
    get_collective_group_size,
    get_rank,
    gloo_available,
    init_collective_group,
    is_group_initialized,
    nccl_available,
    recv,
    reduce,
    reducescatter,
    send,
)

__all__ = [
    "allgather", "allreduce", "barrier", "broadcast", "create_collective_group",
    "destroy_collective_group", "get_collective_group_size", "get_rank", "gloo_available",
    "init_collective_group", "is_group_initialized", "nccl_available", "recv", "reduce",
    "reducescatter", "send",
]  # fmt: skip
