"""Which keys the dictionaries of some nodes hold together, and where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.ops import _check
from graphmem.ops._autograd import Operator
from graphmem.ops.ncache import Layout


class JoinedKeys(NamedTuple):
    """The R different keys of P tuples of q nodes, tuple by tuple; see :func:`ncache_join`."""

    ptr: Tensor
    """int64 [P + 1], the first key of each tuple; the last is R also where a capacity cuts the others."""
    key: Tensor
    """int64 [R], nodes."""
    cell: Tensor
    """int64 [R, q, H + 1], the cell of each dictionary that holds the key, as a place in [N, L]; -1 for none."""

    @property
    def tuples(self) -> Tensor:
        """The tuple of each key, int64 [R]; P behind the last key, where there is a capacity."""
        place = torch.arange(self.key.numel(), device=self.key.device)
        return torch.searchsorted(self.ptr, place, right=True) - 1


def ncache_join(key: Tensor, layout: Layout, nodes: Tensor, capacity: int | None = None) -> JoinedKeys:
    """Find the keys that the dictionaries of tuples of nodes hold together, each once, and where.

    Which dictionaries hold a key, ``cell >= 0``, is its joint structural feature (hop 0 is the node itself); values,
    times and numbers of events are ``value.flatten(0, 1)[cell]`` and so on. :func:`~graphmem.ops.ncache_pool` mixes
    those of pairs without listing them.

    Source: Y. Luo, P. Li, LoG 2022 (arXiv 2209.01084), section 4.2.

    Args:
        key: int32 or int64 [N, L]; -1 for an empty slot. The own entry's is not read: it is the node.
        layout: with L - 1 slots.
        nodes: int64 [P, q].
        capacity: size of the result, -1 behind the last key; ``None``: as many as there are keys, for which on CUDA it
            waits for the device. ``P q L`` is always enough. On CUDA keys that find no room are left out, and
            ``ptr[-1]`` is larger than the capacity then.

    Returns:
        Keys in the order of the tuple's nodes and, where the first of these dictionaries has it, of its columns. A
        tuple has at least one key, its first node.

    Raises:
        ArgumentError: wrong shape, dtype, device or range; or, on the CPU, more keys than ``capacity``.
    """
    options, columns = layout.checked(), 1 + sum(layout.sizes)
    key = _check.tensor("key", key, shape=(None, columns), dtypes=_check.INDEX_DTYPES)
    nodes = _check.tensor("nodes", nodes, shape=(None, None), dtypes=(torch.int64,), device=key.device)
    if nodes.size(1) == 0:
        raise ArgumentError("nodes: expected tuples of at least one node, got none")
    _check.in_range("nodes", nodes, key.size(0))
    if capacity is not None:
        _check.integer("capacity", capacity)
    ptr, found, cell = _ncache_join(key, *options, nodes, capacity)
    if capacity is not None and not _check.unseen(ptr) and int(ptr[-1]) > capacity:
        raise ArgumentError(f"capacity: expected room for {int(ptr[-1])} keys, got {capacity}")
    return JoinedKeys(ptr, found, cell.view(found.numel(), nodes.size(1), len(layout.sizes) + 1))


@torch.library.register_fake("graphmem::ncache_join")
def _ncache_join_fake(
    key: Tensor, sizes: Sequence[int], reference_hash: bool, seed: int, nodes: Tensor, capacity: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    keys = torch.library.get_ctx().new_dynamic_size() if capacity is None else capacity
    shapes = (nodes.size(0) + 1,), (keys,), (keys, nodes.size(1) * (len(sizes) + 1))
    return nodes.new_empty(shapes[0]), nodes.new_empty(shapes[1]), nodes.new_empty(shapes[2])


_ncache_join = Operator("ncache_join")

__all__ = ["JoinedKeys", "ncache_join"]
