"""A cache that is attacked, and a process that reads it and may not have much memory."""

from __future__ import annotations

import importlib

from attacks import Target

from jobspan import Memory
from jobspan.memory.naming import entry_name
from jobspan.store import open_store
from jobspan.testing.faults import WrappedStore

KEY = b"a key of enough bytes to be one"
MODES = {"signed": {"sign_key": KEY}, "safe": {"safe": True}}


def computed(x):
    return [x, "right"]


def make_memory(folder, mode, remote):
    location = open_store(str(folder))
    # Wrapped, it is a store whose objects are no files that could be mapped.
    return Memory(WrappedStore(location) if remote else location, verbose=0, **MODES[mode])


def plant(memory, attack, x, mark):
    """Put what an attack makes under the key of a call; return its name, and what was put."""
    function = memory.cache(computed)
    store = memory.store_backend
    names = []
    for argument in (x, x + 1000):
        function(argument)
        names.append(entry_name(function._keys.key((argument,), {})))
    honest, other = (bytes(store.get(name)[0]) for name in names)
    digest = names[0].rpartition("/")[2]
    data = attack(Target(digest, honest, other, str(mark)))
    store.put(names[0], data)
    return names[0], data


def run(folder, mode, how, count):
    """Recompute what was attacked; return the results, and how many bytes it took at most."""
    resource = importlib.import_module("resource")
    importlib.import_module("pandas")
    importlib.import_module("pyarrow")
    memory = make_memory(folder, mode, how == "read")
    function = memory.cache(computed)
    function(-1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results = [function(x) for x in range(int(count))]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"results": results, "grown": grown * 1024}
