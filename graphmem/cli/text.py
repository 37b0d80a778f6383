"""Results as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Parts of a protocol that the table or the words around it say.
_KNOWN = ("data", "seeds", "selection", "split_seed")
# What the numbers of a stream depend on most, and stands beside each of them.
_OF_STREAMS = ("negatives", "visibility", "split")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side; numbers to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    right = [bool(rows) and all(_numeric(row[i]) for row in rows) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = (cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(cells, widths, right, strict=True))
        return "  ".join(padded).rstrip()

    return "\n".join([line(header), "  ".join("-" * width for width in widths), *map(line, rows)])


def _numeric(cell: str) -> bool:
    return not cell or cell[0].isdigit() or cell[0] == "-"


def percent(value: float, std: float | None = None) -> str:
    """A share as percent with two digits."""
    return f"{100 * value:.2f}" + ("" if std is None else f"±{100 * std:.2f}")


def beside(protocol: Mapping[str, Any]) -> list[str]:
    """Names of the columns that :func:`conditions` fills."""
    return [name for name in _OF_STREAMS if name in protocol] if "visibility" in protocol else []


def conditions(metric: str, protocol: Mapping[str, Any]) -> list[str]:
    """What a metric of a stream was taken against and from; nothing for others."""
    from graphmem.engine.event_scores import POOLED

    negatives = str(protocol.get("negatives")).partition(",")[0]  # other kinds than the first have longer names
    shown = {**protocol, "negatives": f"1 {negatives}" if metric in POOLED else protocol.get("ranking_negatives")}
    return [str(shown[name]) for name in beside(protocol)]


def protocol_text(protocol: Mapping[str, Any]) -> str:
    """What travels with numbers, in a line."""
    return "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in protocol.items() if key not in _KNOWN)


def result_text(result: Mapping[str, Any], folder: str) -> str:
    """The table of a finished run."""
    published, protocol = result["published"], result["protocol"]
    seeds = len(result["seeds"])
    model = result["model"] + (" + PRES" if result["settings"].get("pres") is not None else "")
    rows = []
    for metric, values in result["summary"].items():
        shown = ""
        if published is not None and published["metric"] == metric:
            shown = percent(published["mean"], published["std"])
        cells = [percent(values[s]["mean"], values[s]["std"] if seeds > 1 else None) for s in ("valid", "test")]
        rows.append([model, result["data"], result["compat"], metric, *conditions(metric, protocol), *cells, shown])
    header = ["model", "data", "compat", "metric", *beside(protocol), "valid", "test", "published"]
    lines = [table(header, rows), "", f"{seeds} seed{'s' * (seeds > 1)}, {result['seconds']:.1f} s; files in {folder}"]
    lines.append(protocol_text(protocol))
    if published is not None:
        note = "" if published["verified"] else " (not checked)"
        lines.append(f"published: {published['source']}{note}")
    return "\n".join(lines)
