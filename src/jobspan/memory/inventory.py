"""What a cache holds: facts about its entries, read from their headers and never from their values.

::

    inventory ─┬ folders   one listing, one header a function
               └ survey    one listing, one header an entry
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from jobspan.codecs.entry import unpack
from jobspan.codecs.header import Header, read_header, start_size
from jobspan.codecs.lease import Lease
from jobspan.codecs.signing import Signer
from jobspan.errors import EntryDamagedError
from jobspan.memory.last_use import last_use, with_uses
from jobspan.memory.naming import entry_of, function_prefix
from jobspan.store import Content, LocalPaths, ObjectInfo, ObjectStore
from jobspan.store.local_files import read_or_map

__all__ = [
    "FunctionFolder",
    "StoredEntry",
    "Survey",
    "folders",
    "last_use",
    "problem_of",
    "problems",
    "survey",
]

HEADER_BYTES = 1 << 13
"""Bytes that are read for a header; few headers are larger, and those are asked for again."""

READERS = 16
"""Headers that are read at once: a bucket answers each after some milliseconds."""


@dataclass(frozen=True, slots=True)
class FunctionFolder:
    """The entries of one function, as a listing shows them.

    Parameters
    ----------
    folder : str
        The folder's name in the store, ending in a slash.
    function : str
        Module and qualified name of the function; empty where no header there can be read.
    entries : tuple of ObjectInfo
        Its entries.
    """

    folder: str
    function: str
    entries: tuple[ObjectInfo, ...]

    @property
    def size(self) -> int:
        """Bytes of all its entries."""
        return sum(info.size for info in self.entries)

    @property
    def used(self) -> float:
        """When one of its entries was last used, in seconds since the epoch."""
        return max(map(last_use, self.entries))


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One stored result.

    Parameters
    ----------
    info : ObjectInfo
        The object that holds it.
    header : Header
        What it says of itself.
    """

    info: ObjectInfo
    header: Header

    @property
    def used(self) -> float:
        """When it was last used, or stored, in seconds since the epoch."""
        return last_use(self.info)


@dataclass(slots=True)
class Survey:
    """What a store holds.

    Parameters
    ----------
    entries : list of StoredEntry
        The results.
    claims : list of ObjectInfo
        Claims of callers that compute a result just now, or died while they did.
    damaged : list of ObjectInfo
        Objects whose header cannot be read.
    marks : list of ObjectInfo
        Marks that tell when entries were last used, also of entries that are gone.
    """

    entries: list[StoredEntry] = field(default_factory=list)
    claims: list[ObjectInfo] = field(default_factory=list)
    damaged: list[ObjectInfo] = field(default_factory=list)
    marks: list[ObjectInfo] = field(default_factory=list)

    def marks_without(self, leaving: Iterable[str]) -> list[ObjectInfo]:
        """Return the marks of entries that are gone, or will be.

        Parameters
        ----------
        leaving : iterable of str
            Names of the entries that are about to be deleted.
        """
        known = {entry.info.name for entry in self.entries}
        known.update(info.name for info in (*self.claims, *self.damaged))
        known.difference_update(leaving)
        return [mark for mark in self.marks if entry_of(mark.name) not in known]

    @property
    def size(self) -> int:
        """Bytes of everything."""
        entries = sum(entry.info.size for entry in self.entries)
        return entries + sum(info.size for info in (*self.claims, *self.damaged))

    @property
    def seconds(self) -> float:
        """Seconds that it took to compute the results."""
        return sum(entry.header.seconds for entry in self.entries)

    def by_function(self) -> dict[str, list[StoredEntry]]:
        """Return the results by function, that with the most bytes first."""
        found: dict[str, list[StoredEntry]] = {}
        for entry in self.entries:
            found.setdefault(entry.header.function, []).append(entry)

        def weight(name: str) -> tuple[int, str]:
            return -sum(entry.info.size for entry in found[name]), name

        return {name: found[name] for name in sorted(found, key=weight)}


def folders(store: ObjectStore) -> list[FunctionFolder]:
    """Return the functions whose results a store holds, with one listing and few requests more.

    Parameters
    ----------
    store : ObjectStore
        The store; what in it is not named like an entry is left out.
    """
    grouped: dict[str, list[ObjectInfo]] = {}
    for info in with_uses(store.list())[0]:
        grouped.setdefault(info.name.partition("/")[0], []).append(info)

    def named(folder: str) -> FunctionFolder:
        entries = grouped[folder]
        for info in entries[:3]:  # the first may be a claim, or damaged
            found = _facts(store, info)
            if isinstance(found, Header):
                return FunctionFolder(f"{folder}/", found.function, tuple(entries))
        return FunctionFolder(f"{folder}/", "", tuple(entries))

    with ThreadPoolExecutor(READERS, thread_name_prefix="jobspan-inventory") as pool:
        return list(pool.map(named, sorted(grouped)))


def survey(
    store: ObjectStore, function: str | None = None, *, infos: Iterable[ObjectInfo] | None = None
) -> Survey:
    """Read the header of every entry.

    Parameters
    ----------
    store : ObjectStore
        The store.
    function : str or None
        Module and qualified name of the one function whose entries are wanted.
    infos : iterable of ObjectInfo or None
        The objects to look at, where a listing is at hand; None: all.

    Notes
    -----
    Threads and processes: safe beside readers, writers and evictions; entries that go meanwhile
    are left out.
    """
    found = Survey()
    prefix = "" if function is None else function_prefix(function)
    named, found.marks = with_uses(store.list(prefix) if infos is None else infos)
    for info, facts in _read_all(store, named):
        if isinstance(facts, Header):
            if function is None or facts.function == function:
                found.entries.append(StoredEntry(info, facts))
        elif isinstance(facts, Lease):
            found.claims.append(info)
        elif isinstance(facts, EntryDamagedError):
            found.damaged.append(info)
    return found


def problem_of(store: ObjectStore, name: str, signer: Signer | None = None) -> str:
    """Read an object and return what is wrong with it; its value is not decoded.

    Parameters
    ----------
    store : ObjectStore
        The store.
    name : str
        The object's name.
    signer : Signer or None
        Verifies signatures.

    Returns
    -------
    str
        Empty where nothing is wrong, where it is a claim, and where it is gone by now.
    """
    try:
        data = _whole(store, name)
        if Lease.is_packed(data):
            return ""
        header, _ = unpack(data, name.rpartition("/")[2])
    except KeyError:
        return ""
    except EntryDamagedError as error:
        return str(error)
    if signer is not None and not signer.verify(header.signed_text(), header.signature):
        return f"the signature is {'wrong' if header.signature else 'missing'}"
    return ""


def _whole(store: ObjectStore, name: str) -> Any:
    """Return all of an object; a large file is mapped, for its size says nothing of its content."""
    if not isinstance(store, LocalPaths):
        return store.get(name)[0]
    data = read_or_map(store.local_path(name), writable=False)
    if data is None:
        raise KeyError(name)
    return data


def problems(
    store: ObjectStore, names: Iterable[str], signer: Signer | None = None
) -> Iterator[tuple[str, str]]:
    """Read objects, several at once, and yield the names of bad ones with what is wrong."""
    known = list(names)
    with ThreadPoolExecutor(READERS, thread_name_prefix="jobspan-inventory") as pool:
        found = pool.map(lambda name: problem_of(store, name, signer), known)
        yield from ((name, problem) for name, problem in zip(known, found, strict=True) if problem)


Facts = Header | Lease | EntryDamagedError | None


def _read_all(store: ObjectStore, named: list[ObjectInfo]) -> Iterator[tuple[ObjectInfo, Facts]]:
    with ThreadPoolExecutor(READERS, thread_name_prefix="jobspan-inventory") as pool:
        yield from zip(named, pool.map(lambda info: _facts(store, info), named), strict=True)


def _header(data: Content) -> Header:
    """Return the header at the start of an entry, with nothing of the entry kept besides it."""
    header, _ = read_header(bytes(data))
    header.components  # noqa: B018 - read lazily: what is damaged should show here
    header.head, header.parts, header.sizes = b"", (), ()  # of many entries, and nobody asks
    return header


def _facts(store: ObjectStore, info: ObjectInfo) -> Facts:
    """Return what an object says of itself; None where it is gone."""
    try:
        data = store.get(info.name, 0, HEADER_BYTES)[0]
        if Lease.is_packed(data):
            return Lease.unpack(data)
        try:
            return _header(data)
        except EntryDamagedError:
            if info.size <= HEADER_BYTES:
                raise
            return _header(store.get(info.name, 0, start_size(data))[0])
    except KeyError:
        return None
    except EntryDamagedError as error:
        return error
