"""Upkeep of live tasks: due retries, timeouts, expiry, lost agents.

Each function takes one batch and says how much it found; a full batch means that there may be more.
Any number of replicas may sweep at once: what one has locked the others pass over.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from ains.db.sql import load
from ains.db.statements import Statements

_Q = load("sweeps")

BATCH: Final = 500
"""How many rows one sweep locks at most, unless it is told otherwise."""


class TimedOut(NamedTuple):
    """Attempts ended by their timeout, and how many of their tasks will be tried again."""

    ended: int
    retried: int


class Recovered(NamedTuple):
    """Tasks taken from lost agents: back in the queue at once, or ended as a failed attempt."""

    requeued: int
    ended: int


class NextDue(NamedTuple):
    """Seconds until the next of each kind falls due: negative when overdue, None without any."""

    retry: float | None
    deadline: float | None
    expiry: float | None


class Place(NamedTuple):
    """How far a walk through tasks has come; as it is, before all of them."""

    created_at: datetime = datetime.min.replace(tzinfo=UTC)
    task_id: UUID = UUID(int=0)


class Settled(NamedTuple):
    """How many blocked tasks waited for nothing, and where to go on; None at the end."""

    freed: int
    place: Place | None


async def release_retries(db: Statements, batch: int = BATCH) -> int:
    """Make due retries runnable; the dispatcher has work when this is not 0."""
    return await db.execute(_Q["release_retries"], batch)


async def time_out(db: Statements, batch: int = BATCH) -> TimedOut:
    """End attempts that are past their deadline."""
    row = await db.fetchrow(_Q["time_out"], batch)
    return TimedOut(0, 0) if row is None else TimedOut(row["ended"], row["retried"])


async def time_out_all(db: Statements, batch: int = BATCH) -> int:
    """End every attempt that is past its deadline, batch by batch; returns how many."""
    total = 0
    while True:
        ended = (await time_out(db, batch)).ended
        total += ended
        if ended < batch:
            return total


async def expire(db: Statements, batch: int = BATCH) -> int:
    """Fail PENDING tasks whose ``expires_at`` has come; returns how many."""
    return await db.execute(_Q["expire"], batch)


async def lose_agents(db: Statements, agent_ttl: timedelta, batch: int = BATCH) -> list[str]:
    """Make agents INACTIVE that sent no heartbeat for ``agent_ttl``; returns who they are."""
    return [row["agent_id"] for row in await db.fetch(_Q["lose_agents"], batch, agent_ttl)]


async def recover_tasks(db: Statements, agent_ttl: timedelta, batch: int = BATCH) -> Recovered:
    """Take back the tasks of agents that sent no heartbeat for ``agent_ttl``, or are gone.

    ASSIGNED ones are queued again without using up a retry, ACTIVE ones end with ``agent_lost``.
    """
    row = await db.fetchrow(_Q["recover_tasks"], batch, agent_ttl)
    return Recovered(0, 0) if row is None else Recovered(row["requeued"], row["ended"])


async def settle(db: Statements, after: Place, batch: int = BATCH) -> Settled:
    """Look at the PENDING tasks after ``after``: does each blocked one wait for something?

    What a task waits for settles it when it ends. A transaction of somebody in psql that is
    stricter than READ COMMITTED may end a task and not see one that depends on it.
    """
    row = await db.fetchrow(_Q["settle"], *after, batch)
    if row is None:
        return Settled(0, None)
    full = row["looked"] >= batch
    return Settled(row["settled"], Place(row["created_at"], row["task_id"]) if full else None)


async def next_due(db: Statements) -> NextDue:
    """When :func:`release_retries`, :func:`time_out` and :func:`expire` have something to do."""
    row = await db.fetchrow(_Q["next_due"])
    if row is None:
        return NextDue(None, None, None)
    return NextDue(row["retry"], row["deadline"], row["expiry"])
