"""Those who look and meddle: an operator, a script with bugs, and the opening scenes."""

import asyncio
import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from ains.client import AgentStatus, AinsClient, ApiError, BadRequest, Conflict, TaskStatus
from ains.demo.agents import FATE
from ains.demo.clients import Mood
from ains.demo.population import AGENTS, KINDS

__all__ = ["SCENES", "buggy_script", "enter", "operate"]

_ME: Final = "stage-manager"
_REASONS: Final = ("customer praise", "audit finding", "manual review", "appeal accepted")


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


async def enter(ains: AinsClient) -> None:
    """Have the one registered who plays the opening scenes."""
    with suppress(Conflict):
        await ains.agents.register(_ME, display_name="Stage Manager", tags=("client",))


async def _failure(ains: AinsClient) -> None:
    """A task fails and is tried again, another one fails for good."""
    for task_type, retries in (("sentiment", 1), ("ticket_triage", 0)):
        await ains.tasks.create(
            _ME,
            task_type=task_type,
            capability_required="classify",
            input_data={FATE: "fail"},
            max_retries=retries,
        )


async def _timeout(ains: AinsClient) -> None:
    """A task runs out of time."""
    await ains.tasks.create(
        _ME,
        task_type="web_research",
        capability_required="web-search",
        input_data={FATE: "hang"},
        timeout_seconds=1,
        max_retries=0,
        priority=10,
    )


async def _expiry(ains: AinsClient) -> None:
    """A task expires in the queue, and is reopened by hand."""
    # The only agent that can read invoices is taking a nap.
    late = await ains.tasks.submit(
        _ME,
        task_type="invoice_scan",
        capability_required="ocr",
        expires_at=datetime.now(UTC) + timedelta(seconds=1.5),
    )
    expired = await ains.tasks.wait(late.task_id, timeout=30)
    if expired.status is TaskStatus.FAILED:
        await ains.tasks.retry(late.task_id)


async def _cancellation(ains: AinsClient) -> None:
    """A task is cancelled."""
    unwanted = await ains.tasks.create(
        _ME, task_type="code_review", capability_required="code-review"
    )
    with suppress(BadRequest):  # done already: no agent is that fast
        await ains.tasks.cancel(unwanted.task_id, _ME, "opened by mistake")


async def _praise(ains: AinsClient) -> None:
    """An agent's trust changes."""
    await ains.agents.adjust_trust(AGENTS[0].agent_id, 0.05, "welcome")


SCENES: Final = (_failure, _timeout, _expiry, _cancellation, _praise)
"""What happens once in the first seconds, at the same time, so that no metric has to be waited for.

Each may be played again when something was missing. `enter` comes before.
"""
