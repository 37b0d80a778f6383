"""Every model in a few variants, small graphs with known targets, and ways to compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from graphmem.models import GAE, NCN, NCN2, NCNC, LinkModel, NCNDiff

IN, HIDDEN, NODES = 7, 8, 24
DROPOUT: dict[str, Any] = {"input_dropout": 0.2, "dropout": 0.3, "tail_dropout": 0.2, "pair_dropout": 0.3}


@dataclasses.dataclass(frozen=True)
class ModelCase:
    name: str
    cls: type[LinkModel]
    options: dict[str, Any]

    def build(self, in_channels: int | None = IN, hidden: int = HIDDEN, seed: int = 0, **more: Any) -> LinkModel:
        torch.manual_seed(seed)
        return self.cls(in_channels, hidden, **{**self.options, **more})


CASES = [
    ModelCase("GAE", GAE, {}),
    ModelCase("NCN", NCN, {}),
    ModelCase("NCN-gcn", NCN, {"conv": "gcn", "num_layers": 2, "residual": True, "tail_act": False}),
    ModelCase("NCNDiff", NCNDiff, {}),
    ModelCase("NCN2", NCN2, {}),
    ModelCase("NCNC-clean", NCNC, {"jk": True}),
    ModelCase("NCNC-reference", NCNC, {"compat": "reference"}),
    ModelCase("NCNC-pt", NCNC, {"learn_pt": True, "conv": "gcn", "num_layers": 2}),
    ModelCase("NCNC-sampled", NCNC, {"train_degree": 2, "test_degree": 2}),
    ModelCase("NCNC-2", NCNC, {"depth": 2}),
    ModelCase("NCNC-encoded", NCNC, {"inner_input": "encoded"}),
    ModelCase("NCNC-2-reference", NCNC, {"depth": 2, "compat": "reference"}),
]
by_name = {case.name: case for case in CASES}


def edges(num_nodes: int = NODES, mean_degree: float = 5.0, seed: int = 0) -> Tensor:
    """Undirected edges, each once, no loops."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(num_nodes, num_nodes, generator=generator) < mean_degree / num_nodes
    return draw.triu(1).nonzero().T.contiguous()


def both(links: Tensor) -> Tensor:
    return torch.cat((links, links.flip(0)), dim=1)


def nodes_x(num_nodes: int = NODES, width: int = IN, seed: int = 0) -> Tensor:
    return torch.randn(num_nodes, width, generator=torch.Generator().manual_seed(seed))


def seeded(call: Callable[[], Any], seed: int = 5) -> Any:
    torch.manual_seed(seed)
    return call()


def gradients(model: LinkModel, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
