"""Trust: standing, history and changes by hand."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.support.agent_api import AgentApi, agent_api

PATH = "/ains/agents/a1/trust"


@pytest.fixture
async def api(service_url: str) -> AsyncIterator[AgentApi]:
    async with agent_api(service_url) as running:
        await running.register("a1")
        yield running


async def adjust(api: AgentApi, delta: float, reason: str = "because") -> Any:
    return await api.ok("POST", f"{PATH}/adjust", {"trust_delta": delta, "reason": reason})


async def finish(api: AgentApi, status: str, seconds: float = 20) -> str:
    """A task that the agent ended after ``seconds`` of the 30 it had."""
    task_id = uuid4()
    await api.db.execute(
        "INSERT INTO tasks (task_id, client_id, task_type, capability_required, status,"
        " assigned_agent_id, timeout_seconds, started_at, completed_at, failure_reason)"
        " VALUES ($1, 'c', 't', 'sum', $2::text, 'a1', 30, now() - make_interval(secs => $3),"
        " now(), CASE WHEN $2::text = 'FAILED' THEN 'agent_error' END)",
        task_id,
        status,
        seconds,
    )
    return str(task_id)


async def test_new_agent_has_done_nothing(api: AgentApi) -> None:
    assert await api.ok("GET", PATH) == {
        "agent_id": "a1",
        "trust_score": 0.5,
        "trust_level": "medium",
        "total_tasks_completed": 0,
        "total_tasks_failed": 0,
        "success_rate": 0,
        "avg_completion_time_seconds": None,
        "last_task_completed_at": None,
    }
    assert await api.ok("GET", f"{PATH}/history") == []


async def test_trust_follows_the_tasks(api: AgentApi) -> None:
    slow = await finish(api, "COMPLETED", 20)
    quick = await finish(api, "COMPLETED", 10)
    failed = await finish(api, "FAILED")
    standing = await api.ok("GET", PATH)
    completed_at = datetime.fromisoformat(standing.pop("last_task_completed_at"))
    assert completed_at.utcoffset() == timedelta(0)
    assert standing == {
        "agent_id": "a1",
        "trust_score": 0.52,
        "trust_level": "medium",
        "total_tasks_completed": 2,
        "total_tasks_failed": 1,
        "success_rate": 0.666667,
        "avg_completion_time_seconds": 17,
    }
    history = await api.ok("GET", f"{PATH}/history")
    assert [
        (one["event_type"], one["trust_delta"], one["trust_score_before"],
         one["trust_score_after"], one["reason"], one["task_id"])
        for one in history
    ] == [
        ("task_failed", -0.05, 0.57, 0.52, "agent_error", failed),
        ("task_completed", 0.05, 0.52, 0.57, None, quick),
        ("task_completed", 0.02, 0.5, 0.52, None, slow),
    ]  # fmt: skip


async def test_adjustment_changes_trust_and_is_recorded(api: AgentApi) -> None:
    answer = await adjust(api, 0.3, "vouched for")
    assert answer == {
        "record_id": answer["record_id"], "new_trust_score": 0.8, "trust_delta": 0.3,
    }  # fmt: skip
    standing = await api.ok("GET", PATH)
    assert (standing["trust_score"], standing["trust_level"]) == (0.8, "high")
    (record,) = await api.ok("GET", f"{PATH}/history")
    assert datetime.fromisoformat(record["created_at"]).utcoffset() == timedelta(0)
    assert record == {
        "record_id": answer["record_id"],
        "event_type": "manual_adjustment",
        "trust_delta": 0.3,
        "trust_score_before": 0.5,
        "trust_score_after": 0.8,
        "reason": "vouched for",
        "task_id": None,
        "created_at": record["created_at"],
    }
    assert (await api.ok("GET", "/ains/agents/a1"))["trust_score"] == 0.8


@pytest.mark.parametrize(("delta", "score"), [(1, 1), (0.9, 1), (-1, 0), (-0.6, 0)])
async def test_trust_stays_between_0_and_1(api: AgentApi, delta: float, score: float) -> None:
    answer = await adjust(api, delta)
    assert (answer["new_trust_score"], answer["trust_delta"]) == (score, delta)
    again = await adjust(api, delta)
    assert again["new_trust_score"] == score
    assert again["record_id"] > answer["record_id"], "what changed nothing was still asked for"


async def test_sums_of_trust_look_sane(api: AgentApi) -> None:
    scores = [(await adjust(api, 0.01))["new_trust_score"] for _ in range(30)]
    assert [str(score) for score in scores] == [
        f"{0.5 + n / 100:.2f}".rstrip("0") for n in range(1, 31)
    ]
    await api.set("a1", trust_score=0.1 + 0.2)
    assert (await api.ok("GET", PATH))["trust_score"] == 0.3
    assert (await api.ok("GET", "/ains/agents/a1"))["trust_score"] == 0.3
    (best,) = (await api.ok("GET", "/ains/agents/leaderboard"))["leaderboard"]
    assert best["trust_score"] == 0.3
    assert (await api.ok("GET", "/ains/agents"))["agents"][0]["trust_score"] == 0.3
    assert (await api.ok("GET", "/ains/search"))["results"][0]["trust_score"] == 0.3


async def test_no_adjustment_is_lost_when_many_come_at_once(api: AgentApi) -> None:
    await asyncio.gather(*(adjust(api, 0.01) for _ in range(40)))
    assert (await api.ok("GET", PATH))["trust_score"] == 0.9
    history = await api.ok("GET", f"{PATH}/history")
    assert len(history) == 40
    afters = [record["trust_score_after"] for record in reversed(history)]
    assert afters == [round(0.51 + n / 100, 2) for n in range(40)]


async def test_history_shows_the_newest_and_has_a_limit(api: AgentApi) -> None:
    for _ in range(55):
        await adjust(api, 0)
    history = await api.ok("GET", f"{PATH}/history")
    assert len(history) == 50
    ids = [record["record_id"] for record in history]
    assert ids == sorted(ids, reverse=True)
    assert await api.ok("GET", f"{PATH}/history", limit=3) == history[:3]
    assert len(await api.ok("GET", f"{PATH}/history", limit=1000)) == 55


async def test_bad_limit_of_the_history_is_a_422(api: AgentApi) -> None:
    for limit in (0, -1, 1001, 10**30, "x"):
        assert await api.status("GET", f"{PATH}/history", limit=limit) == 422, limit


async def test_malformed_adjustment_is_a_422(api: AgentApi) -> None:
    wrong: list[object] = [
        {}, [], {"trust_delta": 0.1}, {"reason": "x"}, {"trust_delta": 1.01, "reason": "x"},
        {"trust_delta": -1.01, "reason": "x"}, {"trust_delta": "0.1", "reason": "x"},
        {"trust_delta": True, "reason": "x"}, {"trust_delta": None, "reason": "x"},
        {"trust_delta": 10**400, "reason": "x"}, {"trust_delta": 0.1, "reason": None},
        {"trust_delta": 0.1, "reason": 1}, {"trust_delta": 0.1, "reason": "\0"},
        b'{"trust_delta": NaN, "reason": "x"}', b'{"trust_delta": 1e999, "reason": "x"}',
        b'{"trust_delta": 0.1, "reason": "\\ud800"}', b"", b"{", b"\xff", b"[" * 10_000,
    ]  # fmt: skip
    for body in wrong:
        assert await api.status("POST", f"{PATH}/adjust", body) == 422, body
    assert await api.ok("GET", f"{PATH}/history") == []


async def test_any_text_can_be_a_reason(api: AgentApi) -> None:
    for reason in ("", "'; --", "\U0001f4a9\u202e", "é" * 65_536):
        await adjust(api, 0.1, reason)
        assert (await api.ok("GET", f"{PATH}/history"))[0]["reason"] == reason
