"""Dense parts of the pair decoders: multi-layer perceptrons of the NCN paper's code, arranged to skip needless rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from graphmem.nn.functional import DropoutReLU, NormDropoutReLU, gather_rows


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Run a module without dropout inside a training step; every flag is put back."""
    changed = [m for m in module.modules() if m.training]
    for m in changed:
        m.training = False
    try:
        yield
    finally:
        for m in changed:
            m.training = True


def hidden_end(channels: int, dropout: float, norm: bool) -> nn.Module:
    """What follows the linear part of a hidden layer: LN (unless ``norm`` is off), dropout, ReLU."""
    return NormDropoutReLU(channels, dropout) if norm else DropoutReLU(dropout)


def reset_all(module: nn.Module) -> None:
    """Reset every linear and normalisation layer inside a module, in order."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.LayerNorm):
            layer.reset_parameters()


def node_mlp(channels: int, dropout: float, norm: bool) -> nn.Sequential:
    """``xlin``: Lin, dropout, ReLU, Lin, LN, dropout, ReLU."""
    return nn.Sequential(
        nn.Linear(channels, channels),
        DropoutReLU(dropout),
        nn.Linear(channels, channels),
        hidden_end(channels, dropout, norm),
    )


def pair_mlp(channels: int, dropout: float, norm: bool, tail_act: bool) -> nn.Sequential:
    """``xijlin``: Lin, LN, dropout, ReLU and, unless ``tail_act``, Lin."""
    layers = [nn.Linear(channels, channels), hidden_end(channels, dropout, norm)]
    return nn.Sequential(*layers, *([] if tail_act else [nn.Linear(channels, channels)]))


def logit_mlp(channels: int, dropout: float, norm: bool, two_layer: bool) -> nn.Sequential:
    """``lin``: one or two of (Lin, LN, dropout, ReLU), then Lin to one logit."""
    layers: list[nn.Module] = []
    for _ in range(2 if two_layer else 1):
        layers += [nn.Linear(channels, channels), hidden_end(channels, dropout, norm)]
    return nn.Sequential(*layers, nn.Linear(channels, 1))


class CNBranch(nn.Module):
    """``xcnlin`` on neighbourhood sums: Lin, dropout, ReLU, Lin, LN, dropout, ReLU and, unless ``tail_act``, Lin.

    Most pairs of a sparse graph have no common neighbour, so their sum is zero: their first layer is the bias alone,
    and without dropout their whole output is one shared row. Both are exact.
    """

    def __init__(self, channels: int, dropout: float, norm: bool, tail_act: bool) -> None:
        super().__init__()
        self.first = nn.Linear(channels, channels)
        self.rest = nn.Sequential(
            DropoutReLU(dropout),
            nn.Linear(channels, channels),
            hidden_end(channels, dropout, norm),
            *([] if tail_act else [nn.Linear(channels, channels)]),
        )
        self.dropout = dropout

    def forward(self, ids: Tensor, sums: Tensor, num_pairs: int) -> Tensor:
        """Transform the sums of all pairs.

        Args:
            ids: int64 [C], the pairs with a non-empty sum, ascending.
            sums: [C, channels], their sums.
            num_pairs: B.

        Returns:
            [B, channels].
        """
        first = self.first(sums)
        if ids.numel() == num_pairs:
            out: Tensor = self.rest(first)
            return out
        # Row 0 stands for every empty pair; dropout, where it is on, treats them one by one.
        rows = torch.cat((self.first.bias.to(first.dtype).unsqueeze(0), first))
        place = torch.zeros(num_pairs, dtype=torch.int64, device=ids.device)
        place[ids] = torch.arange(1, ids.numel() + 1, device=ids.device)
        if self.training and self.dropout > 0:
            out = self.rest(gather_rows(rows, place))
            return out
        return gather_rows(self.rest(rows), place)
