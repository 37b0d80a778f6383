"""Operators that are composed of torch's for CUDA tensors: its matrix products are those of the vendor's library."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from graphmem.ops import (
    _reference_events,
    _reference_nat,
    _reference_nat_train,
    _reference_pres,
    _reference_products,
    _reference_temporal,
)

_Library: Any = torch.library.Library  # untyped in torch
_libraries: list[Any] = []  # a registration lives as long as its Library object

DENSE: dict[str, Callable[..., Any]] = {
    "coherence": _reference_pres.coherence,
    "coherence_backward": _reference_pres.coherence_backward,
    "distinct": _reference_temporal.distinct,
    "gru_step": _reference_temporal.gru_step,
    "gru_step_backward": _reference_temporal.gru_step_backward,
    "head_matmul": _reference_products.head_matmul,
    "matmul": _reference_products.matmul,
    "memory_gru": _reference_temporal.memory_gru,
    "memory_gru_backward": _reference_temporal.memory_gru_backward,
    "nat_enter": _reference_nat.nat_enter,
    "nat_score": _reference_nat.nat_score,
    "nat_train": _reference_nat_train.nat_train,
    "nat_train_backward": _reference_nat_train.nat_train_backward,
    "nat_update": _reference_nat.nat_update,
    "pair_head": _reference_products.pair_head,
    "pair_relu_dot": _reference_temporal.pair_relu_dot,
    "pair_relu_dot_backward": _reference_temporal.pair_relu_dot_backward,
    "pending_events": _reference_temporal.pending_events,
    "pres_correct": _reference_pres.pres_correct,
    "pres_correct_backward": _reference_pres.pres_correct_backward,
    "pres_observe": _reference_pres.pres_observe,
    "ring_graph": _reference_events.ring_graph,
    "temporal_attention": _reference_temporal.temporal_attention,
    "temporal_attention_backward": _reference_temporal.temporal_attention_backward,
    "time_code": _reference_temporal.time_code,
    "time_code_backward": _reference_temporal.time_code_backward,
}


def without_autocast(function: Callable[..., Any]) -> Callable[..., Any]:
    """An operator computes in the dtypes of its arguments, also where it is composed of torch's operations."""

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        with torch._C._DisableAutocast():
            return function(*arguments)

    return run


def register() -> None:
    """Serve CUDA tensors by torch's operations, with and without the CUDA library."""
    library = _Library("graphmem", "FRAGMENT")
    _libraries.append(library)
    for name, function in DENSE.items():
        library.impl(name, without_autocast(function), "CUDA")
