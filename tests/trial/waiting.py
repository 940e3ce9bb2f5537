"""Waiting for what other processes do."""

import time

DEADLINE = 60


def eventually(what, ask):
    """Asks until the answer is yes; each round waits a little, because what is asked is another process."""
    start = time.monotonic()
    while not (answer := ask()):
        if time.monotonic() - start > DEADLINE:
            raise AssertionError(f"not in {DEADLINE} s: {what}")
        time.sleep(0.05)
    return answer
