"""Write and read objects while Ctrl-C comes at random: ``python interrupted.py FOLDER SECONDS``.

Prints how often it came, and what is open at the end.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from jobspan.store import open_store


def use(store, number):
    name = f"entries/{number % 7}"
    lock = store.try_lock(name)
    try:
        store.put(name, b"x" * 1000)
        store.get(name)
        store.delete(name)
        token = store.create(name, b"x" * 1000)
        store.swap(name, b"y" * 1000, token)
    finally:
        if lock is not None:
            lock.release()


def main(folder, seconds):
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    store = open_store(folder)
    use(store, 0)
    chance = random.Random(5)
    interrupts = number = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        number += 1
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 1e-3))
                use(store, number)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            interrupts += 1
    opened = [str(path.resolve()) for path in Path("/proc/self/fd").iterdir()]
    here = os.path.realpath(folder)
    print(json.dumps([interrupts, [path for path in opened if path.startswith(here)]]))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
