"""AgentWorker: an agent in ten lines, against a real server that it is harassed through."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any

import asyncpg
import pytest

from ains.client import (
    AgentStatus,
    AgentWorker,
    AinsClient,
    Assignment,
    InvalidInput,
    Task,
    TaskFailed,
    TaskStatus,
)
from tests.support.databases import Databases
from tests.support.serving import Server, serving


@pytest.fixture(scope="module")
async def server(databases: Databases) -> AsyncIterator[tuple[Server, asyncpg.Connection]]:
    async with databases.clone() as dsn, serving(database_url=dsn, agent_ttl="3600") as running:
        connection = await asyncpg.connect(dsn)
        yield running, connection
        await connection.close()


@pytest.fixture
async def db(server: tuple[Server, asyncpg.Connection]) -> asyncpg.Connection:
    """The server's database, without the agents and tasks of other tests."""
    connection = server[1]
    await connection.execute("DELETE FROM tasks")
    await connection.execute("DELETE FROM agents")
    return connection


@pytest.fixture
async def ains(
    server: tuple[Server, asyncpg.Connection], db: asyncpg.Connection
) -> AsyncIterator[AinsClient]:
    async with AinsClient(server[0].url) as client:
        yield client


@asynccontextmanager
async def working(worker: AgentWorker) -> AsyncIterator["asyncio.Task[None]"]:
    """Run a worker until the block ends."""
    running = asyncio.create_task(worker.run())
    try:
        yield running
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def until(condition: Callable[[], Awaitable[bool]], what: str = "it") -> None:
    deadline = monotonic() + 15
    while not await condition():
        assert monotonic() < deadline, f"{what} did not happen"
        await asyncio.sleep(0.02)


async def double(task: Assignment) -> dict[str, int]:
    return {"x": 2 * task.input_data["x"]}


async def order(ains: AinsClient, **more: Any) -> str:
    fields = {"task_type": "math", "capability_required": "double", "input_data": {"x": 4}} | more
    return (await ains.tasks.create("client", **fields)).task_id


async def ended(ains: AinsClient, task_id: str) -> Task:
    return await ains.tasks.wait(task_id, timeout=15, poll=0.02)


async def test_it_registers_publishes_and_completes(ains: AinsClient) -> None:
    worker = AgentWorker(ains, "w", {"Double": double}, display_name="W", poll_interval=0.02)
    async with working(worker):
        early = await order(ains)
        assert (await ended(ains, early)).result_data == {"x": 8}
    agent = await ains.agents.get("w")
    assert (agent.display_name, agent.verified) == ("W", True)
    assert [c.name for c in await ains.agents.capabilities("w")] == ["Double"]


async def test_a_second_life_takes_up_where_the_first_ended(ains: AinsClient) -> None:
    async with working(AgentWorker(ains, "w", {"double": double}, poll_interval=0.02)):
        await ended(ains, await order(ains))
    waiting = await order(ains)  # assigned to the agent that has just gone
    async with working(AgentWorker(ains, "w", {"double": double}, poll_interval=0.02)):
        assert (await ended(ains, waiting)).status is TaskStatus.COMPLETED


async def test_failures_carry_their_code_and_a_bug_is_an_agent_error(ains: AinsClient) -> None:
    async def fail(task: Assignment) -> None:
        if task.input_data["x"]:
            raise TaskFailed("too_hard", "really")
        raise ZeroDivisionError("by zero")

    async def nonsense(task: Assignment) -> object:
        return object()

    handlers = {"double": fail, "nonsense": nonsense}
    async with working(AgentWorker(ains, "w", handlers, tags=["odd"], poll_interval=0.02)):
        hard = await ended(ains, await order(ains, max_retries=0))
        bug = await ended(ains, await order(ains, max_retries=0, input_data={"x": 0}))
        odd = await ended(ains, await order(ains, max_retries=0, capability_required="odd"))
        fun = await ended(ains, await order(ains, max_retries=0, capability_required="nonsense"))
    assert (hard.status, hard.error_message) == (TaskStatus.FAILED, "really")
    assert bug.error_message == "ZeroDivisionError: by zero"
    assert odd.error_message == "no handler for odd"
    assert fun.error_message is not None
    assert fun.error_message.startswith("TypeError")
    metrics = await ains.metrics()
    for code, count in (("too_hard", 1), ("no_handler", 1), ("agent_error", 2)):
        assert f'failure_reason="{code}",task_type="math"}} {count}.0' in metrics


async def test_it_runs_no_more_at_once_than_it_has_hands_and_the_urgent_first(
    ains: AinsClient,
) -> None:
    running: set[int] = set()
    most = 0
    begun: list[int] = []

    async def slow(task: Assignment) -> None:
        nonlocal most
        begun.append(task.priority)
        running.add(len(begun))
        most = max(most, len(running))
        await asyncio.sleep(0.03)
        running.pop()

    await ains.agents.register("w", tags=["double"])
    await ains.agents.heartbeat("w")
    priorities = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    ids = [await order(ains, priority=priority) for priority in priorities]
    worker = AgentWorker(
        ains, "w", {"double": slow}, tags=["double"], concurrency=2, poll_interval=5
    )
    async with working(worker):  # it looks again at once when a hand is free, not after 5 s
        for task_id in ids:
            await ended(ains, task_id)
    assert most == 2
    # Two that are taken up at once may begin in either order.
    assert all(abs(priority - (10 - place)) <= 1 for place, priority in enumerate(begun)), begun


async def test_stop_finishes_what_was_assigned_and_signs_off(ains: AinsClient) -> None:
    started = asyncio.Event()

    async def slow(task: Assignment) -> str:
        started.set()
        await asyncio.sleep(0.3)
        return "done"

    worker = AgentWorker(ains, "w", {"double": slow}, concurrency=1, poll_interval=0.02)
    async with working(worker) as running:
        await until(lambda: _is(ains, "w", AgentStatus.AVAILABLE))
        ids = [await order(ains) for _ in range(3)]
        await started.wait()
        worker.stop()
        async with asyncio.timeout(10):
            await running
    for task_id in ids:
        assert (await ains.tasks.get(task_id)).status is TaskStatus.COMPLETED
    assert await _is(ains, "w", AgentStatus.INACTIVE)


async def test_a_stop_whose_grace_is_over_gives_the_task_back(ains: AinsClient) -> None:
    started = asyncio.Event()

    async def endless(task: Assignment) -> None:
        started.set()
        await asyncio.sleep(600)

    worker = AgentWorker(ains, "w", {"double": endless}, grace=0.1, poll_interval=0.02)
    async with working(worker) as running:
        task_id = await order(ains)
        await started.wait()
        worker.stop()
        async with asyncio.timeout(10):
            await running
    task = await ains.tasks.get(task_id)
    assert (task.status, task.retry_count) == (TaskStatus.PENDING, 1)


async def test_a_cancelled_task_is_dropped_with_the_next_heartbeat(ains: AinsClient) -> None:
    started, dropped = asyncio.Event(), asyncio.Event()

    async def endless(task: Assignment) -> None:
        started.set()
        try:
            await asyncio.sleep(600)
        finally:
            dropped.set()

    worker = AgentWorker(ains, "w", {"double": endless}, poll_interval=0.02)
    async with working(worker):
        task_id = await order(ains)
        await started.wait()
        await ains.tasks.cancel(task_id, "client")
        worker.set_status("ACTIVE")  # a heartbeat now
        async with asyncio.timeout(10):
            await dropped.wait()
    assert (await ains.tasks.get(task_id)).status is TaskStatus.CANCELLED


async def test_results_wait_for_a_server_that_is_away(database_url: str) -> None:
    async with serving(database_url=database_url) as first:
        port = int(first.url.rsplit(":", 1)[1])
        started, go_on = asyncio.Event(), asyncio.Event()

        async def patient(task: Assignment) -> str:
            started.set()
            await go_on.wait()
            return "worth waiting for"

        async with AinsClient(first.url) as ains:
            worker = AgentWorker(ains, "w", {"double": patient}, poll_interval=0.02)
            async with working(worker):
                task_id = await order(ains)
                await started.wait()
                await first.kill()
                go_on.set()
                await asyncio.sleep(0.2)  # let it fail at least once
                async with serving(database_url=database_url, port=port):
                    assert (await ended(ains, task_id)).result_data == "worth waiting for"


async def test_an_agent_that_was_deleted_registers_again(
    ains: AinsClient, db: asyncpg.Connection
) -> None:
    worker = AgentWorker(ains, "w", {"double": double}, poll_interval=0.02)
    async with working(worker):
        await until(lambda: _is(ains, "w", AgentStatus.AVAILABLE))
        await db.execute("DELETE FROM agents")
        worker.set_status("ACTIVE")
        assert (await ended(ains, await order(ains))).status is TaskStatus.COMPLETED


async def test_an_agent_that_is_refused_says_so(ains: AinsClient) -> None:
    with pytest.raises(InvalidInput, match="agent_id"):
        await AgentWorker(ains, "x" * 65, {}).run()


async def _is(ains: AinsClient, agent_id: str, status: AgentStatus) -> bool:
    page = await ains.agents.list(status=status)
    return agent_id in {agent.agent_id for agent in page.items}
