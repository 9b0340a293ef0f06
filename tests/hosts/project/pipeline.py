"""The pipeline: ``python pipeline.py '{"backend": ..., ...}'``; the last line says how it went."""

import json
import os
import sys
import time
from pathlib import Path

from wordcount import features

from jobspan import Memory, Parallel, delayed


def main(told):
    folder = Path(os.__file__).parent
    paths = sorted(path for path in folder.glob("*.py"))[: told["files"]]
    texts = [path.read_text("utf-8", "replace") for path in paths]
    memory = Memory(told["cache"], storage_options=told["storage_options"], verbose=0)
    extract = memory.cache(features, ignore=["log", "pause"])
    print(json.dumps({"connected": False}), flush=True)
    parallel = Parallel(
        n_jobs=2, backend=told["backend"], return_as="generator", batch_size=1, retries=3
    )
    calls = (
        delayed(extract)(text, number, told["log"], told["pause"])
        for number, text in enumerate(texts)
    )
    begin = time.monotonic()
    results = []
    for result in parallel(calls):
        results.append(result)
        print(json.dumps({"done": len(results)}), flush=True)
    seconds = time.monotonic() - begin
    expected = [features(text, n, os.devnull, 0) for n, text in enumerate(texts)]
    print(
        json.dumps(
            {
                "right": results == expected,
                "recalled": parallel.stats.recalled,
                "seconds": round(seconds, 1),
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
