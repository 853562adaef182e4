"""What all results share."""

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, model_validator

__all__ = [
    "CleanedUp",
    "Health",
    "Page",
    "Result",
]

_ItemT = TypeVar("_ItemT")


class Result(BaseModel):
    """Base: frozen, unknown fields of a newer server are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Health(Result):
    """``GET /health``."""

    status: str
    service: str
    version: str


class CleanedUp(Result):
    """How much a cleanup has deleted."""

    deleted_tasks: int
    deleted_deliveries: int


class Page(Result, Generic[_ItemT]):
    """One page of a list; ``next_cursor`` leads to the next one where the list has cursors."""

    items: tuple[_ItemT, ...]
    total: int
    limit: int
    offset: int
    next_cursor: str | None = None
    total_relation: str = "eq"

    @model_validator(mode="before")
    @classmethod
    def _find_items(cls, answer: Any) -> Any:
        """Every list has its own name for them."""
        if isinstance(answer, dict):
            for name in ("agents", "results", "tasks"):
                if name in answer:
                    return {**answer, "items": answer[name]}
        return answer
