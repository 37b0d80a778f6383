"""Nodes by the names that their publisher gave them, in a stream that goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from graphmem.data.stream import EventStream
from graphmem.errors import ArgumentError

I64 = npt.NDArray[np.int64]
Name = int | str

# An array of objects that :func:`as_names` returns holds text.
_KINDS = {"i": "whole numbers", "u": "whole numbers", "U": "text", "O": "text"}


def as_names(names: npt.ArrayLike) -> npt.NDArray[Any]:
    """Names as an array of whole numbers or of text; an array of numbers or of text as it is.

    Lists, arrays of objects and columns of frames may hold text or whole numbers, not both.

    Raises:
        ArgumentError: something else; the message names the first.
    """
    # Of a list numpy would make text of everything beside text, and a number of a truth value.
    found = np.array(names, dtype=object) if isinstance(names, list | tuple) else np.asarray(names)
    if found.dtype.kind not in "OT":
        if found.dtype.kind not in _KINDS and found.size:
            raise ArgumentError(f"names: expected whole numbers or text, got {found.dtype}")
        return found
    items = found.ravel().tolist()
    kinds = set(map(type, items))
    if kinds - {int} and kinds - {str}:
        items = [_plain(item) for item in items]
        kinds = set(map(type, items))
    if len(kinds) > 1:
        other = next(item for item in items if type(item) is not type(items[0]))
        raise ArgumentError(f"names: expected whole numbers or text, not both, got {items[0]!r} and {other!r}")
    if kinds != {int}:
        out = np.empty(found.size, dtype=object)  # of any length, where text of numpy loses zeros at its end
        out[:] = items
        return out.reshape(found.shape)
    numbers = np.array(items)
    if numbers.dtype.kind not in _KINDS or numbers.dtype == object:
        large = max(items, key=abs)
        raise ArgumentError(f"names: expected whole numbers that fit 64 bits together, got {large}")
    return numbers.reshape(found.shape)


def _plain(item: Any) -> Name:
    """A name without the type that a frame or an array gave it."""
    plain = item.item() if getattr(item, "ndim", None) == 0 else item
    if isinstance(plain, str):
        return str(plain)
    if not isinstance(plain, int) or isinstance(plain, bool):
        raise ArgumentError(f"names: expected whole numbers or text, got {plain!r} ({type(plain).__name__})")
    return int(plain)


def names_of(stream: EventStream, nodes: I64) -> npt.NDArray[Any]:
    """Names of nodes [n] of a stream: entries of ``node_names``, or their numbers."""
    names = stream.node_names
    if names is None:
        return nodes
    if isinstance(names, list | tuple):  # all of which would be copied to be indexed
        return as_names([names[node] for node in nodes.tolist()])
    return as_names(np.asarray(names)[nodes])


class NodeNames:
    """Which node a name stands for; unknown names become the next nodes.

    Names are whole numbers or text. The first ``numbered`` nodes go by their own numbers and cost nothing; any other
    takes an entry of a dictionary, some hundred bytes.

    Args:
        numbered: nodes 0, 1, ... that are named 0, 1, ...
        names: of the nodes behind them.
        is_dst: for each of ``names`` whether it names a destination, where sources and destinations are named apart
            (the same name then stands for two nodes); ``None``: they are not.

    Raises:
        ArgumentError: a name that stands twice, or that is neither a whole number nor text.

    Example:
        >>> names = NodeNames(names=["ada", "bob"])
        >>> names.add(np.array(["bob"]), np.array(["eve"]))
        (array([1]), array([2]))
    """

    def __init__(self, numbered: int = 0, names: Iterable[Name] = (), is_dst: Iterable[bool] | None = None) -> None:
        self.numbered = numbered
        self._names: list[Name] = []
        self._is_dst: list[bool] | None = None if is_dst is None else []
        src: dict[Name, int] = {}
        self._nodes = (src, src if is_dst is None else {})
        known = as_names(names if isinstance(names, np.ndarray) else list(names))
        self._kind(known)
        for name, dst in zip(known.tolist(), [False] * known.size if is_dst is None else is_dst, strict=True):
            if name in self._nodes[dst] or (isinstance(name, int) and 0 <= name < numbered):
                raise ArgumentError(f"names: expected distinct names, got {name!r} twice")
            self._insert(name, dst)

    @classmethod
    def of(cls, stream: EventStream) -> NodeNames:
        """The names of a stream: ``node_names``, or the numbers.

        Those of a bipartite stream are apart, and so are those of its slices (:attr:`EventStream.is_bipartite`).

        Raises:
            ArgumentError: a name that stands twice among sources, among destinations or, where they are not apart, at
                all; or that is neither a whole number nor text.
        """
        if stream.node_names is None:
            return cls(stream.num_nodes)
        names = as_names(stream.node_names)
        if not stream.is_bipartite or stream.dst_range is None:
            return cls(names=names)
        low, high = stream.dst_range
        return cls(names=names, is_dst=(low <= node < high for node in range(len(names))))

    def __len__(self) -> int:
        """Number of nodes."""
        return self.numbered + len(self._names)

    def __getitem__(self, nodes: npt.ArrayLike) -> npt.NDArray[Any]:
        """Names of nodes."""
        nodes = np.asarray(nodes)
        flat = [node if node < self.numbered else self._names[node - self.numbered] for node in nodes.ravel().tolist()]
        return np.array(flat, dtype=None if flat else np.int64).reshape(nodes.shape)

    @property
    def bipartite(self) -> bool:
        """Whether sources and destinations are named apart."""
        return self._is_dst is not None

    def destinations(self) -> I64:
        """Nodes named as destinations, ascending; all nodes where these are not named apart."""
        if self._is_dst is None:
            return np.arange(len(self))
        return self.numbered + np.flatnonzero(self._is_dst)

    def find(self, names: npt.ArrayLike, *, dst: bool = False) -> I64:
        """Nodes of names of any shape; -1 for those that are not known.

        Args:
            names: whole numbers or text, see :func:`as_names`.
            dst: whether they are destinations.

        Raises:
            ArgumentError: names that are neither, or of another kind than those that are known.
        """
        found = as_names(names)
        numbers = self._kind(found)
        if not self._names and not self.numbered:
            return np.full(found.shape, -1, dtype=np.int64)
        if numbers and self.numbered:
            if found.size and found.min() < 0:
                raise ArgumentError(f"names: expected numbers of nodes from 0 on, got {found.min()}")
            known: I64 = found.astype(np.int64)
            new = found >= self.numbered
            if new.any():
                known[new] = self._look_up(found[new], dst)
            return known
        return self._look_up(found, dst)

    def _look_up(self, names: npt.NDArray[Any], dst: bool) -> I64:
        nodes = self._nodes[dst]
        found = [nodes.get(name, -1) for name in names.ravel().tolist()]
        return np.array(found, dtype=np.int64).reshape(names.shape)

    def add(self, src: npt.ArrayLike, dst: npt.ArrayLike) -> tuple[I64, I64]:
        """Nodes of the ends of events [E]; new names become nodes event by event, the source's first."""
        src, dst = as_names(src), as_names(dst)
        if src.size and self._kind(src) != self._kind(dst):
            raise ArgumentError(f"names: expected ends of one kind, got sources of {src.dtype}, targets of {dst.dtype}")
        nodes = self.find(src), self.find(dst, dst=True)
        for event in np.flatnonzero((nodes[0] < 0) | (nodes[1] < 0)).tolist():
            for is_dst, names in enumerate((src, dst)):
                if nodes[is_dst][event] < 0:
                    name = names.item(event)
                    known = self._nodes[is_dst].get(name)
                    nodes[is_dst][event] = self._insert(name, bool(is_dst)) if known is None else known
        return nodes

    def _insert(self, name: Name, dst: bool) -> int:
        node = self._nodes[dst][name] = len(self)
        self._names.append(name)
        if self._is_dst is not None:
            self._is_dst.append(dst)
        return node

    def _kind(self, names: npt.NDArray[Any]) -> bool:
        """Whether names are numbers; raises for what does not fit the others."""
        found = _KINDS.get(names.dtype.kind)
        numbers = found != "text"
        if names.size and len(self) and numbers != self.are_numbers:
            wanted = "whole numbers" if self.are_numbers else "text"
            raise ArgumentError(f"names: nodes are named by {wanted}, got {found}, e.g. {names.item(0)!r}")
        return numbers

    @property
    def are_numbers(self) -> bool | None:
        """Whether names are whole numbers; ``None`` while there are none."""
        if self.numbered:
            return True
        return isinstance(self._names[0], int) if self._names else None

    def to_plain(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        is_dst = None if self._is_dst is None else list(self._is_dst)
        return {"numbered": self.numbered, "names": list(self._names), "is_dst": is_dst}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> NodeNames:
        """What :meth:`to_plain` wrote."""
        return cls(values["numbered"], values["names"], values["is_dst"])


__all__ = ["NodeNames", "as_names", "names_of"]
