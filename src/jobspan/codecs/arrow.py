"""Frames as Arrow streams, read as what a stranger may have written.

Arrow maps what it reads and trusts its offsets, and a stream of some bytes can say that it holds
a billion rows of nothing. So a stream is refused where it is compressed inside, where its offsets
lead elsewhere, and where a frame of it would not fit into memory. A column of an extension type is
made by code that some library has registered for it, and there are libraries whose code unpickles
what the stream says of the type: only types whose code is known are read and written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from jobspan.codecs.compression import check_room
from jobspan.codecs.values import Part
from jobspan.errors import CodecError, EntryDamagedError, MissingExtraError

__all__ = ["ArrowCodec"]

SLOT_BYTES = 8
"""What a value of a frame takes at least, also one of which the stream says nothing."""

_DICTIONARY, _RECORDS = 2, 3
"""Arrow's numbers for messages that have buffers."""

_EXTENSION = b"ARROW:extension:name"
"""Under which key a field says that its type is an extension."""

_NO_EXTENSION = b"jobspan:extension:xx"
"""Of the same length: with this key in its place the field is of its plain type to Arrow."""

_KNOWN_EXTENSIONS = frozenset(
    (
        "arrow.bool8",
        "arrow.fixed_shape_tensor",
        "arrow.json",
        "arrow.opaque",
        "arrow.uuid",
        "pandas.interval",
        "pandas.period",
    )
)
"""Extension types that Arrow itself and pandas read, from text and JSON."""


class ArrowCodec:
    """Arrow tables, and pandas and polars frames, as an Arrow stream."""

    name = "arrow"
    safe = True

    @staticmethod
    def check() -> None:
        """Raise `MissingExtraError` where pyarrow is not installed."""
        _pyarrow()

    def encode(self, value: Any) -> list[Part]:
        """Return the kind of frame, and the stream."""
        pa = _pyarrow()
        module, name = type(value).__module__.partition(".")[0], type(value).__name__
        if isinstance(value, pa.Table):
            kind, table = "arrow", value
        elif (module, name) == ("pandas", "DataFrame"):
            # Arrow does not know how often the times of an index come.
            frequency = getattr(value.index, "freqstr", None) or ""
            kind, table = f"pandas {frequency}", _table_of_pandas(value)
        elif (module, name) == ("polars", "DataFrame"):
            kind, table = "polars", value.to_arrow()
        else:
            raise CodecError(f"{type(value).__qualname__} cannot be stored as Arrow data")
        _refuse_extensions(pa, table.schema.serialize(), CodecError)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return [kind.encode(), memoryview(sink.getvalue())]

    def decode(self, parts: Sequence[Part]) -> Any:
        """Return the table or frame."""
        pa = _pyarrow()
        kind, _, frequency = bytes(parts[0]).decode().partition(" ")
        stream = pa.py_buffer(parts[1])
        _refuse_compression(pa, stream)
        schema = pa.ipc.MessageReader.open_stream(stream).read_next_message().serialize()
        _refuse_extensions(pa, schema, EntryDamagedError)
        table = pa.ipc.open_stream(stream).read_all()
        table.validate(full=True)
        if kind == "arrow":
            return table
        check_room(SLOT_BYTES * sum(_slots(pa, each) for each in table.columns))
        if kind == "pandas":
            frame = table.to_pandas()
            if frequency:
                frame.index.freq = frequency
            return frame
        if kind == "polars":
            return _polars(table)
        raise EntryDamagedError(f"no kind of frame is called {kind[:20]!r}")


def _table_of_pandas(frame: Any) -> Any:
    """Return a frame as a table, unless columns or an index of objects would come back changed."""
    pa = _pyarrow()
    table = pa.Table.from_pandas(frame)
    doubtful = [name for name, kind in zip(frame.columns, frame.dtypes, strict=True) if kind == "O"]
    if doubtful or frame.index.dtype == "O":
        part = frame[doubtful]
        back = pa.Table.from_pandas(part).to_pandas()
        if not (back.equals(part) and back.index.dtype == part.index.dtype):
            raise CodecError(f"columns of objects, {doubtful}, do not stay what they are in Arrow")
    return table


def _polars(table: Any) -> Any:
    """Return a table as a frame of polars'; what makes polars panic is damage."""
    import polars as pl

    try:
        return pl.from_arrow(table)
    except BaseException as error:
        # Not an Exception, as it would end a program of Rust's.
        if type(error).__name__ != "PanicException":
            raise
        raise EntryDamagedError(f"polars cannot read the Arrow stream: {error}") from error


def _refuse_extensions(pa: Any, schema: Any, refusal: type[CodecError | EntryDamagedError]) -> None:
    """Refuse a schema with extension types that are not known to run no code.

    Parameters
    ----------
    pa : module
        pyarrow.
    schema : buffer
        The schema as a message. Read as it is, it would run their code.
    refusal : type
        What is raised.
    """
    plain = bytes(schema).replace(_EXTENSION, _NO_EXTENSION)
    names = _extensions(pa, pa.ipc.read_schema(pa.py_buffer(plain)))
    unknown = sorted(set(names) - _KNOWN_EXTENSIONS)
    if unknown:
        raise refusal(
            f"columns of the extension types {unknown} are neither stored nor read as Arrow data: "
            "to read them runs the code of a library. Convert them to plain columns"
        )


def _extensions(pa: Any, fields: Iterable[Any]) -> Iterator[str]:
    """Yield the names of the extension types of fields, of those within them too."""
    pending = list(fields)
    while pending:
        one = pending.pop()
        one.name  # noqa: B018 - raises where it is not UTF-8, as polars would panic at it
        name = (one.metadata or {}).get(_NO_EXTENSION)
        if name is not None:
            yield name.decode(errors="replace")
        kind = one.type
        while pa.types.is_dictionary(kind):
            kind = kind.value_type
        pending += (kind.field(number) for number in range(kind.num_fields))


def _refuse_compression(pa: Any, stream: Any) -> None:
    """Refuse a stream with compressed buffers: what they become has no bound."""
    for message in pa.ipc.MessageReader.open_stream(stream):
        metadata = memoryview(message.metadata)
        kind, table = _message(metadata)
        if kind == _DICTIONARY:
            table = _field(metadata, table, 1)
            table = table and table + struct.unpack_from("<I", metadata, table)[0]
        if kind in (_DICTIONARY, _RECORDS) and table and _field(metadata, table, 3):
            raise EntryDamagedError("the Arrow stream is compressed inside, which is not read")


def _message(metadata: memoryview) -> tuple[int, int]:
    """Return the kind of a message and where the table of its header is, 0 where there is none."""
    (root,) = struct.unpack_from("<I", metadata, 0)
    kind, header = _field(metadata, root, 1), _field(metadata, root, 2)
    if not (kind and header):
        return 0, 0
    return metadata[kind], header + struct.unpack_from("<I", metadata, header)[0]


def _field(metadata: memoryview, table: int, number: int) -> int:
    """Return where a field of a FlatBuffers table is, 0 where it is not set."""
    (back,) = struct.unpack_from("<i", metadata, table)
    entry = 4 + 2 * number
    if entry >= struct.unpack_from("<H", metadata, table - back)[0]:
        return 0
    (offset,) = struct.unpack_from("<H", metadata, table - back + entry)
    return table + offset if offset else 0


def _slots(pa: Any, array: Any) -> int:
    """Return how many values there are in an array, those within its values counted in."""
    if isinstance(array, pa.ChunkedArray):
        return sum(_slots(pa, chunk) for chunk in array.chunks)
    slots = len(array)
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return slots + _slots(pa, array.storage)
    if pa.types.is_dictionary(kind):
        return slots + _slots(pa, array.dictionary)
    if pa.types.is_struct(kind) or pa.types.is_union(kind):
        return slots + sum(_slots(pa, array.field(each)) for each in range(kind.num_fields))
    if hasattr(array, "values"):
        return slots + _slots(pa, array.values)
    return slots


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingExtraError("the codec 'arrow'", "arrow") from error
    return pa
