"""Batches out, results back: functions and contexts once a worker, failures one by one."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import repeat
from types import ModuleType
from typing import Any, NamedTuple

from jobspan.calls import Batch, Call, CallContext
from jobspan.errors import TransportError
from jobspan.outcomes import Failure
from jobspan.transport.failures import pack_failure, unpack_failure
from jobspan.transport.pickling import (
    Arguments,
    decode,
    describe_failure,
    encode,
    travelling_by_value,
)
from jobspan.transport.protocol import Bytes, Encoded, EncodedBatch, Fetch, Share
from jobspan.worker.context import find_imports
from jobspan.worker.run import Ran

__all__ = [
    "UNDECODED",
    "BatchDecoder",
    "BatchEncoder",
    "EncodedRan",
    "decode_ran",
    "decode_values",
    "encode_ran",
]

KEPT_FUNCTIONS = 1024
"""How many functions, and how many contexts, a worker keeps; older ones are asked for again."""

UNDECODED = -1
"""The offset of the failure of a batch that its worker could not decode."""

FEW = 8
"""Up to so many values it pays to look whether the plain pickler will do."""

_PLAIN = frozenset({int, float, complex, bool, str, bytes, type(None)})
"""Types that need neither our pickler nor shared memory."""


def _is_plain(values: Sequence[Any]) -> bool:
    """Whether the plain pickler will do, as far as it pays to look."""
    return len(values) <= FEW and _PLAIN.issuperset(map(type, values))


def _of_one_function(calls: Sequence[Call], function: Callable[..., Any]) -> bool:
    # A loop, for it runs for every call of a million: twice as fast as all() here.
    for each, _, kwargs in calls:  # noqa: SIM110
        if each is not function or kwargs:
            return False
    return True


def _arguments_of(call: Call) -> Arguments:
    _, args, kwargs = call
    named: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
    return Arguments({f"argument {name!r}": value for name, value in named.items()})


_NO_KEYWORDS: dict[str, Any] = {}


class BatchEncoder:
    """Encodes the batches of one executor.

    Parameters
    ----------
    share : Share or None
        Takes large buffers.
    threshold : int or None
        Bytes from which a buffer is large.
    by_value : callable or None
        Returns the modules that travel by value: workers lack them, or must not import them.

    Notes
    -----
    Threads and processes: one thread at a time. A function is encoded once a ``Parallel`` call,
    so that what it closes over is as it was when the call began.
    """

    def __init__(
        self,
        share: Share | None = None,
        threshold: int | None = None,
        *,
        by_value: Callable[[], Iterable[ModuleType]] | None = None,
    ) -> None:
        self._share = share
        self._threshold = threshold
        self._by_value = by_value
        self._token = ""
        self._context = Encoded(b"")
        self._functions: dict[int, tuple[Any, str, Encoded]] = {}

    def encode(self, batch: Batch) -> EncodedBatch:
        """Encode a batch.

        Raises
        ------
        TransportError
            If something in it cannot be pickled. Encode its calls one by one to learn which.
        """
        quick = self._quickly(batch)
        if quick is not None:
            return quick
        with travelling_by_value(self._by_value()) if self._by_value else nullcontext():
            if batch.context.token != self._token:
                self._functions.clear()
                self._context = _encode_context(batch.context)
                self._token = batch.context.token
            needed: dict[str, Encoded] = {}
            calls = batch.calls
            function = calls[0][0]
            plain: Any
            if _of_one_function(calls, function):
                digest = self._digest(function, needed)
                try:
                    column = [value for _, (value,), _ in calls]
                except ValueError:
                    plain = (self._token, digest, [call[1] for call in calls], False)
                else:
                    plain = (self._token, digest, column, True)
            else:
                plain = (
                    self._token,
                    [(self._digest(f, needed), args, kwargs) for f, args, kwargs in calls],
                )
            try:
                encoded = encode(plain, self._share, self._threshold)
            except TransportError as error:
                if len(calls) > 1:
                    raise  # they are encoded one by one then
                told = describe_failure(_arguments_of(calls[0]), error.__cause__)
                raise TransportError(told) from error.__cause__
        return EncodedBatch(encoded, needed, self._token, self._context)

    def _quickly(self, batch: Batch) -> EncodedBatch | None:
        """Encode a few calls of a function that is known with one plain argument each."""
        calls = batch.calls
        function = calls[0][0]
        known = self._functions.get(id(function))
        if known is None or batch.context.token != self._token or len(calls) > FEW:
            return None
        column = []
        for each, args, kwargs in calls:
            if each is not function or kwargs or len(args) != 1 or type(args[0]) not in _PLAIN:
                return None
            column.append(args[0])
        _, digest, encoded = known
        payload = pickle.dumps((self._token, digest, column, True), protocol=5)
        return EncodedBatch(Encoded(payload), {digest: encoded}, self._token, self._context)

    def _digest(self, function: Callable[..., Any], needed: dict[str, Encoded]) -> str:
        known = self._functions.get(id(function))
        if known is None:
            from blake3 import blake3

            encoded = encode(function, self._share, self._threshold)
            hasher = blake3(encoded.payload)
            if encoded.references:
                hasher.update(pickle.dumps((self._token, id(function))))
            # The function is kept: its id names it for as long as it lives.
            known = (function, hasher.hexdigest(32), encoded)
            self._functions[id(function)] = known
        needed[known[1]] = known[2]
        return known[1]


def _encode_context(context: CallContext) -> Encoded:
    """Encode a context; where its worker finds what it names in modules stands in front of it."""
    return Encoded(pickle.dumps((context.import_path, encode(context).payload), protocol=5))


def _decode_context(encoded: Encoded) -> CallContext:
    import_path, payload = decode(encoded)
    find_imports(import_path)
    context: CallContext = decode(Encoded(payload))
    return context


class BatchDecoder:
    """Decodes batches in a worker, which keeps the functions and contexts it has seen.

    Parameters
    ----------
    prepare : callable or None
        Called with each context that is learnt, before the functions that come with it are.

    Notes
    -----
    Threads and processes: safe to use from several threads of one worker.
    """

    def __init__(self, prepare: Callable[[CallContext], None] | None = None) -> None:
        self._prepare = prepare
        self._functions: OrderedDict[str, Callable[..., Any]] = OrderedDict()
        self._contexts: OrderedDict[str, CallContext] = OrderedDict()
        self._unlearnt: OrderedDict[str, str] = OrderedDict()

    def missing(self, digests: Sequence[str]) -> list[str]:
        """Return those of `digests` that the worker lacks."""
        return [digest for digest in digests if digest not in self._functions]

    def learn(self, encoded: EncodedBatch, fetch: Fetch | None = None) -> None:
        """Take in the functions and the context that came with a batch.

        Raises
        ------
        TransportError
            If one of them cannot be unpickled. Batches that need it fail for the same reason.
        """
        if encoded.token not in self._contexts and encoded.context.payload:
            read = partial(_decode_context, encoded.context)
            self._learn(self._contexts, encoded.token, read, "context")
            if self._prepare is not None:
                self._prepare(self._contexts[encoded.token])
        for digest, function in encoded.functions.items():
            if digest not in self._functions:
                self._learn(self._functions, digest, partial(decode, function, fetch), "function")

    def _learn(
        self, kept: OrderedDict[str, Any], name: str, read: Callable[[], Any], what: str
    ) -> None:
        try:
            self._keep(kept, name, read())
        except Exception as error:
            problem = f"the {what} cannot be unpickled in a worker: {_told(error)}"
            self._keep(self._unlearnt, name, problem)
            raise TransportError(problem) from error

    def decode(
        self, encoded: Encoded, fetch: Fetch | None = None
    ) -> tuple[CallContext, Iterable[Call], int]:
        """Return a batch's context, its calls, and how many they are.

        Raises
        ------
        TransportError
            If a function or the context was never learnt, or something cannot be unpickled.
        """
        try:
            token, *plain = decode(encoded, fetch)
        except Exception as error:
            raise TransportError(
                f"the arguments cannot be unpickled in a worker: {_told(error)}"
            ) from error
        try:
            context = self._contexts[token]
            if len(plain) == 1:
                calls = [(self._functions[d], args, kwargs) for d, args, kwargs in plain[0]]
                return context, calls, len(calls)
            digest, arguments, is_column = plain
            # Calls are made one by one as they run: that spares a list of them.
            tuples = zip(arguments) if is_column else arguments
            calls_of_one = zip(repeat(self._functions[digest]), tuples, repeat(_NO_KEYWORDS))
            return context, calls_of_one, len(arguments)
        except KeyError as error:
            problem = self._unlearnt.get(error.args[0], f"a worker was never sent {error}")
            raise TransportError(problem) from error

    @staticmethod
    def _keep(kept: OrderedDict[str, Any], name: str, value: Any) -> None:
        kept[name] = value
        while len(kept) > KEPT_FUNCTIONS:
            kept.popitem(last=False)


def _told(error: Exception) -> str:
    """Return what was wrong and, where a worker lacks a package, what helps."""
    told = f"{type(error).__name__}: {error}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        top = error.name.partition(".")[0]
        told += (
            f"; install {top} where the workers run, or put the folder that it is in on their "
            "PYTHONPATH: installed and compiled packages do not travel, as your own modules do"
        )
    return told


class EncodedRan(NamedTuple):
    """What running a batch gave, as bytes plus references.

    Parameters
    ----------
    values : Encoded
        The values.
    failures : bytes
        The failures by offset, each exception a pickle of its own; empty where there are none.
    started, seconds : float
        When the worker began, and how long it took.
    """

    values: Encoded
    failures: bytes
    started: float
    seconds: float

    @property
    def size(self) -> int:
        """Bytes of it all, where references are buffers themselves."""
        shared = sum(getattr(reference, "nbytes", 0) for reference in self.values.references)
        return len(self.values.payload) + shared + len(self.failures)


def encode_ran(ran: Ran, share: Share | None = None, threshold: int | None = None) -> EncodedRan:
    """Encode what running a batch gave; a value that cannot be pickled fails its own call only."""
    values, failures = ran.values, ran.failures
    if not failures and _is_plain(values):
        plain = Encoded(pickle.dumps(values, protocol=5))
        return EncodedRan(plain, b"", ran.started, ran.seconds)
    try:
        encoded = encode(values, share, threshold)
    except TransportError:
        values, failures = list(values), dict(failures)
        for offset, value in enumerate(values):
            try:
                encode(value)
            except TransportError as error:
                values[offset] = None
                failures[offset] = Failure(TransportError(f"the result: {error}"))
        encoded = encode(values, share, threshold)
    packed = b""
    if failures:
        packed = pickle.dumps(
            {offset: pack_failure(failure) for offset, failure in failures.items()}
        )
    return EncodedRan(encoded, packed, ran.started, ran.seconds)


def decode_ran(encoded: EncodedRan, size: int, fetch: Fetch | None = None) -> Ran:
    """Return what running a batch of `size` calls gave; never raises for what a call returned."""
    values, failures = decode_values(encoded.values, encoded.failures, size, fetch)
    return Ran(values, failures, encoded.started, encoded.seconds)


def decode_values(
    encoded: Encoded, packed: Bytes, size: int, fetch: Fetch | None
) -> tuple[list[Any], dict[int, Failure]]:
    """Return the values and failures of a batch of `size` calls; never raises for any of them."""
    failures: dict[int, Failure] = {}
    if packed:
        failures = {offset: unpack_failure(each) for offset, each in pickle.loads(packed).items()}
    try:
        values = decode(encoded, fetch)
        if len(values) != size:
            raise TransportError(f"{len(values)} results came for {size} calls")
        return values, failures
    except Exception as error:  # noqa: BLE001 - any object may fail in any way
        failure = Failure(TransportError(f"the result cannot be unpickled here: {error}"))
        # What concerns the whole batch is kept: a worker could not decode it, say.
        return [None] * size, dict.fromkeys(range(size), failure) | failures
