"""Facts of days gone by, and what must hold however much of them is pruned."""

from datetime import UTC, date, datetime, timedelta

import asyncpg

# totals = pruned + contributions of the closed facts, for every series.
_UNBALANCED = """
WITH kept AS (
    SELECT * FROM metrics.task_contributions(ARRAY(
        SELECT ROW (e.*)::public.task_events_open FROM public.task_events_closed AS e))
    UNION ALL
    SELECT * FROM metrics.chain_contributions(ARRAY(
        SELECT ROW (e.*)::public.chain_events_open FROM public.chain_events_closed AS e))
    UNION ALL
    SELECT * FROM metrics.webhook_contributions(ARRAY(
        SELECT ROW (e.*)::public.webhook_events_open FROM public.webhook_events_closed AS e))
),
proved AS (
    SELECT family, label_1, label_2, bucket,
           sum(n) AS n, sum(sum_us) AS sum_us, min(first_at) AS first_at
      FROM (SELECT family, label_1, label_2, bucket, n, sum_us, first_at FROM kept
            UNION ALL
            SELECT family, label_1, label_2, bucket, n, sum_us, first_at FROM metrics.pruned) AS s
     GROUP BY 1, 2, 3, 4
)
SELECT family, label_1, label_2, bucket, t.n AS total, p.n AS proved
  FROM metrics.totals AS t
  FULL JOIN proved AS p USING (family, label_1, label_2, bucket)
 WHERE (t.n, t.sum_us, t.first_at) IS DISTINCT FROM (p.n, p.sum_us, p.first_at)
"""

_TASKS = """
INSERT INTO tasks (client_id, task_type, capability_required, status, assigned_agent_id,
                   created_at, queued_at, assigned_at, started_at, completed_at, failure_reason)
SELECT 'c' || n % 3, 't' || n % 5, 'x',
       (ARRAY['COMPLETED', 'FAILED', 'CANCELLED'])[1 + n % 3], 'a' || n % 2,
       old.at, old.at, old.at, old.at, old.at + n * interval '1 ms',
       CASE WHEN n % 3 = 1 THEN 'timeout' END
  FROM (SELECT now() - $2::interval AS at) AS old
 CROSS JOIN generate_series(1, $1::integer) AS n
"""

LEDGERS = ("task_events", "chain_events", "webhook_events")


def today() -> datetime:
    """The last midnight, UTC."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


async def unbalanced(db: asyncpg.Connection) -> list[str]:
    """Series that what was pruned and what is kept don't add up to."""
    return [str(row) for row in await db.fetch(_UNBALANCED)]


async def ended_tasks(db: asyncpg.Connection, number: int, age: timedelta = timedelta()) -> None:
    """Tasks that ended that long ago, and their facts, open."""
    await db.execute(_TASKS, number, age)
    await grow_old(db, age)


async def grow_old(db: asyncpg.Connection, age: timedelta) -> None:
    """Move open facts of now into the past."""
    for ledger in LEDGERS:
        await db.execute(
            f"UPDATE {ledger}_open SET at = at - $1::interval WHERE at > now() - interval '1 hour'",
            age,
        )


async def fold(db: asyncpg.Connection) -> None:
    """Fold everything."""
    while await db.fetchval("SELECT metrics.fold()"):
        pass


async def make_day(db: asyncpg.Connection, day: date, ledger: str = "task_events") -> str:
    """A partition of a day gone by, as there is when AINS has run since."""
    name = f"{ledger}_closed_{day:%Y%m%d}"
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    await db.execute(
        f"CREATE TABLE {name} PARTITION OF {ledger}_closed "
        f"FOR VALUES FROM ('{start}') TO ('{start + timedelta(days=1)}')"
    )
    return name


async def prune_once(db: asyncpg.Connection, age: timedelta, batch: int) -> int | None:
    """Prune one batch of facts of that age."""
    gone: int | None = await db.fetchval(
        "SELECT metrics.prune_ledger(now() - $1::interval, $2)", age, batch
    )
    return gone


async def prune(db: asyncpg.Connection, age: timedelta, batch: int = 5000) -> int:
    """Prune facts of that age, all of them; returns how many."""
    total = 0
    while gone := await prune_once(db, age, batch):
        total += gone
    return total


async def count(db: asyncpg.Connection, table: str) -> int:
    """Rows of a table."""
    found: int = await db.fetchval(f"SELECT count(*) FROM {table}")
    return found
