"""The families of agents from one scrape to the next."""

import asyncpg

from collectors.scrape import Scraper
from tests.support.rows import add_agent
from tests.support.scraped import scrape

Trust = dict[tuple[str, str], float]


async def trust(scraper: Scraper) -> Trust:
    """Trust by agent_id and display_name."""
    return {
        (dict(labels)["agent_id"], dict(labels)["display_name"]): value
        for (name, labels), value in (await scrape(scraper)).items()
        if name == "ains_agent_trust_score"
    }


async def test_trust_follows_every_change(db: asyncpg.Connection, scraper: Scraper) -> None:
    for agent in "abc":
        await add_agent(db, agent)
    before = await trust(scraper)
    assert set(before) == {("a", "a"), ("b", "b"), ("c", "c")}
    assert await trust(scraper) == before

    await db.execute("UPDATE agents SET display_name = 'A' WHERE agent_id = 'a'")
    await db.execute("UPDATE agents SET trust_score = 0.125 WHERE agent_id = 'b'")
    await db.execute("DELETE FROM agents WHERE agent_id = 'c'")
    after = await trust(scraper)
    assert after == {("a", "A"): before["a", "a"], ("b", "b"): 0.125}

    await db.execute("DELETE FROM agents WHERE agent_id = 'b'")
    await add_agent(db, "c")
    assert set(await trust(scraper)) == {("a", "A"), ("c", "c")}
