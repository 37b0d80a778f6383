"""The ``graphmem`` command.

``doctor`` and ``--version`` need nothing but graphmem itself; the other commands read their arguments with
jsonargparse, which the extra ``cli`` installs. Results go to stdout, everything else to stderr. Exit codes: 0 done,
1 doctor found a problem, 2 an error that the message explains, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import graphmem
from graphmem.allocator import prepare_allocator
from graphmem.errors import GraphMemError, MissingExtraError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: arguments without the program's name; those of the process by default.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments or os.environ.get("GRAPHMEM_DEBUG", "") not in ("", "0")
    # Of several processes of a run only the first speaks; warnings are those of all.
    with _logging("--quiet" in arguments or os.environ.get("RANK", "0") != "0"):
        try:
            return _dispatch(arguments)
        except SystemExit as request:  # an argument parser has printed help or an error
            return request.code if isinstance(request.code, int) else int(request.code is not None)
        except KeyboardInterrupt:
            print("graphmem: interrupted", file=sys.stderr)
            return 130
        except BrokenPipeError:  # the reader of our output left, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (GraphMemError, OSError) as error:
            if debug:
                traceback.print_exc()
            print(f"graphmem: error: {' '.join(str(error).split())}", file=sys.stderr)
            return 2


def _dispatch(arguments: list[str]) -> int:
    command = next((word for word in arguments if not word.startswith("-")), None)
    if command == "doctor":
        return _doctor(arguments)
    if command is None and "--version" in arguments:
        print(f"graphmem {graphmem.__version__}")
        return 0
    try:
        import jsonargparse  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"`graphmem {command or ''}".rstrip() + '` needs jsonargparse; run: pip install "graphmem[cli]"'
            " (`graphmem doctor` works without it)"
        ) from error
    prepare_allocator()  # before torch makes its first tensor
    from graphmem.cli import commands

    return commands.run(arguments)


def _doctor(arguments: list[str]) -> int:
    from graphmem import info

    parser = argparse.ArgumentParser(prog="graphmem doctor", description="Say what graphmem sees on this machine.")
    parser.add_argument("command", choices=["doctor"], help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    options = parser.parse_args(arguments)
    facts = info.collect()
    print(json.dumps(facts, indent=2) if options.json else info.report(facts))
    return 0 if info.healthy(facts) else 1


@contextmanager
def _logging(quiet: bool) -> Iterator[None]:
    """Show the library's log on stderr while a command runs."""
    logger = logging.getLogger("graphmem")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
