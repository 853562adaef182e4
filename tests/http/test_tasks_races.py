"""Two at the same moment: one wins, the other is told, and it counts once.

Nothing here is left to luck: a lock holds the task until all contenders wait for it, then they are
let go at once.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from ains.db import sweeps
from tests.support.databases import eventually
from tests.support.task_api import TaskApi, task_api, task_body

Answer = tuple[int, Any]


@pytest.fixture
async def api(service_url: str) -> AsyncIterator[TaskApi]:
    async with task_api(service_url) as running:
        yield await running.agent()


@pytest.fixture
async def replica(service_url: str, api: TaskApi) -> AsyncIterator[TaskApi]:
    """A second server on the same database."""
    async with task_api(service_url) as running:
        yield running


async def waiting(api: TaskApi, count: int) -> None:
    """Wait until ``count`` statements wait for a lock."""

    async def all_wait() -> bool:
        found = await api.db.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(found == count)

    await eventually(all_wait)


@asynccontextmanager
async def held(api: TaskApi, *tasks: str) -> AsyncIterator[None]:
    """Keep everybody from these tasks."""
    async with api.pool.transaction() as tx:
        await tx.connection.execute(
            "SELECT FROM tasks WHERE task_id = ANY ($1) FOR UPDATE", [UUID(t) for t in tasks]
        )
        yield


async def collide(api: TaskApi, task: str, *requests: Coroutine[Any, Any, Answer]) -> list[Answer]:
    """Send all requests at a task, and let them go when every one waits for it."""
    async with held(api, task):
        sent = [asyncio.create_task(request) for request in requests]
        await waiting(api, len(requests))
    return await asyncio.gather(*sent)


async def test_same_completion_through_two_servers_counts_once(
    api: TaskApi, replica: TaskApi
) -> None:
    task = await api.assigned()
    reports = [server.report(task, "COMPLETED", result_data=1) for server in (api, replica)]
    first, second = await collide(api, task, *reports)
    assert first == second
    assert first[0] == 200
    assert await api.events(task) == ["created", "completed"]
    assert await api.db.fetchval("SELECT total_tasks_completed FROM agents") == 1


async def test_of_two_different_ends_one_wins(api: TaskApi, replica: TaskApi) -> None:
    task = await api.assigned(max_retries=0)
    answers = await collide(
        api,
        task,
        api.report(task, "COMPLETED", result_data=1),
        replica.report(task, "COMPLETED", result_data=2),
        replica.report(task, "FAILED"),
        api.call("DELETE", f"/aitp/tasks/{task}", client_id="c1"),
    )
    assert sorted(status for status, _ in answers) == [200, 400, 400, 400]
    [won] = [answer for status, answer in answers if status == 200]
    assert (await api.show(task))["status"] == won["status"]
    assert len(await api.events(task)) == 2


async def test_same_failure_twice_is_one_retry(api: TaskApi, replica: TaskApi) -> None:
    task = await api.assigned()
    reports = [server.report(task, "FAILED", error_message="x") for server in (api, replica)]
    first, second = await collide(api, task, *reports)
    assert first == second
    assert (first[0], first[1]["retry_count"]) == (200, 1)
    assert await api.events(task) == ["created", "retried"]


async def test_start_and_cancellation_both_happen_in_some_order(
    api: TaskApi, replica: TaskApi
) -> None:
    task = await api.assigned()
    (started, _), (cancelled, _) = await collide(
        api,
        task,
        api.report(task, "ACTIVE"),
        replica.call("DELETE", f"/aitp/tasks/{task}", client_id="c1"),
    )
    assert cancelled == 200
    assert started in (200, 400)
    middle = ["started"] if started == 200 else []
    assert await api.events(task) == ["created", *middle, "cancelled"]


async def test_of_two_manual_retries_one_wins(api: TaskApi, replica: TaskApi) -> None:
    task = await api.assigned(max_retries=0)
    await api.report(task, "FAILED")
    await api.db.execute("UPDATE tasks SET max_retries = 5")
    retries = [s.call("POST", f"/aitp/tasks/{task}/retry") for s in (api, replica)]
    answers = await collide(api, task, *retries)
    assert sorted(status for status, _ in answers) == [200, 400]
    assert (await api.row(task))["retry_count"] == 1
    assert (await api.events(task)).count("reopened") == 1


async def test_report_that_comes_during_its_timeout_loses(api: TaskApi) -> None:
    task = await api.assigned()
    await api.db.execute("UPDATE tasks SET deadline_at = now()")
    async with api.pool.transaction() as sweep:
        assert (await sweeps.time_out(sweep)).ended == 1
        report = asyncio.create_task(api.report(task, "COMPLETED"))
        await waiting(api, 1)
    status, problem = await report
    assert status == 400
    assert "PENDING" in problem["detail"]
    assert await api.events(task) == ["created", "timed_out", "retried"]


async def test_timeout_that_comes_during_a_report_passes_it_over(
    api: TaskApi, replica: TaskApi
) -> None:
    task = await api.assigned()
    await api.db.execute("UPDATE tasks SET deadline_at = now()")
    async with held(api, task):
        report = asyncio.create_task(replica.report(task, "COMPLETED"))
        await waiting(api, 1)
        swept = await api.ok("POST", "/aitp/maintenance/check-timeouts")
        assert swept["timed_out_count"] == 0
    assert (await report)[0] == 200
    swept = await api.ok("POST", "/aitp/maintenance/check-timeouts")
    assert swept["timed_out_count"] == 0
    assert await api.events(task) == ["created", "completed"]


async def test_report_that_comes_while_the_agent_is_lost_loses(api: TaskApi) -> None:
    started, assigned = await api.assigned(), await api.assigned()
    await api.report(started, "ACTIVE")
    await api.heartbeat("a1", age=61)
    async with api.pool.transaction() as sweep:
        recovered = await sweeps.recover_tasks(sweep, timedelta(seconds=60))
        assert (recovered.requeued, recovered.ended) == (1, 1)
        reports = [
            asyncio.create_task(api.report(task, "COMPLETED")) for task in (started, assigned)
        ]
        await waiting(api, 2)
    for report in reports:
        assert (await report)[0] == 400
    assert await api.tasks_in("PENDING") == 2


async def test_batches_that_overlap_the_other_way_round_cancel_each_task_once(
    api: TaskApi, replica: TaskApi
) -> None:
    items = [{k: v for k, v in task_body().items() if k != "client_id"}] * 200
    batch = await api.ok("POST", "/aitp/tasks/batch", {"client_id": "c1", "tasks": items})
    ids: list[str] = batch["task_ids"]
    path = "/aitp/tasks/batch/cancel"
    async with held(api, ids[100]):
        sent = [
            asyncio.create_task(server.ok("POST", path, {"task_ids": names, "client_id": "c1"}))
            for server, names in ((api, ids), (replica, ids[::-1]))
        ]
        await waiting(api, 2)
    answers = await asyncio.gather(*sent)
    assert sorted(answer["cancelled"] for answer in answers) == [0, 200]
    events = await api.db.fetchval("SELECT count(*) FROM task_events WHERE event = 'cancelled'")
    assert events == 200


async def test_twenty_agents_that_report_at_once_all_count(api: TaskApi, replica: TaskApi) -> None:
    """Tasks of one agent: their trust is added up one after the other."""
    tasks = [await api.assigned() for _ in range(20)]
    await api.db.execute("UPDATE agents SET trust_score = 0")
    await asyncio.gather(
        *(server.report(t, "COMPLETED") for t in tasks for server in (api, replica))
    )
    row = await api.db.fetchrow("SELECT trust_score, total_tasks_completed AS n FROM agents")
    assert row is not None
    assert (row["n"], row["trust_score"]) == (20, 1.0)
    assert await api.db.fetchval("SELECT count(*) FROM trust_records") == 20
