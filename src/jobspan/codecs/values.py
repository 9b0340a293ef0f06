"""Values as a payload with buffers out of band, and back."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any, Protocol

from jobspan.errors import CodecError
from jobspan.registry import Registry

__all__ = ["CODECS", "Codec", "PickleCodec", "register_codec"]

Part = bytes | bytearray | memoryview


class Codec(Protocol):
    """Writes values of some types as bytes, and reads them again."""

    @property
    def name(self) -> str:
        """What entries name it by."""
        ...

    @property
    def safe(self) -> bool:
        """Whether reading can run no code."""
        ...

    def encode(self, value: Any) -> list[Part]:
        """Return the payload and its buffers.

        Raises
        ------
        CodecError
            If the codec cannot write the value.
        """
        ...

    def decode(self, parts: Sequence[Part]) -> Any:
        """Return the value; buffers may be used as they are, without a copy."""
        ...


class PickleCodec:
    """Any value that cloudpickle takes, large buffers out of band."""

    name = "pickle"
    safe = False

    def encode(self, value: Any) -> list[Part]:
        """Return the pickle of protocol 5 and its buffers."""
        buffers: list[pickle.PickleBuffer] = []
        try:
            try:
                payload = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
            except (pickle.PicklingError, AttributeError, TypeError):
                import cloudpickle

                buffers.clear()
                payload = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        except Exception as error:
            raise CodecError(f"{type(value).__qualname__} cannot be stored: {error}") from error
        return [payload, *(buffer.raw() for buffer in buffers)]

    def decode(self, parts: Sequence[Part]) -> Any:
        """Return the value."""
        return pickle.loads(parts[0], buffers=parts[1:])


CODECS: Registry[type[Codec]] = Registry("codec")
CODECS.register("pickle", PickleCodec)
CODECS.register("json", "jobspan.codecs.plain:JsonCodec")
CODECS.register("npy", "jobspan.codecs.plain:NpyCodec")
CODECS.register("arrow", "jobspan.codecs.plain:ArrowCodec")


def register_codec(name: str, codec: type[Codec] | str) -> None:
    """Register a codec under the name that entries have in their headers.

    Parameters
    ----------
    name : str
        The name, which must stay the same for as long as entries are kept.
    codec : class or str
        A class with the methods of `Codec`, or ``"module:class"``.
    """
    CODECS.register(name, codec)
