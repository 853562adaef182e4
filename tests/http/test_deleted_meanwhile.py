"""Somebody deletes, in psql, what a request is just about to add to."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.support.agent_api import AgentApi, agent_api, heartbeat, offer
from tests.support.waiting import until_blocked


@pytest.fixture
async def api(service_url: str) -> AsyncIterator[AgentApi]:
    async with agent_api(service_url) as running:
        await running.register("a1", tags=["sum"])
        yield running


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/ains/webhooks",
            {"agent_id": "a1", "url": "https://h.example/", "events": ["task.created"]},
        ),
        ("/ains/agents/a1/capabilities", offer("sum")),
        ("/ains/agents/a1/heartbeat", heartbeat("ACTIVE")),
        ("/ains/agents/a1/trust/adjust", {"trust_delta": 0.1, "reason": "because"}),
    ],
    ids=["webhook", "capability", "heartbeat", "trust"],
)
async def test_request_about_an_agent_that_is_being_deleted_finds_nothing(
    api: AgentApi, database_url: str, path: str, body: object
) -> None:
    deleting = await asyncpg.connect(database_url)
    async with asyncio.TaskGroup() as group, deleting.transaction():
        await deleting.execute("DELETE FROM agents")
        asked = group.create_task(api.call("POST", path, body))
        await until_blocked(api.db)
    await deleting.close()
    status, answer = asked.result()
    assert status == 404, answer
