"""NAT without gradient in torch's operations: the specification of the compiled operators, which serves CUDA, too."""

from __future__ import annotations

import torch
from torch import Tensor

from graphmem.ops._joint import last_of
from graphmem.ops._nat_weights import NATWidths
from graphmem.ops._reference_ncache import ncache_commit, ncache_pool, ncache_refresh
from graphmem.ops._reference_temporal import distinct, memory_gru

State = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
Parts = dict[str, Tensor]


def nat_score(
    key: Tensor,
    eid: Tensor,
    time: Tensor,
    value: Tensor,
    state: Tensor,
    other: Tensor,
    gap: Tensor,
    messages: Tensor | None,
    known: Tensor | None,
    weights: Tensor,
    widths: list[int],
    sizes: list[int],
    reference_hash: bool,
    seed: int,
    delta: bool,
    src: Tensor,
    dst: Tensor,
    t: Tensor,
) -> Tensor:
    """Logits of candidates."""
    stored = key, eid, time, value, state, other, gap
    parts = _parts(weights, widths, sizes, delta, state, value)
    nodes, place = _distinct(torch.cat((src, dst.reshape(-1))))
    own, now = read_nodes(stored, messages, known, parts, nodes, delta)
    first, second = place[: src.numel()].repeat_interleave(dst.size(1)), place[src.numel() :]
    when, heads = t.repeat_interleave(dst.size(1)), widths[3]
    attends = (parts["query"].view(heads, -1), parts["constant"].view(-1)) if heads else (None, None)
    mixed = ncache_pool(
        *(key, eid, time, nodes, now, sizes, reference_hash, seed, first, second, when if delta else None),
        *(parts["position"].reshape(4 ** (len(sizes) + 1), -1), *attends),
    )
    hidden = parts["hidden_bias"] + mixed.transpose(0, 1).flatten(1) @ parts["pool"]
    hidden = hidden + own[first] @ parts["source"] + own[second] @ parts["target"]
    if delta:
        ends = nodes[torch.stack((first, second), 1)]
        hidden = hidden + since_last_events(eid, time, ends, when).to(hidden.dtype) @ parts["since"]
    return (hidden.relu() @ parts["out"].view(-1) + parts["out_bias"].view(())).view(dst.shape)


def since_last_events(eid: Tensor, time: Tensor, ends: Tensor, when: Tensor) -> Tensor:
    """ln(1 + time since the last event) [P, 2] of the ends of pairs at times [P]; 0 where there was none."""
    since = (when.unsqueeze(1) - time[ends, 0]).clamp(min=0).double().log1p()
    return torch.where(eid[ends, 0] >= 0, since, 0)


def nat_enter(
    key: Tensor,
    eid: Tensor,
    time: Tensor,
    value: Tensor,
    state: Tensor,
    other: Tensor,
    gap: Tensor,
    src: Tensor,
    dst: Tensor,
    t: Tensor,
    event: Tensor,
    nodes: Tensor,
    at: Tensor,
    own: Tensor,
    now: Tensor,
    sizes: list[int],
    reference_hash: bool,
    seed: int,
    replace_prob: float,
    sequential: bool,
) -> None:
    """The events enter; writes the first seven."""
    last = last_of(at.view(2, -1).t().reshape(-1), nodes.numel())
    entered = last >= 0
    rows, last = nodes[entered], last[entered]
    gap[rows] = torch.where(eid[rows, 0] >= 0, t[last // 2] - time[rows, 0], 0)
    other[rows], state[rows] = torch.stack((dst, src), 1).view(-1)[last], own[entered]
    entering = src, dst, t, event, nodes, at, now
    ncache_commit(key, eid, time, value, *entering, sizes, reference_hash, seed, replace_prob, sequential)


def nat_update(
    key: Tensor,
    eid: Tensor,
    time: Tensor,
    value: Tensor,
    state: Tensor,
    other: Tensor,
    gap: Tensor,
    messages: Tensor | None,
    known: Tensor | None,
    weights: Tensor,
    widths: list[int],
    sizes: list[int],
    reference_hash: bool,
    seed: int,
    delta: bool,
    src: Tensor,
    dst: Tensor,
    t: Tensor,
    asked: Tensor | None,
    first: int,
    replace_prob: float,
    sequential: bool,
) -> Tensor:
    """Logits of the candidates, then the events enter; writes the first seven."""
    scores = state.new_empty(src.numel(), 0)
    if src.numel() == 0:
        return scores if asked is None else state.new_empty(asked.shape)
    if asked is not None:
        how = weights, widths, sizes, reference_hash, seed, delta
        scores = nat_score(key, eid, time, value, state, other, gap, messages, known, *how, src, asked, t)
    stored = key, eid, time, value, state, other, gap
    nodes, at = _distinct(torch.cat((src, dst)))
    own, now = read_nodes(stored, messages, known, _parts(weights, widths, sizes, delta, state, value), nodes, delta)
    event = first + torch.arange(src.numel(), device=src.device)
    nat_enter(*stored, src, dst, t, event, nodes, at, own, now, sizes, reference_hash, seed, replace_prob, sequential)
    return scores


def _distinct(ids: Tensor) -> tuple[Tensor, Tensor]:
    nodes, place, count = distinct(ids)
    return nodes[: int(count)], place


def _parts(weights: Tensor, widths: list[int], sizes: list[int], delta: bool, state: Tensor, value: Tensor) -> Parts:
    message, times, position, heads, hidden = widths
    of_state = state.size(1), value.size(2), message, times, position
    return NATWidths(*of_state, heads, hidden, len(sizes), delta).views(weights)


def read_nodes(
    stored: State, messages: Tensor | None, known: Tensor | None, parts: Parts, nodes: Tensor, delta: bool
) -> tuple[Tensor, Tensor]:
    """States and values of nodes with their last events applied."""
    key, eid, time, value, state, other, gap = stored
    met = eid[nodes, 0] >= 0
    row: Tensor | None = eid[nodes] if known is None else torch.searchsorted(known, eid[nodes])
    raw = parts["value_message"].size(0)
    if messages is None or messages.size(0) == 0:  # no event has happened
        messages = state.new_zeros(1, raw)
        row = torch.zeros_like(eid[nodes])
    assert row is not None
    message = torch.where(met.unsqueeze(1), messages[row[:, 0].clamp(0, messages.size(0) - 1)], 0)
    dt = gap[nodes] if delta else time[nodes, 0]
    code = parts["time_weight"].reshape(-1), parts["time_bias"].reshape(-1)
    of_cell = parts["cell_ih"].t(), parts["cell_hh"].t(), parts["bias_ih"].view(-1), parts["bias_hh"].view(-1)
    given = state, nodes, torch.where(met, other[nodes], -1), message, dt.double()
    own = memory_gru(*given, *code, *of_cell, False)[0]
    f = value.size(2)
    weight = torch.cat((parts["value_state"].t(), parts["value_message"].t(), parts["value_time"].reshape(f, -1)), 1)
    of_value = [parts[f"value_{name}"].reshape(-1) for name in ("ih", "hh", "bias_ih", "bias_hh")]
    matrices = [x.view(3 * f, f) for x in of_value[:2]]
    told, which = (messages, row) if raw else (None, None)
    now = ncache_refresh(
        *(key, eid, time, value, nodes, state, told, which, delta), *code, weight, *matrices, *of_value[2:]
    )
    return own, now
