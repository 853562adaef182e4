"""What `ains doctor` finds in a database, and that it names a remedy."""

import socket
import time
from datetime import timedelta

import asyncpg
import pytest

from ains.commands import doctor, doctor_database
from ains.commands.database import Source
from ains.commands.findings import Finding, age
from ains.database_url import DatabaseUrl
from ains.db import migrations
from ains.db.embedded import describe, temporary_data_dir
from ains.settings import Settings
from tests.support.databases import Databases
from tests.support.rows import add_agent, add_task


async def examine(dsn: str, **settings: int) -> list[Finding]:
    update = {"database_url": DatabaseUrl(dsn)} | settings
    source = Source(Settings().model_copy(update=update), "the database", None)
    return [finding async for finding in doctor_database.examine(source)]


async def problems(dsn: str, **settings: int) -> list[str]:
    """The problems, without what is only right of a server for tests."""
    found = [f for f in await examine(dsn, **settings) if f.level == "problem"]
    assert all(f.advice for f in found)
    return [f.text for f in found if "fsync" not in f.text]


async def test_nothing_is_wrong_with_a_fresh_database(database_url: str) -> None:
    assert await problems(database_url) == []


async def test_absent_database_is_told_without_its_password() -> None:
    found = await examine("postgresql://u:s3cret@127.0.0.1:1/d")
    assert [f.level for f in found] == ["problem"]
    assert "s3cret" not in str(found)


async def test_holder_of_an_old_transaction_is_named(
    database_url: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_database, "_OLD", timedelta(0))
    async with db.transaction(isolation="repeatable_read"):
        await db.execute("SELECT count(*) FROM tasks")
        found = [f for f in await examine(database_url) if f.level == "problem"]
    pid = db.get_server_pid()
    assert any(f"Process {pid} (" in f.text for f in found)
    assert any(f"pg_terminate_backend({pid})" in (f.advice or "") for f in found)


async def test_young_transaction_is_nobodys_business(
    database_url: str, db: asyncpg.Connection
) -> None:
    async with db.transaction(isolation="repeatable_read"):
        await db.execute("SELECT count(*) FROM tasks")
        assert await problems(database_url) == []


async def test_old_transaction_is_named_to_a_role_that_may_not_know_its_age(
    database_url: str, service_url: str, db: asyncpg.Connection
) -> None:
    async with db.transaction(isolation="repeatable_read"):
        await db.execute("SELECT count(*) FROM tasks")
        found = await examine(service_url)
    named = [f for f in found if f"Process {db.get_server_pid()} (" in f.text]
    assert [f.level for f in named] == ["problem"]
    assert "of unknown age" in named[0].text
    assert not any("No transaction is older" in f.text for f in found)
    assert any("pg_read_all_stats" in f.text for f in found if f.level == "note")


async def test_moment_of_a_transaction_is_no_problem_to_a_role_that_sees_little(
    service_url: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def end(_: float) -> None:
        await transaction.rollback()

    monkeypatch.setattr("ains.commands.doctor_database.sleep", end)
    transaction = db.transaction(isolation="repeatable_read")
    await transaction.start()
    await db.execute("SELECT count(*) FROM tasks")
    assert await problems(service_url) == []


async def test_label_that_cannot_close_is_named_with_who_is_in_the_way(
    database_url: str, service_url: str, db: asyncpg.Connection
) -> None:
    await db.execute("UPDATE metrics.settings SET label_limit = 1")
    await add_task(db, client_id="c")
    await db.execute("SELECT metrics.fold()")
    writer = await asyncpg.connect(database_url)
    async with writer.transaction():
        await add_task(writer, client_id="d")
        for _ in range(2):
            await db.execute("UPDATE metrics.label_guards SET retry_at = '-infinity'")
            await db.execute("SELECT metrics.fold()")
        notes = [f.text for f in await examine(service_url) if f.level == "note"]
        said = [text for text in notes if "The label client_id" in text]
        assert f"now process {writer.get_server_pid()}." in said[0]
    await writer.close()


async def test_work_that_nobody_does_is_seen(database_url: str, db: asyncpg.Connection) -> None:
    agent = await add_agent(db, silent=200)
    await add_task(db, status="ACTIVE", assigned_agent_id=agent, in_deadline_at=-100)
    await db.execute("UPDATE metrics.fold_state SET folded_at = now() - interval '1 hour'")
    found = await problems(database_url)
    assert len(found) == 3
    for part in ("past their deadline", "lost (no heartbeat", "wait to be folded, for 60 min"):
        assert any(part in text for text in found), found


async def test_ledger_that_grows_too_fast_is_seen(
    database_url: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_database, "_MANY_EVENTS", 2)
    await db.execute("UPDATE metrics.fold_state SET folded_at = now()")
    for _ in range(3):
        await add_task(db)
    found = await problems(database_url)
    assert any("the workers don't keep up" in text for text in found), found


async def test_open_facts_of_every_ledger_are_seen(
    database_url: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_database, "_MANY_EVENTS", 2)
    await db.execute("UPDATE metrics.fold_state SET folded_at = now()")
    await db.execute("""
        INSERT INTO chain_events_open (at, subject, chain_id, from_status, to_status)
        VALUES (now(), 'chain', gen_random_uuid(), '', 'PENDING');
        INSERT INTO webhook_events_open
               (at, event, delivery_id, event_type, outcome, pending_change)
        SELECT now(), 'created', gen_random_uuid(), 'task.completed', '', 1
          FROM generate_series(1, 2)
    """)
    found = await problems(database_url)
    assert any(text.startswith("3 facts of the ledger") for text in found), found


async def test_history_that_is_pruned_ahead_of_time_is_seen(
    database_url: str, db: asyncpg.Connection
) -> None:
    await db.execute("UPDATE metrics.retention_state SET pruned_until = '2999-01-01 00:00Z'")
    found = [f for f in await examine(database_url) if "2999-01-01 00:00 UTC" in f.text]
    assert len(found) == 1
    assert found[0].advice is not None
    await db.execute(found[0].advice)
    assert not any("pruned until" in text for text in await problems(database_url))


@pytest.mark.parametrize("how", ["DISABLE", "ENABLE REPLICA"])
async def test_disabled_trigger_is_seen(
    database_url: str, db: asyncpg.Connection, how: str
) -> None:
    await db.execute(f"ALTER TABLE tasks {how} TRIGGER tasks_ledger")
    assert "tasks.tasks_ledger" in (await problems(database_url))[0]


@pytest.mark.parametrize(
    ("version", "said"), [("0000", "The schema is 0000"), ("9999", "a newer AINS")]
)
async def test_other_schema_is_seen(
    database_url: str,
    db: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    said: str,
) -> None:
    known = migrations.revisions()
    monkeypatch.setattr(migrations, "revisions", lambda: ("0000", *known))
    await db.execute("UPDATE ains_schema_version SET version_num = $1", version)
    assert said in (await problems(database_url))[0]


async def test_empty_database_and_lack_of_connections_are_seen(databases: Databases) -> None:
    async with databases.clone(empty=True) as dsn:
        found = await problems(dsn, pool_max=5000)
    assert "5003" in found[0]
    assert "no AINS tables" in found[1]


async def test_skewed_clock_is_seen(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 60)
    assert "differ by +60.0 s" in (await problems(database_url))[0]


async def test_capabilities_that_nobody_offers_are_named(
    database_url: str, db: asyncpg.Connection
) -> None:
    await add_agent(db)
    for capability in ("x", "B", "a", "b"):
        await add_task(db, capability_required=capability)
    notes = [f.text for f in await examine(database_url) if f.level == "note"]
    assert "Tasks wait for capabilities that no AVAILABLE agent offers: a, b" in notes


async def test_other_agent_ttl_is_noted(database_url: str) -> None:
    notes = [f.text for f in await examine(database_url, agent_ttl=5) if f.level == "note"]
    assert any("another agent TTL" in text for text in notes)


def test_port_that_another_program_has_is_a_problem() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        found = doctor._port(Settings(port=other.getsockname()[1]))
    assert found.level == "problem"
    assert "is taken by another program" in found.text


def test_data_directory_is_looked_at_but_not_made() -> None:
    with temporary_data_dir() as place:
        settings = Settings(data_dir=place)
        status = describe(place)
        assert [f.level for f in doctor._embedded(settings, status)] == ["ok", "note"]
        assert not place.exists()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(5.4, "5 s"), (119, "119 s"), (120, "2 min"), (9000, "2 h"), (2e5, "2 days")],
)
def test_age_is_for_people(seconds: float, said: str) -> None:
    assert age(seconds) == said
