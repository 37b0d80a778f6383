"""Checks of the Trainer's arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphmem.errors import ArgumentError

Monitor = tuple[str, str]
ClipNorm = float | Sequence[float | None] | None


def check_count(name: str, value: Any) -> int:
    """Return ``value`` if it is a positive integer; otherwise raise an ArgumentError naming ``name``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ArgumentError(f"{name} must be a positive integer, got {value!r}")
    return value


def check_monitors(monitor: Monitor | Sequence[Monitor], mode: str, eval_splits: Sequence[str]) -> tuple[str, ...]:
    """Return the monitored metrics as keys ``"<split>/<metric>"``.

    Raises:
        ArgumentError: If a monitor is not a pair, is not evaluated, or looks at the test split.
    """
    if mode not in ("max", "min"):
        raise ArgumentError(f"mode must be 'max' or 'min', got {mode!r}")
    # A lone pair of names, or a sequence of pairs.
    pairs: list[Any] = [monitor] if len(monitor) == 2 and isinstance(monitor[0], str) else list(monitor)
    if not pairs:
        raise ArgumentError("monitor must name at least one (split, metric), got none")
    keys = []
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise ArgumentError(f"monitor must be (split, metric) or a sequence of such pairs, got {pair!r}")
        split, metric = pair
        if split == "test":
            raise ArgumentError(
                f"monitor must not look at the test split: epochs are selected on validation, got {pair!r}"
            )
        if split not in eval_splits:
            raise ArgumentError(f"monitor {pair!r} is not evaluated: eval_splits is {tuple(eval_splits)!r}")
        keys.append(f"{split}/{metric}")
    return tuple(keys)


def check_clip(clip_norm: Any, num_groups: int) -> float | tuple[float | None, ...] | None:
    """Return ``clip_norm`` as a float, a tuple with an entry for each parameter group, or None.

    Raises:
        ArgumentError: If a norm is not positive, or the number of entries is not that of the groups.
    """
    if clip_norm is None:
        return None
    if isinstance(clip_norm, (int, float)):
        if not clip_norm > 0:
            raise ArgumentError(f"clip_norm must be positive, got {clip_norm!r}")
        return float(clip_norm)
    norms = tuple(clip_norm)
    if len(norms) != num_groups:
        raise ArgumentError(
            f"clip_norm must have one entry for each of the optimizer's {num_groups} parameter groups, got {len(norms)}"
        )
    if any(norm is not None and not norm > 0 for norm in norms):
        raise ArgumentError(f"clip_norm must hold positive norms or None, got {norms!r}")
    return tuple(None if norm is None else float(norm) for norm in norms)
