"""The feature pipeline over a folder of text files: read, count in parallel, cache, sum up.

usage: python feature_pipeline.py [FOLDER]
"""

import atexit
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

from jobspan import Memory, Parallel, delayed

sys.path.insert(0, str(Path(__file__).parent))
from features import features, read

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(os.__file__).parent / "json"
temporary = tempfile.TemporaryDirectory(prefix="jobspan-example-")
atexit.register(temporary.cleanup)
location = os.environ.get("EXAMPLE_CACHE") or temporary.name
memory = Memory(location, verbose=0)
extract = memory.cache(features)

paths = sorted(folder.rglob("*.py"))
parallel = Parallel(n_jobs=2, return_as="generator")
counts, lines = Counter(), 0
for result in parallel(delayed(extract)(read(path)) for path in paths):
    counts.update(result["words"])
    lines += result["lines"]

print(f"{len(paths)} files, {lines} lines")
print("top words:", ", ".join(f"{word} ({n})" for word, n in counts.most_common(5)))
