"""Seam 2: what crosses a process boundary, and what a backend supplies for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

__all__ = ["Bytes", "Encoded", "EncodedBatch", "Fetch", "Reference", "Share"]

Bytes: TypeAlias = bytes | bytearray | memoryview

Reference: TypeAlias = Any
"""What a backend names a shared buffer by: small, and cheap to pickle."""


class Share(Protocol):
    """Puts a buffer where the other side finds it."""

    def __call__(self, buffer: memoryview, /) -> Reference | None:
        """Return the reference to a buffer, or None: it travels with the payload.

        Parameters
        ----------
        buffer : memoryview
            Contiguous, one-dimensional bytes, at least ``max_nbytes`` of them.
        """
        ...


class Fetch(Protocol):
    """Returns the buffer that a reference names, on the other side."""

    def __call__(self, reference: Reference, /) -> Any:
        """Return an object with the buffer interface; read-only or not, as it was agreed."""
        ...


class Encoded(NamedTuple):
    """A value as bytes plus references.

    A named tuple, as what else is made for every batch: it costs a quarter of a frozen dataclass.

    Parameters
    ----------
    payload : bytes
        A pickle of protocol 5.
    references : sequence of Reference
        Its out-of-band buffers, in order.
    """

    payload: Bytes
    references: Sequence[Reference] = ()


class EncodedBatch(NamedTuple):
    """A batch as bytes plus references, with what a worker needs once.

    Parameters
    ----------
    batch : Encoded
        The calls, their functions and their context named by digest and token.
    functions : mapping of str to Encoded
        Every function that the batch names, by digest; a worker that has one needs no second.
    token : str
        Names the context.
    context : Encoded
        The context; a worker that has it needs no second.
    """

    batch: Encoded
    functions: dict[str, Encoded]
    token: str
    context: Encoded

    def all_references(self) -> list[Reference]:
        """Return every reference in the batch and its functions, each once, sorted."""
        found = [*self.batch.references]
        for function in self.functions.values():
            found += function.references
        return sorted(set(found))

    def picklable(self, places: Mapping[Reference, int] | None = None) -> EncodedBatch:
        """Return the same with payloads as bytes, references replaced by their `places`."""

        def plain(part: Encoded) -> Encoded:
            references = [places[reference] for reference in part.references] if places else []
            return Encoded(bytes(part.payload), references)

        return EncodedBatch(
            plain(self.batch),
            {digest: plain(function) for digest, function in self.functions.items()},
            self.token,
            plain(self.context),
        )
