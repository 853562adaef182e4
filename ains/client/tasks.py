"""Calls about tasks: submitting, reporting, changing, watching."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Literal, Required, TypedDict, Unpack

from pydantic import TypeAdapter

from ains.client.models import (
    BatchCancelled,
    BatchCreated,
    BatchStatus,
    Cancelled,
    CreatedTask,
    ListedTask,
    Page,
    PriorityChanged,
    QueueStats,
    RetryScheduled,
    RoutingTest,
    Strategies,
    Task,
    TaskStatus,
    TimeoutChanged,
    TimeoutsChecked,
    Updated,
)
from ains.client.transport import Transport

__all__ = ["NewTask", "SubmittedTask", "TaskFields", "TasksApi"]

_CREATED: Final = TypeAdapter(CreatedTask)
_TASK: Final = TypeAdapter(Task)
_PAGE: Final = TypeAdapter(Page[ListedTask])
_UPDATED: Final = TypeAdapter(Updated)
_CANCELLED: Final = TypeAdapter(Cancelled)
_RETRY: Final = TypeAdapter(RetryScheduled)
_PRIORITY: Final = TypeAdapter(PriorityChanged)
_TIMEOUT: Final = TypeAdapter(TimeoutChanged)
_CHECKED: Final = TypeAdapter(TimeoutsChecked)
_BATCH: Final = TypeAdapter(BatchCreated)
_BATCH_STATUS: Final = TypeAdapter(BatchStatus)
_BATCH_CANCELLED: Final = TypeAdapter(BatchCancelled)
_QUEUE: Final = TypeAdapter(QueueStats)
_STRATEGIES: Final = TypeAdapter(Strategies)
_ROUTING: Final = TypeAdapter(RoutingTest)


class TaskFields(TypedDict, total=False):
    """What a new task may say; only ``task_type`` and ``capability_required`` have to be there.

    ``priority`` is 1 (last) to 10 (first); without it the server takes 5, a timeout of 300 s, three
    retries with exponential delays, and round robin.
    """

    task_type: Required[str]
    capability_required: Required[str]
    input_data: Mapping[str, Any]
    priority: int
    timeout_seconds: int
    max_retries: int
    retry_policy: Literal["exponential", "linear", "fixed"]
    routing_strategy: Literal["round_robin", "least_loaded", "trust_weighted", "fastest_response"]


class NewTask(TaskFields, total=False):
    """What a task for `TasksApi.create` may say: it may wait for other tasks."""

    depends_on: list[str]


class SubmittedTask(TaskFields, total=False):
    """What a task for `TasksApi.submit` may say: it may expire in the queue and carry metadata."""

    expires_at: datetime
    metadata: Mapping[str, Any]


class TasksApi:
    """``ains.tasks``: the calls about tasks, queue and routing."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    async def create(self, client_id: str, **task: Unpack[NewTask]) -> CreatedTask:
        """Create a task from any client; an agent that is free gets it in the same call."""
        body = {"client_id": client_id, "input_data": {}, **task}
        return await self._http.request("POST", "/ains/tasks", _CREATED, body=body)

    async def submit(self, client_id: str, **task: Unpack[SubmittedTask]) -> Task:
        """Queue a task for the dispatcher.

        Raises `BadRequest` when ``client_id`` is not a registered agent, or when nobody offers the
        capability.
        """
        body = {"client_id": client_id, "input_data": {}, **task}
        return await self._http.request("POST", "/aitp/tasks", _TASK, body=body)

    async def submit_batch(self, client_id: str, tasks: Iterable[SubmittedTask]) -> BatchCreated:
        """Queue 1 to 1000 tasks at once; the fields are those of `submit`."""
        body = {"client_id": client_id, "tasks": [{"input_data": {}, **task} for task in tasks]}
        return await self._http.request("POST", "/aitp/tasks/batch", _BATCH, body=body)

    async def get(self, task_id: str) -> Task:
        """Return one task; raises `NotFound`."""
        return await self._http.request("GET", f"/aitp/tasks/{task_id}", _TASK)

    async def wait(self, task_id: str, *, timeout: float = 60.0, poll: float = 0.25) -> Task:
        """Wait until a task has ended, and return it; raises `TimeoutError` after ``timeout`` s."""
        async with asyncio.timeout(timeout):
            while True:
                task = await self.get(task_id)
                if task.status.ended:
                    return task
                await asyncio.sleep(poll)

    async def list(
        self,
        *,
        client_id: str | None = None,
        status: TaskStatus | None = None,
        task_type: str | None = None,
        assigned_agent_id: str | None = None,
        limit: int = 20,
        offset: int | None = None,
        cursor: str | None = None,
    ) -> Page[ListedTask]:
        """Return one page of tasks, newest first; ``limit`` is 1 to 100.

        ``total`` is exact to 10 000; beyond that ``total_relation`` is ``gte``.
        """
        query = {
            "client_id": client_id,
            "status": status,
            "task_type": task_type,
            "assigned_agent_id": assigned_agent_id,
            "limit": limit,
            "offset": offset,
            "cursor": cursor,
        }
        return await self._http.request("GET", "/aitp/tasks", _PAGE, query=query)

    async def iterate(
        self,
        *,
        client_id: str | None = None,
        status: TaskStatus | None = None,
        task_type: str | None = None,
        assigned_agent_id: str | None = None,
        page_size: int = 100,
    ) -> AsyncIterator[ListedTask]:
        """Yield every task of a list, newest first, following its cursors."""
        cursor = None
        while True:
            page = await self.list(
                client_id=client_id,
                status=status,
                task_type=task_type,
                assigned_agent_id=assigned_agent_id,
                limit=page_size,
                cursor=cursor,
            )
            for task in page.items:
                yield task
            cursor = page.next_cursor
            if cursor is None:
                return

    # What an agent reports

    async def start(self, task_id: str, agent_id: str) -> Updated:
        """Report that an agent begins a task that was assigned to it."""
        return await self._report(task_id, agent_id, {"status": "ACTIVE"})

    async def complete(self, task_id: str, agent_id: str, result_data: Any = None) -> Updated:
        """Report a result."""
        body = {"status": "COMPLETED"}
        return await self._report(task_id, agent_id, body | _given(result_data=result_data))

    async def fail(
        self,
        task_id: str,
        agent_id: str,
        *,
        error_message: str | None = None,
        failure_reason: str | None = None,
        result_data: Any = None,
    ) -> Updated:
        """Report a failed attempt; ``failure_reason`` is a code such as ``rate_limited``."""
        details = _given(
            error_message=error_message, failure_reason=failure_reason, result_data=result_data
        )
        return await self._report(task_id, agent_id, {"status": "FAILED"} | details)

    async def _report(self, task_id: str, agent_id: str, body: Mapping[str, Any]) -> Updated:
        path = f"/aitp/tasks/{task_id}/status"
        return await self._http.request(
            "PUT", path, _UPDATED, query={"agent_id": agent_id}, body=body
        )

    # What a client changes

    async def cancel(self, task_id: str, client_id: str, reason: str | None = None) -> Cancelled:
        """Cancel a task; raises `BadRequest` when it has ended, `Forbidden` for another's."""
        return await self._http.request(
            "DELETE",
            f"/aitp/tasks/{task_id}",
            _CANCELLED,
            query={"client_id": client_id, "reason": reason},
        )

    async def cancel_batch(
        self, client_id: str, task_ids: Iterable[str], reason: str | None = None
    ) -> BatchCancelled:
        """Cancel several tasks of one client."""
        return await self._http.request(
            "POST",
            "/aitp/tasks/batch/cancel",
            _BATCH_CANCELLED,
            query={"client_id": client_id, "reason": reason},
            body={"task_ids": list(task_ids)},  # a thousand ids are too long for a query string
        )

    async def batch_status(self, task_ids: Iterable[str]) -> BatchStatus:
        """Return how up to 1000 tasks are doing."""
        query = {"task_ids": list(task_ids)}
        path = "/aitp/tasks/batch/status"
        return await self._http.request("GET", path, _BATCH_STATUS, query=query)

    async def retry(self, task_id: str) -> RetryScheduled:
        """Put a FAILED task back into the queue, if it has a retry left."""
        return await self._http.request("POST", f"/aitp/tasks/{task_id}/retry", _RETRY)

    async def set_priority(self, task_id: str, client_id: str, priority: int) -> PriorityChanged:
        """Change the priority, 1 (last) to 10 (first)."""
        return await self._http.request(
            "PUT",
            f"/aitp/tasks/{task_id}/priority",
            _PRIORITY,
            query={"client_id": client_id},
            body={"new_priority": priority},
        )

    async def set_timeout(
        self, task_id: str, client_id: str, timeout_seconds: int
    ) -> TimeoutChanged:
        """Change how many seconds an attempt may take, 1 to 86400."""
        return await self._http.request(
            "PUT",
            f"/aitp/tasks/{task_id}/timeout",
            _TIMEOUT,
            query={"client_id": client_id},
            body={"timeout_seconds": timeout_seconds},
        )

    # What is going on

    async def check_timeouts(self) -> TimeoutsChecked:
        """End attempts whose time is over now; the server does this by itself as well."""
        return await self._http.request(
            "POST", "/aitp/maintenance/check-timeouts", _CHECKED, idempotent=True
        )

    async def queue_stats(self) -> QueueStats:
        """Return what waits and who works."""
        return await self._http.request("GET", "/aitp/queue/stats", _QUEUE)

    async def routing_strategies(self) -> Strategies:
        """Return the routing strategies and which is the default."""
        return await self._http.request("GET", "/ains/routing/strategies", _STRATEGIES)

    async def test_routing(
        self, capability_required: str, routing_strategy: str | None = None
    ) -> RoutingTest:
        """Ask who would get a task; changes nothing."""
        body = {"capability_required": capability_required}
        body |= _given(routing_strategy=routing_strategy)
        return await self._http.request(
            "POST", "/ains/routing/test", _ROUTING, body=body, idempotent=True
        )


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
