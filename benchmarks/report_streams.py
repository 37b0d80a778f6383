"""The part of docs/results.md on streams of events."""

from __future__ import annotations

import re
import statistics
from typing import Any

from dyglib import PUBLISHED
from pres import ARMS, PLANNED, TESTS, Case, cases, curves, figure_name, rows_for
from pres import factors as factors_of
from streams import DATA
from streams import configs as every_stream
from tables import load, ratio_cells, rows_of, runs, spread, spread_of, table

from graphmem.engine.stream_config import STREAM_HEURISTICS
from graphmem.presets import STREAM_MODELS

DYGLIB_METRICS = (
    "ap_batch",
    "ap",
    "new.ap_batch",
    "random_new.new.ap_batch",
    "historical.ap_batch",
    "inductive.ap_batch",
)
ABLATION_METRICS = ("ap_batch", "new.ap_batch", "historical.ap_batch", "inductive.ap_batch")
WHO = ("ours", "peer")
STREAM_METRICS = ("ap", "historical.ap", "inductive.ap", "new.ap", "mrr")


def streams() -> list[str]:
    """Accuracy on real streams; what failed has its error in the file."""
    rows = _rows("streams.json", STREAM_METRICS)
    for row, run in zip(rows, _finished("streams.json"), strict=True):
        row.append(run["protocol"]["ranking_negatives"])
    words = "`benchmarks/streams.py`, protocol in its head; test period, at the epoch of the best validation AP."
    names = "stream, model, visibility, seeds, learning rate, epochs, AP, AP historical, AP inductive pairs, "
    names += "AP new nodes, MRR, among"
    parts = [words, "Test AP against one random negative an event:", stream_matrix(), "All measures:"]
    return ["## Real streams", *parts, table(names.split(", "), rows), *_missing_streams()] if rows else []


def stream_matrix() -> str:
    """Test AP of every stream and model, at the protocol's learning rate."""
    found: dict[str, dict[str, str]] = {}
    for run, row in zip(_finished("streams.json"), _rows("streams.json", ("ap",)), strict=True):
        if run["model"] in STREAM_HEURISTICS or "--lr 0.001" in run["command"]:
            found.setdefault(run["data"], {})[run["model"]] = row[-1]
    models = [m for m in (*STREAM_HEURISTICS, *STREAM_MODELS) if any(m in cells for cells in found.values())]
    rows = [[data, *(found[data].get(model, "–") for model in models)] for data in DATA if data in found]
    return table(["stream", *models], rows)


def _missing_streams() -> list[str]:
    """What the script's defaults ask for and the file does not have."""
    found, missing = {run["command"] for run in runs("streams.json")}, dict[str, list[str]]()
    for config in every_stream(list(DATA), [*STREAM_HEURISTICS, *STREAM_MODELS], None):
        if config.command() not in found:
            missing.setdefault(config.model, []).append(config.data)
    lines = [f"{model} on {', '.join(data)}" for model, data in missing.items()]
    return [f"Not run: {'; '.join(lines)}."] if lines else []


def dyglib() -> list[str]:
    """DyGLib's protocol beside the published cells."""
    rows = _rows("dyglib.json", DYGLIB_METRICS)
    found = {(run["data"], run["model"]) for run in _finished("dyglib.json")}
    published = [(data, model) for data, cells in PUBLISHED.items() for model in cells if model in STREAM_MODELS]
    missing = [f"{model} on {data}" for data, model in published if (data, model) not in found]
    for data, cells in PUBLISHED.items():
        for model, (transductive, inductive) in cells.items():
            known = [f"{transductive:.2f}", "–", "–", "–" if inductive is None else f"{inductive:.2f}", "–", "–"]
            rows.append([data, f"{model}, published", "mixed", "5", "–", "100", *known])
    words = "`benchmarks/dyglib.py`, protocol in its head; AP is the mean of the batches' own but where it says pooled."
    names = "stream, model, visibility, seeds, learning rate, epochs, AP, AP pooled, AP new nodes, "
    names += "AP new nodes and their destinations, AP historical, AP inductive"
    left = [f"Published, and not run with ours: {'; '.join(missing)}."] if missing else []
    return ["## DyGLib's protocol", words, table(names.split(", "), rows), *left]


def ablation() -> list[str]:
    """What each choice of NAT is worth."""
    rows = []
    for run in runs("ablation_nat.json"):
        rate = _training(run)[0]
        options = [*_options(run), *([f"lr = {rate}"] if rate != "0.001" else [])]
        found = [seed["selected"] for seed in run["seeds"]]
        cells = [spread_of([one[f"test/{metric}"] for one in found]) for metric in ABLATION_METRICS]
        rows.append([", ".join(options) or "default", str(len(found)), *cells])
    words = "`benchmarks/ablation_nat.py`, CollegeMsg, DyGLib's split; a row differs from the default as it says."
    head = "options, seeds, AP, AP new nodes, AP historical, AP inductive".split(", ")
    return ["## What each choice of NAT is worth", words, table(head, sorted(rows))] if rows else []


def nat_parity() -> list[str]:
    """NAT's reference mode beside the authors' code."""
    rows = []
    for row in [row for document in load("parity_nat.json") for row in document["cases"]]:
        state = row["state"]
        counts = [f"{row['events']:,}", f"{state['filled']:,}", *(str(state[n]) for n in ("keys", "events", "times"))]
        largest = [state["values"]["absolute"], state["states"]["absolute"]]
        relative = [row["logits"]["relative"], row["gradients"]["relative"]]
        rows.append([row["case"], *counts, *(f"{value:.1e}" for value in (*largest, *relative))])
    words = (
        "`benchmarks/parity_nat.py`: NAT's reference mode with the authors' weights on 1,000 batches of CollegeMsg in "
        "which no node occurs twice, float32; protocol, cases and what cannot be the same in its head. Numbers of "
        "slots whose key, event or time differs; largest absolute difference of values and node states; largest "
        "relative one of all logits and of the gradients of the batch behind."
    )
    names = "case, events, filled slots, keys, event numbers, times, values, states, logits, gradients"
    return [words, table(names.split(", "), rows)] if rows else []


def _finished(file: str) -> list[dict[str, Any]]:
    return [run for run in runs(file) if "failed" not in run]


def _rows(file: str, metrics: tuple[str, ...]) -> list[list[str]]:
    rows = []
    for run in _finished(file):
        found = [[seed["selected"].get(f"test/{name}") for seed in run["seeds"]] for name in metrics]
        cells = ["–" if None in values else spread_of(values) for values in found]
        named = ", ".join([run["model"], *_options(run)])
        first = [run["data"], named, run["protocol"]["visibility"], str(len(run["seeds"])), *_training(run)]
        rows.append([*first, *cells])
    return rows


def _options(run: dict[str, Any]) -> list[str]:
    """Options of the model that a command names."""
    found = re.findall(r"--options\.(\S+) ('[^']*'|\S+)", run["command"])
    return [f"{name} = {value}" for name, value in found]


def _training(run: dict[str, Any]) -> list[str]:
    """Learning rate, PyG's where a command names none, and largest number of epochs."""
    if run["model"] in STREAM_HEURISTICS:
        return ["–", "–"]
    rate, epochs = (re.search(rf"--{name} (\S+)", run["command"]) for name in ("lr", "epochs"))
    return [rate.group(1) if rate else "0.0001", epochs.group(1) if epochs else "–"]


def batch_sizes() -> list[str]:
    """AP, or AUROC of signs, against the size of the training batches, and what of the loss each arm wins back."""
    parts = []
    for case in cases("pres"):
        rows, name = rows_for("pres", case), ", ".join([case.model.upper(), case.data, *case.changes])
        size = {row["factor"]: row["batch_size"] for row in sorted(rows, key=lambda row: row["factor"])}
        for tested, title in TESTS.items():
            found = curves(rows, f"{case.metrics[0]}_{tested}")
            lines = [[arm, *(_cell(values.get(f)) for f in size)] for arm, values in found.items()]
            parts += [f"{name}, test {case.measure}, {title}:", table(["batch", *map(str, size.values())], lines)]
            parts += [f"Share of the plain model's loss that is won back, {title}:", _won_back(found, size)]
        parts.append(f"![{case.measure} against batch size](figures/{figure_name('pres', case)})")
    parts += _missing_batch_sizes()
    costs = [row for row in rows_of("pres") if "ratio_pres" in row]
    if costs:
        lines = [
            [f"{row['model'].upper()}, {row['data']}, {row['batch_size']}"]
            + [f"{100 * row['pending']:.0f} %", f"{1e3 * row['median_plain']:.1f}"]
            + [f"{row[name]:.2f}" for name in ("ratio_pres", "ratio_correction")]
            for row in costs
        ]
        head = ["", "events with a pending event", "plain, ms", "PRES / plain", "correction alone / plain"]
        parts += ["Processor time of a training step:", table(head, lines)]
    words = (
        "`benchmarks/pres.py`, protocol and arms in its head ([PRES](pres.md)); mean ± population standard deviation "
        "over seeds, whose number is in brackets."
    )
    return ["## Large temporal batches", words, *parts] if parts else []


def _missing_batch_sizes() -> list[str]:
    """What is planned and not in the file, of the arms that every case has."""
    missing = []
    for (data, model), (factors, seeds) in PLANNED.items():
        found = {(row["arm"], row["factor"], row["seed"]) for row in rows_for("pres", Case(data, model))}
        cells = [(arm, f) for arm in ARMS for f in factors if f in factors_of(arm)]
        lacking = [sum((*cell, seed) not in found for seed in range(seeds)) for cell in cells]
        if sum(lacking):
            missing.append(f"{model.upper()} on {data}, {sum(lacking)} of {seeds * len(cells)}")
    return [f"Not run yet, runs of the arms {', '.join(ARMS)}: {'; '.join(missing)}."] if missing else []


def _cell(values: list[float] | None) -> str:
    if values is None:
        return "–"
    deviation = statistics.pstdev(values) if len(values) > 1 else None
    return f"{spread({'mean': statistics.fmean(values), 'std': deviation})} ({len(values)})"


def _won_back(found: dict[str, dict[float, list[float]]], size: dict[float, int]) -> str:
    """(arm - plain) / (plain at the base size - plain), of the means over the seeds that all three have."""
    plain, lines = found["plain"], []
    for arm, values in found.items():
        cells = []
        for f in size:
            if f <= 1 or f not in plain or f not in values:
                cells.append("–")
                continue
            # Seeds in ascending order, from 0.
            base, large, arms = zip(*zip(plain[1], plain[f], values[f], strict=False), strict=True)
            loss, gain = (statistics.fmean(high) - statistics.fmean(large) for high in (base, arms))
            cells.append(f"{100 * gain / loss:+.0f} %" if loss > 0 else "–")
        if arm != "plain":
            lines.append([arm, *cells])
    return table(["batch", *map(str, size.values())], lines)


def beside_pyg() -> list[str]:
    """Validation AP behind each epoch, ours and PyG's."""
    rows = []
    for side, name in (("ours", "graphmem's TGN"), ("pyg", "PyG's example")):
        found = [row["valid_ap"] for row in rows_of("accuracy_tgn") if row.get("side") == side]
        if found:
            epochs = zip(*found, strict=True)
            cells = [spread({"mean": statistics.fmean(v), "std": statistics.pstdev(v)}) for v in epochs]
            rows.append([name, str(len(found)), *cells])
    if not rows:
        return []
    words = (
        "`benchmarks/accuracy_tgn.py`: Wikipedia edits without features, the same events and negatives on both sides; "
        "AP of the validation period behind each epoch, mean ± population standard deviation over seeds."
    )
    head = ["", "seeds", *(f"epoch {n + 1}" for n in range(len(rows[0]) - 2))]
    return ["## Accuracy of TGN beside PyG's example", words, table(head, rows)]


def nat_accuracy() -> list[str]:
    """Test AP of NAT as its authors' code trains it and as ours does, in both of its modes."""
    rows = []
    for mode, tested in (("t", "all test events"), ("i", "test events of hidden nodes")):
        for side, name in (("theirs", "authors' code"), ("reference", "reference mode"), ("ours", "default")):
            found = [row for row in rows_of("accuracy_nat") if (row.get("mode"), row.get("side")) == (mode, side)]
            if found:
                values = {what: [row[what] for row in found] for what in ("ap", "auc")}
                cells = [spread({"mean": statistics.fmean(v), "std": statistics.pstdev(v)}) for v in values.values()]
                each = ", ".join(f"{100 * value:.2f}" for value in values["ap"])
                rows.append([tested, name, *cells, each, ", ".join(str(row["epoch"]) for row in found)])
    if not rows:
        return []
    words = (
        "`benchmarks/accuracy_nat.py`: CollegeMsg, the authors' main.py in both modes beside ours; means over batches "
        "of 32, population standard deviation over seeds."
    )
    return [
        "## Accuracy of NAT beside its authors' code",
        words,
        table(["tested", "", "AP", "AUC", "AP of each seed", "epochs"], rows),
    ]


def stream_speeds() -> list[str]:
    rows, parts_of_tgn = [], []
    for row in rows_of("speed_tgn*"):
        rates = [f"{row[f'events_per_second_{who}']:,.0f}" for who in ("ours", "peer")]
        cells = [row["machine"]["instruction_sets"], str(row["threads"]), *rates, *ratio_cells(row)[2:]]
        if "ours" in row:
            parts_of_tgn.append([row["case"].removesuffix(" parts"), row["ours"], *cells])
        else:
            rows.append([f"TGN, {row['case']}", *cells])
    ratios = ["median paired ratio", "their best / our median"]
    head = ["what", "processor", "threads", "ours, events/s", "PyG's, events/s", *ratios]
    parts = rows_of("speed_sampler") + rows_of("speed_temporal_ops")
    cells = [[row["key"], row.get("stage", ""), *ratio_cells(row)] for row in parts if "median_ours" in row]
    small = ["what, threads", "stage", "ours, ms", "PyG's, ms", *ratios]
    return [
        "## Streams of events against PyG's TGN example",
        "`benchmarks/speed_tgn.py`: Wikipedia edits, batches of 200, the same events and negatives, no metrics in the "
        "clock.",
        table(head, rows),
        "Their example with some of its parts replaced by ours, beside itself:",
        table(["", "ours", *head[1:]], parts_of_tgn),
        "Parts (`speed_sampler.py`: against `LastNeighborLoader`; `speed_temporal_ops.py`: operators):",
        table(small, cells),
    ]


def nat_speeds() -> list[str]:
    """NAT beside its authors' code, and one event at a time."""
    whole, calls, single = [], [], []
    for row in rows_of("speed_nat"):
        first = [row.get("stage", row["case"]), str(row["threads"])]
        if "events_per_second_ours" in row:
            rates = [f"{row[f'events_per_second_{who}']:,.0f}" for who in WHO]
            whole.append([*first, *rates, *ratio_cells(row)[2:]])
        elif "calls_per_sample" in row:
            times = [f"{1e6 * row[f'median_{who}'] / row['calls_per_sample']:.0f}" for who in WHO]
            calls.append([*first, *times, *ratio_cells(row)[2:]])
        else:
            single.append([*first, *(f"{row['microseconds'][f'p{q}']:.0f}" for q in (10, 50, 90))])
    ends = ["median paired ratio", "their best / our median"]
    parts = [
        "## NAT against its authors' code",
        "`benchmarks/speed_nat.py`, settings in its head; \"default\": our model's own options, else the authors'.",
        table(["what", "threads", "ours, events/s", "authors', events/s", *ends], whole),
        table(["operator", "threads", "ours, us", "authors', us", *ends], calls),
        "One event at a time, microseconds a call:",
        table(["call", "threads", "10 %", "median", "90 %"], single),
    ]
    return parts if whole else []
