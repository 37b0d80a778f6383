"""`load_dataset`: data sets by name, from local files, the cache or the publisher."""

from __future__ import annotations

import difflib
import importlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from graphmem.data.cache import LocatedFiles, array_sha256, locate
from graphmem.data.card import DatasetCard, read_cards
from graphmem.data.dataset import GraphDataset
from graphmem.data.fixed_negatives import FixedNegatives
from graphmem.data.stream import EventStream
from graphmem.data.stream_splits import StreamSplit
from graphmem.errors import ArgumentError, DatasetError, DatasetIntegrityError

__all__ = [
    "canonical_stream_name",
    "dataset_card",
    "dataset_sha256",
    "graph_card",
    "list_datasets",
    "load_dataset",
    "load_stream",
    "prepare_dataset",
]

_READERS = {"planetoid", "npz_graph", "seal_mat", "musae", "ogb", "events", "tgb", "wiki_rfa"}
_GENERATORS = {
    "dcsbm": ("generators", "dcsbm"),
    "power-law": ("generators", "power_law"),
    "groups": ("sized", "groups"),
    "citations": ("sized", "citations"),
}


def list_datasets() -> list[DatasetCard]:
    """Cards of all known data sets, by name."""
    return list(read_cards().values())


def dataset_card(name: str) -> DatasetCard:
    """The card of a data set.

    Args:
        name: name or alias; case does not matter, `_` and `-` are the same.

    Raises:
        DatasetError: unknown name; the message suggests similar ones.
    """
    cards = read_cards()
    by_key = {_key(alias): card for card in cards.values() for alias in (card.name, *card.aliases)}
    card = by_key.get(_key(name))
    if card is not None:
        return card
    close = difflib.get_close_matches(_key(name), by_key, n=3, cutoff=0.6)
    known = "; did you mean " + " or ".join(repr(by_key[key].name) for key in close) + "?" if close else "."
    raise DatasetError(
        f"name: unknown data set {name!r}{known} Known: {', '.join(sorted(cards))}; or the path of a file."
    )


def graph_card(name: str) -> DatasetCard:
    """The card of a graph.

    Raises:
        DatasetError: an unknown name, or that of a stream.
    """
    card = dataset_card(name)
    if card.is_stream:
        raise DatasetError(f"name: {card.name!r} is a stream of events, not a graph; use load_stream({card.name!r})")
    return card


def _key(name: str) -> str:
    return name.strip().lower().replace("-", "_")


def load_dataset(
    name: str | os.PathLike[str], root: str | os.PathLike[str] | None = None, download: bool = True
) -> GraphDataset:
    """Load a data set by name, or an edge list by path.

    Files are searched in `root`, `$GRAPHMEM_DATA` and the user's cache (`$GRAPHMEM_CACHE`), then downloaded from the
    publisher into the cache. They are verified: by the sha256 of each file where the card records it, else by the
    sha256 of the decoded arrays; node, edge, feature and class counts are compared in any case. Nothing prompts, and
    `root` and `$GRAPHMEM_DATA` are never written.

    Args:
        name: a name of `list_datasets()`; the path of an edge list (see `read_edges` for its options); or a generated
            graph with settings, e.g. `"generated:dcsbm?num_nodes=1000&seed=3"`.
        root: folder searched first, laid out like `$GRAPHMEM_DATA` (`folder` on each card).
        download: False: never use the network.

    Raises:
        DatasetError: unknown name.
        DatasetNotFoundError: a file is missing and cannot be downloaded.
        DatasetIntegrityError: a file or its contents differ from the card.
        MissingExtraError: the format needs an optional dependency.

    Example:
        >>> from graphmem.data.registry import load_dataset
        >>> load_dataset("generated:dcsbm?num_nodes=200&num_blocks=4&seed=1").num_nodes
        200
    """
    text = os.fspath(name)
    if text.startswith("generated:"):
        return _generate(text)
    from graphmem.data.formats.edge_list import SUFFIXES, read_edges

    if text.lower().endswith(SUFFIXES):
        return read_edges(text)
    card = graph_card(text)
    files = locate(card, root, download)
    dataset: GraphDataset = _read(card, files)
    verify(card, dataset, files)
    return dataset


def load_stream(
    name: str | os.PathLike[str], root: str | os.PathLike[str] | None = None, download: bool = True
) -> EventStream:
    """Load a stream of events by name or, with the columns source, destination, time, by path.

    Searched, downloaded and verified as by :func:`load_dataset`, whose arguments and errors it has.

    Args:
        name: a name of `list_datasets()`, or the path of a file: `ml_NAME.csv` in the layout of DGB (see `read_dgb`), a
            csv with JODIE's line of names (see `read_jodie`), any other, KONECT's `out.NAME` too, as by `read_events`.
        root: folder searched first.
        download: False: never use the network.

    Raises:
        DatasetError: also for the name of a graph.
    """
    from graphmem.data.formats.dgb import is_dgb, read_dgb
    from graphmem.data.formats.events import read_events
    from graphmem.data.formats.jodie import is_jodie, read_jodie

    text = canonical_stream_name(os.fspath(name))
    if _is_events_path(text):
        if is_dgb(text):
            return read_dgb(text)
        return read_jodie(text) if is_jodie(text) else read_events(text)
    card = dataset_card(text)
    files = locate(card, root, download)
    stream: EventStream = _read(card, files)
    verify(card, stream, files)
    return stream


def load_publisher_negatives(
    name: str, split: StreamSplit, root: str | os.PathLike[str] | None = None, download: bool = True
) -> FixedNegatives:
    """The negatives that the publisher of a stream gives with it, as TGB does.

    Args:
        name: as for :func:`load_stream`.
        split: of that stream, as the publisher splits it.
        root: as for :func:`load_dataset`.
        download: likewise.

    Raises:
        DatasetError: also where the publisher gives none.
        ArgumentError: another split.
    """
    from graphmem.data.formats.tgb import read_negatives

    text = canonical_stream_name(name)
    card = None if _is_events_path(text) else dataset_card(text)
    if card is None or "negatives" not in card.options:
        raise DatasetError(f"ranking_negatives: the publisher of {text!r} gives none; TGB's streams have them")
    paths = locate(card, root, download).paths
    valid, test = (read_negatives(paths[file]) for file in card.options["negatives"])
    return FixedNegatives(split, valid, test)


def canonical_stream_name(name: str) -> str:
    """The name on a stream's card; the path of a file stays as it is.

    Raises:
        DatasetError: an unknown name, or that of a graph.
    """
    if _is_events_path(name):
        return name
    card = dataset_card(name)
    if not card.is_stream:
        raise DatasetError(f"name: {card.name!r} is a graph, not a stream of events; use load_dataset({card.name!r})")
    return card.name


def _is_events_path(name: str) -> bool:
    from graphmem.data.formats.event_lines import SUFFIXES
    from graphmem.data.formats.konect import is_konect

    return name.lower().endswith(SUFFIXES) or is_konect(name)


def prepare_dataset(name: str, root: str | os.PathLike[str] | None = None, download: bool = True) -> Path:
    """Fetch the files of a data set and verify them; nothing is decoded unless only the arrays' sha256 is known.

    Args:
        name: as for `load_dataset`.
        root: as for `load_dataset`.
        download: as for `load_dataset`.

    Returns:
        The folder that holds the files (of the first one, if they lie in several).

    Raises:
        DatasetError: unknown name, or a generated graph, which has no files; see `load_dataset` for the others.
    """
    card = dataset_card(name)
    if not card.files:
        raise DatasetError(f"name: {card.name!r} is generated and has no files")
    files = locate(card, root, download)
    if not files.verified and card.array_sha256:
        verify(card, _read(card, files), files)
    first, path = next(iter(files.paths.items()))
    return path.parents[len(Path(first).parts) - 1]


def _read(card: DatasetCard, files: LocatedFiles) -> Any:
    if card.format not in _READERS:
        raise DatasetError(f"card {card.name!r}: format {card.format!r} has no reader; known: {sorted(_READERS)}")
    reader = importlib.import_module(f"graphmem.data.formats.{card.format}")
    return reader.load(card, files)


def dataset_sha256(dataset: GraphDataset | EventStream) -> str:
    """`array_sha256` of `edge_index`, `x` and `y`, and of the sets of the fixed split; of a stream's ends and times."""
    if isinstance(dataset, EventStream):
        return array_sha256(src=dataset.src, dst=dataset.dst, t=dataset.t)
    split = dataset.split
    names = ("train", "valid", "valid_neg", "test", "test_neg")
    sets = {} if split is None else {f"split.{name}": getattr(split, name) for name in names}
    return array_sha256(edge_index=dataset.edge_index, x=dataset.x, y=dataset.y, **sets)


def verify(card: DatasetCard, dataset: GraphDataset | EventStream, files: LocatedFiles | None) -> None:
    """Compare a decoded data set with its card.

    Args:
        card: what it should be.
        dataset: what was read.
        files: where it was read from; None for a generated graph, of which only the counts are compared.

    Raises:
        DatasetIntegrityError: a count differs, or the files were not verified and the arrays have another sha256.
    """
    where = "the generator" if files is None else ", ".join(str(path) for path in list(files.paths.values())[:2])
    stream = isinstance(dataset, EventStream)
    for name in ("num_nodes", "num_events") if stream else ("num_nodes", "num_edges", "num_features", "num_classes"):
        expected, found = getattr(card, name), getattr(dataset, name)
        if expected is not None and expected != found:
            raise DatasetIntegrityError(
                f"data set {card.name!r}: {name} is {found}, the card says {expected}. The file ({where}) holds "
                "another data set or another version; replace it."
            )
    sizes = {} if isinstance(dataset, EventStream) or dataset.split is None else dataset.split.sizes
    for name, expected in card.split_sizes.items():
        if sizes.get(name) != expected:
            raise DatasetIntegrityError(
                f"data set {card.name!r}: split set {name!r} has {sizes.get(name)} pairs, the card says {expected} "
                f"({where})"
            )
    if files is None or files.verified or not card.array_sha256:
        return
    digest = dataset_sha256(dataset)
    if digest != card.array_sha256:
        raise DatasetIntegrityError(
            f"data set {card.name!r}: {where} is neither the recorded file nor another encoding of it: its arrays have "
            f"sha256 {digest}, expected {card.array_sha256}. Replace it with the publisher's file."
        )


def _generate(text: str) -> GraphDataset:
    """Build `generated:<kind>?<setting>=<value>&...`; settings default to those of the card."""
    base, _, query = text.partition("?")
    card = dataset_card(base)
    module, name = _GENERATORS[str(card.options["generator"])]
    function: Any = getattr(importlib.import_module(f"graphmem.data.{module}"), name)
    settings: dict[str, Any] = {key: value for key, value in card.options.items() if key != "generator"}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in settings:
            raise ArgumentError(f"name: {base!r} has no setting {key!r}; it has {sorted(settings)}")
        try:
            settings[key] = type(settings[key])(value)
        except ValueError:
            kind = type(settings[key]).__name__
            raise ArgumentError(f"name: setting {key!r} of {base!r} must be {kind}, found {value!r}") from None
    dataset: GraphDataset = function(**settings)
    dataset = replace(dataset, card=replace(card, options={**dataset.card.options, **settings}))
    if not query:
        verify(card, dataset, None)
    return dataset
