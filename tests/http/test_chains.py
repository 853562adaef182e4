"""Chains over HTTP."""

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.support.task_api import TaskApi, task_api

STEP = {"task_type": "add", "capability_required": "sum"}
HOSTILE = ["'; DROP TABLE task_chains; --", '"\\\n\t', "\u202e\U0001f4a9", "%s{}$1", " ", "é" * 255]


@pytest.fixture
async def api(service_url: str) -> AsyncIterator[TaskApi]:
    async with task_api(service_url) as running:
        yield running


def body(*steps: object, **fields: object) -> dict[str, Any]:
    return {"name": "n", "client_id": "c1", "steps": list(steps) or [STEP, STEP]} | fields


async def submit(api: TaskApi, *steps: object, **fields: object) -> str:
    chain = await api.ok("POST", "/ains/task-chains", body(*steps, **fields))
    return str(chain["chain_id"])


async def show(api: TaskApi, chain: str) -> dict[str, Any]:
    return await api.ok("GET", f"/ains/task-chains/{chain}")


async def run_step(api: TaskApi, chain: str, status: str = "COMPLETED", **said: Any) -> str:
    """Have agent a1 do the task of the current step; returns the task's id."""
    shown = await show(api, chain)
    task = str(shown["steps"][shown["current_step"]]["task_id"])
    await api.db.execute(
        "UPDATE tasks SET status = 'ASSIGNED', assigned_agent_id = 'a1', assigned_at = now()"
        " WHERE task_id = $1",
        UUID(task),
    )
    assert (await api.report(task, "ACTIVE"))[0] == 200
    assert (await api.report(task, status, **said))[0] == 200
    return task


async def test_submitted_chain_has_a_task_for_its_first_step(api: TaskApi) -> None:
    status, chain = await api.call("POST", "/ains/task-chains", body())
    assert status == 200
    assert chain == {
        "chain_id": chain["chain_id"],
        "name": "n",
        "status": "PENDING",
        "total_steps": 2,
        "current_step": 0,
        "created_at": chain["created_at"],
    }
    assert UUID(chain["chain_id"]).version == 7
    assert datetime.fromisoformat(chain["created_at"]).tzinfo is not None
    assert api.woken == [None]
    tasks = (await api.ok("GET", "/aitp/tasks", client_id="c1"))["tasks"]
    assert [(task["task_type"], task["status"]) for task in tasks] == [("add", "PENDING")]
    assert tasks[0]["input_data"] == {}


async def test_all_fields_of_the_steps_are_kept(api: TaskApi) -> None:
    full = STEP | {
        "name": "first", "input_data": {"x": 1.0, "y": [12345678901234567890]}, "priority": 9,
        "timeout_seconds": 7, "max_retries": 0, "use_previous_output": True, "unknown": 1,
    }  # fmt: skip
    nulls = STEP | dict.fromkeys(full.keys() - STEP.keys())
    chain = await show(api, await submit(api, full, STEP, nulls))
    assert chain["client_id"] == "c1"
    defaults: dict[str, object] = STEP | {
        "name": None, "input_data": {}, "priority": 5, "timeout_seconds": 300, "max_retries": 3,
        "use_previous_output": False, "status": "PENDING", "task_id": None,
        "started_at": None, "completed_at": None,
    }  # fmt: skip
    first = {key: value for key, value in full.items() if key != "unknown"}
    task = chain["steps"][0]["task_id"]
    assert chain["steps"] == [
        defaults | first | {"step_index": 0, "task_id": task},
        defaults | {"step_index": 1},
        defaults | {"step_index": 2},
    ]
    assert (await api.row(task))["input_data"] == '{"x":1.0,"y":[12345678901234567890]}'
    assert chain["step_results"] == []
    assert chain["started_at"] is chain["completed_at"] is chain["error_message"] is None


async def test_chain_runs_to_its_end(api: TaskApi) -> None:
    await api.agent()
    chain = await submit(api, STEP, STEP | {"use_previous_output": True, "input_data": {"y": 2}})
    first = await run_step(api, chain, result_data={"sum": 3})
    shown = await show(api, chain)
    assert (shown["status"], shown["current_step"]) == ("RUNNING", 1)
    assert shown["started_at"] is not None
    assert shown["step_results"] == [
        {
            "step_index": 0,
            "name": None,
            "task_id": first,
            "status": "COMPLETED",
            "result_data": {"sum": 3},
            "error_message": None,
            "completed_at": shown["step_results"][0]["completed_at"],
        }
    ]
    second = shown["steps"][1]["task_id"]
    tasks = (await api.ok("GET", "/aitp/tasks", status="PENDING"))["tasks"]
    assert [(task["task_id"], task["input_data"]) for task in tasks] == [
        (second, {"y": 2, "previous_output": {"sum": 3}})
    ]
    await run_step(api, chain, result_data=None)
    shown = await show(api, chain)
    assert (shown["status"], shown["current_step"]) == ("COMPLETED", 2)
    assert shown["completed_at"] is not None
    assert [result["result_data"] for result in shown["step_results"]] == [{"sum": 3}, None]


async def test_end_of_a_step_wakes_the_dispatcher(api: TaskApi) -> None:
    await api.agent()
    chain = await submit(api)
    api.woken.clear()
    await run_step(api, chain)
    assert api.woken == [None]


async def test_failed_step_fails_its_chain(api: TaskApi) -> None:
    await api.agent()
    chain = await submit(api, STEP | {"max_retries": 0}, STEP)
    task = await run_step(api, chain, "FAILED", error_message="no luck", failure_reason="unlucky")
    shown = await show(api, chain)
    assert (shown["status"], shown["error_message"]) == ("FAILED", "Step 0 failed: no luck")
    assert [step["status"] for step in shown["steps"]] == ["FAILED", "CANCELLED"]
    results = [(r["task_id"], r["status"], r["error_message"]) for r in shown["step_results"]]
    assert results == [(task, "FAILED", "no luck")]
    assert await api.db.fetchval("SELECT count(*) FROM tasks") == 1


async def test_failed_attempt_of_a_step_is_retried(api: TaskApi) -> None:
    await api.agent()
    chain = await submit(api)
    task = await run_step(api, chain, "FAILED")
    assert (await show(api, chain))["status"] == "RUNNING"
    assert await run_step(api, chain) == task
    assert (await show(api, chain))["current_step"] == 1


async def test_cancelling_the_task_of_a_step_cancels_the_chain(api: TaskApi) -> None:
    chain = await submit(api)
    task = (await show(api, chain))["steps"][0]["task_id"]
    await api.ok("DELETE", f"/aitp/tasks/{task}", client_id="c1", reason="changed my mind")
    shown = await show(api, chain)
    assert shown["status"] == "CANCELLED"
    assert shown["error_message"] == "Step 0 was cancelled: changed my mind"


async def test_cancelled_chain_cancels_its_task(api: TaskApi) -> None:
    chain = await submit(api)
    answer = await api.ok("POST", f"/ains/task-chains/{chain}/cancel")
    assert answer["chain_id"] == chain
    assert answer["message"]
    shown = await show(api, chain)
    assert shown["status"] == "CANCELLED"
    assert (await api.show(shown["steps"][0]["task_id"]))["status"] == "CANCELLED"
    status, problem = await api.call("POST", f"/ains/task-chains/{chain}/cancel")
    assert (status, problem["detail"]) == (400, "A chain that is CANCELLED can't be cancelled.")


async def test_any_client_may_submit(api: TaskApi) -> None:
    for client in HOSTILE:
        chain = await submit(api, name=client, client_id=client)
        shown = await show(api, chain)
        assert (shown["name"], shown["client_id"]) == (client, client)


async def test_unknown_chain_is_404(api: TaskApi) -> None:
    for unknown in (str(uuid4()), "nonsense", "%00", "a b"):
        for method, path in (("GET", ""), ("POST", "/cancel")):
            status, problem = await api.call(method, f"/ains/task-chains/{unknown}{path}")
            assert (status, problem["status"]) == (404, 404)


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"steps": []}, ["steps"]),
        ({"steps": [STEP] * 101}, ["steps"]),
        ({"steps": None}, ["steps"]),
        ({"steps": {}}, ["steps"]),
        ({"steps": [STEP, 1]}, ["steps", 1]),
        ({"name": ""}, ["name"]),
        ({"name": None}, ["name"]),
        ({"name": "x" * 256}, ["name"]),
        ({"client_id": 1}, ["client_id"]),
        ({"steps": [{"task_type": "t"}]}, ["steps", 0, "capability_required"]),
        ({"steps": [STEP | {"task_type": ""}]}, ["steps", 0, "task_type"]),
        ({"steps": [STEP | {"name": "x" * 256}]}, ["steps", 0, "name"]),
        ({"steps": [STEP | {"priority": 0}]}, ["steps", 0, "priority"]),
        ({"steps": [STEP | {"priority": 11}]}, ["steps", 0, "priority"]),
        ({"steps": [STEP | {"priority": "5"}]}, ["steps", 0, "priority"]),
        ({"steps": [STEP | {"priority": True}]}, ["steps", 0, "priority"]),
        ({"steps": [STEP | {"timeout_seconds": 0}]}, ["steps", 0, "timeout_seconds"]),
        ({"steps": [STEP | {"timeout_seconds": 2**31}]}, ["steps", 0, "timeout_seconds"]),
        ({"steps": [STEP | {"max_retries": -1}]}, ["steps", 0, "max_retries"]),
        ({"steps": [STEP | {"input_data": []}]}, ["steps", 0, "input_data"]),
        ({"steps": [STEP | {"use_previous_output": 1}]}, ["steps", 0, "use_previous_output"]),
    ],
    ids=str,
)
async def test_malformed_chain_is_422(
    api: TaskApi, wrong: dict[str, object], place: list[object]
) -> None:
    status, problem = await api.call("POST", "/ains/task-chains", body() | wrong)
    assert status == 422
    assert problem["errors"][0]["loc"] == ["body", *place]
    assert await api.db.fetchval("SELECT count(*) FROM task_chains") == 0


@pytest.mark.parametrize("text", [b'{"a":"\\u0000"}', b'{"\\ud800":1}', b'{"a":NaN}'])
async def test_what_the_database_could_not_hand_on_is_refused(api: TaskApi, text: bytes) -> None:
    chain = json.dumps(body(STEP | {"input_data": 1})).encode().replace(b"1}", text + b"}")
    status, problem = await api.call("POST", "/ains/task-chains", chain)
    assert (status, problem["errors"][0]["loc"]) == (422, ["body"])


async def test_input_reaches_the_task_to_the_letter(api: TaskApi) -> None:
    given = b'{"b":1.50,"a":{"k":1e5,"i":123456789012345678901234567890},"\xc3\xa9":"\\"\\\\"}'
    step = STEP | {"use_previous_output": True, "input_data": 1}
    text = json.dumps(body(step)).encode().replace(b"1}", given + b"}")
    status, chain = await api.call("POST", "/ains/task-chains", text)
    assert status == 200
    task = (await show(api, chain["chain_id"]))["steps"][0]["task_id"]
    kept = (await api.row(task))["input_data"]
    assert kept == '{"b":1.5,"a":{"k":100000.0,"i":123456789012345678901234567890},"é":"\\"\\\\"}'


async def test_hundred_steps(api: TaskApi) -> None:
    chain = await submit(api, *([STEP] * 100))
    assert len((await show(api, chain))["steps"]) == 100


async def listed(api: TaskApi, **query: object) -> list[str]:
    status, chains = await api.call("GET", "/ains/task-chains", **query)
    assert status == 200
    return [chain["chain_id"] for chain in chains]


async def test_chains_are_listed_newest_first(api: TaskApi) -> None:
    made = [await submit(api, client_id=f"c{n % 2}") for n in range(6)]
    for chain in made[:2]:
        await api.ok("POST", f"/ains/task-chains/{chain}/cancel")
    newest_first = made[::-1]
    assert await listed(api) == newest_first
    assert await listed(api, limit=2, offset=1) == newest_first[1:3]
    assert await listed(api, offset=2**63 - 1) == []
    assert await listed(api, client_id="c1") == newest_first[0::2]
    assert await listed(api, status="CANCELLED") == newest_first[4:]
    assert await listed(api, status="PENDING", client_id="c0") == newest_first[1:4:2]
    assert await listed(api, client_id="nobody") == []
    status, chains = await api.call("GET", "/ains/task-chains", limit=1)
    expected = {"chain_id", "name", "status", "total_steps", "current_step", "created_at"}
    assert (status, set(chains[0])) == (200, expected)


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 1001}, {"offset": -1}, {"status": "ACTIVE"}, {"limit": "x"}]
)
async def test_malformed_query_is_422(api: TaskApi, query: dict[str, object]) -> None:
    status, problem = await api.call("GET", "/ains/task-chains", **query)
    assert (status, problem["errors"][0]["loc"]) == (422, ["query", *query])
