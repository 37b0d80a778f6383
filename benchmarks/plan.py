"""Memory that `graphmem plan` predicts, beside what a fresh process takes.

Every case is a generated graph (`generators.power_law`, split 70/10/20). A process of its own reads links and features,
trains two epochs with `Trainer` and evaluates; its peak resident set (VmHWM) above the level after import is compared
with the prediction, which sees nodes, training links, widths, batch and the largest degree alone. The allocator is set
as `graphmem train` sets it; `--default-malloc` shows what it does by itself.

    python benchmarks/plan.py [--cases small,medium,large] [--default-malloc]

`--speed` measures what that setting of the allocator costs in time instead: processes with and without it in turn, the
seconds of each one's second epoch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

COLLAB = {
    "conv": "gcn",
    "residual": True,
    "input_dropout": 0.25,
    "dropout": 0.1,
    "tail_dropout": 0.05,
    "edge_dropout": 0.25,
    "pair_dropout": 0.3,
}
SIZES = {
    "small": {"nodes": 20_000, "links": 100_000, "features": 128, "hidden": 128, "batch": 16_384},
    "medium": {"nodes": 100_000, "links": 400_000, "features": 128, "hidden": 128, "batch": 32_768},
    "large": {"nodes": 235_868, "links": 967_632, "features": 128, "hidden": 256, "batch": 65_536},
}
CASES: dict[str, dict[str, Any]] = {
    **{f"{size}-{model}": {**SIZES[size], "model": model} for size in SIZES for model in ("gae", "ncn")},
    # the published settings of ogbl-collab and of ogbl-ddi (learned vectors, sum)
    "collab-ncn": {**SIZES["large"], "hidden": 64, "model": "ncn", **COLLAB},
    "embedding-ncn": {**SIZES["medium"], "features": 0, "model": "ncn", "conv": "puresum", "pair_dropout": 0.6},
}


def status(key: str) -> int:
    """A number of bytes from /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


def measure(case: dict[str, Any], path: str, default_malloc: bool) -> dict[str, float]:
    """Train and evaluate in this process; peaks above the level after import, and seconds of the last epoch."""
    from graphmem.allocator import prepare_allocator

    if not default_malloc:
        prepare_allocator()  # before torch makes its first tensor
    import torch
    import torch._dynamo  # as torch's first optimizer does

    from graphmem.data.dataset import LinkSplit
    from graphmem.engine.build import _adam
    from graphmem.engine.link_task import LinkPredictionTask
    from graphmem.engine.trainer import Trainer
    from graphmem.models import GAE, NCN

    before = status("VmRSS")
    sets = torch.load(path, weights_only=True)
    split = LinkSplit(**sets, num_nodes=case["nodes"], protocol="random")
    x = torch.ones(case["nodes"], case["features"]) if case["features"] else None
    task = LinkPredictionTask(split, x, batch_size=case["batch"], metrics=("hits@20",))
    options = {
        key: value for key, value in case.items() if key not in ("nodes", "links", "features", "hidden", "batch")
    }
    model_class = {"gae": GAE, "ncn": NCN}[options.pop("model")]
    if not case["features"]:
        options["num_embeddings"] = case["nodes"]
    model = model_class(case["features"] or None, case["hidden"], **options)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model,
            task,
            _adam(model, 1e-3, 1e-3),
            epochs=2,
            monitor=("valid", "hits@20"),
            checkpoint_dir=folder,
            progress=False,
        )
        seconds = trainer.fit().history[-1]["train_seconds"]
    training = status("VmHWM") - before
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from the present level
    trainer.evaluate()
    return {"training": training, "evaluation": status("VmHWM") - before, "epoch_seconds": seconds}


def prepare(case: dict[str, Any], path: Path) -> dict[str, Any]:
    """Draw and split the graph; returns what the plan is told, and the common neighbours that it has to guess."""
    import torch

    from graphmem import ops
    from graphmem.data.generators import power_law
    from graphmem.data.graph import CSRGraph
    from graphmem.data.splits import split_edges

    split = split_edges(power_law(case["nodes"], case["links"]), protocol="random")
    sets = {name: getattr(split, name) for name in ("train", "valid", "valid_neg", "test", "test_neg")}
    torch.save({name: value.clone() for name, value in sets.items()}, path)
    graph = CSRGraph.from_edge_index(split.train, split.num_nodes, symmetric=True)
    told = {key: value for key, value in case.items() if key != "links"}
    told |= {"edges": split.num_train, "max_degree": int(graph.degree().max())}
    common = ops.cn_count(graph, split.train).double().mean()
    return {"told": told, "common_neighbors": float(common)}


def run_process(name: str, path: Path, default_malloc: bool) -> dict[str, float]:
    """:func:`measure` in a process of its own."""
    words = [sys.executable, __file__, "--measure", name, str(path), *(["--default-malloc"] * default_malloc)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare_speed(name: str, pairs: int) -> dict[str, Any]:
    """Processes with the setting and without it, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "split.pt"
        prepare(CASES[name], path)
        both = [[run_process(name, path, default) for default in (False, True)] for _ in range(pairs)]
    seconds = [[side["epoch_seconds"] for side in pair] for pair in both]
    return {
        "case": name,
        "epoch_seconds_set": [pair[0] for pair in seconds],
        "epoch_seconds_default": [pair[1] for pair in seconds],
        "median_paired_ratio": statistics.median(ours / default for ours, default in seconds),
        "median_training_bytes_set": statistics.median(pair[0]["training"] for pair in both),
        "median_training_bytes_default": statistics.median(pair[1]["training"] for pair in both),
    }


def compare(name: str, default_malloc: bool) -> dict[str, Any]:
    """A case: prediction and measurement."""
    from graphmem.engine.memory import Estimates, plan_memory
    from graphmem.engine.workload import Workload

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "split.pt"
        facts = prepare(CASES[name], path)
        measured = run_process(name, path, default_malloc)
    workload = Workload(**facts["told"])
    plan = plan_memory(workload)
    counted = plan_memory(replace(workload, common_neighbors=facts["common_neighbors"]))
    row = {"case": name, "workload": asdict(workload), "common_neighbors": facts["common_neighbors"]}
    row["common_neighbors_estimated"] = Estimates(workload).positive
    for phase, predicted, informed in (
        ("training", plan.peak, counted.peak),
        ("evaluation", plan.evaluation.peak, counted.evaluation.peak),
    ):
        row[phase] = {
            "predicted_bytes": predicted,
            "predicted_bytes_given_common_neighbors": informed,
            "measured_bytes": measured[phase],
            "error": predicted / measured[phase] - 1,
            "error_given_common_neighbors": informed / measured[phase] - 1,
        }
    return row


def main() -> None:
    """Run the chosen cases and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES), help="names or their beginnings, separated by commas")
    parser.add_argument("--default-malloc", action="store_true", help="leave the allocator as the C library has it")
    parser.add_argument("--speed", type=int, default=0, metavar="PAIRS", help="of processes to measure the setting by")
    parser.add_argument("--name", default=None, help="of the result file")
    parser.add_argument("--measure", nargs=2, metavar=("CASE", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(CASES[options.measure[0]], options.measure[1], options.default_malloc)))
        return
    from common import provenance, write_json

    rows: list[dict[str, Any]] = []
    chosen = [case for case in CASES if case.startswith(tuple(options.cases.split(",")))]
    if options.speed:
        for name in chosen:
            rows.append(compare_speed(name, options.speed))
            print(rows[-1])
            write_json(options.name or "speed_heap", {**provenance(), "rows": rows})
        return
    for name in chosen:
        rows.append(compare(name, options.default_malloc))
        shown = {phase: f"{100 * rows[-1][phase]['error']:+.1f}%" for phase in ("training", "evaluation")}
        print(name, *(f"{p} {rows[-1][p]['measured_bytes'] / 2**20:.0f} MiB, error {e}" for p, e in shown.items()))
        write_json(options.name or "plan", {**provenance(), "default_malloc": options.default_malloc, "rows": rows})


if __name__ == "__main__":
    main()
