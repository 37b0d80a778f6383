"""NAT in training in torch's operations: the specification of the compiled operators, which serves CUDA, too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from graphmem.ops._reference_nat import Parts, read_nodes, since_last_events
from graphmem.ops._reference_ncache import ncache_pool

Scored = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def nat_train(
    key: Tensor,
    eid: Tensor,
    time: Tensor,
    value: Tensor,
    state: Tensor,
    other: Tensor,
    gap: Tensor,
    messages: Tensor | None,
    known: Tensor | None,
    sizes: list[int],
    reference_hash: bool,
    seed: int,
    delta: bool,
    nodes: Tensor,
    place: Tensor,
    t: Tensor,
    layers: list[Tensor],
    heads: int,
    p: float,
    dropout_seed: int,
) -> Scored:
    """Logits of candidates, states and values of the nodes; the gradient below reads nothing of the rest: zeros."""
    parts = _parts(layers, heads)
    stored = key, eid, time, value, state, other, gap
    own, now = read_nodes(stored, messages, known, parts, nodes, delta)
    count = t.numel()
    each = place.numel() // count - 1 if count else 0
    first, second, when = place[:count].repeat_interleave(each), place[count:], t.repeat_interleave(each)
    mixed = ncache_pool(
        *(key, eid, time, nodes, now, sizes, reference_hash, seed, first, second, when if delta else None),
        *(parts["position"], parts.get("query"), parts.get("constant")),
    )
    projected = mixed @ parts["projection"].transpose(1, 2) + parts["offset"].unsqueeze(1)
    pooled = projected.transpose(0, 1).flatten(1)
    if p:
        kept = torch.ops.graphmem.dropout(torch.ones_like(pooled), p, dropout_seed, False)
        pooled = torch.where(kept > 0, pooled * kept, 0)  # what is dropped is 0 even where it was NaN
    read = [pooled, own[first], own[second]]
    if delta:
        ends = nodes[torch.stack((first, second), 1)]
        read.append(since_last_events(eid, time, ends, when).to(pooled.dtype))
    hidden = torch.addmm(parts["hidden_bias"], torch.cat(read, 1), parts["hidden"].t()).relu()
    scores = (hidden @ parts["out"].t() + parts["out_bias"]).view(-1)
    d, rows, pairs = state.size(1), nodes.numel(), second.numel()
    inputs, gates = state.new_zeros(rows, d + parts["cell_ih"].size(0)), state.new_zeros(rows, 4 * d)
    units, width = parts["hidden"].shape
    of_pairs = state.new_zeros(pairs, mixed.size(0), mixed.size(2)), state.new_zeros(pairs, width)
    return scores, own, now, inputs, gates, *of_pairs, state.new_zeros(pairs, units)


def nat_train_backward(
    grad: Tensor,
    now: Tensor,
    inputs: Tensor,
    gates: Tensor,
    mixed: Tensor,
    read: Tensor,
    hidden: Tensor,
    key: Tensor,
    eid: Tensor,
    time: Tensor,
    value: Tensor,
    state: Tensor,
    other: Tensor,
    gap: Tensor,
    messages: Tensor | None,
    known: Tensor | None,
    sizes: list[int],
    reference_hash: bool,
    seed: int,
    delta: bool,
    nodes: Tensor,
    place: Tensor,
    t: Tensor,
    layers: list[Tensor],
    heads: int,
    p: float,
    dropout_seed: int,
) -> list[Tensor]:
    """Gradients of the layers, by torch's own differentiation, which an operator's kernel has to ask for."""
    functionality = torch._C.DispatchKey.AutogradFunctionality
    with torch.inference_mode(False):  # whose tensors no graph may hold
        stored: Any = tree_map(_plain, (key, eid, time, value, state, other, gap, messages, known))
        asked: Any
        asked, layers, grad = tree_map(_plain, ((nodes, place, t), layers, grad))
    with torch.inference_mode(False), torch._C._SetExcludeDispatchKeyGuard(functionality, False), torch.enable_grad():  # type: ignore[attr-defined]
        leaves = [layer.detach().requires_grad_() for layer in layers]
        arguments: Any = (*stored, sizes, reference_hash, seed, delta, *asked, leaves, heads, p, dropout_seed)
        scores = nat_train(*arguments)[0]
        found = torch.autograd.grad(scores, leaves, grad, allow_unused=True)
    return [torch.zeros_like(x) if dx is None else dx for x, dx in zip(layers, found, strict=True)]


def _plain(x: Tensor | None) -> Tensor | None:
    return x.clone() if x is not None and x.is_inference() else x


def _parts(layers: list[Tensor], heads: int) -> Parts:
    """Layers by the names that the reading of nodes gives them, and those of pooling and decoder."""
    time_weight, time_bias, lin_state, lin_value, *cells = layers[:12]
    position, pool, pool_bias, hidden, hidden_bias, out, out_bias, *attn = layers[12:]
    names = "cell_ih", "cell_hh", "bias_ih", "bias_hh", "value_ih", "value_hh", "value_bias_ih", "value_bias_hh"
    parts = dict(zip(names, cells, strict=True))
    d, times = cells[1].size(1), time_bias.numel()
    parts |= {"cell_ih": (parts["cell_ih"] @ lin_state).t(), "cell_hh": parts["cell_hh"].t()}
    parts |= {"time_weight": time_weight, "time_bias": time_bias, "position": position}
    message = lin_value.size(1) - times
    parts |= {"value_state": lin_value[:, :d].t(), "value_message": lin_value[:, d:message].t()}
    parts |= {"value_time": lin_value[:, message:]}
    projection, offset = pool.unflatten(0, (heads, -1)), pool_bias.view(heads, -1)
    if attn:
        query = (attn[0].unsqueeze(1) @ projection).squeeze(1)
        parts |= {"query": query, "constant": (attn[0] * offset).sum(1)}
    else:
        projection, offset = projection.mean(0, keepdim=True), offset.mean(0, keepdim=True)
    parts |= {"projection": projection, "offset": offset, "hidden": hidden, "hidden_bias": hidden_bias}
    return parts | {"out": out, "out_bias": out_bias}
