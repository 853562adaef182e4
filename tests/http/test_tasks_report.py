"""Agents report: PUT /aitp/tasks/{task_id}/status."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from ains.domain.states import ENDED, TaskStatus
from tests.support.task_api import TaskApi, task_api

DONE: dict[str, Any] = {"result_data": {"sum": 3}}


@pytest.fixture
async def api(service_url: str) -> AsyncIterator[TaskApi]:
    async with task_api(service_url) as running:
        yield await running.agent()


async def test_attempt_is_started_and_completed(api: TaskApi) -> None:
    task = await api.assigned(timeout_seconds=100)
    status, started = await api.report(task, "ACTIVE")
    assert status == 200
    row = await api.row(task)
    assert started == {
        "task_id": task,
        "status": "ACTIVE",
        "retry_count": 0,
        "updated_at": row["updated_at"].isoformat(),
    }
    assert row["deadline_at"] == row["started_at"] + timedelta(seconds=100)
    status, ended = await api.report(task, "COMPLETED", **DONE)
    assert (status, ended["status"]) == (200, "COMPLETED")
    shown = await api.show(task)
    assert shown["result_data"] == {"sum": 3}
    assert shown["assigned_agent_id"] == "a1"
    assert shown["started_at"] <= shown["completed_at"]
    assert await api.events(task) == ["created", "started", "completed"]


@pytest.mark.parametrize(("end", "fields"), [("COMPLETED", DONE), ("FAILED", {})])
async def test_end_without_a_start_is_taken_as_started_at_assignment(
    api: TaskApi, end: str, fields: dict[str, Any]
) -> None:
    task = await api.assigned(max_retries=0)
    assert (await api.report(task, end, **fields))[0] == 200
    row = await api.row(task)
    assert row["started_at"] == row["assigned_at"]
    assert row["completed_at"] is not None


async def test_failure_without_a_code_is_an_agent_error(api: TaskApi) -> None:
    task = await api.assigned(max_retries=0)
    assert (await api.report(task, "FAILED", error_message="broken"))[1]["status"] == "FAILED"
    row = await api.row(task)
    assert (row["failure_reason"], row["error_message"]) == ("agent_error", "broken")
    assert (await api.show(task))["error_message"] == "broken"


async def test_agents_own_failure_code_is_kept(api: TaskApi) -> None:
    task = await api.assigned(max_retries=0)
    await api.report(task, "FAILED", failure_reason="gpu_oom", result_data={"partial": 1})
    row = await api.row(task)
    assert (row["failure_reason"], row["result_data"]) == ("gpu_oom", '{"partial":1}')


@pytest.mark.parametrize(
    "code", ["timeout", "expired", "dependency_failed", "unknown", "agent_lost"]
)
async def test_code_of_ains_that_an_agent_sends_is_a_failure_of_its_own(
    api: TaskApi, code: str
) -> None:
    task = await api.assigned(max_retries=0)
    assert (await api.report(task, "FAILED", failure_reason=code))[0] == 200
    row = await api.row(task)
    assert (row["failure_reason"], row["started_at"]) == (code, row["assigned_at"])
    assert await api.events(task) == ["created", "failed"]
    assert await api.db.fetchval("SELECT trust_score FROM agents") == 0.45
    failed = "SELECT failure_reason, value FROM metrics.ains_tasks_failed_total"
    assert [tuple(row) for row in await api.db.fetch(failed)] == [(code, 1)]
    observed = "SELECT count FROM metrics.ains_task_duration_seconds_sum_count"
    assert await api.db.fetchval(observed) == 1
    assert await api.db.fetch("SELECT * FROM metrics.ains_task_timeouts_total") == []


@pytest.mark.parametrize(
    "fields",
    [
        {"failure_reason": "Free text!"},
        {"failure_reason": "a" * 41},
        {"failure_reason": ""},
        {"failure_reason": "ok\n"},
        {"failure_reason": 1},
        {"error_message": 1},
        {"error_message": "a\0b"},
        {"result_data": "\0"},
    ],
    ids=repr,
)
async def test_malformed_report_is_422(api: TaskApi, fields: dict[str, Any]) -> None:
    task = await api.assigned()
    assert (await api.report(task, "FAILED", **fields))[0] == 422
    assert (await api.row(task))["status"] == "ASSIGNED"


async def test_report_needs_an_agent_and_a_known_status(api: TaskApi) -> None:
    task = await api.assigned()
    path = f"/aitp/tasks/{task}/status"
    assert (await api.call("PUT", path, {"status": "ACTIVE"}))[0] == 422
    for status in ("active", "DONE", 1, None):
        assert (await api.call("PUT", path, {"status": status}, agent_id="a1"))[0] == 422


@pytest.mark.parametrize("status", ["PENDING", "ASSIGNED", "CANCELLED"])
async def test_state_that_no_agent_reports_is_400(api: TaskApi, status: str) -> None:
    task = await api.assigned()
    assert (await api.report(task, status))[0] == 400


@pytest.mark.parametrize("reported", ["ACTIVE", "COMPLETED", "FAILED"])
async def test_another_agents_task_is_403(api: TaskApi, reported: str) -> None:
    await api.agent("a2", tags=[])
    assigned = await api.assigned()
    pending = (await api.submit(capability_required="nobody"))["task_id"]
    for task in (assigned, pending):
        for agent in ("a2", "unknown", "'"):
            assert (await api.report(task, reported, agent))[0] == 403
    assert (await api.report(pending, reported))[0] == 403


@pytest.mark.parametrize("reported", ["ACTIVE", "COMPLETED", "FAILED"])
@pytest.mark.parametrize("ended", ["COMPLETED", "FAILED", "CANCELLED"])
async def test_ended_task_can_only_be_reported_as_it_ended(
    api: TaskApi, ended: str, reported: str
) -> None:
    task = await api.assigned(max_retries=0)
    if ended == "CANCELLED":
        await api.ok("DELETE", f"/aitp/tasks/{task}", client_id="c1")
    else:
        await api.report(task, ended)
    before = await api.row(task)
    status, _ = await api.report(task, reported)
    assert status == (200 if ended == reported else 400)
    assert await api.row(task) == before


async def test_start_may_be_reported_twice(api: TaskApi) -> None:
    task = await api.assigned()
    first = await api.report(task, "ACTIVE")
    assert await api.report(task, "ACTIVE") == first
    assert (await api.events(task)).count("started") == 1


async def test_same_completion_twice_counts_once(api: TaskApi) -> None:
    task = await api.assigned()
    first = await api.report(task, "COMPLETED", **DONE)
    assert await api.report(task, "COMPLETED", **DONE) == first
    assert first[0] == 200
    assert (await api.report(task, "COMPLETED", result_data={"sum": 4}))[0] == 400
    assert (await api.report(task, "COMPLETED", **DONE, error_message="but"))[0] == 400
    assert (await api.report(task, "COMPLETED"))[0] == 400
    assert (await api.report(task, "COMPLETED", "a2", **DONE))[0] == 403
    assert (await api.events(task)).count("completed") == 1
    row = await api.db.fetchrow("SELECT total_tasks_completed AS n, trust_score FROM agents")
    assert row is not None
    assert (row["n"], row["trust_score"]) == (1, 0.55)


async def test_same_failure_twice_counts_once(api: TaskApi) -> None:
    task = await api.assigned(max_retries=0)
    first = await api.report(task, "FAILED", error_message="x")
    assert await api.report(task, "FAILED", error_message="x") == first
    assert (await api.report(task, "FAILED", error_message="x", failure_reason="agent_error"))[
        0
    ] == 200
    assert (await api.report(task, "FAILED", error_message="y"))[0] == 400
    assert (await api.report(task, "FAILED", error_message="x", failure_reason="other"))[0] == 400
    assert (await api.events(task)).count("failed") == 1
    assert await api.db.fetchval("SELECT total_tasks_failed FROM agents") == 1


async def test_same_failure_twice_leads_to_one_retry(api: TaskApi) -> None:
    task = await api.assigned(max_retries=3)
    status, first = await api.report(task, "FAILED", error_message="x")
    assert (status, first["status"], first["retry_count"]) == (200, "PENDING", 1)
    assert await api.report(task, "FAILED", error_message="x") == (200, first)
    for wrong in (
        await api.report(task, "FAILED", error_message="y"),
        await api.report(task, "COMPLETED", **DONE),
        await api.report(task, "ACTIVE"),
    ):
        assert wrong[0] == 400
    assert (await api.report(task, "FAILED", "a2", error_message="x"))[0] == 403
    assert await api.events(task) == ["created", "retried"]


async def test_completion_after_a_retry_forgets_the_failure(api: TaskApi) -> None:
    task = await api.assigned()
    await api.report(task, "FAILED", error_message="x", result_data={"partial": 1})
    await api.db.execute("UPDATE tasks SET status = 'ASSIGNED', assigned_agent_id = 'a1'")
    assert (await api.report(task, "COMPLETED"))[0] == 200
    shown = await api.show(task)
    assert (shown["error_message"], shown["result_data"], shown["retry_count"]) == (None, None, 1)


DELAYS = {
    "exponential": [2, 4, 8, 16, 32, 60, 60],
    "linear": [5, 10, 15, 20, 25, 30, 35],
    "fixed": [10, 10, 10, 10, 10, 10, 10],
}


@pytest.mark.parametrize("policy", DELAYS)
async def test_retries_wait_as_their_policy_says_until_none_is_left(
    api: TaskApi, policy: str
) -> None:
    delays = DELAYS[policy]
    task = await api.assigned(max_retries=len(delays), retry_policy=policy)
    for ordinal, delay in enumerate(delays, 1):
        _, answer = await api.report(task, "FAILED")
        assert (answer["status"], answer["retry_count"]) == ("PENDING", ordinal)
        row = await api.row(task)
        assert row["next_retry_at"] - row["updated_at"] == timedelta(seconds=delay)
        assert row["queued_at"] == row["next_retry_at"]
        given = ("assigned_agent_id", "assigned_at", "started_at", "deadline_at", "completed_at")
        assert {row[name] for name in given} == {None}
        assert row["last_agent_id"] == "a1"
        await api.db.execute(
            "UPDATE tasks SET status = 'ASSIGNED', assigned_agent_id = 'a1', next_retry_at = NULL"
        )
    _, answer = await api.report(task, "FAILED")
    assert (answer["status"], answer["retry_count"]) == ("FAILED", len(delays))
    assert (await api.events(task)).count("retried") == len(delays)
    assert (await api.events(task))[-1] == "failed"


async def test_every_end_state_can_be_reached(api: TaskApi) -> None:
    for end in ENDED - {TaskStatus.CANCELLED}:
        task = await api.assigned(max_retries=0)
        await api.report(task, end)
        assert (await api.show(task))["status"] == end
