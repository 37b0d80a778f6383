"""Ctrl-C as a request that the training loop reads between steps."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

logger = logging.getLogger("graphmem.engine")


class InterruptGuard:
    """While active, the first SIGINT sets :attr:`requested`; the second raises ``KeyboardInterrupt`` at once.

    The previous handler returns on exit, and already before the second signal raises. Outside the main thread, where
    Python does not deliver signals, it does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: Any = None
        self._active = False

    def __enter__(self) -> InterruptGuard:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._handle)
            self._active = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        if self._active:
            # None stands for a handler that was not installed from Python; signal.signal cannot take it back.
            signal.signal(signal.SIGINT, signal.SIG_DFL if self._previous is None else self._previous)
            self._active = False

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.requested:
            self._restore()
            raise KeyboardInterrupt
        self.requested = True
        logger.warning("interrupt: training ends after the current step; interrupt again to end at once")
