"""Chains: steps that run one after the other, each as a task of its own.

Names, defaults and ranges are those of the REST contract. The rules are kept by the database, in
the transaction of the fact they follow from: ``alembic/sql/0001/65_chains.sql``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID

import orjson
from pydantic import Field
from typing_extensions import TypedDict

from ains.domain.tasks import Label, Priority
from ains.domain.types import Int, JsonObject, Limit, Offset, QueryModel, RawJson, RequestModel

MAX_STEPS: Final = 100


class ChainStatus(StrEnum):
    """Where a chain or one of its steps stands."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class SubmitStep(RequestModel):
    """One step of a new chain; null is as good as leaving a field out."""

    name: Annotated[str, Field(max_length=255)] | None = None
    task_type: Label
    capability_required: Label
    input_data: JsonObject | None = None
    priority: Priority | None = None
    timeout_seconds: Annotated[Int, Field(ge=1)] | None = None
    max_retries: Annotated[Int, Field(ge=0)] | None = None
    use_previous_output: Annotated[
        bool | None,
        Field(
            description="Gets the result of the step before as `input_data.previous_output`; "
            "without a meaning in the first step."
        ),
    ] = None


class SubmitChain(RequestModel):
    """A chain for POST /ains/task-chains; any client may submit one."""

    name: Label
    client_id: Label
    steps: Annotated[list[SubmitStep], Field(min_length=1, max_length=MAX_STEPS)]


class ChainQuery(QueryModel):
    """Which chains, and which page of them."""

    client_id: str | None = None
    status: ChainStatus | None = None
    limit: Limit = 50
    offset: Offset = 0


class ChainItem(TypedDict):
    """A chain in a list; ``current_step`` counts from 0 and is ``total_steps`` when all are done.

    PENDING until the task of the first step is assigned.
    """

    chain_id: UUID
    name: str
    status: str
    total_steps: int
    current_step: int
    created_at: datetime


class ChainStep(TypedDict):
    """A step as submitted, and where it stands; ``task_id`` is null until its turn comes."""

    step_index: int
    name: str | None
    task_type: str
    capability_required: str
    input_data: RawJson
    priority: int
    timeout_seconds: int
    max_retries: int
    use_previous_output: bool
    status: str
    task_id: UUID | None
    started_at: datetime | None
    completed_at: datetime | None


class StepResult(TypedDict):
    """What became of a step that has run; the result is kept when its task is pruned."""

    step_index: int
    name: str | None
    task_id: UUID | None
    status: str
    result_data: RawJson | None
    error_message: str | None
    completed_at: datetime | None


class Chain(ChainItem):
    """A chain with its steps; ``step_results`` has those that ended, in their order."""

    client_id: str
    steps: list[ChainStep]
    step_results: list[StepResult]
    started_at: datetime | None
    completed_at: datetime | None
    error_message: str | None


class ChainCancelled(TypedDict):
    """Answer of POST /ains/task-chains/{chain_id}/cancel."""

    chain_id: UUID
    message: str


def steps_json(steps: Sequence[SubmitStep]) -> str:
    """The steps as the JSON array that ``submit_chain()`` takes; inputs are copied as they are."""
    items = [
        step.model_dump(exclude={"input_data"})
        | {"input_data": None if step.input_data is None else orjson.Fragment(step.input_data)}
        for step in steps
    ]
    return orjson.dumps(items).decode()
