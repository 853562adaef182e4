"""`ains serve --demo`: a newcomer sees every metric move, and it goes on whatever happens."""

import asyncio
import signal
from time import monotonic

import asyncpg
from prometheus_client.parser import text_string_to_metric_families

from tests.support.serving import Server, serving

# Every family of stage 1 and the samples that have to be there; `None` stands for any value.
MOVING = {
    "ains_http_requests",
    "ains_http_request_duration_seconds",
    "ains_http_requests_in_progress",
    "ains_tasks_created",
    "ains_tasks_completed",
    "ains_tasks_failed",
    "ains_task_duration_seconds",
    "ains_tasks_in_queue",
    "ains_task_retries",
    "ains_task_timeouts",
    "ains_tasks_cancelled",
    "ains_tasks_reopened",
    "ains_tasks_in_flight",
    "ains_task_queue_seconds",
    "ains_task_oldest_pending_timestamp_seconds",
    "ains_agents_total",
    "ains_agents_active",
    "ains_agent_trust_score",
    "ains_agent_tasks_completed",
    "ains_agent_tasks_failed",
    "ains_agents_by_status",
    "ains_db_connections_active",
    "ains_db_queries",
    "ains_db_query_duration_seconds",
    "ains_scrape_ledger_open_events",
}
SECONDS = 60.0
"""At most. It is three on a quiet machine; how many here depends on what else runs."""


async def families_with_values(server: Server) -> set[str]:
    """Names of the families of a scrape that have a sample other than zero."""
    _, _, text = await server.get("/metrics")
    return {
        family.name
        for family in text_string_to_metric_families(text)
        if any(sample.value for sample in family.samples)
    }


async def completed(db: asyncpg.Connection) -> int:
    count: int = await db.fetchval("SELECT count(*) FROM tasks WHERE status = 'COMPLETED'")
    return count


async def until_more_are_completed(db: asyncpg.Connection) -> None:
    before = await completed(db)
    deadline = monotonic() + 30
    while await completed(db) < before + 3:
        assert monotonic() < deadline, "the population has stopped"
        await asyncio.sleep(0.1)


async def test_every_family_moves_soon(service_url: str, scraper_url: str) -> None:
    async with serving(
        "--demo", database_url=service_url, metrics_database_url=scraper_url
    ) as server:
        begin = monotonic()
        moved: set[str] = set()
        # A gauge may be zero at one moment and not at the next.
        while not moved >= MOVING and monotonic() < begin + SECONDS:
            moved |= await families_with_values(server)
            await asyncio.sleep(0.1)
        assert moved >= MOVING, MOVING - moved


async def test_the_population_outlives_the_server_and_the_data(
    service_url: str, db: asyncpg.Connection
) -> None:
    async with serving("--demo", database_url=service_url) as server:
        await until_more_are_completed(db)
        await db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await until_more_are_completed(db)
        await db.execute("DELETE FROM tasks")
        await db.execute("DELETE FROM agents")  # they register again with their next heartbeat
        server.send(signal.SIGTERM)
        begin = monotonic()
        assert await server.ended() == 0
        assert monotonic() - begin < 5, "ends cleanly and soon"
    async with serving("--demo", database_url=service_url):
        await until_more_are_completed(db)
