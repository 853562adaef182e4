"""POST /ains/maintenance/cleanup."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from tests.support.retention import count, ended_tasks, fold, unbalanced
from tests.support.task_api import TaskApi, task_api

CLEANUP = "/ains/maintenance/cleanup"
DAY = timedelta(days=1)


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[TaskApi]:
    async with task_api(database_url) as running:
        yield running


async def test_what_ended_long_ago_is_deleted(api: TaskApi) -> None:
    await ended_tasks(api.db, 1200, 9 * DAY)
    await ended_tasks(api.db, 5, 6 * DAY)
    await api.submit()
    await fold(api.db)
    before = await api.ok("GET", "/health/aitp")
    answer = await api.ok("POST", CLEANUP, days=7)
    assert answer == {"deleted_tasks": 1200, "deleted_deliveries": 0}
    assert await count(api.db, "tasks") == 6
    after = await api.ok("GET", "/health/aitp")
    assert before | {"timestamp": ""} == after | {"timestamp": ""}
    assert await unbalanced(api.db) == []
    again = await api.ok("POST", CLEANUP, days=7)
    assert again == {"deleted_tasks": 0, "deleted_deliveries": 0}


@pytest.mark.parametrize("days", [6, 366, 0, -30, 10**30])
async def test_days_that_are_not_allowed(api: TaskApi, days: int) -> None:
    await ended_tasks(api.db, 1, 400 * DAY)
    status, problem = await api.call("POST", CLEANUP, days=days)
    assert status == 400
    assert problem["detail"].startswith("days must be 7 to 365, not ")
    assert await count(api.db, "tasks") == 1


@pytest.mark.parametrize("days", [None, "", "a week", "7.5"])
async def test_days_that_are_none(api: TaskApi, days: str | None) -> None:
    assert (await api.call("POST", CLEANUP, days=days))[0] == 422


@pytest.mark.parametrize("days", [7, 365])
async def test_days_at_the_edge(api: TaskApi, days: int) -> None:
    await api.ok("POST", CLEANUP, days=days)


async def test_ends_early_when_the_server_stops(api: TaskApi) -> None:
    await ended_tasks(api.db, 2500, 9 * DAY)
    api.state.stopping = True
    answer = await api.ok("POST", CLEANUP, days=7)
    assert 0 < answer["deleted_tasks"] == 2500 - await count(api.db, "tasks") < 2500
