"""PRES in every temporal model and in PyG's memory: nothing changes with batches of one; what its rivals compute."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from temporal_cases import Events, random_events
from torch import Tensor, nn
from torch_geometric.nn.models import tgn as pyg

from graphmem.data.stream import EventStream
from graphmem.data.stream_splits import split_stream
from graphmem.engine.event_task import TemporalLinkTask
from graphmem.errors import ArgumentError, ArgumentTypeError
from graphmem.models import APAN, JODIE, NAT, SEMBA, TGN, TNCN, DyRep, TemporalLinkModel
from graphmem.nn import PRES, NodeMemory, SignedMemory, wrap_memory
from graphmem.ops import t_batches

NODES, MSG, DIM = 14, 3, 6
SMALL = {"memory_dim": DIM, "time_dim": 4, "num_neighbors": 3}
FAMILIES: dict[str, Callable[[], TemporalLinkModel]] = {
    "tgn": lambda: TGN(NODES, MSG, embedding_dim=DIM, **SMALL),
    "tgn-mean": lambda: TGN(NODES, MSG, embedding_dim=DIM, aggregator_module="mean", mailbox=3, **SMALL),
    "tgn-reference": lambda: TGN(NODES, MSG, embedding_dim=DIM, compat="reference", **SMALL),
    "tncn": lambda: TNCN(NODES, MSG, embedding_dim=DIM, **SMALL),
    "dyrep": lambda: DyRep(NODES, MSG, **SMALL),
    "jodie": lambda: JODIE(NODES, MSG, memory_dim=DIM, time_dim=4, time_scale=3.0),
    "semba": lambda: SEMBA(NODES, MSG, memory_dim=DIM // 2, time_dim=4, embedding_dim=8, heads=2, num_neighbors=3),
    "apan": lambda: APAN(NODES, MSG, embedding_dim=DIM, time_dim=4, num_neighbors=3),
}


def trained(
    name: str, size: int, pres: dict[str, Any] | None, steps: int = 200, change: Callable[[Events], None] | None = None
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Scores of each batch before its update, and the state at the end; the last quarter in evaluation mode."""
    torch.manual_seed(0)
    model = FAMILIES[name]()
    events = random_events(1, steps, NODES, MSG, torch.float32)
    if pres is not None:
        model.correct_by(PRES(NODES, DIM, **pres))
        model.correctable.fit_pres(events.src, events.dst, events.t)
    model.prepare(events)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    torch.manual_seed(1)
    scores = []
    for batch in events.batches(size):
        model.train(batch.first < 0.75 * steps)
        score = model.score(batch.src, torch.stack((batch.dst, (batch.dst + 3) % NODES), 1), batch.t)
        if model.training:
            optimizer.zero_grad()
            loss, more = score.diff(dim=1).sigmoid().mean(), model.aux_loss()
            (loss if more is None else loss + more).backward()
            optimizer.step()
        model.update(batch)
        scores.append(score.detach())
    own = {k: v for k, v in model.state_dict().items() if "pres" not in k and k != "z_time"}
    return scores, own


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("size", "pres"),
    [
        (1, {}),
        (1, {"gate": "kalman", "rate": "per_event"}),
        (20, {"gate": "fixed", "alpha": 1, "beta": 0}),
        (20, {"gate": "fixed", "alpha": 0, "beta": 0, "min_count": 10_000}),
    ],
)
def test_the_base_model_bit_for_bit(name: str, size: int, pres: dict[str, Any]) -> None:
    scores, state = trained(name, size, None)
    found, with_pres = trained(name, size, pres)
    assert all(torch.equal(a, b) for a, b in zip(scores, found, strict=True))
    assert state.keys() == with_pres.keys()
    assert all(torch.equal(value, with_pres[key]) for key, value in state.items())


@pytest.mark.parametrize("name", FAMILIES)
def test_larger_batches_do_change(name: str) -> None:
    scores, _ = trained(name, 20, None)
    for pres in ({"beta": 0, "alpha": 0.5}, {"gate": "fixed", "alpha": 1, "beta": 0.5}):
        found, _ = trained(name, 20, pres)
        assert torch.equal(scores[0], found[0])
        assert not torch.equal(scores[-1], found[-1])
        assert all(part.isfinite().all() for part in found)


def test_without_the_mask_batches_of_one_change_too() -> None:
    scores, _ = trained("tgn", 1, None)
    found, _ = trained("tgn", 1, {"only_pending": False, "rate": "per_event"})
    assert not torch.equal(scores[-1], found[-1])


def stream(count: int = 240) -> EventStream:
    events = random_events(2, count, NODES, MSG, torch.float32)
    return EventStream(events.src, events.dst, events.t, NODES, msg=events.msg)


def test_epochs_repeat_where_nothing_is_learned() -> None:
    torch.manual_seed(0)
    model = FAMILIES["tgn"]().eval()  # no dropout
    task = TemporalLinkTask(split_stream(stream()), batch_size=24)
    model.correct_by(PRES(NODES, DIM, rate="per_event", alpha=0.5))
    losses = []
    for _ in range(2):
        task.reset(model)
        losses.append([])
        for batch in task.batches("train", 1):
            model.train()
            model.attention.eval()
            losses[-1].append(float(task.loss(model, batch).detach()))
            with torch.no_grad():
                task.update(model, batch)
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == len(losses[0])


def test_the_loss_of_a_task_has_the_coherence() -> None:
    torch.manual_seed(0)
    model = FAMILIES["jodie"]()
    task = TemporalLinkTask(split_stream(stream()), batch_size=24)
    task.reset(model)
    plain = copy.deepcopy(model)
    model.correct_by(PRES(NODES, DIM, gate="fixed", alpha=1, beta=0.3, tau=3.0))
    for batch in task.batches("train", 1):
        more = model.aux_loss()
        expected = task.loss(plain, batch) + (0 if more is None else more)
        torch.testing.assert_close(task.loss(model, batch), expected)
        for each in (model, plain):
            task.update(each, batch)
    assert more is not None


def test_evaluation_batches_of_their_own_size() -> None:
    torch.manual_seed(0)
    model = FAMILIES["tgn"]().eval()
    split = split_stream(stream())
    found = []
    for sizes in ({"batch_size": 8}, {"batch_size": 8, "eval_batch_size": 24}, {"batch_size": 24}):
        task = TemporalLinkTask(split, **sizes)
        task.reset(model)
        with torch.no_grad():
            windows = [len(events) for events, *_ in task.scored(model, "valid")]
        assert max(windows) == task.eval_batch_size
        found.append(task.protocol)
    assert "eval_batch_size" not in found[0]
    assert found[1]["eval_batch_size"] == 24
    with pytest.raises(ArgumentError, match="^eval_batch_size"):
        TemporalLinkTask(split, eval_batch_size=0)


@pytest.mark.parametrize("clock", ["sign", "node"])
def test_semba_does_not_know_where_times_begin(clock: str) -> None:
    """Scores, states and rates with PRES per time are the same for times that all are shifted."""
    events = random_events(9, 160, NODES, MSG, torch.float32)
    found = []
    for shift in (0, 10, 10**9, -(10**6)):
        torch.manual_seed(0)
        options: dict[str, Any] = {"memory_dim": DIM // 2, "time_dim": 4, "embedding_dim": 8, "heads": 2}
        model = SEMBA(NODES, MSG, num_neighbors=3, clock=clock, **options)
        model.correct_by(PRES(NODES, DIM, alpha=0.3))
        times = events.t + shift
        model.correctable.fit_pres(events.src, events.dst, times)
        one = []
        for batch in dataclasses.replace(events, t=times).batches(20):
            model.train(batch.first < 120)
            torch.manual_seed(batch.first)  # dropout
            one.append(model.score(batch.src, batch.dst.unsqueeze(1), batch.t).detach())
            more = model.aux_loss()
            one.append(torch.zeros(()) if more is None else more.detach())
            model.update(batch)
        pres = model.correctable.pres
        assert pres is not None
        assert pres.rates.n.sum() > 0
        found.append([*one, pres.rates.mean.clone(), pres.rates.n.clone(), pres.scale.clone()])
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_apan_observes_the_time_since_a_first_event() -> None:
    """There the first event is stored before its mail is read: the next update spans the time between the two."""
    torch.manual_seed(0)
    model = APAN(NODES, 0, embedding_dim=DIM, time_dim=4, num_neighbors=3, time_scale=3.0)
    model.correct_by(PRES(NODES, DIM, tau=1.0))
    pair = torch.tensor([0]), torch.tensor([1])
    for k, wanted in enumerate((0, 1, 2)):
        model.update(Events(*pair, torch.tensor([10**9 + k]), torch.empty(1, 0), first=k))
        assert model.pres is not None
        assert model.pres.rates.n[:2].flatten().tolist() == [wanted, wanted]


def test_all_who_get_mail_of_an_affected_event_are_affected() -> None:
    """In APAN: neighbours of its ends, too, of which the batch has no event."""
    torch.manual_seed(0)
    model = APAN(NODES, 0, embedding_dim=DIM, time_dim=4, num_neighbors=3, time_scale=3.0)
    model.correct_by(PRES(NODES, DIM, rate="per_event"))
    assert model.pres is not None
    waiting = model.pres.waiting

    def show(first: int, *pairs: tuple[int, int]) -> None:
        src, dst = torch.tensor(pairs).unbind(1)
        count = len(pairs)
        model.update(Events(src, dst, torch.arange(count) + first, torch.empty(count, 0), first=first))

    show(0, (0, 5), (1, 6), (2, 7))  # no common ends
    assert not waiting.affected.any()
    show(3, (0, 1), (0, 2))  # the second has a pending event
    # Mail of the second: 0, 2 and their neighbours 5 and 7; of the first alone: 1 and its neighbour 6.
    assert waiting.affected.nonzero().view(-1).tolist() == [0, 2, 5, 7]
    assert waiting.recent.tolist() == [0, 2, 5, 7]
    assert waiting.count[:8].tolist() == [2, 1, 1, 0, 0, 2, 1, 1]


def test_kinds_of_signed_events_are_their_signs() -> None:
    model = FAMILIES["semba"]()
    model.correct_by(PRES(NODES, DIM, 2, rate="per_event"))
    events = random_events(8, 30, NODES, MSG, torch.float32)
    model.update(events)
    kinds = torch.zeros(NODES, 2, dtype=torch.int64)
    for i, j, weight in zip(events.src.tolist(), events.dst.tolist(), events.weight.tolist(), strict=True):
        for node in {i, j}:
            kinds[node, int(weight < 0)] += 1
    assert torch.equal(model.correctable.pres.waiting.kinds, kinds)
    with pytest.raises(ArgumentError, match="^pres"):
        SEMBA(NODES, features="history").correct_by(PRES(NODES, DIM))


@pytest.mark.parametrize("name", FAMILIES)
def test_kinds_that_pres_does_not_know_change_nothing(name: str) -> None:
    torch.manual_seed(0)
    model = FAMILIES[name]()
    model.correct_by(PRES(NODES, DIM, 2, rate="per_event"))
    events = random_events(8, 60, NODES, MSG, torch.float32)
    model.prepare(events)
    first, second, third = events.batches(20)
    for batch in (first, second):
        model.update(dataclasses.replace(batch, edge_type=torch.arange(20) % 2))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for kinds in (torch.arange(20) % 2 + 7 * (torch.arange(20) == 19), torch.zeros(19, dtype=torch.int64)):
        with pytest.raises(ArgumentError, match="^types: expected"):
            model.update(dataclasses.replace(third, edge_type=kinds))
        assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_memories_check_kinds_first_too() -> None:
    events = random_events(8, 40, NODES, MSG, torch.float32)
    signed = SignedMemory(NODES, MSG, DIM // 2, 4)
    signed.correct_by(PRES(NODES, DIM, 2, rate="per_event"))
    memories: list[Any] = [NodeMemory(NODES, MSG, DIM, 4, t_batches=True), pyg_memory({"num_types": 2}), signed]
    memories[0].correct_by(PRES(NODES, DIM, 2, rate="per_event"))
    for memory in memories:
        more = {"sign": events.sign} if memory is signed else {}
        columns, kinds = (events.src, events.dst, events.t, events.msg), torch.arange(40) % 2
        memory.update_state(*columns, types=kinds, **more)
        before = {key: value.clone() for key, value in memory.state_dict().items()}
        with pytest.raises(ArgumentError, match="^types: expected"):
            memory.update_state(*columns, types=kinds + 1, **more)
        assert all(torch.equal(before[key], value) for key, value in memory.state_dict().items())


def test_a_model_without_memory_is_refused() -> None:
    with pytest.raises(ArgumentError, match="^pres"):
        NAT(NODES).correct_by(PRES(NODES, DIM))
    with pytest.raises(ArgumentTypeError, match="^memory"):
        wrap_memory(nn.Linear(2, 2), PRES(NODES, DIM))


# PyG's memory


def pyg_memory(pres: dict[str, Any] | None = None) -> Any:
    torch.manual_seed(0)
    parts = pyg.IdentityMessage(MSG, DIM, 4), pyg.LastAggregator()
    memory = pyg.TGNMemory(NODES, MSG, DIM, 4, *parts)
    return memory if pres is None else wrap_memory(memory, PRES(NODES, DIM, tau=3.0, **pres))


def pyg_walk(memory: Any, size: int, steps: int = 200) -> list[Tensor]:
    """States and gradients, as PyG's example goes through a stream: the update comes before the backward pass."""
    memory.reset_state()
    seen = []
    for batch in random_events(3, steps, NODES, MSG, torch.float32).batches(size):
        memory.train(batch.first < 0.75 * steps)
        nodes = torch.cat((batch.src, batch.dst, torch.arange(NODES))).unique()
        z, last = memory(nodes)
        memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
        inner = getattr(memory, "tgn", memory)
        seen += [z.detach(), last, inner.memory.detach().clone()]
        if inner.training:
            grads = torch.autograd.grad(z.sum(), list(inner.gru.parameters()), allow_unused=True)
            seen += [g for g in grads if g is not None]
            memory.detach()
    return seen


@pytest.mark.parametrize(("size", "pres"), [(1, {}), (20, {"gate": "fixed", "alpha": 1, "beta": 0})])
def test_pygs_memory_bit_for_bit(size: int, pres: dict[str, Any]) -> None:
    plain, found = pyg_walk(pyg_memory(), size), pyg_walk(pyg_memory(pres), size)
    assert len(plain) == len(found)
    assert all(torch.equal(a, b) for a, b in zip(plain, found, strict=True))


def test_pygs_memory_is_corrected() -> None:
    plain, memory = pyg_walk(pyg_memory(), 20), pyg_memory({"alpha": 0.5, "rate": "per_event"})
    found = pyg_walk(memory, 20)
    assert not torch.equal(plain[-1], found[-1])
    assert all(x.isfinite().all() for x in found)
    assert memory.pres.rates.n.sum() > 0
    memory.train()
    batch = random_events(4, 20, NODES, MSG, torch.float32)
    for _ in range(2):
        memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
    memory.detach()
    memory.aux_loss().backward()
    assert memory.tgn.gru.weight_ih.grad.any()
    saved = {name: value.clone() for name, value in memory.state_dict().items()}
    again = pyg_memory({"rate": "per_event"})
    again.load_state_dict(saved)
    assert torch.equal(again.pres.rates.mean, memory.pres.rates.mean)
    memory.reset_state()
    assert not memory.pres.rates.n.any()


def test_mail_that_pyg_does_not_save_is_not_waited_for() -> None:
    memory = pyg_memory({"alpha": 0.5, "only_pending": False})
    first, second, third = random_events(4, 60, NODES, MSG, torch.float32).batches(20)
    for batch in (first, second):
        memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
        memory.detach()
    assert memory.pres.waiting.count.any()
    again = pyg_memory({"alpha": 0.5, "only_pending": False})
    again.load_state_dict({name: value.clone() for name, value in memory.state_dict().items()})
    assert not again.pres.waiting.count.any()
    assert again.aux_loss() is None
    before = again.pres.rates.n.clone()
    again.update_state(third.src, third.dst, third.t, third.msg)
    assert torch.equal(again.pres.rates.n, before)  # what was lost is not observed


# Rivals


@pytest.mark.parametrize("mode", [{}, {"commit": "eager"}])
def test_t_batches_give_the_memory_of_single_events(mode: dict[str, Any]) -> None:
    """Where mail is read at once: in evaluation, and where that is asked for."""
    events = random_events(5, 60, NODES, MSG, torch.float32)
    found = []
    for size, options in ((1, {}), (20, {"t_batches": True})):
        torch.manual_seed(0)
        memory = NodeMemory(NODES, MSG, DIM, 4, **options, **mode).train(bool(mode))
        for batch in events.batches(size):
            memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
        found.append(memory)
    torch.testing.assert_close(found[0].memory, found[1].memory)
    assert torch.equal(found[0].last_update, found[1].last_update)


def test_t_batches_share_no_ends_and_keep_the_order() -> None:
    events = random_events(6, 80, NODES, MSG)
    parts = t_batches(events.src, events.dst)
    assert torch.cat(parts).sort().values.tolist() == list(range(80))
    place = {e: k for k, part in enumerate(parts) for e in part.tolist()}
    ends = list(zip(events.src.tolist(), events.dst.tolist(), strict=True))
    for e, pair in enumerate(ends):
        before = [place[f] for f in range(e) if set(ends[f]) & set(pair)]
        assert place[e] == max(before, default=-1) + 1
    assert t_batches(*torch.empty(2, 0, dtype=torch.int64)) == []


def test_updates_in_turn() -> None:
    """Each half event of a node updates the state behind the one before; others are as before the batch."""
    events = random_events(7, 20, NODES, MSG, torch.float32)
    torch.manual_seed(0)
    memory = NodeMemory(NODES, MSG, DIM, 4, aggregator_module="sequence", mailbox=40)
    with torch.no_grad():
        memory.memory.normal_()
    before = memory.memory.clone()
    memory.update_state(events.src, events.dst, events.t, events.msg)
    states, times = list(before), [0] * NODES
    for i, j, t, msg in zip(events.src.tolist(), events.dst.tolist(), events.t.tolist(), events.msg, strict=True):
        for node, other in ((i, j), (j, i)):
            code = memory.time_enc(torch.tensor([t - times[node]]))[0]
            message = torch.cat((states[node], before[other], msg, code))
            states[node], times[node] = memory.updater(message[None], states[node][None])[0], t
    z, last = memory(torch.arange(NODES))
    torch.testing.assert_close(z, torch.stack(states), rtol=1e-5, atol=1e-6)
    assert last.tolist() == times
    parameters = list(memory.updater.parameters())
    for got, want in zip(
        torch.autograd.grad(z.sin().sum(), parameters),
        torch.autograd.grad(torch.stack(states).sin().sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    assert torch.equal(memory.memory, before)
