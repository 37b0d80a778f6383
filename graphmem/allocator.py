"""How memory comes from the system and goes back to it. Imports nothing, so that it can be called before torch is."""

from __future__ import annotations

import ctypes
import os
import sys

# Larger blocks are mapped one by one and go back to the system when they are freed. glibc starts at 128 KiB, but raises
# its threshold to the largest block that was freed, up to 32 MiB; blocks below it come from one heap, whose gaps stay
# resident. A training step frees its tensors in another order than it makes them: with tensors of 16 MiB the process
# then grew to 1.7 times of what is in use.
THRESHOLD = 4 * 2**20
# Huge pages of x86-64, and of ARM with pages of 4 KiB.
PAGE = 2 * 2**20
_M_MMAP_THRESHOLD = -3


def prepare_allocator() -> bool:
    """Let large tensors go back to the system when they are freed, and come from it in pages of 2 MiB.

    Freed blocks of :data:`THRESHOLD` and above leave the process; a block that was mapped anew costs a page fault for
    every 4 KiB when it is first written, which took a third of the time of a training step, so torch is told to ask for
    huge pages (``THP_MEM_ALLOC_ENABLE``; Linux grants them where ``/sys/kernel/mm/transparent_hugepage/enabled`` says
    ``madvise`` or ``always``). torch looks at that once, at its first tensor: call this before importing torch's
    companions, which make some. ``graphmem`` commands do. Settings of the environment stay as they are.

    Returns:
        Whether glibc's threshold was set; not on systems without glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if "MALLOC_MMAP_THRESHOLD_" in os.environ or "glibc.malloc.mmap_threshold" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, THRESHOLD))
