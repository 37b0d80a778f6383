"""Find and load the compiled operators; fall back to the numba reference with one warning.

The library is searched along ``graphmem.__path__`` because an editable install keeps it apart from the sources.
``GRAPHMEM_REQUIRE_NATIVE=1`` turns its absence into an error, so that a source tree never silently shadows an installed
wheel. ``GRAPHMEM_FORCE_REFERENCE=1`` leaves it out on purpose (used by the tests). ``GRAPHMEM_LIBRARY_DIR`` names a
folder to take the libraries from instead, for builds with sanitizers.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import torch

import graphmem
from graphmem.errors import NativeLibraryError

_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
_PREFIX = "" if sys.platform == "win32" else "lib"


def find_library(stem: str) -> Path | None:
    """Path of ``lib<stem>.so`` inside the installed package, or ``None``."""
    chosen = os.environ.get("GRAPHMEM_LIBRARY_DIR")
    for folder in [Path(chosen)] if chosen else [Path(root) / "lib" for root in graphmem.__path__]:
        path = folder / f"{_PREFIX}{stem}{_SUFFIX}"
        if path.is_file():
            return path
    return None


def _flag(name: str) -> bool:
    return os.environ.get(name, "").lower() in {"1", "true", "yes"}


def _load() -> tuple[str | None, str | None]:
    """Load what is there. Returns the paths of the CPU and the CUDA library that were loaded."""
    if _flag("GRAPHMEM_FORCE_REFERENCE"):
        return None, None
    cpu = find_library("graphmem")
    if cpu is None:
        message = (
            f"no compiled operators found along {list(graphmem.__path__)} "
            f"(expected lib/{_PREFIX}graphmem{_SUFFIX}); reinstall with `pip install .` and a C++ compiler"
        )
        if _flag("GRAPHMEM_REQUIRE_NATIVE"):
            raise NativeLibraryError(f"GRAPHMEM_REQUIRE_NATIVE is set but {message}")
        warnings.warn(f"{message}. Falling back to the slower numba reference.", RuntimeWarning, stacklevel=2)
        return None, None
    try:
        torch.ops.load_library(str(cpu))
    except OSError as error:
        raise NativeLibraryError(
            f"{cpu} could not be loaded under torch {torch.__version__} (built for torch >= 2.10): {error}"
        ) from error
    cuda = find_library("graphmem_cuda") if torch.version.cuda else None
    if cuda is not None:
        try:
            torch.ops.load_library(str(cuda))
        except OSError as error:
            warnings.warn(
                f"{cuda} could not be loaded under torch {torch.__version__} with CUDA {torch.version.cuda}: {error}. "
                "CUDA tensors go through the CPU operators.",
                RuntimeWarning,
                stacklevel=2,
            )
            cuda = None
    return str(cpu), str(cuda) if cuda is not None else None


CPU_LIBRARY, CUDA_LIBRARY = _load()
NATIVE = CPU_LIBRARY is not None
