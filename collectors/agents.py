"""Agents: who is registered and alive, how much they are trusted, and what they did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from collectors.base import DatabaseCollector, Family, Histogram, Scalar
from collectors.ledger import Series, scalars

if TYPE_CHECKING:
    from collectors.reader import Reader

__all__ = ["AgentCollector"]

_STATE: Final = """
SELECT (SELECT value FROM metrics.ains_agents_total) AS total,
       (SELECT value FROM metrics.ains_agents_active) AS active,
       (SELECT array_agg(ARRAY[status, value::text]) FROM metrics.ains_agents_by_status) AS statuses
"""
_TRUST_SCORES: Final = "SELECT agent_id, display_name, value FROM metrics.ains_agent_trust_score"

_TOTAL: Final = Family("ains_agents_total", "gauge", "Registered agents")
_ACTIVE: Final = Family(
    "ains_agents_active", "gauge", "Agents AVAILABLE or BUSY with a recent heartbeat"
)
_TRUST: Final = Family(
    "ains_agent_trust_score", "gauge", "Current trust, from 0 to 1", ("agent_id", "display_name")
)
_COMPLETED: Final = Family(
    "ains_agent_tasks_completed_total", "counter", "Tasks COMPLETED by this agent", ("agent_id",)
)
_FAILED: Final = Family(
    "ains_agent_tasks_failed_total",
    "counter",
    "Tasks FAILED for good whose last attempt was this agent's",
    ("agent_id",),
)
_BY_STATUS: Final = Family("ains_agents_by_status", "gauge", "Agents by status now", ("status",))


class AgentData(NamedTuple):
    """What a scrape reads; ``trust`` has rows of agent_id, display_name, trust."""

    total: int
    active: int
    statuses: Sequence[tuple[str, str]]
    trust: Sequence[Any]
    series: Mapping[str, Series]


class AgentCollector(DatabaseCollector):
    """The families of agents."""

    name = "agents"
    families = (_TOTAL, _ACTIVE, _TRUST, _COMPLETED, _FAILED, _BY_STATUS)

    async def fetch(self, reader: Reader) -> AgentData:
        """Read the agents and the task ledger."""
        series = await reader.ledger("task")
        row = await reader.fetchrow(_STATE)
        if row is None:
            raise LookupError("no row from a query without FROM")
        trust = await reader.fetch(_TRUST_SCORES)
        return AgentData(row["total"], row["active"], row["statuses"], trust, series)

    def build(self, data: object) -> dict[str, list[Scalar] | list[Histogram]]:
        """Turn `AgentData` into the series of each family."""
        assert isinstance(data, AgentData)  # noqa: S101 - what fetch returned
        return {
            _TOTAL.name: [Scalar((), data.total)],
            _ACTIVE.name: [Scalar((), data.active)],
            _TRUST.name: [Scalar((agent, name), trust) for agent, name, trust in data.trust],
            _COMPLETED.name: self._completed(data.series.get("ains_tasks_completed_total", {})),
            _FAILED.name: scalars(_FAILED, data.series.get(_FAILED.name, {})),
            _BY_STATUS.name: [Scalar((status,), int(count)) for status, count in data.statuses],
        }

    @staticmethod
    def _completed(series: Series) -> list[Scalar]:
        """Completed tasks by agent: the sum over task types, so the two can't disagree."""
        sums: dict[str, int] = {}
        first: dict[str, float] = {}
        for (_, agent, _), (n, _, first_at) in series.items():
            if agent:
                sums[agent] = sums.get(agent, 0) + n
                moment = first_at.timestamp()
                first[agent] = min(first.get(agent, moment), moment)
        return [Scalar((agent,), n, first[agent]) for agent, n in sums.items()]
