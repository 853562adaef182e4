"""Everything that a process does beside answering requests."""

from __future__ import annotations

import asyncio
from asyncio import timeout as deadline
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ains.db import upkeep
from ains.domain.addresses import parse_networks
from ains.errors import SettingsError
from ains.logs import get_logger
from ains.workers.dispatcher import Dispatcher
from ains.workers.listener import Listener
from ains.workers.maintenance import Compactor, Folder, LabelWatch
from ains.workers.retention import Retention
from ains.workers.runner import Worker, Workers
from ains.workers.startup import Startup
from ains.workers.sweeper import Sweeper
from ains.workers.wakeup import Announcer, Throttle, Wakeup
from ains.workers.webhooks import DeliveryOptions, WebhookSender

if TYPE_CHECKING:
    from ains.db.pool import Database
    from ains.domain.service import ServiceState, WorkerReport
    from ains.settings import Settings

__all__ = ["Background"]

_FIRST_TRY_SECONDS: Final = 15.0

log = get_logger(__name__)


class Background:
    """Gets the database ready, then runs the workers; without workers, it wakes those of others."""

    def __init__(
        self,
        settings: Settings,
        dsn: str,
        database: Database,
        state: ServiceState,
        pooler: bool | None,
    ) -> None:
        """``dsn`` is of ``database``; ``state`` is told how it goes."""
        ttl = timedelta(seconds=settings.agent_ttl)
        shared = upkeep.MetricsSettings(ttl, settings.metrics_label_limit or None)
        workers: list[Worker] = []
        self._state = state
        self._tasks: list[asyncio.Task[None]] = []
        self._listener: Listener | None = None
        self._announcer: Announcer | None = None
        self._sender: WebhookSender | None = None
        self.wake: Callable[[], None]
        """There may be work for a dispatcher: ours, or that of another process."""
        self.changed: Callable[[], None]
        """A task has changed, so there may be something to deliver: by us or another process."""
        if settings.workers:
            wakeup = Wakeup()
            deliveries = _delivery_options(settings)
            self._sender = WebhookSender(database, deliveries, wake=wakeup)
            self.changed = changed = Throttle(wakeup, deliveries.wake_pause)
            dispatcher = Dispatcher(database, ttl, settings.dispatch_interval, changed)
            workers = [Worker("dispatcher", dispatcher.step)]
            self.wake = wake = workers[0].wakeup
            sweeper = Sweeper(database, ttl, settings.sweep_interval, wake, changed)
            folder = Folder(database, settings.fold_interval)
            retention = Retention(database, settings.retention)
            workers += [
                Worker("sweeper", sweeper.step),
                Worker("folder", folder.step),
                Worker("compactor", Compactor(database).step),
                Worker("labels", LabelWatch(database).step),
                Worker("webhooks", self._sender.step, wakeup),
                Worker("retention", retention.step),
            ]

            def hear() -> None:
                wake()
                changed()

            self._listener = listener = Listener(dsn, hear, pooler=pooler)
            state.notifications = lambda: listener.state
        else:
            self.wake = self.changed = self._announcer = Announcer(database)
        self._workers = Workers(workers)
        self._startup = Startup(dsn, database, shared, state, self._workers.start)
        state.workers = lambda: [_report(worker) for worker in self._workers]

    async def start(self) -> None:
        """Start all; returns after the first attempt to reach the database, successful or not.

        Raises:
            SettingsError: this database can never be used, see `Startup.run`.
        """
        starting = asyncio.create_task(self._start(), name="startup")
        self._tasks.append(starting)
        if self._listener is not None:
            self._tasks.append(asyncio.create_task(self._listener.run(), name="listener"))
        if self._announcer is not None:
            self._tasks.append(asyncio.create_task(self._announcer.run(), name="announcer"))
        with suppress(TimeoutError):
            async with deadline(_FIRST_TRY_SECONDS):
                await self._startup.first_try.wait()
                await asyncio.sleep(0)  # what it found comes after it is over
        if self._state.fatal is not None:
            raise SettingsError(self._state.fatal)

    async def _start(self) -> None:
        try:
            await self._startup.run()
        except SettingsError as error:
            self._state.fatal = error.detail
            self._state.on_fatal()

    async def stop(self, grace: float) -> None:
        """Let running rounds of work finish, ``grace`` seconds at most, and end everything."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._workers.stop(grace)
        if self._sender is not None:
            await self._sender.close()


def _delivery_options(settings: Settings) -> DeliveryOptions:
    return DeliveryOptions(
        allowed=parse_networks(settings.webhook_allow),
        delays=settings.webhook_retry_delays,
        timeout=settings.webhook_timeout,
        give_up_after=settings.webhook_give_up_after,
    )


def _report(worker: Worker) -> WorkerReport:
    at = worker.last_round_at
    return {
        "name": worker.name,
        "rounds": worker.rounds,
        "failures": worker.failures,
        "last_round_at": None if at is None else at.isoformat(),
        "error": worker.error,
    }
