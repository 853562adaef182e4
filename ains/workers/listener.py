"""Hears the wake-ups of other processes, on a connection of its own."""

from __future__ import annotations

import asyncio
from asyncio import timeout as deadline
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import asyncpg

from ains.db import errors
from ains.db.pool import is_pooled
from ains.db.upkeep import CHANNEL
from ains.logs import get_logger
from ains.workers.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["Listener"]

_CONNECT_SECONDS: Final = 5.0
_CHECK_SECONDS: Final = 30.0

log = get_logger(__name__)


class Listener:
    """Calls ``wake`` at every NOTIFY, and reconnects for ever.

    A connection pooler in transaction mode can't pass notifications on; then there is nothing to
    hear, and the dispatcher only looks by itself.
    """

    def __init__(self, dsn: str, wake: Callable[[], None], *, pooler: bool | None = None) -> None:
        """``pooler`` says whether a pooler stands before the database; None finds out."""
        self._dsn = dsn
        self._wake = wake
        self._pooler = pooler
        self.state = "connecting"
        """``connecting``, ``listening`` or ``polling``, for /health/detail."""

    async def run(self) -> None:
        """Listen until cancelled; returns when there is a pooler."""
        backoff = Backoff()
        while not self._pooler:
            try:
                await self._listen(backoff.reset)
            except errors.EXPECTED as error:
                log.debug("not listening", error=str(error))
            if not self._pooler:
                self.state = "connecting"
                await asyncio.sleep(backoff.next())
        self.state = "polling"
        log.info("behind a connection pooler; looking for tasks without notifications")

    async def _listen(self, connected: Callable[[], None]) -> None:
        connection = await asyncpg.connect(
            self._dsn,
            timeout=_CONNECT_SECONDS,
            statement_cache_size=0,
            server_settings={"application_name": "ains listener"},
        )
        try:
            if self._pooler is None:
                self._pooler = await is_pooled(connection)
            if self._pooler:
                return
            lost = asyncio.Event()
            connection.add_termination_listener(lambda *_: lost.set())
            await connection.add_listener(CHANNEL, lambda *_: self._wake())
            self.state = "listening"
            connected()
            self._wake()  # something may have come before
            while not await _within(_CHECK_SECONDS, lost.wait):
                # A connection that a firewall has dropped never ends by itself.
                await connection.execute("SELECT 1", timeout=_CONNECT_SECONDS)
        finally:
            connection.terminate()


async def _within(seconds: float, wait: Callable[[], Awaitable[object]]) -> bool:
    with suppress(TimeoutError):
        async with deadline(seconds):
            await wait()
            return True
    return False
