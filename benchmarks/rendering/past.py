"""A past that leaves 100,000 series behind, and a little more of it."""

from typing import Final

from benchmarks.support.database import CAPABILITY, add_agents, connected

__all__ = ["AGENTS", "FACTS", "add_facts", "fill"]

AGENTS: Final = 20_000
FACTS: Final = 1_000
_BATCH: Final = 10_000

# Every agent has completed tasks of two types, and every other one has failed at a third: of 100
# types and 75 clients, with durations in all buckets.
_TASKS: Final = """
    INSERT INTO tasks (client_id, task_type, capability_required, status, failure_reason,
                       assigned_agent_id, last_agent_id, input_data, created_at, queued_at,
                       assigned_at, started_at, completed_at, updated_at)
    SELECT 'client-' || i / 100 % 75, 'type-' || (i + 37 * $3::integer) % 100, $4, $5::text,
           CASE $5::text
                WHEN 'FAILED' THEN (ARRAY['timeout', 'agent_error', 'lost'])[1 + i % 3] END,
           agent, agent, '{}', at, at, at + wait, at + wait, at + wait + work, at + wait + work
      FROM generate_series($1::integer, $2::integer, $6::integer) AS i
     CROSS JOIN LATERAL (
           SELECT 'bench-agent-' || i AS agent,
                  now() - interval '30 days' + i * interval '10 seconds' AS at,
                  interval '1 ms' * 2 ^ (i % 18) AS wait,
                  interval '1 second' * 2 ^ (i % 13) AS work
           ) AS x
"""


async def fill(url: str) -> None:
    """Add the agents and what they did, folded."""
    await add_agents(url, AGENTS)
    async with connected(url, command_timeout=600) as connection:
        laps = (("COMPLETED", AGENTS), ("COMPLETED", AGENTS), ("FAILED", AGENTS // 2))
        for lap, (status, agents) in enumerate(laps):
            for first in range(1, agents, _BATCH):
                last = first + _BATCH - 1
                await connection.execute(_TASKS, first, last, lap, CAPABILITY, status, 1)
                while await connection.fetchval("SELECT metrics.fold(50000)"):
                    pass
        await connection.execute("VACUUM ANALYZE")


async def add_facts(url: str) -> None:
    """Let every so many-th agent complete one more task, and don't fold."""
    every = AGENTS // FACTS
    async with connected(url, command_timeout=600) as connection:
        await connection.execute(_TASKS, 1, AGENTS, 0, CAPABILITY, "COMPLETED", every)
