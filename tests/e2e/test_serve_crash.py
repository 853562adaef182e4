"""Whatever is killed, nothing is lost, counted twice or stuck."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from time import monotonic

import asyncpg
from prometheus_client.parser import text_string_to_metric_families

from ains.db.embedded import EmbeddedPostgres, describe, temporary_data_dir
from ains.db.embedded.keeper.files import read_postmaster
from tests.support.databases import eventually
from tests.support.live import free_port
from tests.support.load import Load
from tests.support.recount import differences, impossible_histories
from tests.support.scraped import assert_invariants, assert_monotone, total, values
from tests.support.serving import Server, ains, serving

FROM_LEDGERS = ("ains_task", "ains_agent_tasks", "ains_chain", "ains_webhook")


async def open_tasks(db: asyncpg.Connection) -> int:
    count: int = await db.fetchval(
        "SELECT count(*) FROM tasks WHERE status IN ('PENDING', 'ASSIGNED', 'ACTIVE')"
    )
    return count


async def add_chains_and_a_webhook(db: asyncpg.Connection) -> None:
    """So that the load writes to every ledger; what the webhook is told, nobody takes."""
    await db.execute(
        "INSERT INTO webhooks (webhook_id, agent_id, url, host, events, secret)"
        " VALUES (gen_random_uuid(), 'load-0', 'https://127.0.0.1:1/', '127.0.0.1',"
        " '{task.created,task.completed,chain.completed}', 's')"
    )
    step = '{"task_type": "load", "capability_required": "x"}'
    await db.execute(
        "SELECT submit_chain(gen_random_uuid(), 'n', 'load-0', $1::json)"
        " FROM generate_series(1, 5)",
        f"[{step}, {step}]",
    )


async def assert_nothing_lost(load: Load, db: asyncpg.Connection) -> None:
    """Every accepted task is done, each by one agent; and the counters say so."""

    async def left() -> int:
        return await open_tasks(db)

    await load.work_off(left, 30)
    done = await db.fetch("SELECT task_id FROM tasks WHERE status = 'COMPLETED'")
    assert load.accepted <= {str(row["task_id"]) for row in done}
    assert await differences(db) == []
    assert await impossible_histories(db) == []
    again = "SELECT DISTINCT task_id FROM task_events WHERE event IN ('requeued', 'retried')"
    excused = {str(row["task_id"]) for row in await db.fetch(again)}
    given_twice = {task for task, agents in load.given.items() if len(agents) > 1}
    assert given_twice <= excused


async def test_two_servers_on_one_database_never_give_a_task_to_two(
    database_url: str, db: asyncpg.Connection
) -> None:
    async with serving(database_url=database_url) as one, serving(database_url=database_url) as two:
        load = Load([one.url, two.url], agents=4, clients=6)
        async with load.running():
            await load.until_accepted(400)
        await assert_nothing_lost(load, db)
        assert set(load.answers) == {200}, load.answers
        for server in (one, two):
            assert_invariants(await server.scrape())


async def test_killed_in_the_middle_of_load_and_started_again(
    database_url: str, db: asyncpg.Connection
) -> None:
    port = free_port()
    async with serving(port=port, database_url=database_url) as server:
        load = Load([server.url])
        async with load.running():
            await load.until_accepted(50)
            await add_chains_and_a_webhook(db)
            await load.until_accepted(100)
            before = await server.scrape()
            await server.kill()
            async with serving(port=port, database_url=database_url) as again:
                after = await again.scrape()
                kept = {key: n for key, n in before.items() if key[0].startswith(FROM_LEDGERS)}
                assert_monotone(kept, after)
                assert_invariants(after)
                await load.until_accepted(50)
                await load.finish()
                await assert_nothing_lost(load, db)
                found = await again.scrape()
                assert total(found, "ains_tasks_in_flight") == 0
                assert total(found, "ains_tasks_completed_total") >= len(load.accepted)
                assert total(found, "ains_chains_total") >= 5
                assert total(found, "ains_webhook_attempts_total") > 0


@asynccontextmanager
async def scraping(server: Server) -> AsyncIterator[None]:
    """Scrape again and again; what the database shows must be monotone and balanced."""
    scrapes = []
    stop = asyncio.Event()

    async def scrape() -> None:
        while not stop.is_set():
            started = monotonic()
            status, _, text = await server.get(
                "/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": "5"}
            )
            assert status == 200
            assert monotonic() - started < 5
            if "\nains_up 1.0\n" in text:
                scrapes.append(values(text_string_to_metric_families(text)))
            else:
                assert "\nains_up 0.0\n" in text
                assert "ains_tasks_created_total{" not in text
            await asyncio.sleep(0.05)

    task = asyncio.create_task(scrape())
    yield
    stop.set()
    await task
    for scraped in scrapes:
        assert_invariants(scraped)
    for before, after in pairwise(scrapes):
        assert_monotone(before, after)
    assert len(scrapes) > 5


async def test_postgresql_stopped_and_started_again() -> None:
    with temporary_data_dir() as place:
        postgres = await EmbeddedPostgres.start(place, fast=True)
        async with serving(database_url=postgres.dsn) as server:
            load = Load([server.url])
            async with scraping(server), load.running():
                await load.until_accepted(50)
                await postgres.stop()
                await server.until("/health/ready", 503)
                status, headers, _ = await server.get("/ains/agents")
                assert status == 503
                assert int(headers["Retry-After"]) >= 1
                assert (await server.get("/health"))[0] == 200
                status, _, text = await server.get("/health/detail")
                assert (status, '"status":"unavailable"' in text) == (503, True)
                postgres = await EmbeddedPostgres.start(place, port=postgres.port, fast=True)
                await server.until("/health/ready", 200)
                await load.until_accepted(50)
                await load.finish()
            async with postgres:
                db = await asyncpg.connect(postgres.dsn)
                await assert_nothing_lost(load, db)
                await db.close()
                assert set(load.answers) == {200, 503}
                assert not load.broken
                assert "Traceback" not in server.output


async def test_embedded_server_killed_comes_back_and_so_does_the_api() -> None:
    with temporary_data_dir() as place:
        async with serving(data_dir=str(place)) as server:
            load = Load([server.url])
            async with scraping(server), load.running():
                await load.until_accepted(50)
                found = read_postmaster(describe(place).data_dir / "pgdata")
                assert found is not None
                os.kill(found.pid, signal.SIGKILL)

                async def replaced() -> bool:
                    return describe(place).pid not in {None, found.pid}

                await eventually(replaced, seconds=20)
                await server.until("/health/ready", 200)
                await load.until_accepted(50)
                await load.finish()
            url = ains("db", "url", data_dir=str(place)).stdout.strip()
            db = await asyncpg.connect(url)
            await assert_nothing_lost(load, db)
            await db.close()
            assert "Traceback" not in server.output
