"""Clients change their tasks: cancel, retry, priority, timeout."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from tests.support.task_api import TaskApi, task_api

LIVE = ("PENDING", "ASSIGNED", "ACTIVE")
ENDED = ("COMPLETED", "FAILED", "CANCELLED")


@pytest.fixture
async def api(service_url: str) -> AsyncIterator[TaskApi]:
    async with task_api(service_url) as running:
        yield await running.agent()


async def task_in(api: TaskApi, status: str) -> str:
    """A task of client c1 that the API brought into this state."""
    capability = "nobody" if status == "PENDING" else "sum"
    task = str((await api.submit(capability_required=capability, max_retries=0))["task_id"])
    if status == "CANCELLED":
        await api.ok("DELETE", f"/aitp/tasks/{task}", client_id="c1")
    elif status not in ("PENDING", "ASSIGNED"):
        assert (await api.report(task, status))[0] == 200
    assert (await api.show(task))["status"] == status
    return task


CHANGES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "cancel": ("DELETE", "", {}),
    "priority": ("PUT", "/priority", {"new_priority": 8}),
    "timeout": ("PUT", "/timeout", {"timeout_seconds": 50}),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("status", LIVE + ENDED)
async def test_only_a_live_task_is_changed_and_only_by_its_client(
    api: TaskApi, change: str, status: str
) -> None:
    method, path, query = CHANGES[change]
    task = await task_in(api, status)
    path = f"/aitp/tasks/{task}{path}"
    before = await api.row(task)
    assert (await api.call(method, path, client_id="c2", **query))[0] == 403
    assert (await api.call(method, path, **query))[0] == 422
    assert await api.row(task) == before
    code, answer = await api.call(method, path, client_id="c1", **query)
    assert code == (200 if status in LIVE else 400), answer
    if status in ENDED:
        assert await api.row(task) == before
        assert status in answer["detail"]


async def test_cancelled_task_says_when_and_why(api: TaskApi) -> None:
    task = await task_in(api, "ACTIVE")
    answer = await api.ok("DELETE", f"/aitp/tasks/{task}", client_id="c1", reason="näh")
    row = await api.row(task)
    assert answer == {
        "task_id": task,
        "status": "CANCELLED",
        "cancelled_at": row["completed_at"].isoformat(),
        "reason": "näh",
    }
    assert row["cancel_reason"] == "näh"
    assert row["deadline_at"] is None
    assert (await api.events(task))[-1] == "cancelled"


async def test_reason_may_come_in_the_body_or_not_at_all(api: TaskApi) -> None:
    task = await task_in(api, "PENDING")
    answer = await api.ok("DELETE", f"/aitp/tasks/{task}", {"reason": "b"}, client_id="c1")
    assert answer["reason"] == "b"
    task = await task_in(api, "PENDING")
    assert (await api.ok("DELETE", f"/aitp/tasks/{task}", client_id="c1"))["reason"] is None


async def test_cancelling_a_waiting_retry_leaves_nothing_due(api: TaskApi) -> None:
    task = await api.assigned()
    await api.report(task, "FAILED")
    await api.ok("DELETE", f"/aitp/tasks/{task}", client_id="c1")
    assert (await api.row(task))["next_retry_at"] is None


async def test_priority_moves_the_queue_gauge(api: TaskApi) -> None:
    task = await task_in(api, "PENDING")
    answer = await api.ok("PUT", f"/aitp/tasks/{task}/priority", client_id="c1", new_priority=9)
    expected = {"task_id": task, "old_priority": 5, "new_priority": 9, "status": "PENDING"}
    assert answer == expected
    queue = (await api.ok("GET", "/aitp/queue/stats"))["queue"]
    assert (queue["by_priority"]["5"], queue["by_priority"]["9"]) == (0, 1)
    answer = await api.ok(
        "PUT", f"/aitp/tasks/{task}/priority", {"new_priority": 1}, client_id="c1"
    )
    assert (answer["old_priority"], answer["new_priority"]) == (9, 1)


@pytest.mark.parametrize("value", ["0", "11", "x", "", "5.5", "99999999999999999999", None])
async def test_priority_outside_1_to_10_is_422(api: TaskApi, value: str | None) -> None:
    task = await task_in(api, "PENDING")
    path = f"/aitp/tasks/{task}/priority"
    assert (await api.call("PUT", path, client_id="c1", new_priority=value))[0] == 422
    assert (await api.call("PUT", path, {"new_priority": "5"}, client_id="c1"))[0] == 422


@pytest.mark.parametrize("value", ["0", "86401", "-1", "x", None])
async def test_timeout_outside_a_day_is_422(api: TaskApi, value: str | None) -> None:
    task = await task_in(api, "PENDING")
    path = f"/aitp/tasks/{task}/timeout"
    assert (await api.call("PUT", path, client_id="c1", timeout_seconds=value))[0] == 422
    assert (await api.call("PUT", path, {"timeout_seconds": 0}, client_id="c1"))[0] == 422


@pytest.mark.parametrize(
    ("status", "since"), [("PENDING", None), ("ASSIGNED", "assigned_at"), ("ACTIVE", "started_at")]
)
async def test_timeout_moves_the_deadline_of_a_running_attempt(
    api: TaskApi, status: str, since: str | None
) -> None:
    task = await task_in(api, status)
    path = f"/aitp/tasks/{task}/timeout"
    answer = await api.ok("PUT", path, client_id="c1", timeout_seconds=86400)
    assert answer == {"task_id": task, "timeout_seconds": 86400, "status": status}
    row = await api.row(task)
    assert row["timeout_seconds"] == 86400
    assert row["deadline_at"] == (row[since] + timedelta(days=1) if since else None)
    answer = await api.ok("PUT", path, {"timeout_seconds": 1}, client_id="c1")
    assert answer["timeout_seconds"] == 1


@pytest.mark.parametrize("status", [*LIVE, "COMPLETED", "CANCELLED"])
async def test_only_a_failed_task_is_retried_by_hand(api: TaskApi, status: str) -> None:
    task = await task_in(api, status)
    code, problem = await api.call("POST", f"/aitp/tasks/{task}/retry")
    assert code == 400
    assert status in problem["detail"]


async def test_failed_task_without_retries_left_is_not_retried(api: TaskApi) -> None:
    task = await task_in(api, "FAILED")
    code, problem = await api.call("POST", f"/aitp/tasks/{task}/retry")
    assert code == 400
    assert "0 retries" in problem["detail"]


async def test_expired_task_is_retried_by_hand_and_does_not_expire_again(api: TaskApi) -> None:
    task = await task_in(api, "PENDING")
    await api.db.execute(
        "UPDATE tasks SET status = 'FAILED', failure_reason = 'expired', max_retries = 2,"
        " completed_at = now(), expires_at = now()"
    )
    answer = await api.ok("POST", f"/aitp/tasks/{task}/retry")
    row = await api.row(task)
    assert answer == {
        "task_id": task,
        "status": "PENDING",
        "retry_count": 1,
        "next_retry_at": row["next_retry_at"].isoformat(),
    }
    assert row["next_retry_at"] - row["updated_at"] == timedelta(seconds=2)
    assert (row["expires_at"], row["completed_at"], row["assigned_agent_id"]) == (None,) * 3
    assert await api.events(task) == ["created", "failed", "reopened"]
