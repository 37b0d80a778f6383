"""The dense operators for CUDA tensors, composed of torch's: its matrix products are those of the vendor's library."""

from __future__ import annotations

from typing import Any

import torch

from graphmem.ops._reference_products import matmul, pair_head

_Library: Any = torch.library.Library  # untyped in torch
_libraries: list[Any] = []  # a registration lives as long as its Library object

DENSE = {"matmul": matmul, "pair_head": pair_head}


def register() -> None:
    """Serve CUDA tensors by torch's operations, with and without the CUDA library."""
    library = _Library("graphmem", "FRAGMENT")
    _libraries.append(library)
    for name, function in DENSE.items():
        library.impl(name, function, "CUDA")
