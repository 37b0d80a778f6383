"""Malformed input for every public operator, for graphs and for readers.

    python tests/fuzz/fuzz.py --cases 12000 [--seed 0] [--targets cn_count,read_edges] [--direct] [--oracle]

Each case draws valid arguments for one target and spoils one to three of them. Then one of two things must happen: a
`GraphMemError`, or a result; with `--oracle` the result is compared with that of the reference loops, so that accepted
garbage is seen. Anything else (another exception, a crash, a hang) is a finding. A case follows from seed and number;
cases run in a child process, which is started anew behind one that kills it.

`--direct` calls `torch.ops.graphmem` without the Python faces, with wrong shapes, dtypes, layouts and sizes. There any
exception will do, and a crash is a finding; values (ids, offsets) are the caller's promise and are not spoiled.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import random
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SECONDS = 60  # after which a case counts as hung


def spoil_tensor(rng: random.Random, value: Any, values: bool = True) -> Any:
    """Another tensor, or none: wrong type, shape, dtype, device or layout, and (``values``) wrong contents."""
    import torch

    changes: dict[str, Any] = {
        "dtype": lambda: value.to(
            rng.choice((torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64))
        ),
        "bool": lambda: value.bool(),
        "complex": lambda: value.to(torch.complex64),
        "flat": lambda: value.flatten(),
        "rank": lambda: value.unsqueeze(rng.randint(0, value.dim())),
        "scalar": lambda: value.flatten()[0] if value.numel() else value.sum(),
        "transposed": lambda: value.transpose(0, -1) if value.dim() else value,
        "shorter": lambda: value[..., :-1] if value.dim() else value,
        "longer": lambda: torch.cat((value, value), dim=-1) if value.dim() else value,
        "more rows": lambda: torch.cat((value, value), dim=0) if value.dim() else value,
        "empty": lambda: value[..., :0] if value.dim() else value,
        "no rows": lambda: value[:0] if value.dim() else value,
        "meta": lambda: value.to("meta"),
        "strided": lambda: value.repeat_interleave(2, dim=-1)[..., ::2] if value.dim() else value,
        "overlapping": lambda: value[:1].expand(value.shape) if value.dim() and value.size(0) else value,
        "sparse": lambda: value.to_sparse() if value.dim() else value,
    }
    if values:
        changes |= {
            "none": lambda: None,
            "list": lambda: value.tolist(),
            "numpy": lambda: value.numpy(),
            "text": lambda: "tensor",
            "negative": lambda: -value.long() - 1,
            "one negative": lambda: _set(rng, value, -1),
            "large": lambda: value + 2 ** rng.choice((3, 20, 31, 33, 62)),
            "one large": lambda: _set(rng, value, rng.choice((2**31 - 1, 2**31, 2**40, 2**62, -(2**63)))),
            "nan": lambda: _set(rng, value, float("nan")),
            "infinite": lambda: _set(rng, value, float("inf")),
            "reversed": lambda: value.flip(-1) if value.dim() else value,
            "shuffled": lambda: value.flatten()[ids_of(rng, value.numel())].view(value.shape),
            "grad": lambda: value.clone().requires_grad_() if value.is_floating_point() else value,
        }
    name = rng.choice(list(changes))
    try:
        return changes[name]()
    except (RuntimeError, TypeError, ValueError, OverflowError, NotImplementedError):
        return value.to("meta")  # the change itself is not possible for this tensor


def ids_of(rng: random.Random, count: int) -> Any:
    import torch

    return torch.tensor(rng.sample(range(count), count), dtype=torch.int64)


def _set(rng: random.Random, value: Any, number: float) -> Any:
    changed = value.clone()
    if changed.numel():
        changed.flatten()[rng.randrange(changed.numel())] = number  # flatten of a contiguous tensor is a view
    return changed


def spoil(rng: random.Random, value: Any) -> Any:
    """Another value in the place of a valid one."""
    import torch

    if isinstance(value, torch.Tensor):
        return spoil_tensor(rng, value)
    if isinstance(value, bytes):
        return _spoil_bytes(rng, value)
    if isinstance(value, bool):
        return rng.choice((True, False))
    if isinstance(value, int):
        return rng.choice((-1, 0, 1, 2**62, 2**63, 2**70, -(2**63) - 1, 1.5, float("nan"), "7", None))
    if isinstance(value, float):
        return rng.choice((-0.1, 0.0, 1.0, 1.5, float("nan"), float("inf"), -float("inf"), "0.5", None))
    if isinstance(value, str):
        return rng.choice(("", "nothing", "cn", None, 3))
    if isinstance(value, tuple):
        return rng.choice(((), ("cn", "cn"), ("middle",), "cn", None, (3,)))
    if value is None:
        return rng.choice((None, 3, torch.ones(3), torch.ones(2, dtype=torch.int64), "none"))
    return _spoil_graph(rng, value)


def _spoil_graph(rng: random.Random, graph: Any) -> Any:
    """A graph that is no CSRGraph, with a spoilt array; or something that is no graph at all."""
    if rng.random() < 0.1:
        return rng.choice((None, 3, "graph", SimpleNamespace(rowptr=None)))
    fields = {name: getattr(graph, name) for name in ("rowptr", "col", "keep", "weight", "num_nodes")}
    name = rng.choice([key for key, value in fields.items() if value is not None])
    fields[name] = spoil(rng, fields[name])
    return SimpleNamespace(**fields)


def _spoil_bytes(rng: random.Random, content: bytes) -> bytes:
    kind = rng.randrange(5)
    at = rng.randrange(len(content) + 1)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + bytes(rng.getrandbits(8) for _ in range(rng.randint(1, 9))) + content[at:]
    if kind == 2 and content:
        at = rng.randrange(len(content))
        return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]
    if kind == 3:
        word = rng.choice((b"-1", b"99999999999999999999", b"nan", b'"', b"\x00", b"\xff\xfe", b"1e9", b",,,\n"))
        return content[:at] + word + content[at:]
    return b""


def draw(seed: int, number: int, targets: list[str]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Target, valid arguments and spoilt arguments of a case."""
    from fuzz_targets import TARGETS

    rng = random.Random(f"{seed}/{number}")
    name = targets[number % len(targets)]
    valid = TARGETS[name].build(rng)
    spoilt = dict(valid)
    for key in rng.sample(sorted(valid), min(len(valid), rng.choice((1, 1, 1, 2, 3)))):
        # Methods need their own object: what is spoilt is what they are given.
        if (
            key == "kind"
            or key.startswith("own_")
            or (key == "graph" and name in ("without_edges", "drop_edges", "spmm"))
        ):
            continue
        spoilt[key] = spoil(rng, spoilt[key])
    return name, valid, spoilt


def run_case(seed: int, number: int, targets: list[str], oracle: bool) -> str:
    """Outcome of a case: "refused", "accepted", or a finding."""
    import torch
    from fuzz_targets import TARGETS

    from graphmem.errors import GraphMemError

    name, _, arguments = draw(seed, number, targets)
    random_state = torch.get_rng_state()
    try:
        result = TARGETS[name].call(**arguments)
    except (GraphMemError, FileNotFoundError):
        return "refused"
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} ({Path(frame.filename).name}:{frame.lineno}): {str(error)[:200]}"
    if oracle:
        torch.set_rng_state(random_state)
        try:
            with reference_loops():
                expected = TARGETS[name].call(**arguments)
        except Exception as error:
            return f"the reference refuses: {type(error).__name__} {str(error)[:200]}"
        if not same(result, expected, moderate(arguments)):
            return "differs from the reference"
    return "accepted"


@contextlib.contextmanager
def reference_loops() -> Iterator[None]:
    """Serve the Python faces by the reference loops."""
    import torch

    from graphmem.ops import _fallback, reference

    native = torch.ops.graphmem
    names = [_fallback._name(schema) for schema in _fallback.SCHEMAS]
    with serving(SimpleNamespace(**{name: _reference(name, reference, native) for name in names})), torch.no_grad():
        yield


@contextlib.contextmanager
def serving(operators: Any) -> Iterator[None]:
    """Let the Python faces call these in place of ``torch.ops.graphmem``."""
    import torch

    from graphmem.ops._autograd import Operator

    native, call = torch.ops.graphmem, Operator.__call__

    def run(operator: Any, *arguments: Any) -> Any:
        return getattr(operators, operator._name)(*arguments)

    torch.ops.graphmem, Operator.__call__ = operators, run  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.ops.graphmem, Operator.__call__ = native, call  # type: ignore[method-assign]


def _reference(name: str, reference: Any, native: Any) -> Any:
    import torch

    def run(*arguments: Any) -> Any:
        if any(isinstance(a, torch.Tensor) and a.is_meta for a in arguments):
            return getattr(native, name)(*arguments)
        return getattr(reference, name)(*(a.detach() if isinstance(a, torch.Tensor) else a for a in arguments))

    return run


def moderate(arguments: dict[str, Any]) -> bool:
    """Whether no number is infinite, or so large that its rounding decides a softmax or a gate."""
    import torch

    floats = [a.detach() for a in arguments.values() if isinstance(a, torch.Tensor) and a.is_floating_point()]
    return all(
        bool((a.to_dense().double().nan_to_num(0, torch.inf, -torch.inf).abs() < 1e5).all())
        for a in floats
        if not a.is_meta
    )


def same(a: Any, b: Any, closely: bool = True) -> bool:
    """Whether two results agree; products to rounding, or (not ``closely``) in their shape alone."""
    import torch

    if isinstance(a, torch.Tensor):
        if a.is_meta or not a.is_floating_point():
            return a.shape == b.shape and (a.is_meta or torch.equal(a, b))
        near = not closely or torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-4, equal_nan=True)
        return a.shape == b.shape and near
    if isinstance(a, dict):
        return all(same(value, b[key], closely) for key, value in a.items())
    if isinstance(a, tuple | list):
        return all(same(x, y, closely) for x, y in zip(a, b, strict=True))
    return True


# Numbers that are sizes, and what they cannot be. A size that is merely another one breaks a promise about values.
NO_SIZES = (-1, -(2**63), 2**62)
SIZES = {name: NO_SIZES for name in ("num_nodes", "num_cols", "total", "num_cn", "count", "parts", "num_pair_layers")}
SIZES |= {"k": (0, -1, -(2**63))}
# What ids name places of: with fewer of them, but some, a call has wrong values alone.
TABLES = ("x", "h", "branch", "weight", "keep", "memory", "messages")
# What operators take without a gradient.
CONSTANTS = ("memory", "msg", "state", "value", "messages")


def run_direct(seed: int, number: int) -> str:
    """Spoil shapes, dtypes, layouts and sizes of a call of a native operator: any exception is an answer."""
    import torch
    from fuzz_targets import TARGETS

    names = [name for name in TARGETS if name not in ("read_edges", "LinkSplit", "split_edges", "random_targets")]
    rng = random.Random(f"direct {seed}/{number}")
    calls = record(names[number % len(names)], rng)
    if not calls:
        return "accepted"
    operator, arguments = rng.choice(calls)
    run = getattr(torch.ops.graphmem, operator)
    named = [argument.name for argument in run.default._schema.arguments]
    tensors = [isinstance(a, torch.Tensor) for a in arguments]
    places = [k for k, is_tensor in enumerate(tensors) if is_tensor or named[k] in SIZES]
    for k in rng.sample(places, min(len(places), rng.choice((1, 1, 2)))):
        value = arguments[k]
        spoilt = spoil_tensor(rng, value, values=False) if tensors[k] else rng.choice(SIZES[named[k]])
        if named[k] in TABLES and spoilt.dim() == value.dim() and 0 < spoilt.size(0) < value.size(0):
            continue
        arguments[k] = spoilt
    try:
        run(*arguments)
    except Exception:
        return "refused"
    return "accepted"


def record(name: str, rng: random.Random) -> list[tuple[str, list[Any]]]:
    """Calls of native operators that a valid call of a target and its gradient make."""
    import torch
    from fuzz_targets import TARGETS

    native, calls = torch.ops.graphmem, list[tuple[str, list[Any]]]()

    def caught(operator: str) -> Any:
        def run(*arguments: Any) -> Any:
            calls.append((operator, [a.detach() if isinstance(a, torch.Tensor) else a for a in arguments]))
            return getattr(native, operator)(*arguments)

        return run

    class Recorder:
        def __getattr__(self, operator: str) -> Any:
            return caught(operator)

    arguments = TARGETS[name].build(rng)
    for argument, value in arguments.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point() and argument not in CONSTANTS:
            value.requires_grad_()
    try:
        with serving(Recorder()):
            result = TARGETS[name].call(**arguments)
            for part in result if isinstance(result, tuple) else (result,):
                if isinstance(part, torch.Tensor) and part.requires_grad:
                    part.sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
    except Exception:  # a drawn graph may be too small or too full
        calls.clear()
    return calls


def child(options: argparse.Namespace) -> None:
    """Run cases and print a line each: the number before, the outcome behind it."""
    import torch

    torch.set_num_threads(1)
    os.chdir(options.folder)
    for number in range(options.start, options.cases):
        print(number, end=" ", flush=True)
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        if options.direct:
            outcome = run_direct(options.seed, number)
        else:
            outcome = run_case(options.seed, number, options.targets, options.oracle)
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(outcome), flush=True)


def main() -> int:
    """Run all cases; exit code 1 if there is a finding."""
    from fuzz_targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", type=lambda text: text.split(","), default=list(TARGETS))
    parser.add_argument("--direct", action="store_true", help="call the native operators")
    parser.add_argument("--oracle", action="store_true", help="compare what is accepted with the reference loops")
    parser.add_argument("--start", type=int, default=0, help="number of the first case")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        child(options)
        return 0
    outcomes, findings, start = Counter[str](), [], options.start
    with tempfile.TemporaryDirectory() as folder:
        while start < options.cases:
            words = [sys.executable, __file__, *sys.argv[1:], "--start", str(start), "--folder", folder]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            lines = [line.partition(" ") for line in done.stdout.splitlines()]
            for number, _, text in lines:
                outcome = json.loads(text) if text else f"the process ended with {done.returncode}"
                good = outcome in ("refused", "accepted")
                outcomes[outcome if good else "finding"] += 1
                if not good:
                    where = "native" if options.direct else options.targets[int(number) % len(options.targets)]
                    findings.append(f"case {number} ({where}): {outcome}")
            if done.returncode and not (lines and not lines[-1][2]):
                findings.append(f"behind case {start}: {done.stderr[-2000:]}")
                break
            start = int(lines[-1][0]) + 1
    print("\n".join(findings))
    print(f"seed {options.seed}: {dict(outcomes)}")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
