"""Averages of the weights over the steps of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from graphmem.errors import ArgumentError


class WeightAverage:
    r"""Exponential moving average of a module's parameters (Polyak, Juditsky 1992; as in Tarvainen, Valpola 2017).

    After step t: :math:`\bar\theta \leftarrow d_t \bar\theta + (1 - d_t)\,\theta`,
    :math:`d_t = \min(d, t / (t + 10))`, so that the first steps, far from the end, are soon forgotten. Training goes on
    with the parameters themselves; buffers and state are not averaged.

    Args:
        model: whose parameters to average; those that need no gradient stay as they are.
        decay: d, in (0, 1). The average looks back over about 1 / (1 - d) steps. None for no average: nothing is done.

    Raises:
        ArgumentError: a decay outside (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        if decay is not None and not 0 < decay < 1:
            raise ArgumentError(f"average must lie in (0, 1) or be None, got {decay!r}")
        self.decay, self.steps = decay, 0
        self._live = {name: p for name, p in model.named_parameters() if decay is not None and p.requires_grad}
        self._mean = {name: p.detach().clone() for name, p in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters after an optimizer's step."""
        if self.decay is None:
            return
        decay = min(self.decay, self.steps / (self.steps + 10))
        self.steps += 1
        torch._foreach_lerp_(list(self._mean.values()), [p.detach() for p in self._live.values()], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages in the place of the parameters, and the parameters back afterwards."""
        saved = {name: p.detach().clone() for name, p in self._live.items()}
        self._copy(self._mean)
        try:
            yield
        finally:
            self._copy(saved)

    @torch.no_grad()
    def _copy(self, source: Mapping[str, Tensor]) -> None:
        for name, parameter in self._live.items():
            parameter.copy_(source[name])

    def state_dict(self) -> dict[str, Any]:
        """Averages and the number of steps, for a checkpoint."""
        return {"steps": self.steps, "mean": dict(self._mean)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned.

        Raises:
            ValueError: these are the averages of other parameters, or of a run with (without) averages.
        """
        found, mine = ({name: list(v.shape) for name, v in mean.items()} for mean in (state["mean"], self._mean))
        if found != mine:
            raise ValueError(f"averages of {len(found)} parameters where {len(mine)} of other names or shapes are kept")
        for name, value in self._mean.items():
            value.copy_(state["mean"][name])
        self.steps = state["steps"]
