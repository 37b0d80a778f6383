"""Dense parts of the pair decoders: multi-layer perceptrons of the NCN paper's code, arranged to skip needless rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from graphmem.nn.functional import DropoutReLU, Linear, NormDropoutReLU, gather_rows
from graphmem.ops import HeadLayer, HeadWeights, stack_head


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
        Linear(channels, channels),
        DropoutReLU(dropout),
        Linear(channels, channels),
        hidden_end(channels, dropout, norm),
    )


def pair_mlp(channels: int, dropout: float, norm: bool, tail_act: bool) -> nn.Sequential:
    """``xijlin``: Lin, LN, dropout, ReLU and, unless ``tail_act``, Lin."""
    layers = [Linear(channels, channels), hidden_end(channels, dropout, norm)]
    return nn.Sequential(*layers, *([] if tail_act else [Linear(channels, channels)]))


def logit_mlp(channels: int, dropout: float, norm: bool, two_layer: bool) -> nn.Sequential:
    """``lin``: one or two of (Lin, LN, dropout, ReLU), then Lin to one logit."""
    layers: list[nn.Module] = []
    for _ in range(2 if two_layer else 1):
        layers += [Linear(channels, channels), hidden_end(channels, dropout, norm)]
    return nn.Sequential(*layers, Linear(channels, 1))


class CNBranch(nn.Module):
    """``xcnlin`` on neighbourhood sums: Lin, dropout, ReLU, Lin, LN, dropout, ReLU and, unless ``tail_act``, Lin.

    Most pairs of a sparse graph have no common neighbour, so their sum is zero: their first layer is the bias alone,
    and without dropout their whole output is one shared row. Both are exact.
    """

    def __init__(self, channels: int, dropout: float, norm: bool, tail_act: bool) -> None:
        super().__init__()
        self.first = Linear(channels, channels)
        self.rest = nn.Sequential(
            DropoutReLU(dropout),
            Linear(channels, channels),
            hidden_end(channels, dropout, norm),
            *([] if tail_act else [Linear(channels, channels)]),
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
        if ids.numel() == num_pairs:
            out: Tensor = self.rest(self.first(sums))
            return out
        if self.training and self.dropout > 0:  # treats empty pairs one by one
            rows, place = self._with_empty(ids, self.first(sums), num_pairs)
            out = self.rest(gather_rows(rows, place))
            return out
        return gather_rows(*self.compact(ids, sums, num_pairs))

    def compact(self, ids: Tensor, sums: Tensor, num_pairs: int) -> tuple[Tensor, Tensor]:
        """:meth:`forward` without dropout: rows [C + 1, channels], row 0 for empty pairs, and the row of each pair."""
        rows, place = self._with_empty(ids, self.first(sums), num_pairs)
        return self.rest(rows), place

    def _with_empty(self, ids: Tensor, first: Tensor, num_pairs: int) -> tuple[Tensor, Tensor]:
        place = torch.zeros(num_pairs, dtype=torch.int64, device=ids.device)
        place[ids] = torch.arange(1, ids.numel() + 1, device=ids.device)
        return torch.cat((self.first.bias.to(first.dtype).unsqueeze(0), first)), place


def stack_layers(pair: nn.Sequential, logit: nn.Sequential) -> HeadWeights:
    """The layers of ``xijlin`` and ``lin`` as :func:`graphmem.ops.pair_head` reads them."""
    *logit_layers, last = _layers(logit)
    return stack_head(_layers(pair), logit_layers, last.weight, last.bias)


def _layers(perceptron: nn.Sequential) -> list[HeadLayer]:
    layers: list[HeadLayer] = []
    for module in perceptron:
        if isinstance(module, nn.Linear):
            layers.append(HeadLayer(module.weight, module.bias, None, False))
        else:  # what ends a hidden layer
            norm = (module.weight, module.bias) if isinstance(module, NormDropoutReLU) else None
            layers[-1] = layers[-1]._replace(norm=norm, relu=True)
    return layers
