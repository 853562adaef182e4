"""The state machine of a task: one table, from which everything else is made or checked.

The CHECK constraints of ``tasks``, the diagram in the documentation and the property tests are held
against :data:`TRANSITIONS`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class TaskStatus(StrEnum):
    """Where a task stands."""

    PENDING = "PENDING"
    ASSIGNED = "ASSIGNED"
    ACTIVE = "ACTIVE"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


ENDED: Final = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})
IN_FLIGHT: Final = frozenset({TaskStatus.ASSIGNED, TaskStatus.ACTIVE})
LIVE: Final = frozenset(TaskStatus) - ENDED

_S = TaskStatus

TRANSITIONS: Final[dict[tuple[TaskStatus, TaskStatus], str]] = {
    (_S.PENDING, _S.ASSIGNED): "an agent was chosen",
    (_S.PENDING, _S.FAILED): "expired, or what it depends on failed",
    (_S.PENDING, _S.CANCELLED): "cancelled by its client",
    (_S.ASSIGNED, _S.ACTIVE): "the agent started it",
    (_S.ASSIGNED, _S.COMPLETED): "the agent reported success without reporting the start",
    (_S.ASSIGNED, _S.PENDING): "the attempt failed, timed out or lost its agent; a retry is left",
    (_S.ASSIGNED, _S.FAILED): "the attempt failed or timed out; no retry is left",
    (_S.ASSIGNED, _S.CANCELLED): "cancelled by its client",
    (_S.ACTIVE, _S.COMPLETED): "the agent reported success",
    (_S.ACTIVE, _S.PENDING): "the attempt failed, timed out or lost its agent; a retry is left",
    (_S.ACTIVE, _S.FAILED): "the attempt failed, timed out or lost its agent; no retry is left",
    (_S.ACTIVE, _S.CANCELLED): "cancelled by its client",
    (_S.FAILED, _S.PENDING): "retried by hand",
}
"""Every transition that AINS makes. Somebody in psql may write others; they are counted too."""


def may_become(before: TaskStatus, after: TaskStatus) -> bool:
    """Whether AINS ever takes a task from ``before`` to ``after``."""
    return (before, after) in TRANSITIONS
