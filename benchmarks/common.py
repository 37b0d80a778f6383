"""What every benchmark writes down, and where."""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import graphmem
from graphmem import ops

RESULTS = Path(__file__).parent / "results"


def cpu_model() -> str:
    """Processor name as the system gives it, with family and model: virtual machines tell no more than the vendor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
        return f"{told['model name']} (family {told['cpu family']}, model {told['model']})"
    except (OSError, KeyError):
        return platform.processor() or "unknown"


def provenance() -> dict[str, Any]:
    """Machine, versions and command of this run."""
    import torch_geometric

    command = ["python", *(Path(a).name if i == 0 else a for i, a in enumerate(sys.argv))]
    if "--peer" in command:
        command[command.index("--peer") + 1] = "PATH"
    return {
        "command": " ".join(command).replace("python ", "python benchmarks/", 1),
        "date": date.today().isoformat(),
        "machine": {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "instruction_sets": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
        },
        "environment": {k: v for k, v in os.environ.items() if k in ("OMP_WAIT_POLICY", "MALLOC_TOP_PAD_")},
        "versions": {
            "graphmem": graphmem.__version__,
            "torch": torch.__version__,
            "torch_geometric": torch_geometric.__version__,
            "python": platform.python_version(),
            "native": ops.NATIVE,
        },
    }


def write_json(name: str, content: dict[str, Any]) -> Path:
    """Write a result file; returns its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def difference(ours: Tensor, theirs: Tensor) -> dict[str, float]:
    """The largest absolute difference, and that over the peer's largest absolute value."""
    largest = float((ours - theirs).abs().max())
    return {"absolute": largest, "relative": largest / max(float(theirs.abs().max()), 1e-30)}
