"""Agents: who is registered and alive, how much they are trusted, and what they did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.base import Built, DatabaseCollector, Family, Portions, Scalar
from collectors.series import Families, batches, scalars

if TYPE_CHECKING:
    from collectors.reader import Reader

__all__ = ["AgentCollector"]

# In one statement, which is one round trip; only counts have a last column.
_AGENTS: Final = """
SELECT status AS key, '' AS display_name, agents::double precision AS value, active
  FROM metrics.agent_counts
 UNION ALL
SELECT agent_id, display_name, value, NULL FROM metrics.ains_agent_trust_score
"""
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
    """What a scrape reads; ``statuses`` has rows of status, agents, active."""

    statuses: list[tuple[str, int, int]]
    trust: list[Scalar]
    series: Families


class AgentCollector(DatabaseCollector[AgentData]):
    """The families of agents."""

    name = "agents"
    families = (_TOTAL, _ACTIVE, _TRUST, _COMPLETED, _FAILED, _BY_STATUS)

    def __init__(self) -> None:
        """No agent is known yet."""
        self._known: dict[str, Scalar] = {}

    async def fetch(self, reader: Reader) -> AgentData:
        """Read the agents and the task ledger.

        The trust of an agent is the last scrape's row where that is equal: to free those of 20,000
        agents at the end of each scrape would stop the process for 2 ms.
        """
        data = AgentData([], [], await reader.ledger("task"))
        known = self._known
        # As many as at the last scrape; that thousands have come since happens once.
        async for portion in reader.portions(_AGENTS, few=0 < len(known) <= _FEW):
            for agent, name, value, active in portion:
                if active is not None:
                    data.statuses.append((agent, int(value), active))
                    continue
                row = (agent, name), value, None
                if known.get(agent) != row:
                    known[agent] = row
                data.trust.append(known[agent])
        if len(known) > 2 * len(data.trust):
            self._known = {}
        return data

    def build(self, data: AgentData) -> Built:
        """Turn `AgentData` into the rows of each family."""
        return {
            _TOTAL.name: [[((), sum(agents for _, agents, _ in data.statuses), None)]],
            _ACTIVE.name: [[((), sum(active for _, _, active in data.statuses), None)]],
            _TRUST.name: Portions(batches, data.trust),
            _COMPLETED.name: scalars(_COMPLETED, data.series),
            _FAILED.name: scalars(_FAILED, data.series),
            _BY_STATUS.name: [[((status,), agents, None) for status, agents, _ in data.statuses]],
        }
