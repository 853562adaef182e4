"""Looks at scrape after scrape, of one place: does anything go down, do the sums agree?"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from collectors.scrape import Scraper
from tests.support.databases import eventually
from tests.support.scraped import Values, broken_invariants, values, went_down

# What the database counts: the rest begins anew with each process.
_COUNTED = ("ains_task", "ains_agent", "ains_chain", "ains_webhook")

Scrape = Callable[[], Awaitable[Values | None]]
"""The samples of one scrape, None when nobody answers or the database is away."""


class Judge:
    """Remembers the last scrape and all complaints."""

    def __init__(self, place: str, scrape: Scrape) -> None:
        self.place = place
        self.scrapes: Counter[str] = Counter()
        """By the phase in which they began."""
        self.complaints: list[str] = []
        self.last: Values = {}
        self.phase = "the beginning"
        """What happened last."""
        self._scrape = scrape

    async def watch(self, pause: float) -> None:
        """Scrape and judge for ever."""
        while True:
            await self.look()
            await asyncio.sleep(pause)

    async def look(self) -> None:
        """Scrape and judge."""
        phase = self.phase
        found = await self._scrape()
        if found is None:
            return
        found = {key: value for key, value in found.items() if key[0].startswith(_COUNTED)}
        self.scrapes[phase] += 1
        for complaint in (*went_down(self.last, found), *broken_invariants(found)):
            number = self.scrapes.total()
            self.complaints.append(f"{self.place}, scrape {number}, after {phase}: {complaint}")
        self.last = found

    async def has_seen(self, phase: str) -> None:
        """Wait for a scrape that began in this phase, or a complaint."""

        async def seen() -> object:
            return self.scrapes[phase] or self.complaints

        await eventually(seen, 60)


def over_http(http: aiohttp.ClientSession, url: str) -> Scrape:
    """As Prometheus does it."""

    async def scrape() -> Values | None:
        try:
            async with http.get(url) as response:
                assert response.status == 200
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError):
            return None
        found = await asyncio.to_thread(lambda: values(text_string_to_metric_families(text)))
        failed = [
            key for key in found if key[0] == "ains_scrape_collector_success" and not found[key]
        ]
        return found if found["ains_up", ()] and not failed else None

    return scrape


def of(scraper: Scraper) -> Scrape:
    """In this process, for instance of a standby."""

    async def scrape() -> Values | None:
        snapshot = await scraper.scrape()
        if not snapshot.up or any(outcome.error for outcome in snapshot.outcomes):
            return None
        return values(snapshot.metrics(created=False))

    return scrape
