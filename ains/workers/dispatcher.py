"""Hands runnable tasks to agents."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ains.db import dispatch

if TYPE_CHECKING:
    from ains.db.pool import Database

__all__ = ["Dispatcher"]

_BATCH: Final = 500


class Dispatcher:
    """Assigns what can be assigned, then sleeps until it is woken or ``interval`` is over.

    The wake-ups come from the API and the sweeper of this process and, by NOTIFY, from processes
    without workers; ``interval`` bounds the wait for what nobody told of, an INSERT in psql for
    example. Replicas pass over what another is just claiming.
    """

    def __init__(
        self,
        database: Database,
        agent_ttl: timedelta,
        interval: float,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """``changed`` is called when tasks have been assigned."""
        self._database = database
        self._agent_ttl = agent_ttl
        self._interval = interval
        self._changed = changed

    async def step(self) -> float:
        """Go once through all capabilities that are wanted and offered; see `runner.Step`."""
        more = False
        for capability in await dispatch.work(self._database):
            done = await dispatch.assign(self._database, capability, _BATCH, self._agent_ttl)
            more |= done.claimed == _BATCH and done.assigned > 0
            if done.assigned:
                self._changed()
        return 0 if more else self._interval
