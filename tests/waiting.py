"""Waiting for what another thread, process or session does."""

import time
from collections.abc import Callable

PATIENCE = 30.0
"""Seconds: far longer than anything here takes, far shorter than a job of the gate."""


def until(holds: Callable[[], object], *, patience: float = PATIENCE) -> None:
    """Return once something holds; fail the test if it does not within `patience` seconds."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, f"waited for {patience} s in vain"
        time.sleep(0.01)
