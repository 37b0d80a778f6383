"""Arguments of the commands that use jsonargparse."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, get_origin, get_type_hints

from jsonargparse import ActionConfigFile, ArgumentParser

import graphmem
from graphmem.cli.replay import ReplayOptions
from graphmem.engine.families import config_class
from graphmem.engine.run_base import RunBase
from graphmem.engine.run_config import RunConfig
from graphmem.engine.workload import Workload
from graphmem.presets import MODELS, SIGNED_MODELS, STREAM_MODELS


def make_parser(arguments: Sequence[str] = ()) -> ArgumentParser:
    """The parser of all commands; ``doctor`` is listed but parsed without jsonargparse.

    Args:
        arguments: of the command line; the model that ``train`` is given decides what else it takes.
    """
    words = [word for word in arguments if not word.startswith("-")]
    train = _train(config_class(words[1] if words[:1] == ["train"] and len(words) > 1 else None))
    parser = ArgumentParser(prog="graphmem", description="Learning on graphs that change.")
    parser.add_argument("--version", action="version", version=f"graphmem {graphmem.__version__}")
    commands = parser.add_subcommands(dest="command", required=True)
    commands.add_subcommand("train", train, help="train a model and print its result beside the published one")
    commands.add_subcommand("evaluate", _evaluate(), help="measure a trained model again")
    commands.add_subcommand("predict", _predict(), help="score pairs of nodes with a trained model")
    commands.add_subcommand("replay", _replay(), help="score the events of a file or a pipe as they come")
    commands.add_subcommand("plan", _plan(), help="predict the memory that training takes")
    commands.add_subcommand("presets", _presets(), help="list the published settings")
    data = ArgumentParser(description="Data sets.")
    commands.add_subcommand("data", data, help="list, show or fetch data sets")
    actions = data.add_subcommands(dest="action", required=True)
    actions.add_subcommand("list", _common(ArgumentParser()), help="all known data sets")
    actions.add_subcommand("info", _named(), help="the card of a data set")
    actions.add_subcommand("prepare", _prepare(), help="fetch and verify the files of a data set")
    commands.add_subcommand("doctor", ArgumentParser(), help="say what graphmem sees on this machine")
    return parser


def field_help(config: type = RunConfig) -> dict[str, str]:
    """Help of each field of :class:`RunConfig`, or of another class of settings, from its docstring."""
    texts: dict[str, str] = {}
    for base in reversed(config.__mro__):
        # Cleaned: Python 3.13 strips the indentation of docstrings itself, earlier ones do not.
        text = inspect.cleandoc(base.__doc__ or "").partition("Args:")[2]
        found = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", text, flags=re.MULTILINE)
        texts.update({name: " ".join(lines.split()) for name, lines in found})
    return texts


def _common(parser: ArgumentParser) -> ArgumentParser:
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress bars, warnings only")
    parser.add_argument("--debug", action="store_true", help="show tracebacks (also: GRAPHMEM_DEBUG=1)")
    return parser


def _train(config: type[RunBase]) -> ArgumentParser:
    models = ", ".join((*MODELS, *STREAM_MODELS, *SIGNED_MODELS))
    parser = ArgumentParser(
        description=f"Train {models}, or evaluate a heuristic. MODEL --help: what that model takes."
    )
    parser.add_argument("--config", action=ActionConfigFile, help="YAML or JSON file with any of these arguments")
    hints, texts = get_type_hints(config), field_help(config)
    # argparse knows tuples of a fixed length only
    hints = {name: list[str] | None if hint == tuple[str, ...] | None else hint for name, hint in hints.items()}
    for field in fields(config):
        names, hint, help = _spellings(field.name), hints[field.name], texts[field.name]
        if field.name == "model":
            parser.add_argument("model", type=str, help=help)
        elif get_origin(hint) is Mapping:
            parser.add_argument(names[0], type=dict[str, Any], default={}, help=help)
        elif field.default is MISSING:
            parser.add_argument(*names, type=hint, required=True, help=help)
        elif hint is bool:
            parser.add_argument(*names, type=bool, nargs="?", const=True, default=field.default, help=help)
        else:
            parser.add_argument(*names, type=hint, default=field.default, help=help)
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run, with the same bits")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier run in the same folder")
    parser.add_argument("--tensorboard", action="store_true", help="write event files too (extra: track)")
    return _common(parser)


def _checkpoint(parser: ArgumentParser) -> ArgumentParser:
    parser.add_argument("checkpoint", type=str, help="best.pt or last.pt of a run, or the folder of a seed")
    parser.add_argument("--device", type=str | None, default=None, help="cpu, cuda or auto; as in training by default")
    return parser


def _evaluate() -> ArgumentParser:
    parser = _checkpoint(ArgumentParser(description="Measure a trained model on validation and test links."))
    text = "to measure instead of those of training, e.g. [mrr]"
    parser.add_argument("--metrics", type=list[str] | None, default=None, help=text)
    return _common(parser)


def _predict() -> ArgumentParser:
    parser = _checkpoint(ArgumentParser(description="Score pairs of nodes."))
    parser.add_argument("--pairs", type=str, required=True, help="csv with two columns, or npz with `pairs` [2, P]")
    parser.add_argument("--out", type=str | None, default=None, help="csv with the scores; stdout by default")
    parser.add_argument(
        "--graph",
        type=str,
        default="test",
        help="links that the model may look at: train; test, those that the test links were scored on; or all",
    )
    return _common(parser)


def _plan() -> ArgumentParser:
    parser = ArgumentParser(description="Predict the peak memory of a run on the CPU, above the level after import.")
    _fields(parser, Workload)
    return _common(parser)


def _replay() -> ArgumentParser:
    parser = ArgumentParser(description="Score events, each from the state of a model before it, then take them in.")
    parser.add_argument(
        "checkpoint", type=str, help="best.pt or last.pt of a run, the folder of a seed, or that of a saved state"
    )
    _fields(parser, ReplayOptions)
    return _common(parser)


def _spellings(name: str) -> list[str]:
    """A field as an argument, with _ and with - between words."""
    return list(dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}")))


def _fields(parser: ArgumentParser, config: type) -> None:
    """An argument for each field of a class of settings, with - or _ between words."""
    hints, texts = get_type_hints(config), field_help(config)
    for field in fields(config):
        names = _spellings(field.name)
        hint, help = hints[field.name], texts[field.name]
        if hint is bool:
            parser.add_argument(*names, action="store_true", help=help)
        elif field.default is MISSING:
            parser.add_argument(*names, type=hint, required=True, help=help)
        else:
            hint = list[str] | None if hint == tuple[str, ...] | None else hint
            parser.add_argument(*names, type=hint, default=field.default, help=help)


def _presets() -> ArgumentParser:
    return _common(ArgumentParser(description="List the published settings."))


def _named() -> ArgumentParser:
    parser = ArgumentParser()
    parser.add_argument("name", type=str, help="name or alias of a data set")
    return _common(parser)


def _prepare() -> ArgumentParser:
    parser = _named()
    parser.add_argument("--download", type=bool, default=True, help="false: never use the network")
    return parser
