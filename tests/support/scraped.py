"""A scrape as numbers, and what has to hold in every one."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import Metric

from collectors.scrape import Scraper, Snapshot

Values = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]
"""Values by sample name and sorted labels."""

_COUNTED = ("_total", "_count", "_sum", "_bucket")
_GAUGES = ("ains_agents_total",)
_PASSING = ("ains_scrape_", "ains_task_oldest_pending_", "ains_agents_active")


def values(metrics: Iterable[Metric]) -> Values:
    """All samples of these families."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for metric in metrics
        for sample in metric.samples
    }


async def scrape(scraper: Scraper) -> Values:
    """The samples of one scrape, which must have reached the database."""
    snapshot: Snapshot = await scraper.scrape()
    assert snapshot.up
    return values(snapshot.metrics(created=False))


def lasting(found: Values) -> Values:
    """What neither the scrape itself changes nor, with nobody writing, time: retries fall due."""
    return {key: value for key, value in found.items() if not key[0].startswith(_PASSING)}


def total(found: Values, name: str, **labels: str) -> float:
    """The sum of a sample's values over all series that carry ``labels``."""
    return sum(
        value
        for (sample, its), value in found.items()
        if sample == name and labels.items() <= dict(its).items()
    )


def assert_monotone(before: Values, after: Values) -> None:
    """No counter goes down and none disappears."""
    assert not (down := list(went_down(before, after))), down


def assert_invariants(found: Values) -> None:
    """The invariants of the metric contract."""
    assert not (broken := list(broken_invariants(found))), broken


def went_down(before: Values, after: Values) -> Iterator[str]:
    """Yield the counters that are lower than before, or missing."""
    for key, value in before.items():
        name = key[0]
        if name.endswith(_COUNTED) and name not in _GAUGES and after.get(key, -1) < value:
            yield f"{name}{dict(key[1])} went down from {value} to {after.get(key)}"


def broken_invariants(found: Values) -> Iterator[str]:
    """Yield the invariants of the metric contract that don't hold."""

    def by(name: str, label: str, **labels: str) -> Counter[str]:
        sums: Counter[str] = Counter()
        for its, value in samples[name]:
            if labels.items() <= its.items():
                sums[its[label]] += int(value)
        return sums

    samples: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
    for (name, its), value in found.items():
        samples[name].append((dict(its), value))
    all_of = {name: sum(value for _, value in its) for name, its in samples.items()}
    entered = [all_of.get(f"ains_tasks_{name}_total", 0) for name in ("created", "reopened")]
    left = [
        all_of.get(f"ains_tasks_{name}", 0)
        for name in ("completed_total", "failed_total", "cancelled_total", "in_queue", "in_flight")
    ]
    chains = by("ains_chains_total", "status")
    ended = chains["COMPLETED"] + chains["FAILED"] + chains["CANCELLED"]
    duration = "ains_task_duration_seconds_count"
    completed, of_agent = "ains_tasks_completed_total", "ains_agent_tasks_completed_total"
    for text, one, other in (
        ("tasks that came, that left or are here", sum(entered), sum(left)),
        (
            "durations of completed tasks, completed",
            by(duration, "task_type", status="COMPLETED"),
            by(completed, "task_type"),
        ),
        (
            "tasks completed by the agent, of the agent",
            by(of_agent, "agent_id"),
            _without(by(completed, "agent_id"), ""),
        ),
        ("chains, ended or active", chains["PENDING"], ended + all_of.get("ains_chains_active", 0)),
        (
            "successful attempts, deliveries",
            by("ains_webhook_attempts_total", "outcome")["success"],
            by("ains_webhook_deliveries_total", "status")["success"],
        ),
    ):
        if one != other:  # to a Counter, what is not there is zero
            yield f"{text}: {one} and {other}"


def _without(sums: Counter[str], value: str) -> Counter[str]:
    del sums[value]
    return sums
