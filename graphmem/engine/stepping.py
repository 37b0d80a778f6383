"""An optimizer's step."""

from __future__ import annotations

import torch

# Torch's fused and foreach steps wake the other threads for every weight by itself, for about 70 microseconds; in that
# time one thread updates so many entries.
_ENTRIES_A_WAKING = 2**16


def step_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """``optimizer.step()``, on one thread where its weights on the CPU are so small that waking others takes longer.

    Steps of weights are elementwise: the number of threads does not change their bits.
    """
    threads = torch.get_num_threads()
    if threads > 1:
        sizes = [p.numel() for group in optimizer.param_groups for p in group["params"] if p.is_cpu]
        if sum(sizes) <= _ENTRIES_A_WAKING * len(sizes):
            torch.set_num_threads(1)
    try:
        optimizer.step()
    finally:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
