"""Attention over recent events: PyG's TransformerConv on the same edges, and what absent events must not do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch_geometric.nn import TransformerConv

from graphmem.errors import ArgumentError
from graphmem.nn import TemporalAttention, TimeEncoder

NODES, IN, OUT, TIME, MSG, K = 12, 5, 8, 6, 3, 4


def build(msg_dim: int = MSG, dropout: float = 0.0) -> TemporalAttention:
    torch.manual_seed(1)
    return TemporalAttention(IN, OUT, msg_dim, TimeEncoder(TIME), dropout=dropout).double()


def narrow() -> TemporalAttention:
    """Heads so narrow that queries are computed first, and their products with the keys then."""
    torch.manual_seed(1)
    module = TemporalAttention(24, OUT, MSG, TimeEncoder(TIME), heads=4, dropout=0.0).double()
    assert not module._fold
    assert build()._fold
    return module


def events(roots: int, msg_dim: int = MSG) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(2)
    nbr = torch.randint(-1, NODES, (roots, K))
    nbr[0] = -1
    return nbr, torch.randint(-9, 9, (roots, K)), torch.randn(roots, K, msg_dim, dtype=torch.float64)


def table(msg: Tensor) -> tuple[Tensor, Tensor]:
    """Messages [n, k, D] as a table and the rows of it."""
    return msg.flatten(0, 1), torch.arange(msg.size(0) * msg.size(1)).view(msg.shape[:2])


@pytest.mark.parametrize("msg_dim", [0, MSG])
def test_is_transformer_conv(msg_dim: int) -> None:
    ours = build(msg_dim)
    theirs = TransformerConv(IN, OUT // 2, heads=2, edge_dim=TIME + msg_dim).double()
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert (sorted(missing), unexpected) == (["time_enc.lin.bias", "time_enc.lin.weight"], ["lin_key.bias"])
    root = torch.tensor([3, 0, 7, 7, 1])
    nbr, dt, msg = events(5, msg_dim)
    outcome = []
    for module in (ours, theirs):
        x = torch.randn(NODES, IN, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
        if module is ours:
            out = ours(x, nbr, dt, *table(msg), root)
        else:  # one more node a root, so that a root may come twice
            there = nbr >= 0
            place = torch.arange(5).unsqueeze(1).expand_as(nbr)[there]
            edge_attr = torch.cat((ours.time_enc(dt), msg), -1)[there]
            out = theirs((x, x[root]), torch.stack((nbr[there], place)), edge_attr)
        weight = torch.arange(out.numel()).view_as(out).sin()
        parameters = [
            p for name, p in module.named_parameters() if "lin_key.bias" not in name and "time_enc" not in name
        ]
        time_parameters = list(ours.time_enc.parameters())
        outcome.append([out, *torch.autograd.grad((out * weight).sum(), [x, *parameters, *time_parameters])])
    names = {name for name, _ in ours.named_parameters()}
    assert len(outcome[0]) == len(outcome[1]) == 2 + len(names)
    for got, want in zip(*outcome, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_narrow_heads_are_transformer_conv() -> None:
    ours = narrow()
    theirs = TransformerConv(24, OUT // 4, heads=4, edge_dim=TIME + MSG).double()
    own = {name: weight for name, weight in ours.state_dict().items() if not name.startswith("time_enc")}
    theirs.load_state_dict({"lin_key.bias": torch.zeros(OUT, dtype=torch.float64), **own})
    nbr, dt, msg = events(5)
    x, there = torch.randn(NODES, 24, dtype=torch.float64), nbr >= 0
    place = torch.arange(5).unsqueeze(1).expand_as(nbr)[there]
    edge_attr = torch.cat((ours.time_enc(dt), msg), -1)[there]
    outs = ours(x, nbr, dt, *table(msg)), theirs((x, x[:5]), torch.stack((nbr[there], place)), edge_attr)
    weight = torch.arange(outs[0].numel()).view_as(outs[0]).sin()
    torch.testing.assert_close(*outs)
    for name, parameter in ours.named_parameters():
        if not name.startswith("time_enc"):
            found = torch.autograd.grad((outs[0] * weight).sum(), parameter, retain_graph=True)[0]
            want = torch.autograd.grad((outs[1] * weight).sum(), theirs.get_parameter(name), retain_graph=True)[0]
            torch.testing.assert_close(found, want)


@pytest.mark.parametrize("make", [build, narrow])
def test_lists_of_any_length(make: Callable[[], TemporalAttention]) -> None:
    module = make()
    torch.manual_seed(3)
    length = torch.tensor([0, 4, 1, 70, 0, 17, 5, 16])
    count = int(length.sum())
    x = torch.randn(NODES, module.in_channels, dtype=torch.float64).requires_grad_()
    nbr, dt, msg = torch.randint(NODES, (count,)), torch.randint(-9, 9, (count,)), torch.randn(count, MSG).double()
    at = (length.cumsum(0) - length).unsqueeze(1) + torch.arange(70)
    there = torch.arange(70) < length.unsqueeze(1)
    at = at.where(there, 0)
    padded = module(x, nbr[at].where(there, -1), dt[at], msg, at)
    lists = module.over_lists(x, length, nbr, dt, msg)
    torch.testing.assert_close(lists, padded)
    for got, want in zip(*(torch.autograd.grad(out.square().sum(), x) for out in (lists, padded)), strict=True):
        torch.testing.assert_close(got, want)
    none = torch.empty(0, dtype=torch.int64)
    assert module.over_lists(x, none, none, none, msg[:0]).shape == (0, OUT)


def test_lists_without_messages() -> None:
    module, length = build(0), torch.tensor([2, 0, 1])
    x, nbr, dt = torch.randn(NODES, IN, dtype=torch.float64), torch.tensor([4, 5, 6]), torch.tensor([1, 2, 3])
    padded = module(x, torch.tensor([[4, 5], [-1, -1], [6, -1]]), torch.tensor([[1, 2], [0, 0], [3, 0]]))
    torch.testing.assert_close(module.over_lists(x, length, nbr, dt), padded)


def test_a_node_without_events_keeps_its_skip_term() -> None:
    module, x = build(), torch.randn(NODES, IN, dtype=torch.float64)
    nbr, dt, msg = events(5)
    out = module(x, nbr, dt, *table(msg))
    torch.testing.assert_close(out[0], module.lin_skip(x[0]))
    garbage = torch.where(nbr < 0, 10**6, dt)
    assert torch.equal(out, module(x, nbr, garbage, *table(msg)))
    assert torch.isfinite(torch.autograd.grad(out.sum(), module.lin_key.weight)[0]).all()


def test_order_and_padding_do_not_matter() -> None:
    module, x = build(), torch.randn(NODES, IN, dtype=torch.float64)
    nbr, dt, msg = events(5)
    turned = module(x, nbr.flip(1), dt.flip(1), *table(msg.flip(1)))
    torch.testing.assert_close(module(x, nbr, dt, *table(msg)), turned)
    wider = [torch.cat((part, part[:, :2]), 1) for part in (nbr, dt, msg)]
    wider[0][:, K:] = -1
    torch.testing.assert_close(module(x, *wider[:2], *table(wider[2])), turned)


def test_dropout_hits_whole_coefficients_and_only_in_training() -> None:
    module, x = build(dropout=0.5), torch.randn(NODES, IN, dtype=torch.float64)
    nbr, dt, msg = events(5)
    run = lambda: module(x, nbr, dt, *table(msg))  # noqa: E731
    mean = torch.stack([run().detach() for _ in range(4000)]).mean(0)
    module.eval()
    assert torch.equal(run(), run())
    torch.testing.assert_close(mean, run(), rtol=0, atol=0.1)


def test_frozen_weights_are_those_that_are_there() -> None:
    """The bits of an attention that keeps nothing, through every way in which weights change."""
    plain, frozen = build(), build()
    frozen.freeze()
    nbr, dt, msg = events(5)
    x = torch.randn(NODES, IN, dtype=torch.float64)

    def check() -> None:
        messages, eid = table(msg.to(x.dtype))
        for _ in range(2):
            expected = plain(x, nbr, dt, messages, eid)
            with torch.inference_mode():
                assert torch.equal(frozen(x, nbr, dt, messages, eid), expected)
            with torch.no_grad():
                assert torch.equal(frozen(x, nbr, dt, messages, eid), expected)

    check()
    for module in (plain, frozen):
        optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
        module(x, nbr, dt, *table(msg)).sum().backward()
        optimizer.step()
    check()
    other = {name: value + 1 for name, value in plain.state_dict().items()}
    for module in (plain, frozen):
        module.load_state_dict(other)
    check()
    with torch.no_grad():
        for module in (plain, frozen):
            module.lin_query.bias.mul_(2)
    check()
    x = x.float()
    plain.float(), frozen.float()
    check()


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ArgumentError, match="out_channels: expected a multiple of heads = 3, got 8"):
        TemporalAttention(IN, 8, 0, TimeEncoder(2), heads=3)
    nbr, dt, _ = events(5)
    with pytest.raises(ArgumentError, match=r"messages and eid: expected"):
        build()(torch.randn(NODES, IN, dtype=torch.float64), nbr, dt)
