"""Signals that end a process, made to end blocks instead, so that each cleans up after itself."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise SystemExit, where they would have ended the process without a word."""

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
        raise SystemExit(128 + number)

    numbers = [signal.SIGTERM, signal.SIGHUP]
    with _handlers({number: end for number in numbers if signal.getsignal(number) is signal.SIG_DFL}):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """No impatient second Ctrl-C leaves a server half stopped."""
    with _handlers(dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN)):
        yield


@contextmanager
def _handlers(wanted: dict[signal.Signals, Any]) -> Iterator[None]:
    """Signal handlers for the length of the block; only the main thread may set any."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
