"""Run as a program: many processes call one cached function with the same arguments at once.

``python crowd.py URL OPTIONS LOG PROCESSES KEYS [SECONDS]``
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time

from jobspan import Memory


def note(log: str, text: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


def main() -> None:
    url, options, log, processes, keys, *rest = sys.argv[1:]
    seconds = float(rest[0]) if rest else 0.02
    children = []
    for number in range(int(processes)):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                work(url, json.loads(options), log, number, int(keys), seconds)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    assert not any(statuses), statuses


def work(url: str, options: dict, log: str, number: int, keys: int, seconds: float) -> None:
    memory = Memory(url, storage_options=options or None, verbose=0, lease_seconds=20)

    @memory.cache(version=1)
    def square(x):
        note(log, str(x))
        time.sleep(seconds)
        return x * x

    @memory.cache(version=1)
    async def square_later(x):
        note(log, str(x))
        await asyncio.sleep(seconds)
        return x * x

    order = list(range(keys))
    random.Random(number).shuffle(order)
    if number % 2:  # the other half are coroutines, of keys of their own
        assert [square(x) for x in order] == [x * x for x in order]
        return

    async def together():
        return await asyncio.gather(*(square_later(-x) for x in order))

    assert asyncio.run(together()) == [x * x for x in order]


if __name__ == "__main__":
    main()
