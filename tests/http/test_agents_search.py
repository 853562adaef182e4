"""Finding agents: search and leaderboard."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.http.test_agents import BAD_PAGES
from tests.support.agent_api import AgentApi, agent_api


@pytest.fixture
async def api(service_url: str) -> AsyncIterator[AgentApi]:
    async with agent_api(service_url) as running:
        yield running


async def found(api: AgentApi, **query: object) -> list[str]:
    """Ids found by a search, whose total must agree."""
    answer = await api.ok("GET", "/ains/search", **query)
    ids = [result["agent_id"] for result in answer["results"]]
    if not query.keys() & {"limit", "offset"}:
        assert answer["total"] == len(ids)
    return ids


@pytest.fixture
async def three(api: AgentApi) -> AgentApi:
    """Three agents, of rising trust, falling price, latencies 30, 10, 20."""
    for number, latency in enumerate((30, 10, 20), start=1):
        agent_id = f"a{number}"
        await api.register(agent_id, tags=["Shared", f"tag{number}"])
        await api.set(agent_id, trust_score=number / 4)
        await api.publish(agent_id, f"Text-{number}", price=4 - number, latency_p99_ms=latency)
    return api


async def test_search_without_conditions_finds_all_by_trust(three: AgentApi) -> None:
    await three.register("bare")
    answer = await three.ok("GET", "/ains/search")
    assert answer == {
        "results": [
            {"agent_id": "a3", "display_name": "Agent a3", "trust_score": 0.75,
             "capabilities": ["Text-3"]},
            {"agent_id": "a2", "display_name": "Agent a2", "trust_score": 0.5,
             "capabilities": ["Text-2"]},
            {"agent_id": "bare", "display_name": "Agent bare", "trust_score": 0.5,
             "capabilities": []},
            {"agent_id": "a1", "display_name": "Agent a1", "trust_score": 0.25,
             "capabilities": ["Text-1"]},
        ],
        "total": 4,
        "limit": 10,
        "offset": 0,
    }  # fmt: skip


async def test_result_names_all_capabilities_of_an_agent(three: AgentApi) -> None:
    await three.publish("a1", "other")
    (result,) = (await three.ok("GET", "/ains/search", capability="text-1"))["results"]
    assert result["capabilities"] == ["Text-1", "other"]


async def test_search_by_part_of_a_capabilitys_name(three: AgentApi) -> None:
    assert await found(three, capability="text") == ["a3", "a2", "a1"]
    assert await found(three, capability="XT-2") == ["a2"]
    assert await found(three, capability="Text-1") == ["a1"]
    assert await found(three, capability="image") == []
    await three.register("bare")
    assert await found(three, capability="") == ["a3", "a2", "bare", "a1"], "not asked for"


async def test_search_takes_no_character_for_a_pattern(api: AgentApi) -> None:
    texts = ["%", "_", "\\", "100%", "a_b", "c\\d", "'", "é", "x*y", "(.)"]
    await api.register("without")
    await api.publish("without", "<100 aXb cd xy .>")
    for number, text in enumerate(texts):
        await api.register(f"a{number}")
        await api.publish(f"a{number}", f"<{text}>")
    for number, text in enumerate(texts):
        ids = {f"a{n}" for n, other in enumerate(texts) if text in other}
        assert set(await found(api, capability=text)) == ids
        # What is the capital of é depends on the database's locale.
        capital = text.upper() if text.isascii() else text
        assert await found(api, capability=f"<{capital}>") == [f"a{number}"]


async def test_search_by_tags_takes_any_of_them(three: AgentApi) -> None:
    for tags, ids in {
        "tag1": ["a1"],
        "TAG1": ["a1"],
        "tag1,tag3": ["a3", "a1"],
        " tag2 , nothing": ["a2"],
        "shared": ["a3", "a2", "a1"],
        "tag": [],
        "share%": [],
        "": ["a3", "a2", "a1"],
        ",,": ["a3", "a2", "a1"],
    }.items():
        assert await found(three, tags=tags) == ids, tags


async def test_every_condition_has_to_hold(three: AgentApi) -> None:
    assert await found(three, capability="text", tags="tag1,tag2") == ["a2", "a1"]
    assert await found(three, capability="text", tags="tag1,tag2", min_trust=0.5) == ["a2"]
    assert await found(three, capability="text-3", tags="tag1") == []


async def test_search_by_trust(three: AgentApi) -> None:
    for min_trust, count in ((0, 3), (0.25, 3), (0.250001, 2), (0.75, 1), (1, 0)):
        assert len(await found(three, min_trust=min_trust)) == count


async def test_search_is_sorted(three: AgentApi) -> None:
    for order, ids in {
        "trust_score": ["a3", "a2", "a1"],
        "price": ["a3", "a2", "a1"],
        "latency": ["a2", "a3", "a1"],
    }.items():
        assert await found(three, sort_by=order) == ids
        assert await found(three, sort_by=order, capability="text") == ids


async def test_price_is_that_of_the_cheapest_match_and_nothing_comes_last(three: AgentApi) -> None:
    await three.publish("a1", "cheap", price=0)
    await three.register("bare")
    await three.set("bare", trust_score=1)
    assert await found(three, sort_by="price") == ["a1", "a3", "a2", "bare"]
    assert await found(three, sort_by="price", limit=1) == ["a1"]
    assert await found(three, sort_by="price", capability="text") == ["a3", "a2", "a1"]


async def test_equal_offers_are_sorted_by_trust(three: AgentApi) -> None:
    for agent_id in ("a1", "a2", "a3"):
        await three.publish(agent_id, "same", price=0, latency_p99_ms=0)
    assert await found(three, sort_by="price") == ["a3", "a2", "a1"]
    assert await found(three, sort_by="latency") == ["a3", "a2", "a1"]


async def test_search_comes_in_pages(three: AgentApi) -> None:
    answer = await three.ok("GET", "/ains/search", limit=2, offset=1)
    assert [one["agent_id"] for one in answer["results"]] == ["a2", "a1"]
    assert (answer["total"], answer["limit"], answer["offset"]) == (3, 2, 1)
    beyond = await three.ok("GET", "/ains/search", offset=2**63 - 1)
    assert (beyond["results"], beyond["total"]) == ([], 3)


async def test_bad_search_is_a_422(api: AgentApi) -> None:
    wrong: list[dict[str, Any]] = [
        *BAD_PAGES, {"sort_by": "name"}, {"sort_by": ""}, {"min_trust": -0.1},
        {"min_trust": 1.1}, {"min_trust": "nan"}, {"min_trust": "inf"}, {"min_trust": "x"},
        {"capability": "a\0"}, {"tags": "\0"},
    ]  # fmt: skip
    for query in wrong:
        assert await api.status("GET", "/ains/search", **query) == 422, query


async def test_text_that_is_not_utf_8_finds_nothing(api: AgentApi) -> None:
    await api.register("a1", tags=["x"])
    for query in ("capability=%ED%A0%80", "capability=%FF", "tags=%FF", "tags=%C3%28"):
        status, answer = await api.call("GET", f"/ains/search?{query}")
        assert status == 422 or answer["total"] == 0


@pytest.fixture
async def ranked(api: AgentApi) -> AgentApi:
    for agent_id, trust, completed, failed in (
        ("low", 0.2, 9, 0),
        ("new", 0.9, 0, 0),
        ("good", 0.9, 3, 1),
        ("best", 0.9, 2, 0),
        ("more", 0.9, 6, 2),
    ):
        await api.register(agent_id)
        await api.set(
            agent_id,
            trust_score=trust,
            total_tasks_completed=completed,
            total_tasks_failed=failed,
        )
    return api


async def test_leaderboard_ranks_by_trust_then_success(ranked: AgentApi) -> None:
    answer = await ranked.ok("GET", "/ains/agents/leaderboard")
    assert list(answer) == ["leaderboard"]
    board = answer["leaderboard"]
    assert [one["agent_id"] for one in board] == ["best", "more", "good", "new", "low"]
    assert board[1] == {
        "agent_id": "more",
        "display_name": "Agent more",
        "trust_score": 0.9,
        "total_tasks_completed": 6,
        "total_tasks_failed": 2,
        "success_rate": 0.75,
    }
    assert board[3]["success_rate"] == 0


async def test_leaderboard_has_a_limit_and_a_least_number_of_tasks(ranked: AgentApi) -> None:
    async def ids(**query: object) -> list[str]:
        answer = await ranked.ok("GET", "/ains/agents/leaderboard", **query)
        return [one["agent_id"] for one in answer["leaderboard"]]

    assert await ids(limit=2) == ["best", "more"]
    assert await ids(min_tasks=3) == ["more", "good", "low"]
    assert await ids(min_tasks=3, limit=1) == ["more"]
    assert await ids(min_tasks=2**63 - 1) == []
    for number in range(8):
        await ranked.register(f"extra{number}")
    assert len(await ids()) == 10


async def test_bad_leaderboard_query_is_a_422(api: AgentApi) -> None:
    wrong: list[dict[str, object]] = [
        {"limit": 0}, {"limit": 1001}, {"limit": "x"}, {"min_tasks": -1}, {"min_tasks": 10**30},
    ]  # fmt: skip
    for query in wrong:
        assert await api.status("GET", "/ains/agents/leaderboard", **query) == 422, query
