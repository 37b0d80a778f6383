"""How the C library's allocator gives memory back."""

from __future__ import annotations

import ctypes
import os
import sys

# Larger blocks are mapped one by one and go back to the system when they are freed. glibc starts at 128 KiB, but raises
# its threshold to the largest block that was freed, up to 32 MiB; blocks below it come from one heap, whose gaps stay
# resident. A training step frees its tensors in another order than it makes them: with tensors of 16 MiB the process
# then grew to 1.7 times of what is in use.
THRESHOLD = 4 * 2**20
_M_MMAP_THRESHOLD = -3


def return_large_blocks() -> bool:
    """Fix glibc's threshold at :data:`THRESHOLD` for this process, unless the environment has settings of its own.

    Returns:
        Whether it was set; not on systems without glibc.
    """
    if not sys.platform.startswith("linux") or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return False
    if "glibc.malloc.mmap_threshold" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, THRESHOLD))
