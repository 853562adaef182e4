"""Tasks that wait for tasks: the shapes of the REST contract."""

from __future__ import annotations

from uuid import UUID

from typing_extensions import TypedDict


class Dependencies(TypedDict):
    """What a task waits for.

    ``dependencies_status`` is by task_id; a dependency that was deleted by retention counts as
    COMPLETED, what ended otherwise had failed the task before. ``ready_to_run``: PENDING and not
    blocked.
    """

    task_id: UUID
    depends_on: list[UUID]
    dependencies_status: dict[str, str]
    is_blocked: bool
    ready_to_run: bool


class Dependent(TypedDict):
    """A task that depends on another."""

    task_id: UUID
    task_type: str
    status: str
    is_blocked: bool


class Dependents(TypedDict):
    """The tasks that depend directly on a task, the oldest first."""

    task_id: UUID
    dependent_tasks: list[Dependent]
    dependent_count: int
