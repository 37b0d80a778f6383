"""The element-wise part of a GRU cell, behind its two products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphmem.ops import _check
from graphmem.ops._autograd import Operator

_DTYPES = (torch.float32, torch.float64)


def gru_step(g: Tensor, h: Tensor, state: Tensor) -> Tensor:
    r"""Compute the state behind a GRU cell from its pre-activations, in ``torch.nn.GRUCell``'s order r, z, n.

    .. math::
        r = \sigma(g_r + h_r), \quad z = \sigma(g_z + h_z), \quad n = \tanh(g_n + r \odot h_n), \quad
        s' = n + z \odot (s - n)

    Args:
        g: float32 or float64 [R, 3 d], what the cell's input gives, :math:`W_i x + b_i`.
        h: [R, 3 d], what the state gives, :math:`W_h s + b_h`. Dtype of ``g``.
        state: [R, d], s. Dtype of ``g``.

    Returns:
        [R, d]. Differentiable, once.

    Raises:
        ArgumentError: wrong shape, dtype or device.
    """
    state = _check.tensor("state", state, shape=(None, None), dtypes=_DTYPES)
    shape = (state.size(0), 3 * state.size(1))
    g = _check.tensor("g", g, shape=shape, dtypes=(state.dtype,), device=state.device)
    h = _check.tensor("h", h, shape=shape, dtypes=(state.dtype,), device=state.device)
    return gru_step_unchecked(g, h, state)


def gru_step_unchecked(g: Tensor, h: Tensor, state: Tensor) -> Tensor:
    """:func:`gru_step` for arguments made in this package, which need no second check."""
    save = torch.is_grad_enabled() and (g.requires_grad or h.requires_grad or state.requires_grad)
    out: Tensor = gru_step_operator(g.contiguous(), h.contiguous(), state.contiguous(), save)[0]
    return out


@torch.library.register_fake("graphmem::gru_step")
def _gru_step_fake(g: Tensor, h: Tensor, state: Tensor, save: bool) -> tuple[Tensor, Tensor]:
    return torch.empty_like(state), state.new_empty(state.size(0) if save else 0, 4 * state.size(1))


@torch.library.register_fake("graphmem::gru_step_backward")
def _gru_step_backward_fake(grad: Tensor, gates: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    wide = state.size(0), 3 * state.size(1)
    return state.new_empty(wide), state.new_empty(wide), torch.empty_like(state)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1], inputs[2])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 4
    return *_gru_step_backward(grad.contiguous(), *ctx.saved_tensors), None


gru_step_operator = Operator("gru_step", _backward, _setup_context)
_check.differentiable_once("graphmem::gru_step_backward")
_gru_step_backward = Operator("gru_step_backward")
