"""Which task waits for which."""

from typing import Final
from uuid import UUID

from aiohttp import web

from ains.db import dependencies as db
from ains.domain.dependencies import Dependencies, Dependents
from ains.http.handler import Routes
from ains.http.keys import DB

routes: Final = Routes(
    tag="Dependencies",
    description="A task with `depends_on` runs when all of those are COMPLETED, and fails when one "
    "of them fails for good or is cancelled.",
)


@routes.get("/ains/tasks/{task_id}/dependencies")
async def dependencies(request: web.Request, task_id: UUID) -> Dependencies:
    """Show what a task waits for."""
    return await db.dependencies(request.app[DB], task_id)


@routes.get("/ains/tasks/{task_id}/dependents")
async def dependents(request: web.Request, task_id: UUID) -> Dependents:
    """List the tasks that wait for a task, or have waited.

    Those that depend on it directly, the oldest first, whatever their state.
    """
    return await db.dependents(request.app[DB], task_id)
