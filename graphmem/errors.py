"""Typed errors. Every message names the argument, what was found and what is expected."""

from __future__ import annotations


class GraphMemError(Exception):
    """Base class of every error that graphmem raises on purpose."""


class ArgumentError(GraphMemError, ValueError):
    """An argument has the wrong value, shape, dtype or device."""


class ArgumentTypeError(GraphMemError, TypeError):
    """An argument has the wrong type."""


class LateEventError(ArgumentError):
    """An event is older than what a stream still takes in.

    Args:
        message: what was found and what is expected.
        event: the first such event, as a place in the batch.
    """

    def __init__(self, message: str, event: int) -> None:
        super().__init__(message)
        self.event = event


class NoNegativesError(ArgumentError):
    """An event has met every destination, so that there is none to rank it against."""


class NativeLibraryError(GraphMemError, RuntimeError):
    """The compiled operators are required but missing, or could not be loaded."""


class DatasetError(GraphMemError, RuntimeError):
    """A data set is unknown, cannot be found or downloaded, or is not what its card says."""


class DatasetNotFoundError(DatasetError, FileNotFoundError):
    """A data set's file is missing locally and cannot be downloaded."""


class DatasetIntegrityError(DatasetError):
    """A file or a decoded array differs from the checksum or the statistics on the data set's card."""


class CheckpointError(GraphMemError, RuntimeError):
    """A checkpoint is missing, damaged, or belongs to another run."""


class DistributedError(GraphMemError, RuntimeError):
    """The processes of a run cannot be connected, or one of them has ended."""


class PresetError(GraphMemError, ValueError):
    """A preset is unknown or malformed."""


class MissingExtraError(GraphMemError, ImportError):
    """An optional dependency is needed; the message names the extra to install."""
