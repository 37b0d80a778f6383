"""Distinct ids, numbered in the order in which they first appear."""

from __future__ import annotations

import torch
from torch import Tensor

from graphmem.ops import _check


def distinct(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Find the distinct ids of a list.

    Unlike ``torch.unique`` without sorting: the first id stays the first, so that a list which begins with distinct ids
    keeps them as they are.

    Args:
        ids: int64 [n]; negative ones are nobody.

    Returns:
        The ids [u] in the order in which they first appear, and the place of each entry among them [n], -1 for a
        negative one.

    Raises:
        ArgumentError: wrong shape or dtype.
    """
    ids = _check.valued("ids", _check.tensor("ids", ids, shape=(None,), dtypes=(torch.int64,)))
    values, place, count = torch.ops.graphmem.distinct(ids)
    return values[: int(count)], place


@torch.library.register_fake("graphmem::distinct")
def _distinct_fake(ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(ids), torch.empty_like(ids), ids.new_empty(1)
