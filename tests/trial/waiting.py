"""Waiting for other processes."""

import time

DEADLINE = 60


def eventually(what, ask):
    """Calls `ask` until the result is true, and returns it. The pause leaves CPU to the other process."""
    start = time.monotonic()
    while not (answer := ask()):
        if time.monotonic() - start > DEADLINE:
            raise AssertionError(f"not in {DEADLINE} s: {what}")
        time.sleep(0.05)
    return answer
