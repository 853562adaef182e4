"""The queue as numbers."""

from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from ains.db import queue
from ains.domain.task_views import QueueHealth, QueueStats
from ains.http.handler import Routes
from ains.http.keys import DB

routes: Final = Routes(tag="Queue")


@routes.get("/aitp/queue/stats")
async def stats(request: web.Request) -> QueueStats:
    """Count PENDING tasks by priority, and tasks in flight by agent."""
    return {
        "queue": await queue.depth(request.app[DB]),
        "workload": await queue.workload(request.app[DB]),
        "timestamp": datetime.now(UTC),
    }


@routes.get("/health/aitp")
async def health(request: web.Request) -> QueueHealth:
    """Sum up the queue; completed and failed tasks are those since the beginning."""
    return await queue.health(request.app[DB], datetime.now(UTC))
