"""Tasks that depend on others, over HTTP."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from tests.support.task_api import NO_TASK, TaskApi, task_api, task_body


@pytest.fixture
async def api(service_url: str) -> AsyncIterator[TaskApi]:
    async with task_api(service_url) as running:
        yield running


async def dependencies(api: TaskApi, task: str) -> dict[str, Any]:
    return await api.ok("GET", f"/ains/tasks/{task}/dependencies")


async def test_task_that_depends_on_another_is_blocked_and_given_to_nobody(api: TaskApi) -> None:
    await api.agent()
    first = await api.assigned()
    status, task = await api.call("POST", "/ains/tasks", task_body(depends_on=[first]))
    assert status == 200
    assert task == {
        "task_id": task["task_id"],
        "status": "PENDING",
        "priority": 5,
        "depends_on": [first],
        "is_blocked": True,
        "routing_strategy": "round_robin",
        "assigned_agent_id": None,
        "created_at": task["created_at"],
    }
    assert api.woken == []
    assert await dependencies(api, task["task_id"]) == {
        "task_id": task["task_id"],
        "depends_on": [first],
        "dependencies_status": {first: "ASSIGNED"},
        "is_blocked": True,
        "ready_to_run": False,
    }


async def test_completion_frees_the_dependent_and_wakes_the_dispatcher(api: TaskApi) -> None:
    await api.agent()
    first, second = await api.assigned(), await api.assigned()
    task = (await api.submit(depends_on=[first, second]))["task_id"]
    assert (await api.report(first, "ACTIVE"))[0] == 200
    assert api.woken == []
    for turn, dependency in enumerate((first, second), 1):
        assert (await api.report(dependency, "COMPLETED", result_data=1))[0] == 200
        assert len(api.woken) == turn
        # Told once more: nothing has become runnable by that.
        assert (await api.report(dependency, "COMPLETED", result_data=1))[0] == 200
        assert len(api.woken) == turn
    shown = await dependencies(api, task)
    assert shown["dependencies_status"] == {first: "COMPLETED", second: "COMPLETED"}
    assert (shown["is_blocked"], shown["ready_to_run"]) == (False, True)


async def test_completion_that_frees_nobody_wakes_nobody(api: TaskApi) -> None:
    await api.agent()
    assert (await api.report(await api.assigned(), "COMPLETED"))[0] == 200
    assert api.woken == []


async def test_task_whose_dependencies_are_completed_is_routed_at_once(api: TaskApi) -> None:
    await api.agent()
    first = await api.assigned()
    await api.report(first, "COMPLETED")
    task = await api.submit(depends_on=[first])
    assert (task["status"], task["assigned_agent_id"]) == ("ASSIGNED", "a1")
    assert (task["depends_on"], task["is_blocked"]) == ([first], False)
    row = await api.row(task["task_id"])
    assert row["deadline_at"] is not None
    assert row["last_agent_id"] == "a1"


async def test_free_task_that_nobody_can_do_wakes_the_dispatcher(api: TaskApi) -> None:
    first = (await api.submit())["task_id"]
    await api.db.execute("UPDATE tasks SET status = 'COMPLETED'")
    api.woken.clear()
    assert (await api.submit(depends_on=[first]))["status"] == "PENDING"
    assert api.woken == [None]


async def test_task_whose_dependency_has_failed_fails_at_once(api: TaskApi) -> None:
    first = (await api.submit())["task_id"]
    await api.ok("DELETE", f"/aitp/tasks/{first}", client_id="c1")
    api.woken.clear()
    task = await api.submit(depends_on=[first])
    assert (task["status"], task["is_blocked"]) == ("FAILED", False)
    assert api.woken == []
    shown = await api.show(task["task_id"])
    assert shown["error_message"] == "A task it depends on failed or was cancelled."
    assert shown["completed_at"] is not None
    assert (await api.row(task["task_id"]))["failure_reason"] == "dependency_failed"
    assert (await dependencies(api, task["task_id"]))["ready_to_run"] is False


async def test_cancelling_a_task_fails_what_depends_on_it(api: TaskApi) -> None:
    first = (await api.submit())["task_id"]
    second = (await api.submit(depends_on=[first]))["task_id"]
    third = (await api.submit(depends_on=[second]))["task_id"]
    await api.ok("DELETE", f"/aitp/tasks/{first}", client_id="c1")
    for task in (second, third):
        assert (await api.show(task))["status"] == "FAILED"
        assert await api.events(task) == ["created", "failed"]
        shown = await dependencies(api, task)
        assert (shown["is_blocked"], shown["ready_to_run"]) == (False, False)


async def test_cancelled_task_is_not_blocked_any_more(api: TaskApi) -> None:
    first = (await api.submit())["task_id"]
    second = (await api.submit(depends_on=[first]))["task_id"]
    await api.ok("DELETE", f"/aitp/tasks/{second}", client_id="c1")
    shown = await dependencies(api, second)
    assert (shown["is_blocked"], shown["ready_to_run"]) == (False, False)
    dependents = await api.ok("GET", f"/ains/tasks/{first}/dependents")
    assert dependents["dependent_tasks"][0]["is_blocked"] is False


async def test_same_dependency_twice_counts_once(api: TaskApi) -> None:
    first, second = (await api.submit())["task_id"], (await api.submit())["task_id"]
    task = await api.submit(depends_on=[second, first, second.upper(), first])
    assert task["depends_on"] == [second, first]
    assert await api.db.fetchval("SELECT count(*) FROM task_dependencies") == 2


@pytest.mark.parametrize("unknown", [NO_TASK, "", "1", "x" * 300, "\u202e", "{", NO_TASK[:-1]])
async def test_unknown_dependency_is_404_and_named(api: TaskApi, unknown: str) -> None:
    known = (await api.submit())["task_id"]
    body = task_body(depends_on=[known, unknown])
    status, problem = await api.call("POST", "/ains/tasks", body)
    assert status == 404
    assert problem["detail"].startswith("No task has the id ")
    assert (unknown if unknown.isascii() else repr(unknown)[1:-1])[:80] in problem["detail"]
    assert await api.db.fetchval("SELECT count(*) FROM tasks") == 1


@pytest.mark.parametrize("wrong", [None, "x", 1, {}, [1], [None], [[]], [NO_TASK] * 1001])
async def test_dependencies_of_a_wrong_shape_are_422(api: TaskApi, wrong: object) -> None:
    status, problem = await api.call("POST", "/ains/tasks", task_body(depends_on=wrong))
    assert status == 422
    assert problem["errors"][0]["loc"][:2] == ["body", "depends_on"]


async def test_a_thousand_dependencies(api: TaskApi) -> None:
    rows = await api.db.fetch(
        "INSERT INTO tasks (client_id, task_type, capability_required)"
        " SELECT 'c', 't', 'x' FROM generate_series(1, 1000) RETURNING task_id::text"
    )
    task = await api.submit(depends_on=[row[0] for row in rows])
    assert len((await dependencies(api, task["task_id"]))["depends_on"]) == 1000
    await api.db.execute("UPDATE tasks SET status = 'COMPLETED' WHERE client_id = 'c'")
    assert (await dependencies(api, task["task_id"]))["ready_to_run"] is True


async def test_task_without_dependencies_is_ready(api: TaskApi) -> None:
    task = (await api.submit())["task_id"]
    assert await dependencies(api, task) == {
        "task_id": task,
        "depends_on": [],
        "dependencies_status": {},
        "is_blocked": False,
        "ready_to_run": True,
    }


async def test_pruned_dependency_is_shown_as_completed(api: TaskApi) -> None:
    first = (await api.submit())["task_id"]
    task = (await api.submit(depends_on=[first]))["task_id"]
    await api.db.execute("UPDATE tasks SET status = 'COMPLETED' WHERE NOT is_blocked")
    await api.db.execute("DELETE FROM tasks WHERE status = 'COMPLETED'")
    shown = await dependencies(api, task)
    assert shown["dependencies_status"] == {first: "COMPLETED"}
    assert shown["ready_to_run"] is True


async def test_dependents_are_those_that_depend_on_it_directly(api: TaskApi) -> None:
    first = (await api.submit())["task_id"]
    second = (await api.submit(depends_on=[first], task_type="two"))["task_id"]
    third = (await api.submit(depends_on=[first, second], task_type="three"))["task_id"]
    assert await api.ok("GET", f"/ains/tasks/{first}/dependents") == {
        "task_id": first,
        "dependent_tasks": [
            {"task_id": second, "task_type": "two", "status": "PENDING", "is_blocked": True},
            {"task_id": third, "task_type": "three", "status": "PENDING", "is_blocked": True},
        ],
        "dependent_count": 2,
    }
    assert await api.ok("GET", f"/ains/tasks/{third}/dependents") == {
        "task_id": third,
        "dependent_tasks": [],
        "dependent_count": 0,
    }


@pytest.mark.parametrize("what", ["dependencies", "dependents"])
async def test_unknown_task_has_neither(api: TaskApi, what: str) -> None:
    for unknown in (str(uuid4()), "nonsense", "%00"):
        status, problem = await api.call("GET", f"/ains/tasks/{unknown}/{what}")
        assert (status, problem["status"]) == (404, 404)


async def test_retry_of_a_dependent_waits_for_its_retried_dependency(api: TaskApi) -> None:
    await api.agent()
    first = await api.assigned(max_retries=1)
    second = (await api.submit(depends_on=[first]))["task_id"]
    for _ in range(2):
        await api.db.execute("UPDATE tasks SET next_retry_at = NULL WHERE status = 'PENDING'")
        await api.db.execute(
            "UPDATE tasks SET status = 'ASSIGNED', assigned_agent_id = 'a1'"
            " WHERE status = 'PENDING' AND NOT is_blocked"
        )
        assert (await api.report(first, "FAILED"))[0] == 200
    assert (await api.show(second))["status"] == "FAILED"
    status, problem = await api.call("POST", f"/aitp/tasks/{second}/retry")
    assert status == 400
    assert first in problem["detail"]
    await api.db.execute("UPDATE tasks SET max_retries = 3")
    await api.ok("POST", f"/aitp/tasks/{first}/retry")
    assert (await api.ok("POST", f"/aitp/tasks/{second}/retry"))["retry_count"] == 1
    assert (await dependencies(api, second))["is_blocked"] is True
    await api.db.execute("UPDATE tasks SET status = 'COMPLETED' WHERE task_id::text = $1", first)
    assert (await dependencies(api, second))["ready_to_run"] is True
