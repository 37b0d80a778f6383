"""Where keys lie in dictionaries of neighbours, and which keys two of them hold, each once; in torch's operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_MASK32 = (1 << 32) - 1


def place_keys(keys: Tensor, sizes: Sequence[int], hop: int, reference_hash: bool, seed: int) -> Tensor:
    """The columns int64 [*] in which keys int64 [*] lie in every row's dictionary of a hop, from 1 on."""
    first, size = 1 + sum(sizes[: hop - 1]), sizes[hop - 1]
    if reference_hash:
        n, s = keys + 1, seed % 100
        return first + (n * s + n * n * (s + 1)) % size
    return first + _mix32(keys ^ (keys >> 32) ^ _mix32_int(seed)) % size


def offer_draws(seed: int, event: Tensor, number: Tensor) -> Tensor:
    """Draws in [0, 1), float64 [m], one for each (seed, event, number)."""
    low = _mix32(_mix32((event & _MASK32) + 0x9E3779B9) ^ _mix32(event >> 32) ^ _mix32_int(seed + 1))
    return _mix32(low + 0x9E3779B9 * (number + 1)).double() / 2.0**32


def last_of(group: Tensor, count: int) -> Tensor:
    """The last place of each of ``count`` groups in a list of groups int64 [m]; -1 for one that is not there."""
    order = torch.arange(group.numel(), device=group.device)
    return torch.full((count,), -1, dtype=torch.int64, device=group.device).scatter_reduce(0, group, order, "amax")


def _mix32(x: Tensor) -> Tensor:
    """MurmurHash3's finaliser (Appleby, public domain) of 32-bit numbers in int64, whose products wrap."""
    x = x & _MASK32
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & _MASK32
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & _MASK32
    return x ^ (x >> 16)


def _mix32_int(x: int) -> int:
    return int(_mix32(torch.tensor(x & _MASK32)))


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


def known_slots(key: Tensor, sizes: Sequence[int], reference_hash: bool, seed: int) -> KnownSlots:
    """Compute where every key of rows int64 [n, L] would lie in other nodes' dictionaries."""
    columns = [torch.zeros_like(key)]  # own entries
    columns += [place_keys(key.clamp(min=0), sizes, hop, reference_hash, seed) for hop in range(1, len(sizes) + 1)]
    return KnownSlots(key, torch.stack(columns, dim=2))


def joined(known: KnownSlots, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Join the dictionaries of tuples.

    A key can only lie in one slot of a dictionary, so that each slot of a tuple's node asks H + 1 slots of every node
    whether they hold the same key; nothing is sorted.

    Args:
        known: dictionaries of n nodes.
        rows: int64 [P, q], nodes as places among them.

    Returns:
        Offsets int64 [P + 1] of the tuples' keys; of each of the R keys the first slot that holds it and, by node and
        hop, the one of that dictionary, int64 [R, q (H + 1)]: places in [n, L], -1 where it does not hold the key.
    """
    _, slots, hops = known.column.shape
    size = rows.size(1)
    if size == 0:  # tuples of no node hold nothing
        return rows.new_zeros(rows.size(0) + 1), rows.new_empty(0), rows.new_empty(0, 0)
    key = known.key[rows].flatten(1)  # [P, q L], the first node's slots, then the second's
    column = known.column[rows].flatten(1, 2)  # [P, q L, H + 1]
    asked = torch.cat([side * slots + column for side in range(size)], dim=2)  # that may hold each slot's key
    holds = key.gather(1, asked.flatten(1)).view(asked.shape) == key.unsqueeze(2)
    # The slot of the first dictionary that holds a key stands for it.
    bit = holds.to(torch.uint8).argmax(2, keepdim=True)
    stands = asked.gather(2, bit).squeeze(2) == torch.arange(size * slots, device=key.device)
    stands &= key >= 0
    pair, at = stands.nonzero(as_tuple=True)
    place = rows[pair].repeat_interleave(hops, 1) * slots + asked[stands] % slots
    first = rows[pair, at // slots] * slots + at % slots
    return _offsets(stands.sum(1)), first, torch.where(holds[stands], place, -1)


def joint_keys(known: KnownSlots, first: Tensor, second: Tensor) -> Joint:
    """Join the dictionaries of pairs.

    Args:
        known: dictionaries of n nodes.
        first: int64 [P], nodes as places among them.
        second: int64 [P].
    """
    hops = known.column.size(2)
    ptr, _, place = joined(known, torch.stack((first, second), dim=1))
    holds = place >= 0
    weight = 2 ** torch.arange(2 * hops, device=place.device)
    mine, theirs = (_first_of(place[:, part], holds[:, part]) for part in (slice(0, hops), slice(hops, 2 * hops)))
    return Joint(
        ptr=ptr,
        pair=torch.repeat_interleave(ptr.diff()),
        mask=(holds * weight).sum(1),
        slot_ptr=_offsets(holds.sum(1)),
        slot=place[holds],
        first=mine,
        second=theirs,
    )


def _first_of(place: Tensor, there: Tensor) -> Tensor:
    """The first entry of each row [R, k] that is there, else -1."""
    at = there.to(torch.uint8).argmax(1, keepdim=True)
    return torch.where(there.any(1), place.gather(1, at).squeeze(1), -1)


def _offsets(counts: Tensor) -> Tensor:
    return torch.cat((counts.new_zeros(1), counts.cumsum(0)))
