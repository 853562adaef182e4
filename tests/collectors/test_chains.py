"""The families of chains, in scrapes."""

import asyncpg

from collectors.scrape import Scraper
from tests.support.scraped import assert_invariants, scrape, total

_SUBMIT = """
SELECT submit_chain(gen_random_uuid(), 'n', 'c',
                    '[{"task_type": "t", "capability_required": "x"},
                      {"task_type": "t", "capability_required": "x"}]')
"""


async def test_every_status_is_present_without_a_chain(scraper: Scraper) -> None:
    found = await scrape(scraper)
    for status in ("PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"):
        assert found["ains_chains_total", (("status", status),)] == 0
    for status in ("RUNNING", "COMPLETED", "FAILED", "CANCELLED"):
        assert found["ains_chain_steps_total", (("step_status", status),)] == 0
    for status in ("COMPLETED", "FAILED", "CANCELLED"):
        labels = (("chain_status", status),)
        assert found["ains_chain_duration_seconds_count", labels] == 0
        assert found["ains_chain_duration_seconds_sum", labels] == 0
        buckets = [
            key for key in found
            if key[0] == "ains_chain_duration_seconds_bucket" and labels[0] in key[1]
        ]  # fmt: skip
        assert len(buckets) == 9
    assert found["ains_chains_active", ()] == 0


async def test_chains_are_counted_on_their_way(scraper: Scraper, db: asyncpg.Connection) -> None:
    for folded in (False, True):
        for _ in range(2):
            await db.execute(_SUBMIT)
        await db.execute("UPDATE tasks SET status = 'ACTIVE', assigned_agent_id = 'a'")
        found = await scrape(scraper)
        assert_invariants(found)
        assert found["ains_chains_active", ()] == 2
        await db.execute("UPDATE tasks SET status = 'COMPLETED' WHERE status = 'ACTIVE'")
        await db.execute(
            "UPDATE tasks SET status = 'FAILED' WHERE task_id IN"
            " (SELECT task_id FROM tasks WHERE status = 'PENDING' LIMIT 1)"
        )
        await db.execute("UPDATE tasks SET status = 'COMPLETED' WHERE status = 'PENDING'")
        found = await scrape(scraper)
        assert_invariants(found)
        n = 1 + folded
        assert found["ains_chains_active", ()] == 0
        assert total(found, "ains_chains_total", status="PENDING") == 2 * n
        assert total(found, "ains_chains_total", status="RUNNING") == 2 * n
        assert total(found, "ains_chains_total", status="COMPLETED") == n
        assert total(found, "ains_chains_total", status="FAILED") == n
        assert total(found, "ains_chain_steps_total", step_status="COMPLETED") == 3 * n
        assert total(found, "ains_chain_duration_seconds_count") == 2 * n
        await db.execute("TRUNCATE tasks CASCADE")
        await db.execute("SELECT metrics.fold()")
