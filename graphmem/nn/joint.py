"""Which nodes the dictionaries of a pair hold, each once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from graphmem.nn.neighbor_cache import CacheRows, NeighborCache


class KnownSlots(NamedTuple):
    """Dictionaries of n nodes, as :func:`joint_keys` looks into them."""

    key: Tensor
    """int64 [n, L]; -1 for an empty slot."""
    column: Tensor
    """int64 [n, L, H + 1], where the key lies in any node's dictionaries of each hop."""


class Joint(NamedTuple):
    """The R different keys of P pairs, pair by pair, and the slots that hold them as places in [n, L]."""

    ptr: Tensor
    """int64 [P + 1], the first key of each pair."""
    pair: Tensor
    """int64 [R]."""
    mask: Tensor
    """int64 [R], bit h: the first node's hop h holds the key, bit H + 1 + h: the second's does."""
    slot_ptr: Tensor
    """int64 [R + 1]."""
    slot: Tensor
    """int64 [S], all slots that hold each key, first node's first, by hop."""
    first: Tensor
    """int64 [R], the first node's slot of smallest hop; -1 for none."""
    second: Tensor
    """int64 [R], the second node's."""


def known_slots(cache: NeighborCache, rows: CacheRows) -> KnownSlots:
    """Compute where every key would lie in other nodes' dictionaries."""
    columns = [torch.zeros_like(rows.key)]  # own entries
    columns += [cache.place(rows.key.clamp(min=0), hop) for hop in range(1, len(cache.sizes) + 1)]
    return KnownSlots(rows.key, torch.stack(columns, dim=2))


def joint_keys(known: KnownSlots, first: Tensor, second: Tensor) -> Joint:
    """Join the dictionaries of pairs.

    A key can only lie in one slot of a dictionary, so that each slot of one node asks H + 1 slots of its own node and
    of the other whether they hold the same key; nothing is sorted.

    Args:
        known: dictionaries of n nodes.
        first: int64 [P], nodes as places among them.
        second: int64 [P].
    """
    _, slots, hops = known.column.shape
    sides = torch.stack((first, second), dim=1)
    key = known.key[sides].flatten(1)  # [P, 2 L], the first node's slots, then the second's
    column = known.column[sides].flatten(1, 2)  # [P, 2 L, H + 1]
    asked = torch.cat((column, slots + column), dim=2)  # [P, 2 L, 2 (H + 1)]: the slots that may hold each slot's key
    holds = key.gather(1, asked.flatten(1)).view(asked.shape) == key.unsqueeze(2)
    # The slot of the first dictionary that holds a key stands for it.
    bit = holds.to(torch.uint8).argmax(2, keepdim=True)
    stands = asked.gather(2, bit).squeeze(2) == torch.arange(2 * slots, device=key.device)
    stands &= key >= 0
    pair, _ = stands.nonzero(as_tuple=True)
    holds, asked = holds[stands], asked[stands]  # [R, 2 (H + 1)]
    base = torch.where(asked < slots, first[pair].unsqueeze(1), second[pair].unsqueeze(1)) * slots + asked % slots
    counts = holds.sum(1)
    weight = 2 ** torch.arange(2 * hops, device=key.device)
    mine, theirs = (_first_of(base[:, part], holds[:, part]) for part in (slice(0, hops), slice(hops, 2 * hops)))
    return Joint(
        ptr=_offsets(stands.sum(1)),
        pair=pair,
        mask=(holds * weight).sum(1),
        slot_ptr=_offsets(counts),
        slot=base[holds],
        first=mine,
        second=theirs,
    )


def _first_of(place: Tensor, there: Tensor) -> Tensor:
    """The first entry of each row [R, k] that is there, else -1."""
    at = there.to(torch.uint8).argmax(1, keepdim=True)
    return torch.where(there.any(1), place.gather(1, at).squeeze(1), -1)


def _offsets(counts: Tensor) -> Tensor:
    return torch.cat((counts.new_zeros(1), counts.cumsum(0)))
