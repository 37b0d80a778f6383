"""Results as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Parts of a protocol that the table or the words around it say.
_KNOWN = ("data", "seeds", "selection", "split_seed")


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


def result_text(result: Mapping[str, Any], folder: str) -> str:
    """The table of a finished run."""
    published = result["published"]
    seeds = len(result["seeds"])
    model = result["model"] + (" + PRES" if result["settings"].get("pres") is not None else "")
    rows = []
    for metric, values in result["summary"].items():
        shown = ""
        if published is not None and published["metric"] == metric:
            shown = percent(published["mean"], published["std"])
        cells = [percent(values[s]["mean"], values[s]["std"] if seeds > 1 else None) for s in ("valid", "test")]
        rows.append([model, result["data"], result["compat"], metric, *cells, shown])
    header = ["model", "data", "compat", "metric", "valid", "test", "published"]
    lines = [table(header, rows), "", f"{seeds} seed{'s' * (seeds > 1)}, {result['seconds']:.1f} s; files in {folder}"]
    how = [f"{key.replace('_', ' ')}: {value}" for key, value in result["protocol"].items() if key not in _KNOWN]
    lines.append("; ".join(how))
    if published is not None:
        note = "" if published["verified"] else " (not checked)"
        lines.append(f"published: {published['source']}{note}")
    return "\n".join(lines)
