"""Results of the calls about tasks."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from ains.client.models.base import Result

__all__ = [
    "BatchCancelled",
    "BatchCreated",
    "BatchItem",
    "BatchStatus",
    "Cancelled",
    "CreatedTask",
    "ListedTask",
    "PriorityChanged",
    "Queue",
    "QueueStats",
    "RetryScheduled",
    "RoutingTest",
    "Strategies",
    "Task",
    "TaskStatus",
    "TimeoutChanged",
    "TimeoutsChecked",
    "Updated",
    "Workload",
]


class TaskStatus(StrEnum):
    """States of a task: PENDING → ASSIGNED → ACTIVE → one of the three ends."""

    PENDING = "PENDING"
    ASSIGNED = "ASSIGNED"
    ACTIVE = "ACTIVE"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to a task in this state, unless somebody reopens it."""
        return self in {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED}


class CreatedTask(Result):
    """A task that ``POST /ains/tasks`` accepted, and routed if it could."""

    task_id: str
    status: TaskStatus
    priority: int
    depends_on: tuple[str, ...] = ()
    is_blocked: bool = False
    routing_strategy: str
    assigned_agent_id: str | None
    created_at: datetime


class Task(Result):
    """A task as ``GET /aitp/tasks/{task_id}`` shows it."""

    task_id: str
    client_id: str
    task_type: str
    capability_required: str
    status: TaskStatus
    priority: int
    assigned_agent_id: str | None
    created_at: datetime
    updated_at: datetime
    assigned_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    result_data: Any
    error_message: str | None
    retry_count: int


class ListedTask(Result):
    """A task in a list; the only form that carries ``input_data``."""

    task_id: str
    client_id: str
    task_type: str
    status: TaskStatus
    priority: int
    assigned_agent_id: str | None
    created_at: datetime
    updated_at: datetime
    input_data: Any
    capability_required: str


class Updated(Result):
    """An agent's report was taken; ``status`` may be PENDING again when a retry is left."""

    task_id: str
    status: TaskStatus
    retry_count: int
    updated_at: datetime


class Cancelled(Result):
    """A task was cancelled."""

    task_id: str
    status: TaskStatus
    cancelled_at: datetime
    reason: str | None


class RetryScheduled(Result):
    """A failed task is in the queue again."""

    task_id: str
    status: TaskStatus
    retry_count: int
    next_retry_at: datetime | None


class PriorityChanged(Result):
    """A task's priority was changed."""

    task_id: str
    old_priority: int
    new_priority: int
    status: TaskStatus


class TimeoutChanged(Result):
    """A task's timeout was changed."""

    task_id: str
    timeout_seconds: int
    status: TaskStatus


class TimeoutsChecked(Result):
    """Attempts whose time was over were ended."""

    timed_out_count: int
    timestamp: datetime


class BatchCreated(Result):
    """A batch was accepted."""

    batch_id: str
    success: bool
    created: int
    failed: int
    task_ids: tuple[str, ...]
    errors: tuple[Any, ...]


class BatchItem(Result):
    """One task of a `BatchStatus`."""

    task_id: str
    status: TaskStatus
    priority: int
    created_at: datetime
    completed_at: datetime | None


class BatchStatus(Result):
    """How the tasks of a batch are doing."""

    total: int
    status_counts: dict[str, int]
    tasks: tuple[BatchItem, ...]


class BatchCancelled(Result):
    """Several tasks were cancelled."""

    cancelled: int
    failed: int
    errors: tuple[Any, ...]


class Queue(Result):
    """The waiting part of `QueueStats`."""

    by_priority: dict[str, int]
    total_pending: int
    high_priority: int
    medium_priority: int
    low_priority: int


class Workload(Result):
    """The running part of `QueueStats`."""

    agents: tuple[dict[str, Any], ...]
    total_active: int


class QueueStats(Result):
    """What waits and who works."""

    queue: Queue
    workload: Workload
    timestamp: datetime


class Strategies(Result):
    """The routing strategies."""

    strategies: tuple[dict[str, str], ...]
    default: str


class RoutingTest(Result):
    """Who would get a task; ``selected_agent`` is None when nobody would."""

    selected_agent: dict[str, Any] | None
    strategy_used: str
    message: str | None = None
