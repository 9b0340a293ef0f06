"""How an executor is kept busy with what joblib pushes."""

from __future__ import annotations

import pytest

from jobspan.ambient import Settings
from jobspan.calls import Batch, CallContext
from jobspan.integrations.driving import Drive, Job
from jobspan.outcomes import Outcome


class Plain:
    """An executor whose workers take one long batch at a time."""

    workers = 2
    slots = 3

    def __init__(self) -> None:
        self.sent: list[Batch] = []

    def submit(self, batch: Batch) -> None:
        self.sent.append(batch)

    def completed(self, timeout: float | None = None) -> list[Outcome]:
        sent, self.sent = self.sent, []
        return [Outcome(batch.number, [0], {}, "w", 0.0, 9.0, 0, 0) for batch in sent]

    def wake(self) -> None:
        pass

    def cancel(self) -> None:
        pass

    def close(self) -> None:
        pass


class Queueing(Plain):
    """An executor whose engine queues batches, however long."""

    def room(self) -> int:
        return 4


@pytest.mark.parametrize(("executor", "ahead"), [(Plain(), 2), (Queueing(), 4)])
def test_as_much_is_sent_ahead_as_the_engine_queues(executor: Plain, ahead: int) -> None:
    drive = Drive(executor, 0.05)
    context = CallContext(settings=Settings())

    def push() -> list[Job]:
        jobs = [Job([(abs, (-1,), {})], lambda job: None) for _ in range(6)]
        for job in jobs:
            drive.submit(job, context)
        return jobs

    jobs = push()
    assert len(executor.sent) == ahead
    for job in jobs:
        drive.wait(job, 10)
    push()
    assert len(executor.sent) == ahead  # now that a batch is known to be long
