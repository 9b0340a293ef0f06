"""Ctrl-C at random moments, and what is open before and after: for programs that tests start."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

__all__ = ["interrupt", "opened"]


def opened() -> Counter[str]:
    """Return how many descriptors of each kind this process has."""
    gc.collect()
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return Counter(str(link.readlink()).split(":[")[0] for link in links)


def interrupt(work: Callable[[], object], times: int, within: float, dice: random.Random) -> None:
    """Call `work` again and again, until Ctrl-C has come so often, each within some seconds."""
    interrupted = 0
    while interrupted < times:
        timer = threading.Timer(dice.uniform(0, within), os.kill, (os.getpid(), signal.SIGINT))
        try:
            try:
                timer.start()
                while timer.is_alive():
                    work()
            finally:
                timer.cancel()
                timer.join()
                time.sleep(0.005)
        except KeyboardInterrupt:
            interrupted += 1
