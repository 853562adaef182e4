"""What clients and agents say about tasks, and the rules that need no database.

Names, defaults and ranges are those of the REST contract. The state machine itself is in
`ains.domain.states`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from ains.domain.states import TaskStatus
from ains.domain.types import Int, JsonObject, JsonValue, QueryModel, RequestModel, length
from ains.errors import BusinessRule, Forbidden

AGENT_ERROR: Final = "agent_error"
"""Failure code of an agent that reports FAILED without naming one."""

MAX_BATCH: Final = 1000
"""How many tasks one batch request may name."""


class RoutingStrategy(StrEnum):
    """How an agent is chosen among those that are capable and available."""

    ROUND_ROBIN = "round_robin"
    LEAST_LOADED = "least_loaded"
    TRUST_WEIGHTED = "trust_weighted"
    FASTEST_RESPONSE = "fastest_response"


DEFAULT_STRATEGY: Final = RoutingStrategy.ROUND_ROBIN


def _described(choice: str, many: int, sample: int) -> str:
    # So much route_window() allows, in the database.
    return (
        f"{choice} For a single task it chooses among {sample} taken at random when {many} or more"
        " agents are capable, for a batch among 128 of 128 or more."
    )


STRATEGY_DESCRIPTIONS: Final[dict[RoutingStrategy, str]] = {
    RoutingStrategy.ROUND_ROBIN: _described(
        "The agent that was least recently given a task.", 32, 12
    ),
    RoutingStrategy.LEAST_LOADED: _described(
        "The agent with the fewest assigned and active tasks.", 128, 32
    ),
    RoutingStrategy.TRUST_WEIGHTED: _described(
        "A random agent, weighted by trust; agents whose trust is below 0.3 get nothing.", 128, 32
    ),
    RoutingStrategy.FASTEST_RESPONSE: _described(
        "The agent with the lowest average completion time; untried agents come first.", 128, 32
    ),
}


class RetryPolicy(StrEnum):
    """How long the n-th retry waits: min(2^n, 60) s, 5·n s or 10 s."""

    EXPONENTIAL = "exponential"
    LINEAR = "linear"
    FIXED = "fixed"


Label = Annotated[str, length(255, 1)]
Priority = Annotated[int, Field(ge=1, le=10, description="1 (last) to 10 (first).")]
FailureCode = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class SubmitTask(RequestModel):
    """A task for POST /ains/tasks: from any client, routed at once when an agent is free."""

    client_id: Label
    task_type: Label
    capability_required: Label
    input_data: JsonObject
    priority: Priority = 5
    timeout_seconds: Annotated[Int, Field(ge=1)] = 300
    max_retries: Annotated[Int, Field(ge=0)] = 3
    retry_policy: RetryPolicy = RetryPolicy.EXPONENTIAL
    routing_strategy: RoutingStrategy = DEFAULT_STRATEGY
    depends_on: Annotated[list[str], Field(default_factory=list, max_length=1000)]


class BatchTask(RequestModel):
    """One task of POST /aitp/tasks/batch."""

    task_type: Label
    capability_required: Label
    input_data: JsonObject
    priority: Priority = 5
    metadata: JsonObject | None = None
    timeout_seconds: Annotated[int, Field(ge=1, le=86400)] = 300
    max_retries: Annotated[int, Field(ge=0, le=10)] = 3
    retry_policy: RetryPolicy = RetryPolicy.EXPONENTIAL
    routing_strategy: RoutingStrategy = DEFAULT_STRATEGY
    expires_at: Annotated[
        str | None,
        Field(
            description="RFC 3339 with offset, in the future: "
            "a task that is still PENDING then fails with `expired`."
        ),
    ] = None


class CreateTask(BatchTask):
    """A task for POST /aitp/tasks: from a registered agent, for a capability somebody offers."""

    client_id: Label


def _or_error(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    try:
        return validate(value)
    except ValidationError as error:
        return error


def _at_most_a_batch(value: object) -> object:
    # Not a ValueError: the contract answers 400 to this, where other malformed bodies get 422.
    if isinstance(value, list) and len(value) > MAX_BATCH:
        raise BusinessRule(f"A batch has at most {MAX_BATCH} tasks, this one has {len(value)}.")
    return value


_BatchSize = (
    BeforeValidator(_at_most_a_batch),
    Field(json_schema_extra={"maxItems": MAX_BATCH}),
)


_Item = Annotated[BatchTask | Any, Field(description="A wrong one is reported in `errors`.")]


class CreateBatch(RequestModel):
    """Up to 1000 tasks of one client. An item that is wrong does not keep the others out."""

    client_id: Label
    # The schema lets anything be an item, because anything is: it ends in `errors` at worst.
    tasks: Annotated[
        list[Annotated[BatchTask, WrapValidator(_or_error, json_schema_input_type=_Item)]],
        *_BatchSize,
    ]

    def sorted_out(
        self, now: datetime
    ) -> tuple[list[tuple[BatchTask, datetime | None]], list[tuple[int, str]]]:
        """The good tasks with their expiry, and the bad ones as (index, sentence)."""
        good: list[tuple[BatchTask, datetime | None]] = []
        bad: list[tuple[int, str]] = []
        items: list[BatchTask | ValidationError] = list(self.tasks)
        for index, item in enumerate(items):
            if isinstance(item, ValidationError):
                bad.append((index, _sentence(item)))
                continue
            try:
                good.append((item, expiry(item.expires_at, now)))
            except BusinessRule as error:
                bad.append((index, error.detail))
        return good, bad


def _sentence(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(
        ": ".join((".".join(map(str, e["loc"])), e["msg"])).lstrip(": ") for e in found
    )


class CancelBatch(RequestModel):
    """The tasks to cancel, when they are named in the body instead of the query string."""

    task_ids: Annotated[list[str], *_BatchSize] | None = None
    client_id: str | None = None
    reason: str | None = None


class ReportStatus(RequestModel):
    """What an agent reports about a task of its own."""

    status: Annotated[TaskStatus, Field(description="ACTIVE, COMPLETED or FAILED.")]
    result_data: JsonValue | None = None
    error_message: str | None = None
    failure_reason: FailureCode | None = None


class CancelTask(RequestModel):
    """Why a client cancels; may come in the query string as well."""

    reason: str | None = None


class ChangePriority(RequestModel):
    """A new priority, when it comes in the body instead of the query string."""

    new_priority: Priority


class ChangeTimeout(RequestModel):
    """A new timeout, when it comes in the body instead of the query string."""

    timeout_seconds: Annotated[int, Field(ge=1, le=86400)]


class RoutingQuestion(RequestModel):
    """Which agent would get such a task now?"""

    capability_required: Label
    routing_strategy: RoutingStrategy = DEFAULT_STRATEGY


class AgentQuery(QueryModel):
    """Which agent reports."""

    agent_id: str


class CancelQuery(QueryModel):
    """Which client cancels, and why."""

    client_id: str
    reason: str | None = None


class PriorityQuery(QueryModel):
    """Which client changes the priority; the new one may be in the body."""

    client_id: str
    new_priority: Priority | None = None


class TimeoutQuery(QueryModel):
    """Which client changes the timeout; the new one may be in the body."""

    client_id: str
    timeout_seconds: Annotated[int | None, Field(ge=1, le=86400)] = None


class BatchStatusQuery(QueryModel):
    """Comma-separated ids."""

    task_ids: str = ""


class BatchCancelQuery(QueryModel):
    """Comma-separated ids of tasks that belong to the client."""

    task_ids: str | None = None
    client_id: str | None = None
    reason: str | None = None


def expiry(text: str | None, now: datetime) -> datetime | None:
    """Read ``expires_at`` (RFC 3339 with offset).

    Raises:
        BusinessRule: it can't be read, has no offset, or is not after ``now``.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.upper())
        if moment.tzinfo is None:
            raise BusinessRule("expires_at needs an offset, such as Z or +02:00.")
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BusinessRule(
            "expires_at must be an RFC 3339 timestamp such as 2030-01-31T12:00:00Z."
        ) from None
    if moment <= now:
        raise BusinessRule("expires_at must be in the future.")
    return moment


def refuse_report(
    reported: TaskStatus, agent_id: str, status: str, holder: str | None
) -> BusinessRule | Forbidden:
    """Why an agent's report changes nothing and repeats nothing.

    ``holder`` is the agent of the current attempt, or of the latest one.
    """
    if holder != agent_id:
        return Forbidden("This task is not assigned to that agent.")
    if status == reported:
        return BusinessRule(f"The task is {status} already, with another outcome.")
    return BusinessRule(f"A task that is {status} can't become {reported} by its agent's report.")
