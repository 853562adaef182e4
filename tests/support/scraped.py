"""A scrape as numbers, and what has to hold in every one."""

from collections.abc import Iterable, Mapping

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
    for key, value in before.items():
        name = key[0]
        if name.endswith(_COUNTED) and name not in _GAUGES:
            assert after.get(key, -1) >= value, key


def assert_invariants(found: Values) -> None:
    """The invariants of the metric contract."""
    entered = total(found, "ains_tasks_created_total") + total(found, "ains_tasks_reopened_total")
    left = sum(
        total(found, f"ains_tasks_{name}")
        for name in ("completed_total", "failed_total", "cancelled_total", "in_queue", "in_flight")
    )
    assert entered == left
    types = {dict(its).get("task_type", "") for _, its in found}
    for kind in types:
        observed = total(
            found, "ains_task_duration_seconds_count", task_type=kind, status="COMPLETED"
        )
        assert observed == total(found, "ains_tasks_completed_total", task_type=kind)
    agents = {dict(its).get("agent_id", "") for _, its in found} - {""}
    for agent in agents:
        by_agent = total(found, "ains_agent_tasks_completed_total", agent_id=agent)
        assert by_agent == total(found, "ains_tasks_completed_total", agent_id=agent)
    chains = [
        total(found, "ains_chains_total", status=status)
        for status in ("PENDING", "COMPLETED", "FAILED", "CANCELLED")
    ]
    assert chains[0] == sum(chains[1:]) + total(found, "ains_chains_active")
    sent = total(found, "ains_webhook_attempts_total", outcome="success")
    assert sent == total(found, "ains_webhook_deliveries_total", status="success")
