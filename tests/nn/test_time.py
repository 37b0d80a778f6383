from __future__ import annotations

import pytest
import torch
from torch_geometric.nn.models.tgn import TimeEncoder as PyGTimeEncoder

from graphmem.errors import ArgumentError
from graphmem.nn import TimeEncoder


def test_is_pygs_with_the_same_weights() -> None:
    theirs, ours = PyGTimeEncoder(7), TimeEncoder(7)
    theirs.reset_parameters()
    ours.load_state_dict(theirs.state_dict())
    dt = torch.tensor([0, 1, 5, 40])
    torch.testing.assert_close(ours(dt), theirs(dt.float()))
    assert ours(dt.view(2, 2)).shape == (2, 2, 7)


def test_initialisations() -> None:
    encoder = TimeEncoder(10, "log")
    torch.testing.assert_close(encoder.lin.weight.view(-1), 10.0 ** -torch.arange(10))
    assert torch.equal(encoder(torch.zeros(1)), torch.ones(1, 10))
    assert TimeEncoder(100).lin.weight.abs().max() <= 1
    with pytest.raises(ArgumentError, match="init"):
        TimeEncoder(3, "random")
    with pytest.raises(ArgumentError, match="out_channels"):
        TimeEncoder(0)


def test_a_second_of_unix_time_is_seen() -> None:
    """Subtracted as integers; in float32 the neighbouring stamps are 128 seconds apart."""
    encoder = TimeEncoder(4, "log")
    now = torch.tensor([1_700_000_000])
    assert not torch.equal(encoder(now + 1 - now), encoder(now - now))


def test_gradients() -> None:
    encoder = TimeEncoder(3).double()
    dt = torch.tensor([0.5, 3.0], dtype=torch.float64)
    weight, bias = encoder.lin.weight, encoder.lin.bias
    found = torch.autograd.grad(encoder(dt).sum(), (weight, bias))
    slope = -(dt.unsqueeze(1) * weight.view(-1) + bias).sin()
    torch.testing.assert_close(found[0].view(-1), (slope * dt.unsqueeze(1)).sum(0))
    torch.testing.assert_close(found[1], slope.sum(0))
