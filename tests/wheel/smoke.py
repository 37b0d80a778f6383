"""What an installed wheel must do, in the environment that runs this file. Prints one line of JSON.

Operators and gradients against dense algebra, which library was loaded, whether every operator has its kernel, and an
epoch of training by the command.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from graphmem import ops
    from graphmem.data import CSRGraph
    from graphmem.models import NCNC
    from graphmem.ops import _loader
warned = [
    str(w.message) for w in caught if "CUDA operators" in str(w.message) or "compiled operators" in str(w.message)
]


def check(condition: bool, message: str) -> None:
    if not condition:
        raise SystemExit(message)


def operators() -> None:
    torch.manual_seed(0)
    dense = (torch.rand(60, 60) < 0.2).double().triu(1)
    dense = dense + dense.T
    graph = CSRGraph.from_edge_index(dense.nonzero().T.contiguous(), 60)
    pairs = torch.randint(0, 60, (2, 500))
    x = torch.randn(60, 24, dtype=torch.float64, requires_grad=True)
    both = dense[pairs[0]] * dense[pairs[1]]
    check(torch.equal(ops.cn_count(graph, pairs), both.sum(1).long()), "cn_count differs from dense algebra")
    for got, expected in (
        (ops.cn_gather_sum(graph, x, pairs), both @ x),
        (graph.spmm(x), dense @ x),
        (ops.matmul(x, x.detach().T), x @ x.detach().T),
    ):
        torch.testing.assert_close(got, expected)
        weights = torch.randn_like(expected)
        (one,) = torch.autograd.grad((got * weights).sum(), x)
        (other,) = torch.autograd.grad((expected * weights).sum(), x)
        torch.testing.assert_close(one, other)


def model() -> None:
    torch.manual_seed(0)
    links = (torch.rand(80, 80) < 0.1).triu(1).nonzero().T.contiguous()
    ncnc = NCNC(12, 16, pair_dropout=0.1)
    optimizer = torch.optim.Adam(ncnc.parameters(), lr=0.01)
    x, edges = torch.randn(80, 12), torch.cat((links, links.flip(0)), 1)
    others = torch.randint(0, 80, links.shape)
    truth = torch.cat((torch.ones(links.size(1)), torch.zeros(links.size(1))))
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        logits = ncnc(x, edges, torch.cat((links, others), 1))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    check(losses[-1] < losses[0], f"training does not lower the loss: {losses}")


def command() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = "generated:dcsbm?num_nodes=200"
        options = [
            "--data",
            data,
            "--preset",
            "cora",
            "--epochs",
            "2",
            "--batch_size",
            "64",
            "--seeds",
            "1",
            "--out",
            str(Path(folder) / "run"),
        ]
        done = subprocess.run(
            [str(Path(sys.executable).parent / "graphmem"), "train", "ncn", *options], capture_output=True, text=True
        )
        check(done.returncode == 0, f"graphmem train failed: {done.stderr[-800:]}")


def kernels(key: str) -> set[str]:
    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("graphmem::")]
    check(len(names) >= 18, f"only {len(names)} operators are known")
    return {name for name in names if not torch._C._dispatch_has_kernel_for_dispatch_key(name, key)}


def main() -> None:
    check(ops.NATIVE, "the compiled operators were not loaded")
    check(
        Path(sys.prefix) in Path(_loader.CPU_LIBRARY).parents, f"the library is not the wheel's: {_loader.CPU_LIBRARY}"
    )
    check(not kernels("CPU"), f"without a kernel for the CPU: {kernels('CPU')}")
    if torch.version.cuda and _loader.cuda_build() is not None:
        check(
            _loader.CUDA_LIBRARY is not None, f"the CUDA operators were not loaded: {_loader.cuda_absence()} {warned}"
        )
        check(not kernels("CUDA"), f"without a kernel for CUDA: {kernels('CUDA')}")
    check(not warned, f"importing warns: {warned}")
    operators()
    model()
    command()
    print(
        json.dumps(
            {
                "python": sys.version.split()[0],
                "torch": torch.__version__,
                "torch_cuda": torch.version.cuda,
                "cuda_library": "loaded" if _loader.CUDA_LIBRARY else _loader.cuda_absence(),
                "gpu": torch.cuda.is_available(),
            }
        )
    )


if __name__ == "__main__":
    main()
