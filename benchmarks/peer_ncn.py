"""The authors' NCN code as a peer: built from a checkout that the user names, never from code of this repository.

Get it with ``git clone https://github.com/GraphPKU/NeuralCommonNeighbor`` and pass ``--peer PATH``; it needs
torch-sparse and torch-scatter in the environment.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from graphmem.data import CSRGraph


def load_peer(path: str) -> tuple[ModuleType, ModuleType]:
    """Import the checkout's ``model`` and ``utils`` modules."""
    if not (Path(path) / "model.py").is_file():
        raise SystemExit(f"--peer: {path} holds no model.py; expected a checkout of GraphPKU/NeuralCommonNeighbor")
    sys.path.insert(0, str(path))
    import model
    import utils

    return model, utils


PREDICTORS = {"gae": "cn0", "ncn": "cn1", "ncnc": "incn1cn1", "ncn-diff": "cn1res", "ncn2": "cn1.5"}


def build_peer(peer: ModuleType, name: str, options: dict[str, Any], in_channels: int) -> tuple[nn.Module, nn.Module]:
    """The authors' encoder and predictor, from the options of one of our presets."""
    width = options["hidden_channels"]
    encoder = peer.GCN(
        in_channels,
        width,
        width,
        options.get("num_layers", 1),
        options.get("dropout", 0.0),
        options.get("norm", True),
        options.get("residual", False),
        (options.get("num_embeddings") or 0) - 1,
        options.get("conv", "puregcn"),
        options.get("jk", False),
        options.get("edge_dropout", 0.0),
        xdropout=options.get("input_dropout", 0.0),
        taildropout=options.get("tail_dropout", 0.0),
    )
    kind = PREDICTORS[name]
    head: dict[str, Any] = {}
    if kind != "cn0":
        head["cndeg"] = -1
    if kind in ("cn1", "incn1cn1"):
        head.update(use_xlin=options.get("use_xlin", True), tailact=options.get("tail_act", True))
        head.update(twolayerlin=options.get("two_layer_lin", False), beta=1.0)
    if kind == "incn1cn1":
        head.update(depth=options.get("depth", 1), splitsize=-1, learnablept=options.get("learn_pt", False))
        head.update({key: options[key] for key in ("scale", "offset", "pt", "alpha")})
        head.update(trainresdeg=options.get("train_degree") or -1, testresdeg=options.get("test_degree") or -1)
    dropouts = (options.get("pair_dropout", 0.0), options.get("pair_edge_dropout", 0.0), options.get("norm", True))
    predictor = peer.predictor_dict[kind](width, width, 1, 3, *dropouts, **head)
    return encoder, predictor


def _copy(target: nn.Module, source: nn.Module) -> None:
    """Blocks have the same parameters in the same order, whatever their names."""
    ours, theirs = list(target.parameters()), list(source.parameters())
    assert [p.shape for p in ours] == [p.shape for p in theirs]
    with torch.no_grad():
        for a, b in zip(ours, theirs, strict=True):
            a.copy_(b)


def copy_weights(model: nn.Module, encoder: nn.Module, predictor: nn.Module) -> None:
    """Give our model the peer's weights."""
    ours = model.encoder
    _copy(ours.input_lin, encoder.xemb[1])
    if ours.jk_weight is not None:
        with torch.no_grad():
            ours.jk_weight.copy_(encoder.jkparams)
    for name in ("xlin", "xijlin", "lin", "ptlin", "xcnlin"):
        block = getattr(model.decoder, name, None)
        if block is not None and isinstance(getattr(predictor, name, None), nn.Module):
            _copy(block, getattr(predictor, name))
    for theirs in ("xcnreslin", "xcn12lin"):
        if hasattr(predictor, theirs):
            _copy(model.decoder.third, getattr(predictor, theirs))
    if hasattr(model.decoder, "beta"):
        with torch.no_grad():
            model.decoder.beta.copy_(predictor.beta)


def sparse_tensor(graph: CSRGraph) -> Any:
    """The present edges as the SparseTensor that the peer reads."""
    from torch_sparse import SparseTensor

    edges: Tensor = graph.edge_index()
    return SparseTensor.from_edge_index(edges.flip(0), sparse_sizes=(graph.num_nodes, graph.num_nodes))
