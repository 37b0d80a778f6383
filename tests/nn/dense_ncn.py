"""The equations of NCN and its relatives, pair by pair on a dense adjacency: slow, and nothing shared with graphmem.

Weights come from the state of a decoder; everything runs in float64 and without dropout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DenseDecoder:
    """Logits by definition.

    Args:
        decoder: where the weights and the calibration come from.
        values: [N, N], a_iu in row i; only entries of ``there`` count.
        there: bool [N, N], which edges exist.
    """

    def __init__(self, decoder: nn.Module, values: Tensor, there: Tensor) -> None:
        self.state = {name: value.detach().double() for name, value in decoder.state_dict().items()}
        self.values, self.there = values.double(), there
        self.two_hop = there.double() @ there.double() > 0
        self.kind = type(decoder).__name__
        self.depth = getattr(decoder, "depth", 0)
        self.inner_transformed = getattr(decoder, "inner_input", None) == "transformed"
        self.learn_pt = getattr(decoder, "learn_pt", False)

    def __call__(self, h: Tensor, pairs: Tensor) -> Tensor:
        self.known: dict[tuple[int, int, int], Tensor] = {}
        rows = [self.logit(h.detach().double(), i, j, self.depth) for i, j in pairs.t().tolist()]
        return torch.stack(rows) if rows else torch.empty(0, dtype=torch.float64)

    # Dense layers, one vector at a time.

    def linear(self, name: str, v: Tensor) -> Tensor:
        return self.state[f"{name}.weight"] @ v + self.state[f"{name}.bias"]

    def norm(self, name: str, v: Tensor) -> Tensor:
        if f"{name}.weight" not in self.state:  # built without LayerNorm
            return v
        centred = v - v.mean()
        return (
            centred / (centred.square().mean() + 1e-5).sqrt() * self.state[f"{name}.weight"]
            + self.state[f"{name}.bias"]
        )

    def tail(self, name: str, v: Tensor) -> Tensor:
        return self.linear(name, v) if f"{name}.weight" in self.state else v

    def tilde(self, v: Tensor) -> Tensor:
        if "xlin.0.weight" not in self.state:
            return v
        inner = self.linear("xlin.2", self.linear("xlin.0", v).clamp(min=0))
        return v + self.norm("xlin.3", inner).clamp(min=0)

    def sum_branch(self, name: str, v: Tensor) -> Tensor:
        inner = self.linear(f"{name}.rest.1", self.linear(f"{name}.first", v).clamp(min=0))
        return self.tail(f"{name}.rest.3", self.norm(f"{name}.rest.2", inner).clamp(min=0))

    def pair_branch(self, v: Tensor) -> Tensor:
        return self.tail("xijlin.2", self.norm("xijlin.1", self.linear("xijlin.0", v)).clamp(min=0))

    def head(self, v: Tensor) -> Tensor:
        v = self.norm("lin.1", self.linear("lin.0", v)).clamp(min=0)
        if "lin.4.weight" in self.state:  # two layers
            v = self.norm("lin.3", self.linear("lin.2", v)).clamp(min=0)
            return self.linear("lin.4", v)[0]
        return self.linear("lin.2", v)[0]

    # Neighbourhoods.

    def neighbours(self, i: int) -> set[int]:
        return set(self.there[i].nonzero().squeeze(1).tolist())

    def walk_ends(self, i: int) -> set[int]:
        return set(self.two_hop[i].nonzero().squeeze(1).tolist())

    def logit(self, h: Tensor, i: int, j: int, depth: int) -> Tensor:
        # h is a function of depth here: a transformed one is handed down, once a level.
        if (i, j, depth) not in self.known:
            self.known[i, j, depth] = self._logit(h, i, j, depth)
        return self.known[i, j, depth]

    def _logit(self, h: Tensor, i: int, j: int, depth: int) -> Tensor:
        pair = h[i] * h[j]
        total = self.pair_branch(pair)
        if self.kind == "PairDecoder":
            return self.head(total)
        x = torch.stack([self.tilde(row) for row in h])
        ni, nj = self.neighbours(i), self.neighbours(j)
        z = h.new_zeros(h.size(1), dtype=torch.float64)
        for u in ni & nj:
            z = z + self.values[i, u] * self.values[j, u] * x[u]
        if depth > 0:
            inner = x if self.inner_transformed else h
            for here, there, only in ((i, j, ni - nj), (j, i, nj - ni)):
                for u in only:
                    z = z + self.values[here, u] * self.probability(inner, there, u, depth - 1, pair) * x[u]
        total = total + self.state["beta"] * self.sum_branch("xcnlin", z)
        if self.kind == "CNDiffDecoder":
            other = sum((self.values[i, u] * x[u] for u in ni - nj), torch.zeros_like(z))
            other = sum((self.values[j, u] * x[u] for u in nj - ni), other)
            total = total + self.sum_branch("third", other)
        if self.kind == "TwoHopDecoder":
            other = sum((x[u] for u in ni & self.walk_ends(j)), torch.zeros_like(z))
            other = sum((x[u] for u in nj & self.walk_ends(i)), other)
            total = total + self.sum_branch("third", other)
        return self.head(total)

    def probability(self, h: Tensor, a: int, b: int, depth: int, pair: Tensor) -> Tensor:
        """p(a, b): how far the missing edge (a, b) counts, for the pair whose product of ends is ``pair``."""
        q = torch.sigmoid(self.state["scale"] * (self.logit(h, a, b, depth) - self.state["offset"]))
        pt = self.state["pt"]
        if self.learn_pt:
            pt = torch.sigmoid(self.linear("ptlin.2", self.linear("ptlin.0", pair).clamp(min=0)))
        return (self.state["alpha"] * pt * q / (pt * q + 1 - q))[0]
