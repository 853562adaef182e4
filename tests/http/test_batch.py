"""Many tasks in one request."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from tests.support.task_api import TaskApi, task_api, task_body


@pytest.fixture
async def api(service_url: str) -> AsyncIterator[TaskApi]:
    async with task_api(service_url) as running:
        yield running


def item(**fields: object) -> dict[str, Any]:
    body = task_body(**fields)
    del body["client_id"]
    return body


async def create(api: TaskApi, *items: object) -> dict[str, Any]:
    return await api.ok("POST", "/aitp/tasks/batch", {"client_id": "c1", "tasks": items})


async def test_batch_is_queued_in_its_order(api: TaskApi) -> None:
    await api.agent()
    fields = {
        "priority": 9, "metadata": {"m": 1}, "timeout_seconds": 7, "max_retries": 1,
        "retry_policy": "fixed", "routing_strategy": "least_loaded",
        "expires_at": "2099-01-01T00:00:00Z",
    }  # fmt: skip
    answer = await create(api, item(input_data={"n": 0}), item(task_type="é", **fields))
    assert answer | {"task_ids": None, "batch_id": None} == {
        "batch_id": None,
        "success": True,
        "created": 2,
        "failed": 0,
        "task_ids": None,
        "errors": [],
    }
    assert answer["batch_id"]
    first, second = [await api.row(task) for task in answer["task_ids"]]
    assert (first["client_id"], first["status"], first["input_data"]) == (
        "c1",
        "PENDING",
        '{"n":0}',
    )
    assert (second["task_type"], second["metadata"]) == ("é", '{"m":1}')
    for name in ("priority", "timeout_seconds", "max_retries", "retry_policy", "routing_strategy"):
        assert second[name] == fields[name]
    assert second["expires_at"].year == 2099
    assert first["expires_at"] is None
    assert first["metadata"] is None
    assert api.woken == [None]
    assert await api.events(answer["task_ids"][0]) == ["created"]


async def test_wrong_items_do_not_keep_the_others_out(api: TaskApi) -> None:
    answer = await create(
        api,
        item(),
        5,
        item(priority=11),
        item(priority="5"),
        {},
        item(expires_at="2001-01-01T00:00:00Z"),
        item(expires_at="soon"),
        item(input_data={"a": 1}),
        item(max_retries=11),
    )
    assert (answer["success"], answer["created"], answer["failed"]) == (True, 2, 7)
    assert [error["index"] for error in answer["errors"]] == [1, 2, 3, 4, 5, 6, 8]
    assert all(error["error"] for error in answer["errors"])
    assert "priority" in answer["errors"][1]["error"]
    assert [(await api.row(task))["input_data"] for task in answer["task_ids"]] == [
        '{"x":1}',
        '{"a":1}',
    ]


async def test_batch_of_nothing_good_creates_nothing(api: TaskApi) -> None:
    answer = await create(api, {}, None)
    assert (answer["success"], answer["created"], answer["failed"]) == (False, 0, 2)
    assert answer["task_ids"] == []
    assert await api.tasks_in("PENDING") == 0
    assert api.woken == []


async def test_thousand_tasks_are_one_statement_and_more_are_400(api: TaskApi) -> None:
    answer = await create(api, *[item(input_data={"n": n}) for n in range(1000)])
    assert answer["created"] == len(set(answer["task_ids"])) == 1000
    assert await api.db.fetchval("SELECT count(DISTINCT created_at) FROM tasks") == 1
    for tasks in ([], [item()] * 1001, [None] * 1001):
        status, problem = await api.call(
            "POST", "/aitp/tasks/batch", {"client_id": "c1", "tasks": tasks}
        )
        assert status == 400, problem
    assert await api.tasks_in("PENDING") == 1000


@pytest.mark.parametrize(
    "body",
    [{}, {"client_id": "c"}, {"client_id": "c", "tasks": 5}, {"client_id": 1, "tasks": [{}]},
     {"client_id": "c", "tasks": {}}, {"client_id": "", "tasks": [{}]}],
    ids=repr,
)  # fmt: skip
async def test_malformed_batch_is_422(api: TaskApi, body: dict[str, Any]) -> None:
    assert (await api.call("POST", "/aitp/tasks/batch", body))[0] == 422


async def test_status_shows_the_tasks_that_exist_in_the_order_asked_for(api: TaskApi) -> None:
    await api.agent()
    ids = (await create(api, item(), item(priority=7)))["task_ids"]
    done = await api.assigned()
    await api.report(done, "COMPLETED")
    asked = ",".join([ids[1], str(uuid4()), "nonsense", f" {done} ", ids[0], ids[1], ""])
    answer = await api.ok("GET", "/aitp/tasks/batch/status", task_ids=asked)
    assert (answer["total"], answer["status_counts"]) == (3, {"PENDING": 2, "COMPLETED": 1})
    assert [task["task_id"] for task in answer["tasks"]] == [ids[1], done, ids[0]]
    row = await api.row(done)
    assert answer["tasks"][1] == {
        "task_id": done,
        "status": "COMPLETED",
        "priority": 5,
        "created_at": row["created_at"].isoformat(),
        "completed_at": row["completed_at"].isoformat(),
    }


async def test_status_of_a_thousand_fits_the_query_string(api: TaskApi) -> None:
    ids = (await create(api, *[item()] * 1000))["task_ids"]
    answer = await api.ok("GET", "/aitp/tasks/batch/status", task_ids=",".join(ids))
    assert answer["total"] == 1000


@pytest.mark.parametrize("asked", [None, "", " , ", ",".join(f"{n}" for n in range(1001))])
async def test_status_of_none_or_too_many_is_400(api: TaskApi, asked: str | None) -> None:
    assert (await api.call("GET", "/aitp/tasks/batch/status", task_ids=asked))[0] == 400


@pytest.mark.parametrize("place", ["query", "body"])
async def test_cancel_ends_the_owners_live_tasks_and_says_why_not_the_others(
    api: TaskApi, place: str
) -> None:
    await api.agent()
    pending = (await create(api, item()))["task_ids"][0]
    assigned = await api.assigned()
    done = await api.assigned()
    await api.report(done, "COMPLETED")
    foreign = await api.assigned(client_id="c2")
    unknown = str(uuid4())
    ids = [pending, assigned, pending, done, foreign, unknown, "nonsense"]
    path = "/aitp/tasks/batch/cancel"
    if place == "query":
        answer = await api.ok(
            "POST", path, task_ids=",".join(ids), client_id="c1", reason="no more"
        )
    else:
        body = {"task_ids": ids, "client_id": "c1", "reason": "no more"}
        answer = await api.ok("POST", path, body)
    assert (answer["cancelled"], answer["failed"]) == (2, 4)
    assert [error["task_id"] for error in answer["errors"]] == [done, foreign, unknown, "nonsense"]
    assert "COMPLETED" in answer["errors"][0]["error"]
    assert "client" in answer["errors"][1]["error"]
    for task in (pending, assigned):
        row = await api.row(task)
        assert (row["status"], row["cancel_reason"]) == ("CANCELLED", "no more")
        assert (await api.events(task))[-1] == "cancelled"
    assert (await api.row(foreign))["status"] == "ASSIGNED"


async def test_cancel_needs_tasks_and_a_client(api: TaskApi) -> None:
    path = "/aitp/tasks/batch/cancel"
    one = str(uuid4())
    assert (await api.call("POST", path, client_id="c1"))[0] == 400
    assert (await api.call("POST", path, {"task_ids": []}, client_id="c1"))[0] == 400
    too_many = [str(uuid4()) for _ in range(1001)]
    assert (await api.call("POST", path, {"task_ids": too_many}, client_id="c1"))[0] == 400
    assert (await api.call("POST", path, task_ids=one))[0] == 422
    assert (await api.call("POST", path, {"task_ids": [1]}, client_id="c1"))[0] == 422
