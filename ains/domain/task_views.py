"""What AINS answers about tasks: the shapes of the REST contract."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from typing_extensions import TypedDict

from ains.domain.types import RawJson


class TaskSubmitted(TypedDict):
    """Answer of POST /ains/tasks."""

    task_id: UUID
    status: str
    priority: int
    depends_on: list[UUID]
    is_blocked: bool
    routing_strategy: str
    assigned_agent_id: str | None
    created_at: datetime


class TaskResponse(TypedDict):
    """A task as POST /aitp/tasks and GET /aitp/tasks/{task_id} show it."""

    task_id: UUID
    client_id: str
    task_type: str
    capability_required: str
    status: str
    priority: int
    assigned_agent_id: str | None
    created_at: datetime
    updated_at: datetime
    assigned_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    result_data: RawJson | None
    error_message: str | None
    retry_count: int


class StatusReported(TypedDict):
    """Answer to an agent's report; a failed attempt that is retried is PENDING again."""

    task_id: UUID
    status: str
    retry_count: int
    updated_at: datetime


class TaskCancelled(TypedDict):
    """Answer of DELETE /aitp/tasks/{task_id}."""

    task_id: UUID
    status: str
    cancelled_at: datetime
    reason: str | None


class TaskRetried(TypedDict):
    """Answer of POST /aitp/tasks/{task_id}/retry."""

    task_id: UUID
    status: str
    retry_count: int
    next_retry_at: datetime


class PriorityChanged(TypedDict):
    """Answer of PUT /aitp/tasks/{task_id}/priority."""

    task_id: UUID
    old_priority: int
    new_priority: int
    status: str


class TimeoutChanged(TypedDict):
    """Answer of PUT /aitp/tasks/{task_id}/timeout."""

    task_id: UUID
    timeout_seconds: int
    status: str


class TimeoutsChecked(TypedDict):
    """Answer of POST /aitp/maintenance/check-timeouts."""

    timed_out_count: int
    timestamp: datetime


class BatchError(TypedDict):
    """Why the item with this index was not created."""

    index: int
    error: str


class BatchCreated(TypedDict):
    """Answer of POST /aitp/tasks/batch; ``success`` when at least one task was created.

    ``task_ids`` are in the order of the good items.
    """

    batch_id: str
    success: bool
    created: int
    failed: int
    task_ids: list[UUID]
    errors: list[BatchError]


class BatchTaskStatus(TypedDict):
    """One task of GET /aitp/tasks/batch/status."""

    task_id: UUID
    status: str
    priority: int
    created_at: datetime
    completed_at: datetime | None


class BatchStatus(TypedDict):
    """Those of the tasks that exist, in the order asked for; ``total`` counts them."""

    total: int
    status_counts: dict[str, int]
    tasks: list[BatchTaskStatus]


class CancelError(TypedDict):
    """Why this task was not cancelled."""

    task_id: str
    error: str


class BatchCancelled(TypedDict):
    """Answer of POST /aitp/tasks/batch/cancel."""

    cancelled: int
    failed: int
    errors: list[CancelError]


class QueueDepth(TypedDict):
    """PENDING tasks; ``by_priority`` has every priority from "1" to "10"."""

    by_priority: dict[str, int]
    total_pending: int
    high_priority: int
    medium_priority: int
    low_priority: int


class AgentLoad(TypedDict):
    """How many tasks are ASSIGNED to an agent or ACTIVE there."""

    agent_id: str
    active_tasks: int


class Workload(TypedDict):
    """The agents that have work, the busiest first."""

    agents: list[AgentLoad]
    total_active: int


class QueueStats(TypedDict):
    """Answer of GET /aitp/queue/stats."""

    queue: QueueDepth
    workload: Workload
    timestamp: datetime


class QueueMetrics(TypedDict):
    """Tasks by state; completed and failed ones as counted since the beginning."""

    queue_depth: int
    active_tasks: int
    assigned_tasks: int
    completed_tasks: int
    failed_tasks: int
    failure_rate_percent: float


class QueueHealth(TypedDict):
    """Answer of GET /health/aitp."""

    status: str
    service: str
    timestamp: datetime
    metrics: QueueMetrics


class Strategy(TypedDict):
    """A routing strategy."""

    name: str
    description: str


class Strategies(TypedDict):
    """Answer of GET /ains/routing/strategies."""

    strategies: list[Strategy]
    default: str


class SelectedAgent(TypedDict):
    """The agent that would be chosen; ``total_tasks`` are those it has completed or failed."""

    agent_id: str
    display_name: str
    trust_score: float
    total_tasks: int


class RoutingAnswer(TypedDict):
    """Answer of POST /ains/routing/test; ``message`` says why there is no agent."""

    selected_agent: SelectedAgent | None
    message: str | None
    strategy_used: str
