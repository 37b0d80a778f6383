"""Argument checks in Python, so that a user never meets an error from C++: names the argument, found and expected."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from graphmem.errors import ArgumentError, ArgumentTypeError
from graphmem.ops import _loader

INDEX_DTYPES = (torch.int32, torch.int64)
FLOAT_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
# Sizes from here on are mistakes: so many bytes are more than a process can address.
MAX_SIZE = 2**47
# Largest node id, and place inside a row, that the operators keep in 32 bits.
MAX_INT32 = 2**31 - 1


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


def strided(name: str, value: object, *, dims: int, dtypes: Iterable[torch.dtype]) -> Tensor:
    """Check type, rank and dtype of a tensor whose strides may be any."""
    shape = (None,) * dims
    if isinstance(value, Tensor) and value.layout == torch.strided and value.dim() == dims and value.dtype in dtypes:
        return value
    return tensor(name, value, shape=shape, dtypes=dtypes)


def in_range(name: str, value: Tensor, upper: int, where: Tensor | None = None) -> None:
    """Raise unless every id (``where`` that is true) lies in [0, upper).

    Skipped on CUDA, where it would stall the stream, and while tracing.
    """
    if value.numel() == 0 or unseen(value):
        return
    value = value if where is None else value[where]
    if value.numel() == 0:
        return
    low, high = torch.aminmax(value)
    if int(low) < 0 or int(high) >= upper:
        found = int(low) if int(low) < 0 else int(high)
        raise ArgumentError(f"{name}: expected ids in [0, {upper}), found {found}")


def unseen(value: Tensor) -> bool:
    """Whether the values of a tensor are not looked at: on CUDA, while tracing, or because it has none."""
    return value.is_cuda or value.is_meta or torch.compiler.is_compiling()


def ascending(name: str, t: Tensor, latest: Tensor) -> None:
    """Raise unless times never go back, from ``latest`` on. Skipped where :func:`in_range` is."""
    if t.numel() == 0 or unseen(t):
        return
    if not bool(t[0] >= latest):
        raise ArgumentError(f"{name}: expected times from {latest.item()} on, the latest so far, got {t[0].item()}")
    if not bool((t[1:] >= t[:-1]).all()):
        raise ArgumentError(f"{name}: expected ascending times")


def ends(src: Tensor, dst: Tensor, nodes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ends of events, int64 [E] each with ids in [0, nodes)."""
    src = tensor("src", src, shape=(None,), dtypes=(torch.int64,), device=device)
    dst = tensor("dst", dst, shape=(src.numel(),), dtypes=(torch.int64,), device=device)
    for name, ids in (("src", src), ("dst", dst)):
        in_range(name, ids, nodes)
    return src, dst


def events(
    src: Tensor, dst: Tensor, t: Tensor | None, event: Tensor | None, *, nodes: int, next_event: Tensor, latest: Tensor
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Check a batch of events behind ``next_event`` and ``latest``."""
    device = next_event.device
    src, dst = ends(src, dst, nodes, device)
    n = src.numel()
    if t is not None:
        t = tensor("t", t, shape=(n,), dtypes=(latest.dtype,), device=device)
    if event is not None:
        event = tensor("event", event, shape=(n,), dtypes=(torch.int64,), device=device)
    if t is None:
        numbers = next_event + torch.arange(n, device=device) if event is None else event
        ascending("t", numbers.to(latest.dtype), latest)
    else:
        ascending("t", t, latest)
    return src, dst, t, event


def by_operator(*tensors: Tensor | None) -> bool:
    """Whether a compiled operator that looks at values itself can be called without checks.

    Checks in Python take longer than a batch of a few hundred events. Such an operator writes nothing before it has
    seen everything, and raises a ``RuntimeError``; the face then goes through its checks for an error with a name.
    """
    if not _loader.NATIVE or torch.compiler.is_compiling():
        return False
    return all(t is None or (isinstance(t, Tensor) and t.is_cpu and t.layout == torch.strided) for t in tensors)


def contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    """The tensors, or contiguous copies."""
    return [t if t is None else t.contiguous() for t in tensors]


def valued(name: str, value: Tensor) -> Tensor:
    """Raise for a tensor without values (on the device "meta") where they are needed."""
    if value.is_meta:
        raise ArgumentError(f"{name}: expected a tensor with values, got {describe(value)}")
    return value


def integer(name: str, value: object, low: int = 0, high: int = MAX_SIZE) -> None:
    """Check that a number is whole and lies in [low, high]."""
    if torch.compiler.is_compiling() or isinstance(value, torch.SymInt):
        return
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise ArgumentTypeError(f"{name}: expected a whole number, got {describe(value)}")
    if not low <= value <= high:
        wanted = f"at least {low}" if value < low else f"at most {high}"
        raise ArgumentError(f"{name}: expected {wanted}, got {value}")


def real(name: str, value: object) -> float:
    """Check that a value is a finite number."""
    if torch.compiler.is_compiling():
        return value  # type: ignore[return-value]
    if not isinstance(value, int | float | np.number) or isinstance(value, bool | np.complexfloating):
        raise ArgumentTypeError(f"{name}: expected a number, got {describe(value)}")
    if not math.isfinite(value):
        raise ArgumentError(f"{name}: expected a finite number, got {value}")
    return float(value)


def probability(name: str, value: object) -> float:
    """Check that a number lies in [0, 1)."""
    if not 0 <= real(name, value) < 1:  # type: ignore[operator]
        raise ArgumentError(f"{name}: expected a probability in [0, 1), got {value}")
    return float(value)  # type: ignore[arg-type]


def offsets(name: str, ptr: Tensor, total: int) -> None:
    """Check offsets: from 0 to ``total``, never decreasing, at least one. Their order is not looked at on CUDA."""
    if ptr.numel() == 0:
        raise ArgumentError(f"{name}: expected at least one offset, got an empty tensor")
    if unseen(ptr):
        return
    if int(ptr[0]) != 0 or int(ptr[-1]) != total:
        raise ArgumentError(f"{name}: expected offsets from 0 to {total}, got {int(ptr[0])} to {int(ptr[-1])}")
    if bool((ptr[1:] < ptr[:-1]).any()):
        raise ArgumentError(f"{name}: expected offsets that never decrease")


def narrow(name: str, index: Tensor, count: int) -> None:
    """Refuse indices of 32 bits where there are more rows or nodes than they can name."""
    if index.dtype == torch.int32 and count > MAX_INT32:
        raise ArgumentError(f"{name}: expected int64 for {count} rows, got {describe(index)}")


def rows(prefix: str, rowptr: Tensor, col: Tensor) -> None:
    """Check the rows of a graph: offsets, and columns that are nodes, ascending and unique in each row; O(nnz)."""
    narrow(f"{prefix}col", col, rowptr.numel() - 1)
    offsets(f"{prefix}rowptr", rowptr, col.numel())
    if col.numel() > MAX_INT32 and not unseen(rowptr) and int(rowptr.diff().max()) > MAX_INT32:
        raise ArgumentError(f"{prefix}rowptr: expected rows of at most {MAX_INT32} entries, found a longer one")
    in_range(f"{prefix}col", col, rowptr.numel() - 1)
    if col.numel() < 2 or torch.compiler.is_compiling() or col.is_meta:
        return
    starts_row = torch.zeros(col.numel() + 1, dtype=torch.bool, device=col.device)
    starts_row[rowptr] = True
    unsorted = (col[1:] <= col[:-1]) & ~starts_row[1:-1]
    if bool(unsorted.any()):
        slot = int(unsorted.nonzero()[0])
        raise ArgumentError(
            f"{prefix}col: expected ascending unique columns in each row, found {int(col[slot])} followed by "
            f"{int(col[slot + 1])} at slot {slot}; CSRGraph.from_edge_index sorts and merges"
        )


def pairs(name: str, value: object, graph: GraphLike, other: GraphLike) -> Tensor:
    """Check node pairs [2, B]: rows of ``graph`` above rows of ``other``."""
    checked = tensor(name, value, shape=(2, None), dtypes=(torch.int64,), device=graph.rowptr.device)
    in_range(f"{name}[0]", checked[0], graph.num_nodes)
    in_range(f"{name}[1]", checked[1], other.num_nodes)
    return checked


def graph(name: str, value: GraphLike) -> None:
    """Check the arrays of a graph against each other.

    Order inside rows and ids are checked where a ``CSRGraph`` is built; of another object's arrays, each time.
    """
    try:
        rowptr, col, keep, weight, num_nodes = value.rowptr, value.col, value.keep, value.weight, value.num_nodes
    except AttributeError as error:
        raise ArgumentTypeError(
            f"{name}: expected a CSRGraph (see graphmem.data.to_csr), got {type(value).__name__}"
        ) from error
    for field, array in (("rowptr", rowptr), ("col", col), ("keep", keep), ("weight", weight)):
        if isinstance(array, Tensor) and array.layout == torch.strided and not array.is_contiguous():
            raise ArgumentError(f"{name}.{field}: expected a contiguous tensor, got strides {array.stride()}")
    integer(f"{name}.num_nodes", num_nodes)
    tensor(f"{name}.rowptr", rowptr, shape=(num_nodes + 1,), dtypes=(torch.int64,))
    tensor(f"{name}.col", col, shape=(None,), dtypes=INDEX_DTYPES, device=rowptr.device)
    if keep is not None:
        tensor(f"{name}.keep", keep, shape=(col.numel(),), dtypes=(torch.bool,), device=rowptr.device)
    if weight is not None:
        tensor(f"{name}.weight", weight, shape=(col.numel(),), dtypes=FLOAT_DTYPES, device=rowptr.device)
    if not getattr(value, "rows_are_checked", False):
        rows(f"{name}.", rowptr, col)


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
    integer(name, value, -(2**63), 2**63 - 1)
    return value


def choice(name: str, value: str, options: Iterable[str]) -> str:
    """Check that a string is one of the options."""
    options = tuple(options)
    if value not in options:
        raise ArgumentError(f"{name}: expected one of {', '.join(map(repr, options))}, got {value!r}")
    return value


def dtype(name: str, value: object, allowed: Iterable[torch.dtype]) -> torch.dtype:
    """One of some dtypes, which may be given by its name, as "float32"."""
    names = {str(one).removeprefix("torch."): one for one in allowed}
    found = names.get(str(value).removeprefix("torch.")) if isinstance(value, str | torch.dtype) else None
    if found is None:
        raise ArgumentError(f"{name}: expected one of {', '.join(map(repr, names))}, got {value!r}")
    return found


def accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that sums run in: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32
