"""Verifications, and databases that have lived through enough to be worth one."""

import random

import asyncpg

from ains.metrics import database_collectors
from collectors.verify import Difference, Report, verify
from tests.torture.actions import Writer, act
from tests.torture.world import lay_ground


async def verified(db: asyncpg.Connection) -> Report:
    """What verification says with the collectors of the service."""
    return await verify(db, database_collectors())


def of_check(report: Report, check: str) -> list[Difference]:
    """The differences that one of the checks has found."""
    return [d for d in report.differences if d.check == check]


async def busy(db: asyncpg.Connection, seed: int = 1, changes: int = 150) -> None:
    """Tasks, chains and webhooks that live through something."""
    await lay_ground(db)
    await change(db, changes, random.Random(seed))
    await db.execute("""
        INSERT INTO task_chains (chain_id, name, client_id, total_steps)
        SELECT gen_random_uuid(), 'n', 'c', 1 FROM generate_series(1, 6);
        INSERT INTO chain_steps (chain_id, step_index, task_type, capability_required)
        SELECT chain_id, 0, 't', 'x' FROM task_chains WHERE client_id = 'c';
        INSERT INTO webhooks (webhook_id, agent_id, url, host, events, secret)
        VALUES (gen_random_uuid(), 'w0-0', 'http://a', 'a', '{task.created}', 's');
        INSERT INTO webhook_deliveries (webhook_id, host, event_type, subject_id, payload)
        SELECT webhook_id, 'a', 'task.created', gen_random_uuid(), '{}'
          FROM webhooks, generate_series(1, 5);
        INSERT INTO webhook_attempts (delivery_id, attempted_at, duration_us, outcome)
        SELECT delivery_id, now(), 100000 * row_number() OVER (), 'success'
          FROM webhook_deliveries LIMIT 3;
        UPDATE webhook_deliveries SET status = 'success'
         WHERE delivery_id IN (SELECT delivery_id FROM webhook_attempts);
        UPDATE task_chains SET status = 'RUNNING', started_at = now() - interval '45 s'
         WHERE chain_id IN (SELECT chain_id FROM task_chains WHERE client_id = 'c' LIMIT 3);
        UPDATE task_chains SET status = 'FAILED' WHERE client_id = 'c' AND status = 'RUNNING'
    """)


async def change(db: asyncpg.Connection, times: int, rng: random.Random) -> None:
    """Tasks and chains do something."""
    for _ in range(times):
        await act(db, rng, Writer("w0-0", "ghost", 20))


async def fold(db: asyncpg.Connection) -> None:
    """Fold everything, in portions that leave work for the next."""
    while await db.fetchval("SELECT metrics.fold(100)"):
        pass


async def facts(db: asyncpg.Connection) -> int:
    """How many facts the ledgers have."""
    number: int = await db.fetchval(
        "SELECT (SELECT count(*) FROM task_events) + (SELECT count(*) FROM chain_events)"
        " + (SELECT count(*) FROM webhook_events)"
    )
    return number
