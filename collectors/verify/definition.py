"""What a fact adds to which family, said a second time.

The database's contribution functions say it for fold, scrape and views; were one of them wrong,
everything would be wrong alike and agree. So this is written from the metric contract, in terms of
transitions, over facts that the database has grouped by every column that can matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.verify.report import Key, Sum, add

if TYPE_CHECKING:
    from collectors.base import Family
    from collectors.reader import Reader, Row

__all__ = ["FAMILIES", "Shown", "count", "shown_labels"]

FAMILIES: Final = frozenset(
    {
        "ains_tasks_created_total",
        "ains_tasks_completed_total",
        "ains_tasks_failed_total",
        "ains_tasks_cancelled_total",
        "ains_tasks_reopened_total",
        "ains_task_retries_total",
        "ains_task_timeouts_total",
        "ains_task_duration_seconds",
        "ains_task_queue_seconds",
        "ains_tasks_in_queue",
        "ains_tasks_in_flight",
        "ains_tasks_blocked",
        "ains_agent_tasks_failed_total",
        "ains_chains_total",
        "ains_chain_steps_total",
        "ains_chain_duration_seconds",
        "ains_chains_active",
        "ains_webhook_deliveries_total",
        "ains_webhook_attempts_total",
        "ains_webhook_delivery_duration_seconds",
        "ains_webhook_deliveries_pending",
    }
)
"""The families that facts add to."""

_TASKS: Final = """
SELECT from_status, to_status, task_type, client_id, agent_id, coalesce((details).reason, ''),
       coalesce((details).retry, 0), coalesce((details).from_priority, priority), priority,
       coalesce((details).blocked_change, 0),
       CASE WHEN to_status <> 'ASSIGNED' THEN width_bucket(took_us, $1) END,
       CASE WHEN to_status = 'ASSIGNED' THEN width_bucket(took_us, $2) END,
       count(*),
       metrics.saturated(coalesce(sum(took_us) FILTER (WHERE to_status <> 'ASSIGNED'), 0)),
       metrics.saturated(coalesce(sum(took_us) FILTER (WHERE to_status = 'ASSIGNED'), 0))
  FROM {table} GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
"""
_CHAINS: Final = """
SELECT subject, from_status, to_status, width_bucket(duration_us, $1),
       count(*), metrics.saturated(coalesce(sum(duration_us), 0))
  FROM {table} GROUP BY 1, 2, 3, 4
"""
_WEBHOOKS: Final = """
SELECT event, event_type, outcome, pending_change, width_bucket(duration_us, $1),
       count(*), metrics.saturated(coalesce(sum(duration_us), 0))
  FROM {table} GROUP BY 1, 2, 3, 4, 5
"""
_GUARDS: Final = "SELECT label FROM metrics.label_guards WHERE closed"
_SHOWN: Final = "SELECT label, value FROM metrics.label_values WHERE shown"

_ENDED: Final = {"COMPLETED", "FAILED", "CANCELLED"}
_IN_FLIGHT: Final = {"ASSIGNED", "ACTIVE"}
_LIVE_CHAIN: Final = {"PENDING", "RUNNING"}

Shown = Callable[[str, str], str]
"""As what a value of a label is counted: as itself, or as ``other``."""
Addition = tuple[str, str, str, int, int, int]
"""Family, label_1, label_2, bucket, n, sum_us."""


async def shown_labels(reader: Reader) -> Shown:
    """Read which values of the open labels have series of their own."""
    closed = {label for (label,) in await reader.fetch(_GUARDS)}
    shown = set(await reader.fetch(_SHOWN)) if closed else set()

    def show(label: str, value: str) -> str:
        is_shown = label not in closed or value == "" or (label, value) in shown
        return value if is_shown else "other"

    return show


class _TaskFacts(NamedTuple):
    """Facts of tasks that are alike; ``ran`` and ``waited`` are buckets, None without a time."""

    before: str
    after: str
    task_type: str
    client: str
    agent: str
    reason: str
    retry: int
    priority_before: int
    priority_after: int
    blocked_change: int
    ran: int | None
    waited: int | None
    n: int
    ran_us: int
    waited_us: int


def _tasks(facts: _TaskFacts, shown: Shown) -> Iterator[Addition]:
    kind = shown("task_type", facts.task_type)
    agent, n = shown("agent_id", facts.agent), facts.n
    if facts.before != facts.after:
        yield from _task_moves(facts, kind, agent, shown)
    if facts.retry > 0:
        yield "ains_task_retries_total", kind, str(facts.retry), 0, n, 0
    if facts.before == facts.after and facts.before in _IN_FLIGHT:
        yield "ains_task_timeouts_total", kind, "", 0, n, 0
    if facts.ran is not None:
        yield "ains_task_duration_seconds", kind, facts.after, facts.ran, n, facts.ran_us
    if facts.waited is not None:
        yield "ains_task_queue_seconds", kind, "", facts.waited, n, facts.waited_us
    if facts.after == "PENDING":
        yield "ains_tasks_in_queue", str(facts.priority_after), "", 0, n, 0
    if facts.before == "PENDING":
        yield "ains_tasks_in_queue", str(facts.priority_before), "", 0, -n, 0
    yield "ains_tasks_blocked", "", "", 0, n * facts.blocked_change, 0


def _task_moves(facts: _TaskFacts, kind: str, agent: str, shown: Shown) -> Iterator[Addition]:
    n = facts.n
    if facts.before == "":
        yield "ains_tasks_created_total", kind, shown("client_id", facts.client), 0, n, 0
    if facts.after == "COMPLETED":
        yield "ains_tasks_completed_total", kind, agent, 0, n, 0
    if facts.after == "FAILED":
        yield "ains_tasks_failed_total", kind, shown("failure_reason", facts.reason), 0, n, 0
        if agent:
            yield "ains_agent_tasks_failed_total", agent, "", 0, n, 0
    if facts.after == "CANCELLED":
        yield "ains_tasks_cancelled_total", kind, "", 0, n, 0
    if facts.before in _ENDED and facts.after == "PENDING":
        yield "ains_tasks_reopened_total", kind, "", 0, n, 0
    if facts.after in _IN_FLIGHT:
        yield "ains_tasks_in_flight", facts.after, "", 0, n, 0
    if facts.before in _IN_FLIGHT:
        yield "ains_tasks_in_flight", facts.before, "", 0, -n, 0


class _ChainFacts(NamedTuple):
    """Facts of chains or steps that are alike."""

    subject: str
    before: str
    after: str
    ran: int | None
    n: int
    ran_us: int


def _chains(facts: _ChainFacts, _: Shown) -> Iterator[Addition]:
    n = facts.n
    if facts.subject == "step":
        yield "ains_chain_steps_total", facts.after, "", 0, n, 0
        return
    yield "ains_chains_total", facts.after, "", 0, n, 0
    change = (facts.after in _LIVE_CHAIN) - (facts.before in _LIVE_CHAIN)
    yield "ains_chains_active", "", "", 0, n * change, 0
    if facts.ran is not None:
        yield "ains_chain_duration_seconds", facts.after, "", facts.ran, n, facts.ran_us


class _WebhookFacts(NamedTuple):
    """Facts of deliveries that are alike."""

    event: str
    event_type: str
    outcome: str
    pending_change: int
    ran: int | None
    n: int
    ran_us: int


def _webhooks(facts: _WebhookFacts, _: Shown) -> Iterator[Addition]:
    n, kind = facts.n, facts.event_type
    if facts.event == "ended":
        yield "ains_webhook_deliveries_total", kind, facts.outcome, 0, n, 0
    if facts.event == "attempted":
        yield "ains_webhook_attempts_total", kind, facts.outcome, 0, n, 0
        if facts.ran is not None:
            yield "ains_webhook_delivery_duration_seconds", kind, "", facts.ran, n, facts.ran_us
    yield "ains_webhook_deliveries_pending", "", "", 0, n * facts.pending_change, 0


class _Ledger(NamedTuple):
    query: str
    times: tuple[str, ...]
    """The histograms whose buckets the query asks for."""
    additions: Callable[[Row, Shown], Iterator[Addition]]


_LEDGERS: Final[Mapping[str, _Ledger]] = {
    "task": _Ledger(
        _TASKS,
        ("ains_task_duration_seconds", "ains_task_queue_seconds"),
        lambda row, shown: _tasks(_TaskFacts._make(row), shown),
    ),
    "chain": _Ledger(
        _CHAINS,
        ("ains_chain_duration_seconds",),
        lambda row, shown: _chains(_ChainFacts._make(row), shown),
    ),
    "webhook": _Ledger(
        _WEBHOOKS,
        ("ains_webhook_delivery_duration_seconds",),
        lambda row, shown: _webhooks(_WebhookFacts._make(row), shown),
    ),
}


def _thresholds(family: Family) -> list[int]:
    """From which microsecond on a value is in the next bucket; ``le`` includes its bound."""
    return [round(bound * 1_000_000) + 1 for bound in family.bounds]


async def count(
    reader: Reader,
    ledger: str,
    part: str,
    families: Mapping[str, Family],
    shown: Shown,
    sums: dict[Key, Sum],
) -> int:
    """Add what the facts of one part (``open``, ``closed``) of a ledger add; returns how many."""
    definition = _LEDGERS[ledger]
    query = definition.query.format(table=f"public.{ledger}_events_{part}")
    thresholds = [_thresholds(families[name]) for name in definition.times]
    number_at = -1 - len(definition.times)
    facts = 0
    async for portion in reader.portions(query, *thresholds):
        for row in portion:
            facts += row[number_at]
            for family, label_1, label_2, bucket, n, sum_us in definition.additions(row, shown):
                add(sums, (family, label_1, label_2, bucket), n, sum_us)
    return facts
