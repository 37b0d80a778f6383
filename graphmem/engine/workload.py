"""What `graphmem plan` is told of a run."""

from __future__ import annotations

from dataclasses import dataclass, fields

from graphmem.errors import ArgumentError

PURE = ("puregcn", "puresum", "puremean")
LINEAR = ("gcn", "sage", "gin")


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is trained, in numbers.

    Args:
        nodes: number of nodes.
        edges: number of training links, each counted once.
        features: dense float32 features of a node; 0 for a learned vector a node.
        hidden: width of all layers.
        batch: links in a batch; as many negatives come with them.
        max_degree: largest number of neighbours.
        model: gae or ncn.
        conv: convolution of the encoder: gcn, sage, gin, puregcn, puresum or puremean.
        layers: number of convolutions.
        residual: residual connections in the encoder.
        jk: jumping-knowledge sum of the layers.
        norm: LayerNorm in encoder and decoder.
        input_dropout: on the features; only whether it is 0 matters, here as for the others.
        dropout: in the encoder.
        tail_dropout: after the last weightless convolution.
        edge_dropout: on the edges that the encoder sees.
        pair_dropout: in the decoder.
        pair_edge_dropout: on the edges that the decoder sees.
        use_xlin: transform nodes before summing them.
        tail_act: end the decoder's branches with an activation.
        two_layer_lin: one more layer before the logit.
        remove_targets: take a batch's links out of the graph of its step.
        average: whether an average of the weights is kept.
        eval_pairs: validation and test links and their negatives; 6/7 of the training links by default, as a split of
            70/10/20 with one negative a link has.
        common_neighbors: mean number of common neighbours of a training link; by default what a random graph with these
            degrees has, and a tenth of the mean degree.
    """

    nodes: int
    edges: int
    features: int
    hidden: int
    batch: int
    max_degree: int
    model: str = "ncn"
    conv: str = "puregcn"
    layers: int = 1
    residual: bool = False
    jk: bool = False
    norm: bool = True
    input_dropout: float = 0.0
    dropout: float = 0.0
    tail_dropout: float = 0.0
    edge_dropout: float = 0.0
    pair_dropout: float = 0.0
    pair_edge_dropout: float = 0.0
    use_xlin: bool = True
    tail_act: bool = True
    two_layer_lin: bool = False
    remove_targets: bool = True
    average: bool = False
    eval_pairs: int | None = None
    common_neighbors: float | None = None

    def __post_init__(self) -> None:
        """Check the numbers against each other."""
        for name in ("nodes", "edges", "hidden", "batch", "max_degree", "layers"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("features", "eval_pairs", "common_neighbors"):
            if (getattr(self, name) or 0) < 0:
                raise ArgumentError(f"{name}: expected a number that is not negative, got {getattr(self, name)}")
        for name in (f.name for f in fields(self) if f.name.endswith("dropout")):
            if not 0 <= getattr(self, name) < 1:
                raise ArgumentError(f"{name}: expected a probability in [0, 1), got {getattr(self, name)}")
        if self.model not in ("gae", "ncn"):
            raise ArgumentError(f"model: expected gae or ncn, got {self.model!r}")
        if self.conv not in (*LINEAR, *PURE):
            raise ArgumentError(f"conv: expected one of {', '.join((*LINEAR, *PURE))}, got {self.conv!r}")
        if self.batch > self.edges:
            raise ArgumentError(f"batch: expected at most the {self.edges} training links, got {self.batch}")
        if not 2 * self.edges / self.nodes <= self.max_degree < self.nodes:
            raise ArgumentError(
                f"max_degree: expected a number from the mean degree {2 * self.edges / self.nodes:.1f} to "
                f"{self.nodes - 1}, got {self.max_degree}"
            )
