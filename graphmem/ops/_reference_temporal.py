"""The operators of temporal models in torch's operations: equal to rounding, not bit for bit.

The specification of the compiled ones, and what serves CUDA tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor


def distinct(ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct ids in the order in which they first appear, then -1; each entry's place among them; how many."""
    there = (ids >= 0).nonzero().view(-1)
    ascending, rank = ids[there].unique(return_inverse=True)
    first = torch.full_like(ascending, ids.numel()).scatter_reduce_(0, rank, there, "amin")
    order = first.argsort()
    number = torch.empty_like(order).scatter_(0, order, torch.arange(order.numel(), device=ids.device))
    values, place = torch.full_like(ids, -1), torch.full_like(ids, -1)
    values[: order.numel()] = ascending[order]
    place[there] = number[rank]
    return values, place, ids.new_full((1,), order.numel())


def pending_events(src: Tensor, dst: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Mask of the events with an end that was met before, and what there is to know of the distinct ends.

    Ids, number of events, and whether one of these is masked, with empty rows behind the last; each end's place among
    them; how many they are.
    """
    nodes, place, size = distinct(torch.stack((src, dst), 1).view(-1))
    ends, events = place.view(-1, 2), torch.arange(src.numel(), device=src.device)
    never = torch.full_like(nodes, src.numel())
    mask = never.scatter_reduce(0, place, events.repeat_interleave(2), "amin")[ends].amin(1) < events
    once = torch.stack((torch.ones_like(src), (src != dst).long()), 1).view(-1)  # a self-loop is one event
    count = torch.zeros_like(nodes).index_add_(0, place, once)
    affected = torch.zeros_like(nodes).index_add_(0, place, mask.long().repeat_interleave(2)) > 0
    return mask, nodes, count, affected, place, size


def time_code(dt: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``cos(w dt + b)``, the phase in float64."""
    return _phase(dt, weight, bias).cos().to(weight.dtype)


def time_code_backward(grad: Tensor, dt: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of ``w`` and ``b``."""
    slope = -_phase(dt, weight, bias).sin().to(weight.dtype) * grad
    return slope.t() @ dt.to(weight.dtype), slope.sum(0)


def _phase(dt: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return dt.unsqueeze(1) * weight.double() + bias.double()


def memory_gru(
    memory: Tensor,
    node: Tensor,
    other: Tensor,
    msg: Tensor,
    dt: Tensor,
    time_weight: Tensor,
    time_bias: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """A GRU cell on ``[memory of node, memory of other, msg, time code]``; its input and gates with ``save``.

    With fewer weights it reads the last parts alone; nodes without another stay as they are.
    """
    own, absent = memory[node], (other < 0).unsqueeze(1)
    theirs = memory[other.clamp(min=0)].masked_fill(absent, 0)
    x = torch.cat((own, theirs, msg, time_code(dt, time_weight, time_bias)), 1)
    gates_x = torch.addmm(bias_ih, x[:, x.size(1) - weight_ih.size(1) :], weight_ih.t())
    gates_h = torch.addmm(bias_hh, own, weight_hh.t())
    r, z, n, h_n = gru_gates(gates_x, gates_h)
    z = z.masked_fill(absent, 1)
    gates = torch.cat((r, z, n, h_n), 1)
    rows = x.size(0) if save else 0
    return torch.where(absent, own, n + z * (own - n)), x[:rows].clone(), gates[:rows].clone()


def gru_gates(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """r, z and n of pre-activations [M, 3 d] of the input and of the state, and the state's part of n."""
    (x_r, x_z, x_n), (h_r, h_z, h_n) = x.chunk(3, 1), h.chunk(3, 1)
    r, z = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
    return r, z, (x_n + r * h_n).tanh(), h_n


def gru_gate_slopes(grad: Tensor, own: Tensor, r: Tensor, z: Tensor, n: Tensor, h_n: Tensor) -> Tensor:
    """Gradients [M, 4 d] of the pre-activations r, z and n of the input, and of n of the state."""
    d_n = grad * (1 - z) * (1 - n * n)
    return torch.cat((d_n * h_n * r * (1 - r), grad * (own - n) * z * (1 - z), d_n, d_n * r), 1)


def gru_step(g: Tensor, h: Tensor, state: Tensor, save: bool) -> tuple[Tensor, Tensor]:
    """States behind a GRU cell from its pre-activations; its gates with ``save``."""
    r, z, n, h_n = gru_gates(g, h)
    gates = torch.cat((r, z, n, h_n), 1)
    return n + z * (state - n), gates if save else gates[:0].clone()


def gru_step_backward(grad: Tensor, gates: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of all three."""
    r, z, n, h_n = gates.chunk(4, 1)
    d_r, d_z, d_n, d_hidden = gru_gate_slopes(grad, state, r, z, n, h_n).chunk(4, 1)
    return torch.cat((d_r, d_z, d_n), 1), torch.cat((d_r, d_z, d_hidden), 1), grad * z


def memory_gru_backward(
    grad: Tensor,
    inputs: Tensor,
    gates: Tensor,
    dt: Tensor,
    time_weight: Tensor,
    time_bias: Tensor,
    weight_ih: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the inputs of r, z, n and of the hidden part of n, side by side; and of ``w`` and ``b``."""
    r, z, n, h_n = gates.chunk(4, 1)
    own = inputs[:, : grad.size(1)]
    out = gru_gate_slopes(grad, own, r, z, n, h_n)
    d_code = out[:, : weight_ih.size(0)] @ weight_ih[:, weight_ih.size(1) - time_weight.numel() :]
    return out, *time_code_backward(d_code, dt, time_weight, time_bias)


def temporal_attention(
    query: Tensor,
    x: Tensor,
    nbr: Tensor,
    dt: Tensor,
    time_weight: Tensor,
    time_bias: Tensor,
    messages: Tensor | None,
    eid: Tensor | None,
    p: float,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Mixed features of gathered events and sums of coefficients, by head; the coefficients before dropout."""
    feature = _features(x, nbr, dt, time_weight, time_bias, messages, eid)
    absent = (nbr < 0).unsqueeze(1)
    score = query.unflatten(1, (-1, feature.size(2))) @ feature.transpose(1, 2)
    alpha = score.masked_fill(absent, torch.finfo(score.dtype).min).softmax(-1).masked_fill(absent, 0)
    kept = alpha * _mask(alpha, p, seed)
    return torch.cat((kept @ feature, kept.sum(-1, keepdim=True)), 2).transpose(0, 1).contiguous(), alpha


def temporal_attention_backward(
    grad: Tensor,
    alpha: Tensor,
    query: Tensor,
    x: Tensor,
    nbr: Tensor,
    dt: Tensor,
    time_weight: Tensor,
    time_bias: Tensor,
    messages: Tensor | None,
    eid: Tensor | None,
    p: float,
    seed: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of query, x, ``w`` and ``b``."""
    feature = _features(x, nbr, dt, time_weight, time_bias, messages, eid)
    mask = _mask(alpha, p, seed)
    d_mixed, d_total = grad.transpose(0, 1).split([feature.size(2), 1], 2)
    d_alpha = (d_mixed @ feature.transpose(1, 2) + d_total) * mask
    d_score = alpha * (d_alpha - (alpha * d_alpha).sum(-1, keepdim=True))
    d_query = (d_score @ feature).flatten(1)
    there = nbr >= 0
    d_feature = (alpha * mask).transpose(1, 2) @ d_mixed + d_score.transpose(1, 2) @ query.unflatten(
        1, (-1, feature.size(2))
    )
    d_rows, d_code, _ = d_feature[there].split(
        [x.size(1), time_weight.numel(), feature.size(2) - x.size(1) - time_weight.numel()], 1
    )
    d_x = torch.zeros_like(x).index_add_(0, nbr[there], d_rows)
    return d_query, d_x, *time_code_backward(d_code, dt[there], time_weight, time_bias)


def _features(
    x: Tensor,
    nbr: Tensor,
    dt: Tensor,
    time_weight: Tensor,
    time_bias: Tensor,
    messages: Tensor | None,
    eid: Tensor | None,
) -> Tensor:
    """[n, k, F], zeros for absent events."""
    parts = [x[nbr.clamp(min=0)], time_code(dt.flatten(), time_weight, time_bias).view(*nbr.shape, time_weight.numel())]
    if messages is not None and eid is not None:
        parts.append(messages[torch.where(nbr < 0, 0, eid)])
    return torch.cat(parts, -1).masked_fill((nbr < 0).unsqueeze(2), 0)


def _mask(alpha: Tensor, p: float, seed: int) -> Tensor:
    mask: Tensor = torch.ops.graphmem.dropout(torch.ones_like(alpha), p, seed, False)
    return mask


def pair_relu_dot(h: Tensor, src: Tensor, dst: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``<weight, relu(a_src + b_dst)> + bias``, a and b the halves of h."""
    return _hidden(h, src, dst) @ weight + bias


def pair_relu_dot_backward(grad: Tensor, h: Tensor, src: Tensor, dst: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of h and weight."""
    hidden = _hidden(h, src, dst)
    slope = (grad.unsqueeze(2) * weight).masked_fill(hidden <= 0, 0)
    d_source = torch.zeros_like(h).index_add_(0, src, torch.nn.functional.pad(slope.sum(1), (0, weight.numel())))
    d_destination = torch.nn.functional.pad(slope.flatten(0, 1), (weight.numel(), 0))
    return d_source.index_add_(0, dst.flatten(), d_destination), (grad.unsqueeze(2) * hidden).sum((0, 1))


def _hidden(h: Tensor, src: Tensor, dst: Tensor) -> Tensor:
    source, destination = h.chunk(2, 1)
    return (source[src].unsqueeze(1) + destination[dst]).relu()
