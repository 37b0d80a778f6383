"""What NAT's released code (Graph-COM/Neighborhood-Aware-Temporal-Network at a054831) computes in another way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from graphmem.nn.functional import dropout, linear
from graphmem.ops._reference_ncache import keys_of_pairs

if TYPE_CHECKING:
    from graphmem.models.nat import NAT

DEFAULTS: dict[str, dict[str, Any]] = {
    "clean": {"pool": "attn", "time": "delta", "hash": "mix", "time_dim": 16, "pool_dim": 32},
    "reference": {"pool": "sum", "time": "absolute", "hash": "reference", "time_dim": 1, "pool_dim": 1},
}
"""Options that have another default in the reference mode."""


def unmet(model: NAT) -> Tensor:
    """The state of a node without an event, [1, memory_dim]: its cell on zeros."""
    weight = model.lin_state.weight[:, -model.time_enc.out_channels :]
    state: Tensor = model.state_cell(model.time_enc.lin.bias.cos().unsqueeze(0) @ weight.t())
    return state


def pooled_key_by_key(model: NAT, nodes: Tensor, value: Tensor, u: Tensor, v: Tensor, t: Tensor | None) -> Tensor:
    """Sums [P, pool_dim] over the keys of pairs of rows, of which each loses numbers before and behind the projection.

    Args:
        model: whose cache and weights they are.
        nodes: int64 [n], of which nodes the rows are.
        value: [n, L, F], values of their slots.
        u: int64 [P].
        v: int64 [P].
        t: [P], or ``None`` where times are absolute.
    """
    cache = model.cache
    cells = cache.key, cache.eid, cache.time
    joint, h = keys_of_pairs(*cells, nodes, value, *cache.layout.options, u, v, t, model.position_emb.weight)
    projected = linear(dropout(h, model.dropout, True), model.lin_pool.weight)
    projected = dropout(projected, model.dropout, True)
    pooled = projected.new_zeros(u.numel(), projected.size(1)).index_add(0, joint.pair, projected)
    out: Tensor = (pooled + model.lin_pool.bias).unflatten(1, (model.heads, -1)).mean(1)
    return out


__all__ = ["DEFAULTS", "pooled_key_by_key", "unmet"]
