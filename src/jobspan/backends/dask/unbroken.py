"""Work that Ctrl-C must not break: clusters and clients know nothing of what they began with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

__all__ = ["unbroken"]

T = TypeVar("T")

LOOK_SECONDS = 0.5
"""How often it is looked whether the work has ended, should the word of it have been lost."""


def unbroken(work: Callable[[], T], undo: Callable[[T], None] | None = None) -> T:
    """Call `work` and return what it returns; Ctrl-C waits until that has ended.

    Python breaks the main thread only, so the work is done in another one.

    Parameters
    ----------
    work : callable
        Ends by itself within seconds.
    undo : callable or None
        Called with what came of it, if Ctrl-C came meanwhile: nobody else will have it.

    Raises
    ------
    KeyboardInterrupt
        When the work has ended, or at once where it is the second one.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    ended: list[tuple[T, None] | tuple[None, BaseException]] = []
    word: SimpleQueue[None] = SimpleQueue()
    once = iter((work,))  # a start that was interrupted is made again

    def run() -> None:
        for each in once:
            try:
                ended.append((each(), None))
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                ended.append((None, error))
            word.put(None)

    begun = False
    interrupt: KeyboardInterrupt | None = None
    while not ended:
        try:
            if not begun:
                try:
                    threading.Thread(target=run, name="jobspan-unbroken", daemon=True).start()
                except RuntimeError:  # Python ends, and starts no more threads
                    run()
                begun = True
            word.get(timeout=LOOK_SECONDS)
        except Empty:
            pass
        except KeyboardInterrupt as came:
            if interrupt is not None:
                raise
            interrupt = came
    (outcome,) = ended
    if interrupt is not None:
        if outcome[1] is None and undo is not None:
            undo(outcome[0])
        raise interrupt
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]
