"""What the tables of state can still prove.

A gauge of the ledger is exactly the number of rows in that state. A counter is at least the number
of rows that reached it: rows are deleted, facts are not taken back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from math import fsum, isclose
from typing import TYPE_CHECKING, Final

from collectors.verify.report import Difference

if TYPE_CHECKING:
    from collectors.base import Family
    from collectors.reader import Reader
    from collectors.verify.definition import Shown as Labels
    from collectors.verify.shown import Shown

__all__ = ["TABLES", "against_tables"]

TABLES: Final = (
    "tasks",
    "agents",
    "task_chains",
    "chain_steps",
    "webhook_deliveries",
    "webhook_attempts",
)

_TASKS: Final = """
SELECT status, priority, is_blocked, task_type, client_id, coalesce(assigned_agent_id, ''), count(*)
  FROM public.tasks GROUP BY 1, 2, 3, 4, 5, 6
"""
_OLDEST: Final = """
SELECT extract(epoch FROM created_at)::double precision FROM public.tasks
 WHERE status = 'PENDING' AND NOT is_blocked AND coalesce(next_retry_at, '-infinity') <= now()
 ORDER BY 1 LIMIT 1
"""
_AGENTS: Final = """
SELECT agent_id, status, total_tasks_completed, total_tasks_failed, display_name, trust_score,
       coalesce(last_heartbeat > now() - agent_ttl, false)
  FROM public.agents CROSS JOIN metrics.settings
"""
_CHAINS: Final = "SELECT status, count(*) FROM public.task_chains GROUP BY 1"
_STEPS: Final = "SELECT status, count(*) FROM public.chain_steps GROUP BY 1"
_DELIVERIES: Final = """
SELECT event_type, status, count(*) FROM public.webhook_deliveries GROUP BY 1, 2
"""
_ATTEMPTS: Final = """
SELECT d.event_type, a.outcome, count(*)
  FROM public.webhook_attempts AS a JOIN public.webhook_deliveries AS d USING (delivery_id)
 GROUP BY 1, 2
"""

_ALIVE: Final = ("AVAILABLE", "BUSY")
_TRUST: Final = "ains_agent_trust_score"
_OLDEST_PENDING: Final = "ains_task_oldest_pending_timestamp_seconds"
_MEAN: Final = 1e-9  # by which means differ that were added up in another order

_Counts = dict[tuple[str, ...], float]


class _Rows:
    """Rows by what they prove: gauges that they equal, counters that they are not above."""

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.equal: dict[str, _Counts] = {}
        self.least: dict[str, _Counts] = {}

    def equals(self, family: str, n: float, *labels: str) -> None:
        counts = self.equal.setdefault(family, {})
        counts[labels] = counts.get(labels, 0) + n

    def proves(self, family: str, n: int, *labels: str) -> None:
        counts = self.least.setdefault(family, {})
        counts[labels] = counts.get(labels, 0) + n


async def against_tables(
    reader: Reader, readable: set[str], families: Mapping[str, Family], labels: Labels, shown: Shown
) -> list[Difference]:
    """Where what is shown differs from the rows of the tables that may be read."""
    rows = _Rows(labels)
    if "tasks" in readable:
        await _tasks(reader, rows)
    if "agents" in readable:
        await _agents(reader, rows)
    if "task_chains" in readable:
        await _chains(reader, rows)
    if "chain_steps" in readable:
        for status, n in await reader.fetch(_STEPS):
            if status != "PENDING":
                rows.proves("ains_chain_steps_total", n, status)
    if "webhook_deliveries" in readable:
        await _deliveries(reader, rows)
    if {"webhook_attempts", "webhook_deliveries"} <= readable:
        for event_type, outcome, n in await reader.fetch(_ATTEMPTS):
            rows.proves("ains_webhook_attempts_total", n, event_type, outcome)
    return [*_different(families, rows.equal, shown), *_too_few(families, rows.least, shown)]


async def _tasks(reader: Reader, rows: _Rows) -> None:
    for family in ("ains_tasks_in_queue", "ains_tasks_in_flight", "ains_tasks_blocked"):
        rows.equal[family] = {}
    rows.equal[_OLDEST_PENDING] = {}
    for (oldest,) in await reader.fetch(_OLDEST):
        rows.equals(_OLDEST_PENDING, oldest)
    async for portion in reader.portions(_TASKS):
        for status, priority, is_blocked, task_type, client, agent, n in portion:
            kind = rows.labels("task_type", task_type)
            rows.proves("ains_tasks_created_total", n, kind, rows.labels("client_id", client))
            if status == "PENDING":
                rows.equals("ains_tasks_in_queue", n, str(priority))
                rows.equals("ains_tasks_blocked", n * is_blocked)
            elif status in ("ASSIGNED", "ACTIVE"):
                rows.equals("ains_tasks_in_flight", n, status)
            elif status == "COMPLETED" and agent:
                shown_as = rows.labels("agent_id", agent)
                rows.proves("ains_tasks_completed_total", n, kind, shown_as)
            elif status in ("COMPLETED", "FAILED", "CANCELLED"):
                # Its code may have been corrected since.
                rows.proves(f"ains_tasks_{status.lower()}_total", n, kind)


async def _agents(reader: Reader, rows: _Rows) -> None:
    rows.equal |= {"ains_agents_total": {(): 0}, "ains_agents_by_status": {}, _TRUST: {}}
    rows.equal["ains_agents_active"] = {(): 0}
    merged: list[float] = []
    async for portion in reader.portions(_AGENTS):
        for agent, status, completed, failed, name, trust, heard in portion:
            rows.equals("ains_agents_total", 1)
            rows.equals("ains_agents_by_status", 1, status)
            rows.equals("ains_agents_active", int(heard and status in _ALIVE))
            shown_as = rows.labels("agent_id", agent)
            if shown_as == agent:
                rows.equals(_TRUST, trust, agent, name)
            else:
                merged.append(trust)
            rows.proves("ains_agent_tasks_completed_total", completed, shown_as)
            rows.proves("ains_agent_tasks_failed_total", failed, shown_as)
    if merged:
        rows.equals(_TRUST, fsum(merged) / len(merged), "other", "other")


async def _chains(reader: Reader, rows: _Rows) -> None:
    rows.equal["ains_chains_active"] = {}
    for status, n in await reader.fetch(_CHAINS):
        rows.proves("ains_chains_total", n, "PENDING")
        if status != "PENDING":
            rows.proves("ains_chains_total", n, status)
        if status in ("PENDING", "RUNNING"):
            rows.equals("ains_chains_active", n)


async def _deliveries(reader: Reader, rows: _Rows) -> None:
    rows.equal["ains_webhook_deliveries_pending"] = {}
    for event_type, status, n in await reader.fetch(_DELIVERIES):
        if status == "pending":
            rows.equals("ains_webhook_deliveries_pending", n)
        else:
            rows.proves("ains_webhook_deliveries_total", n, event_type, status)


def _different(
    families: Mapping[str, Family], equal: Mapping[str, _Counts], shown: Shown
) -> Iterator[Difference]:
    for name, counts in equal.items():
        values = shown.get(name, {})
        for labels in sorted({*counts, *values}):
            expected = counts.get(labels, 0)
            found = values[labels].counts[0] if labels in values else 0
            if not isclose(expected, found, rel_tol=_MEAN if name == _TRUST else 0):
                yield _difference(families[name], labels, f"{expected}", found)


def _too_few(
    families: Mapping[str, Family], least: Mapping[str, _Counts], shown: Shown
) -> Iterator[Difference]:
    for name, counts in least.items():
        # A row may prove less than all labels of the family.
        found: Counter[tuple[str, ...]] = Counter()
        for its, value in shown.get(name, {}).items():
            for width in range(len(its) + 1):
                found[its[:width]] += int(value.counts[0])
        for labels, expected in sorted(counts.items()):
            if found[labels] < expected:
                yield _difference(families[name], labels, f"≥ {expected}", found[labels])


def _difference(family: Family, values: tuple[str, ...], expected: str, found: float) -> Difference:
    labels = dict(zip(family.labels, values, strict=False))
    return Difference("state", family.name, labels, "", expected, f"{found}")
