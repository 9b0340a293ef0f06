"""The courier: encodes batches for workers, each told only what it does not know already."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from typing import Any

from jobspan.backends.processes.frames import Buffer
from jobspan.backends.processes.messages import NOTHING_TOLD, pack_batch, unpack_result
from jobspan.calls import Batch
from jobspan.descriptors import Descriptor
from jobspan.errors import TransportError
from jobspan.outcomes import Failure
from jobspan.transport.batches import KEPT_FUNCTIONS, BatchEncoder, decode_values
from jobspan.transport.pickling import modules_not_to_import
from jobspan.transport.protocol import Encoded
from jobspan.transport.shared_memory import SegmentReceiver, SegmentSender
from jobspan.worker.run import Ran

__all__ = ["Courier", "Knowledge"]


class Knowledge:
    """What a worker knows, as its executor remembers it.

    Functions and contexts are forgotten in the order in which the worker forgets them.
    """

    def __init__(self) -> None:
        self.functions: OrderedDict[str, None] = OrderedDict()
        self.contexts: OrderedDict[str, None] = OrderedDict()
        self.segments: set[int] = set()
        self.to_drop: list[int] = []
        # Filled by finalizers, in whatever thread they run.
        self.freed: deque[int] = deque()
        self.results = SegmentReceiver("w", self.freed.append)

    def forget(self) -> None:
        """Note that the worker lost its functions and contexts."""
        self.functions.clear()
        self.contexts.clear()

    @property
    def has_news(self) -> bool:
        """Whether there is something to tell the worker."""
        return bool(self.freed or self.to_drop)

    def take_news(self) -> tuple[list[int], list[int]] | None:
        """Return segments that the worker may drop, and results' segments that are free again."""
        if not (self.to_drop or self.freed):
            return None
        dropped, self.to_drop = self.to_drop, []
        freed = [self.freed.popleft() for _ in range(len(self.freed))]
        return dropped, freed

    def close(self) -> None:
        """Forget results' segments; views of them stay valid."""
        self.results.close()


class Courier:
    """Encodes the batches of one executor and decodes their results.

    Parameters
    ----------
    threshold : int or None
        Bytes from which a buffer is shared.
    temp_folder : str or None
        Where shared data goes when memory is short.
    """

    def __init__(self, threshold: int | None, temp_folder: str | None) -> None:
        self._sender = SegmentSender(temp_folder)
        here = modules_not_to_import()
        by_value = (lambda: here) if here else None
        self._encoder = BatchEncoder(self._sender.share, threshold, by_value=by_value)
        self._token = ""

    def encode(
        self, batch: Batch, knowledge: Knowledge
    ) -> tuple[list[Buffer], list[int], Sequence[Any]]:
        """Return payload, descriptors and references for a batch.

        Raises
        ------
        TransportError
            If something in it cannot be pickled.
        """
        if batch.context.token != self._token:
            # Another Parallel call: what was shared before may have changed since.
            self._sender.begin()
            self._token = batch.context.token
        encoded = self._encoder.encode(batch)
        (payload, references), needed, token, _ = encoded
        known = knowledge.functions
        context = token not in knowledge.contexts
        if not (references or context) and needed.keys() <= known.keys():
            return [NOTHING_TOLD, payload], [], references
        functions = [name for name in needed if name not in known]
        segments: list[int] = []
        descriptors: list[int] = []
        for part in (encoded.batch, *(needed[name] for name in functions)):
            self._introduce(part, knowledge, segments, descriptors)
        if context:
            _remember(knowledge.contexts, token)
        for name in functions:
            _remember(knowledge.functions, name)
        return pack_batch(encoded, functions, segments, context=context), descriptors, references

    def _introduce(
        self, part: Encoded, knowledge: Knowledge, segments: list[int], descriptors: list[int]
    ) -> None:
        for reference in part.references:
            if reference.number not in knowledge.segments:
                knowledge.segments.add(reference.number)
                segments.append(reference.number)
                descriptors.append(self._sender.descriptor(reference))

    def decode(
        self, payload: Buffer, descriptors: list[Descriptor], size: int, knowledge: Knowledge
    ) -> Ran:
        """Return what running a batch of `size` calls gave."""
        try:
            started, seconds, values, failures, told = unpack_result(payload)
        except Exception as error:  # noqa: BLE001 - pickle fails in any way
            failure = Failure(TransportError(f"what the worker sent cannot be read: {error}"))
            return Ran([None] * size, dict.fromkeys(range(size), failure), 0.0, 0.0)
        results = knowledge.results
        if told is None:
            return Ran(*decode_values(values, failures, size, results.fetch), started, seconds)
        _, segments, dropped, forgot = told
        for number, descriptor in zip(segments, descriptors, strict=False):
            results.add(number, descriptor)
        ran = Ran(*decode_values(values, failures, size, results.fetch), started, seconds)
        results.drop(dropped)
        if forgot:
            knowledge.forget()
        return ran

    def release(self, references: Sequence[Any], workers: Iterable[Knowledge]) -> None:
        """Note that a batch's references are in use no more."""
        if references:
            self._sender.release(references)
        if self._sender.dropped:
            self._announce_dropped(workers)

    def _announce_dropped(self, workers: Iterable[Knowledge]) -> None:
        dropped, self._sender.dropped = self._sender.dropped, []
        for knowledge in workers:
            known = knowledge.segments.intersection(dropped)
            knowledge.segments -= known
            knowledge.to_drop += known

    def close(self, workers: Iterable[Knowledge]) -> None:
        """Let go of what was shared."""
        self._sender.close()
        self._announce_dropped(workers)


def _remember(known: OrderedDict[str, None], name: str) -> None:
    """Note that the worker learns `name`, forgetting as its decoder does."""
    known[name] = None
    while len(known) > KEPT_FUNCTIONS:
        known.popitem(last=False)
