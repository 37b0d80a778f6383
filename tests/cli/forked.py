"""Commands in processes forked from one that has imported what they need, so that a test can kill many of them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path

# Nothing is computed there, so no thread is lost in a fork.
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    ["graphmem.cli.commands", "graphmem.engine.experiment", "graphmem.models", "torch._dynamo", "matplotlib.figure"]
)


def start(words: list[str], out: Path | None = None) -> ForkServerProcess:
    """``graphmem`` with these words in the working directory, its standard output in a file."""
    process = _forks.Process(target=_command, args=(words, os.getcwd(), out))
    process.start()
    return process


def wait(process: ForkServerProcess, seconds: float | None = None) -> int:
    """Exit status of a process, that of a killed one below 0."""
    process.join(seconds)
    assert process.exitcode is not None, "still running"
    return process.exitcode


def _command(words: list[str], folder: str, out: Path | None) -> None:
    from graphmem.cli import main

    os.chdir(folder)
    with contextlib.ExitStack() as stack:
        if out is not None:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(out.open("w"))))
        status = main(words)
    sys.exit(status)
