"""``compat="reference"`` against PyG's TGNMemory: states, times and gradients of both modes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memory_cases import DIM, MSG, NODES, TIME, stream
from torch import Tensor, nn
from torch_geometric.nn.models import tgn as pyg

from graphmem.nn import NodeMemory

SIZE = 8


@pytest.fixture(autouse=True, scope="module")
def argmax_of_empty_groups() -> Any:
    """PyG without torch-scatter names entry ``dim_size - 1`` as the last message of a node without mail, and reads it
    where there are so many; torch-scatter names an entry that does not exist. The latter is what is meant.
    """
    original = pyg.scatter_argmax

    def scatter_argmax(src: Tensor, index: Tensor, dim: int = 0, dim_size: int | None = None) -> Tensor:
        found = original(src, index, dim, dim_size)
        has = torch.zeros(found.numel(), dtype=torch.bool)
        has[index] = True
        return torch.where(has, found, src.numel())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyg, "scatter_argmax", scatter_argmax)
        yield


class Perceptron(nn.Module):
    """A message with weights of its own in each role."""

    def __init__(self) -> None:
        super().__init__()
        self.out_channels = 6
        self.lin = nn.Linear(MSG + 2 * DIM + TIME, 6)

    def reset_parameters(self) -> None:
        self.lin.reset_parameters()

    def forward(self, z_src: Tensor, z_dst: Tensor, raw_msg: Tensor, t_enc: Tensor) -> Tensor:
        return self.lin(torch.cat((z_src, z_dst, raw_msg, t_enc), -1)).relu()


class MaxAggregator(nn.Module):
    def forward(self, msg: Tensor, index: Tensor, t: Tensor, dim_size: int) -> Tensor:
        out = msg.new_zeros(dim_size, msg.size(1))
        return out.scatter_reduce(0, index.unsqueeze(1).expand_as(msg), msg, "amax", include_self=False)


def pair(message: str, aggregator: str, seed: int) -> tuple[pyg.TGNMemory, NodeMemory]:
    torch.manual_seed(seed)
    module = Perceptron() if message == "perceptron" else pyg.IdentityMessage(MSG, DIM, TIME)
    aggregate = {"last": pyg.LastAggregator, "mean": pyg.MeanAggregator, "max": MaxAggregator}[aggregator]()
    theirs = pyg.TGNMemory(NODES, MSG, DIM, TIME, module, aggregate)
    mailbox = 1 if aggregator == "last" else 2 * SIZE
    ours = NodeMemory(NODES, MSG, DIM, TIME, module, aggregate, mailbox=mailbox, compat="reference")
    weights = {name.replace("gru.", "updater."): value for name, value in theirs.state_dict().items()}
    missing, unexpected = ours.load_state_dict(weights, strict=False)
    assert unexpected == ["_assoc"]
    assert all(name.startswith("mail") for name in missing)
    theirs.double().reset_state()  # its empty messages have the dtype of the memory
    return theirs, ours.double()


def named(module: nn.Module) -> dict[str, Tensor]:
    return {name.replace("gru.", "updater."): p for name, p in module.named_parameters()}


@given(
    seed=st.integers(0, 999),
    message=st.sampled_from(("identity", "perceptron")),
    aggregator=st.sampled_from(("last", "mean", "max")),
    step=st.sampled_from((1, 2, 5)),
    evaluate=st.integers(1, 4),
)
def test_states_times_and_gradients(seed: int, message: str, aggregator: str, step: int, evaluate: int) -> None:
    theirs, ours = pair(message, aggregator, seed)
    for k, batch in enumerate(stream(seed, 6, SIZE, step=step)):
        for module in (theirs, ours):
            module.train(k < evaluate or k == 5)  # training, evaluation, and training again without a reset
        n_id = torch.randperm(NODES, generator=torch.Generator().manual_seed(k))[: NODES - 2]
        found = []
        for module in (theirs, ours):
            z, t = module(n_id)
            module.update_state(
                batch.src, batch.dst, batch.t, batch.msg.double()
            )  # before the backward pass, as PyG does
            parameters = named(module)
            if module.training:
                loss = (z * torch.arange(z.numel()).view_as(z).sin()).sum()
                grads = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            else:
                grads = (None,) * len(parameters)
            module.detach()
            shown = {name: torch.zeros(()) if g is None else g for name, g in zip(parameters, grads, strict=True)}
            found.append({"z": z, "t": t, "memory": module.memory, "last_update": module.last_update, **shown})
        assert found[0].keys() == found[1].keys()
        for name, want in found[0].items():
            got = found[1][name]
            if want.dim() == 0 or got.dim() == 0:  # no gradient on one side, zeros on the other
                want, got = want.abs().sum(), got.abs().sum()
            torch.testing.assert_close(got, want.to(got.dtype), rtol=1e-9, atol=1e-9, msg=name)


def test_clean_mode_is_pygs_on_bipartite_streams() -> None:
    """Where both agree: sources and destinations are apart, and a zero message leaves an empty state empty."""
    theirs, _ = pair("identity", "last", 0)
    with torch.no_grad():
        theirs.gru.bias_ih.zero_()
        theirs.gru.bias_hh.zero_()
    ours = NodeMemory(NODES, MSG, DIM, TIME).double()
    weights = {name.replace("gru.", "updater."): value for name, value in theirs.state_dict().items()}
    ours.load_state_dict(weights, strict=False)
    for batch in stream(1, 6, nodes=4):
        for module in (theirs, ours):
            module.update_state(batch.src, batch.dst + 5, batch.t, batch.msg.double())
            module.detach()
        for got, want in zip(ours(torch.arange(NODES)), theirs(torch.arange(NODES)), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
