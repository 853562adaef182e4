"""Heartbeats: whether an agent is there, and is given work."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from ains.db.sql import load
from tests.support.agent_api import AgentApi, agent_api, heartbeat


@pytest.fixture
async def api(service_url: str) -> AsyncIterator[AgentApi]:
    async with agent_api(service_url) as running:
        await running.register("a1", tags=["Sum"])
        yield running


@pytest.mark.parametrize(
    ("health", "status"),
    [("ACTIVE", "AVAILABLE"), ("DEGRADED", "BUSY"), ("OFFLINE", "INACTIVE")],
)
async def test_heartbeat_sets_the_status(api: AgentApi, health: str, status: str) -> None:
    answer = await api.beat("a1", health, metrics={"cpu": 0.5, "big": 10**40})
    assert answer == {
        "acknowledged": True,
        "next_heartbeat_in": 30,
        "agent_health_status": health,
        "agent_status": status,
        "last_heartbeat": answer["last_heartbeat"],
    }
    assert (await api.ok("GET", "/ains/agents/a1"))["status"] == status
    row = await api.row()
    assert row["last_heartbeat"] == datetime.fromisoformat(answer["last_heartbeat"])
    assert abs(row["last_heartbeat"] - datetime.now(UTC)) < timedelta(minutes=1)
    assert (row["heartbeat_timestamp"], row["uptime_ms"]) == (1_700_000_000, 5000)
    assert row["health_metrics"] == f'{{"cpu":0.5,"big":{10**40}}}'


async def test_next_heartbeat_follows_the_settings(service_url: str) -> None:
    async with agent_api(service_url, agent_ttl=9, heartbeat_interval=2.5) as api:
        await api.register()
        assert (await api.beat())["next_heartbeat_in"] == 2.5


async def test_time_of_a_heartbeat_is_the_databases(api: AgentApi) -> None:
    answer = await api.beat("a1", timestamp=0)
    age = datetime.now(UTC) - datetime.fromisoformat(answer["last_heartbeat"])
    assert age < timedelta(minutes=1)


@pytest.mark.parametrize("health", ["ACTIVE", "DEGRADED", "OFFLINE"])
async def test_suspended_agent_stays_suspended(api: AgentApi, health: str) -> None:
    await api.set("a1", status="SUSPENDED")
    answer = await api.beat("a1", health)
    assert (answer["acknowledged"], answer["agent_status"]) == (True, "SUSPENDED")
    assert answer["agent_health_status"] == health
    assert await api.routes() == []
    assert api.woken == []


async def test_agent_that_comes_back_wakes_the_dispatcher(api: AgentApi) -> None:
    await api.beat("a1", "DEGRADED")
    assert len(api.woken) == 0
    await api.beat("a1", "ACTIVE")
    assert len(api.woken) == 1
    await api.beat("a1", "ACTIVE")
    assert len(api.woken) == 1, "it was there all the time"
    await api.set("a1", last_heartbeat=datetime.now(UTC) - timedelta(seconds=61))
    await api.beat("a1", "OFFLINE")
    assert len(api.woken) == 1
    await api.beat("a1", "ACTIVE")
    assert len(api.woken) == 2
    await api.set("a1", last_heartbeat=datetime.now(UTC) - timedelta(seconds=61))
    await api.beat("a1", "ACTIVE")
    assert len(api.woken) == 3, "it had been silent for too long to be given work"


async def test_status_change_is_noted_and_mere_presence_is_not(api: AgentApi) -> None:
    await api.beat("a1", "ACTIVE")
    first = (await api.row())["updated_at"]
    await api.beat("a1", "ACTIVE")
    assert (await api.row())["updated_at"] == first
    await api.beat("a1", "DEGRADED")
    assert (await api.row())["updated_at"] > first


async def test_metrics_are_those_of_the_last_heartbeat(api: AgentApi) -> None:
    await api.beat("a1", metrics={"cpu": 1})
    await api.beat("a1")
    assert (await api.row())["health_metrics"] is None


async def test_heartbeats_at_once_are_all_acknowledged(api: AgentApi) -> None:
    statuses = ["ACTIVE", "DEGRADED", "OFFLINE"] * 10
    answers = await asyncio.gather(*(api.beat("a1", status) for status in statuses))
    last = max(answers, key=lambda answer: str(answer["last_heartbeat"]))
    assert {answer["agent_status"] for answer in answers} == {"AVAILABLE", "BUSY", "INACTIVE"}
    row = await api.row()
    assert row["last_heartbeat"] <= datetime.fromisoformat(last["last_heartbeat"])
    assert await api.routes() == (["sum"] if row["status"] == "AVAILABLE" else [])


async def test_only_a_change_of_status_waits_for_the_disk(
    api: AgentApi, db: asyncpg.Connection
) -> None:
    beat = load("agents")["heartbeat"].text
    for status, mode in (("AVAILABLE", "on"), ("AVAILABLE", "off"), ("BUSY", "on")):
        async with db.transaction():
            await db.execute("SET LOCAL synchronous_commit = on")
            await db.fetchrow(beat, "a1", status, 1, 1, None, timedelta(seconds=60))
            assert await db.fetchval("SHOW synchronous_commit") == mode
        assert await db.fetchval("SHOW synchronous_commit") == "on"


async def test_malformed_heartbeat_is_a_422(api: AgentApi) -> None:
    wrong: list[dict[str, object]] = [
        {"status": "AVAILABLE"}, {"status": "active"}, {"status": ""}, {"status": None},
        {"status": 1}, {"timestamp": "1"}, {"timestamp": 1.5}, {"timestamp": True},
        {"timestamp": None}, {"timestamp": 2**63}, {"timestamp": -(2**63) - 1},
        {"timestamp": 10**30}, {"uptime_ms": -1}, {"uptime_ms": 2**63}, {"uptime_ms": 10**30},
        {"uptime_ms": "5"}, {"uptime_ms": None}, {"metrics": []}, {"metrics": "x"},
        {"metrics": {"a": "\0"}},
    ]  # fmt: skip
    for fields in wrong:
        body = heartbeat() | fields
        status, problem = await api.call("POST", "/ains/agents/a1/heartbeat", body)
        assert status == 422, fields
        assert problem["errors"][0]["loc"][:2] in (["body", *fields], ["body"]), fields
    assert (await api.row())["last_heartbeat"] is None


async def test_extreme_numbers_are_kept(api: AgentApi) -> None:
    for timestamp in (0, -(2**63), 2**63 - 1):
        await api.beat("a1", timestamp=timestamp, uptime_ms=2**63 - 1)
        row = await api.row()
        assert (row["heartbeat_timestamp"], row["uptime_ms"]) == (timestamp, 2**63 - 1)


async def test_routes_follow_status_tags_and_capabilities(api: AgentApi) -> None:
    assert await api.routes() == []
    await api.publish("a1", "Translate")
    await api.publish("a1", "SUM")
    assert await api.routes() == []
    await api.beat("a1", "ACTIVE")
    assert await api.routes() == ["sum", "translate"]
    await api.publish("a1", "late")
    assert await api.routes() == ["late", "sum", "translate"]
    await api.beat("a1", "DEGRADED")
    assert await api.routes() == []
    await api.beat("a1", "ACTIVE")
    await api.set("a1", tags=["x", "X", "sum"])
    assert await api.routes() == ["late", "sum", "translate", "x"]
    await api.db.execute("UPDATE agent_capabilities SET deprecated = true WHERE name = 'late'")
    assert await api.routes() == ["sum", "translate", "x"]
    await api.publish("a1", "Late")
    assert await api.routes() == ["late", "sum", "translate", "x"]
    await api.set("a1", tags=[])
    await api.db.execute("DELETE FROM agent_capabilities WHERE name = 'SUM'")
    assert await api.routes() == ["late", "translate"]
    await api.db.execute("DELETE FROM agents")
    assert await api.routes() == []


async def test_publication_and_heartbeat_at_once_leave_right_routes(api: AgentApi) -> None:
    for number in range(20):
        await api.beat("a1", "DEGRADED")
        await asyncio.gather(api.beat("a1", "ACTIVE"), api.publish("a1", f"c{number:02}"))
        assert await api.routes() == [*(f"c{n:02}" for n in range(number + 1)), "sum"]
