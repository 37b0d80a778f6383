"""Cases measured one by one, each in a fresh process, into one JSON file; what stands in the file is not repeated."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import common
from common import provenance, write_json

Rows = list[dict[str, Any]]


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument("--name", default=name, help="of the result file")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds after which a case is given up")
    parser.add_argument("--smoke", action="store_true", help=argparse.SUPPRESS)  # tiny sizes, one process
    parser.add_argument("--one", default=None, help=argparse.SUPPRESS)  # the case of a process of its own


def run_cases(args: argparse.Namespace, notes: str, keys: Iterable[str], measure: Callable[[str], Rows]) -> list[str]:
    """Call `measure(key)` in a process of its own for every key that is not in `results/<name>.json`, and write that.

    A case that fails or takes longer than `--timeout` leaves a row that says so; delete the row to try again.

    Returns the keys of those that failed, now or before.
    """
    if args.one is not None:
        print(json.dumps(measure(args.one)))
        return []
    keys = list(keys)
    document: dict[str, Any] = {**provenance(), "notes": notes, "rows": []}
    path = common.RESULTS / f"{args.name}.json"
    if path.exists():
        document["rows"] = json.loads(path.read_text())["rows"]
    finished = {row["key"] for row in document["rows"]}
    for key in keys:
        if key in finished:
            continue
        rows = measure(key) if args.smoke else _rows([sys.executable, *sys.argv, "--one", key], args.timeout)
        where = {k: provenance()[k] for k in ("date", "machine", "versions")}
        for row in rows:
            document["rows"].append({"key": key, **row, **where})
            print(key, {k: v for k, v in row.items() if not k.endswith("_seconds")}, flush=True)
        write_json(args.name, document)
    failed = {row["key"] for row in document["rows"] if "failed" in row}
    return [key for key in keys if key in failed]


def _rows(command: list[str], timeout: float) -> Rows:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return [{"failed": f"longer than {timeout:g} s"}]
    if done.returncode == 0:
        rows: Rows = json.loads(done.stdout.splitlines()[-1])
        return rows
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return [{"failed": f"exit status {done.returncode}: {last[-300:]}"}]


def reset_peak() -> int:
    """Let `peak` forget what came before; returns the bytes of memory that the process holds now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    """The largest number of bytes that the process held since `reset_peak` (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
