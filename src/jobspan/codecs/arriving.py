"""The digests of a large entry, taken while it arrives: to hash it takes as long as to send it."""

from __future__ import annotations

from blake3 import blake3

from jobspan.codecs.entry import layout
from jobspan.codecs.header import Header, read_header
from jobspan.errors import EntryDamagedError

__all__ = ["Arriving"]


class Arriving:
    """Hashes the parts of an entry as far as they are there.

    Called whenever more has arrived, it reads on from where it stopped. What it saw of an entry
    that turns out to be damaged is of no use, and nothing of it is raised.

    Examples
    --------
    >>> from jobspan.codecs.entry import pack, unpack
    >>> data = pack(Header("0" * 64, "project.f", 0.0, 1.0), [b"payload", b"buffer"])
    >>> arriving = Arriving()
    >>> for filled in (10, 400, len(data)):
    ...     arriving(memoryview(data), filled)
    >>> header, parts = unpack(data, digests=arriving.digests)
    >>> bytes(parts[1])
    b'buffer'
    """

    def __init__(self) -> None:
        self._header: Header | None = None
        self._spans: list[tuple[int, int, blake3]] = []
        self._at = 0
        self._hashers: tuple[blake3, blake3] = (blake3(), blake3())

    def __call__(self, data: memoryview, filled: int) -> None:
        """Hash what has arrived: the first `filled` bytes of `data`."""
        if self._header is None and not self._begun(data, filled):
            return
        while self._spans:
            begin, end, hasher = self._spans[-1]
            begin = max(begin, self._at)
            to = min(end, filled)
            if begin < to:
                hasher.update(data[begin:to])
                self._at = to
            if end > filled:
                return
            self._spans.pop()

    @property
    def digests(self) -> tuple[bytes, bytes] | None:
        """Digests of the payload and of the buffers; None where not all of them was seen."""
        if self._header is None or self._spans:
            return None
        payload, buffers = self._hashers
        return payload.digest(), buffers.digest()

    def _begun(self, data: memoryview, filled: int) -> bool:
        """Learn from the header where each part is; whether that could be read."""
        try:
            header, position = read_header(data[:filled])
        except EntryDamagedError:
            return False
        payload, buffers = self._hashers
        spans, _ = layout(position, header.parts)
        self._spans = [(*span, buffers if place else payload) for place, span in enumerate(spans)]
        self._spans.reverse()
        self._header = header
        return True
