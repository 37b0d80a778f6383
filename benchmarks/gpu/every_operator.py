"""Every CUDA operator once, on small inputs and on rows of every length: work for compute-sanitizer.

python benchmarks/gpu/every_operator.py [--device cuda]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

TESTS = Path(__file__).parents[2] / "tests"
sys.path += [str(TESTS), str(TESTS / "ops")]

from strategies import features  # noqa: E402
from test_row_lengths import NUM_NODES, all_pairs, graph_of_lengths  # noqa: E402
from test_torch_integration import operators  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    device = parser.parse_args().device

    def call(name: str, *args: object) -> None:
        moved = [a.detach().to(device, copy=True) if isinstance(a, Tensor) else a for a in args]
        getattr(torch.ops.graphmem, name)(*moved)

    for name, cases in operators().items():
        for args in cases:
            call(name, *args)
    graph = graph_of_lengths(torch.int32, keep=True, weighted=True)
    args = (*graph.weighted_structure(), *graph.weighted_structure(), all_pairs())
    call("cn_count", *graph.structure(), *graph.structure(), all_pairs(), True)
    for width in (20, 33):
        call("cn_gather_sum", *args, features(NUM_NODES, width, 0), True, 7)
        grad = features(3 * all_pairs().size(1), width, 1).view(3, -1, width)
        call("cn_gather_sum_backward", *args, grad, NUM_NODES, True, 7)
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
