"""Dictionaries of neighbours in torch's operations: the specification of the compiled ones, which serves CUDA, too.

Keys, numbers and times are equal bit for bit, sums to rounding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graphmem.ops._joint import Joint, joined, joint_keys, known_slots, last_of, offer_draws, place_keys
from graphmem.ops._reference_temporal import gru_gate_slopes, gru_gates, time_code, time_code_backward

_SLOPE = 0.2  # of LeakyReLU below 0


def ncache_refresh(
    key: Tensor,
    eid: Tensor,
    time: Tensor,
    value: Tensor,
    nodes: Tensor,
    state: Tensor,
    messages: Tensor | None,
    row: Tensor | None,
    delta: bool,
    time_weight: Tensor,
    time_bias: Tensor,
    weight: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
) -> Tensor:
    """A GRU cell on the value of every cell with an event, whose input is a product of ``[state, message, code]``."""
    filled, x, z, _ = _inputs(key, eid, time, value, nodes, state, messages, row, delta, time_weight, time_bias, weight)
    now = value[nodes].to(state.dtype)
    now[filled] = _gates(x @ weight.t(), z, weight_ih, weight_hh, bias_ih, bias_hh)[0]
    return now


def _inputs(
    key: Tensor,
    eid: Tensor,
    time: Tensor,
    value: Tensor,
    nodes: Tensor,
    state: Tensor,
    messages: Tensor | None,
    row: Tensor | None,
    delta: bool,
    time_weight: Tensor,
    time_bias: Tensor,
    weight: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which cells [n, L] have an event, and of these ``[state, message, code]``, value and time step."""
    filled, when = eid[nodes] >= 0, time[nodes]
    dt = (when[:, :1] - when if delta else when).double()[filled]
    parts = [state[_keys(key, nodes)[filled].long()]]
    if messages is not None and row is not None:
        parts.append(messages[row[filled]])
    return filled, torch.cat((*parts, time_code(dt, time_weight, time_bias)), 1), value[nodes][filled].to(state), dt


def _keys(key: Tensor, nodes: Tensor) -> Tensor:
    """Keys [n, L] of rows; a node's own entry has the node, also before its first event."""
    return torch.cat((nodes.unsqueeze(1), key[nodes, 1:].long()), 1)


def _gates(
    x: Tensor, z: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
    gates = gru_gates(torch.addmm(bias_ih, x, weight_ih.t()), torch.addmm(bias_hh, z, weight_hh.t()))
    _, u, n, _ = gates
    return n + u * (z - n), gates


def ncache_refresh_backward(
    grad: Tensor,
    key: Tensor,
    eid: Tensor,
    time: Tensor,
    value: Tensor,
    nodes: Tensor,
    state: Tensor,
    messages: Tensor | None,
    row: Tensor | None,
    delta: bool,
    time_weight: Tensor,
    time_bias: Tensor,
    weight: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of ``w`` and ``b`` of the code and of the weights and biases."""
    filled, features, z, dt = _inputs(
        key, eid, time, value, nodes, state, messages, row, delta, time_weight, time_bias, weight
    )
    x = features @ weight.t()
    _, gates = _gates(x, z, weight_ih, weight_hh, bias_ih, bias_hh)
    slopes, units = gru_gate_slopes(grad[filled], z, *gates), 3 * z.size(1)
    d_x = slopes[:, :units]
    d_z = torch.cat((slopes[:, : 2 * z.size(1)], slopes[:, units:]), 1)
    d_input = d_x @ weight_ih
    d_code = d_input @ weight[:, weight.size(1) - time_weight.numel() :]
    of_code = time_code_backward(d_code, dt, time_weight, time_bias)
    return *of_code, d_input.t() @ features, d_x.t() @ x, d_z.t() @ z, d_x.sum(0), d_z.sum(0)


def ncache_join(
    key: Tensor, sizes: list[int], reference_hash: bool, seed: int, nodes: Tensor, capacity: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The keys of tuples int64 [P, q]: offsets, keys, and the cells that hold them as places in [N, L].

    The latter two are cut to ``capacity``, or filled up with -1.
    """
    distinct, place = nodes.unique(return_inverse=True)
    keys, columns = _keys(key, distinct), key.size(1)
    ptr, first, cell = joined(known_slots(keys, sizes, reference_hash, seed), place)
    in_cache = distinct[cell.clamp(min=0) // columns] * columns + cell % columns
    found, cell = keys.view(-1)[first], torch.where(cell >= 0, in_cache, -1)
    if capacity is None:
        return ptr, found, cell
    rest = max(capacity - found.numel(), 0)
    return ptr, F.pad(found[:capacity], (0, rest), value=-1), F.pad(cell[:capacity], (0, 0, 0, rest), value=-1)


def ncache_pool(
    key: Tensor,
    eid: Tensor,
    time: Tensor,
    nodes: Tensor,
    now: Tensor,
    sizes: list[int],
    reference_hash: bool,
    seed: int,
    first: Tensor,
    second: Tensor,
    t: Tensor | None,
    position: Tensor,
    query: Tensor | None,
    constant: Tensor | None,
) -> Tensor:
    """Mixed features of the keys that two nodes' dictionaries hold together, by head."""
    joint, h = keys_of_pairs(key, eid, time, nodes, now, sizes, reference_hash, seed, first, second, t, position)
    alpha, _ = _coefficients(joint, h, query, constant)
    mixed = h.new_zeros(alpha.size(1), first.numel(), h.size(1))
    return mixed.index_add_(1, joint.pair, alpha.t().unsqueeze(2) * h)


def keys_of_pairs(
    key: Tensor,
    eid: Tensor,
    time: Tensor,
    nodes: Tensor,
    now: Tensor,
    sizes: list[int],
    reference_hash: bool,
    seed: int,
    first: Tensor,
    second: Tensor,
    t: Tensor | None,
    position: Tensor,
) -> tuple[Joint, Tensor]:
    """The keys, and their features [R, W]."""
    joint = joint_keys(known_slots(_keys(key, nodes), sizes, reference_hash, seed), first, second)
    held = now.flatten(0, 1)[joint.slot]
    zeta = now.new_zeros(joint.mask.numel(), now.size(2)).index_add_(0, _key_of_slot(joint), held)
    parts = [zeta, position[joint.mask]]
    if t is not None:
        when, event = time[nodes].flatten(), eid[nodes].flatten()
        for at in (joint.first, joint.second):
            since = t[joint.pair] - when[at]
            there = (at >= 0) & (event[at] >= 0) & (since > 0)
            age = torch.where(there, since.double().log1p(), 0)
            parts.append(age.to(now.dtype).unsqueeze(1))
    return joint, torch.cat(parts, 1)


def _key_of_slot(joint: Joint) -> Tensor:
    return torch.repeat_interleave(joint.slot_ptr.diff())


def _coefficients(
    joint: Joint, h: Tensor, query: Tensor | None, constant: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Coefficients [R, heads] of the keys, and the slope of LeakyReLU at their scores; one head of ones without."""
    if query is None or constant is None:
        return h.new_ones(h.size(0), 1), None
    raw = h @ query.t() + constant
    slope = torch.ones_like(raw).masked_fill(raw < 0, _SLOPE)
    score = raw * slope
    pairs = joint.ptr.numel() - 1
    index = joint.pair.unsqueeze(1).expand_as(score)
    top = score.new_full((pairs, score.size(1)), -torch.inf).scatter_reduce(0, index, score, "amax")
    weight = (score - top[joint.pair]).exp()
    return weight / _by_pair(joint, weight)[joint.pair], slope


def _by_pair(joint: Joint, x: Tensor) -> Tensor:
    """Sums over the keys of each pair."""
    return x.new_zeros(joint.ptr.numel() - 1, x.size(1)).index_add_(0, joint.pair, x)


def ncache_pool_backward(
    grad: Tensor,
    key: Tensor,
    eid: Tensor,
    time: Tensor,
    nodes: Tensor,
    now: Tensor,
    sizes: list[int],
    reference_hash: bool,
    seed: int,
    first: Tensor,
    second: Tensor,
    t: Tensor | None,
    position: Tensor,
    query: Tensor | None,
    constant: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of ``now``, ``position``, ``query`` and ``constant``; the last two have no rows without."""
    joint, h = keys_of_pairs(key, eid, time, nodes, now, sizes, reference_hash, seed, first, second, t, position)
    alpha, slope = _coefficients(joint, h, query, constant)
    of_pair = grad[:, joint.pair]  # [heads, R, W]
    d_h = (alpha.t().unsqueeze(2) * of_pair).sum(0)
    heads = 0 if query is None else query.size(0)
    d_query, d_constant = h.new_zeros(heads, h.size(1)), h.new_zeros(heads)
    if query is not None and slope is not None:
        d_alpha = (of_pair * h).sum(2).t()
        d_raw = alpha * (d_alpha - _by_pair(joint, alpha * d_alpha)[joint.pair]) * slope
        d_h = d_h + d_raw @ query
        d_query, d_constant = d_raw.t() @ h, d_raw.sum(0)
    d_zeta, d_position = d_h[:, : now.size(2)], d_h[:, now.size(2) :][:, : position.size(1)]
    d_now = torch.zeros_like(now)
    d_now.view(-1, now.size(2)).index_add_(0, joint.slot, d_zeta[_key_of_slot(joint)])
    return d_now, torch.zeros_like(position).index_add_(0, joint.mask, d_position), d_query, d_constant


def ncache_commit(
    key: Tensor,
    eid: Tensor,
    time: Tensor,
    value: Tensor,
    src: Tensor,
    dst: Tensor,
    t: Tensor,
    event: Tensor,
    nodes: Tensor,
    at: Tensor,
    now: Tensor,
    sizes: list[int],
    reference_hash: bool,
    seed: int,
    replace_prob: float,
    sequential: bool,
) -> None:
    """Enter events; writes the first four."""
    count = src.numel()
    ends = at.view(2, count).t()
    if not sequential:
        _commit(key, eid, time, value, t, event, nodes, ends, now, sizes, reference_hash, seed, replace_prob)
        return
    now = now.clone()
    place = torch.zeros(key.size(0), dtype=torch.int64, device=key.device).scatter(
        0, nodes, torch.arange(nodes.numel(), device=key.device)
    )
    for e in range(count):
        one = t[e : e + 1], event[e : e + 1], nodes, ends[e : e + 1]
        row, column = _commit(key, eid, time, value, *one, now, sizes, reference_hash, seed, replace_prob)
        now[place[row], column] = value[row, column].to(now)  # what an event has written is worth what it wrote


def _commit(
    key: Tensor,
    eid: Tensor,
    time: Tensor,
    value: Tensor,
    t: Tensor,
    event: Tensor,
    nodes: Tensor,
    ends: Tensor,
    now: Tensor,
    sizes: list[int],
    reference_hash: bool,
    seed: int,
    replace_prob: float,
) -> tuple[Tensor, Tensor]:
    """Enter events with both ends int64 [E, 2]; offers are held against what was there before all of them.

    Returns the cells that took one, as rows and columns.
    """
    cells = key, eid, time, value
    before = _keys(key, nodes), eid[nodes], time[nodes]
    own, theirs = ends.flatten(), ends.flip(1).flatten()
    owner, other = nodes[own], nodes[theirs]
    when, number = t.repeat_interleave(2), event.repeat_interleave(2)
    end = torch.arange(owner.numel(), device=owner.device) % 2

    rows: list[Tensor] = []
    columns: list[Tensor] = []

    def offer(half: Tensor, place: Tensor, entry: tuple[Tensor, ...], draw: Tensor) -> None:
        occupant = before[0][own[half], place]
        taken = (occupant < 0) | (occupant == entry[0])
        taken |= offer_draws(seed, number[half], draw) < replace_prob
        chosen = taken.nonzero().view(-1)
        where, group = (owner[half[chosen]] * key.size(1) + place[chosen]).unique(return_inverse=True)
        last = chosen[last_of(group, where.numel())]
        rows.append(owner[half[last]])
        columns.append(place[last])
        _write(cells, rows[-1], columns[-1], tuple(x[last] for x in entry))

    first = [1, *(1 + sum(sizes[:hop]) for hop in range(1, len(sizes) + 1))]
    for hop in range(2, len(sizes) + 1):
        # A dictionary reads the next smaller hop of the other end, as it was before the batch.
        low = first[hop - 2]
        offered = before[0][theirs, low : first[hop - 1]]
        half, slot = (offered >= 0).nonzero(as_tuple=True)
        source = theirs[half], low + slot
        entry = offered[half, slot], before[1][source], before[2][source], now[source]
        place = place_keys(entry[0], sizes, hop, reference_hash, seed)
        offer(half, place, entry, 2 * source[1] + end[half])
    place = place_keys(other, sizes, 1, reference_hash, seed)
    known = before[0][own, place] == other
    entry = other, number, when, now[own, place].masked_fill(~known.unsqueeze(1), 0)
    offer(torch.arange(owner.numel(), device=owner.device), place, entry, end)
    distinct, group = own.unique(return_inverse=True)
    last = last_of(group, distinct.numel())
    zero = torch.zeros_like(distinct)
    _write(cells, nodes[distinct], zero, (nodes[distinct], number[last], when[last], now[distinct, 0]))
    return torch.cat(rows), torch.cat(columns)


def _write(cells: tuple[Tensor, ...], row: Tensor, column: Tensor, entry: tuple[Tensor, ...]) -> None:
    for cell, content in zip(cells, entry, strict=True):
        cell[row, column] = content.to(cell.dtype)
