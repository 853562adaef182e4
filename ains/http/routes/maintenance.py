"""Upkeep that somebody asks for."""

from collections import Counter
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from ains.db import retention
from ains.domain.retention import CleanedUp, CleanupQuery
from ains.errors import BusinessRule
from ains.http.handler import Routes
from ains.http.keys import DB, STATE
from ains.http.problems import is_gone

routes: Final = Routes("Maintenance", "Upkeep that somebody asks for.")


@routes.post("/ains/maintenance/cleanup", errors=(BusinessRule,))
async def cleanup(request: web.Request, query: CleanupQuery) -> CleanedUp:
    """Delete tasks, chains and webhook deliveries that ended long ago.

    That is more than ``days`` days ago, 7 to 365. No counter changes. A task stays as long as its
    chain does, and as long as a task that depends on it. Ends early when the client goes away or
    the server stops; call it again for the rest.
    """
    deleted: Counter[str] = Counter()
    found = retention.prune(request.app[DB], query.ages(), datetime.now(UTC))
    async with aclosing(found) as batches:
        async for batch in batches:
            deleted[batch.kind] += batch.deleted
            if is_gone(request) or request.app[STATE].stopping:
                break
    return {"deleted_tasks": deleted["tasks"], "deleted_deliveries": deleted["deliveries"]}
