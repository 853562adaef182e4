"""Those who look and meddle: an operator, a script with bugs, and the opening scene."""

import asyncio
import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from ains.client import AgentStatus, AinsClient, ApiError, BadRequest, Conflict, TaskStatus
from ains.demo.agents import FATE
from ains.demo.clients import Mood
from ains.demo.population import AGENTS, KINDS

__all__ = ["buggy_script", "operate", "overture"]

_REASONS = ("customer praise", "audit finding", "manual review", "appeal accepted")


async def operate(ains: AinsClient, mood: Mood, rng: random.Random) -> None:
    """Watch the queue for everybody, and now and then a dashboard; correct somebody's trust."""
    agents, tasks = ains.agents, ains.tasks
    while True:
        mood.pending = (await tasks.queue_stats()).queue.total_pending
        profile = rng.choice(AGENTS)
        kind = rng.choice(KINDS)
        glance = (
            lambda: agents.leaderboard(limit=5),
            lambda: agents.list(status=AgentStatus.AVAILABLE, limit=50),
            lambda p=profile: agents.get(p.agent_id),
            lambda p=profile: agents.trust(p.agent_id),
            lambda p=profile: agents.trust_history(p.agent_id, limit=10),
            lambda k=kind: agents.search(capability=k.capability[:4], sort_by="trust_score"),
            lambda k=kind: tasks.test_routing(k.capability, k.strategy),
            lambda: tasks.list(status=TaskStatus.FAILED, limit=10),
            tasks.routing_strategies,
            tasks.check_timeouts,
            ains.health,
        )
        await rng.choice(glance)()
        if rng.random() < 0.05:  # noqa: PLR2004 - about twice a minute
            delta = round(rng.uniform(-0.1, 0.1), 2)
            await agents.adjust_trust(profile.agent_id, delta, rng.choice(_REASONS))
        await asyncio.sleep(rng.uniform(1, 3))


async def buggy_script(ains: AinsClient, rng: random.Random) -> None:
    """Make the mistakes that callers of an API make."""
    nobody = "00000000-0000-7000-8000-000000000000"
    mistakes = (
        lambda: ains.tasks.get(nobody),
        lambda: ains.agents.get("retired-agent"),
        lambda: ains.agents.register(AGENTS[0].agent_id),
        lambda: ains.tasks.set_priority(nobody, "newsroom", 11),
        lambda: ains.tasks.submit(
            "newsroom", task_type="horoscope", capability_required="clairvoyance"
        ),
    )
    while True:
        with suppress(ApiError):
            await rng.choice(mistakes)()
        await asyncio.sleep(rng.uniform(2, 8))


async def overture(ains: AinsClient) -> None:
    """Let everything happen once within seconds, so that no metric has to be waited for.

    A task that fails and is tried again; one that fails for good; one that runs out of time; one
    that expires in the queue and is reopened by hand; one that is cancelled; a change of trust.
    """
    me = "stage-manager"
    with suppress(Conflict):
        await ains.agents.register(me, display_name="Stage Manager", tags=("client",))
    await ains.tasks.create(
        me,
        task_type="sentiment",
        capability_required="classify",
        input_data={FATE: "fail"},
        max_retries=1,
    )
    await ains.tasks.create(
        me,
        task_type="ticket_triage",
        capability_required="classify",
        input_data={FATE: "fail"},
        max_retries=0,
    )
    await ains.tasks.create(
        me,
        task_type="web_research",
        capability_required="web-search",
        input_data={FATE: "hang"},
        timeout_seconds=1,
        max_retries=0,
        priority=10,
    )
    unwanted = await ains.tasks.create(
        me, task_type="code_review", capability_required="code-review"
    )
    with suppress(BadRequest):  # done already: no agent is that fast
        await ains.tasks.cancel(unwanted.task_id, me, "opened by mistake")
    await ains.agents.adjust_trust(AGENTS[0].agent_id, 0.05, "welcome")
    # The only agent that can read invoices is taking a nap.
    late = await ains.tasks.submit(
        me,
        task_type="invoice_scan",
        capability_required="ocr",
        expires_at=datetime.now(UTC) + timedelta(seconds=1.5),
    )
    expired = await ains.tasks.wait(late.task_id, timeout=30)
    if expired.status is TaskStatus.FAILED:
        await ains.tasks.retry(late.task_id)
