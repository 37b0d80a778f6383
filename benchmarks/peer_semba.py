"""The authors' SEMBA as a peer: built from a checkout that the user names, never from code of this repository.

Get it with ``git clone https://github.com/claws-lab/semba``, at ae75932, and pass ``--peer PATH``; torch-scatter must
be installed for it. Its model is imported as it is; of its baselines only SignedGCN is left out, for torch-sparse.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from graphmem.data import EventStream


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

    def __init__(self, stream: EventStream, path: str) -> None:
        self.x = torch.zeros(stream.num_nodes, 8)
        with contextlib.redirect_stdout(io.StringIO()):
            self.model = load_peer(path).STGNN("semba", "sign_class", 8, stream.num_nodes, 64, 2)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)

    def start(self) -> None:
        self.model.reset_memory()
        self.model.train()

    def train_step(self, batch: EventStream) -> float:
        assert batch.weight is not None
        positive = batch.weight > 0

        def split(column: Tensor) -> tuple[Tensor, Tensor]:
            return column[positive], column[~positive]

        (src_pos, src_neg), (dst_pos, dst_neg), times, weights = map(
            split, (batch.src, batch.dst, batch.t.long(), batch.weight.abs().unsqueeze(1))
        )
        ends = torch.stack((src_pos, dst_pos)), torch.stack((src_neg, dst_neg))
        self.optimizer.zero_grad()
        z = self.model(self.x, *ends, *times, *weights, to_update=True)
        loss = self.model.loss(z, *ends)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())
