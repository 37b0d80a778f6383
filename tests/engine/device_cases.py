"""An epoch of a temporal model on a device, and what it has to leave there."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from test_event_task import LEARNING, NODES, make_model, make_stream, make_task
from torch import Tensor

from graphmem.data.stream_splits import split_stream
from graphmem.models import TemporalLinkModel
from graphmem.nn import PRES

NAMES = (*LEARNING, "tgn with PRES", "semba with PRES")
IN_MAIN_MEMORY = ("tgn", "tncn", "dyrep", "jodie")
"""Models whose state may stay on the CPU."""


class Found(NamedTuple):
    """What an epoch leaves, on the CPU."""

    losses: Tensor
    scores: Tensor
    state: dict[str, Tensor]


def build(name: str, **options: Any) -> TemporalLinkModel:
    model = make_model(name.removesuffix(" with PRES"), 2, **options)
    if name.endswith(" with PRES"):
        memory = model.correctable
        memory.correct_by(PRES(NODES, memory.width, rate="per_event"))
    return model


def epoch(model: TemporalLinkModel, device: torch.device, events: int = 240) -> Found:
    model, task = model.to(device), make_task(split_stream(make_stream(count=events, msg_dim=2))).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    torch.manual_seed(3)  # of the dropout masks, which are functions of it on every device
    task.reset(model)
    losses, scores = [], []
    for batch in task.batches("train", 1):
        optimizer.zero_grad()
        loss = task.loss(model, batch)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            task.update(model, batch)
        losses.append(loss.detach().cpu())
    model.eval()
    with torch.no_grad():
        for _, pos, negatives, _ in task.scored(model, "valid"):
            scores += [pos.cpu(), *(neg.flatten().cpu() for neg in negatives.values())]
    state = {key: value.cpu() for key, value in model.state_dict().items()}
    return Found(torch.stack(losses), torch.cat(scores), state)


def assert_same_epoch(found: Found, wanted: Found, batches: int = 8) -> None:
    """Losses, scores and real state to rounding; keys, numbers of events, times and counts exactly."""
    assert found.losses.numel() >= batches
    torch.testing.assert_close(found.losses, wanted.losses, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.scores, wanted.scores, rtol=1e-3, atol=1e-4)
    for key, value in wanted.state.items():
        if value.is_floating_point():
            torch.testing.assert_close(found.state[key], value, rtol=1e-3, atol=1e-4, msg=lambda m, k=key: f"{k}: {m}")
        else:
            assert torch.equal(found.state[key], value), key
