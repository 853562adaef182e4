"""Webhooks: subscriptions, and what became of their deliveries."""

import os
from typing import Final
from uuid import UUID

from aiohttp import web

from ains.db import webhooks
from ains.domain.addresses import parse_networks
from ains.domain.ids import uuid7
from ains.domain.webhooks import (
    Deactivated,
    DeactivateQuery,
    Delivery,
    DeliveryList,
    DeliveryQuery,
    NewWebhook,
    RegisterWebhook,
    Webhook,
    check_url,
    new_secret,
)
from ains.errors import Forbidden, NotFound
from ains.http.handler import Routes
from ains.http.keys import DB, SETTINGS

routes: Final = Routes("Webhooks", "Who is told what happens to tasks and chains.")


@routes.post("/ains/webhooks", errors=(NotFound,))
async def register(request: web.Request, body: RegisterWebhook) -> NewWebhook:
    """Subscribe to events.

    An agent hears the events of the tasks and chains it submitted. Deliveries are signed as
    Standard Webhooks say; the secret is shown in this answer only.
    """
    allowed = parse_networks(request.app[SETTINGS].webhook_allow)
    return await webhooks.register(
        request.app[DB],
        uuid7(),
        agent_id=body.agent_id,
        url=body.url,
        host=check_url(body.url, allowed),
        events=body.events,
        secret=body.secret or new_secret(os.urandom(24)),
    )


@routes.get("/ains/webhooks/{webhook_id}")
async def show(request: web.Request, webhook_id: UUID) -> Webhook:
    """Show a subscription."""
    return await webhooks.show(request.app[DB], webhook_id)


@routes.delete("/ains/webhooks/{webhook_id}", errors=(Forbidden,))
async def deactivate(request: web.Request, webhook_id: UUID, query: DeactivateQuery) -> Deactivated:
    """End a subscription.

    What still waits for it is not sent any more and counts as failed.
    """
    return await webhooks.deactivate(request.app[DB], webhook_id, query.agent_id)


@routes.get("/ains/webhooks/{webhook_id}/deliveries")
async def deliveries(request: web.Request, webhook_id: UUID, query: DeliveryQuery) -> DeliveryList:
    """List the newest deliveries."""
    return await webhooks.deliveries(request.app[DB], webhook_id, query.limit)


@routes.post("/ains/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver")
async def redeliver(request: web.Request, webhook_id: UUID, delivery_id: UUID) -> Delivery:
    """Send a delivery again.

    It is pending again, with all its retries and no attempts, whatever became of it before, also
    when the subscription has ended; when it ends again, that is counted again.
    """
    return await webhooks.redeliver(request.app[DB], webhook_id, delivery_id)
