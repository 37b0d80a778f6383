"""Ctrl-C as a request that the training loop reads between steps."""

from __future__ import annotations

import logging
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

logger = logging.getLogger("graphmem.engine")


class InterruptGuard:
    """While active, the first SIGINT sets :attr:`requested`; the second raises ``KeyboardInterrupt`` at once.

    The previous handler returns on exit, and already before the second signal raises. Outside the main thread, where
    Python does not deliver signals, it does nothing.

    Args:
        grace: seconds after the first signal in which others count as the same. ``torchrun`` passes on the Ctrl-C that
            the terminal has sent to its processes already.
    """

    def __init__(self, grace: float = 0.0) -> None:
        self.requested, self._grace, self._since = False, grace, 0.0
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
            if time.monotonic() - self._since < self._grace:
                return
            self._restore()
            raise KeyboardInterrupt
        self.requested, self._since = True, time.monotonic()
        logger.warning("interrupt: training ends after the current step; interrupt again to end at once")
