"""Keeps the workers working: whatever goes wrong in one, it is logged and tried again."""

from __future__ import annotations

import asyncio
from asyncio import timeout as deadline
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from ains.errors import RetryLater
from ains.logs import get_logger
from ains.workers.backoff import Backoff
from ains.workers.wakeup import Wakeup

__all__ = ["Step", "Worker", "Workers"]

Step = Callable[[], Awaitable[float]]
"""One round of a worker's work. Returns after how many seconds it wants to be called again."""

_LONGEST_SLEEP: Final = 3600.0

log = get_logger(__name__)


@dataclass
class Worker:
    """One thing that is done over and over, and how it is going."""

    name: str
    step: Step
    wakeup: Wakeup = field(default_factory=Wakeup)
    rounds: int = 0
    failures: int = 0
    """Failed rounds since the last good one."""
    last_round_at: datetime | None = None
    error: str | None = None
    """Why the last round failed, None when it didn't."""


class Workers:
    """Runs workers as tasks. An error ends a round, never a worker."""

    def __init__(self, workers: Iterable[Worker]) -> None:
        self._workers = tuple(workers)
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()

    def __iter__(self) -> Iterator[Worker]:
        """The workers, to look at."""
        return iter(self._workers)

    def start(self) -> None:
        """Start all of them."""
        self._tasks = [asyncio.create_task(self._run(w), name=w.name) for w in self._workers]

    async def stop(self, grace: float) -> None:
        """Let running rounds finish and start no other; after ``grace`` seconds cancel them.

        A round is made of statements that each do all or nothing: cancelled or not, nothing is
        left half done.
        """
        self._stopping.set()
        for worker in self._workers:
            worker.wakeup()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=grace)
        for task in late:
            task.cancel()
        if late:
            log.warning("workers cancelled", workers=[task.get_name() for task in late])
            await asyncio.wait(late)

    async def _run(self, worker: Worker) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            worker.wakeup.clear()
            try:
                pause = await worker.step()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next round may work
                _failed(worker, error)
                # Wake-ups don't cut this short, or every request would try again what just failed.
                await self._rest(backoff.next())
                continue
            if worker.failures:
                log.info("worker is back", worker=worker.name, failures=worker.failures)
            backoff.reset()
            worker.failures = 0
            worker.error = None
            worker.rounds += 1
            worker.last_round_at = datetime.now(UTC)
            if not self._stopping.is_set():
                await worker.wakeup.sleep(min(pause, _LONGEST_SLEEP))

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with deadline(seconds):
                await self._stopping.wait()


def _failed(worker: Worker, error: Exception) -> None:
    worker.failures += 1
    worker.error = getattr(error, "detail", None) or f"{type(error).__name__}: {error}"
    if not isinstance(error, RetryLater):
        log.error("worker failed", worker=worker.name, exc_info=error)
    elif worker.failures == 1:  # the database is away; once is enough to say so
        log.warning("worker waits", worker=worker.name, error=error.detail)
