"""Verification by who may read little: it checks what it can, and says what it can't."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from collectors.verify import Unverifiable
from tests.support.verifying import busy, facts, fold, of_check, verified


@asynccontextmanager
async def role(
    db: asyncpg.Connection, database_url: str, *grants: str
) -> AsyncIterator[asyncpg.Connection]:
    """A connection of a role that may do no more than this."""
    name = f"verifier_{random.SystemRandom().randrange(10**9)}"
    await db.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'p'")
    for grant in grants:
        await db.execute(f"GRANT {grant} TO {name}")
    connection = await asyncpg.connect(database_url, user=name, password="p")
    try:
        yield connection
    finally:
        await connection.close()
        await db.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


async def test_works_for_a_role_that_sees_no_tasks(
    db: asyncpg.Connection, database_url: str
) -> None:
    await busy(db)
    await db.execute("SELECT metrics.fold(200)")
    ledgers = ", ".join(
        f"{kind}_events_{part}"
        for kind in ("task", "chain", "webhook")
        for part in ("open", "closed")
    )
    grants = (
        f"SELECT ON {ledgers}",
        "USAGE ON SCHEMA metrics",
        "SELECT ON ALL TABLES IN SCHEMA metrics",
    )
    async with role(db, database_url, *grants, "SELECT ON SEQUENCE metrics.rotations") as verifier:
        report = await verified(verifier)
        assert report.differences == []
        assert report.facts > 100
        assert len(report.skipped) == 6
        await db.execute("UPDATE metrics.totals SET n = n + 1")
        assert of_check(await verified(verifier), "ledger")


async def test_works_for_the_service_which_reads_partitions_by_way_of_their_ledger(
    db: asyncpg.Connection, service_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collectors.verify.facts._PORTION_PAGES", 2)
    await db.execute("SELECT metrics.make_partitions()")
    await busy(db)
    await fold(db)
    await db.execute(
        "UPDATE task_events_closed SET at = at - interval '20 years'"
        " WHERE hashtext(task_id::text) % 3 = 0"
    )
    partitions = await db.fetchval("SELECT count(DISTINCT tableoid) FROM task_events_closed")
    assert partitions == 2
    service = await asyncpg.connect(service_url)
    try:
        report = await verified(service)
    finally:
        await service.close()
    assert [d for d in report.differences if d.part != "first_at"] == []
    assert (report.facts, report.skipped) == (await facts(db), [])


async def test_says_so_when_it_may_not_read(scraper_url: str) -> None:
    scraper = await asyncpg.connect(scraper_url)
    try:
        with pytest.raises(Unverifiable, match="task_events_closed"):
            await verified(scraper)
    finally:
        await scraper.close()
