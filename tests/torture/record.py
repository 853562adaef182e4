"""What the counters have to be by the torture's own records, which no fold or pruning touches."""

from collections import Counter
from collections.abc import Iterable, Iterator

import asyncpg

from tests.support.scraped import Values, total
from tests.torture.actions import REASONS, TYPES

_ENDED = ("COMPLETED", "FAILED", "CANCELLED")
_Key = tuple[str, tuple[tuple[str, str], ...]]

_MOVES = """
SELECT task_type, client_id, agent_id, reason, retry, from_status, to_status, sum(n)::bigint
  FROM torture.moves GROUP BY 1, 2, 3, 4, 5, 6, 7
"""
_FACTS = "SELECT ledger || ' ' || fact, sum(n)::bigint FROM torture.facts GROUP BY 1"
_KEPT = """
SELECT 'task ' || event, count(*) FROM task_events GROUP BY 1
 UNION ALL
SELECT 'chain ' || subject || ' ' || to_status, count(*) FROM chain_events GROUP BY 1
 UNION ALL
SELECT 'webhook ' || event, count(*) FROM webhook_events GROUP BY 1
"""
_COUNTERS = {
    "task created": ("ains_tasks_created_total", {}),
    "task completed": ("ains_tasks_completed_total", {}),
    "task failed": ("ains_tasks_failed_total", {}),
    "task cancelled": ("ains_tasks_cancelled_total", {}),
    "task reopened": ("ains_tasks_reopened_total", {}),
    "webhook attempted": ("ains_webhook_attempts_total", {}),
    **{
        f"chain {subject} {status}": (f"ains_{family}_total", {label: status})
        for subject, family, label in (
            ("chain", "chains", "status"),
            ("step", "chain_steps", "step_status"),
        )
        for status in ("RUNNING", *_ENDED)
    },
}


async def disagreements(db: asyncpg.Connection, shown: Values) -> list[str]:
    """Where a scrape, of now, is not what the records say."""
    found = [*_compared(_expected(await db.fetch(_MOVES)), shown)]
    written: Counter[str] = Counter(dict(map(tuple, await db.fetch(_FACTS))))
    kept: Counter[str] = Counter(dict(map(tuple, await db.fetch(_KEPT))))
    found += [f"more facts {fact} than were written: {n}" for fact, n in (kept - written).items()]
    for fact, (family, labels) in _COUNTERS.items():
        if (counted := total(shown, family, **labels)) != written[fact]:
            found.append(f"{family}{labels}: {written[fact]} facts {fact}, {counted} shown")
    return found


def _expected(moves: Iterable[asyncpg.Record]) -> Counter[_Key]:
    """What the metric contract makes of the writers' moves."""
    sums: Counter[_Key] = Counter()
    for kind, *rest, n in moves:
        if kind in TYPES:
            for name, labels in _counted(*rest):
                sums[name, tuple(sorted({"task_type": kind, **labels}.items()))] += n
    return sums


def _counted(
    client: str, agent: str, reason: str, retry: int, before: str, after: str
) -> Iterator[tuple[str, dict[str, str]]]:
    """The series, but for their task_type, that count a task which moved like this."""
    if before == "":
        yield "ains_tasks_created_total", {"client_id": client}
    if before in _ENDED and before != after:
        yield "ains_tasks_reopened_total", {}
    if retry and after == "PENDING":
        yield "ains_task_retries_total", {"retry_count": str(retry)}
    if after == "COMPLETED" != before:
        yield "ains_tasks_completed_total", {"agent_id": agent}
        yield "ains_task_duration_seconds_count", {"status": after}
    if after == "FAILED" != before:
        yield "ains_tasks_failed_total", {"failure_reason": reason}
    if after == "CANCELLED" != before:
        yield "ains_tasks_cancelled_total", {}


def _compared(expected: Counter[_Key], shown: Values) -> Iterator[str]:
    families = {name for name, _ in expected}
    ours = {
        key: value
        for key, value in shown.items()
        if key[0] in families
        and (labels := dict(key[1])).get("task_type") in TYPES
        and labels.get("failure_reason", REASONS[0]) in REASONS
        and labels.get("status", "COMPLETED") == "COMPLETED"
    }
    for key in sorted({*expected, *ours}):
        if expected[key] != ours.get(key, 0):
            yield f"{key[0]}{dict(key[1])}: {expected[key]} done, {ours.get(key, 0)} shown"
