"""Ends what is overdue: attempts past their deadline, expired tasks, agents that fell silent.

Frees, too, what is blocked and has nothing left to wait for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ains.db import sweeps
from ains.logs import get_logger

if TYPE_CHECKING:
    from ains.db.pool import Database

__all__ = ["Sweeper"]

_SOONEST: Final = 0.01
_BLOCKED: Final = 0.1
_LOOKS_PER_TTL: Final = 30
# A hundred thousand blocked tasks are walked through in some minutes, a few milliseconds a second.
_SETTLE_INTERVAL: Final = 60.0
_SETTLE_PAUSE: Final = 1.0

log = get_logger(__name__)


class Sweeper:
    """Sweeps when the next deadline, retry or expiry falls due, at least every ``interval``."""

    def __init__(
        self,
        database: Database,
        agent_ttl: timedelta,
        interval: float,
        wake_dispatcher: Callable[[], None],
        changed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``wake_dispatcher`` is called when tasks became runnable, ``changed`` when some ended."""
        self._database = database
        self._agent_ttl = agent_ttl
        self._interval = interval
        self._wake_dispatcher = wake_dispatcher
        self._changed = changed
        self._clock = clock
        self._agents_due = clock()
        self._settle_due = clock()
        self._settled_until = sweeps.Place()

    async def step(self) -> float:
        """Sweep one batch of each kind; see `runner.Step`."""
        released = await sweeps.release_retries(self._database)
        if released:
            self._wake_dispatcher()
        ended = (await sweeps.time_out(self._database)).ended
        expired = await sweeps.expire(self._database)
        if ended or expired:
            self._changed()
        full = max(released, ended, expired) >= sweeps.BATCH
        if self._clock() >= self._agents_due:
            full |= await self._sweep_agents()
        if self._clock() >= self._settle_due:
            await self._settle()
        return 0 if full else await self._pause()

    async def _sweep_agents(self) -> bool:
        """Take work from agents that are lost; returns whether there may be more."""
        lost = await sweeps.lose_agents(self._database, self._agent_ttl)
        recovered = await sweeps.recover_tasks(self._database, self._agent_ttl)
        if lost:
            log.info("agents lost", agents=lost[:10], count=len(lost))
        if recovered.requeued:
            self._wake_dispatcher()
        if recovered.ended:
            self._changed()
        if max(len(lost), recovered.requeued + recovered.ended) >= sweeps.BATCH:
            return True
        # Walks through all agents that have work, so it is done less often when the TTL is long.
        self._agents_due = self._clock() + self._agent_ttl.total_seconds() / _LOOKS_PER_TTL
        return False

    async def _settle(self) -> None:
        """Go on with a walk through what is blocked, or begin another: nothing in it is due."""
        settled, place = await sweeps.settle(self._database, self._settled_until)
        if settled:
            log.info("tasks waited for nothing", count=settled)
            self._wake_dispatcher()
            self._changed()
        self._settled_until = place or sweeps.Place()
        self._settle_due = self._clock() + (_SETTLE_PAUSE if place else _SETTLE_INTERVAL)

    async def _pause(self) -> float:
        due = [seconds for seconds in await sweeps.next_due(self._database) if seconds is not None]
        soonest = min(due, default=self._interval)
        if soonest < -_BLOCKED:
            # Somebody else has it locked: another replica, or a person in psql for an hour.
            return min(_BLOCKED, self._interval)
        return max(_SOONEST, min(soonest, self._interval))
