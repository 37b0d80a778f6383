"""What a signed stream says of two nodes by counting alone: reputations, reciprocity, balance of triads."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from graphmem.nn.signed_memory import is_negative
from graphmem.nn.state import StateModule
from graphmem.ops import _check
from graphmem.ops._cn_torch import cn_gather_sum_operator

NAMES = (
    *(f"odds_{end}" for end in ("src_out", "dst_in", "src_in", "dst_out")),
    *(f"{end}_{way}_{sign}" for end in ("src", "dst") for way in ("out", "in") for sign in ("pos", "neg")),
    *("reverse_pos", "reverse_neg", "balanced", "unbalanced"),
)
"""The sixteen features, in order."""

# Prior of the log-odds: as if every node had 1.8 positive events and 0.2 negative ones.
PRIOR_POS, PRIOR_NEG = 1.8, 0.2

# A key is owner * 2^31 + other.
_BITS = 31
# Columns of counts.
_OUT, _IN, _NEGATIVE = 0, 2, 1


# New pairs are kept apart and merged when they are so many, or so large a share of all: a merge copies everything.
_MERGE_PAIRS, _MERGE_SHARE = 1024, 32


class _Rows(NamedTuple):
    """Pairs as rows of a sparse matrix."""

    keys: Tensor
    """int64 [P], ascending."""
    counts: Tensor
    """int64 [P, 4]."""
    ptr: Tensor
    """int64 [N + 1]."""
    col: Tensor
    """int64 [P], ascending in each row."""
    total: Tensor
    """float64 [P], number of events of the pair, either way."""
    balance: Tensor
    """float64 [P], positive ones less negative ones."""


class SignedHistoryFeatures(StateModule):
    r"""Sixteen numbers of a pair (u, v) of source and target, from the events so far.

    With :math:`o_u^\pm, i_u^\pm` the numbers of positive and negative events from and to u, and :math:`p_{uw}, n_{uw}`
    those between u and w, either way:

    - four log-odds :math:`\ln\frac{x^+ + 1.8}{x^- + 0.2}` of :math:`o_u, i_v, i_u, o_v`;
    - :math:`\ln(1 + x)` of the eight counts :math:`o_u^\pm, i_u^\pm, o_v^\pm, i_v^\pm`;
    - whether there was a positive, and a negative, event from v to u;
    - :math:`\ln(1 + x)` of the balanced and of the unbalanced triads,

    .. math::
        \sum_{w \ne u, v} p_{uw} p_{vw} + n_{uw} n_{vw}, \qquad \sum_{w \ne u, v} p_{uw} n_{vw} + n_{uw} p_{vw}

    The state is frozen between two insertions: all pairs of a block see what was before the block. Counts are integers
    and exact. Two nodes that met take 80 bytes. A block costs what it holds, and now and then a copy of all pairs; a
    question what :func:`graphmem.ops.cn_gather_sum` does.

    Source: features and prior are ours, after Guha, Kumar, Raghavan, Tomkins, "Propagation of Trust and Distrust",
    WWW 2004 (reputation), and Leskovec, Huttenlocher, Kleinberg, "Predicting Positive and Negative Links in Online
    Social Networks", WWW 2010 (degrees and triads).

    Args:
        num_nodes: N, less than 2^31.

    Example:
        >>> history = SignedHistoryFeatures(3)
        >>> history.insert(torch.tensor([0, 2, 2]), torch.tensor([1, 0, 1]), torch.tensor([1, 1, -1]))
        >>> dict(zip(NAMES, history(torch.tensor([1]), torch.tensor([0]))[0].tolist()))["reverse_pos"]
        1.0
    """

    degree: Tensor
    keys: Tensor
    counts: Tensor
    new_keys: Tensor
    new_counts: Tensor

    def __init__(self, num_nodes: int) -> None:
        super().__init__()
        _check.integer("num_nodes", num_nodes, 0, 2**_BITS - 1)
        self.register_state("degree", (num_nodes, 4), dtype=torch.int64)
        for prefix in ("", "new_"):
            self.register_state(f"{prefix}keys", (0,), dtype=torch.int64, per_node=False)
            self.register_state(f"{prefix}counts", (0, 4), dtype=torch.int64, per_node=False)
        self._kept: dict[str, _Rows] = {}

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.degree.size(0)

    @property
    def out_channels(self) -> int:
        """Width of the features."""
        return len(NAMES)

    def reset(self) -> None:
        """Forget everything."""
        self.degree, self._kept = torch.zeros_like(self.degree), {}
        for prefix in ("", "new_"):
            self._set(prefix, self.keys.new_empty(0), self.counts.new_empty(0, 4))

    @torch.no_grad()
    def insert(self, src: Tensor, dst: Tensor, sign: Tensor) -> None:
        """Take in the events of a block.

        Args:
            src: int64 [E].
            dst: int64 [E].
            sign: [E], -1 and 1, 0 and 1, or truth values.

        Raises:
            ArgumentError: wrong shape, dtype, device or range, or signs that are neither.
        """
        src, dst = _check.ends(src, dst, self.num_nodes, self.degree.device)
        if src.numel() == 0:
            return
        negative = is_negative("sign", sign, src.numel())
        owner, other = torch.cat((src, dst)), torch.cat((dst, src))
        column = _columns(negative)
        self.degree = counted(self.degree, src, dst, negative)
        keys, place = ((owner << _BITS) + other).unique(return_inverse=True)
        counts = self.counts.new_zeros(keys.numel(), 4)
        counts.index_put_((place, column), torch.ones_like(place), accumulate=True)
        self._set("new_", *_merged(self.new_keys, self.new_counts, keys, counts))
        if self.new_keys.numel() > max(_MERGE_PAIRS, self.keys.numel() // _MERGE_SHARE):
            self._merge()

    def forward(self, src: Tensor, dst: Tensor) -> Tensor:
        """The features of pairs. Nothing is written.

        Args:
            src: int64 [B].
            dst: int64 [B].

        Returns:
            float32 [B, 16], named by :data:`NAMES`.

        Raises:
            ArgumentError: wrong shape, dtype, device or range.
        """
        src, dst = _check.ends(src, dst, self.num_nodes, self.degree.device)
        ends = torch.stack((self.degree[src], self.degree[dst]), 1).double()  # [B, 2, 4]
        odds = log_odds(ends)  # [B, 2, out and in]
        reverse = self._counts_of(src, dst)[:, _IN:] > 0
        columns = (
            odds[:, 0, 0], odds[:, 1, 1], odds[:, 0, 1], odds[:, 1, 0],
            *ends.log1p().flatten(1).unbind(1),
            *reverse.double().unbind(1),
            *(count.log1p() for count in self.triads(src, dst)),
        )  # fmt: skip
        return torch.stack(columns, 1).float()

    def triads(self, src: Tensor, dst: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of balanced and unbalanced triads of pairs int64 [B], each float64 [B] and whole."""
        pairs, ones = torch.stack((src, dst)), torch.ones(self.num_nodes, 1, dtype=torch.float64, device=src.device)
        levels = [self._rows(""), self._rows("new_")]
        total, balance = ones.new_zeros(src.numel()), ones.new_zeros(src.numel())
        # Sums over the pairs of u and those of v: the counts of a pair are the sum of those of both levels.
        for one, other in ((a, b) for a in levels for b in levels if a.keys.numel() and b.keys.numel()):
            first, second = (one.ptr, one.col, None), (other.ptr, other.col, None)
            for sums, weights in ((total, (one.total, other.total)), (balance, (one.balance, other.balance))):
                sums += cn_gather_sum_operator(*first, weights[0], *second, weights[1], pairs, ones, True, 1).view(-1)
        return (total + balance) / 2, (total - balance) / 2

    def forget(self, nodes: Tensor | None = None, events: Tensor | None = None) -> None:
        """Remove all events of ``nodes``, from the counts of the others too: as if they had never been.

        Args:
            nodes: int64 [n].
            events: not supported: raises.

        Raises:
            ArgumentError: ``events`` is given, or ``nodes`` is not a vector of valid ids.
        """
        super().forget(nodes, events)
        if nodes is None:
            return
        self._merge()
        gone = nodes.to(self.keys.device)
        keep = ~(torch.isin(self.keys >> _BITS, gone) | torch.isin(self.keys & (2**_BITS - 1), gone))
        self._set("", self.keys[keep], self.counts[keep])
        self.degree = torch.zeros_like(self.degree).index_add(0, self.keys >> _BITS, self.counts)

    def _set(self, prefix: str, keys: Tensor, counts: Tensor) -> None:
        setattr(self, f"{prefix}keys", keys)
        setattr(self, f"{prefix}counts", counts)

    def _merge(self) -> None:
        """Put the new pairs among the others."""
        self._set("", *_merged(self.keys, self.counts, self.new_keys, self.new_counts))
        self._set("new_", self.keys.new_empty(0), self.counts.new_empty(0, 4))

    def _counts_of(self, src: Tensor, dst: Tensor) -> Tensor:
        """Counts [B, 4] of pairs; 0 for those without an event."""
        wanted = (src << _BITS) + dst
        out = self.counts.new_zeros(wanted.numel(), 4)
        for keys, counts in ((self.keys, self.counts), (self.new_keys, self.new_counts)):
            if keys.numel():
                place = torch.searchsorted(keys, wanted).clamp(max=keys.numel() - 1)
                out += counts[place] * (keys[place] == wanted).unsqueeze(1)
        return out

    def _rows(self, prefix: str) -> _Rows:
        keys, counts, kept = self.get_buffer(f"{prefix}keys"), self.get_buffer(f"{prefix}counts"), self._kept
        # What is derived from the state is kept for as long as that is the same tensors.
        found = kept.get(prefix)
        same = found is not None and found.keys is keys and found.counts is counts
        if found is None or not same or found.ptr.numel() != self.num_nodes + 1:
            starts = torch.arange(self.num_nodes + 1, device=keys.device) << _BITS
            ways = counts.view(-1, 2, 2).sum(1).double()  # positive and negative, either way
            columns = (torch.searchsorted(keys, starts), keys & (2**_BITS - 1), ways.sum(1), ways[:, 0] - ways[:, 1])
            found = kept[prefix] = _Rows(keys, counts, *columns)
        return found


def _merged(keys: Tensor, counts: Tensor, more: Tensor, more_counts: Tensor) -> tuple[Tensor, Tensor]:
    """Counts by ascending distinct keys, and those of some more of them."""
    place = torch.searchsorted(keys, more)
    known = place.clamp(max=max(keys.numel() - 1, 0))
    found = keys[known] == more if keys.numel() else torch.zeros_like(more, dtype=torch.bool)
    counts = counts.index_add(0, known[found], more_counts[found])
    at = place[~found]
    at = at + torch.arange(at.numel(), device=at.device)
    is_new = torch.zeros(keys.numel() + at.numel(), dtype=torch.bool, device=at.device).index_fill(0, at, True)
    out, sums = keys.new_empty(is_new.numel()), counts.new_empty(is_new.numel(), 4)
    out[at], out[~is_new] = more[~found], keys
    sums[at], sums[~is_new] = more_counts[~found], counts
    return out, sums


def counted(degree: Tensor, src: Tensor, dst: Tensor, negative: Tensor) -> Tensor:
    """Signed degrees int64 [N, 4] (positive and negative out, then in) behind some more events."""
    owner = torch.cat((src, dst))
    return degree.index_put((owner, _columns(negative)), torch.ones_like(owner), accumulate=True)


def log_odds(counts: Tensor) -> Tensor:
    """Of pairs of positive and negative counts side by side, [..., 2 m] to float64 [..., m]."""
    counts = counts.double()
    return (counts[..., ::2] + PRIOR_POS).log() - (counts[..., 1::2] + PRIOR_NEG).log()


def _columns(negative: Tensor) -> Tensor:
    """The column of each event's source, then of each one's destination."""
    return torch.cat((_OUT + negative.long(), _IN + negative.long()))


__all__ = ["NAMES", "SignedHistoryFeatures", "counted", "log_odds"]
