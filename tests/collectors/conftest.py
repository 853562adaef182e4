"""A scraper on the test's database, with the rights that one is given."""

from collections.abc import AsyncIterator

import pytest

from collectors.agents import AgentCollector
from collectors.chains import ChainCollector
from collectors.connection import pool_maker
from collectors.queue import QueueCollector
from collectors.scrape import Scraper
from collectors.tasks import TaskCollector
from collectors.webhooks import WebhookCollector


@pytest.fixture
async def scraper(scraper_url: str) -> AsyncIterator[Scraper]:
    scraper = Scraper(
        pool_maker(scraper_url),
        [
            TaskCollector(),
            AgentCollector(),
            ChainCollector(),
            WebhookCollector(),
            QueueCollector(),
        ],
    )
    yield scraper
    await scraper.close()
