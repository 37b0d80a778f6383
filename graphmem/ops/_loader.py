"""Find and load the compiled operators; fall back to the numba reference with one warning.

The library is searched along ``graphmem.__path__`` because an editable install keeps it apart from the sources.
``GRAPHMEM_REQUIRE_NATIVE=1`` turns its absence into an error, so that a source tree never silently shadows an installed
wheel. ``GRAPHMEM_FORCE_REFERENCE=1`` leaves it out on purpose (used by the tests). ``GRAPHMEM_LIBRARY_DIR`` names a
folder to take the libraries from instead, for builds with sanitizers.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

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
    return str(cpu), _load_cuda() if torch.version.cuda else None


def cuda_build() -> dict[str, Any] | None:
    """What the CUDA library was built with: ``toolkit`` (a version) and ``code`` (architectures), if there is one."""
    library = find_library("graphmem_cuda")
    if library is None:
        return None
    try:
        facts: dict[str, Any] = json.loads((library.parent / "graphmem_cuda.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"toolkit": "unknown", "code": []}
    return facts


def cuda_problem(toolkit: str, driver: int) -> str | None:
    """Why a library built with this toolkit cannot work with a driver for CUDA ``driver`` (13000 for 13.0); 0: none.

    A toolkit needs a driver of its own major version or a newer one. Without a driver there are no CUDA tensors, and
    nothing that could go wrong.
    """
    major = toolkit.partition(".")[0]
    if driver == 0 or not major.isdecimal() or driver // 1000 >= int(major):
        return None
    return f"it was built with CUDA {toolkit}, but the driver supports CUDA {driver // 1000}.{driver % 1000 // 10}"


def _load_cuda() -> str | None:
    """Load the CUDA library, or warn; called where torch has CUDA."""
    library = find_library("graphmem_cuda")
    if library is None:
        return None
    problem = cuda_problem((cuda_build() or {}).get("toolkit", ""), _driver_version())
    if problem is None:
        try:
            torch.ops.load_library(str(library))
        except OSError as error:
            problem = f"it does not load under torch {torch.__version__} with CUDA {torch.version.cuda}: {error}"
    if problem is None:
        return str(library)
    warnings.warn(
        f"the CUDA operators ({library}) are left out: {problem}. CUDA tensors go through the CPU operators.",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


def _driver_version() -> int:
    ask = getattr(torch._C, "_cuda_getDriverVersion", None)  # absent from a torch without CUDA
    return 0 if ask is None else int(ask())


def cuda_absence() -> str | None:
    """Why the CUDA operators are not loaded, in words; None where they are."""
    if CUDA_LIBRARY is not None:
        return None
    build = cuda_build()
    if build is None:
        return "built without them"
    if not NATIVE:
        return "left out with the CPU operators"
    if not torch.version.cuda:
        return f"torch {torch.__version__} has no CUDA"
    return cuda_problem(build["toolkit"], _driver_version()) or "they do not load, see the warning"


CPU_LIBRARY, CUDA_LIBRARY = _load()
NATIVE = CPU_LIBRARY is not None
