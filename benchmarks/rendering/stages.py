"""The processor time of each stage of a scrape, in a process that does nothing else.

``python -m benchmarks.rendering.stages URL ROUNDS`` prints one JSON object: milliseconds of each
round by case and stage, the samples and bytes of each case, and what memory grew by.
"""

import json
import sys
from collections.abc import Callable, Iterable
from statistics import median
from time import process_time
from typing import TypedDict

import psutil
import uvloop
from prometheus_client import Metric
from prometheus_client.exposition import generate_latest as generate_text
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from ains.metrics import database_scraper
from ains.settings import Settings
from benchmarks.rendering.past import FACTS, add_facts
from benchmarks.support.database import fold
from collectors.exposition import all_metrics, compressed, exposition
from collectors.negotiation import OPENMETRICS, TEXT, Format
from collectors.rowmetric import RowMetric
from collectors.scrape import Scraper

__all__ = ["FORMATS", "Case", "Report"]

FORMATS = {"text": TEXT, "OpenMetrics": OPENMETRICS}


class Case(TypedDict):
    """One format: median milliseconds by stage, and how large the answer is."""

    milliseconds: dict[str, float]
    samples: int
    size: int


class Report(TypedDict):
    """All cases by name, and by how many bytes the first scrapes made the process grow."""

    cases: dict[str, Case]
    memory: int


class _Plain(Collector):
    """The families as prometheus_client would have them from anybody."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> list[Metric]:
        plain = []
        for metric in self._metrics:
            copy = Metric(metric.name, metric.documentation, metric.type)
            copy.samples = metric.samples
            plain.append(copy)
        return plain


class _Watch:
    """Processor time since it was last looked at."""

    def __init__(self) -> None:
        self._last = process_time()

    def lap(self) -> float:
        now = process_time()
        passed, self._last = now - self._last, now
        return 1000 * passed


async def _ours(scraper: Scraper, chosen: Format) -> tuple[dict[str, float], bytes]:
    watch = _Watch()
    snapshot = await scraper.scrape()
    if not snapshot.up:
        raise SystemExit(f"no scrape: {snapshot.outcomes}")
    stages = {"read": watch.lap()}
    body = b"".join(await exposition(all_metrics(scraper, snapshot, chosen), chosen))
    stages["build and render"] = watch.lap()
    for metric in all_metrics(scraper, snapshot, chosen):
        if isinstance(metric, RowMetric):
            for _ in metric.portions:
                pass
    stages["build"] = watch.lap()
    await compressed([body])
    stages["gzip"] = watch.lap()
    return stages, body


async def _theirs(scraper: Scraper, chosen: Format) -> tuple[dict[str, float], bytes]:
    snapshot = await scraper.scrape()
    metrics = all_metrics(scraper, snapshot, chosen)
    generate: Callable[[Collector], bytes] = generate_text
    if chosen.openmetrics:
        generate = generate_openmetrics
    watch = _Watch()
    plain = _Plain(metrics)
    for metric in plain.collect():
        assert metric.samples is not None
    build = watch.lap()
    body = generate(plain)
    render = watch.lap()
    return {"build": build, "build and render": build + render}, body


async def measure(url: str, rounds: int) -> Report:
    """Measure all formats in turn, round after round; then with tasks added, and folded."""
    settings = Settings()
    process = psutil.Process()
    before = process.memory_info().rss
    scraper = database_scraper(settings, url)
    for chosen in FORMATS.values():
        await _ours(scraper, chosen)
    memory = process.memory_info().rss - before
    found: dict[str, list[dict[str, float]]] = {}
    bodies: dict[str, bytes] = {}
    for number in range(rounds):
        for name, chosen in FORMATS.items():
            stages, bodies[name] = await _ours(scraper, chosen)
            found.setdefault(name, []).append(stages)
            if number % 3 == 0:  # they take long
                first, theirs = f"{name}, the first", f"{name}, prometheus_client"
                fresh = database_scraper(settings, url)
                stages, bodies[first] = await _ours(fresh, chosen)
                await fresh.close()
                found.setdefault(first, []).append(stages)
                stages, bodies[theirs] = await _theirs(scraper, chosen)
                found.setdefault(theirs, []).append(stages)
    await add_facts(url)
    for chosen in FORMATS.values():
        await _ours(scraper, chosen)
    for _ in range(rounds):
        for name, chosen in FORMATS.items():
            opened = f"{name}, {FACTS:,} tasks open"
            stages, bodies[opened] = await _ours(scraper, chosen)
            found.setdefault(opened, []).append(stages)
    for _ in range(rounds):
        for name, chosen in FORMATS.items():
            await add_facts(url)
            await fold(url)
            since = f"{name}, {FACTS:,} tasks later"
            stages, bodies[since] = await _ours(scraper, chosen)
            found.setdefault(since, []).append(stages)
    await scraper.close()
    cases = {
        name: Case(
            milliseconds={stage: median(r[stage] for r in laps) for stage in laps[0]},
            samples=sum(not line.startswith(b"#") for line in bodies[name].splitlines()),
            size=len(bodies[name]),
        )
        for name, laps in found.items()
    }
    return Report(cases=cases, memory=memory)


if __name__ == "__main__":
    print(json.dumps(uvloop.run(measure(sys.argv[1], int(sys.argv[2])))))
