"""Decoders against the equations on dense matrices, and their shortcuts against the long way."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dense_ncn import DenseDecoder
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import SEEDS, features
from torch import Tensor

from graphmem import ops
from graphmem.data.graph import CSRGraph
from graphmem.errors import ArgumentError
from graphmem.nn import CNDecoder, CNDiffDecoder, CompletionDecoder, Memo, PairDecoder, TwoHopDecoder
from graphmem.nn import completion as completion_module
from graphmem.nn import decoder as decoder_module
from graphmem.nn.completion import unique_logits
from graphmem.nn.decoder import Neighborhoods, compact_nodes, work_chunks
from graphmem.nn.functional import gather_rows
from graphmem.nn.heads import CNBranch, evaluating

CHANNELS = 5
CALIBRATION = {"alpha": 0.8, "scale": 3.0, "offset": 0.1, "pt": 0.6}
HEADS: dict[str, dict[str, Any]] = {
    "default": {},
    "tail": {"tail_act": False, "two_layer_lin": True},
    "plain": {"norm": False, "beta": 0.4},
}
NCNC: dict[str, dict[str, Any]] = {
    "ncnc1-clean": {},
    "ncnc1-encoded": {"inner_input": "encoded"},
    "ncnc1-reference": {"compat": "reference"},
    "ncnc2-clean-pt": {"depth": 2, "learn_pt": True},
    "ncnc2-encoded": {"depth": 2, "inner_input": "encoded"},
    "ncnc2-reference": {"depth": 2, "compat": "reference"},
    "ncnc1-reference-pt": {"compat": "reference", "learn_pt": True},
}
KINDS = ("gae", "ncn", "ncn-bare", "diff", "two-hop", *NCNC)


def make(kind: str, head: str = "default", **more: Any) -> PairDecoder:
    options = {**HEADS[head], **more}
    torch.manual_seed(len(kind) + len(head))
    if kind == "gae":
        options.pop("beta", None)
        built: PairDecoder = PairDecoder(CHANNELS, **options)
    elif kind == "ncn":
        built = CNDecoder(CHANNELS, **options)
    elif kind == "ncn-bare":
        built = CNDecoder(CHANNELS, use_xlin=False, **options)
    elif kind in ("diff", "two-hop"):
        built = (CNDiffDecoder if kind == "diff" else TwoHopDecoder)(CHANNELS, **options)
    else:
        built = CompletionDecoder(CHANNELS, **NCNC[kind], **CALIBRATION, **options)
    with torch.no_grad():  # torch starts norms at one and zero, which would hide mistakes in them
        for parameter in built.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return built.double().eval()


def make_graph(seed: int, *, size: int = 9, density: float = 0.35, **extras: bool) -> CSRGraph:
    generator = torch.Generator().manual_seed(seed)
    edges = (torch.rand(size, size, generator=generator) < density).nonzero().T.contiguous()
    value = torch.rand(edges.size(1), generator=generator, dtype=torch.float64) + 0.2
    weight = value if extras.get("weighted") else None
    graph = CSRGraph.from_edge_index(edges, size, weight, symmetric=not extras.get("directed"))
    if extras.get("masked"):
        graph = graph.without_edges(edges[:, ::3])
    if extras.get("dropped"):
        graph = graph.drop_edges(0.3, rescale=False, generator=generator)
    return graph


def make_pairs(graph: CSRGraph, seed: int, count: int = 8) -> Tensor:
    """Edges, any pairs, a pair twice, its mirror image and i = j."""
    pairs = torch.randint(0, graph.num_nodes, (2, count), generator=torch.Generator().manual_seed(seed + 1))
    edges, loop = graph.edge_index()[:, :2], torch.tensor([[2], [2]])
    return torch.cat((edges, pairs, pairs[:, :1], pairs[:, :1].flip(0), loop), 1)


def oracle(built: PairDecoder, graph: CSRGraph) -> DenseDecoder:
    there = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=torch.bool)
    there[tuple(graph.edge_index().flip(0))] = True
    values = there.double()
    if graph.weight is not None:
        values[tuple(graph.edge_index().flip(0))] = graph.edge_weight()
    return DenseDecoder(built, values, there)


GRAPH_KINDS: tuple[dict[str, bool], ...] = (
    {},
    {"weighted": True},
    {"masked": True},
    {"directed": True},
    {"dropped": True},
    {"weighted": True, "masked": True, "directed": True},
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(seed=SEEDS, head=st.sampled_from(tuple(HEADS)), extras=st.sampled_from(GRAPH_KINDS))
def test_equations(kind: str, seed: int, head: str, extras: dict[str, bool]) -> None:
    built, graph = make(kind, head), make_graph(seed, **extras)
    h, pairs = features(graph.num_nodes, CHANNELS, seed, torch.float64), make_pairs(graph, seed)
    expected = oracle(built, graph)(h, pairs)
    torch.testing.assert_close(built(h, graph, pairs), expected)
    torch.testing.assert_close(built(h, graph, pairs, Memo()), expected)
    # Training differs from evaluation by dropout alone.
    torch.testing.assert_close(built.train()(h, graph, pairs), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_extreme_graphs(kind: str) -> None:
    built = make(kind)
    none = torch.empty(2, 0, dtype=torch.int64)
    complete = torch.ones(6, 6).nonzero().T.contiguous()
    star = torch.stack((torch.zeros(5, dtype=torch.int64), torch.arange(1, 6)))
    for edges in (none, complete, star):
        graph = CSRGraph.from_edge_index(edges, 6, symmetric=True)
        h = features(6, CHANNELS, 0, torch.float64)
        pairs = torch.ones(6, 6).nonzero().T.contiguous()
        torch.testing.assert_close(built(h, graph, pairs), oracle(built, graph)(h, pairs))
        assert built(h, graph, none).shape == (0,)


def test_inner_inputs_differ() -> None:
    """So that the comparison above cannot pass by taking one for the other."""
    graph = make_graph(3)
    h, pairs = features(9, CHANNELS, 3, torch.float64), make_pairs(graph, 3)

    def logits(kind: str, **more: Any) -> Tensor:
        built = make(kind, **more)
        built.load_state_dict(make("ncnc1-clean", **more).state_dict())
        return built(h, graph, pairs)

    clean, encoded, reference = (logits(kind) for kind in ("ncnc1-clean", "ncnc1-encoded", "ncnc1-reference"))
    assert not torch.allclose(clean, encoded)
    torch.testing.assert_close(clean, reference)  # in evaluation they are one model
    # Without xlin there is nothing to choose.
    torch.testing.assert_close(logits("ncnc1-clean", use_xlin=False), logits("ncnc1-encoded", use_xlin=False))


def test_alpha_zero_is_ncn() -> None:
    graph = make_graph(5)
    h, pairs = features(9, CHANNELS, 5, torch.float64), make_pairs(graph, 5)
    full = make("ncnc2-clean-pt")
    assert isinstance(full, CompletionDecoder)
    plain = make("ncn")
    plain.load_state_dict(full.state_dict(), strict=False)
    assert not torch.allclose(full(h, graph, pairs), plain(h, graph, pairs))
    full.set_alpha(0.0)
    torch.testing.assert_close(full(h, graph, pairs), plain(h, graph, pairs))


# --- sampling of one-sided neighbours


@pytest.mark.parametrize("kind", ["ncnc1-clean", "ncnc1-reference", "ncnc2-clean-pt", "ncnc2-reference"])
def test_sampling_is_exact_for_short_rows(kind: str) -> None:
    graph = make_graph(7)
    h, pairs = features(9, CHANNELS, 7, torch.float64), make_pairs(graph, 7)
    full, sampled = make(kind), make(kind, train_degree=9, test_degree=9)
    for mode in (True, False):
        torch.testing.assert_close(sampled.train(mode)(h, graph, pairs), full.train(mode)(h, graph, pairs))


@pytest.mark.parametrize("compat", ["clean", "reference"])
def test_sampling_is_unbiased(compat: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = make_graph(8, density=0.5, weighted=True)
    h, pairs = features(9, CHANNELS, 8, torch.float64), torch.tensor([[0, 1], [4, 5]])
    sums: list[Tensor] = []
    real = CompletionDecoder.combine

    def record(self: CompletionDecoder, h: Tensor, pairs: Tensor, lists: Neighborhoods, memo: Any) -> Tensor:
        if torch.equal(pairs, targets):
            sums.append(lists.sums(0, pairs.size(1))[1].detach())
        return real(self, h, pairs, lists, memo)

    monkeypatch.setattr(CompletionDecoder, "combine", record)
    targets = pairs
    full = make(f"ncnc1-{compat}")
    full(h, graph, pairs)
    expected = sums.pop()
    sampled = make(f"ncnc1-{compat}", train_degree=1).train()
    torch.manual_seed(0)
    for _ in range(250):  # one call draws the same for every occurrence of a pair
        sampled(h, graph, pairs)
    drawn = torch.stack(sums)
    error = drawn.std(0) / len(drawn) ** 0.5
    assert bool((drawn.std(0) > 0).any())
    assert bool(((drawn.mean(0) - expected).abs() < 4.5 * error + 1e-9).all())


def test_sampling_in_evaluation_is_a_function_of_the_pair() -> None:
    graph = make_graph(9, size=20, density=0.4)
    h, pairs = features(20, CHANNELS, 9, torch.float64), make_pairs(graph, 9, 30)
    for compat in ("clean", "reference"):
        sampled = make(f"ncnc1-{compat}", test_degree=2)
        first = sampled(h, graph, pairs)
        torch.manual_seed(123)
        torch.testing.assert_close(sampled(h, graph, pairs), first)
        for b in range(0, pairs.size(1), 7):
            torch.testing.assert_close(sampled(h, graph, pairs[:, b : b + 1]), first[b : b + 1])
        assert not torch.allclose(first, make(f"ncnc1-{compat}")(h, graph, pairs))


# --- shortcuts


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("tail_act", [True, False])
def test_empty_rows_of_the_branch_are_rows_of_zeros(norm: bool, tail_act: bool) -> None:
    torch.manual_seed(0)
    branch = CNBranch(CHANNELS, 0.0, norm, tail_act).double()
    ids, num_pairs = torch.tensor([1, 2, 6]), 8
    sums = features(3, CHANNELS, 0, torch.float64).requires_grad_()
    for mode in (True, False):
        branch.train(mode)
        full = torch.zeros(num_pairs, CHANNELS, dtype=torch.float64).index_copy(0, ids, sums)
        long_way = branch.rest(branch.first(full))
        short = branch(ids, sums, num_pairs)
        torch.testing.assert_close(short, long_way)
        weights = features(num_pairs, CHANNELS, 1, torch.float64)
        wanted = (sums, *branch.parameters())
        for one, other in zip(
            torch.autograd.grad((short * weights).sum(), wanted),
            torch.autograd.grad((long_way * weights).sum(), wanted),
            strict=True,
        ):
            torch.testing.assert_close(one, other)


def test_dropout_of_the_branch_differs_from_pair_to_pair() -> None:
    torch.manual_seed(0)
    branch = CNBranch(CHANNELS, 0.5, True, True).train()
    out = branch(torch.empty(0, dtype=torch.int64), torch.empty(0, CHANNELS), 50)
    assert out.unique(dim=0).size(0) > 10
    branch.eval()
    assert branch(torch.empty(0, dtype=torch.int64), torch.empty(0, CHANNELS), 50).unique(dim=0).size(0) == 1


def test_unique_logits_evaluates_each_pair_once() -> None:
    symmetric, directed = make_graph(1), make_graph(1, directed=True)
    assert symmetric.is_symmetric()
    assert not directed.is_symmetric()
    pairs = torch.tensor([[0, 1, 1, 5, 0, 3], [1, 0, 4, 5, 1, 2]])
    seen: list[Tensor] = []

    def logits(fresh: Tensor) -> Tensor:
        seen.append(fresh)
        return (fresh[0] * fresh[1] * 10 + fresh.sum(0)).double()  # symmetric

    for graph, count in ((symmetric, 4), (directed, 5)):
        seen.clear()
        got = unique_logits(pairs, graph, logits, None)
        assert torch.equal(got, logits(pairs))
        assert seen[0].size(1) == count


def test_unique_logits_cache() -> None:
    graph = make_graph(1)
    generator = torch.Generator().manual_seed(0)
    cache: dict[str, Tensor] = {}
    asked: list[tuple[int, int]] = []

    def logits(fresh: Tensor) -> Tensor:
        asked.extend(map(tuple, fresh.t().tolist()))
        return (fresh[0] * fresh[1] * 10 + fresh.sum(0)).double()

    for _ in range(8):
        pairs = torch.randint(0, 9, (2, 10), generator=generator)
        got = unique_logits(pairs, graph, logits, cache)
        assert torch.equal(got, (pairs[0] * pairs[1] * 10 + pairs.sum(0)).double())
    assert unique_logits(pairs[:, :0], graph, logits, cache).numel() == 0
    assert len(asked) == len(set(asked)) <= 45
    assert torch.equal(cache["keys"], cache["keys"].sort().values)


@pytest.mark.parametrize("kind", list(NCNC))
def test_sharing_inner_pairs_changes_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = make_graph(11)
    h, pairs = features(9, CHANNELS, 11, torch.float64), make_pairs(graph, 11, 20)
    built = make(kind)
    shared = built(h, graph, pairs)
    calls = []

    def every_pair(pairs: Tensor, graph: CSRGraph, logits: Any, cache: Any) -> Tensor:
        calls.append(pairs.size(1))
        return logits(pairs)

    monkeypatch.setattr(completion_module, "unique_logits", every_pair)
    torch.testing.assert_close(built(h, graph, pairs), shared)
    assert calls


@pytest.mark.parametrize("kind", KINDS)
def test_memo_serves_several_batches(kind: str) -> None:
    graph = make_graph(12)
    h, pairs = features(9, CHANNELS, 12, torch.float64), make_pairs(graph, 12, 30)
    built, memo = make(kind), Memo()
    parts = [built(h, graph, chunk, memo) for chunk in pairs.split(7, dim=1)]
    torch.testing.assert_close(torch.cat(parts), built(h, graph, pairs))


def test_memo_saves_work() -> None:
    graph = make_graph(12)
    h, pairs = features(9, CHANNELS, 12, torch.float64), make_pairs(graph, 12, 30)
    built, memo = make("ncnc1-clean"), Memo()
    built(h, graph, pairs, memo)
    known = memo["logits0"]["keys"]
    built(h, graph, pairs, memo)
    assert memo["logits0"]["keys"] is known


def test_chunks_respect_work_and_order(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = make_graph(13, size=30, density=0.3)
    pairs = make_pairs(graph, 13, 50)
    degree = graph.rowptr.diff()
    for work, most in ((40, 10), (1, 1), (10_000, 7)):
        monkeypatch.setattr(decoder_module, "CHUNK_WORK", work)
        monkeypatch.setattr(decoder_module, "CHUNK_PAIRS", most)
        chunks = list(work_chunks(graph, pairs))
        assert torch.equal(torch.cat(chunks, dim=1), pairs)
        for chunk in chunks:
            assert 1 <= chunk.size(1) <= most
            touched = int(degree[chunk].sum())
            assert touched <= work or chunk.size(1) == 1  # one pair may be more than a chunk should hold
    assert list(work_chunks(graph, pairs[:, :0])) == []


@given(SEEDS)
def test_compact_nodes(seed: int) -> None:
    idx = torch.randint(0, 20, (15,), generator=torch.Generator().manual_seed(seed))
    nodes, place = compact_nodes((idx[:8], idx[8:]), 20)
    assert torch.equal(nodes, idx.unique())
    assert torch.equal(nodes[place[idx]], idx)


def test_neighborhoods_sum_any_range_of_pairs() -> None:
    table = features(6, 3, 0, torch.float64)
    first = (torch.tensor([0, 0, 2, 2, 2, 3]), torch.tensor([1, 4, 1]), None)
    weight = torch.tensor([0.5, 2.0], dtype=torch.float64)
    second = (torch.tensor([0, 1, 1, 1, 2, 2]), torch.tensor([5, 0]), weight)
    zero = torch.zeros(3, dtype=torch.float64)
    expected = torch.stack((0.5 * table[5], table[1] + table[4], zero, 2 * table[0], table[1]))
    lists = Neighborhoods(table, [first, second])
    for low in range(6):
        for high in range(low, 6):
            ids, sums = lists.sums(low, high)
            assert ids.tolist() == [b - low for b in range(low, high) if b != 2]
            torch.testing.assert_close(sums, expected[low:high][ids])


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_the_head_change_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = make_graph(14, weighted=True)
    h, pairs = features(9, CHANNELS, 14, torch.float64), make_pairs(graph, 14, 20)
    built = make(kind)
    with torch.no_grad():
        whole = built(h, graph, pairs)
        for rows in (1, 7):
            monkeypatch.setattr(decoder_module, "HEAD_ROWS", rows)
            torch.testing.assert_close(built(h, graph, pairs), whole)


def test_gather_rows_gradient() -> None:
    x = features(4, 3, 0, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: gather_rows(x, torch.tensor([3, 0, 3, 3])), x)


def test_evaluating_puts_every_flag_back() -> None:
    built = make("ncn").train()
    built.lin.eval()
    flags = [m.training for m in built.modules()]

    def fail() -> None:
        with evaluating(built):
            assert not any(m.training for m in built.modules())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert flags == [m.training for m in built.modules()]


# --- training


def test_transform_only_where_it_is_read() -> None:
    """Rows that no pair of the batch reads need no perceptron; leaving them out must not show."""
    edges = torch.tensor([[0, 1, 2, 7, 8], [1, 2, 3, 8, 9]])
    graph = CSRGraph.from_edge_index(edges, 10, symmetric=True)
    h, pairs = features(10, CHANNELS, 0, torch.float64), torch.tensor([[0, 1], [2, 3]])
    for kind in ("ncn", "ncnc1-clean", "ncnc1-reference"):
        built = make(kind).train()
        rows: list[int] = []
        hook = built.xlin.register_forward_pre_hook(lambda _, inputs, rows=rows: rows.append(inputs[0].size(0)))
        got = built(h, graph, pairs)
        hook.remove()
        assert max(rows) < 10, kind
        torch.testing.assert_close(got, oracle(built, graph)(h, pairs))


def test_inner_dropout() -> None:
    """An inner pass on h is deterministic, one on rows of the step is not; the outer one drops out in all."""
    graph = make_graph(21)
    h, pairs = features(9, CHANNELS, 21, torch.float64), make_pairs(graph, 21)
    inner: list[Tensor] = []
    for kind, same in (("ncnc1-encoded", True), ("ncnc1-clean", False), ("ncnc1-reference", False)):
        built = make(kind, dropout=0.5).train()
        real = built._probability  # type: ignore[attr-defined]
        built._probability = lambda logit, pt, real=real: (inner.append(logit), real(logit, pt))[1]  # type: ignore[attr-defined]
        inner.clear()
        outputs = [built(h, graph, pairs) for _ in range(2)]
        assert torch.equal(inner[0], inner[2]) == same, kind
        assert not torch.equal(*outputs), kind
        assert not any(logit.requires_grad for logit in inner)
        assert all(m.training for m in built.modules())


def test_edge_dropout_only_in_training() -> None:
    graph = make_graph(22, density=0.6)
    h, pairs = features(9, CHANNELS, 22, torch.float64), make_pairs(graph, 22)
    for kind in KINDS[1:]:
        built, plain = make(kind, edge_dropout=0.6), make(kind)
        torch.testing.assert_close(built(h, graph, pairs), plain(h, graph, pairs))
        torch.manual_seed(0)
        one = built.train()(h, graph, pairs)
        assert not torch.allclose(one, built(h, graph, pairs)), kind
    assert graph.keep is None


def test_pt_is_learned_only_where_asked() -> None:
    graph = make_graph(23)
    h, pairs = features(9, CHANNELS, 23, torch.float64), make_pairs(graph, 23)
    for kind, learned in (("ncnc1-clean", False), ("ncnc2-clean-pt", True), ("ncnc1-reference-pt", True)):
        built = make(kind).train()
        built(h, graph, pairs).sum().backward()
        for name, parameter in built.named_parameters():
            touched = parameter.grad is not None and bool(parameter.grad.any())
            assert touched == (learned or not name.startswith("ptlin")), (kind, name)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind: str) -> None:
    graph = make_graph(25, size=6, weighted=True)
    pairs = make_pairs(graph, 25, 3)
    built = make(kind, "tail").train()
    names, values = zip(*built.named_parameters(), strict=True)
    h = features(6, CHANNELS, 25, torch.float64).requires_grad_()

    def logits(h: Tensor, *parameters: Tensor) -> Tensor:
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(built, state, (h, graph, pairs))

    if kind.startswith("ncnc"):
        # The completion probability is a constant for the gradient, so differences have to hold it: alpha 0 does.
        built.set_alpha(0.0)  # type: ignore[attr-defined]
    assert torch.autograd.gradcheck(logits, (h, *values), fast_mode=True)


@pytest.mark.parametrize("kind", list(NCNC))
def test_gradients_with_constant_probability(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = make_graph(26, size=6, weighted=True)
    pairs = make_pairs(graph, 26, 3)
    built = make(kind).train()
    h = features(6, CHANNELS, 26, torch.float64).requires_grad_()
    assert isinstance(built, CompletionDecoder)
    recorded: list[list[Tensor]] = []
    inner = built._inner
    monkeypatch.setattr(built, "_inner", lambda *args: recorded.append(inner(*args)) or recorded[-1])
    built(h, graph, pairs)
    constant = recorded[-1]
    monkeypatch.setattr(built, "_inner", lambda *args: constant)
    names, values = zip(*built.named_parameters(), strict=True)

    def logits(h: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(built, dict(zip(names, parameters, strict=True)), (h, graph, pairs))

    assert torch.autograd.gradcheck(logits, (h, *values), fast_mode=True)
    # And the real thing has this very gradient.
    weights = features(pairs.size(1), 1, 0, torch.float64).squeeze(1)
    frozen = torch.autograd.grad((built(h, graph, pairs) * weights).sum(), h)
    monkeypatch.undo()
    real = torch.autograd.grad((built(h, graph, pairs) * weights).sum(), h)
    torch.testing.assert_close(real, frozen)


def test_half_precision() -> None:
    graph = make_graph(27)
    pairs = make_pairs(graph, 27)
    for kind in KINDS:
        built = make(kind)
        h = features(9, CHANNELS, 27, torch.float64)
        expected = built(h, graph, pairs)
        got = built.bfloat16()(h.bfloat16(), graph, pairs)
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got.double(), expected, rtol=0.15, atol=0.15)


def test_bad_arguments() -> None:
    for arguments, match in (
        ({"depth": 0}, "depth"),
        ({"train_degree": 0}, "train_degree"),
        ({"test_degree": -1}, "test_degree"),
    ):
        with pytest.raises(ArgumentError, match=match):
            CompletionDecoder(CHANNELS, **arguments)  # type: ignore[arg-type]


def test_parts_of_the_operator_are_what_the_oracle_thinks() -> None:
    graph = make_graph(28, masked=True)
    there = oracle(make("ncn"), graph)
    part = ops.cn_index(graph, torch.tensor([[0], [1]]))["left"]
    assert set(part.idx.tolist()) == there.neighbours(0) - there.neighbours(1)


@pytest.mark.parametrize("kind", ["ncnc1-clean", "ncnc1-encoded", "ncnc2-clean-pt", "ncnc2-encoded"])
@settings(max_examples=10)
@given(seed=SEEDS, extras=st.sampled_from(GRAPH_KINDS))
def test_inner_decoder_of_clean_mode_is_the_evaluated_one(kind: str, seed: int, extras: dict[str, bool]) -> None:
    """Its logits in a training step, hidden edges and dropout and all, are those of a decoder at rest on its input."""
    graph = make_graph(seed, **extras)
    h, pairs = features(9, CHANNELS, seed, torch.float64), make_pairs(graph, seed)
    built = make(kind, dropout=0.5, edge_dropout=0.4).train()
    assert isinstance(built, CompletionDecoder)
    asked: list[tuple[Tensor, Tensor, Tensor]] = []
    real = built._inner

    def record(inner_h: Tensor, inner_graph: CSRGraph, sides: tuple[Tensor, Tensor], *rest: Any) -> list[Tensor]:
        got = real(inner_h, inner_graph, sides, *rest)
        if built.training:  # the outer decoder asks; at depth 2 the inner one asks in turn
            asked.append((inner_h, torch.cat(sides, 1), torch.cat(got)))
        return got

    built._inner = record  # type: ignore[method-assign]
    built(h, graph, pairs)
    ((read, sides, logits),), dense = asked, oracle(built, graph)
    dense.depth -= 1
    torch.testing.assert_close(logits, dense(read, sides))
    if kind.endswith("encoded"):
        assert torch.equal(read, h)
        return
    # Dropout at a rate of 0.5 leaves none of these rows as evaluation has it, and each of them is there.
    ends = graph.neighbors(pairs).long().unique() if dense.depth == 0 else torch.arange(9)
    at_rest = torch.stack([dense.tilde(row) for row in h])
    assert not torch.allclose(read, at_rest)
    built.xlin.eval()
    built(h, graph, pairs)
    torch.testing.assert_close(asked[1][0][ends], at_rest[ends])
