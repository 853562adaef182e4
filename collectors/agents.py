"""Agents: who is registered and alive, how much they are trusted, and what they did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.base import Built, DatabaseCollector, Family, Portions, Scalar
from collectors.ledger import Families, Series, batches, scalars

if TYPE_CHECKING:
    from collectors.reader import Reader, Row

__all__ = ["AgentCollector"]

_COUNTS: Final = "SELECT status, agents, active FROM metrics.agent_counts"
_TRUST_SCORES: Final = "SELECT agent_id, display_name, value FROM metrics.ains_agent_trust_score"
_FEW: Final = 500

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
    statuses: Sequence[tuple[str, int]]
    trust: Sequence[Row]
    series: Families


class AgentCollector(DatabaseCollector[AgentData]):
    """The families of agents."""

    name = "agents"
    families = (_TOTAL, _ACTIVE, _TRUST, _COMPLETED, _FAILED, _BY_STATUS)

    def __init__(self) -> None:
        """No agent is known yet."""
        self._known: dict[str, Row] = {}

    async def fetch(self, reader: Reader) -> AgentData:
        """Read the agents and the task ledger."""
        series = await reader.ledger("task")
        counts = await reader.fetch(_COUNTS, few=True)
        total = sum(agents for _, agents, _ in counts)
        active = sum(active for _, _, active in counts)
        trust = await self._trust_scores(reader, few=total <= _FEW)
        return AgentData(total, active, [(s, agents) for s, agents, _ in counts], trust, series)

    async def _trust_scores(self, reader: Reader, *, few: bool) -> list[Row]:
        """Read the agents' trust; rows as they were at the last scrape are that one's rows.

        To free those of 20,000 agents at the end of each scrape would stop the process for 2 ms.
        """
        known, trust = self._known, []
        async for portion in reader.portions(_TRUST_SCORES, few=few):
            for row in portion:
                if known.get(row[0]) != row:
                    known[row[0]] = row
                trust.append(known[row[0]])
        if len(known) > 2 * len(trust):
            self._known = {}
        return trust

    def build(self, data: AgentData) -> Built:
        """Turn `AgentData` into the rows of each family."""
        return {
            _TOTAL.name: [[((), data.total, None)]],
            _ACTIVE.name: [[((), data.active, None)]],
            _TRUST.name: Portions(_trust, data.trust),
            _COMPLETED.name: Portions(
                _completed, data.series.get("ains_tasks_completed_total", {})
            ),
            _FAILED.name: scalars(_FAILED, data.series.get(_FAILED.name, {})),
            _BY_STATUS.name: [[((status,), count, None) for status, count in data.statuses]],
        }


def _trust(rows: Sequence[Row]) -> Iterator[list[Scalar]]:
    for batch in batches(rows):
        yield [((agent, name), trust, None) for agent, name, trust in batch]


def _completed(series: Series) -> Iterator[list[Scalar]]:
    """Completed tasks by agent: the sum over task types, so the two can't disagree."""
    sums: dict[str, tuple[int, float]] = {}
    for batch in batches(series.items()):
        for (_, agent), (counts, _, first, _) in batch:
            found = sums.get(agent)
            if found is None:
                sums[agent] = counts[0], first
            else:
                n, earliest = found
                sums[agent] = n + counts[0], min(earliest, first)
        yield []
    sums.pop("", None)  # completed by hand, without an agent
    for summed in batches(sums.items()):
        yield [((agent,), n, first) for agent, (n, first) in summed]
