"""What the operators of PRES compute, in torch's operations."""

from __future__ import annotations

import torch
from torch import Tensor


def _span(dt: Tensor | None, tau: Tensor | None, longest: Tensor | None, eps: float, events: Tensor) -> Tensor:
    """[M, 1] in the dtype of ``events`` [M]: time in units of tau, or where there are no times, the events."""
    if dt is None:
        return events.unsqueeze(1)
    assert tau is not None
    assert longest is not None
    return (torch.minimum(dt, longest) / tau).clamp(min=eps).to(events.dtype).unsqueeze(1)


def _moments(
    n: Tensor, mean: Tensor, m2: Tensor | None, kinds: Tensor | None, min_count: float
) -> tuple[Tensor, Tensor | None]:
    """Mean and variance [M, d] of mixtures of kinds, of rows ``n`` [M, C], ``mean`` and ``m2`` [M, C, d]."""
    enough = n * (n >= min_count)
    pi = enough if kinds is None else kinds * (n >= min_count)
    pi = torch.where(pi.any(1, keepdim=True), pi, enough)
    pi = (pi / pi.sum(1, keepdim=True).clamp(min=torch.finfo(n.dtype).tiny)).unsqueeze(2)
    rate = (pi * mean).sum(1)
    if m2 is None:
        return rate, None
    return rate, (pi * (m2 / n.clamp(min=1).unsqueeze(2) + (mean - rate.unsqueeze(1)).square())).sum(1)


def pres_correct(
    measured: Tensor,
    prev: Tensor,
    nodes: Tensor,
    affected: Tensor | None,
    slot: Tensor | None,
    n: Tensor,
    mean: Tensor,
    m2: Tensor | None,
    kinds: Tensor | None,
    dt: Tensor | None,
    tau: Tensor | None,
    longest: Tensor | None,
    count: Tensor | None,
    scale: Tensor | None,
    weight: Tensor,
    eps: float,
    max_shift: float,
    min_count: float,
    kalman: bool,
    by_node: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows mixed from measurements and predictions; predictions, Kalman gates, and which rows are mixed."""
    if by_node:
        prev = prev.index_select(0, nodes)
        affected, count = (x if x is None else x.index_select(0, nodes) for x in (affected, count))
    at = nodes if slot is None else slot.index_select(0, nodes)
    tracked = at >= 0
    at = at.clamp(min=0)
    rows = n.index_select(0, at) * tracked.unsqueeze(1)
    known = rows.amax(1) >= min_count
    hit = torch.ones_like(known) if affected is None else affected & known
    events = measured.new_ones(nodes.numel()) if count is None else count.to(measured.dtype)
    deviations = m2.index_select(0, at) if kalman and m2 is not None else None
    rate, variance = _moments(rows, mean.index_select(0, at), deviations, kinds, min_count)
    span = _span(dt, tau, longest, eps, events)
    shift = span * rate
    if scale is not None:
        bound = max_shift * scale.sqrt()
        shift = shift.clamp(-bound, bound)
    guess = torch.where(hit.unsqueeze(1), prev + shift, measured)
    alpha, gate = measured[:0].clone(), weight
    if variance is not None:
        p = span.square() * variance
        gate = p / (p + (weight * events.unsqueeze(1)).clamp(min=torch.finfo(p.dtype).tiny))
        alpha = gate = gate * hit.unsqueeze(1)
    return (
        torch.where(hit.unsqueeze(1), torch.lerp(guess, measured, gate), measured),
        guess if save else guess[:0].clone(),
        alpha,
        hit,
    )


def pres_correct_backward(
    grad: Tensor, measured: Tensor, guess: Tensor, alpha: Tensor, hit: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the measurements and of the weight."""
    kalman = alpha.size(0) > 0
    slope = grad * (measured - guess) * hit.unsqueeze(1)
    if kalman:  # alpha = p / (p + R0 q)
        slope = slope * (-alpha * (1 - alpha) / weight)
    total = slope.sum(0, keepdim=True)
    return torch.where(hit.unsqueeze(1), grad * (alpha if kalman else weight), grad), total.sum_to_size(weight.shape)


def pres_observe(
    n: Tensor,
    mean: Tensor,
    m2: Tensor,
    scale: Tensor,
    x: Tensor,
    prev: Tensor | None,
    nodes: Tensor,
    slot: Tensor | None,
    capacity: int,
    weights: Tensor | None,
    dt: Tensor | None,
    tau: Tensor | None,
    longest: Tensor | None,
    eps: float,
    decay: float,
    scale_rate: float,
) -> Tensor:
    """Take in observations of distinct nodes; returns how fast their rows moved."""
    moved = x.clone() if prev is None else (x - prev) / _span(dt, tau, longest, eps, x.new_ones(nodes.numel()))
    if scale.numel() and nodes.numel():
        square = x.square().mean(1).sum() / nodes.numel()
        scale.copy_(torch.where(scale > 0, torch.lerp(scale, square, scale_rate), square))
    at = nodes if slot is None else slot.index_select(0, nodes)
    rows = ((at >= 0) & (at < capacity)).nonzero().view(-1)
    at, rate = at.index_select(0, rows), moved.index_select(0, rows).unsqueeze(1)
    weight = (n.new_ones(()) if weights is None else weights.index_select(0, rows)).expand(rows.numel(), n.size(1))
    before, count = mean.index_select(0, at), decay * n.index_select(0, at) + weight
    gap = rate - before
    now = torch.addcmul(before, (weight / count.clamp(min=torch.finfo(n.dtype).tiny)).unsqueeze(2), gap)
    if m2.size(0):
        m2.index_copy_(0, at, decay * m2.index_select(0, at) + weight.unsqueeze(2) * gap * (rate - now))
    n.index_copy_(0, at, count)
    mean.index_copy_(0, at, now)
    return moved


def coherence(x: Tensor, row: Tensor, prev: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of 1 - cosine over rows that are not zero in ``prev``; of each its cosine and two inverse norms."""
    now, tiny = x.index_select(0, row), torch.finfo(x.dtype).tiny
    square, length = now.square().sum(1), prev.square().sum(1)
    norms = (square.clamp(min=tiny) * length).sqrt()
    there = length != 0
    inverse = torch.where(there, 1 / norms, 0)
    cosine = (now * prev).sum(1) * inverse
    saved = torch.stack((cosine, inverse, torch.where(square > tiny, 1 / square, 0)), 1)
    return ((1 - cosine) * there).sum() / there.sum().clamp(min=1), saved


def coherence_backward(grad: Tensor, x: Tensor, row: Tensor, prev: Tensor, saved: Tensor) -> Tensor:
    """Gradient of ``x``."""
    cosine, inverse, square = saved.unsqueeze(2).unbind(1)
    each = grad / (saved[:, 1] != 0).sum().clamp(min=1)
    slope = each * (cosine * square * x.index_select(0, row) - inverse * prev) * (inverse != 0)
    return torch.zeros_like(x).index_add_(0, row, slope)
