"""The queue as numbers, and who would get a task."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest

from tests.support.task_api import TaskApi, task_api


@pytest.fixture
async def api(service_url: str) -> AsyncIterator[TaskApi]:
    async with task_api(service_url) as running:
        yield running


async def test_queue_stats_of_nothing_name_every_priority(api: TaskApi) -> None:
    stats = await api.ok("GET", "/aitp/queue/stats")
    assert datetime.fromisoformat(stats.pop("timestamp")).tzinfo is not None
    assert stats == {
        "queue": {
            "by_priority": {str(priority): 0 for priority in range(1, 11)},
            "total_pending": 0,
            "high_priority": 0,
            "medium_priority": 0,
            "low_priority": 0,
        },
        "workload": {"agents": [], "total_active": 0},
    }


async def test_queue_stats_count_waiting_and_running_tasks(api: TaskApi) -> None:
    for priority in (1, 3, 3, 4, 7, 8, 10):
        await api.submit(capability_required="nobody", priority=priority)
    await api.agent("a1", tags=["sum", "mul"])
    await api.agent("a2", tags=["sum"])
    for capability in ("sum", "sum", "mul"):
        await api.assigned(capability_required=capability)
    stats = await api.ok("GET", "/aitp/queue/stats")
    queue = stats["queue"]
    assert queue["by_priority"] == {
        "1": 1, "2": 0, "3": 2, "4": 1, "5": 0, "6": 0, "7": 1, "8": 1, "9": 0, "10": 1,
    }  # fmt: skip
    groups = ("total_pending", "high_priority", "medium_priority", "low_priority")
    assert [queue[name] for name in groups] == [7, 2, 2, 3]
    assert stats["workload"] == {
        "agents": [{"agent_id": "a1", "active_tasks": 2}, {"agent_id": "a2", "active_tasks": 1}],
        "total_active": 3,
    }


async def test_health_sums_up_the_queue(api: TaskApi) -> None:
    health = await api.ok("GET", "/health/aitp")
    assert (health["status"], health["service"]) == ("healthy", "AITP")
    assert set(health["metrics"].values()) == {0}
    await api.agent()
    await api.submit(capability_required="nobody")
    await api.assigned()
    await api.report(await api.assigned(), "ACTIVE")
    await api.report(await api.assigned(), "COMPLETED")
    await api.report(await api.assigned(), "COMPLETED")
    await api.report(await api.assigned(max_retries=0), "FAILED")
    await api.db.execute("DELETE FROM tasks WHERE status = 'COMPLETED'")
    assert (await api.ok("GET", "/health/aitp"))["metrics"] == {
        "queue_depth": 1,
        "active_tasks": 1,
        "assigned_tasks": 1,
        "completed_tasks": 2,
        "failed_tasks": 1,
        "failure_rate_percent": 33.33,
    }


async def test_strategies_are_listed(api: TaskApi) -> None:
    answer = await api.ok("GET", "/ains/routing/strategies")
    assert [strategy["name"] for strategy in answer["strategies"]] == [
        "round_robin",
        "least_loaded",
        "trust_weighted",
        "fastest_response",
    ]
    sizes = {"round_robin": (12, 32)}
    for strategy in answer["strategies"]:
        sample, many = sizes.get(strategy["name"], (32, 128))
        said = f"among {sample} taken at random when {many} or more agents are capable"
        assert said in strategy["description"]
        assert "for a batch among 128 of 128 or more" in strategy["description"]
    assert answer["default"] == "round_robin"


async def preview(api: TaskApi, strategy: str | None = None) -> dict[str, Any]:
    body = {"capability_required": "SUM"} | ({"routing_strategy": strategy} if strategy else {})
    return await api.ok("POST", "/ains/routing/test", body)


async def test_preview_shows_the_agent_and_changes_nothing(api: TaskApi) -> None:
    await api.agent("a1", total_tasks_completed=3, total_tasks_failed=2, trust_score=0.7)
    before = await api.db.fetch("SELECT * FROM agents")
    answer = await preview(api)
    assert answer == {
        "selected_agent": {
            "agent_id": "a1",
            "display_name": "Agent a1",
            "trust_score": 0.7,
            "total_tasks": 5,
        },
        "message": None,
        "strategy_used": "round_robin",
    }
    assert await api.db.fetch("SELECT * FROM agents") == before


async def test_preview_and_submission_agree(api: TaskApi) -> None:
    await api.agent("slow", avg_completion_time_seconds=9.0, trust_score=0.9)
    await api.agent("fast", avg_completion_time_seconds=1.0, trust_score=0.1)
    for strategy in ("fastest_response", "least_loaded", "round_robin", "trust_weighted"):
        shown = (await preview(api, strategy))["selected_agent"]["agent_id"]
        task = await api.submit(routing_strategy=strategy)
        assert task["assigned_agent_id"] == shown
        assert (await preview(api, strategy))["strategy_used"] == strategy
    assert (await preview(api, "fastest_response"))["selected_agent"]["agent_id"] == "fast"
    assert (await preview(api, "trust_weighted"))["selected_agent"]["agent_id"] == "slow"


async def test_preview_without_an_agent_says_so(api: TaskApi) -> None:
    await api.agent("a1")
    await api.heartbeat("a1", age=61)
    answer = await preview(api)
    assert answer["selected_agent"] is None
    assert "SUM" in answer["message"]


async def test_unknown_strategy_is_422(api: TaskApi) -> None:
    body = {"capability_required": "sum", "routing_strategy": "best"}
    assert (await api.call("POST", "/ains/routing/test", body))[0] == 422
