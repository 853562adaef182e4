"""Folds that are wrong in one place, made from the right one."""

import re

import asyncpg

_SOURCE = "SELECT pg_get_functiondef('metrics.fold(integer)'::regprocedure)"
_LIMBO = """
CREATE TABLE torture.limbo (
    tasks task_events_open[], chains chain_events_open[], webhooks webhook_events_open[]
)
"""
# What this fold deletes waits for the next one, which adds it to the totals.
_SWAP = r"""\1
    WITH before AS (
        DELETE FROM torture.limbo RETURNING *
    ),
    later AS (
        INSERT INTO torture.limbo VALUES (tasks, chains, webhooks)
    )
    SELECT b.tasks, b.chains, b.webhooks INTO tasks, chains, webhooks
      FROM (SELECT) AS one LEFT JOIN before AS b ON true;
"""


async def in_two_transactions(db: asyncpg.Connection) -> None:
    """One transaction deletes from the open part, the next adds to the totals."""
    await db.execute(_LIMBO)
    await _break(db, r"(moved := [^;]+;)", _SWAP)


async def without_retries(db: asyncpg.Connection) -> None:
    """One contribution is left out of the totals, of a family that no invariant is about."""
    await _break(db, r"AS c(\s+ON CONFLICT)", r"AS c WHERE c.family <> 'ains_task_retries_total'\1")


async def _break(db: asyncpg.Connection, pattern: str, replacement: str) -> None:
    source = await db.fetchval(_SOURCE)
    broken, times = re.subn(pattern, replacement, source, count=1)
    assert times == 1
    await db.execute(broken)
