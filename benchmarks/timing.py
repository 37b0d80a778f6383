"""Clocks: ours and a peer's work in interleaved pairs."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from graphmem import ops

STALL = 3.0  # a sample beyond this multiple of its side's median is a stall of the machine


def clock(work: Callable[[], None]) -> float:
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def paired(
    ours: Callable[[], None], theirs: Callable[[], None], pairs: int, before: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """A/B/A/B after two warm-ups of each; stalled pairs are dropped and counted.

    `before` is called before every pair, outside the clock, e.g. to put state back.
    """
    samples = []
    for _ in range(pairs + 2):
        before()
        samples.append((clock(ours), clock(theirs)))
    del samples[:2]
    medians = [statistics.median(side) for side in zip(*samples, strict=True)]
    kept = [s for s in samples if all(value < STALL * m for value, m in zip(s, medians, strict=True))]
    return {
        "ours_seconds": [s[0] for s in samples],
        "peer_seconds": [s[1] for s in samples],
        "stalled_pairs": len(samples) - len(kept),
        "median_ours": statistics.median(s[0] for s in kept),
        "median_peer": statistics.median(s[1] for s in kept),
        "median_paired_ratio": statistics.median(s[1] / s[0] for s in kept),
        "peer_best_over_our_median": min(s[1] for s in kept) / statistics.median(s[0] for s in kept),
    }


def product_rate() -> float:
    """Flops per second of a square float32 product, best of ten by each of two libraries."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    return 2 * 1024**3 / min(clock(lambda f=f: f(a, b)) for f in (torch.matmul, ops.matmul) for _ in range(10))
