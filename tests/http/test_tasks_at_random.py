"""Whatever is sent, in whatever order: no 500, and no transition that the state machine lacks."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ains.db import dispatch, sweeps
from ains.domain.states import TRANSITIONS, TaskStatus, may_become
from tests.support.task_api import TaskApi, task_api, task_body

TTL = timedelta(seconds=60)
AGENTS = ("the holder", "the holder", "a1", "a2")
STEPS = st.sampled_from(("cancel", "retry", "priority", "timeout", *("dispatch",) * 3)) | (
    st.sampled_from(("time out", "expire", "lose", "release"))
    | st.tuples(st.sampled_from(AGENTS), st.sampled_from(("ACTIVE", "COMPLETED", "FAILED")))
)
AT_RANDOM = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
async def api(service_url: str) -> AsyncIterator[TaskApi]:
    async with task_api(service_url) as running:
        await running.agent("a1")
        await running.agent("c1", tags=["none"])
        yield await running.agent("a2", tags=["sum"])


async def ask(api: TaskApi, task: str, step: str) -> None:
    path = f"/aitp/tasks/{task}"
    requests: dict[str, tuple[str, str, dict[str, Any]]] = {
        "cancel": ("DELETE", path, {"client_id": "c1"}),
        "retry": ("POST", f"{path}/retry", {}),
        "priority": ("PUT", f"{path}/priority", {"client_id": "c1", "new_priority": 9}),
        "timeout": ("PUT", f"{path}/timeout", {"client_id": "c1", "timeout_seconds": 9}),
        "time out": ("POST", "/aitp/maintenance/check-timeouts", {}),
    }
    method, path, query = requests[step]
    await api.call(method, path, **query)


async def take(api: TaskApi, task: str, step: str | tuple[str, str]) -> None:
    match step:
        case (agent, status):
            if agent == "the holder":
                agent = (await api.row(task))["assigned_agent_id"] or "a1"
            await api.report(task, status, agent)
        case "dispatch":
            await dispatch.assign(api.pool, "sum", 10, TTL)
        case "expire":
            await api.db.execute("UPDATE tasks SET expires_at = now() WHERE status = 'PENDING'")
            await sweeps.expire(api.pool)
        case "lose":
            await api.db.execute("UPDATE agents SET last_heartbeat = now() - interval '61 seconds'")
            await sweeps.recover_tasks(api.pool, TTL)
            await api.db.execute("UPDATE agents SET last_heartbeat = now()")
        case "release":
            await api.db.execute(
                "UPDATE tasks SET next_retry_at = now() WHERE next_retry_at > now()"
            )
            await sweeps.release_retries(api.pool)
        case "time out":
            await api.db.execute("UPDATE tasks SET deadline_at = now() WHERE deadline_at > now()")
            await ask(api, task, step)
        case _:
            assert isinstance(step, str)
            await ask(api, task, step)


async def test_every_transition_is_one_of_the_state_machine(api: TaskApi) -> None:
    seen: set[tuple[str, str]] = set()

    @settings(AT_RANDOM, max_examples=150)
    @given(routed=st.booleans(), retries=st.integers(0, 2), steps=st.lists(STEPS, max_size=10))
    @example(routed=True, retries=0, steps=[("the holder", "ACTIVE"), "cancel"])
    @example(routed=True, retries=0, steps=[("the holder", "ACTIVE"), "lose"])
    @example(routed=True, retries=0, steps=["time out"])
    async def any_life(routed: bool, retries: int, steps: list[str | tuple[str, str]]) -> None:
        if routed:
            task = (await api.submit(max_retries=retries))["task_id"]
        else:
            body = task_body(max_retries=retries, client_id="c1")
            task = (await api.ok("POST", "/aitp/tasks", body))["task_id"]
        for step in steps:
            await take(api, task, step)
        rows = await api.db.fetch(
            "SELECT from_status, to_status FROM task_events"
            " WHERE task_id = $1 AND from_status <> to_status ORDER BY at",
            UUID(task),
        )
        path = [(row[0], row[1]) for row in rows]
        assert path[0] == ("", "ASSIGNED" if routed else "PENDING")
        for (_, before), (then, _) in itertools.pairwise(path):
            assert before == then
        assert path[-1][1] == (await api.show(task))["status"]
        for before, after in path[1:]:
            assert may_become(TaskStatus(before), TaskStatus(after)), (before, after)
        seen.update(path[1:])

    await _run(any_life)
    assert seen == {(before.value, after.value) for before, after in TRANSITIONS}


async def _run(test: Any) -> None:
    """Run an async hypothesis test inside this one."""
    loop = asyncio.get_running_loop()
    inner = test.hypothesis.inner_test

    def sync(*args: Any, **kwargs: Any) -> None:
        asyncio.run_coroutine_threadsafe(inner(*args, **kwargs), loop).result()

    test.hypothesis.inner_test = sync
    await asyncio.to_thread(test)


TEXT = st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
FIELDS = (
    "client_id", "task_type", "capability_required", "input_data", "priority", "metadata",
    "timeout_seconds", "max_retries", "retry_policy", "routing_strategy", "expires_at",
    "depends_on", "tasks", "task_ids", "status", "result_data", "error_message",
    "failure_reason", "reason", "new_priority",
)  # fmt: skip
BODIES = JSON | st.builds(
    lambda changed: {"tasks": [task_body() | changed], "status": "FAILED"} | task_body() | changed,
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3),
)
QUERIES = st.dictionaries(
    st.sampled_from(("client_id", "agent_id", "task_ids", "limit", "offset", "cursor", "status")),
    TEXT | st.integers(),
    max_size=3,
)


async def test_nothing_that_is_sent_is_a_500(api: TaskApi) -> None:
    task = await api.assigned()
    routes = [
        ("POST", "/ains/tasks"),
        ("POST", "/aitp/tasks"),
        ("POST", "/aitp/tasks/batch"),
        ("POST", "/aitp/tasks/batch/cancel"),
        ("POST", "/ains/routing/test"),
        ("PUT", f"/aitp/tasks/{task}/status"),
        ("PUT", f"/aitp/tasks/{task}/priority"),
        ("PUT", f"/aitp/tasks/{task}/timeout"),
        ("DELETE", f"/aitp/tasks/{task}"),
        ("GET", "/aitp/tasks"),
        ("GET", "/aitp/tasks/batch/status"),
    ]

    @settings(AT_RANDOM, max_examples=250)
    @given(route=st.sampled_from(routes), body=BODIES, query=QUERIES)
    async def anything(route: tuple[str, str], body: object, query: dict[str, Any]) -> None:
        method, path = route
        sent = None if method == "GET" else json.dumps(body).encode()
        status, answer = await api.call(method, path, sent, **query)
        assert status < 500, answer

    await _run(anything)
