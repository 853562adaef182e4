"""Webhook routes over real sockets; the deliveries themselves are in tests/workers/webhooks."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from tests.support.agent_api import AgentApi, agent_api

PATH = "/ains/webhooks"
URL = "https://hooks.example.com/ains"


@pytest.fixture
async def api(service_url: str) -> AsyncIterator[AgentApi]:
    async with agent_api(service_url) as running:
        await running.register("a1")
        await running.register("a2")
        yield running


async def subscribe(api: AgentApi, **fields: object) -> Any:
    body = {"agent_id": "a1", "url": URL, "events": ["task.created"]} | fields
    return await api.ok("POST", PATH, body)


async def delivery(api: AgentApi) -> str:
    """A delivery of something that happened."""
    await api.db.execute(
        "INSERT INTO tasks (client_id, task_type, capability_required) VALUES ('a1', 't', 'x')"
    )
    return str(await api.db.fetchval("SELECT delivery_id FROM webhook_deliveries LIMIT 1"))


async def test_secret_is_shown_once(api: AgentApi) -> None:
    made = await subscribe(api)
    assert made["secret"].startswith("whsec_")
    assert (made["active"], made["events"]) == (True, ["task.created"])
    shown = await api.ok("GET", f"{PATH}/{made['webhook_id']}")
    assert "secret" not in shown
    assert shown | {"secret": made["secret"]} == made | {"updated_at": shown["updated_at"]}


async def test_secret_of_the_client_is_kept(api: AgentApi) -> None:
    made = await subscribe(api, secret="whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz")
    assert made["secret"] == "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"agent_id": "nobody"}, 404),
        ({"events": []}, 422),
        ({"events": ["task.exploded"]}, 422),
        ({"events": "task.created"}, 422),
        ({"url": "http://127.0.0.1/"}, 422),
        ({"url": "http://169.254.169.254/latest/meta-data/"}, 422),
        ({"url": "ftp://example.com/"}, 422),
        ({"url": "http://user:secret@example.com/"}, 422),
        ({"url": "no url"}, 422),
        ({"url": "http://\ud800.com/"}, 422),
        ({"secret": "short"}, 422),
        ({"secret": 5}, 422),
    ],
)
async def test_wrong_subscription_is_refused(
    api: AgentApi, fields: dict[str, object], status: int
) -> None:
    body = {"agent_id": "a1", "url": URL, "events": ["task.created"]} | fields
    assert await api.status("POST", PATH, body) == status
    assert await api.db.fetchval("SELECT count(*) FROM webhooks") == 0


async def test_only_its_agent_ends_a_subscription(api: AgentApi) -> None:
    made = await subscribe(api)
    await delivery(api)
    path = f"{PATH}/{made['webhook_id']}"
    assert await api.status("DELETE", path) == 422
    assert await api.status("DELETE", path, agent_id="a2") == 403
    assert (await api.ok("GET", path))["active"]
    ended = await api.ok("DELETE", path, agent_id="a1")
    assert ended == {"webhook_id": made["webhook_id"], "status": "deactivated"}
    assert not (await api.ok("GET", path))["active"]
    assert await api.db.fetchval("SELECT status FROM webhook_deliveries") == "failed"
    assert await api.status("DELETE", f"{PATH}/{uuid4()}", agent_id="a1") == 404


async def test_deliveries_are_listed_newest_first(api: AgentApi) -> None:
    made = await subscribe(api, events=["task.created", "task.cancelled"])
    await delivery(api)
    await api.db.execute("UPDATE tasks SET status = 'CANCELLED'")
    path = f"{PATH}/{made['webhook_id']}/deliveries"
    listed = await api.ok("GET", path)
    assert [d["event_type"] for d in listed["deliveries"]] == ["task.cancelled", "task.created"]
    first = listed["deliveries"][0]
    assert (first["status"], first["attempt_count"], first["response_code"]) == ("pending", 0, None)
    assert len((await api.ok("GET", path, limit=1))["deliveries"]) == 1
    assert await api.status("GET", path, limit=0) == 422
    assert await api.status("GET", path, limit=201) == 422
    assert await api.status("GET", f"{PATH}/{uuid4()}/deliveries") == 404
    assert await api.status("GET", f"{PATH}/nothing/deliveries") == 404


async def test_delivery_is_pending_again_when_redelivered(api: AgentApi) -> None:
    made = await subscribe(api)
    lost = await delivery(api)
    await api.db.execute(
        "UPDATE webhook_deliveries SET status = 'failed', attempt_count = 8, next_attempt_at = NULL"
    )
    path = f"{PATH}/{made['webhook_id']}/deliveries"
    again = await api.ok("POST", f"{path}/{lost}/redeliver")
    assert (again["delivery_id"], again["status"]) == (lost, "pending")
    assert again["attempt_count"] == 0
    assert await api.status("POST", f"{path}/{uuid4()}/redeliver") == 404
    other = await subscribe(api)
    path = f"{PATH}/{other['webhook_id']}/deliveries/{lost}/redeliver"
    assert await api.status("POST", path) == 404
