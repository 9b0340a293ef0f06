"""Features of source code."""

import socket
import time
from collections import Counter
from pathlib import Path

from wordcount.words import names


def features(text, number, log, pause):
    """Return what is counted in a file; note in a log that it was computed, and where."""
    with Path(log).open("a") as file:
        file.write(f"{number} {socket.gethostname()}\n")
    time.sleep(pause)
    counted = Counter(names(text))
    return {"lines": text.count("\n"), "words": dict(counted.most_common(50))}
