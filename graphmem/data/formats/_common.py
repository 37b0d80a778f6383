"""Shared steps of the readers: canonical edges and canonical sparse features."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from graphmem.errors import DatasetIntegrityError

Array = npt.NDArray[Any]


def undirected_edges(row: Array, col: Array, num_nodes: int) -> Tensor:
    """Edges as int64 [2, E], each undirected edge once with `i < j`, sorted; self-loops and repeats left out.

    Raises:
        DatasetIntegrityError: a node id lies outside `[0, num_nodes)`.
    """
    row, col = np.asarray(row, dtype=np.int64), np.asarray(col, dtype=np.int64)
    if row.size and not (0 <= min(row.min(), col.min()) and max(row.max(), col.max()) < num_nodes):
        low, high = min(row.min(), col.min()), max(row.max(), col.max())
        raise DatasetIntegrityError(f"edges: node ids must be in [0, {num_nodes}), found {low}..{high}")
    low, high = np.minimum(row, col), np.maximum(row, col)
    keys = np.unique((low * num_nodes + high)[low != high])
    return torch.from_numpy(np.stack([keys // num_nodes, keys % num_nodes]))


def sparse_features(row: Array, col: Array, value: Array, shape: tuple[int, int]) -> Tensor:
    """Sparse CSR float32 tensor from triplets: columns ascending, repeats summed, zeros left out."""
    row, col = np.asarray(row, dtype=np.int64), np.asarray(col, dtype=np.int64)
    keys, place = np.unique(row * shape[1] + col, return_inverse=True)
    total = np.bincount(place.ravel(), weights=np.asarray(value, dtype=np.float64), minlength=keys.size)
    keys, total = keys[total != 0], total[total != 0]
    counts = np.bincount(keys // shape[1], minlength=shape[0])
    crow = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return csr_tensor(crow, keys % shape[1], total, shape)


def csr_tensor(crow: Array, col: Array, value: Array, shape: tuple[int, int]) -> Tensor:
    """`torch.sparse_csr_tensor` of float32 values without torch's notice that CSR is in beta."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Sparse CSR tensor support.*")
        return torch.sparse_csr_tensor(
            torch.from_numpy(np.asarray(crow, dtype=np.int64)),
            torch.from_numpy(np.asarray(col, dtype=np.int64)),
            torch.from_numpy(np.asarray(value, dtype=np.float32)),
            size=shape,
            check_invariants=True,
        )


def csr_rows(indptr: Array) -> Array:
    """Row of each stored entry of a CSR matrix."""
    return np.repeat(np.arange(indptr.size - 1), np.diff(indptr))


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises on a damaged or foreign file into a `DatasetIntegrityError` that names it."""
    try:
        yield
    except (DatasetIntegrityError, ImportError, MemoryError):
        raise
    except Exception as error:
        raise DatasetIntegrityError(
            f"{path}: cannot be read as what its name says ({type(error).__name__}: {error}). "
            "The file is damaged or comes from another data set; replace it with the publisher's file."
        ) from error
