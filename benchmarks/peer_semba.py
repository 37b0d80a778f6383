"""The authors' SEMBA as a peer: built from a checkout that the user names, never from code of this repository.

Get it with ``git clone https://github.com/claws-lab/semba``, at ae75932, and pass ``--peer PATH``; torch-scatter must
be installed for it. Its model is imported as it is; of its baselines only SignedGCN is left out, for torch-sparse.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from graphmem.data import EventStream
from graphmem.engine.signed_task import class_mean
from graphmem.models.semba_released import ReleasedSEMBA

BATCH = 1000
"""Events of a batch, as in their train.py."""
FEATURES = 8
"""Width of the nodes' features, all zeros."""


def load_peer(path: str) -> Any:
    """The checkout's module of models."""
    if not (Path(path) / "model_wrapper.py").is_file():
        raise SystemExit(f"--peer: {path} holds no model_wrapper.py; expected a checkout of the authors' repository")
    left_out = ModuleType("baselines.sgcn.sgcn")
    left_out.SignedGCN = None  # type: ignore[attr-defined]
    sys.modules["baselines.sgcn.sgcn"] = left_out
    sys.path.insert(0, str(path))
    return importlib.import_module("model_wrapper")


class Authors:
    """What their train.py does with a batch on the sign task, with their defaults, metrics left out.

    Whether sources and destinations are the same nodes, which their loader tells apart, is for the stream to say.
    """

    def __init__(self, stream: EventStream, path: str, dropout: float = 0.5) -> None:
        self.x = torch.zeros(stream.num_nodes, FEATURES)
        sizes = FEATURES, stream.num_nodes, 64, 2
        with contextlib.redirect_stdout(io.StringIO()):
            self.model = load_peer(path).STGNN("semba", "sign_class", *sizes, dropout=dropout)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)

    def start(self) -> None:
        self.model.reset_memory()
        self.model.train()

    def train_step(self, batch: EventStream) -> float:
        self.optimizer.zero_grad()
        z, ends, _ = self._shown(batch)
        loss = self.model.loss(z, *ends)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def logits(self, batch: EventStream) -> Tensor:
        """Of a batch's events, in their order; they are taken in."""
        z, ends, positive = self._shown(batch)
        out = z.new_empty(len(batch))
        for (src, dst), asked in zip(ends, (positive, ~positive), strict=True):
            out[asked] = self.model.lin(torch.cat((z[src], z[dst]), 1)).squeeze(1)
        return out

    def _shown(self, batch: EventStream) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """Embeddings behind a batch, its ends by sign, and which events are positive."""
        assert batch.weight is not None
        positive = batch.weight > 0

        def split(column: Tensor) -> tuple[Tensor, Tensor]:
            return column[positive], column[~positive]

        (src_pos, src_neg), (dst_pos, dst_neg), times, weights = map(
            split, (batch.src, batch.dst, batch.t.long(), batch.weight.abs().unsqueeze(1))
        )
        ends = torch.stack((src_pos, dst_pos)), torch.stack((src_neg, dst_neg))
        return self.model(self.x, *ends, *times, *weights, to_update=True), ends, positive


def batches_of(events: EventStream) -> list[EventStream]:
    """Cut as their loader does."""
    return [events[at : at + BATCH] for at in range(0, len(events), BATCH)]


def as_loader(stream: EventStream) -> EventStream:
    """Every user as two nodes, one that rates and one that is rated."""
    shift = int(stream.src.max()) + 1
    return replace(stream, dst=stream.dst + shift, num_nodes=shift + stream.num_nodes, node_names=None)


@torch.no_grad()
def take_weights(ours: ReleasedSEMBA, theirs: Any) -> None:
    """Give their model our weights; features of nodes, which are zeros, and the bias of keys have none here."""
    for name, cell in (("gru_pos", ours.cell_pos), ("gru_neg", ours.cell_neg)):
        getattr(theirs.mem_model, name).load_state_dict(cell.state_dict())
    theirs.mem_model.time_enc.load_state_dict(ours.time_enc.state_dict())
    theirs.lin.load_state_dict(ours.lin.state_dict())
    width = 2 * ours.memory_dim
    mine = {name: weight for name, weight in ours.attention.state_dict().items() if not name.startswith("time_enc")}
    for name, weight in theirs.mem2emb.conv.state_dict().items():
        if name == "lin_key.bias":
            continue
        same = mine[name].size() == weight.size()
        weight.copy_(mine[name]) if same else weight[:, :width].copy_(mine[name])


def released_loss(logits: Tensor, events: EventStream) -> Tensor:
    """Their loss: both classes' means, added up."""
    assert events.weight is not None
    truth = events.weight > 0
    each = F.binary_cross_entropy_with_logits(logits, truth.to(logits.dtype), reduction="none")
    return 2 * class_mean(each, truth.long(), 2)
