"""Every call of the client against a real server."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from ains.client import (
    AgentStatus,
    AinsClient,
    BadRequest,
    Conflict,
    Forbidden,
    Identity,
    InvalidInput,
    NotFound,
    TaskStatus,
)
from tests.support.databases import Databases
from tests.support.serving import serving


@pytest.fixture(scope="module")
async def ains(databases: Databases) -> AsyncIterator[AinsClient]:
    async with (
        databases.clone() as dsn,
        serving("--no-workers", database_url=dsn) as server,
        AinsClient(server.url) as client,
    ):
        yield client


async def test_service(ains: AinsClient) -> None:
    assert (await ains.health()).service == "AINS"
    assert "# TYPE ains_agents_total gauge" in await ains.metrics()
    assert (await ains.cleanup(30)).deleted_tasks == 0
    with pytest.raises(BadRequest, match="7 to 365"):
        await ains.cleanup(6)


async def test_agents(ains: AinsClient) -> None:
    identity = Identity.generate()
    agent = await ains.agents.register(
        "ada", display_name="Ada", endpoint="http://ada", tags=["Math"], identity=identity
    )
    assert agent.verified
    assert agent.status is AgentStatus.REGISTERED
    assert agent.tags == ("Math",)
    assert agent.created_at.tzinfo is not None
    assert await ains.agents.get("ada") == agent
    with pytest.raises(Conflict, match="ada"):
        await ains.agents.register("ada")
    with pytest.raises(NotFound):
        await ains.agents.get("nobody")

    published = await ains.agents.publish_capability("ada", "compute", price=2, identity=identity)
    [capability] = await ains.agents.capabilities("ada")
    assert (capability.capability_id, capability.price) == (published.capability_id, 2.0)
    beat = await ains.agents.heartbeat("ada", metrics={"load": 0.1}, uptime_ms=5)
    assert beat.agent_status is AgentStatus.AVAILABLE
    assert beat.next_heartbeat_in > 0

    page = await ains.agents.list(status=AgentStatus.AVAILABLE)
    assert [item.agent_id for item in page.items] == ["ada"]
    await ains.agents.register("bob")
    everybody = {item.agent_id async for item in ains.agents.iterate(page_size=1)}
    assert everybody == {"ada", "bob"}
    found = await ains.agents.search(capability="COMP", tags=["math"], min_trust=0.1)
    assert [(hit.agent_id, hit.capabilities) for hit in found.items] == [("ada", ("compute",))]

    adjusted = await ains.agents.adjust_trust("ada", 0.25, "good work")
    assert adjusted.new_trust_score == 0.75
    [record] = await ains.agents.trust_history("ada")
    assert (record.trust_delta, record.reason) == (0.25, "good work")
    trust = await ains.agents.trust("ada")
    assert (trust.trust_level, trust.total_tasks_completed) == ("medium", 0)
    assert [leader.agent_id for leader in await ains.agents.leaderboard(limit=1)] == ["ada"]


async def test_a_task_from_creation_to_completion(ains: AinsClient) -> None:
    await ains.agents.register("worker", tags=["saw"])
    await ains.agents.heartbeat("worker")
    created = await ains.tasks.create(
        "anybody", task_type="cut", capability_required="saw", input_data={"cm": 5}, priority=8
    )
    assert (created.status, created.assigned_agent_id) == (TaskStatus.ASSIGNED, "worker")
    [listed] = (await ains.tasks.list(assigned_agent_id="worker")).items
    assert (listed.task_id, listed.input_data) == (created.task_id, {"cm": 5})
    with pytest.raises(Forbidden):
        await ains.tasks.start(created.task_id, "bob")
    assert (await ains.tasks.start(created.task_id, "worker")).status is TaskStatus.ACTIVE
    for _ in range(2):  # the same report twice is fine
        done = await ains.tasks.complete(created.task_id, "worker", {"halves": 2})
        assert done.status is TaskStatus.COMPLETED
    task = await ains.tasks.wait(created.task_id)
    assert task.result_data == {"halves": 2}
    assert task.completed_at is not None
    with pytest.raises(BadRequest):
        await ains.tasks.cancel(created.task_id, "anybody")


async def test_failing_and_trying_again(ains: AinsClient) -> None:
    await ains.agents.register("clumsy", tags=["juggle"])
    await ains.agents.heartbeat("clumsy")
    task = await ains.tasks.create(
        "circus", task_type="show", capability_required="juggle", max_retries=1
    )
    failed = await ains.tasks.fail(
        task.task_id, "clumsy", failure_reason="dropped", error_message="oh", result_data=[1]
    )
    assert (failed.status, failed.retry_count) == (TaskStatus.PENDING, 1)
    with pytest.raises(BadRequest):
        await ains.tasks.retry(task.task_id)
    with pytest.raises(TimeoutError):
        await ains.tasks.wait(task.task_id, timeout=0.1, poll=0.02)
    changed = await ains.tasks.set_priority(task.task_id, "circus", 10)
    assert (changed.old_priority, changed.new_priority) == (5, 10)
    assert (await ains.tasks.set_timeout(task.task_id, "circus", 7)).timeout_seconds == 7
    with pytest.raises(InvalidInput) as caught:
        await ains.tasks.set_priority(task.task_id, "circus", 11)
    assert caught.value.errors[0]["loc"][-1] == "new_priority"
    cancelled = await ains.tasks.cancel(task.task_id, "circus", "enough")
    assert (cancelled.status, cancelled.reason) == (TaskStatus.CANCELLED, "enough")


async def test_submitting_and_batches(ains: AinsClient) -> None:
    await ains.agents.register("shop", tags=["pack"])
    soon = datetime.now(UTC) + timedelta(minutes=1)
    task = await ains.tasks.submit(
        "shop", task_type="parcel", capability_required="pack", expires_at=soon, metadata={"n": 1}
    )
    assert task.status is TaskStatus.PENDING
    with pytest.raises(BadRequest, match="stranger"):
        await ains.tasks.submit("stranger", task_type="parcel", capability_required="pack")
    batch = await ains.tasks.submit_batch(
        "shop",
        [{"task_type": "parcel", "capability_required": "pack", "priority": p} for p in (1, 5, 10)],
    )
    assert (batch.success, batch.created, batch.failed) == (True, 3, 0)
    status = await ains.tasks.batch_status(batch.task_ids)
    assert (status.total, status.status_counts["PENDING"]) == (3, 3)
    stats = await ains.tasks.queue_stats()
    assert (stats.queue.high_priority, stats.queue.total_pending) == (1, 4)
    listed = [t.task_id async for t in ains.tasks.iterate(client_id="shop", page_size=2)]
    assert set(listed) == {task.task_id, *batch.task_ids}
    gone = await ains.tasks.cancel_batch("shop", batch.task_ids, "closing")
    assert (gone.cancelled, gone.failed) == (3, 0)


async def test_a_thousand_ids_fit_into_one_call(ains: AinsClient) -> None:
    await ains.agents.register("mill", tags=["grind"])
    batch = await ains.tasks.submit_batch(
        "mill", [{"task_type": "flour", "capability_required": "grind"}] * 1000
    )
    assert (await ains.tasks.batch_status(batch.task_ids)).total == 1000
    assert (await ains.tasks.cancel_batch("mill", batch.task_ids)).cancelled == 1000


async def test_routing_and_upkeep(ains: AinsClient) -> None:
    strategies = await ains.tasks.routing_strategies()
    assert strategies.default == "round_robin"
    assert len(strategies.strategies) == 4
    nobody = await ains.tasks.test_routing("levitate", "least_loaded")
    assert (nobody.selected_agent, nobody.strategy_used) == (None, "least_loaded")
    assert nobody.message
    assert (await ains.tasks.check_timeouts()).timed_out_count == 0


async def test_an_identity_can_be_kept() -> None:
    identity = Identity.generate()
    again = Identity.from_secret(identity.secret)
    assert again.public_key == identity.public_key
    assert again.sign("text") == identity.sign("text")
    assert identity.secret not in repr(identity)
