"""Argument checks in Python, so that a user never meets an error from C++: names the argument, found and expected."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

from graphmem.errors import ArgumentError, ArgumentTypeError

INDEX_DTYPES = (torch.int32, torch.int64)
FLOAT_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class GraphLike(Protocol):
    """What an operator reads of a graph; :class:`graphmem.data.CSRGraph` is the usual one."""

    @property
    def rowptr(self) -> Tensor:
        """int64 [num_nodes + 1]."""

    @property
    def col(self) -> Tensor:
        """int32 or int64 [nnz], ascending and unique inside each row."""

    @property
    def keep(self) -> Tensor | None:
        """bool [nnz]; a slot with ``False`` is absent."""

    @property
    def weight(self) -> Tensor | None:
        """Floating point [nnz]."""

    @property
    def num_nodes(self) -> int:
        """Number of rows."""


def describe(value: object) -> str:
    """One-line description of what was found, for error messages."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)} on {value.device}"
    return f"{type(value).__name__} {value!r}"


def tensor(
    name: str,
    value: object,
    *,
    shape: tuple[int | None, ...],
    dtypes: Iterable[torch.dtype],
    device: torch.device | None = None,
) -> Tensor:
    """Check type, rank, sizes, dtype and device; return the tensor, contiguous."""
    if not isinstance(value, Tensor):
        raise ArgumentTypeError(f"{name}: expected a tensor, got {describe(value)}")
    dtypes = tuple(dtypes)
    sizes_match = len(shape) == value.dim() and all(
        want is None or want == got for want, got in zip(shape, value.shape, strict=True)
    )
    if not sizes_match or value.dtype not in dtypes:
        wanted = "[" + ", ".join("*" if size is None else str(size) for size in shape) + "]"
        names = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise ArgumentError(f"{name}: expected {names} of shape {wanted}, got {describe(value)}")
    if value.layout != torch.strided:
        raise ArgumentError(f"{name}: expected a dense tensor, got layout {value.layout}")
    if device is not None and value.device != device:
        raise ArgumentError(f"{name}: expected a tensor on {device}, got {describe(value)}")
    return value.contiguous()


def in_range(name: str, value: Tensor, upper: int) -> None:
    """Raise unless every id lies in [0, upper). Skipped on CUDA, where it would stall the stream, and while tracing."""
    if value.numel() == 0 or value.is_cuda or torch.compiler.is_compiling():
        return
    low, high = torch.aminmax(value)
    if int(low) < 0 or int(high) >= upper:
        found = int(low) if int(low) < 0 else int(high)
        raise ArgumentError(f"{name}: expected ids in [0, {upper}), found {found}")


def pairs(name: str, value: object, graph: GraphLike, other: GraphLike) -> Tensor:
    """Check node pairs [2, B]: rows of ``graph`` above rows of ``other``."""
    checked = tensor(name, value, shape=(2, None), dtypes=(torch.int64,), device=graph.rowptr.device)
    in_range(f"{name}[0]", checked[0], graph.num_nodes)
    in_range(f"{name}[1]", checked[1], other.num_nodes)
    return checked


def graph(name: str, value: GraphLike) -> None:
    """Check the arrays of a graph against each other. Order inside rows is checked where the graph is built."""
    try:
        rowptr, col, keep = value.rowptr, value.col, value.keep
    except AttributeError as error:
        raise ArgumentTypeError(
            f"{name}: expected a CSRGraph (see graphmem.data.to_csr), got {type(value).__name__}"
        ) from error
    for field, array in (("rowptr", rowptr), ("col", col), ("keep", keep), ("weight", value.weight)):
        if isinstance(array, Tensor) and not array.is_contiguous():
            raise ArgumentError(f"{name}.{field}: expected a contiguous tensor, got strides {array.stride()}")
    tensor(f"{name}.rowptr", rowptr, shape=(value.num_nodes + 1,), dtypes=(torch.int64,))
    tensor(f"{name}.col", col, shape=(None,), dtypes=INDEX_DTYPES, device=rowptr.device)
    if keep is not None:
        tensor(f"{name}.keep", keep, shape=(col.numel(),), dtypes=(torch.bool,), device=rowptr.device)
    if value.weight is not None:
        tensor(f"{name}.weight", value.weight, shape=(col.numel(),), dtypes=FLOAT_DTYPES, device=rowptr.device)


def differentiable_once(name: str) -> None:
    """Make the gradient of a gradient operator raise, where PyTorch would warn and return zeros."""

    def backward(ctx: object, *grads: Tensor) -> None:
        raise RuntimeError(f"{name} has no gradient: the operators of graphmem are differentiable once")

    torch.library.register_autograd(name, backward)


def two_graphs(first: GraphLike, second: GraphLike | None) -> GraphLike:
    """Check the graphs of a pair operator; the second one defaults to the first."""
    graph("graph", first)
    if second is None or second is first:
        return first
    graph("g2", second)
    if second.col.dtype != first.col.dtype:
        raise ArgumentError(f"g2.col: expected {first.col.dtype} as in graph, got {second.col.dtype}")
    if second.rowptr.device != first.rowptr.device:
        raise ArgumentError(f"g2: expected a graph on {first.rowptr.device}, got {second.rowptr.device}")
    return second


def seed(name: str, value: int) -> int:
    """Check that a number fits the signed 64 bits that an operator takes."""
    if not -(2**63) <= value < 2**63:
        raise ArgumentError(f"{name}: expected a signed 64-bit integer, got {value}")
    return value


def choice(name: str, value: str, options: Iterable[str]) -> str:
    """Check that a string is one of the options."""
    options = tuple(options)
    if value not in options:
        raise ArgumentError(f"{name}: expected one of {', '.join(map(repr, options))}, got {value!r}")
    return value


def accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that sums run in: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32
