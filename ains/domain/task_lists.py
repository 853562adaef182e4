"""Lists of tasks: what is asked, what is answered, and how a page knows where the next begins."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import Field
from typing_extensions import TypedDict

from ains.domain.states import TaskStatus
from ains.domain.types import Offset, QueryModel, RawJson
from ains.errors import InvalidInput

EXACT_TOTAL: Final = 10_000
"""Lists count exactly up to here; beyond it ``total_relation`` is ``gte``."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class TaskItem(TypedDict):
    """A task in a list; an agent finds its input here."""

    task_id: UUID
    client_id: str
    task_type: str
    status: str
    priority: int
    assigned_agent_id: str | None
    created_at: datetime
    updated_at: datetime
    input_data: RawJson
    capability_required: str


class TaskPage(TypedDict):
    """A page of tasks, newest first. ``next_cursor`` is null on the last page."""

    tasks: list[TaskItem]
    total: int
    total_relation: Literal["eq", "gte"]
    limit: int
    offset: int
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last task of a page; the next page begins after it. Clients see it as opaque text."""

    created_at: datetime
    task_id: UUID

    def __str__(self) -> str:
        instant = (self.created_at - _EPOCH) // _MICROSECOND
        raw = instant.to_bytes(8, "big", signed=True) + self.task_id.bytes
        return urlsafe_b64encode(raw).decode()

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read a cursor; raises `InvalidInput` for a text that is none."""
        try:
            raw = urlsafe_b64decode(text.encode("ascii"))
            instant = int.from_bytes(raw[:8], "big", signed=True)
            return cls(_EPOCH + instant * _MICROSECOND, UUID(bytes=raw[8:]))
        except (ValueError, OverflowError):
            raise InvalidInput.at(
                ["query", "cursor"], "must be the next_cursor of an earlier page."
            ) from None


class ListQuery(QueryModel):
    """Which tasks, and which page of them; a ``cursor`` is cheaper than an ``offset``."""

    client_id: str | None = None
    status: TaskStatus | None = None
    task_type: str | None = None
    assigned_agent_id: str | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    offset: Offset = 0
    cursor: Annotated[str | None, Field(description="The next_cursor of the page before.")] = None
