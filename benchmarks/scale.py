"""Seconds and memory of training and evaluation on generated graphs of the sizes of ogbl-collab, -ppa and -citation2.

OMP_WAIT_POLICY=passive python benchmarks/scale.py [--steps 20] [--pairs 1000000] [--memory 24] [--timeout 3600]

Settings are the presets of the real sets (NCNC on citation2-size: on random node representations of NCN's width, since
that preset starts from a trained NCN). Every case, training or evaluation of one model on one graph, is a process of
its own whose memory is limited to --memory GiB; a case that needs more, or longer than --timeout, leaves a row that
says so. `--memory 8 --name scale_8` shows what is left on 8 GB.

Training: the seconds until the first batch (order and negatives of a whole epoch), then --steps steps of which the
first is a warm-up. Evaluation: one encoding of each graph, then --pairs pairs of validation and test links and their
negatives. Where that is less than all, `fraction` says how much was measured and `seconds` is extrapolated in
proportion: first batch + steps x median step, encoding + pairs x time of a pair. `peak_bytes` is the process's largest
memory in that phase, data set and libraries included; `bytes_before` what it held when the phase began.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from dataclasses import replace
from typing import Any

import torch
from cases import add_arguments, peak, reset_peak, run_cases
from torch import Tensor, nn

from graphmem.data import GraphDataset, load_dataset
from graphmem.engine import evaluating
from graphmem.engine.build import Experiment, build
from graphmem.engine.run_config import RunConfig

DATA = {"collab-size": "ogbl-collab", "ppa-size": "ogbl-ppa", "citation2-size": "ogbl-citation2"}
SMOKE = {"collab-size": "scale=0.01", "ppa-size": "scale=0.01&num_blocks=4", "citation2-size": "scale=0.002"}
MODELS, PHASES = ("gae", "ncn", "ncnc"), ("train", "evaluate")


def experiment(name: str, model: str, smoke: bool) -> Experiment:
    settings = f"?{SMOKE[name]}" if smoke else ""
    dataset: GraphDataset = load_dataset(f"generated:{name}{settings}")
    config = RunConfig(model=model, data=DATA[name], start_from="none", batch_size=256 if smoke else None)
    if model == "ncnc" and name == "citation2-size":
        generator = torch.Generator().manual_seed(0)
        dataset = replace(dataset, x=torch.randn(dataset.num_nodes, 64, generator=generator))
    return build(config, seed=0, dataset=dataset)


def clip(model: nn.Module, norm: float | None) -> None:
    if norm is not None:
        for part in (model.encoder, model.decoder):
            parameters = list(part.parameters())
            if parameters:
                nn.utils.clip_grad_norm_(parameters, norm)


def train(run: Experiment, steps: int) -> dict[str, Any]:
    model, task, optimizer, settings, _ = run
    assert optimizer is not None
    model.train()
    start = time.perf_counter()
    batches = task.batches("train", epoch=1)
    batch = next(batches)
    first = time.perf_counter() - start
    seconds: list[float] = []
    while batch is not None and len(seconds) < steps:
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        task.loss(model, batch).backward()
        clip(model, settings.train.clip_norm)
        optimizer.step()
        seconds.append(time.perf_counter() - start)
        batch = next(batches, None)
    total = task.num_batches("train", 1)
    step = statistics.median(seconds[1:] or seconds)
    return {
        "seconds": first + (sum(seconds) if len(seconds) == total else step * total),
        "fraction": len(seconds) / total,
        "first_batch_seconds": first,
        "median_step": step,
        "step_seconds": seconds,
        "steps_an_epoch": total,
    }


def some(pairs: Tensor, share: float) -> Tensor:
    return pairs[:, : max(1, round(share * pairs.size(1)))]


def evaluate(run: Experiment, pairs: int) -> dict[str, Any]:
    model, task = run.model, run.task
    sizes = task.split.sizes
    total = sum(size for name, size in sizes.items() if name != "train")
    share = min(1.0, pairs / total)
    encoding = scoring = 0.0
    scored = 0
    with evaluating(model):
        for name in ("valid", "test"):
            graph = task.test_graph if name == "test" else task.graph
            start = time.perf_counter()
            if name == "valid" or graph is not task.graph:
                h = model.encode(task.x, graph)
            encoding += time.perf_counter() - start
            negative = getattr(task.split, f"{name}_neg")
            flat = negative if negative.dim() == 2 else negative.flatten(0, 1).t()
            chosen = torch.cat((some(getattr(task.split, name), share), some(flat, share)), dim=1)
            start = time.perf_counter()
            model.score(h, graph, chosen)
            scoring += time.perf_counter() - start
            scored += chosen.size(1)
    return {
        "seconds": encoding + scoring * total / scored,
        "fraction": scored / total,
        "encoding": encoding,
        "scoring_measured": scoring,
        "pairs_an_evaluation": total,
    }


def measure(key: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    name, model, phase = key.split(" ")
    if not args.smoke:
        limit = round(args.memory * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    torch.set_num_threads(args.threads)
    start = time.perf_counter()
    run = experiment(name, model, args.smoke)
    loading = time.perf_counter() - start
    before = reset_peak()
    work = train(run, args.steps) if phase == "train" else evaluate(run, args.pairs)
    facts = {
        **dict(graph=name, model=model, phase=phase, threads=args.threads, memory_limit_gib=args.memory),
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "loading": loading,
    }
    return [{**facts, **work, "bytes_before": before, "peak_bytes": peak(), "fits_8_gib": peak() < 2**33}]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--phases", nargs="+", default=list(PHASES), choices=list(PHASES))
    parser.add_argument("--steps", type=int, default=20, help="training steps to measure")
    parser.add_argument("--pairs", type=int, default=1_000_000, help="pairs to score, validation and test together")
    parser.add_argument("--memory", type=float, default=24, help="GiB that a process may hold")
    parser.add_argument("--threads", type=int, default=2)
    add_arguments(parser, "scale")
    args = parser.parse_args(arguments)
    keys = [f"{g} {m} {p}" for g in args.graphs for m in args.models for p in args.phases]
    run_cases(args, __doc__ or "", keys, lambda key: measure(key, args))


if __name__ == "__main__":
    main()
