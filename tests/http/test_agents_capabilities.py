"""Capabilities: published, replaced, listed, searched for."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from tests.support.agent_api import AgentApi, agent_api, offer
from tests.support.databases import eventually


@pytest.fixture
async def api(service_url: str) -> AsyncIterator[AgentApi]:
    async with agent_api(service_url) as running:
        await running.register("a1")
        yield running


async def capabilities(api: AgentApi, agent_id: str = "a1") -> list[dict[str, Any]]:
    found = await api.ok("GET", f"/ains/agents/{agent_id}/capabilities")
    assert isinstance(found, list)
    return found


async def test_published_capability_is_listed(api: AgentApi) -> None:
    assert await capabilities(api) == []
    answer = await api.ok("POST", "/ains/agents/a1/capabilities", offer("sum", more=1))
    assert answer == {"capability_id": answer["capability_id"], "status": "published"}
    assert UUID(answer["capability_id"]).version == 7
    assert len(api.woken) == 1
    assert await capabilities(api) == [
        {
            "capability_id": answer["capability_id"],
            "name": "sum",
            "description": "Adds numbers.",
            "pricing_model": "per_task",
            "price": 0.25,
            "availability_percent": 99.9,
            "latency_p99_ms": 100,
        }
    ]


async def test_schemas_are_kept_as_they_were_sent(api: AgentApi) -> None:
    body = offer(input_schema={"z": 1, "a": {"b": [1.0, 10**40]}}, output_schema={})
    await api.ok("POST", "/ains/agents/a1/capabilities", body)
    row = await api.db.fetchrow("SELECT * FROM agent_capabilities")
    assert row is not None
    assert row["input_schema"] == f'{{"z":1,"a":{{"b":[1.0,{10**40}]}}}}'
    assert row["output_schema"] == "{}"


@pytest.mark.parametrize("name", ["sum", "SUM"])
async def test_publishing_a_name_again_replaces_it(api: AgentApi, name: str) -> None:
    first = await api.publish("a1", "sum", price=1)
    await api.publish("a1", "other")
    again = await api.publish("a1", name, price=2, description="New.", latency_p99_ms=1.5)
    assert again == first
    found = await capabilities(api)
    assert [one["name"] for one in found] == [name, "other"]
    assert (found[0]["price"], found[0]["description"]) == (2, "New.")
    assert found[0]["latency_p99_ms"] == 1.5


async def test_agents_may_offer_the_same(api: AgentApi) -> None:
    await api.register("a2")
    assert await api.publish("a1") != await api.publish("a2")
    assert len(await capabilities(api, "a1")) == len(await capabilities(api, "a2")) == 1


async def test_deprecated_capability_is_not_offered_until_published_again(api: AgentApi) -> None:
    await api.publish("a1", "sum")
    await api.db.execute("UPDATE agent_capabilities SET deprecated = true")
    assert await capabilities(api) == []
    assert (await api.ok("GET", "/ains/search", capability="sum"))["total"] == 0
    await api.publish("a1", "sum")
    assert len(await capabilities(api)) == 1


async def test_publications_at_once_make_one_capability_of_each_name(api: AgentApi) -> None:
    names = ["sum", "SUM", "mul", "Mul", "div"] * 6
    ids = await asyncio.gather(*(api.publish("a1", name) for name in names))
    assert len(set(ids)) == 3
    assert sorted(one["name"].lower() for one in await capabilities(api)) == ["div", "mul", "sum"]


async def test_publication_of_an_agent_that_is_just_being_deleted_is_a_404(api: AgentApi) -> None:
    async with api.db.transaction():
        await api.db.execute("DELETE FROM agents WHERE agent_id = 'a1'")
        publication = asyncio.create_task(
            api.status("POST", "/ains/agents/a1/capabilities", offer())
        )
        await eventually(lambda: waiting_for_a_lock(api))
    assert await publication == 404


async def waiting_for_a_lock(api: AgentApi) -> bool:
    return bool(
        await api.db.fetchval(
            "SELECT EXISTS (SELECT FROM pg_locks AS wanted JOIN pg_locks AS held USING (pid)"
            " WHERE NOT wanted.granted AND held.database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database()))"
        )
    )


async def test_malformed_capability_is_a_422(api: AgentApi) -> None:
    wrong: list[dict[str, object]] = [
        {"name": ""}, {"name": "x" * 256}, {"name": None}, {"name": 1}, {"name": "a\0"},
        {"description": None}, {"description": 1}, {"input_schema": None}, {"input_schema": []},
        {"input_schema": "{}"}, {"output_schema": True}, {"output_schema": 1},
        {"pricing_model": None}, {"pricing_model": "x" * 256},
        {"price": -0.01}, {"price": "1"}, {"price": None}, {"price": True}, {"price": 10**400},
        {"latency_p99_ms": -1}, {"latency_p99_ms": "1"}, {"latency_p99_ms": None},
        {"availability_percent": -0.1}, {"availability_percent": 100.1},
        {"availability_percent": "99"}, {"signature": None}, {"signature": 1},
        {"signature": "x" * 8193},
    ]  # fmt: skip
    for fields in wrong:
        status, problem = await api.call("POST", "/ains/agents/a1/capabilities", offer() | fields)
        assert status == 422, fields
        assert problem["errors"][0]["loc"][0] == "body"
    assert await capabilities(api) == []
    assert api.woken == []


async def test_price_that_is_no_number_is_a_422(api: AgentApi) -> None:
    valid = json.dumps(offer(price=12345.5)).encode()
    for number in (b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400"):
        body = valid.replace(b"12345.5", number)
        assert await api.status("POST", "/ains/agents/a1/capabilities", body) == 422, number


async def test_every_field_of_a_capability_is_required(api: AgentApi) -> None:
    for missing in offer():
        body = {name: value for name, value in offer().items() if name != missing}
        assert await api.status("POST", "/ains/agents/a1/capabilities", body) == 422, missing


async def test_extreme_numbers_are_kept(api: AgentApi) -> None:
    for value in (0, 1e-300, 1e308, 10**300, 2**53, 2**64):
        await api.publish("a1", price=value, latency_p99_ms=value, availability_percent=100)
        (found,) = await capabilities(api)
        assert found["price"] == found["latency_p99_ms"] == float(value)
