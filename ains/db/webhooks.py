"""What is done with webhooks and their deliveries; the SQL is in ``queries/webhooks.sql``."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast
from uuid import UUID

import asyncpg

from ains.db.sql import load
from ains.db.statements import Statements
from ains.domain.webhooks import Deactivated, Delivery, DeliveryList, NewWebhook, Outcome, Webhook
from ains.errors import Forbidden, NotFound, quote

__all__ = ["Attempt", "Claimed", "claim", "deactivate", "finish", "register", "set_aside"]

_Q: Final = load("webhooks")
_LOOKED_AT: Final = 500
_ASIDE_SECONDS: Final = 900.0


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that this worker has leased until ``leased_until``."""

    delivery_id: UUID
    webhook_id: UUID
    host: str
    event_type: str
    payload: str
    attempt_count: int
    leased_until: datetime
    url: str
    secret: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """How an HTTP attempt went; ``retry_in`` is in seconds, None when it was the last."""

    outcome: Outcome
    duration_us: int
    response_code: int | None = None
    response_body: str | None = None
    error: str | None = None
    retry_in: float | None = None


def _delivery(row: asyncpg.Record) -> Delivery:
    return cast("Delivery", dict(row) | {"delivery_id": str(row["delivery_id"])})


def _webhook(row: asyncpg.Record) -> dict[str, object]:
    return dict(row) | {"webhook_id": str(row["webhook_id"])}


async def register(
    db: Statements,
    webhook_id: UUID,
    *,
    agent_id: str,
    url: str,
    host: str,
    events: Iterable[str],
    secret: str,
) -> NewWebhook:
    """Create a subscription.

    Raises:
        NotFound: nobody has registered as ``agent_id``.
    """
    unique = list(dict.fromkeys(events))
    row = await db.fetchrow(_Q["register"], webhook_id, agent_id, url, host, unique, secret)
    if row is None:
        raise NotFound.of("agent", agent_id)
    return cast("NewWebhook", _webhook(row) | {"secret": secret})


async def show(db: Statements, webhook_id: UUID) -> Webhook:
    """A subscription, without its secret; raises `NotFound`."""
    row = await db.fetchrow(_Q["show"], webhook_id)
    if row is None:
        raise NotFound.of("webhook", webhook_id)
    return cast("Webhook", _webhook(row))


async def deactivate(db: Statements, webhook_id: UUID, agent_id: str) -> Deactivated:
    """End a subscription and what still waits for it; raises `NotFound`, `Forbidden`."""
    is_owner = await db.fetchval(_Q["deactivate"], webhook_id, agent_id)
    if is_owner is None:
        raise NotFound.of("webhook", webhook_id)
    if not is_owner:
        raise Forbidden(f"The webhook belongs to another agent than {quote(agent_id)}.")
    return {"webhook_id": str(webhook_id), "status": "deactivated"}


async def deliveries(db: Statements, webhook_id: UUID, limit: int) -> DeliveryList:
    """The newest deliveries of a webhook; raises `NotFound`."""
    rows = await db.fetch(_Q["deliveries"], webhook_id, limit)
    if not rows:
        await show(db, webhook_id)
    return {"webhook_id": str(webhook_id), "deliveries": [_delivery(row) for row in rows]}


async def redeliver(db: Statements, webhook_id: UUID, delivery_id: UUID) -> Delivery:
    """Send a delivery again, from its first attempt on; raises `NotFound`."""
    row = await db.fetchrow(_Q["redeliver"], webhook_id, delivery_id)
    if row is None:
        raise NotFound.of("delivery of this webhook", delivery_id)
    return _delivery(row)


async def claim(
    db: Statements, *, lease: float, per_host: int, busy: Mapping[str, int], limit: int
) -> list[Claimed]:
    """Lease due deliveries for ``lease`` seconds, ``limit`` at most.

    Of each host there are ``per_host`` at most, together with the ``busy`` ones that the caller has
    not finished.
    """
    rows = await db.fetch(
        _Q["claim"], lease, per_host, list(busy), list(busy.values()), limit, _LOOKED_AT
    )
    return [Claimed(**row) for row in rows if row["leased_until"] is not None]


async def set_aside(db: Statements, *, per_host: int, busy: Mapping[str, int]) -> int:
    """Make way where a claim found less than it had room for; returns how many were in the way.

    A delivery waits behind the earlier events of its task. A host with many of those would have
    each claim look at all of them: here they get the time at which the first of them is due.
    """
    count: int = await db.fetchval(
        _Q["set_aside"], per_host, list(busy), list(busy.values()), _LOOKED_AT, _ASIDE_SECONDS
    )
    return count


async def finish(db: Statements, claimed: Claimed, attempt: Attempt, give_up_after: float) -> bool:
    """Record an attempt; returns whether the lease still held.

    An endpoint that answered 410, or failed for ``give_up_after`` seconds without a success, is
    given up, and so is whatever else waits for it, unless it was redelivered by hand.
    """
    is_ours: bool | None = await db.fetchval(
        _Q["finish"],
        claimed.delivery_id,
        claimed.leased_until,
        attempt.outcome,
        attempt.duration_us,
        attempt.response_code,
        attempt.response_body,
        attempt.error,
        attempt.retry_in,
        give_up_after,
        claimed.webhook_id,
    )
    return is_ours is True


async def next_due(db: Statements) -> float | None:
    """Seconds until the next delivery falls due, None when none will."""
    seconds: float | None = await db.fetchval(_Q["next_due"])
    return seconds
