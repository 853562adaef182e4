"""Tasks come in: POST /ains/tasks, POST /aitp/tasks, GET."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.task_api import NO_TASK, TaskApi, task_api, task_body

LONG = "x" * 255
HOSTILE = ["'; DROP TABLE tasks; --", '"\\\n\t', "\u202e\U0001f4a9", "%s{}$1", " ", "é" * 255]


@pytest.fixture
async def api(service_url: str) -> AsyncIterator[TaskApi]:
    async with task_api(service_url) as running:
        yield running


async def test_submitted_task_is_assigned_in_the_same_call(api: TaskApi) -> None:
    await api.agent("a1", tags=["SUM"])
    status, task = await api.call("POST", "/ains/tasks", task_body(capability_required="Sum"))
    assert status == 200
    assert task == {
        "task_id": task["task_id"],
        "status": "ASSIGNED",
        "priority": 5,
        "depends_on": [],
        "is_blocked": False,
        "routing_strategy": "round_robin",
        "assigned_agent_id": "a1",
        "created_at": task["created_at"],
    }
    assert datetime.fromisoformat(task["created_at"]).tzinfo is not None
    assert await api.events(task["task_id"]) == ["created"]
    row = await api.row(task["task_id"])
    assert row["last_agent_id"] == "a1"
    assert row["deadline_at"] - row["assigned_at"] == timedelta(seconds=300)
    assert api.woken == []


async def test_task_that_nobody_can_do_waits_and_wakes_the_dispatcher(api: TaskApi) -> None:
    await api.agent("busy", status="BUSY")
    await api.agent("another", tags=["mul"])
    await api.agent("silent")
    await api.heartbeat("silent", age=61)
    task = await api.submit()
    assert (task["status"], task["assigned_agent_id"]) == ("PENDING", None)
    assert await api.events(task["task_id"]) == ["created"]
    assert api.woken == [None]


async def test_all_fields_of_a_submitted_task_are_kept(api: TaskApi) -> None:
    task = await api.submit(
        priority=9,
        timeout_seconds=7,
        max_retries=1,
        retry_policy="linear",
        routing_strategy="least_loaded",
        depends_on=[],
        unknown="ignored",
    )
    row = await api.row(task["task_id"])
    kept = ("priority", "timeout_seconds", "max_retries", "retry_policy", "routing_strategy")
    assert [row[name] for name in kept] == [9, 7, 1, "linear", "least_loaded"]


WRONG_ANYWHERE: list[dict[str, Any]] = [
    {"client_id": ""},
    {"client_id": None},
    {"client_id": LONG + "x"},
    {"client_id": "a\0b"},
    {"task_type": 5},
    {"task_type": LONG + "x"},
    {"capability_required": []},
    {"input_data": "text"},
    {"input_data": None},
    {"input_data": {"x": "\0"}},
    {"priority": 0},
    {"priority": 11},
    {"priority": "5"},
    {"priority": 5.5},
    {"priority": True},
    {"timeout_seconds": 0},
    {"timeout_seconds": 10**20},
    {"max_retries": -1},
    {"max_retries": 10**20},
    {"retry_policy": "sometimes"},
    {"routing_strategy": "best"},
]


@pytest.mark.parametrize("path", ["/ains/tasks", "/aitp/tasks"])
@pytest.mark.parametrize("wrong", WRONG_ANYWHERE, ids=repr)
async def test_malformed_task_is_422(api: TaskApi, path: str, wrong: dict[str, Any]) -> None:
    status, problem = await api.call("POST", path, task_body() | wrong)
    assert status == 422
    assert problem["errors"]
    assert problem["detail"]


@pytest.mark.parametrize(
    "wrong",
    [{"timeout_seconds": 86401}, {"max_retries": 11}, {"expires_at": 5}, {"metadata": []}],
    ids=repr,
)
async def test_queued_task_has_narrower_ranges(api: TaskApi, wrong: dict[str, Any]) -> None:
    await api.agent("c1")
    assert (await api.call("POST", "/aitp/tasks", task_body() | wrong))[0] == 422


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"client_id":"\\ud800"}', b"\xff"])
async def test_what_is_no_json_object_is_422(api: TaskApi, body: bytes) -> None:
    for path in ("/ains/tasks", "/aitp/tasks", "/aitp/tasks/batch", "/ains/routing/test"):
        assert (await api.call("POST", path, body))[0] == 422


@pytest.mark.parametrize("field", ["client_id", "task_type", "capability_required", "input_data"])
async def test_missing_field_is_named(api: TaskApi, field: str) -> None:
    body = task_body()
    del body[field]
    status, problem = await api.call("POST", "/ains/tasks", body)
    assert status == 422
    assert problem["errors"][0]["loc"] == ["body", field]


@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_texts_come_back_as_they_were(api: TaskApi, text: str) -> None:
    await api.agent("a1", tags=[text])
    task = await api.submit(client_id=text, task_type=text, capability_required=text)
    assert task["assigned_agent_id"] == "a1"
    shown = await api.show(task["task_id"])
    assert [shown[name] for name in ("client_id", "task_type", "capability_required")] == [text] * 3
    listed = await api.ok("GET", "/aitp/tasks", client_id=text, task_type=text)
    assert [t["task_id"] for t in listed["tasks"]] == [task["task_id"]]


async def test_input_and_result_are_kept_to_the_letter(api: TaskApi) -> None:
    await api.agent()
    text = '{"z":1,"a":[1.0,1e3,12345678901234567890123,"\\u00e9\\n"],"z2":{"b":null}}'
    body = json.dumps(task_body(input_data="HERE")).replace('"HERE"', text).encode()
    task = await api.ok("POST", "/ains/tasks", body)
    stored = (await api.row(task["task_id"]))["input_data"]
    assert stored == text.replace("\\u00e9", "é").replace("1e3", "1000.0")
    listed = await api.ok("GET", "/aitp/tasks")
    assert listed["tasks"][0]["input_data"] == json.loads(text)
    url = f"{api.base}/aitp/tasks/{task['task_id']}/status?agent_id=a1"
    report = b'{"status":"COMPLETED","result_data":[1.0,12345678901234567890123]}'
    async with api.http.put(url, data=report) as response:
        assert response.status == 200
    async with api.http.get(f"{api.base}/aitp/tasks/{task['task_id']}") as response:
        assert b'"result_data":[1.0,12345678901234567890123]' in await response.read()


async def test_queued_task_is_pending_even_when_an_agent_is_free(api: TaskApi) -> None:
    await api.agent("c1")
    status, task = await api.call("POST", "/aitp/tasks", task_body(metadata={"k": [1]}))
    assert status == 200
    assert task == {
        "task_id": task["task_id"],
        "client_id": "c1",
        "task_type": "add",
        "capability_required": "sum",
        "status": "PENDING",
        "priority": 5,
        "assigned_agent_id": None,
        "created_at": task["created_at"],
        "updated_at": task["created_at"],
        "assigned_at": None,
        "started_at": None,
        "completed_at": None,
        "result_data": None,
        "error_message": None,
        "retry_count": 0,
    }
    assert await api.show(task["task_id"]) == task
    assert (await api.row(task["task_id"]))["metadata"] == '{"k":[1]}'
    assert api.woken == [None]


async def test_unknown_client_is_400(api: TaskApi) -> None:
    await api.agent("somebody")
    status, problem = await api.call("POST", "/aitp/tasks", task_body(client_id="nobody"))
    assert status == 400
    assert "nobody" in problem["detail"]
    assert await api.tasks_in("PENDING") == 0
    assert api.woken == []


@pytest.mark.parametrize(
    ("status", "tags", "published", "deprecated", "answer"),
    [
        ("AVAILABLE", ["SuM"], None, False, 200),
        ("INACTIVE", ["sum"], None, False, 200),
        ("REGISTERED", [], "SUM", False, 200),
        ("AVAILABLE", [], "sum", False, 200),
        ("AVAILABLE", [], "sum", True, 400),
        ("AVAILABLE", ["summary"], "su", False, 400),
    ],
)
async def test_somebody_must_offer_the_capability(
    api: TaskApi,
    status: str,
    tags: list[str],
    published: str | None,
    deprecated: bool,
    answer: int,
) -> None:
    await api.agent("c1", tags=tags, status=status)
    if published:
        await api.db.execute(
            "INSERT INTO agent_capabilities (agent_id, name, description, input_schema, deprecated,"
            " output_schema, pricing_model, price, latency_p99_ms, availability_percent, signature)"
            " VALUES ('c1', $1, '', '{}', $2, '{}', 'free', 0, 1, 1, '00')",
            published,
            deprecated,
        )
    code, task = await api.call("POST", "/aitp/tasks", task_body(capability_required="sUm"))
    assert code == answer, task
    assert await api.tasks_in("PENDING") == (1 if answer == 200 else 0)


@pytest.mark.parametrize(
    "expires_at",
    [
        "tomorrow",
        "",
        "2099-01-01",
        "2099-01-01T00:00:00",
        "2001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2099-13-01T00:00:00Z",
    ],
)
async def test_bad_expiry_is_400(api: TaskApi, expires_at: str) -> None:
    await api.agent("c1")
    body = task_body(expires_at=expires_at)
    status, problem = await api.call("POST", "/aitp/tasks", body)
    assert status == 400
    assert "expires_at" in problem["detail"]


@pytest.mark.parametrize(
    "expires_at", ["2099-01-01T00:00:00Z", "2099-01-01t02:00:00.000+02:00", "9999-12-31T23:59:59Z"]
)
async def test_good_expiry_is_kept(api: TaskApi, expires_at: str) -> None:
    await api.agent("c1")
    task = await api.ok("POST", "/aitp/tasks", task_body(expires_at=expires_at))
    stored = (await api.row(task["task_id"]))["expires_at"]
    assert stored > datetime.now(UTC)
    assert stored == datetime.fromisoformat(expires_at.upper())


@pytest.mark.parametrize("task_id", ["x", "0", NO_TASK, "%00", "..%2f", "a" * 3000])
async def test_unknown_id_is_404_everywhere(api: TaskApi, task_id: str) -> None:
    url = f"/aitp/tasks/{task_id}"
    done = {"status": "COMPLETED"}
    assert (await api.call("GET", url))[0] == 404
    assert (await api.call("PUT", f"{url}/status", done, agent_id="a"))[0] == 404
    assert (await api.call("PUT", f"{url}/status", {"status": "FAILED"}, agent_id="a"))[0] == 404
    assert (await api.call("PUT", f"{url}/status", {"status": "ACTIVE"}, agent_id="a"))[0] == 404
    assert (await api.call("DELETE", url, client_id="c"))[0] == 404
    assert (await api.call("POST", f"{url}/retry"))[0] == 404
    assert (await api.call("PUT", f"{url}/priority", client_id="c", new_priority=1))[0] == 404
    assert (await api.call("PUT", f"{url}/timeout", client_id="c", timeout_seconds=1))[0] == 404
