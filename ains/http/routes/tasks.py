"""Tasks, one at a time: submitting, looking, reporting, cancelling, changing."""

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from aiohttp import web

from ains.db import sweeps, task_lists, tasks
from ains.domain.ids import uuid7
from ains.domain.states import TaskStatus
from ains.domain.task_lists import ListQuery, TaskPage
from ains.domain.task_views import (
    PriorityChanged,
    StatusReported,
    TaskCancelled,
    TaskResponse,
    TaskRetried,
    TaskSubmitted,
    TimeoutChanged,
    TimeoutsChecked,
)
from ains.domain.tasks import (
    AgentQuery,
    CancelQuery,
    CancelTask,
    ChangePriority,
    ChangeTimeout,
    CreateTask,
    PriorityQuery,
    ReportStatus,
    SubmitTask,
    TimeoutQuery,
    expiry,
)
from ains.errors import BusinessRule, Forbidden, InvalidInput, NotFound
from ains.http.handler import Routes
from ains.http.keys import DB, SETTINGS, WAKE

routes: Final = Routes(
    tag="Tasks",
    description="PENDING → ASSIGNED → ACTIVE → COMPLETED, FAILED or CANCELLED. "
    "A failed or timed-out attempt goes back to PENDING while retries are left.",
)


@routes.post("/ains/tasks", errors=(NotFound,))
async def submit(request: web.Request, body: SubmitTask) -> TaskSubmitted:
    """Submit a task and have it routed at once.

    It is ASSIGNED in the answer when a capable agent was free, else PENDING. With ``depends_on`` it
    is blocked, and routed only when all of those tasks are COMPLETED; when one of them fails for
    good or is cancelled, it fails too, with ``dependency_failed``.
    """
    ttl = timedelta(seconds=request.app[SETTINGS].agent_ttl)
    task = await tasks.submit(request.app[DB], uuid7(), body, ttl)
    if task["status"] == TaskStatus.PENDING and not task["is_blocked"]:
        request.app[WAKE]()
    return task


@routes.post("/aitp/tasks", errors=(BusinessRule,))
async def create(request: web.Request, body: CreateTask) -> TaskResponse:
    """Queue a task.

    The client must be a registered agent and somebody must offer the capability. The task is always
    PENDING in the answer; the dispatcher routes it right after.
    """
    expires_at = expiry(body.expires_at, datetime.now(UTC))
    task = await tasks.create(request.app[DB], uuid7(), body, expires_at)
    request.app[WAKE]()
    return task


@routes.get("/aitp/tasks")
async def page(request: web.Request, query: ListQuery) -> TaskPage:
    """List tasks, newest first.

    ``total`` is exact up to 10,000; beyond it is 10,000 and ``total_relation`` says ``gte``.
    """
    return await task_lists.page(request.app[DB], query)


@routes.get("/aitp/tasks/{task_id}")
async def show(request: web.Request, task_id: UUID) -> TaskResponse:
    """Show a task."""
    return await tasks.get(request.app[DB], task_id)


@routes.put("/aitp/tasks/{task_id}/status", errors=(BusinessRule, Forbidden))
async def report(
    request: web.Request, task_id: UUID, query: AgentQuery, body: ReportStatus
) -> StatusReported:
    """Report the start or the end of an attempt, as the agent that it is assigned to.

    COMPLETED and FAILED may be reported without ACTIVE before. A FAILED attempt makes the task
    PENDING again while retries are left. Reporting the same end with the same outcome once more
    changes nothing and is fine.
    """
    reported = await tasks.report(request.app[DB], task_id, query.agent_id, body)
    if reported.releases:
        request.app[WAKE]()
    return reported.answer


@routes.delete("/aitp/tasks/{task_id}", errors=(BusinessRule, Forbidden))
async def cancel(
    request: web.Request, task_id: UUID, query: CancelQuery, body: CancelTask | None
) -> TaskCancelled:
    """Cancel a task that has not ended, as its client."""
    reason = query.reason if body is None or body.reason is None else body.reason
    return await tasks.cancel(request.app[DB], task_id, query.client_id, reason)


@routes.post("/aitp/tasks/{task_id}/retry", errors=(BusinessRule,))
async def retry(request: web.Request, task_id: UUID) -> TaskRetried:
    """Send a FAILED task back to the queue, if it has a retry left."""
    return await tasks.retry(request.app[DB], task_id)


@routes.put("/aitp/tasks/{task_id}/priority", errors=(BusinessRule, Forbidden))
async def set_priority(
    request: web.Request, task_id: UUID, query: PriorityQuery, body: ChangePriority | None
) -> PriorityChanged:
    """Change the priority of a task that has not ended, as its client.

    ``new_priority`` stands in the query string or in the body.
    """
    priority = query.new_priority if body is None else body.new_priority
    if priority is None:
        raise InvalidInput.at(["query", "new_priority"], "Field required", "missing")
    return await tasks.set_priority(request.app[DB], task_id, query.client_id, priority)


@routes.put("/aitp/tasks/{task_id}/timeout", errors=(BusinessRule, Forbidden))
async def set_timeout(
    request: web.Request, task_id: UUID, query: TimeoutQuery, body: ChangeTimeout | None
) -> TimeoutChanged:
    """Change how long an attempt may take, the running one included, as the task's client.

    ``timeout_seconds`` stands in the query string or in the body.
    """
    seconds = query.timeout_seconds if body is None else body.timeout_seconds
    if seconds is None:
        raise InvalidInput.at(["query", "timeout_seconds"], "Field required", "missing")
    return await tasks.set_timeout(request.app[DB], task_id, query.client_id, seconds)


@routes.post("/aitp/maintenance/check-timeouts")
async def check_timeouts(request: web.Request) -> TimeoutsChecked:
    """End every attempt that is past its deadline, now instead of at the next sweep."""
    ended = await sweeps.time_out_all(request.app[DB])
    return {"timed_out_count": ended, "timestamp": datetime.now(UTC)}
