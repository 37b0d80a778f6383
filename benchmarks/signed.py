"""Signs of the next ratings on Bitcoin OTC: SEMBA, TGN with signs as messages, and what needs no network.

python benchmarks/signed.py [--rows both logistic ...] [--batches 200 1000] [--elsewhere 1 50] [--seeds 5] [--threads 1]
    [--data wiki-rfa-year]

Strict protocol: a block of events, longer where its last time goes on, is predicted from the state before it and only
then shown; neither sign nor weight of an event is an input before. Split 70/15/15 by quantiles of the time; blocks
begin anew in each period. AUC, AP and F1 of the negative class, macro-F1 with the threshold of the largest macro-F1 on
validation. At most 25 epochs, stopped after 6 without a better validation AUC, which also chooses the epoch. Compare
rows at the same block size only: what a block hides from itself costs more than what models differ in.

Rows: `reputation`, log-odds of target and source; `logistic`, a logistic regression on the sixteen features of
`SignedHistoryFeatures`, by L-BFGS in float64 on the training period, features standardised on it, penalty 1e-3 / 2
times the squared weights, unweighted; `tgn`, memory and attention of TGN with messages [sign, ln(1 + |weight|)];
`plain`, SEMBA as the paper has it (no counts, linear decoder, class means, 64 wide, learning rate 0.01), `released`
the same with the released wiring; `memory`, `history`, `both`: our preset with that in the decoder; `-pres` and
`-pres-event` behind them: the memory is corrected by PRES, per time or by events (docs/pres.md); `sgcn`, PyG's
SignedGCN trained anew before each block, `gcn`, a GCN trained once, both over the links before each block. "Trained at
200": the models of such a run, evaluated at other block sizes.

--data wiki-rfa-year: votes with no more than their year, 6 / 2 / 3 years of training, validation and test; blocks of 1
are longer until the time changes: whole years. Settings are those of the preset for Bitcoin OTC, chosen there.

The settings of the preset were chosen by validation AUC in a search of about twenty runs at blocks of 200 (seeds 0 and
1), while the test numbers of these runs were on the screen.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import RESULTS, provenance, write_json
from signed_graphs import gcn, sgcn
from sweep import sweep
from torch import Tensor

from graphmem.data.registry import load_stream
from graphmem.data.stream_splits import split_stream
from graphmem.engine.evaluation import evaluate
from graphmem.engine.families import load_any_run
from graphmem.engine.signed_metrics import best_threshold, sign_metrics
from graphmem.engine.signed_task import SignedTask
from graphmem.engine.stream_config import StreamRunConfig
from graphmem.engine.stream_task import event_groups
from graphmem.nn import SignedHistoryFeatures

DATA, NAME = "bitcoin-otc", "signed"
PLAIN = {"memory_dim": 64, "time_dim": 32, "embedding_dim": 64, "decoder": "linear", "decoder_dropout": 0.0}
ROWS = ("reputation", "logistic", "tgn", "plain", "released", "memory", "history", "both")
PRES_ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "memory-pres": ("memory", {}),
    "memory-pres-event": ("memory", {"rate": "per_event"}),
    "both-pres-event": ("both", {"rate": "per_event"}),
}
GRAPH_ROWS: dict[str, Callable[[SignedTask, int], Tensor]] = {"gcn": gcn, "sgcn": sgcn}
EVERY_ROW = (*ROWS, *PRES_ROWS, *GRAPH_ROWS)
PENALTY = 1e-3


def config(row: str, batch: int, seeds: int = 5, threads: int | None = None, data: str = DATA) -> StreamRunConfig:
    """The run of a row."""
    more: dict[str, Any] = {"options": {"features": row}}
    model = "semba"
    if row in PRES_ROWS:
        features, how = PRES_ROWS[row]
        more = {"options": {"features": features}, "pres": True, "pres_options": how}
    if row in ("reputation", "tgn"):
        model, more = row, {"lr": 1e-3, "reduction": "mean"} if row == "tgn" else {}
    if row in ("plain", "released"):
        more = {"options": {**PLAIN, "features": "memory"}, "lr": 0.01, "reduction": "class_mean"}
        more["compat"] = "reference" if row == "released" else "clean"
    if model == "semba" and data != DATA:
        more["preset"] = DATA
    return StreamRunConfig(
        model=model,
        data=data,
        task="sign",
        batch_size=batch,
        seeds=1 if row == "reputation" else seeds,
        epochs=25,
        patience=6,
        metrics=("auc",),
        threads=threads,
        **more,
    )


def row_of(command: str) -> str:
    """The row that a command of the result file belongs to."""
    words = shlex.split(command)
    data = words[words.index("--data") + 1] if "--data" in words else DATA
    if "--rows" in words:
        row, batch = (words[words.index(name) + 1] for name in ("--rows", "--batches"))
        return row if "--elsewhere" not in words else f"{row}, trained at {batch}"
    given = {name: words[words.index(f"--{name}") + 1] for name in ("batch_size", "seeds") if f"--{name}" in words}
    batch, seeds = int(given["batch_size"]), int(given.get("seeds", 1))
    found = [
        row
        for row in (*ROWS, *PRES_ROWS)
        if row != "logistic" and config(row, batch, seeds, data=data).command() == command
    ]
    return found[0]


def features(train: SignedTask, task: SignedTask) -> Tensor:
    """Sixteen numbers of every event, frozen inside the blocks of one task in training and of another behind it."""
    history, rows, split = SignedHistoryFeatures(task.split.stream.num_nodes), [], task.split
    for cut, period in ((train, split.train), (task, split.valid), (task, split.test)):
        for events in cut._windows(period):
            rows.append(history(events.src, events.dst))
            assert events.sign is not None
            history.insert(events.src, events.dst, events.sign)
    return torch.cat(rows).double()


def fitted(x: Tensor, y: Tensor) -> Tensor:
    """Weights, the intercept last, of a logistic regression on standardised features."""
    w = torch.zeros(x.size(1) + 1, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([w], max_iter=500, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def loss() -> Tensor:
        solver.zero_grad()
        value = F.binary_cross_entropy_with_logits(x @ w[:-1] + w[-1], y) + PENALTY / 2 * w[:-1].square().sum()
        value.backward()
        return value

    solver.step(loss)
    return w.detach()


def logistic(data: str, batch: int, other: int | None = None) -> dict[str, Any]:
    """A row of the same form as those of the runs, evaluated at another block size where one is given."""
    start = time.perf_counter()
    split = split_stream(load_stream(data))
    trained = SignedTask(split, "sign", batch_size=batch)
    task = trained if other is None else SignedTask(split, "sign", batch_size=other)
    x, y = features(trained, task), split.stream.weight > 0
    train = slice(len(split.train))
    x = (x - x[train].mean(0)) / x[train].std(0).clamp(min=1e-9)
    w = fitted(x[train], y[train].double())
    found = {"seed": 0, "selected": judged(x @ w[:-1] + w[-1], task)}
    return row_of_scores(
        "logistic", data, task, [found], w.numel(), start, {} if other is None else {"trained_at": batch}
    )


def static(row: str, data: str, batch: int, seeds: int) -> dict[str, Any]:
    """A row of a network that is no temporal model."""
    start = time.perf_counter()
    task = SignedTask(split_stream(load_stream(data)), "sign", batch_size=batch)
    found = [{"seed": seed, "selected": judged(GRAPH_ROWS[row](task, seed), task)} for seed in range(seeds)]
    return row_of_scores(row, data, task, found, None, start, {})


def judged(score: Tensor, task: SignedTask) -> dict[str, float]:
    """Metrics of both periods from scores of all events of the stream."""
    split, selected, threshold = task.split, {}, 0.0
    y = split.stream.weight > 0
    for period in ("valid", "test"):
        events = getattr(split, period)
        part = slice(events.first, events.first + len(events))
        threshold = best_threshold(score[part], y[part]) if period == "valid" else threshold
        for group, mask in event_groups(split, events, task.groups).items():
            found = sign_metrics(score[part][mask], y[part][mask], threshold)
            selected.update({f"{period}/{group}{'.' * bool(group)}{name}": value for name, value in found.items()})
    return selected


def row_of_scores(
    model: str,
    data: str,
    task: SignedTask,
    seeds: list[dict[str, Any]],
    parameters: int | None,
    start: float,
    more: dict[str, Any],
    compat: str = "clean",
) -> dict[str, Any]:
    """A row as those of runs; ``seeds`` hold what was measured, ``more`` goes into the protocol."""
    values = {name: [one["selected"][f"{name}/auc"] for one in seeds] for name in ("valid", "test")}
    summary = {name: {"mean": statistics.fmean(v), "std": statistics.pstdev(v)} for name, v in values.items()}
    return {
        "model": model,
        "data": data,
        "compat": compat,
        "metric": "auc",
        "summary": {"auc": summary},
        "published": None,
        "seeds": seeds,
        "protocol": {**task.protocol, **more},
        "parameters": parameters,
        "seconds": time.perf_counter() - start,
    }


def elsewhere(row: str, data: str, trained: int, batch: int, seeds: int) -> dict[str, Any]:
    """The models of a finished run, evaluated at another block size."""
    start = time.perf_counter()
    run = config(row, trained, seeds, data=data)
    found = []
    for seed in range(seeds):
        experiment, _ = load_any_run(_folder(row, trained) / f"{run.model}-{data}-{run.compat}" / f"seed_{seed}")
        task = SignedTask(experiment.task.split, "sign", batch_size=batch)
        found.append({"seed": seed, "selected": evaluate(experiment.model, task)})
    parameters = sum(p.numel() for p in experiment.model.parameters())
    return row_of_scores(run.model, data, task, found, parameters, start, {"trained_at": trained}, run.compat)


def _folder(row: str, batch: int) -> Path:
    return Path("runs") / NAME / f"{row}-{batch}"


def add(command: str, measure: Callable[[], dict[str, Any]]) -> None:
    """Write a row where it is not there yet."""
    path = RESULTS / f"{NAME}.json"
    document = json.loads(path.read_text()) if path.exists() else {**provenance(), "notes": __doc__, "runs": []}
    if any(row["command"] == command for row in document["runs"]):
        return
    where = {key: provenance()[key] for key in ("date", "machine", "versions")}
    document["runs"].append({"command": command, **where, **measure()})
    write_json(NAME, document)
    print(f"{command}: {100 * document['runs'][-1]['summary']['auc']['test']['mean']:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=EVERY_ROW)
    parser.add_argument("--batches", nargs="+", type=int, default=[200, 1000])
    parser.add_argument("--elsewhere", nargs="+", type=int, default=[], help="evaluate at other block sizes too")
    parser.add_argument("--data", default=DATA)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None)
    args = parser.parse_args()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    for batch, row in itertools.product(args.batches, args.rows):
        command = f"python benchmarks/signed.py --rows {row} --batches {batch}"
        command += f" --data {args.data}" * (args.data != DATA)
        if row == "logistic":
            add(command, partial(logistic, args.data, batch))
            for other in args.elsewhere:
                add(f"{command} --elsewhere {other}", partial(logistic, args.data, batch, other))
            continue
        if row in GRAPH_ROWS:
            add(command, partial(static, row, args.data, batch, args.seeds))
            continue
        sweep(NAME, [config(row, batch, args.seeds, args.threads, args.data)], _folder(row, batch), __doc__ or "")
        for other in args.elsewhere:
            add(f"{command} --elsewhere {other}", partial(elsewhere, row, args.data, batch, other, args.seeds))


if __name__ == "__main__":
    main()
