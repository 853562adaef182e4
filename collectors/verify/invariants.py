"""How the families of one scrape agree with each other, as the metric contract has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from collectors.verify.report import Difference

if TYPE_CHECKING:
    from collectors.verify.shown import Shown

__all__ = ["invariants"]


def invariants(shown: Shown) -> Iterator[Difference]:
    """Yield the invariants that don't hold."""
    yield from _tasks(shown)
    ends = ("COMPLETED", "FAILED", "CANCELLED")
    chains = _by(shown, "ains_chains_total", 0)
    yield from _same(
        "chains PENDING = chains COMPLETED, FAILED and CANCELLED + chains active",
        chains["PENDING"],
        sum(chains[end] for end in ends) + _total(shown, "ains_chains_active"),
    )
    yield from _same(
        "webhook attempts with outcome success = webhook deliveries with status success",
        _by(shown, "ains_webhook_attempts_total", 1)["success"],
        _by(shown, "ains_webhook_deliveries_total", 1)["success"],
    )


def _tasks(shown: Shown) -> Iterator[Difference]:
    yield from _same(
        "tasks created + reopened = tasks completed + failed + cancelled + in queue + in flight",
        _total(shown, "ains_tasks_created_total") + _total(shown, "ains_tasks_reopened_total"),
        _total(shown, "ains_tasks_completed_total")
        + _total(shown, "ains_tasks_failed_total")
        + _total(shown, "ains_tasks_cancelled_total")
        + _total(shown, "ains_tasks_in_queue")
        + _total(shown, "ains_tasks_in_flight"),
    )
    observed: Counter[str] = Counter()
    for (task_type, status), value in shown.get("ains_task_duration_seconds", {}).items():
        if status == "COMPLETED":
            observed[task_type] += int(sum(value.counts))
    yield from _each("durations of completed tasks = tasks completed, of", observed, 0, shown)
    by_agent = _by(shown, "ains_agent_tasks_completed_total", 0)
    yield from _each("tasks completed by the agent = tasks completed, of", by_agent, 1, shown)


def _each(text: str, found: Counter[str], label: int, shown: Shown) -> Iterator[Difference]:
    completed = _by(shown, "ains_tasks_completed_total", label)
    for value in sorted({*completed, *found} - {""}):
        yield from _same(f"{text} {value!r}", found[value], completed[value])


def _same(text: str, left: float, right: float) -> Iterator[Difference]:
    if left != right:
        yield Difference("invariant", text, {}, "", f"{left}", f"{right}")


def _by(shown: Shown, family: str, label: int) -> Counter[str]:
    """The values of a family, summed by one of its labels."""
    sums: Counter[str] = Counter()
    for labels, value in shown.get(family, {}).items():
        sums[labels[label]] += int(value.counts[0])
    return sums


def _total(shown: Shown, family: str) -> float:
    return sum(value.counts[0] for value in shown.get(family, {}).values())
