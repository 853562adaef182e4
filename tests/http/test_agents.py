"""Agents register, show up and are listed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.agent_api import AgentApi, agent_api, heartbeat, offer, registration, signed


@pytest.fixture
async def api(service_url: str) -> AsyncIterator[AgentApi]:
    async with agent_api(service_url) as running:
        yield running


async def test_registered_agent_is_shown_as_it_was_registered(api: AgentApi) -> None:
    body = registration("a1", description="Adds.", tags=["Sum", "fast"], unknown="field")
    answer = await api.ok("POST", "/ains/agents", body)
    created_at = datetime.fromisoformat(answer["created_at"])
    assert created_at.utcoffset() == timedelta(0)
    assert abs(created_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert answer == {
        "agent_id": "a1",
        "public_key": "ab" * 32,
        "display_name": "Agent a1",
        "description": "Adds.",
        "endpoint": "http://agent.example/",
        "status": "REGISTERED",
        "created_at": answer["created_at"],
        "trust_score": 0.5,
        "tags": ["Sum", "fast"],
        "verified": False,
    }
    assert await api.ok("GET", "/ains/agents/a1") == answer


async def test_description_and_tags_are_optional(api: AgentApi) -> None:
    left_out = await api.register("a1")
    null = await api.register("a2", description=None, tags=None)
    for answer in (left_out, null):
        assert (answer["description"], answer["tags"]) == (None, [])


async def test_agent_that_signed_its_registration_is_verified(api: AgentApi) -> None:
    body = signed("ünï", "http://x/?a=b")
    assert (await api.ok("POST", "/ains/agents", body))["verified"] is True
    assert (await api.ok("GET", "/ains/agents/%C3%BCn%C3%AF"))["verified"] is True
    other = body | {"agent_id": "another"}
    assert (await api.ok("POST", "/ains/agents", other))["verified"] is False


async def test_key_and_signature_of_other_lengths_are_accepted_unverified(api: AgentApi) -> None:
    answer = await api.register("a1", public_key="0123", signature="FF")
    assert (answer["public_key"], answer["verified"]) == ("0123", False)


@pytest.mark.parametrize("field", ["public_key", "signature"])
async def test_what_is_not_hexadecimal_is_a_400(api: AgentApi, field: str) -> None:
    for value in ("", "abc", "xyz!", "0xab", "ab cd", "ab\n", "é" * 64):
        status, problem = await api.call("POST", "/ains/agents", registration() | {field: value})
        assert status == 400, value
        assert field in problem["detail"]
    assert (await api.ok("GET", "/ains/agents"))["total"] == 0


async def test_server_that_wants_signatures_accepts_no_other(service_url: str) -> None:
    async with agent_api(service_url, require_signed_agents=True) as api:
        assert await api.status("POST", "/ains/agents", registration()) == 400
        body = signed()
        assert await api.status("POST", "/ains/agents", body | {"endpoint": "http://b"}) == 400
        assert (await api.ok("POST", "/ains/agents", body))["verified"] is True


async def test_known_agent_id_is_a_409_and_changes_nothing(api: AgentApi) -> None:
    first = await api.register("a1", display_name="first")
    body = registration("a1", display_name="second")
    status, problem = await api.call("POST", "/ains/agents", body)
    assert status == 409
    assert "a1" in problem["detail"]
    assert await api.ok("GET", "/ains/agents/a1") == first


async def test_of_twenty_equal_registrations_at_once_one_wins(api: AgentApi) -> None:
    bodies = [registration("same", display_name=f"number {n}") for n in range(20)]
    answers = await asyncio.gather(*(api.call("POST", "/ains/agents", body) for body in bodies))
    assert Counter(status for status, _ in answers) == {200: 1, 409: 19}
    (won,) = [answer for status, answer in answers if status == 200]
    assert (await api.ok("GET", "/ains/agents/same")) == won


async def test_wrong_type_or_length_is_a_422(api: AgentApi) -> None:
    wrong: list[tuple[str, object]] = [
        ("agent_id", ""),
        ("agent_id", "x" * 65),
        ("agent_id", "leaderboard"),
        ("agent_id", "other"),
        ("agent_id", ".."),
        ("agent_id", 7),
        ("agent_id", None),
        ("display_name", "x" * 256),
        ("display_name", ""),
        ("display_name", ["a"]),
        ("endpoint", "x" * 513),
        ("endpoint", {}),
        ("public_key", 12),
        ("public_key", "00" * 5000),
        ("signature", True),
        ("signature", None),
        ("description", 1),
        ("tags", "a,b"),
        ("tags", {"a": 1}),
        ("tags", [1]),
        ("tags", [None]),
        ("tags", [""]),
        ("tags", ["x" * 256]),
        ("tags", ["x"] * 101),
    ]
    for field, value in wrong:
        status, problem = await api.call("POST", "/ains/agents", registration() | {field: value})
        assert status == 422, (field, value)
        assert problem["errors"][0]["loc"][:2] == ["body", field]
    assert (await api.ok("GET", "/ains/agents"))["total"] == 0


async def test_missing_field_is_a_422(api: AgentApi) -> None:
    for field in registration():
        body = {name: value for name, value in registration().items() if name != field}
        status, problem = await api.call("POST", "/ains/agents", body)
        assert (status, problem["errors"][0]["type"]) == (422, "missing"), field


async def test_longest_values_are_kept_whole(api: AgentApi) -> None:
    body = registration("é" * 64, display_name="é" * 255, endpoint="é" * 512, tags=["é" * 255])
    body["description"] = "d" * 65_536
    answer = await api.ok("POST", "/ains/agents", body)
    assert {name: answer[name] for name in body if name in answer} == {
        name: value for name, value in body.items() if name != "signature"
    }


NOBODY = ["nobody", "%00", "%ED%A0%80", "x" * 5000, "%27", "1%2F2"]


async def test_unknown_agent_is_a_404(api: AgentApi) -> None:
    for agent_id in NOBODY:
        for suffix in ("", "/capabilities", "/trust", "/trust/history"):
            path = f"/ains/agents/{agent_id}{suffix}"
            assert await api.status("GET", path) == 404, path


async def test_unknown_agent_can_do_nothing(api: AgentApi) -> None:
    bodies = {
        "capabilities": offer(),
        "heartbeat": heartbeat(),
        "trust/adjust": {"trust_delta": 0.1, "reason": "x"},
    }
    for agent_id in NOBODY:
        for suffix, body in bodies.items():
            path = f"/ains/agents/{agent_id}/{suffix}"
            assert await api.status("POST", path, body) == 404, path
    assert api.woken == []


HOSTILE_IDS = [
    ("'; DROP TABLE agents; --", "%27%3B%20DROP%20TABLE%20agents%3B%20--"),
    ('"a"\\\n\t', "%22a%22%5C%0A%09"),
    ("\u202e\U0001f4a9", "%E2%80%AE%F0%9F%92%A9"),
    ("a/b", "a%2Fb"),
    ("%41", "%2541"),
    ("a+b c", "a+b%20c"),
    ("{agent_id}", "%7Bagent_id%7D"),
    ("?#", "%3F%23"),
]


async def test_any_text_can_be_an_agent_id(api: AgentApi) -> None:
    for agent_id, in_path in HOSTILE_IDS:
        await check_agent_id(api, agent_id, in_path)


async def check_agent_id(api: AgentApi, agent_id: str, in_path: str) -> None:
    await api.register(agent_id, display_name=agent_id, endpoint=agent_id, tags=[f"<{agent_id}>"])
    shown = await api.ok("GET", f"/ains/agents/{in_path}")
    assert shown["agent_id"] == shown["display_name"] == shown["endpoint"] == agent_id
    await api.beat(in_path)
    await api.publish(in_path, agent_id)
    assert await api.routes(agent_id) == sorted([agent_id.lower(), f"<{agent_id.lower()}>"])
    (found,) = (await api.ok("GET", "/ains/search", tags=f"<{agent_id}>"))["results"]
    assert found["capabilities"] == [agent_id]


async def register_many(api: AgentApi, count: int) -> None:
    for number in range(count):
        await api.register(f"a{number}")


async def test_list_shows_the_newest_first_in_pages(api: AgentApi) -> None:
    await register_many(api, 12)
    page = await api.ok("GET", "/ains/agents")
    assert (page["total"], page["limit"], page["offset"]) == (12, 10, 0)
    assert page["agents"][0] == {
        "agent_id": "a11", "display_name": "Agent a11", "status": "REGISTERED", "trust_score": 0.5,
    }  # fmt: skip
    rest = await api.ok("GET", "/ains/agents", limit=5, offset=9)
    assert [agent["agent_id"] for agent in rest["agents"]] == ["a2", "a1", "a0"]
    assert (rest["total"], rest["limit"], rest["offset"]) == (12, 5, 9)


async def test_page_beyond_the_end_is_empty_but_counts(api: AgentApi) -> None:
    empty = {"agents": [], "total": 0, "limit": 10, "offset": 0}
    assert await api.ok("GET", "/ains/agents") == empty
    await register_many(api, 2)
    for offset in (2, 2**63 - 1):
        page = await api.ok("GET", "/ains/agents", offset=offset)
        assert page == {"agents": [], "total": 2, "limit": 10, "offset": offset}


async def test_list_is_filtered_by_status(api: AgentApi) -> None:
    await register_many(api, 4)
    for agent_id, status in (("a0", "ACTIVE"), ("a1", "DEGRADED"), ("a2", "OFFLINE")):
        await api.beat(agent_id, status)
    for status, agent_id in (
        ("AVAILABLE", "a0"),
        ("BUSY", "a1"),
        ("INACTIVE", "a2"),
        ("REGISTERED", "a3"),
    ):
        page = await api.ok("GET", "/ains/agents", status=status)
        assert page["total"] == 1
        assert [(one["agent_id"], one["status"]) for one in page["agents"]] == [(agent_id, status)]
    assert (await api.ok("GET", "/ains/agents", status="SUSPENDED"))["total"] == 0


BAD_PAGES: list[dict[str, Any]] = [
    {"limit": 0}, {"limit": 1001}, {"limit": "x"}, {"limit": "1.5"}, {"limit": ""},
    {"limit": 10**30}, {"offset": -1}, {"offset": 10**30}, {"offset": 2**63}, {"offset": "1e3"},
]  # fmt: skip


async def test_bad_list_query_is_a_422(api: AgentApi) -> None:
    for query in [*BAD_PAGES, {"status": "ACTIVE"}, {"status": ""}]:
        status, problem = await api.call("GET", "/ains/agents", **query)
        assert status == 422, query
        assert problem["errors"][0]["loc"] == ["query", *query]


async def test_extreme_limits_are_allowed(api: AgentApi) -> None:
    for limit in (1, 1000):
        assert (await api.ok("GET", "/ains/agents", limit=limit))["limit"] == limit
