"""How a worker sleeps, and how it is woken: in this process by a call, from others by NOTIFY.

NOTIFY makes the commits of all transactions that use it wait for each other (PostgreSQL takes one
lock for the whole cluster, see PreCommit_Notify in async.c), so it is never sent with a task: only
a process without workers of its own sends it, separately, and a few times a second at most.
"""

from __future__ import annotations

import asyncio
from asyncio import timeout as deadline
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ains.db import upkeep
from ains.errors import AinsError
from ains.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from ains.db.pool import Database

__all__ = ["Announcer", "Throttle", "Wakeup"]

_PAUSE: Final = 0.05

log = get_logger(__name__)


class Wakeup:
    """A sleep that a call ends. A call that comes before the sleep is not lost."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def __call__(self) -> None:
        """End the present sleep, or the next one; cheap, and never waits."""
        self._event.set()

    def clear(self) -> None:
        """Forget calls: what they told of is about to be looked at."""
        self._event.clear()

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``, or as soon as it is called."""
        if seconds <= 0:
            await asyncio.sleep(0)  # others want to run too
            return
        with suppress(TimeoutError):
            async with deadline(seconds):
                await self._event.wait()


class Throttle:
    """Passes the first call on at once, and those of the next moment together at its end."""

    def __init__(self, wake: Callable[[], None], pause: float) -> None:
        """``pause`` is in seconds."""
        self._wake = wake
        self._pause = pause
        self._resting = False
        self._called = False

    def __call__(self) -> None:
        """Cheap, and never waits."""
        self._called = True
        if not self._resting:
            self._pass_on()

    def _pass_on(self) -> None:
        self._resting = self._called
        if self._called:
            self._called = False
            self._wake()
            asyncio.get_running_loop().call_later(self._pause, self._pass_on)


class Announcer:
    """Tells the workers of other processes that there is work, for a process that has none.

    However often it is called, one NOTIFY is under way at a time and a pause follows each. One that
    can't be sent is not sent again: the workers look by themselves every AINS_DISPATCH_INTERVAL.
    """

    def __init__(self, database: Database, pause: float = _PAUSE) -> None:
        """``pause`` is in seconds."""
        self._database = database
        self._pause = pause
        self._wakeup = Wakeup()

    def __call__(self) -> None:
        """There is work; never waits."""
        self._wakeup()

    async def run(self) -> None:
        """Pass calls on until cancelled."""
        while True:
            await self._wakeup.sleep(3600)
            self._wakeup.clear()
            try:
                await upkeep.announce(self._database)
            except AinsError as error:
                log.debug("not announced", error=error.detail)
            await asyncio.sleep(self._pause)
