"""Rows of a node memory corrected by running rates, and their coherence: what PRES computes a batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from graphmem.ops import _check
from graphmem.ops._autograd import Operator


class Rates(NamedTuple):
    """Moments of the rates of S rows, for each of C kinds of events."""

    n: Tensor
    """[S, C], weights of the observations."""
    mean: Tensor
    """[S, C, d]."""
    m2: Tensor | None
    """[S, C, d], sums of squared deviations, where they are kept."""
    slot: Tensor | None
    """int64 [N], the row of each node, negative where there is none; ``None``: its number."""


class Clock(NamedTuple):
    """What an update of a node spans: ``max(min(dt, longest) / tau, eps)``."""

    dt: Tensor
    """float64 [M]."""
    tau: Tensor
    """float64 [], the unit."""
    longest: Tensor
    """float64 []."""
    eps: float


def pres_correct(
    rates: Rates,
    nodes: Tensor,
    prev: Tensor,
    measured: Tensor,
    weight: Tensor,
    *,
    clock: Clock | None,
    count: Tensor | None,
    kinds: Tensor | None = None,
    affected: Tensor | None = None,
    bound: tuple[Tensor, float] | None = None,
    min_count: float = 1,
    kalman: bool = False,
    by_node: bool = False,
) -> tuple[Tensor, Tensor]:
    r"""Mix measured rows with rows predicted by their rates: :math:`(1 - \alpha) (s + D\,\mathrm{E}[x]) + \alpha s'`.

    The rate is that of the mixture of kinds with at least ``min_count`` observations, in proportion to ``kinds``, or
    where that leaves none, to their observations; 0 where no kind has so many. Arguments are not checked.

    Args:
        rates: of all nodes.
        nodes: int64 [M].
        prev: s [M, d], dtype of the rates, as all that follows.
        measured: s' [M, d].
        weight: :math:`\alpha`, [1, 1] or [1, d]; or with ``kalman`` :math:`R_0` [1, 1] of
            :math:`\alpha = P / (P + R_0 q)`, where P is the variance of the prediction.
        clock: of D; ``None``: D = q.
        count: q, int64 [M]; ``None``: ones.
        kinds: [M, C].
        affected: bool [M], other rows are those measured, and so are unknown ones. ``None``: all are mixed.
        bound: a mean square, and how many of its roots :math:`D\,\mathrm{E}[x]` may be off zero.
        min_count: see above.
        kalman: see ``weight``.
        by_node: ``prev``, ``count`` and ``affected`` are tables with a row for each of all nodes.

    Returns:
        [M, d], differentiable, once, with respect to ``measured`` and ``weight``; and which rows are mixed, bool [M].
    """
    dt, tau, longest, eps = (None, None, None, 0.0) if clock is None else clock
    scale, max_shift = (None, 0.0) if bound is None else bound
    moments = rates.n, rates.mean, rates.m2 if kalman else None
    spans = dt, tau, longest, count, scale
    some = prev.contiguous(), nodes, affected, rates.slot
    kinds = None if kinds is None else kinds.contiguous()
    save = torch.is_grad_enabled() and (measured.requires_grad or weight.requires_grad)
    limits = eps, max_shift, float(min_count), kalman, by_node, save
    out, _, _, hit = _pres_correct(measured.contiguous(), *some, *moments, kinds, *spans, weight, *limits)
    return out, hit


@torch.library.register_fake("graphmem::pres_correct")
def _pres_correct_fake(measured: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    kalman, _, save = arguments[-3:]
    rows, d = measured.shape
    guess, gates = (measured.new_empty(rows if there else 0, d) for there in (save, kalman))
    return torch.empty_like(measured), guess, gates, measured.new_empty(rows, dtype=torch.bool)


@torch.library.register_fake("graphmem::pres_correct_backward")
def _pres_correct_backward_fake(
    grad: Tensor, measured: Tensor, guess: Tensor, alpha: Tensor, hit: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(measured), torch.empty_like(weight)


def _setup_correct(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(inputs[0], *output[1:], inputs[14])
    ctx.set_materialize_grads(False)


def _correct_backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 21
    measured, weight = _pres_correct_backward(grad.contiguous(), *ctx.saved_tensors)
    return measured, *(None,) * 13, weight, *(None,) * 6


_pres_correct = Operator("pres_correct", _correct_backward, _setup_correct)
_check.differentiable_once("graphmem::pres_correct_backward")
_pres_correct_backward = Operator("pres_correct_backward")


def pres_observe(
    rates: Rates,
    nodes: Tensor,
    x: Tensor,
    *,
    prev: Tensor | None = None,
    clock: Clock | None = None,
    weights: Tensor | None = None,
    capacity: int,
    decay: float,
    scale: Tensor | None = None,
    scale_rate: float = 0.0,
) -> Tensor:
    r"""Take in how fast rows of distinct nodes moved. Writes the rates in place; arguments are not checked.

    With weights w of the kinds, :math:`n \leftarrow \rho n + w`, :math:`\bar x' = \bar x + \tfrac{w}{n} (x - \bar x)`
    and :math:`S \leftarrow \rho S + w (x - \bar x)(x - \bar x')` (Welford 1962, with weights).

    Args:
        rates: of all nodes.
        nodes: int64 [M].
        x: [M, d]: rates, or with ``prev`` the states that rows moved to.
        prev: [M, d].
        clock: of the time that this took; ``None``: one unit.
        weights: of the kinds [M, C]; ``None``: ones.
        capacity: rows of the rates from here on belong to no node.
        decay: :math:`\rho`.
        scale: [], running mean square of ``x``, written in place, in steps of ``scale_rate``.
        scale_rate: see above.

    Returns:
        Rates [M, d].
    """
    dt, tau, longest, eps = (None, None, None, 0.0) if clock is None else clock
    n, mean, m2, slot = rates
    m2 = mean.new_empty(0, *mean.shape[1:]) if m2 is None else m2
    state = n, mean, m2, mean.new_empty(0) if scale is None else scale.view(1)
    prev, weights = (None if part is None else part.contiguous() for part in (prev, weights))
    some = x.contiguous(), prev, nodes, slot, capacity, weights
    out: Tensor = _pres_observe(*state, *some, dt, tau, longest, eps, decay, scale_rate)
    return out


@torch.library.register_fake("graphmem::pres_observe")
def _pres_observe_fake(n: Tensor, mean: Tensor, m2: Tensor, scale: Tensor, x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


_pres_observe = Operator("pres_observe")


def coherence(x: Tensor, row: Tensor, prev: Tensor) -> Tensor:
    r"""Compute :math:`\overline{1 - \cos(x_{row}, prev)}` over rows that are not zero in ``prev``; 0 without any.

    Args:
        x: float32 or float64 [R, d].
        row: int64 [n].
        prev: [n, d], dtype of ``x``.

    Returns:
        A scalar. Differentiable, once, with respect to ``x``.
    """
    out: Tensor = _coherence(x.contiguous(), row, prev.contiguous())[0]
    return out


@torch.library.register_fake("graphmem::coherence")
def _coherence_fake(x: Tensor, row: Tensor, prev: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(()), x.new_empty(row.size(0), 3)


@torch.library.register_fake("graphmem::coherence_backward")
def _coherence_backward_fake(grad: Tensor, x: Tensor, row: Tensor, prev: Tensor, saved: Tensor) -> Tensor:
    return torch.empty_like(x)


def _setup_coherence(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs, output[1])
    ctx.set_materialize_grads(False)


def _coherence_gradient(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    return (None if grad is None else _coherence_backward(grad.contiguous(), *ctx.saved_tensors)), None, None


_coherence = Operator("coherence", _coherence_gradient, _setup_coherence)
_check.differentiable_once("graphmem::coherence_backward")
_coherence_backward = Operator("coherence_backward")

__all__ = ["Clock", "Rates", "coherence", "pres_correct", "pres_observe"]
