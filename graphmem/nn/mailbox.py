"""Mailboxes of APAN: what neighbours reported lately, and attention over it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphmem.errors import ArgumentError
from graphmem.nn.functional import Linear, dropout, gather_sum
from graphmem.nn.state import StateModule
from graphmem.nn.temporal_attention import ask_features, mix_features, project_mixed
from graphmem.nn.time import LogAge, TimeEncoder
from graphmem.ops import _check


class Mailbox(StateModule):
    """The S latest mails of every node, as vectors without gradient.

    The mail that came as the c-th lies in column c mod S. A column that none has come to holds zeros, of time 0.

    Args:
        num_nodes: N.
        size: S.
        mail_dim: W.
        time_dtype: int64 or float64.
    """

    mail: Tensor
    t: Tensor
    count: Tensor

    def __init__(self, num_nodes: int, size: int, mail_dim: int, time_dtype: torch.dtype = torch.int64) -> None:
        super().__init__()
        _check.integer("size", size, 1)
        self.size = size
        self.register_state("mail", (num_nodes, size, mail_dim))
        self.register_state("t", (num_nodes, size), dtype=time_dtype)
        self.register_state("count", (num_nodes,), dtype=torch.int64)

    def read(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Mail of nodes int64 [n], in no order: vectors [n, S, W] and times [n, S]."""
        return self.mail.index_select(0, nodes), self.t.index_select(0, nodes)

    @torch.no_grad()
    def deliver(self, owner: Tensor, letter: Tensor, letters: Tensor, t: Tensor) -> None:
        """Give each owner one mail, the mean of its letters, at the time of the last of them. Writes rows in place.

        Args:
            owner: int64 [H].
            letter: int64 [H], which letter the owner gets.
            letters: [L, W].
            t: [L], times of the letters, ascending.
        """
        owner, order = owner.sort(stable=True)
        letter = letter[order]
        nodes, length = torch.unique_consecutive(owner, return_counts=True)
        ptr = torch.cat((length.new_zeros(1), length.cumsum(0)))
        column = self.count[nodes] % self.size
        self.mail[nodes, column] = gather_sum(ptr, letter, letters) / length.unsqueeze(1)
        newest = torch.zeros_like(nodes).scatter_reduce_(0, torch.repeat_interleave(length), letter, "amax")
        self.t[nodes, column] = t[newest]
        self.count[nodes] += 1


class MailAttention(nn.Module):
    r"""A node's new embedding from its last one and its mailbox.

    .. math::
        h = \mathrm{MultiHead}(q = W_q z, k = W_k [m_s, \phi(a_s)], v = W_v [m_s, \phi(a_s)]), \quad
        z' = \mathrm{MLP}(\mathrm{LN}(z + h))

    over the S places of the mailbox, :math:`a_s` the age of the mail there by :class:`~graphmem.nn.LogAge`; MLP: Lin,
    ReLU, dropout, Lin. An empty place counts as a mail of zeros at time 0, so that a node with one mail differs from
    one with S that are alike.

    Source: X. Wang et al., "APAN: Asynchronous Propagation Attention Network for Real-time Temporal Graph Embedding",
    SIGMOD 2021, section 3.2, with codes of time in the place of positions and empty places as in TGL. TGL codes the
    time itself, by frequencies that are learned; see docs/temporal_models.md for what the logarithm is worth.

    The products are arranged as in :class:`TemporalAttention`: what is projected is a node's query and its mixture, not
    its S mails.

    Args:
        channels: d, width of z.
        mail_dim: W.
        time_dim: width of the time code.
        heads: of the attention; divides d.
        dropout: of coefficients and of the perceptron.
        time_scale: of :class:`~graphmem.nn.LogAge`.

    Raises:
        ArgumentError: ``channels`` is no multiple of ``heads``.
    """

    def __init__(
        self,
        channels: int,
        mail_dim: int,
        time_dim: int,
        *,
        heads: int = 2,
        dropout: float = 0.1,
        time_scale: float | None = None,
    ) -> None:
        super().__init__()
        if channels % heads:
            raise ArgumentError(f"channels: expected a multiple of heads = {heads}, got {channels}")
        self.heads, self.dropout = heads, _check.probability("dropout", dropout)
        self.age, self.time_enc = LogAge(time_scale), TimeEncoder(time_dim, "slow")
        self.lin_query = Linear(channels, channels)
        self.lin_key = Linear(mail_dim + time_dim, channels, bias=False)
        self.lin_value = Linear(mail_dim + time_dim, channels)
        self.norm = nn.LayerNorm(channels)
        self.hidden, self.out = Linear(channels, channels), Linear(channels, channels)

    def reset_parameters(self) -> None:
        """Reset every layer."""
        for module in self.children():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()  # type: ignore[operator]

    def forward(self, z: Tensor, mail: Tensor, dt: Tensor) -> Tensor:
        """z [n, d], mail [n, S, W] and times since it came dt [n, S], to [n, d].

        Raises:
            ArgumentError: mail requires a gradient, which it would not get.
        """
        if mail.requires_grad:
            raise ArgumentError("mail: expected a tensor that requires no gradient")
        query = self.lin_query(z) / math.sqrt(z.size(1) // self.heads)
        key, value = (_time_first(lin.weight, mail.size(2)) for lin in (self.lin_key, self.lin_value))
        asked = ask_features(query, key, self.heads)
        # Letters are messages of events whose other end has no features: what is to be known of it lies in the mail.
        nobody, letter = z.new_empty(1, 0), torch.arange(dt.numel(), device=dt.device).view(dt.shape)
        p = self.dropout if self.training else 0.0
        nbr, age = torch.zeros_like(letter), self.age(dt)
        letters = mix_features(asked, nobody, nbr, age, mail.flatten(0, 1), letter, self.time_enc, p)
        mixed = project_mixed(letters, torch.cat((value, self.lin_value.bias.unsqueeze(1)), 1), self.heads)
        # Scaled apart: torch's gradients of the two vectors depend on the number of threads.
        normal = F.layer_norm(z + mixed, self.norm.normalized_shape) * self.norm.weight + self.norm.bias
        hidden = dropout(self.hidden(normal).relu(), self.dropout, self.training)
        out: Tensor = self.out(hidden)
        return out


def _time_first(weight: Tensor, mail_dim: int) -> Tensor:
    """Columns of a weight on [mail, code of its age] in the order of the operator, the code first."""
    return torch.cat((weight[:, mail_dim:], weight[:, :mail_dim]), 1)
