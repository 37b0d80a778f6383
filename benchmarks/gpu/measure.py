"""Seconds of the CUDA operators, beside the least that the card's memory allows.

python benchmarks/gpu/measure.py --ceilings FILE [--out FILE] [--repeats 20]

``--ceilings`` is what benchmarks/gpu/ceilings.cu printed. Times are medians between CUDA events, after three warm-ups,
inputs resident. The floor of a pair operator is the larger of two times: rows of indices, pairs, offsets and outputs at
the rate of a copy, and the summed feature rows at the rate of random rows (from the second-level cache if the table
fits half of it, else from memory). Peak memory is what torch's allocator took above the inputs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1]))

from common import provenance  # noqa: E402

from graphmem import ops  # noqa: E402
from graphmem.data import CSRGraph, EventStream, load_dataset, split_stream  # noqa: E402
from graphmem.engine.event_task import TemporalLinkTask  # noqa: E402
from graphmem.models import NAT, NCN, SEMBA, TGN  # noqa: E402

POWER_LAW = "generated:power-law?triadic_closure=0.7"


def seconds(work: Callable[[], Any], repeats: int) -> float:
    samples = []
    for n in range(repeats + 3):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        end.synchronize()
        if n >= 3:
            samples.append(begin.elapsed_time(end) * 1e-3)
    return statistics.median(samples)


def peak(work: Callable[[], Any]) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = work()
    torch.cuda.synchronize()
    del result
    return torch.cuda.max_memory_allocated() - before


def dense_graph() -> CSRGraph:
    """4,267 nodes and a mean degree of 500, the size of ogbl-ddi."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.arange(1, 4268, dtype=torch.float64).pow(-0.3)
    ends = torch.multinomial(weight, 2 * 1_200_000, replacement=True, generator=generator).view(2, -1)
    return CSRGraph.from_edge_index(ends[:, ends[0] != ends[1]].unique(dim=1), 4267, symmetric=True)


def sparse_graph() -> CSRGraph:
    """235,868 nodes with triadic closure, the size of ogbl-collab."""
    dataset = load_dataset(POWER_LAW)
    return CSRGraph.from_edge_index(dataset.edge_index, dataset.num_nodes, symmetric=True)


def positives(graph: CSRGraph, count: int) -> Tensor:
    edges = graph.edge_index()
    return edges[:, torch.randperm(edges.size(1), generator=torch.Generator().manual_seed(1))[:count]].contiguous()


def grouped(graph: CSRGraph, sources: int, candidates: int) -> Tensor:
    targets = torch.randint(0, graph.num_nodes, (sources * candidates,), generator=torch.Generator().manual_seed(2))
    return torch.stack((positives(graph, sources)[0].repeat_interleave(candidates), targets))


CASES: dict[str, tuple[Callable[[], CSRGraph], Callable[[CSRGraph], Tensor], int]] = {
    "dense": (dense_graph, lambda g: positives(g, 24_576), 224),
    "sparse": (sparse_graph, lambda g: positives(g, 65_536), 64),
    "sparse-grouped": (sparse_graph, lambda g: grouped(g, 64, 1000), 64),
}


def floor(graph: CSRGraph, pairs: Tensor, width: int, size: int, ceilings: dict[str, Any]) -> dict[str, float]:
    """Least seconds of a count and of a sum over common neighbours."""
    degree = graph.rowptr.diff()
    index_bytes = 4 * int((degree[pairs[0]] + degree[pairs[1]]).sum()) + 48 * pairs.size(1)
    out_bytes = pairs.size(1) * width * size
    gathered = int(ops.cn_count(graph, pairs).sum()) * width * size
    table = graph.num_nodes * width * size
    rate = "l2" if 2 * table <= ceilings["l2_bytes"] else "memory"
    streamed = ceilings["copy_bytes_per_second"]
    return {
        "count": index_bytes / streamed,
        "sum": max((index_bytes + out_bytes) / streamed, gathered / ceilings[f"{rate}_gather_bytes_per_second"]),
    }


def pair_operators(name: str, ceilings: dict[str, Any], repeats: int) -> dict[str, Any]:
    make_graph, make_pairs, width = CASES[name]
    graph = make_graph()
    pairs = make_pairs(graph).cuda()
    graph = graph.to("cuda")
    result: dict[str, Any] = {
        "nodes": graph.num_nodes,
        "slots": graph.num_slots,
        "pairs": pairs.size(1),
        "width": width,
    }
    times = {"cn_count": seconds(lambda: ops.cn_count(graph, pairs), repeats)}
    times["cn_index"] = seconds(lambda: ops.cn_index(graph, pairs), repeats)
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(graph.num_nodes, width, device="cuda", dtype=dtype, requires_grad=True)
        grad = torch.randn(pairs.size(1), width, device="cuda", dtype=dtype)

        def forward(x: Tensor = x) -> Tensor:
            return ops.cn_gather_sum(graph, x, pairs)

        def both(x: Tensor = x, grad: Tensor = grad) -> None:
            x.grad = None
            ops.cn_gather_sum(graph, x, pairs).backward(grad)

        label, least = str(dtype).removeprefix("torch."), floor(graph, pairs, width, x.element_size(), ceilings)
        with torch.no_grad():
            times[f"cn_gather_sum_{label}"] = seconds(forward, repeats)
            result[f"floor_share_{label}"] = least["sum"] / times[f"cn_gather_sum_{label}"]
            result[f"peak_bytes_{label}"] = peak(forward)
        times[f"cn_gather_sum_both_ways_{label}"] = seconds(both, repeats)
        result[f"peak_bytes_both_ways_{label}"] = peak(both)
        times[f"spmm_{label}"] = seconds(lambda x=x: graph.spmm(x.detach()), repeats)
    result["floor_share_count"] = floor(graph, pairs, width, 4, ceilings)["count"] / times["cn_count"]
    times["csr_transpose"] = seconds(lambda: ops.csr_transpose(graph.rowptr, graph.col, graph.num_nodes), repeats)
    times["without_edges"] = seconds(lambda: graph.without_edges(pairs), repeats)
    times["sample_non_edges"] = seconds(lambda: ops.sample_non_edges(graph, pairs.size(1), seed=0), repeats)
    return {**result, "seconds": times}


def element_wise(ceilings: dict[str, Any], repeats: int) -> dict[str, Any]:
    """Bytes read and written over the time of a copy of as many."""
    x, weight = torch.randn(2**18, 256, device="cuda"), torch.ones(256, device="cuda")
    work = {
        "dropout": lambda: ops.dropout(x, 0.3, seed=1),
        "norm_dropout_relu": lambda: ops.norm_dropout_relu(x, weight, weight, p=0.3, seed=1),
        "torch_layer_norm_dropout_relu": lambda: F.relu(F.dropout(F.layer_norm(x, (256,), weight, weight), 0.3)),
    }
    times = {name: seconds(call, repeats) for name, call in work.items()}
    copied = 2 * x.numel() * 4 / ceilings["copy_bytes_per_second"]
    return {"shape": list(x.shape), "seconds": times, "share_of_copy": {name: copied / t for name, t in times.items()}}


def training_step(repeats: int) -> dict[str, Any]:
    """One step of NCN on the dense graph: target removal, encoder, decoder, gradient, Adam."""
    graph = dense_graph()
    links, graph = positives(graph, 24_576).cuda(), graph.to("cuda")
    model = NCN(None, 224, 1, num_embeddings=graph.num_nodes, dropout=0.3, pair_dropout=0.3).cuda()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    others = ops.sample_non_edges(graph, links.size(1), seed=3)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        seen = graph.without_edges(links)
        logits = model.decode(model.encode(None, seen), seen, torch.cat((links, others), dim=1))
        F.softplus(torch.cat((-logits[: links.size(1)], logits[links.size(1) :]))).mean().backward()
        optimizer.step()

    return {"links": links.size(1), "seconds": seconds(step, repeats), "peak_bytes": peak(step)}


def synthetic_stream(events: int, nodes: int, device: str) -> EventStream:
    """With hubs, times in steps of a minute, signed weights."""
    generator = torch.Generator().manual_seed(0)
    src, dst = (nodes * torch.rand(2, events, generator=generator, dtype=torch.float64) ** 3).long()
    weight = torch.where(torch.rand(events, generator=generator) < 0.1, -1.0, 1.0)
    return EventStream(src, dst, 60 * torch.arange(events), nodes, weight=weight).to(device)


def temporal_models(device: str, events: int = 20_000, nodes: int = 10_000) -> dict[str, Any]:
    """Events a second in training, and scores of pairs a second in evaluation; NAT in batches of 100, else of 200."""
    split = split_stream(synthetic_stream(events, nodes, device))
    rates = {}
    for name, size in (("nat", 100), ("tgn", 200), ("semba", 200)):
        model = {"nat": NAT, "tgn": TGN, "semba": SEMBA}[name](nodes).to(device)
        task = TemporalLinkTask(split, batch_size=size).to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

        def epoch(model: Any = model, task: TemporalLinkTask = task, optimizer: Any = optimizer) -> None:
            model.train()
            task.reset(model)
            for batch in task.batches("train", 1):
                optimizer.zero_grad()
                task.loss(model, batch).backward()
                optimizer.step()
                with torch.no_grad():
                    task.update(model, batch)

        asked = split.valid[:size]
        candidates = torch.randint(nodes, (len(asked), 1000), device=device)

        @torch.no_grad()
        def score(model: Any = model, asked: EventStream = asked, candidates: Tensor = candidates) -> None:
            model.eval()
            model.score(asked.src, candidates, asked.t)

        took = [min(wall(work, device) for _ in range(3)) for work in (epoch, score)]
        rates[name] = {
            "batch": size,
            "training_events_per_second": len(split.train) / took[0],
            "evaluation_pairs_per_second": candidates.numel() / took[1],
        }
    return rates


def wall(work: Callable[[], Any], device: str) -> float:
    """Seconds of the host, the device's work included."""
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ceilings", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    ceilings = json.loads(options.ceilings.read_text())
    content = {
        **provenance(),
        "cuda": {"library": ops.CUDA_LIBRARY is not None, "torch_cuda": torch.version.cuda},
        "ceilings": ceilings,
        "pairs": {name: pair_operators(name, ceilings, options.repeats) for name in CASES},
        "element_wise": element_wise(ceilings, options.repeats),
        "training_step": training_step(options.repeats),
        "temporal_models": temporal_models("cuda"),
    }
    text = json.dumps(content, indent=1) + "\n"
    if options.out is None:
        sys.stdout.write(text)
    else:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
