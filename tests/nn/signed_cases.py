"""Streams of signed events for tests, and what they do to SEMBA's memory, event by event."""

from __future__ import annotations

import dataclasses

import torch
from hypothesis import strategies as st
from torch import Tensor

from graphmem.nn import SignedMemory


@dataclasses.dataclass(frozen=True)
class SignedEvents:
    """The columns of a signed stream; ``sign`` holds -1 and 1."""

    src: Tensor
    dst: Tensor
    t: Tensor
    sign: Tensor
    msg: Tensor

    def __len__(self) -> int:
        return self.src.numel()

    def at(self, index: Tensor | slice) -> SignedEvents:
        return SignedEvents(*(getattr(self, field.name)[index] for field in dataclasses.fields(self)))

    def batches(self, size: int) -> list[SignedEvents]:
        return [self.at(slice(low, low + size)) for low in range(0, len(self), size)]

    def columns(self) -> tuple[Tensor, ...]:
        return self.src, self.dst, self.t, self.msg, self.sign


def signed_events(seed: int, count: int, nodes: int, msg_dim: int = 0, loops: bool = True) -> SignedEvents:
    g = torch.Generator().manual_seed(seed)
    src = torch.randint(nodes, (count,), generator=g)
    dst = torch.randint(nodes, (count,), generator=g)
    if not loops:
        dst = torch.where(dst == src, (dst + 1) % nodes, dst)
    t = 5 + torch.randint(3, (count,), generator=g).cumsum(0)
    sign = 1 - 2 * (torch.rand(count, generator=g) < 0.4).long()
    return SignedEvents(src, dst, t, sign, torch.randn(count, msg_dim, generator=g))


@st.composite
def streams(draw: st.DrawFn, loops: bool = True) -> tuple[SignedEvents, int, int]:
    """Events, number of nodes, size of batches."""
    nodes = draw(st.integers(2, 7))
    events = signed_events(draw(st.integers(0, 10_000)), draw(st.integers(1, 30)), nodes, 2, loops)
    return events, nodes, draw(st.integers(1, 9))


class SlowMemory:
    """The equations, with lists and loops; a batch is applied at once."""

    def __init__(self, model: SignedMemory) -> None:
        self.model = model
        self.state = torch.zeros(model.num_nodes, 2, model.memory_dim)
        self.clock: list[dict[int, int]] = [{} for _ in range(model.num_nodes)]

    def apply(self, batch: SignedEvents) -> None:
        found: dict[tuple[int, int], list[Tensor]] = {}
        ticks: list[tuple[int, int, int]] = []
        for e in range(len(batch)):
            sign, t = int(batch.sign[e]), int(batch.t[e])
            ends = int(batch.src[e]), int(batch.dst[e])
            for i, j in (ends, ends[::-1]):
                code = self._code(i, sign, t)
                for side, slot in self._wiring(sign):
                    parts = (self.state[i, side], self.state[j, slot], batch.msg[e], code)
                    found.setdefault((i, side), []).append(torch.cat(parts))
                ticks.append((i, sign, t))
        after = self.state.clone()
        for (i, side), messages in found.items():
            cell = (self.model.cell_pos, self.model.cell_neg)[side]
            message = messages[-1] if self.model.aggr == "last" else torch.stack(messages).mean(0)
            after[i, side] = cell(message.unsqueeze(0), self.state[i, side].unsqueeze(0))[0]
        self.state = after
        for i, sign, t in ticks:
            self.clock[i][sign] = t

    def _wiring(self, sign: int) -> list[tuple[int, int]]:
        """Which state of the other end each of mine reads: pairs (mine, the other's)."""
        if self.model.compat == "released":
            return [(0, 0)] if sign > 0 else [(0, 1), (1, 1), (1, 0)]
        return [(0, 0), (1, 1)] if sign > 0 else [(0, 1), (1, 0)]

    def _code(self, i: int, sign: int, t: int) -> Tensor:
        known = self.clock[i]
        since = known.get(sign) if self.model.clock == "sign" else max(known.values(), default=None)
        if since is None:
            return torch.zeros(self.model.time_enc.out_channels)
        step = torch.tensor(float(t - since), dtype=torch.float64)
        scale = self.model.time_scale
        return self.model.time_enc(step.log1p() if scale is None else step / scale)
