"""NCN, NCNC, their ablations NCN-diff and NCN2, and the GAE baseline.

Source: X. Wang, H. Yang, M. Zhang, "Neural Common Neighbor with Completion for Link Prediction", ICLR 2024
(arXiv 2302.00890) and the released code, github.com/GraphPKU/NeuralCommonNeighbor.
"""

from __future__ import annotations

from typing import Any, TypedDict

from torch import nn
from typing_extensions import Unpack

from graphmem.models.base import LinkModel, as_encoder
from graphmem.nn.completion import CompletionDecoder
from graphmem.nn.decoder import CNDecoder, Compat, PairDecoder
from graphmem.nn.encoder import GraphEncoder
from graphmem.nn.overlap import CNDiffDecoder, TwoHopDecoder
from graphmem.ops import _check


class NCNOptions(TypedDict, total=False):
    """Options that every model of this file takes."""

    conv: str
    """Convolution, see :data:`graphmem.nn.conv.CONVS`; default "puregcn"."""
    num_embeddings: int | None
    """Learn a vector per integer id instead of reading features; then ``in_channels=None``."""
    norm: bool
    """LayerNorm in encoder and decoder; default True."""
    residual: bool
    """Residual connections in the encoder; default False."""
    jk: bool
    """Jumping-knowledge sum of the layers; default False."""
    input_dropout: float
    """On the features (the paper's code: ``xdp``); default 0."""
    dropout: float
    """In the encoder (``gnndp``); default 0."""
    tail_dropout: float
    """After the last weightless convolution (``tdp``); default 0."""
    edge_dropout: float
    """On the edges that the encoder sees (``gnnedp``); default 0."""
    pair_dropout: float
    """In the decoder (``predp``); default 0."""
    pair_edge_dropout: float
    """On the edges that the decoder sees (``preedp``); default 0."""
    use_xlin: bool
    """Transform nodes before summing them; default True."""
    tail_act: bool
    """End the decoder's branches with an activation (``tailact``); default True."""
    two_layer_lin: bool
    """One more layer before the logit (``twolayerlin``); default False."""
    beta: float
    """Initial factor of the neighbourhood branch; default 1."""


_ENCODER = (
    "conv",
    "num_embeddings",
    "norm",
    "residual",
    "jk",
    "input_dropout",
    "dropout",
    "tail_dropout",
    "edge_dropout",
)
_PAIR = {"pair_dropout": "dropout", "norm": "norm", "tail_act": "tail_act", "two_layer_lin": "two_layer_lin"}
_CN = {**_PAIR, "use_xlin": "use_xlin", "pair_edge_dropout": "edge_dropout", "beta": "beta"}


class _NCNFamily(LinkModel):
    """Shared construction: options to encoder and decoder."""

    options_type: type = NCNOptions

    def __init__(
        self,
        in_channels: int | None,
        hidden_channels: int = 256,
        num_layers: int = 1,
        *,
        compat: Compat = "clean",
        encoder: nn.Module | None = None,
        **options: Unpack[NCNOptions],
    ) -> None:
        self.compat = _check.choice("compat", compat, ("clean", "reference"))
        unknown = set(options) - set(self.options_type.__annotations__)
        if unknown:
            raise TypeError(f"{type(self).__name__}() got unexpected options {sorted(unknown)}")
        if encoder is None:
            chosen = {name: options[name] for name in _ENCODER if name in options}  # type: ignore[literal-required]
            encoder = GraphEncoder(in_channels, hidden_channels, num_layers, **chosen)
        else:
            encoder = as_encoder(encoder)
        decoder = self._make_decoder(int(encoder.out_channels), dict(options))  # type: ignore[arg-type]
        super().__init__(encoder, decoder)

    def _make_decoder(self, channels: int, options: dict[str, Any]) -> PairDecoder:
        raise TypeError("abstract")  # every subclass has its own


def _renamed(options: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {ours: options[given] for given, ours in names.items() if given in options}


class GAE(_NCNFamily):
    r"""Graph auto-encoder: :math:`s_{ij} = \mathrm{MLP}(h_i \odot h_j)`, the paper's baseline without neighbourhoods.

    ``compat="reference"`` is the released code's ``cn0``, whose head ignores ``tail_act`` and ``two_layer_lin`` (so the
    published ablation mixes the effect of the head with that of the neighbourhoods); "clean" has NCN's head.

    Args:
        in_channels: features per node, or ``None`` with ``num_embeddings``.
        hidden_channels: width of everything.
        num_layers: number of convolutions.
        compat: "clean" or "reference".
        encoder: another encoder instead of :class:`~graphmem.nn.GraphEncoder`, e.g. any PyG model.
        **options: see :class:`NCNOptions`.
    """

    def _make_decoder(self, channels: int, options: dict[str, Any]) -> PairDecoder:
        if self.compat == "reference":
            options = {**options, "tail_act": False, "two_layer_lin": False}
        return PairDecoder(channels, **_renamed(options, _PAIR))


class NCN(_NCNFamily):
    r"""Neural Common Neighbor: logits from :math:`h_i \odot h_j` and :math:`\sum_{u \in N(i) \cap N(j)} \tilde h_u`.

    Args:
        in_channels: features per node, or ``None`` with ``num_embeddings``.
        hidden_channels: width of everything.
        num_layers: number of convolutions.
        compat: no difference for this model.
        encoder: another encoder instead of :class:`~graphmem.nn.GraphEncoder`, e.g. any PyG model.
        **options: see :class:`NCNOptions`.

    Example:
        >>> model = NCN(1433, 256, jk=True, input_dropout=0.7)
        >>> logits = model(data.x, data.edge_index, data.edge_label_index)
    """

    def _make_decoder(self, channels: int, options: dict[str, Any]) -> PairDecoder:
        return CNDecoder(channels, **_renamed(options, _CN))


class _Overlap(_NCNFamily):
    decoder_class: type[CNDecoder]

    def _make_decoder(self, channels: int, options: dict[str, Any]) -> PairDecoder:
        if self.compat == "reference":
            # The released script passes these two models' arguments by position, one off: edge dropout lands in `ln`
            # and `ln` in `tailact`, and the remaining flags never arrive.
            norm = options.get("norm", True)
            options = {
                "pair_dropout": options.get("pair_dropout", 0.0),
                "norm": options.get("pair_edge_dropout", 0.0) > 0,
                "tail_act": norm,
                "use_xlin": False,
            }
        return self.decoder_class(channels, **_renamed(options, _CN))


class NCNDiff(_Overlap):
    r"""NCN with a third branch on the neighbours of one end only.

    Its input is :math:`\sum_{N(i) \setminus N(j)} \tilde h_u + \sum_{N(j) \setminus N(i)} \tilde h_u`.

    Arguments as :class:`NCN`; ``compat="reference"`` has the head that the released code gives this model.
    """

    decoder_class = CNDiffDecoder


class NCN2(_Overlap):
    r"""NCN with a third branch on :math:`\sum_{N(i) \cap N^2(j)} \tilde h_u + \sum_{N^2(i) \cap N(j)} \tilde h_u`.

    :math:`N^2` is the support of :math:`A A`. Arguments as :class:`NCN`; ``compat="reference"`` has the head that the
    released code gives this model.
    """

    decoder_class = TwoHopDecoder


class NCNCOptions(NCNOptions, total=False):
    """Options of :class:`NCNC`: those of all models, and the completion's."""

    depth: int
    """Completion steps; the paper's NCNC is 1 (default), its NCNC-2 is 2."""
    alpha: float
    """Weight of completed neighbours; default 1."""
    scale: float
    """Of the logit inside the completion probability (``probscale``); default 5, as the released code's."""
    offset: float
    """Of the logit (``proboffset``); default 3."""
    pt: float
    """Prior of the completion probability; default 0.5."""
    learn_pt: bool
    """Let a perceptron on the pair give pt; default False."""
    train_degree: int | None
    """Sample so many one-sided neighbours of each end in training (``trndeg``); default ``None``, all."""
    test_degree: int | None
    """The same in evaluation (``tstdeg``)."""
    inner_input: str
    """What the decoder of completion probabilities reads, "transformed" nodes (default) or "encoded" ones."""


class NCNC(_NCNFamily):
    """Neural Common Neighbor with Completion; equations in :class:`~graphmem.nn.CompletionDecoder`.

    Args:
        in_channels: features per node, or ``None`` with ``num_embeddings``.
        hidden_channels: width of everything.
        num_layers: number of convolutions.
        compat: "clean", or "reference" for what the released code computes.
        encoder: another encoder instead of :class:`~graphmem.nn.GraphEncoder`, e.g. any PyG model.
        **options: see :class:`NCNCOptions`.
    """

    options_type = NCNCOptions

    def __init__(
        self,
        in_channels: int | None,
        hidden_channels: int = 256,
        num_layers: int = 1,
        *,
        compat: Compat = "clean",
        encoder: nn.Module | None = None,
        **options: Unpack[NCNCOptions],
    ) -> None:
        # Only the type of the options differs.
        super().__init__(in_channels, hidden_channels, num_layers, compat=compat, encoder=encoder, **options)  # type: ignore[misc]

    def _make_decoder(self, channels: int, options: dict[str, Any]) -> PairDecoder:
        completion = {name: options[name] for name in NCNCOptions.__annotations__ if name in options}
        own = {name: value for name, value in completion.items() if name not in NCNOptions.__annotations__}
        return CompletionDecoder(channels, compat=self.compat, **_renamed(options, _CN), **own)  # type: ignore[arg-type]
