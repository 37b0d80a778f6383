"""Models: plain modules, PyG tensors in, logits out."""

from graphmem.models.apan import APAN
from graphmem.models.base import LinkModel
from graphmem.models.dyrep import DyRep
from graphmem.models.edgebank import EdgeBank, LocalGlobal, Recency
from graphmem.models.heuristics import Heuristic
from graphmem.models.jodie import JODIE
from graphmem.models.nat import NAT
from graphmem.models.ncn import GAE, NCN, NCN2, NCNC, NCNDiff
from graphmem.models.reputation import Reputation
from graphmem.models.semba import SEMBA
from graphmem.models.temporal import TemporalLinkModel
from graphmem.models.tgn import TGN
from graphmem.models.tncn import TNCN

__all__ = [
    "APAN",
    "GAE",
    "JODIE",
    "NAT",
    "NCN",
    "NCN2",
    "NCNC",
    "SEMBA",
    "TGN",
    "TNCN",
    "DyRep",
    "EdgeBank",
    "Heuristic",
    "LinkModel",
    "LocalGlobal",
    "NCNDiff",
    "Recency",
    "Reputation",
    "TemporalLinkModel",
]
