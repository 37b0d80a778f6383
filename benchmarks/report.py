"""Tables and plots from the JSON files in benchmarks/results; run as `python benchmarks/report.py`.

Writes docs/results.md, docs/figures/*.png (where matplotlib is installed) and the results section of README.md. Nothing
in these is typed by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import report_signs
from pres import cases as batch_cases
from pres import plot as plot_batch_sizes
from report_streams import (
    ablation,
    batch_sizes,
    beside_pyg,
    dyglib,
    nat_accuracy,
    nat_parity,
    nat_speeds,
    stream_matrix,
    stream_speeds,
    streams,
)
from tables import load, name_of, ratio_cells, rows_of, runs, spread, table

ROOT = Path(__file__).parent.parent
FIGURES = ROOT / "docs" / "figures"
ORDER = ("cn", "aa", "ra", "jaccard", "katz", "ppr", "gae", "ncn", "ncn-diff", "ncn2", "ncnc")
# Whose code, the file that holds the ratios to it, and which of its cases are shown.
PEERS = (
    ("PyG's TGN example, by processor:", "speed_tgn*", {"train": "training", "evaluate": "evaluation"}),
    ("NAT's authors:", "speed_nat", {"train": "training", "evaluate": "evaluation"}),
    ("SEMBA's authors, training:", "speed_semba", {"otc": "Bitcoin OTC", "otc-released": "the same with equal losses"}),
)
START, END = "<!-- results -->", "<!-- /results -->"


def mode(run: dict[str, Any]) -> str:
    return f"{run['compat']}, tuned" if "--tuned" in run["command"] else str(run["compat"])


def planetoid() -> str:
    rows = []
    for run in runs("planetoid_*.json"):
        metric = run["metric"]
        seeds = ", ".join(f"{100 * seed['best'][metric]['test']:.2f}" for seed in run["seeds"])
        row = [run["data"].capitalize(), name_of(run["model"]), mode(run), spread(run["summary"][metric]["test"])]
        published = run["published"] if run["compat"] == "reference" else None
        rows.append([*row, spread(published), seeds, f"`{run['command']}`"])
    return table(["data", "model", "mode", "Hits@100 (test)", "published", "each seed", "command"], rows)


def beyond() -> str:
    """Clean mode with the settings of our own search against the reference on the same splits."""
    rows = []
    for pair in load("paired*.json"):
        low, high = pair["interval"]
        rows.append(
            [
                f"{pair['data'].capitalize()}, {name_of(pair['model'])}",
                pair["settings"],
                spread(pair["ours"]),
                spread(pair["other"]),
                f"{100 * pair['mean']:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})",
                ", ".join(f"{100 * value:+.2f}" for value in pair["differences"]),
            ]
        )
    return table(["", "settings", "clean", "reference", "paired difference (95 %)", "each seed"], rows)


def overlap(pattern: str, metric: str) -> str:
    found = runs(pattern)
    data = list(dict.fromkeys(run["data"] for run in found))
    cells = {}
    for run in found:
        cell = dict(run["summary"][metric]["test"])
        if len(run["seeds"]) == 1:
            del cell["std"]
        cells[run["data"], run["model"]] = cell
    models = [model for model in ORDER if any((d, model) in cells for d in data)]
    rows = []
    for d in data:
        best = max((cells[d, m]["mean"] for m in models if (d, m) in cells), default=0)
        row = [spread(cells.get((d, m)), 1) for m in models]
        bold = [cells.get((d, m), {"mean": -1})["mean"] == best for m in models]
        rows.append([d, *(f"**{text}**" if b else text for text, b in zip(row, bold, strict=True))])
    return table(["data", *map(name_of, models)], rows)


def speed() -> str:
    rows = []
    for document in load("speed_ncn_*.json"):
        for row in document["rows"]:
            epoch = "training step" if "--steps 1" in document["command"] else "training epoch"
            what = epoch if row["stage"] == "train_epoch" else "evaluation"
            rows.append(
                [
                    f"{document['data']}, {name_of(row['model'])}, {row['compat']}",
                    what,
                    str(row["threads"]),
                    f"{row['median_ours']:.3f}",
                    f"{row['median_peer']:.3f}",
                    f"{row['median_paired_ratio']:.2f}",
                    f"{row['peer_best_over_our_median']:.2f}",
                    f"{100 * row['fraction_of_floor']:.0f} %",
                ]
            )
    head = ["what", "stage", "threads", "ours, s", "authors', s", "median paired ratio", "their best / our median"]
    return table([*head, "share of the product floor"], rows)


def common_neighbors() -> str:
    rows = []
    for row in rows_of("speed_cn"):
        floor = f"{100 * row['fraction_of_floor']:.0f} %" if "fraction_of_floor" in row else "–"
        what = f"{row['case']}: {row['pairs']:,} pairs, {row['features']} features, {row['mean_common']:.3g} in common"
        rows.append([what, row["stage"], str(row["threads"]), *ratio_cells(row), floor])
    head = ["what", "stage", "threads", "ours, ms", "authors', ms", "median paired ratio", "their best / our median"]
    return table([*head, "share of the floor"], rows)


def other_peers() -> list[str]:
    rows = []
    for row in rows_of("peers_cn"):
        if "median_ours" in row:
            what = [row["graph"], row["pairs"], row["stage"], row["peer"], str(row["threads"])]
            rows.append([*what, *ratio_cells(row)[:3], f"{row['pairs_per_second_ours']:.2g}"])
    head = ["graph", "pairs", "what", "peer", "threads", "ours, ms", "theirs, ms", "median paired ratio"]
    words = "`benchmarks/peers_cn.py`: counts and sums of 16,000 pairs."
    return ["## Against other libraries", words, table([*head, "our pairs a second"], rows)] if rows else []


def scale() -> list[str]:
    rows = []
    for row in rows_of("scale"):
        graph, model, phase = row["key"].split(" ")
        if "failed" in row:
            rows.append([graph, name_of(model), phase, row["failed"], "–", "–", "–"])
            continue
        part = "whole" if row["fraction"] == 1 else f"{100 * row['fraction']:.2g} % measured"
        memory = f"{row['peak_bytes'] / 2**30:.2f}"
        fits = "yes" if row["fits_8_gib"] else "no"
        rows.append([graph, name_of(model), phase, f"{row['seconds']:,.0f}", part, memory, fits])
    words = "`benchmarks/scale.py` on [generated graphs](generated-graphs.md): an epoch of training, an evaluation."
    head = ["graph", "model", "what", "seconds", "", "largest memory, GiB", "fits 8 GiB"]
    return ["## The sizes of ogbl-collab, -ppa and -citation2", words, table(head, rows)] if rows else []


def plan() -> str:
    rows = []
    for row in rows_of("plan"):
        for phase in ("training", "evaluation"):
            one = row[phase]
            sizes = [f"{one[name] / 2**20:,.0f}" for name in ("predicted_bytes", "measured_bytes")]
            rows.append([row["case"], phase, *sizes, f"{100 * one['error']:+.1f} %"])
    return table(["case", "phase", "predicted, MiB", "measured, MiB", "error"], rows)


def wheels() -> str:
    rows = [
        [row["python"], row["torch"], row["torch_cuda"] or "no", row["cuda_library"]]
        for row in rows_of("wheel_check")
        if "failed" not in row
    ]
    failed = [f"{row['wanted']}: {row['failed']}" for row in rows_of("wheel_check") if "failed" in row]
    return table(["Python", "torch", "its CUDA", "CUDA operators"], rows) + "".join(f"\n\nFailed: {f}" for f in failed)


def machine(pattern: str) -> str:
    documents = load(pattern)
    if not documents:
        return ""
    first = documents[0]
    return (
        f"{first['machine']['cpu']}, {first['machine']['cores']} cores; torch {first['versions']['torch']}, "
        f"PyG {first['versions']['torch_geometric']}; first run {first['date']}."
    )


def plot_speed() -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = [row for document in load("speed_ncn_*.json") for row in document["rows"]]
    if not found:
        return
    stages = {"train_epoch": "train", "evaluate": "eval"}
    labels = [f"{name_of(r['model'])} {r['compat']}\n{stages[r['stage']]}, {r['threads']} thr." for r in found]
    figure, axes = plt.subplots(figsize=(max(6, 0.75 * len(found)), 3.6))
    samples = [[p / o for o, p in zip(r["ours_seconds"], r["peer_seconds"], strict=True)] for r in found]
    axes.boxplot(samples, tick_labels=labels, showfliers=False)
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set_ylabel("authors' seconds / ours")
    axes.set_ylim(bottom=0)
    axes.tick_params(axis="x", labelsize=6)
    figure.tight_layout()
    figure.savefig(FIGURES / "speed_ncn.png", dpi=150)
    plt.close(figure)


def plot_overlap() -> None:
    import matplotlib.pyplot as plt

    found = [run for run in runs("overlap.json") if run["model"] in ("ra", "gae", "ncn", "ncnc")]
    if not found:
        return
    data = list(dict.fromkeys(run["data"] for run in found))
    figure, axes = plt.subplots(figsize=(max(5, 1.1 * len(data)), 3.4))
    for shift, model in enumerate(("ra", "gae", "ncn", "ncnc")):
        mine = {run["data"]: run["summary"]["hits@100"]["test"] for run in found if run["model"] == model}
        places = [i + 0.2 * (shift - 1.5) for i, d in enumerate(data) if d in mine]
        values = [mine[d] for d in data if d in mine]
        heights = [100 * v["mean"] for v in values]
        axes.bar(
            places, heights, 0.2, yerr=[100 * v["std"] for v in values], label=name_of(model), error_kw={"lw": 0.8}
        )
    axes.set_xticks(range(len(data)), data, rotation=20)
    axes.set_ylabel("test Hits@100, %")
    axes.legend(ncols=4, fontsize=8)
    figure.tight_layout()
    figure.savefig(FIGURES / "overlap.png", dpi=150)
    plt.close(figure)


def accuracy() -> list[str]:
    return [
        "## Planetoid, the authors' protocol",
        machine("planetoid_*.json"),
        planetoid(),
        "## Clean mode against the reference",
        "Hits@100 on the test links of the same splits. The reference is NCNC as released, with the published "
        "settings. Clean mode's own settings come from `benchmarks/tune.py`, on splits of seeds 100 and up, on which "
        "no result is reported. Each row is one run of the test seeds, none was run again. An interval that holds 0 "
        "says that no difference was found.",
        beyond(),
        "## Where common neighbours matter",
        "`benchmarks/overlap.py`, protocol in its head: 70/10/20 splits, five seeds. The other models are GAE, NCN and "
        "NCNC (its inner decoder reading h) with one setting for all graphs. Hits@100:",
        overlap("overlap.json", "hits@100"),
        "MRR (shared negatives):",
        overlap("overlap.json", "mrr"),
        "Larger graphs, one seed, Hits@100:",
        overlap("overlap_large.json", "hits@100"),
        "MRR:",
        overlap("overlap_large.json", "mrr"),
        "![overlap](figures/overlap.png)",
        *streams(),
        *dyglib(),
        *ablation(),
        *batch_sizes(),
        *report_signs.signs(),
        *report_signs.other_tasks(),
        *beside_pyg(),
    ]


def speeds() -> list[str]:
    parity = load("parity_ncn.json")
    worst = f"{parity[0]['worst']:.1e}" if parity else "not run"
    return [
        "## The same function",
        "`benchmarks/parity_ncn.py`: same weights in both codes, logits and gradients of GAE, NCN, NCN-diff, NCN2, "
        f"NCNC and NCNC-2 on Cora, float64. Largest relative difference: {worst}.",
        *nat_accuracy(),
        *nat_parity(),
        *report_signs.parity(),
        "## Speed against the authors' code",
        machine("speed_ncn_*.json"),
        speed(),
        "![speed](figures/speed_ncn.png)",
        "## Common-neighbour sums against the authors' `adjoverlap` + `spmm_add`",
        "`benchmarks/speed_cn.py`; the floor is described in its head.",
        common_neighbors(),
        *other_peers(),
        *scale(),
        *stream_speeds(),
        *nat_speeds(),
        *report_signs.speeds(),
        "## Memory that `graphmem plan` predicts",
        "`benchmarks/plan.py`, fresh processes:",
        plan(),
        "## The wheel in fresh environments",
        "`make wheel-check`, a machine without a GPU:",
        wheels(),
    ]


def results_page() -> str:
    head = (
        "Made by `python benchmarks/report.py` from `benchmarks/results/*.json`; each file names command, machine, "
        "versions, seeds and every sample. Values are test values at the best validation epoch, mean ± population "
        "standard deviation over seeds, percent. Published values: Wang, Yang, Zhang, ICLR 2024, main table, read in "
        "its reprint in the OCN paper."
    )
    return "\n\n".join(["# Results", head, *accuracy(), *speeds()])


def readme_section() -> str:
    rows = []
    for run in runs("planetoid_*.json"):
        published = run["published"] if run["compat"] == "reference" else None
        summary = run["summary"][run["metric"]]["test"]
        rows.append([run["data"].capitalize(), name_of(run["model"]), mode(run), spread(summary), spread(published)])
    parts = [
        "Test Hits@100 over 10 random splits, the authors' protocol "
        "(`graphmem train MODEL --data DATA --compat MODE [--tuned] --seeds 10`):",
        table(["data", "model", "mode", "ours", "published"], rows),
    ]
    if load("paired_*.json"):
        parts.append(f"NCNC in clean mode with `--tuned`: {beyond_words()}.")
    fast = [row for row in rows_of("speed_ncn_cora") if row["threads"] == 2]
    if fast:
        words = [
            f"{name_of(r['model'])} {r['compat']} {'training' if r['stage'] == 'train_epoch' else 'evaluation'} "
            f"{r['median_paired_ratio']:.1f}x"
            for r in fast
        ]
        parts.append("Speed against the authors' code on Cora, two CPU threads: " + ", ".join(words) + ".")
    if load("streams.json"):
        parts.append(
            "Streams of events, test AP of link prediction against one random negative an event (chronological split, "
            "batches of 200, five seeds, three of the large streams; the first columns need no training):"
        )
        parts.append(stream_matrix())
    speeds = [words for words in (speed_words(*case) for case in PEERS) if words]
    if speeds:
        parts.append("Speed against the code of others there, two CPU threads: " + "; ".join(speeds) + ".")
    parts.append("All tables, seeds and samples: [docs/results.md](docs/results.md).")
    return "\n\n".join(parts)


def speed_words(title: str, files: str, cases: dict[str, str]) -> str:
    """Median paired ratios of the cases that are in files, each of another processor; empty where none is."""
    found: dict[str, list[float]] = {}
    for row in rows_of(files):
        if "median_paired_ratio" in row and row["threads"] == 2:
            found.setdefault(row["case"], []).append(row["median_paired_ratio"])
    words = [f"{name} {_span(found[key])}x" for key, name in cases.items() if key in found]
    return f"{title} {', '.join(words)}" if words else ""


def _span(values: list[float]) -> str:
    return " to ".join(f"{value:.1f}" for value in sorted({min(values), max(values)}))


def beyond_words() -> str:
    words = []
    for pair in load("paired_*.json"):
        low, high = (f"{100 * bound:+.2f}" for bound in pair["interval"])
        words.append(
            f"{pair['data'].capitalize()} {spread(pair['ours'])}, {100 * pair['mean']:+.2f} points against our run of "
            f"the reference on the same splits (95 % interval {low} to {high})"
        )
    return "; ".join(words)


def main() -> None:
    FIGURES.mkdir(parents=True, exist_ok=True)
    (ROOT / "docs" / "results.md").write_text(results_page() + "\n")
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text().partition(START)
    after = rest.partition(END)[2]
    readme.write_text(f"{before}{START}\n{readme_section()}\n{END}{after}")
    try:
        plot_speed()
        plot_overlap()
        for case in batch_cases("pres"):
            plot_batch_sizes("pres", case)
    except ImportError as error:
        print(f"no plots: {error}; pip install 'graphmem[plot]'")


if __name__ == "__main__":
    main()
