"""The authors' NAT as a peer: built from a checkout that the user names, never from code of this repository.

Get it with ``git clone https://github.com/Graph-COM/Neighborhood-Aware-Temporal-Network``, at a054831, and pass
``--peer PATH``. It is imported as it is; all that is changed for a torch of today is that float tensors can be shifted,
as they could in 2022. Their nodes and events are numbered from 1; row 0 of everything belongs to none.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from graphmem.data import EventStream
from graphmem.models import NAT


def allow_shifts() -> None:
    """Let float tensors be shifted, as they could in 2022."""
    shift: Callable[..., Tensor] = torch.Tensor.__lshift__

    def shifted(tensor: Tensor, by: int) -> Tensor:
        return tensor * 2.0**by if tensor.is_floating_point() else shift(tensor, by)

    torch.Tensor.__lshift__ = shifted  # type: ignore[assignment, method-assign]


def load_peer(path: str) -> type[nn.Module]:
    """The checkout's class of models."""
    if not (Path(path) / "module.py").is_file():
        raise SystemExit(f"--peer: {path} holds no module.py; expected a checkout of the authors' repository")
    allow_shifts()
    sys.path.insert(0, str(path))
    found: type[nn.Module] = importlib.import_module("module").NAT
    return found


def with_row_zero(rows: Tensor) -> np.ndarray:
    """Rows [n, d] in the authors' numbering, [n + 1, d]."""
    return np.concatenate([np.zeros((1, rows.size(1))), rows.numpy()])


class Authors:
    """What their train.py and eval.py do with a batch, with time codes of 1 harmonic and positions of 16.

    Node features default to a zero for each, as their preprocessing of SNAP's streams has it.
    """

    def __init__(
        self,
        stream: EventStream,
        path: str,
        *,
        sizes: Sequence[int],
        value_dim: int,
        seed: int,
        node_feat: Tensor | None = None,
        **options: Any,
    ) -> None:
        assert stream.msg is not None
        node_feat = torch.zeros(stream.num_nodes, 1) if node_feat is None else node_feat
        features = with_row_zero(node_feat), with_row_zero(stream.msg)
        options = {"time_dim": 1, "pos_dim": 16, "n_head": 2, "self_dim": 72, **options}
        self.model: Any = load_peer(path)(
            *(*features, value_dim + 3, stream.num_nodes + 1),
            **{"num_neighbors": [1, *sizes], "n_hops": len(sizes), "ngh_dim": value_dim, **options},
            device=torch.device("cpu"),
        )
        self.model.set_seed(seed)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4)
        self.criterion = torch.nn.BCELoss()

    def start(self) -> None:
        self.model.reset_store()

    def mode(self, training: bool) -> None:
        self.model.train(training)

    def snapshot(self) -> Any:
        model = self.model
        return [store.clone() for store in model.neighborhood_store], model.self_rep.clone(), model.prev_raw.clone()

    def restore(self, snapshot: Any) -> None:
        stores, self_rep, prev_raw = snapshot
        self.model.set_neighborhood_store([store.clone() for store in stores])
        self.model.set_self_rep(self_rep.clone(), prev_raw.clone())

    def pass_on(self, batch: EventStream, neg: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of the events and of their negatives; the model has seen the events then."""
        ends = [(nodes + 1).numpy() for nodes in (batch.src, batch.dst, neg)]
        found: tuple[Tensor, Tensor] = self.model.contrast(*ends, batch.t.numpy(), (batch.eid + 1).numpy())
        return found

    def train_step(self, batch: EventStream, neg: Tensor) -> None:
        self.optimizer.zero_grad()
        pos, neg_out = self.pass_on(batch, neg)
        loss = self.criterion(pos, torch.ones_like(pos)) + self.criterion(neg_out, torch.zeros_like(neg_out))
        loss.backward()
        self.optimizer.step()


def their_position(mask: Tensor, hops: int) -> Tensor:
    """The row of their table for the bits of ours: they always leave three bits to the first node."""
    bits = hops + 1
    return (mask & ((1 << bits) - 1)) | ((mask >> bits) << 3)


def weight_pairs(ours: NAT, theirs: Any, grad: bool = False) -> list[tuple[str, Tensor, Tensor]]:
    """Our weights beside views of theirs with the same shape, by our names; or, with ``grad``, their gradients.

    Their pooling has one bias behind the mean over heads, ours one a head, and the mean of these. A copy gives theirs
    to every head; as a gradient theirs is the sum of ours.
    """

    def of(parameter: nn.Parameter) -> Tensor:
        value = parameter.grad if grad else parameter.detach()
        assert value is not None
        return value

    layer, heads = theirs.gat.gat_net[0], ours.heads
    mask = torch.arange(ours.position_emb.num_embeddings)
    at = their_position(mask, len(ours.cache.layout.sizes))
    left = 0 if ours.features is not None else theirs.feat_dim  # their features of nodes, where ours has none
    pairs = [
        ("time_enc.lin.weight", of(ours.time_enc.lin.weight).view(-1), of(theirs.time_encoder.basis_freq)),
        ("time_enc.lin.bias", of(ours.time_enc.lin.bias), of(theirs.time_encoder.phase)),
        ("lin_state.weight", of(ours.lin_state.weight), of(theirs.self_rep_linear.weight)),
        ("lin_value.weight", of(ours.lin_value.weight), of(theirs.ngh_rep_linear.weight)),
        ("position_emb.weight", of(ours.position_emb.weight), of(theirs.trainable_embedding.weight)[at]),
        ("lin_pool.weight", of(ours.lin_pool.weight), of(layer.linear_proj.weight)[:, left:]),
    ]
    bias = of(ours.lin_pool.bias).view(heads, -1)
    pairs.append(("lin_pool.bias", bias.sum(0) if grad else bias, of(layer.bias)))
    for name, cell in (("state_cell", theirs.self_aggregator.gru), ("value_cell", theirs.ngh_aggregator.gru)):
        mine = getattr(ours, name)
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            pairs.append((f"{name}.{part}", of(getattr(mine, part)), of(getattr(cell, part))))
    for name, linear in (("lin_hidden", theirs.out_layer.fc1), ("lin_final", theirs.out_layer.fc2)):
        mine = getattr(ours.predictor, name)
        for part in ("weight", "bias"):
            pairs.append((f"predictor.{name}.{part}", of(getattr(mine, part)), of(getattr(linear, part))))
    return pairs


@torch.no_grad()
def take_weights(ours: NAT, theirs: Any) -> None:
    """Give our model the weights of theirs."""
    for _, mine, value in weight_pairs(ours, theirs):
        mine.copy_(value)
